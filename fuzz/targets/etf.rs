//! Decodes arbitrary bytes as a term in the external term format. The encoding of a decoded term must survive a round
//! trip.
#![no_main]

use dram_release::etf::{AtomEncoding, decode, encode};
use dram_release::print::{pretty, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut term) = decode(bytes) else { return };
    for form in [AtomEncoding::Latin1, AtomEncoding::Utf8] {
        let written = encode(&term, form);
        let again = decode(&written).expect("what was written is read");
        assert_eq!(encode(&again, form), written);
    }
    term.sort_maps();
    let _ = (pretty(&term), write(&term), term.clone());
});
