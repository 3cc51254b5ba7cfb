//! Property lists, XML and binary, and configuration profiles.
#![no_main]

use policy_schema::export::DOMAIN;
use policy_schema::read::property_list;
use policy_schema_fuzz::survive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    survive(property_list::read(bytes));
    survive(property_list::read_profile(bytes, DOMAIN));
});
