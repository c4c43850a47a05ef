//! Parses and matches arbitrary ignore files: what is pruned must also be excluded.
#![no_main]

#[path = "../../crates/dram-dockerfile/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::ignore(input));
