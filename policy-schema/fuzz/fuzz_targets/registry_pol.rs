//! Registry.pol files.
#![no_main]

use policy_schema::read::registry_pol;
use policy_schema_fuzz::survive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| survive(registry_pol::read(bytes)));
