//! Reads the archives of old versions of `docker save`, which are no OCI layouts: a list of images, each with a config
//! and uncompressed layers.

use std::collections::BTreeMap;

use dram_image::{Descriptor, Digest, Document, DocumentError, ImageConfig, Manifest, MediaType, TreePath};
use dram_store::{Store, StoreError};
use serde::Deserialize;

use crate::compress_layer::{LayerCompression, compress_layer};
use crate::import_tar::copy_tar;
use crate::transfer::TransferError;
use crate::transfer::layout_files::{LayoutFiles, read_small_file};

/// The file that lists the images.
pub(super) const DOCKER_MANIFEST: &str = "manifest.json";

/// An entry of the `manifest.json` that `docker save` writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerArchiveEntry {
    config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads the list of images; `None` if there is none.
pub(super) fn read_docker_manifest(files: &dyn LayoutFiles) -> Result<Option<Vec<DockerArchiveEntry>>, TransferError> {
    let Some(bytes) = read_small_file(files, DOCKER_MANIFEST)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| document_error(files, DOCKER_MANIFEST, DocumentError::Json { what: "the document", source }))
}

fn document_error(files: &dyn LayoutFiles, file: &str, source: DocumentError) -> TransferError {
    TransferError::Document { place: files.place().display().to_string(), file: file.to_owned(), source }
}

/// Imports the image into the store: its layers are compressed, its config keeps every byte. Layers that images share
/// are compressed once; `known` has the blobs of those that were compressed before.
pub(super) fn import_docker_image(
    files: &dyn LayoutFiles,
    entry: &DockerArchiveEntry,
    store: &Store,
    known: &mut BTreeMap<Digest, Descriptor>,
) -> Result<Descriptor, TransferError> {
    let listed = |why: String| {
        document_error(files, DOCKER_MANIFEST, DocumentError::Invalid { what: "the list of images", why })
    };
    let missing = |file: &str| listed(format!("it names `{}`, which is not there", file.escape_debug()));
    let config = read_small_file(files, &entry.config)?.ok_or_else(|| missing(&entry.config))?;
    let config =
        Document::<ImageConfig>::read(config).map_err(|source| document_error(files, &entry.config, source))?;
    let diff_ids = &config.value().rootfs.diff_ids;
    if diff_ids.len() != entry.layers.len() {
        let (layers, ids) = (entry.layers.len(), diff_ids.len());
        return Err(listed(format!("it has {layers} layers, and the configuration {ids}")));
    }
    let mut layers = Vec::new();
    for (layer, expected) in entry.layers.iter().zip(diff_ids) {
        let path = TreePath::parse(layer.as_bytes()).map_err(StoreError::from)?;
        let (_, file) = files.open(&path)?.ok_or_else(|| missing(layer))?;
        if let Some(blob) = known.get(expected) {
            layers.push(blob.clone());
            continue;
        }
        let what = format!("the layer {layer:?}");
        let packed = compress_layer(store, LayerCompression::default(), |out| {
            copy_tar(store, Box::new(file), &what, out).map(drop)
        })?;
        if packed.diff_id != *expected {
            let (blob, found, expected) = (packed.blob.digest, packed.diff_id, *expected);
            return Err(StoreError::WrongDiffId { blob, found, expected }.into());
        }
        known.insert(*expected, packed.blob.clone());
        layers.push(packed.blob);
    }
    let config = store.blobs().put_document(&config, MediaType::CONFIG)?;
    let manifest = Document::write(Manifest::new(config, layers)).map_err(StoreError::from)?;
    Ok(store.blobs().put_document(&manifest, MediaType::MANIFEST)?)
}
