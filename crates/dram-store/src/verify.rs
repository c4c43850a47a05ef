//! Verifies an unpacked layer against its blob. The blob is unpacked a second time by the same code and both
//! directories are compared, as no digest of the unpacked content is stored anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use dram_image::{Descriptor, Digest, ImageConfig, Manifest, MediaType};

use crate::parent_deps::{self, InheritedEntry};
use crate::size_cache::disk_usage;
use crate::tree_diff::first_difference;
use crate::unpack::ParentDeps;
use crate::{Dir, LayerId, Layers, Store, StoreError, atomic_file, error_chain};

/// The size limit of a manifest.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The result of comparing a layer with its blob.
#[derive(Debug)]
pub(crate) enum LayerComparison {
    /// The layer is what its blob contains; the facts about its tar are verified, too.
    Same(ComparedTar),
    /// The layer differs; the text says where and how.
    Changed(String),
    /// The layer could not be compared; the text says why.
    Unknown(String),
}

/// Facts about a layer's tar, found by unpacking it.
#[derive(Debug)]
pub(crate) struct ComparedTar {
    /// Its size in bytes.
    pub(crate) tar_length: u64,
    /// Its dependencies on parent layers.
    pub(crate) parent_deps: ParentDeps,
}

/// The blobs and images from which a store's layers were unpacked, according to its documents and records. They are not
/// trusted: each blob is verified when it is used.
#[derive(Debug)]
pub(crate) struct LayerOrigins {
    /// The diff IDs of each image, lowest first.
    image_diff_ids: Vec<Vec<Digest>>,
    /// The blobs that are said to contain each diff ID.
    blobs_by_diff_id: BTreeMap<Digest, BTreeMap<Digest, Descriptor>>,
}

impl LayerOrigins {
    /// Reads all images of the store, tagged or not, and the records of verified blobs.
    pub(crate) fn scan_store(store: &Store) -> LayerOrigins {
        let mut origins = LayerOrigins { image_diff_ids: Vec::new(), blobs_by_diff_id: BTreeMap::new() };
        let sizes: BTreeMap<Digest, u64> = store.blobs().list().unwrap_or_default().into_iter().collect();
        for (digest, size) in sizes.iter().filter(|(_, size)| **size <= MAX_MANIFEST_BYTES) {
            if !may_be_json(&store.blobs().path(digest)) {
                continue;
            }
            origins.add_image(store, &Descriptor::new(MediaType::MANIFEST, *digest, *size));
        }
        for name in Dir::open(&store.join("packs")).and_then(|dir| dir.names()).unwrap_or_default() {
            let name = String::from_utf8_lossy(&name).into_owned();
            let blob = name.strip_suffix(".diff").and_then(|hex| Digest::from_hex(hex).ok());
            let Some((blob, size)) = blob.and_then(|blob| Some((blob, sizes.get(&blob)?))) else { continue };
            let said =
                atomic_file::read_limited(&store.join("packs").join(&name), 128).ok().flatten().unwrap_or_default();
            let diff_id = std::str::from_utf8(&said).ok().and_then(|hex| Digest::from_hex(hex).ok());
            if let Some(diff_id) = diff_id {
                origins.add_blob(diff_id, Descriptor::new(MediaType::LAYER, blob, *size));
            }
        }
        origins
    }

    fn add_image(&mut self, store: &Store, descriptor: &Descriptor) {
        let Ok(manifest) = store.blobs().read_document::<Manifest>(descriptor) else { return };
        let Ok(config) = store.blobs().read_document::<ImageConfig>(&manifest.value().config) else { return };
        let tars = &config.value().rootfs.diff_ids;
        for (diff_id, blob) in tars.iter().zip(&manifest.value().layers) {
            self.add_blob(*diff_id, blob.clone());
        }
        self.image_diff_ids.push(tars.clone());
    }

    fn add_blob(&mut self, diff_id: Digest, blob: Descriptor) {
        self.blobs_by_diff_id.entry(diff_id).or_default().insert(blob.digest, blob);
    }

    /// Compares the unpacked layer `id` with its blob. Meanwhile it needs as much disk space as the layer, in this
    /// process's work directory.
    pub(crate) fn compare(&self, layers: Layers<'_>, id: &LayerId) -> LayerComparison {
        let unknown = |why: &str| LayerComparison::Unknown(why.to_owned());
        let Some(diff_id) = id.diff_id() else { return unknown("it is not from a tar") };
        let store = layers.store();
        let here = |blob: &&Descriptor| store.blobs().has(blob);
        let blobs: Vec<&Descriptor> =
            self.blobs_by_diff_id.get(&diff_id).into_iter().flat_map(BTreeMap::values).filter(here).collect();
        if blobs.is_empty() {
            return unknown("no blob in the store is known to be the one that it was unpacked from");
        }
        if store.require_writable().is_err() {
            return unknown("the store is read-only, and comparing it takes a second copy");
        }
        if !has_room_for(&layers.path(id), store) {
            return unknown(NO_ROOM);
        }
        let mut last = LayerComparison::Unknown(String::new());
        for blob in blobs {
            last = match self.compare_with_blob(layers, id, &diff_id, blob) {
                Ok(verdict) => return verdict,
                Err(error) if error.is_disk_full() => LayerComparison::Unknown(NO_ROOM.to_owned()),
                Err(error) => LayerComparison::Unknown(describe_error_with_limit(&error)),
            };
        }
        last
    }

