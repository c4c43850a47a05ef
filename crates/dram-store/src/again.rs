//! Verifies an unpacked layer against its blob. The blob is unpacked a second time by the same code and both
//! directories are compared, as no digest of the unpacked content is stored anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use dram_image::{Descriptor, Digest, ImageConfig, Manifest, MediaType};

use crate::over::{self, Taken};
use crate::same::first_difference;
use crate::sizes::on_disk;
use crate::unpack::Leans;
use crate::{Dir, LayerId, Layers, Store, StoreError, causes, file};

/// The size limit of a manifest.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// The result of comparing a layer with its blob.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The layer is what its blob contains; the facts about its tar are verified, too.
    Same(Learned),
    /// The layer differs; the text says where and how.
    Changed(String),
    /// The layer could not be compared; the text says why.
    Unknown(String),
}

/// Facts about a layer's tar, found by unpacking it.
#[derive(Debug)]
pub(crate) struct Learned {
    /// Its size in bytes.
    pub(crate) length: u64,
    /// Its dependencies on parent layers.
    pub(crate) leans: Leans,
}

/// The blobs and images from which a store's layers were unpacked, according to its documents and records. They are not
/// trusted: each blob is verified when it is used.
#[derive(Debug)]
pub(crate) struct Origins {
    /// The diff IDs of each image, lowest first.
    images: Vec<Vec<Digest>>,
    /// The blobs that are said to contain each diff ID.
    blobs: BTreeMap<Digest, BTreeMap<Digest, Descriptor>>,
}

impl Origins {
    /// Reads all images of the store, tagged or not, and the records of verified blobs.
    pub(crate) fn of(store: &Store) -> Origins {
        let mut origins = Origins { images: Vec::new(), blobs: BTreeMap::new() };
        let sizes: BTreeMap<Digest, u64> = store.blobs().all().unwrap_or_default().into_iter().collect();
        for (digest, size) in sizes.iter().filter(|(_, size)| **size <= LARGEST_MANIFEST) {
            if !may_be_a_document(&store.blobs().path(digest)) {
                continue;
            }
            origins.image(store, &Descriptor::new(MediaType::MANIFEST, *digest, *size));
        }
        for name in Dir::open(&store.join("packs")).and_then(|dir| dir.names()).unwrap_or_default() {
            let name = String::from_utf8_lossy(&name).into_owned();
            let blob = name.strip_suffix(".diff").and_then(|hex| Digest::from_hex(hex).ok());
            let Some((blob, size)) = blob.and_then(|blob| Some((blob, sizes.get(&blob)?))) else { continue };
            let said = file::read_small(&store.join("packs").join(&name), 128).ok().flatten().unwrap_or_default();
            let diff_id = std::str::from_utf8(&said).ok().and_then(|hex| Digest::from_hex(hex).ok());
            if let Some(diff_id) = diff_id {
                origins.blob(diff_id, Descriptor::new(MediaType::LAYER, blob, *size));
            }
        }
        origins
    }

    fn image(&mut self, store: &Store, descriptor: &Descriptor) {
        let Ok(manifest) = store.blobs().document::<Manifest>(descriptor) else { return };
        let Ok(config) = store.blobs().document::<ImageConfig>(&manifest.value().config) else { return };
        let tars = &config.value().rootfs.diff_ids;
        for (diff_id, blob) in tars.iter().zip(&manifest.value().layers) {
            self.blob(*diff_id, blob.clone());
        }
        self.images.push(tars.clone());
    }

    fn blob(&mut self, diff_id: Digest, blob: Descriptor) {
        self.blobs.entry(diff_id).or_default().insert(blob.digest, blob);
    }

    /// Compares the unpacked layer `id` with its blob. Meanwhile it needs as much disk space as the layer, in this
    /// process's work directory.
    pub(crate) fn compare(&self, layers: Layers<'_>, id: &LayerId) -> Verdict {
        let unknown = |why: &str| Verdict::Unknown(why.to_owned());
        let Some(diff_id) = id.diff_id() else { return unknown("it is not from a tar") };
        let store = layers.store();
        let here = |blob: &&Descriptor| store.blobs().has(blob);
        let blobs: Vec<&Descriptor> =
            self.blobs.get(&diff_id).into_iter().flat_map(BTreeMap::values).filter(here).collect();
        if blobs.is_empty() {
            return unknown("no blob in the store is known to be the one that it was unpacked from");
        }
        if store.must_be_writable().is_err() {
            return unknown("the store is read-only, and comparing it takes a second copy");
        }
        if !has_room_for(&layers.path(id), store) {
            return unknown(NO_ROOM);
        }
        let mut last = Verdict::Unknown(String::new());
        for blob in blobs {
            last = match self.compare_with(layers, id, &diff_id, blob) {
                Ok(verdict) => return verdict,
                Err(error) if error.is_full() => Verdict::Unknown(NO_ROOM.to_owned()),
                Err(error) => Verdict::Unknown(words(&error)),
            };
        }
        last
    }

