//! Parses and strips arbitrary bytes as a module. The result must be a module of the same identity, and stripping must
//! be idempotent.
#![no_main]

use dram_release::beam::{Beam, StripRule, strip, unpacked};
use dram_release::resolve::Style;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plain) = unpacked(bytes)
        && let Ok(beam) = Beam::read(&plain)
    {
        let _ = (beam.module(), beam.exports(), beam.imports(), beam.attributes(), beam.behaviours(), beam.vsn());
        let identity = beam.md5();
        let rule = StripRule::for_style(&Style::mix("1.18.0"), &[], false).dropping_paths(true);
        if let (Ok(identity), Ok(stripped)) = (identity, strip(bytes, None, &rule)) {
            // Stripping keeps the MD5 of the code.
            assert_eq!(Beam::read(&stripped).expect("it is a module").md5(), Ok(identity));
        }
    }
    let keep = ["Dbgi".to_owned(), "Abcd".to_owned()];
    for style in [Style::mix("1.14.0"), Style::mix("1.18.0"), Style::Plain] {
        for drop_paths in [false, true] {
            let rule = StripRule::for_style(&style, &keep, false).dropping_paths(drop_paths);
            if let Ok(once) = strip(bytes, None, &rule) {
                assert_eq!(strip(&once, None, &rule).expect("it is a module"), once);
            }
        }
    }
});
