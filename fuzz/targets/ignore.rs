//! Any ignore list is read and asked; what it prunes it also excludes.
#![no_main]

use dram_dockerfile::ignore::Ignore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str)| {
    if let Ok(list) = Ignore::parse(input.0) {
        let excluded = list.excludes(input.1);
        if list.may_prune(input.1) {
            assert!(excluded || list.is_empty() || input.1.is_empty());
        }
    }
});
