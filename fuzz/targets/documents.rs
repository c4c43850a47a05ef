//! Any bytes are read as each document, and as the names that stand in them.
#![no_main]

use dram_image::{Digest, Document, ImageConfig, Index, Manifest, Reference, TreePath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Document::<Manifest>::read(bytes.to_vec());
    let _ = Document::<Index>::read(bytes.to_vec());
    let _ = Document::<ImageConfig>::read(bytes.to_vec());
    let _ = TreePath::clean(bytes);
    if let Ok(path) = TreePath::parse(bytes) {
        assert_eq!(TreePath::parse(path.as_bytes()).unwrap(), path);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<Digest>();
        if let Ok(name) = text.parse::<Reference>() {
            // What is stored under is found again.
            assert_eq!(name.short().parse::<Reference>().unwrap().short(), name.short());
            assert_eq!(name.full().parse::<Reference>().unwrap().full(), name.full());
        }
    }
});
