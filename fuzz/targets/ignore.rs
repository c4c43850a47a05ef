//! Any ignore list is read and asked; what it prunes it also excludes.
#![no_main]

#[path = "../../crates/dram-dockerfile/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::ignore(input));
