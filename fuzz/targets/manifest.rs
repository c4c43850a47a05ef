//! Parses arbitrary bytes as an image manifest.
#![no_main]

#[path = "../../crates/dram-image/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::manifest(input));
