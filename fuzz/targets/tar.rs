//! Reads arbitrary bytes as a tar. What was read must survive a round trip.
#![no_main]

#[path = "../../crates/dram-image/tests/support/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::tar(input));
