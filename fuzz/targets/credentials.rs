//! Any bytes are read as a file of credentials, or passed over.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dram_remote::registry::try_credentials(input));
