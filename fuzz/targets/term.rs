//! Any text is read as terms; what is read is written so that it is read again, as the same.
#![no_main]

use dram_release::consult::consult;
use dram_release::etf::{AtomForm, encode};
use dram_release::print::{pretty, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(terms) = consult(bytes) else { return };
    for mut term in terms {
        term.sort_maps();
        for text in [pretty(&term), write(&term)] {
            let again = consult(format!("{text}.").as_bytes()).expect("what was written is read");
            assert_eq!(again.len(), 1);
            // Not by `==`: zero and its negative are two terms.
            assert_eq!(encode(&again[0], AtomForm::Utf8), encode(&term, AtomForm::Utf8));
        }
    }
});
