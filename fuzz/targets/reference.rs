//! Parses arbitrary text as an image reference, a digest, and a path.
#![no_main]

#[path = "../../crates/dram-image/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::reference(input));
