//! Expands arbitrary words: the result must be bounded or an error.
#![no_main]

#[path = "../../crates/dram-dockerfile/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::expansion(input));
