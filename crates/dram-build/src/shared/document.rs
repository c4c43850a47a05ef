//! What a shared cache says: under which keys a step is known, what it left, and where that lies.

use std::collections::BTreeSet;

use dram_image::document::Kind;
use dram_image::{Descriptor, Digest, MediaType};
use dram_store::{LayerId, Packed, Rights, Stamp, StepKey};
use serde::{Deserialize, Serialize};

use crate::packing::Compress;

/// The media type of a [`CacheDocument`]: what the configuration of a cache's manifest is.
pub(super) const CACHE: &str = "application/vnd.dram.cache.v1+json";
/// The annotation of an image's manifest that holds one.
pub(super) const ANNOTATION: &str = "vnd.dram.cache.v1";

const VERSION: u32 = 1;
/// More steps than any build has.
const MOST_STEPS: usize = 100_000;
/// More layers than any registry takes in one manifest.
const MOST_LAYERS: usize = 20_000;

/// A cache's table of contents. It lies in the configuration of a manifest whose layers it talks of, or in an annotation
/// of an image's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CacheDocument {
    version: u32,
    /// Steps that are known.
    pub(super) steps: Vec<StepNote>,
    /// Layers that can be had.
    pub(super) layers: Vec<LayerNote>,
}

/// What a step left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepNote {
    /// What it is known under: at most by where its files come from, and last by what they hold.
    pub(super) keys: Vec<StepKey>,
    /// Its layer; none when it changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<LayerId>,
    /// For a command: what kind of user ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<Maker>,
}

/// A layer that the manifest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerNote {
    /// What it holds.
    pub(super) id: LayerId,
    /// Its place among the manifest's layers.
    pub(super) at: usize,
    /// The digest of its tar. An image's configuration says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) diff_id: Option<Digest>,
    /// The time that its files were given.
    pub(super) time: i64,
    /// How it is compressed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) compression: String,
}

/// A kind of user. What a command makes may differ between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Maker {
    /// One who may set nothing on the disk.
    Unprivileged,
    /// Root of a user namespace with one id.
    OneId,
    /// Root of a user namespace with many.
    LentIds,
    /// Root.
    Root,
}

impl Maker {
    /// The one who runs this process.
    pub(super) fn this() -> Maker {
        match Rights::of_this_process() {
            Rights::All => Maker::Root,
            Rights::Lent => Maker::LentIds,
            Rights::OneId => Maker::OneId,
            Rights::Nothing => Maker::Unprivileged,
        }
    }
}

impl StepNote {
    /// Whether the result serves the user who runs this process: what a lesser one made may lack owners and devices.
    pub(super) fn serves(&self) -> bool {
        self.by.is_none_or(|by| by >= Maker::this())
    }
}

/// A layer of a cache, as far as it is known without a look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offered {
    /// Its tar and its blob.
    pub(super) packed: Packed,
    /// The time that its files were given.
    pub(super) stamp: Stamp,
    /// How it is compressed.
    pub(super) compress: Compress,
}

impl Offered {
    /// The layer that `note` means of a manifest with `layers`, of an image whose tars are `diff_ids`.
    pub(super) fn new(note: &LayerNote, layers: &[Descriptor], diff_ids: &[Digest]) -> Result<Offered, String> {
        let blob = layers.get(note.at).ok_or_else(|| format!("it names the layer {} of {}", note.at, layers.len()))?;
        let diff_id = note.diff_id.or_else(|| diff_ids.get(note.at).copied());
        let diff_id = diff_id.ok_or_else(|| format!("it does not say what the layer {} unpacks to", note.at))?;
        let compress = Compress::of_kind(&note.compression);
        let compress =
            compress.ok_or_else(|| format!("there is no compression `{}`", note.compression.escape_debug()))?;
        let blob = Descriptor::new(MediaType::oci_layer(&blob.media_type), blob.digest, blob.size);
        if blob.media_type != compress.media_type() {
            return Err(format!("the layer {} is `{}`", note.at, blob.media_type.escape_debug()));
        }
        Ok(Offered { packed: Packed { diff_id, blob }, stamp: Stamp(note.time), compress })
    }
}

