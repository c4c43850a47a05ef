//! Any bytes are read as a tar without a panic; what was read is written and read again the same.
#![no_main]

#[path = "../../crates/dram-image/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::tar(input));
