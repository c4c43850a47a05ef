//! Any text is read as a name of an image, a digest, a path, or refused.
#![no_main]

#[path = "../../crates/dram-image/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::reference(input));
