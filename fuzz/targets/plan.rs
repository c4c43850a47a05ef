//! Reads arbitrary bytes as a serialised plan.
#![no_main]

#[path = "../../crates/dram-plan/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|text: &[u8]| checks::plan(text));