    fn compare_with_blob(
        &self,
        layers: Layers<'_>,
        id: &LayerId,
        diff_id: &Digest,
        blob: &Descriptor,
    ) -> Result<LayerComparison, StoreError> {
        let made = layers.store().work_dir().temp_dir()?;
        let verdict = Dir::open_layer(&made).and_then(|model| {
            let (deps, length) = layers.unpack_without_parents(&model, blob, diff_id)?;
            let layer = match Dir::open_layer(&layers.path(id)) {
                Ok(layer) => layer,
                Err(error) => return Ok(LayerComparison::Changed(describe_error_with_limit(&error))),
            };
            let (inherited, unverifiable) = self.find_inherited(layers, id, diff_id, &deps, &layer)?;
            parent_deps::apply_inherited(&model, &inherited)?;
            Ok(match (first_difference(&layer, &model)?, unverifiable) {
                (Some(how), _) => LayerComparison::Changed(how),
                (None, Some(unverifiable)) => unverifiable,
                (None, None) => LayerComparison::Same(ComparedTar { tar_length: length, parent_deps: deps }),
            })
        });
        layers.store().work_dir().remove_temp_dir(&made);
        verdict
    }

    /// The entries that the layer inherited from its parent layers: those whose digest is in its id if they are found,
    /// otherwise a guess from the layer itself, with the verdict that follows.
    fn find_inherited(
        &self,
        layers: Layers<'_>,
        id: &LayerId,
        diff_id: &Digest,
        deps: &ParentDeps,
        layer: &Dir,
    ) -> Result<(Vec<InheritedEntry>, Option<LayerComparison>), StoreError> {
        if *id == id.without_inherited() {
            return Ok((Vec::new(), None));
        }
        let below = self.parent_layer_lists(layers, diff_id);
        let by_images = below.iter().filter_map(|below| parent_deps::resolve_inherited(deps, below, layers).ok());
        let guess = |all| parent_deps::guess_inherited(layer, deps, all).ok();
        let guesses = [false, true].into_iter().filter_map(guess);
        if let Some(inherited) =
            by_images.chain(guesses).find(|inherited| layers.id_with_inherited(diff_id, inherited) == *id)
        {
            return Ok((inherited, None));
        }
        let is_used = |below: &Vec<LayerId>| {
            layers.lookup_unpacked(diff_id, below).is_ok_and(|known| known == Some((id.clone(), true)))
        };
        let unverifiable = match below.iter().any(is_used) {
            true => LayerComparison::Changed(
                "its directories are not what those of the layers below make of them".to_owned(),
            ),
            false => LayerComparison::Unknown("the layers that it was unpacked over are not in the store".to_owned()),
        };
        Ok((guess(false).unwrap_or_default(), Some(unverifiable)))
    }

    /// The parent layers of the tar in each image: unpacked from their blobs, or as build steps created them.
    fn parent_layer_lists(&self, layers: Layers<'_>, diff_id: &Digest) -> Vec<Vec<LayerId>> {
        let mut all = Vec::new();
        for image in &self.image_diff_ids {
            for (at, _) in image.iter().enumerate().filter(|(_, one)| *one == diff_id) {
                for as_made in [false, true] {
                    all.extend(
                        find_unpacked_layers(layers, &image[..at], as_made).filter(|below| !all.contains(below)),
                    );
                }
            }
        }
        all
    }
}

/// Returns `true` when the first byte may begin a JSON document. Most small blobs are layers and need not be parsed.
fn may_be_json(path: &Path) -> bool {
    let mut first = [0];
    let read = atomic_file::open_no_follow(path).and_then(|mut file| std::io::Read::read(&mut file, &mut first));
    read.is_ok_and(|got| got == 1 && (first[0] == b'{' || first[0].is_ascii_whitespace()))
}

const NO_ROOM: &str = "there is no room for a second copy of it";

/// The layers of these diff IDs on top of each other, if all are in the store.
fn find_unpacked_layers(layers: Layers<'_>, tars: &[Digest], as_made: bool) -> Option<Vec<LayerId>> {
    let mut ids = Vec::new();
    for diff_id in tars {
        let made = if as_made { layers.find_origin(diff_id) } else { None };
        let id = made.or_else(|| Some(layers.lookup_unpacked(diff_id, &ids).ok()??.0))?;
        ids.push(id);
    }
    Some(ids)
}

/// Returns `true` when the free space is at least twice the size of `layer`.
fn has_room_for(layer: &Path, store: &Store) -> bool {
    let free = rustix::fs::statvfs(store.root()).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    disk_usage(layer).saturating_mul(2) <= free
}

/// The text of an error with its causes, and the option that raises the limit that was exceeded.
fn describe_error_with_limit(error: &StoreError) -> String {
    let mut words = error_chain(error);
    if let Some(exceeded) = error.limit_exceeded() {
        words.push_str(&format!("; `--limit {}=NUMBER` allows more", exceeded.limit.name()));
    }
    words
}
