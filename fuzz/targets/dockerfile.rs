//! Parses, resolves and plans arbitrary text as a Dockerfile.
#![no_main]

#[path = "../../crates/dram-dockerfile/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|text: &[u8]| checks::dockerfile(text));
