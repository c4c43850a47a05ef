//! Opens arbitrary bytes as the config of a shared cache, in a cache and in an image.
#![no_main]

use std::collections::BTreeMap;
use std::io::Read;

use dram_build::shared_cache::SharedCache;
use dram_build::transfer::{ImageSource, TransferError};
use dram_image::{Descriptor, Digest, Document, ImagePlatform, Manifest, MediaType};
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct MemorySource(BTreeMap<Digest, Vec<u8>>);

impl ImageSource for MemorySource {
    fn display_name(&self) -> String {
        "memory".to_owned()
    }

    fn read_document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        Ok(self.0[&document.digest].clone())
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        Ok(Box::new(self.0[&blob.digest].as_slice()))
    }
}

const IMAGE: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":
    ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;

fn open(config: Descriptor, bytes: &[u8], annotation: Option<&str>) {
    let layers = vec![Descriptor::new(MediaType::LAYER_GZIP, Digest::of(b"layer"), 5)];
    let mut manifest = Manifest::new(config.clone(), layers);
    let annotation = annotation.map(|text| ("vnd.dram.cache.v1".to_owned(), text.to_owned()));
    manifest.annotations.extend(annotation);
    // An annotation can make the manifest larger than one may be.
    let Ok(manifest) = Document::write(manifest) else { return };
    let root = manifest.descriptor(MediaType::MANIFEST);
    let all = [(root.digest, manifest.bytes().to_vec()), (config.digest, bytes.to_vec())];
    let platform = ImagePlatform { architecture: "amd64".to_owned(), os: "linux".to_owned(), variant: None };
    let _ = SharedCache::open(Box::new(MemorySource(all.into())), &root, &platform).map(|cache| cache.step_count());
}

fuzz_target!(|data: &[u8]| {
    let of = |kind: &str, bytes: &[u8]| Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64);
    open(of("application/vnd.dram.cache.v1+json", data), data, None);
    if let Ok(text) = std::str::from_utf8(data) {
        open(of(MediaType::CONFIG, IMAGE), IMAGE, Some(text));
    }
});
