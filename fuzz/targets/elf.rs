//! Any bytes are read as a program without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = dram_image::elf::needs(bytes);
});
