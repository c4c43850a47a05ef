//! Parses arbitrary bytes as an ELF program.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = dram_image::elf::read_requirements(bytes);
});
