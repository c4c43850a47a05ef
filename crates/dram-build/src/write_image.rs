//! Writes a snapshot as an image: packs the layers that are not packed yet, and writes config and manifest.

use std::collections::BTreeMap;

use dram_image::{Descriptor, Document, HistoryEntry, ImageConfig, Manifest, MediaType, rfc3339};
use dram_store::{LayerId, PackedLayer, PackedTimes, Store, StoreError};

use crate::compress_layer::{LayerCompression, compress_layer};
use crate::{BuildEvent, Layer, LayerProvider, Snapshot, SnapshotStep};

/// The options of an image that is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageOptions {
    /// The time, in seconds since 1970, of the documents and of all files of the layers that steps made. Without one, files
    /// have their own times, and documents those at which the steps were executed.
    pub time: Option<i64>,
    /// The media types of the image.
    pub format: ImageFormat,
    /// The compression of layers that are packed now.
    pub compression: LayerCompression,
    /// True if layers of the base image are compressed again in that way. Their tars stay unchanged.
    pub recompress_base: bool,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the descriptor that points to the manifest.
    pub descriptor_annotations: BTreeMap<String, String>,
}

/// The family of media types that an image uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageFormat {
    /// Those of the OCI image specification.
    #[default]
    Oci,
    /// Those of Docker's schema 2, for old registries and engines.
    Docker,
}

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The descriptor of the manifest.
    pub manifest: Descriptor,
    /// The descriptor of the config; its digest is what engines call the image ID.
    pub config: Descriptor,
}

/// Writes an image of `snapshot` with the config `config`, whose history ends with one entry for each step of its
/// stages.
///
/// # Errors
/// Returns an error if a lazy blob cannot be fetched or a file operation fails.
pub fn write_image(
    provider: &LayerProvider<'_>,
    snapshot: &Snapshot,
    config: ImageConfig,
    how: &ImageOptions,
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> Result<BuiltImage, StoreError> {
    let store = provider.store();
    let mut packed = Vec::new();
    let of = snapshot.layers.len();
    if how.recompress_base {
        provider.fetch_blobs(&snapshot.layers)?;
    }
    for (ready, layer) in snapshot.layers.iter().enumerate() {
        packed.push(pack_layer(store, layer, how, &|| tell(BuildEvent::Packing { ready, total: of }))?);
    }
    let config = Document::write(finish_config(config, &packed, &snapshot.steps, how.time))?;
    let (config_type, manifest_type) = match how.format {
        ImageFormat::Oci => (MediaType::CONFIG, MediaType::MANIFEST),
        ImageFormat::Docker => (MediaType::DOCKER_CONFIG, MediaType::DOCKER_MANIFEST),
    };
    let config = store.blobs().put_document(&config, config_type)?;
    let layers = packed.into_iter().map(|packed| in_format(packed.blob, how.format)).collect();
    let mut manifest = Manifest::new(config.clone(), layers);
    manifest.media_type = Some(manifest_type.to_owned());
    manifest.annotations = how.annotations.clone();
    let mut manifest = store.blobs().put_document(&Document::write(manifest)?, manifest_type)?;
    manifest.annotations = how.descriptor_annotations.clone();
    Ok(BuiltImage { manifest, config })
}

/// Returns the descriptor of a layer with the media type that `dialect` gives it.
pub(crate) fn in_format(mut blob: Descriptor, dialect: ImageFormat) -> Descriptor {
    blob.media_type = match dialect {
        ImageFormat::Oci => MediaType::oci_layer(&blob.media_type),
        ImageFormat::Docker => MediaType::docker_layer(&blob.media_type),
    }
    .to_owned();
    blob
}

/// Returns the blob of a layer: the one it was unpacked from, one that it was packed into before, or a new one.
pub(crate) fn pack_layer(
    store: &Store,
    layer: &Layer,
    how: &ImageOptions,
    packing: &dyn Fn(),
) -> Result<PackedLayer, StoreError> {
    let layers = store.layers();
    let kind = how.compression.short_name();
    let (id, times) = match layer {
        Layer::Local(id) | Layer::Cached { id, .. } => (id.clone(), PackedTimes::new(how.time)),
        Layer::Base { diff_id, blob }
            if !how.recompress_base || MediaType::oci_layer(&blob.media_type) == how.compression.media_type() =>
        {
            return Ok(PackedLayer { diff_id: *diff_id, blob: blob.clone() });
        }
        // Its tar is not changed, whatever the rule for times is; the records of it have this name.
        Layer::Base { diff_id, .. } => (LayerId::from_diff_id(diff_id), PackedTimes::Fixed(0)),
    };
    if let Some(packed) = layers.find_packed(&id, times, &kind) {
        return Ok(packed);
    }
    packing();
    let packed = compress_layer(store, how.compression, |out| match layer {
        Layer::Local(id) | Layer::Cached { id, .. } => layers.pack(id, times, out),
        Layer::Base { diff_id, blob } => layers.copy_uncompressed(blob, diff_id, out),
    })?;
    layers.record_packed(&id, times, &kind, &packed)?;
    match layer {
        Layer::Local(id) | Layer::Cached { id, .. } => layers.record_origin(&packed.diff_id, id)?,
        Layer::Base { .. } => {}
    }
    Ok(packed)
}

fn finish_config(
    mut config: ImageConfig,
    packed: &[PackedLayer],
    steps: &[SnapshotStep],
    time: Option<i64>,
) -> ImageConfig {
    config.rootfs.diff_ids = packed.iter().map(|packed| packed.diff_id).collect();
    let entries = config.history.iter_mut().rev().filter(|entry| !entry.empty_layer);
    for (entry, step) in entries.zip(steps.iter().rev()) {
        entry.empty_layer = !step.made_layer;
        if entry.created.is_none() {
            entry.created = time.or(step.executed).map(rfc3339);
        }
    }
    match time.map(rfc3339) {
        Some(created) => {
            for entry in config.history.iter_mut().filter(|entry| entry.created.is_none()) {
                entry.created = Some(created.clone());
            }
            config.created = Some(created);
        }
        None => {
            fill_created(&mut config.history);
            let newest = steps.iter().filter_map(|step| step.executed).max().map(rfc3339);
            let last = || config.history.iter().rev().find_map(|entry| entry.created.clone());
            config.created = newest.or_else(last);
        }
    }
    reconcile_history(&mut config.history, packed.len());
    config
}

/// Gives history entries without a time that of the entry before; the first of them, that of the first step that was
/// executed after it. BuildKit does the same.
fn fill_created(history: &mut [HistoryEntry]) {
    let first_empty = history.iter().position(|entry| entry.created.is_none()).unwrap_or(history.len());
    let (before, rest) = history.split_at(first_empty);
    let next = rest.iter().find_map(|entry| entry.created.clone());
    let mut created = next.or_else(|| before.iter().rev().find_map(|entry| entry.created.clone()));
    for entry in &mut history[first_empty..] {
        match &entry.created {
            Some(own) => created = Some(own.clone()),
            None => entry.created.clone_from(&created),
        }
    }
}

/// Makes the number of history entries that are not `empty_layer` equal to the number of layers, as readers expect. The
/// history of a base image may have too many such entries: then the oldest ones are marked empty. If it has too few,
/// entries are added at the start.
pub(crate) fn reconcile_history(history: &mut Vec<HistoryEntry>, layers: usize) {
    let count = history.iter().filter(|entry| !entry.empty_layer).count();
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer).take(count.saturating_sub(layers)) {
        entry.empty_layer = true;
    }
    for _ in count..layers {
        history.insert(0, HistoryEntry::default());
    }
}
