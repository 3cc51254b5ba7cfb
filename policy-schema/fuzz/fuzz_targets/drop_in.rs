//! TOML drop-ins.
#![no_main]

use policy_schema::read::drop_in;
use policy_schema_fuzz::survive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| survive(drop_in::read(bytes)));
