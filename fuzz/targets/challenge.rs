//! Parses arbitrary text as an authentication challenge and as a `Link` header.
#![no_main]

use dram_remote::registry::{try_challenge, try_link};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        try_challenge(text);
        try_link(text);
    }
});