impl CacheDocument {
    /// One of these steps and layers.
    pub(super) fn new(steps: Vec<StepNote>, layers: Vec<LayerNote>) -> CacheDocument {
        CacheDocument { version: VERSION, steps, layers }
    }
}

impl Kind for CacheDocument {
    const NAME: &'static str = "the cache's table of contents";

    fn check(&self) -> Result<(), String> {
        let CacheDocument { version, steps, layers } = self;
        if *version != VERSION {
            return Err(format!("its version is {version}, and this program knows {VERSION}"));
        }
        if steps.len() > MOST_STEPS || layers.len() > MOST_LAYERS {
            return Err(format!("it has {} steps and {} layers", steps.len(), layers.len()));
        }
        if steps.iter().any(|step| step.keys.is_empty() || step.keys.len() > 2) {
            return Err("it has a step without a key, or with many".to_owned());
        }
        let named = steps.iter().filter_map(|step| step.layer.as_ref()).chain(layers.iter().map(|layer| &layer.id));
        if let Some(other) = named.into_iter().find(|id| !id.is_made()) {
            return Err(format!("{other} is no layer that a step makes"));
        }
        let mut seen = BTreeSet::new();
        match layers.iter().find(|layer| !seen.insert(&layer.id)) {
            Some(twice) => Err(format!("it has the layer {} twice", twice.id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use dram_image::Document;

    use super::*;

    fn read(text: &str) -> Result<Document<CacheDocument>, dram_image::DocumentError> {
        Document::read(text.as_bytes().to_vec())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let (key, hex) = ("ab".repeat(32), "cd".repeat(32));
        let whole = format!(
            r#"{{"version":1,"steps":[{{"keys":["{key}"],"layer":"c-{hex}","by":"root"}}],
                "layers":[{{"id":"c-{hex}","at":0,"time":0}}]}}"#
        );
        read(&whole).unwrap();
        for (old, new) in [
            (r#""version":1"#, r#""version":2"#),
            (&key[..], "ab"),
            (&format!(r#"["{key}"]"#), "[]"),
            (&format!(r#"["{key}"]"#), &format!(r#"["{key}","{key}","{key}"]"#)),
            ("c-", "d-"),
            ("c-", "c-../"),
            ("root", "god"),
            (r#""at":0"#, r#""at":-1"#),
            (r#""at":0"#, r#""at":1e99"#),
        ] {
            assert_ne!(whole, whole.replace(old, new));
            assert!(read(&whole.replace(old, new)).is_err(), "{old} {new}");
        }
        let deep = "[".repeat(200_000);
        assert!(read(&format!(r#"{{"version":1,"steps":{deep}"#)).is_err());
    }

    #[test]
    fn a_layer_must_be_one_of_the_manifest() {
        let layers = [Descriptor::new(MediaType::LAYER_GZIP, Digest::of(b"b"), 3)];
        let id: LayerId = format!("c-{}", "ab".repeat(32)).parse().unwrap();
        let note = LayerNote { id, at: 0, diff_id: None, time: 0, compression: String::new() };
        let diff_ids = [Digest::of(b"d")];
        assert_eq!(Offered::new(&note, &layers, &diff_ids).unwrap().packed.diff_id, diff_ids[0]);
        for wrong in [
            LayerNote { at: 1, ..note.clone() },
            LayerNote { compression: "../x".to_owned(), ..note.clone() },
            LayerNote { compression: "zstd-3".to_owned(), ..note.clone() },
        ] {
            assert!(Offered::new(&wrong, &layers, &diff_ids).is_err(), "{wrong:?}");
        }
        assert!(Offered::new(&note, &layers, &[]).is_err());
    }
}
