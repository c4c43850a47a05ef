//! Parses and strips arbitrary bytes as a module. The result must be a module of the same identity, and stripping must
//! be idempotent.
#![no_main]

use dram_release::beam::{Beam, StripRule, decompress, strip};
use dram_release::resolve::ReleaseRules;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plain) = decompress(bytes)
        && let Ok(beam) = Beam::read(&plain)
    {
        let _ = (beam.module(), beam.exports(), beam.imports(), beam.attributes(), beam.behaviours(), beam.vsn());
        let identity = beam.md5();
        let rule = StripRule::for_rules(&ReleaseRules::mix("1.18.0"), &[], false).drop_external_resources(true);
        if let (Ok(identity), Ok(stripped)) = (identity, strip(bytes, None, &rule)) {
            // Stripping keeps the MD5 of the code.
            assert_eq!(Beam::read(&stripped).expect("it is a module").md5(), Ok(identity));
        }
    }
    let keep = ["Dbgi".to_owned(), "Abcd".to_owned()];
    for rules in [ReleaseRules::mix("1.14.0"), ReleaseRules::mix("1.18.0"), ReleaseRules::Otp] {
        for drop_paths in [false, true] {
            let rule = StripRule::for_rules(&rules, &keep, false).drop_external_resources(drop_paths);
            if let Ok(once) = strip(bytes, None, &rule) {
                assert_eq!(strip(&once, None, &rule).expect("it is a module"), once);
            }
        }
    }
});
