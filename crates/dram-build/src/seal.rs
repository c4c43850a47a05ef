//! A snapshot becomes an image: its layers are packed where they were not, and two documents say what it is.

use dram_image::{Descriptor, Document, History, ImageConfig, Manifest, MediaType};
use dram_store::{Packed, Stamp, Store, StoreError};

use crate::packing::compress;
use crate::{Event, Layer, Snapshot, rfc3339};

/// An image that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The pointer to its manifest.
    pub manifest: Descriptor,
    /// The pointer to its configuration; its digest is what engines call the image id.
    pub config: Descriptor,
}

/// Makes an image of `snapshot` with the configuration `config`, whose history ends with one entry for each step of
/// the stages it came through. Everything that is packed now, and the
/// documents, carry the time `time`, in seconds since 1970.
///
/// # Errors
/// When the disk refuses.
pub fn seal(
    store: &Store,
    snapshot: &Snapshot,
    config: ImageConfig,
    time: i64,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Sealed, StoreError> {
    let mut packed = Vec::new();
    let of = snapshot.layers.len();
    for (ready, layer) in snapshot.layers.iter().enumerate() {
        packed.push(pack(store, layer, time, &|| tell(Event::Packing { ready, of }))?);
    }
    let config = finish(config, &packed, &snapshot.made, time);
    let config = store.blobs().put_document(&Document::write(config), MediaType::CONFIG)?;
    let layers = packed.into_iter().map(|packed| packed.blob).collect();
    let manifest = Document::write(Manifest::new(config.clone(), layers));
    let manifest = store.blobs().put_document(&manifest, MediaType::MANIFEST)?;
    Ok(Sealed { manifest, config })
}

/// The blob of a layer: where it came from, what it was packed into before, or what it is packed into now.
fn pack(store: &Store, layer: &Layer, time: i64, packing: &dyn Fn()) -> Result<Packed, StoreError> {
    if let Some(origin) = &layer.origin {
        return Ok(origin.clone());
    }
    let stamp = Stamp(time);
    if let Some(packed) = store.layers().packed(&layer.id, stamp) {
        return Ok(packed);
    }
    packing();
    let packed = compress(store, |out| store.layers().pack(&layer.id, stamp, out))?;
    store.layers().remember_packed(&layer.id, stamp, &packed)?;
    store.layers().remember_origin(&packed.diff_id, &layer.id)?;
    Ok(packed)
}

fn finish(mut config: ImageConfig, packed: &[Packed], made: &[bool], time: i64) -> ImageConfig {
    let created = rfc3339(time);
    config.rootfs.diff_ids = packed.iter().map(|packed| packed.diff_id).collect();
    config.created = Some(created.clone());
    for entry in config.history.iter_mut().filter(|entry| entry.created.is_none()) {
        entry.created = Some(created.clone());
    }
    let steps = config.history.iter_mut().rev().filter(|entry| !entry.empty_layer);
    for (entry, made) in steps.zip(made.iter().rev()) {
        entry.empty_layer = !made;
    }
    agree(&mut config.history, packed.len());
    config
}

/// Readers count the entries that are not `empty_layer` and expect as many layers. A base image's own history is
/// taken at its word as far as that goes; where it claims too many, the oldest give way, where too few, they are
/// added.
fn agree(history: &mut Vec<History>, layers: usize) {
    let count = history.iter().filter(|entry| !entry.empty_layer).count();
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer).take(count.saturating_sub(layers)) {
        entry.empty_layer = true;
    }
    for _ in count..layers {
        history.insert(0, History::default());
    }
}
