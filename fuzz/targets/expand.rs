//! Any word expands to something bounded, or is refused.
#![no_main]

#[path = "../../crates/dram-dockerfile/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::expansion(input));
