//! Parses arbitrary bytes as a file of credentials.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dram_remote::registry::try_credentials(input));
