//! Invariants that hold for every input. The fuzz targets and the replay of their seeds share them.

// Each user includes this file and needs only a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::Cursor;

use dram_image::document::DocumentKind;
use dram_image::tar::{TarEntry, TarEntryKind, TarReader, TarWriter};
use dram_image::{ArchiveLimits, Digest, Document, ImageConfig, Index, Manifest, Reference, TreePath};

/// Reads any bytes as a tar, as they are and with corrected checksums. Every entry must round-trip through the writer.
pub fn tar(bytes: &[u8]) {
    let small: ArchiveLimits = "entries=3,depth=2,header=600".parse().unwrap();
    let mut right = bytes.to_vec();
    right.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar").for_each(set_checksum);
    for bytes in [bytes, &right] {
        check_entries(bytes, &ArchiveLimits::default());
        check_entries(bytes, &small);
    }
}

/// Corrects the checksum of a header, which a fuzzer never finds by itself.
fn set_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn check_entries(bytes: &[u8], limits: &ArchiveLimits) {
    let mut reader = TarReader::new(bytes).with_limits(limits);
    let mut count = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        count += 1;
        assert!(count <= limits.entries && entry.path.components().count() as u64 <= limits.depth);
        assert!(entry.mode <= 0o7777 && entry.uid != u32::MAX && entry.gid != u32::MAX);
        assert!(entry.path.components().all(|name| !matches!(name, b"" | b"." | b"..") && name.len() <= 255));
        assert!(entry.xattrs.is_sorted_by(|(one, _), (next, _)| one < next));
        let mut data = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(got @ 1..) = reader.read_data(&mut buffer) {
            data.extend_from_slice(&buffer[..got]);
        }
        assert!(data.len() <= bytes.len());
        check_round_trip(entry, data);
    }
}

fn check_round_trip(mut entry: TarEntry, mut data: Vec<u8>) {
    if let TarEntryKind::File { size } = &mut entry.kind {
        *size = data.len() as u64;
    } else {
        data.clear();
    }
    let mut writer = TarWriter::new(Cursor::new(Vec::new()));
    writer.append(&entry, &mut data.as_slice()).unwrap();
    let again = writer.finish().unwrap().into_inner();
    assert_eq!(TarReader::new(again.as_slice()).next_entry().unwrap().as_ref(), Some(&entry));
}

/// Reads any bytes as this kind of document. The value must round-trip.
fn check_document<T: DocumentKind + PartialEq + std::fmt::Debug + Clone>(bytes: &[u8]) -> Option<T> {
    let read = Document::<T>::read(bytes.to_vec()).ok()?;
    assert_eq!((read.bytes(), read.digest()), (bytes, Digest::of(bytes)));
    let again = Document::write(read.value().clone()).unwrap();
    Some(Document::<T>::read(again.bytes().to_vec()).unwrap().value().clone())
}

/// Reads any bytes as a manifest.
pub fn manifest(bytes: &[u8]) {
    if let Some(manifest) = check_document::<Manifest>(bytes) {
        assert_eq!(manifest.schema_version, 2);
        assert!(Document::<Index>::read(bytes.to_vec()).is_err(), "a document is one of both");
    }
}

/// Reads any bytes as an index.
pub fn index(bytes: &[u8]) {
    if let Some(index) = check_document::<Index>(bytes) {
        assert_eq!(index.schema_version, 2);
        assert!(Document::<Manifest>::read(bytes.to_vec()).is_err(), "a document is one of both");
    }
}

/// Reads any bytes as a config.
pub fn config(bytes: &[u8]) {
    if let Some(mut config) = check_document::<ImageConfig>(bytes) {
        config.config.set_env("A", "b");
        assert_eq!(config.config.env_value("A"), Some("b"));
    }
}

/// Reads any text as each of the names and limits in documents and on the command line.
pub fn reference(bytes: &[u8]) {
    let _ = TreePath::clean(bytes);
    if let Ok(path) = TreePath::parse(bytes) {
        assert_eq!(TreePath::parse(path.as_bytes()).unwrap(), path);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<ArchiveLimits>();
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(name) = text.parse::<Reference>() {
        // A stored name must be found again under each of its forms.
        let bare = |name: &Reference| (name.host().to_owned(), name.repository().to_owned(), name.tag().to_owned());
        assert_eq!(bare(&name.short().parse().unwrap()), bare(&name));
        assert_eq!(bare(&name.full_name().parse().unwrap()), bare(&name));
        assert_eq!(name.to_string().parse::<Reference>().unwrap().to_string(), name.to_string());
        assert!(!text.contains("..") || !name.full_name().contains("/../"));
    }
}
