//! Parses arbitrary text as Erlang terms. A parsed term must survive a round trip through both printers.
#![no_main]

use dram_release::consult::consult;
use dram_release::etf::{AtomEncoding, encode};
use dram_release::print::{pretty, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(terms) = consult(bytes) else { return };
    for mut term in terms {
        term.sort_maps();
        for text in [pretty(&term), write(&term)] {
            let again = consult(format!("{text}.").as_bytes()).expect("what was written is read");
            assert_eq!(again.len(), 1);
            // Compared by encoding, because `==` does not distinguish zero and negative zero.
            assert_eq!(encode(&again[0], AtomEncoding::Utf8), encode(&term, AtomEncoding::Utf8));
        }
    }
});