    fn compare_with(
        &self,
        layers: Layers<'_>,
        id: &LayerId,
        diff_id: &Digest,
        blob: &Descriptor,
    ) -> Result<Verdict, StoreError> {
        let made = layers.store().work().fresh()?;
        let verdict = Dir::open_layer(&made).and_then(|model| {
            let (leans, length) = layers.unpack_alone(&model, blob, diff_id)?;
            let layer = match Dir::open_layer(&layers.path(id)) {
                Ok(layer) => layer,
                Err(error) => return Ok(Verdict::Changed(words(&error))),
            };
            let (taken, doubt) = self.taken(layers, id, diff_id, &leans, &layer)?;
            over::give(&model, &taken)?;
            Ok(match (first_difference(&layer, &model)?, doubt) {
                (Some(how), _) => Verdict::Changed(how),
                (None, Some(doubt)) => doubt,
                (None, None) => Verdict::Same(Learned { length, leans }),
            })
        });
        layers.store().work().discard(&made);
        verdict
    }

    /// The entries that the layer inherited from its parent layers: those whose digest is in its id if they are found,
    /// otherwise a guess from the layer itself, with the verdict that follows.
    fn taken(
        &self,
        layers: Layers<'_>,
        id: &LayerId,
        diff_id: &Digest,
        leans: &Leans,
        layer: &Dir,
    ) -> Result<(Vec<Taken>, Option<Verdict>), StoreError> {
        if *id == id.alone() {
            return Ok((Vec::new(), None));
        }
        let below = self.below(layers, diff_id);
        let by_images = below.iter().filter_map(|below| over::taken(leans, below, layers).ok());
        let guess = |all| over::seemingly_taken(layer, leans, all).ok();
        let guesses = [false, true].into_iter().filter_map(guess);
        if let Some(taken) = by_images.chain(guesses).find(|taken| layers.id_over(diff_id, taken) == *id) {
            return Ok((taken, None));
        }
        let is_used =
            |below: &Vec<LayerId>| layers.look_up(diff_id, below).is_ok_and(|known| known == Some((id.clone(), true)));
        let doubt = match below.iter().any(is_used) {
            true => Verdict::Changed("its directories are not what those of the layers below make of them".to_owned()),
            false => Verdict::Unknown("the layers that it was unpacked over are not in the store".to_owned()),
        };
        Ok((guess(false).unwrap_or_default(), Some(doubt)))
    }

    /// The parent layers of the tar in each image: unpacked from their blobs, or as build steps created them.
    fn below(&self, layers: Layers<'_>, diff_id: &Digest) -> Vec<Vec<LayerId>> {
        let mut all = Vec::new();
        for image in &self.images {
            for (at, _) in image.iter().enumerate().filter(|(_, one)| *one == diff_id) {
                for as_made in [false, true] {
                    all.extend(unpacked(layers, &image[..at], as_made).filter(|below| !all.contains(below)));
                }
            }
        }
        all
    }
}

/// Returns `true` when the first byte may begin a JSON document. Most small blobs are layers and need not be parsed.
fn may_be_a_document(path: &Path) -> bool {
    let mut first = [0];
    let read = file::open_quietly(path).and_then(|mut file| std::io::Read::read(&mut file, &mut first));
    read.is_ok_and(|got| got == 1 && (first[0] == b'{' || first[0].is_ascii_whitespace()))
}

const NO_ROOM: &str = "there is no room for a second copy of it";

/// The layers of these diff IDs on top of each other, if all are in the store.
fn unpacked(layers: Layers<'_>, tars: &[Digest], as_made: bool) -> Option<Vec<LayerId>> {
    let mut ids = Vec::new();
    for diff_id in tars {
        let made = if as_made { layers.origin(diff_id) } else { None };
        let id = made.or_else(|| Some(layers.look_up(diff_id, &ids).ok()??.0))?;
        ids.push(id);
    }
    Some(ids)
}

/// Returns `true` when the free space is at least twice the size of `layer`.
fn has_room_for(layer: &Path, store: &Store) -> bool {
    let free = rustix::fs::statvfs(store.root()).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    on_disk(layer).saturating_mul(2) <= free
}

/// The text of an error with its causes, and the option that raises the limit that was exceeded.
fn words(error: &StoreError) -> String {
    let mut words = causes(error);
    if let Some(exceeded) = error.exceeded() {
        words.push_str(&format!("; `--limit {}=NUMBER` allows more", exceeded.limit.name()));
    }
    words
}
