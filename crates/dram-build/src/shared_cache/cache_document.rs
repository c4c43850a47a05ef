//! The document of a shared cache: the cache keys of steps, the layers they made, and the blobs of these.

use std::collections::BTreeSet;

use dram_image::document::{DocumentKind, LARGEST_DOCUMENT};
use dram_image::{Descriptor, Digest, MediaType, RFC3339_TIMES};
use dram_store::{IdMapping, LayerId, PackedLayer, PackedTimes, StepKey};
use serde::{Deserialize, Serialize};

use crate::compress_layer::LayerCompression;

/// The media type of a [`CacheDocument`], which is the config of a cache's manifest.
pub(super) const CACHE_CONFIG_TYPE: &str = "application/vnd.dram.cache.v1+json";
/// The annotation of an image's manifest that holds an inline cache.
pub(super) const INLINE_CACHE_ANNOTATION: &str = "vnd.dram.cache.v1";

/// The version of a document whose layers all have a fixed time. Earlier versions of dram read only this one.
const VERSION_FIXED_TIMES: u32 = 1;
/// The version of a document with a layer whose files have their own times.
const VERSION: u32 = 2;
/// The largest number of steps; no build has more.
const MAX_STEPS: usize = 100_000;
/// The largest number of layers; no registry accepts more in one manifest.
const MAX_LAYERS: usize = 20_000;

/// The table of contents of a shared cache. It is the config of a manifest whose layers it describes, or an annotation
/// of an image's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CacheDocument {
    version: u32,
    /// The cached steps.
    pub(super) steps: Vec<CachedStep>,
    /// The layers that the manifest has.
    pub(super) layers: Vec<CachedLayer>,
}

/// The cached result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedStep {
    /// Its cache keys: at most one by the origin of its files, and last the one by their content.
    pub(super) keys: Vec<StepKey>,
    /// The layer it made; `None` if it changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<LayerId>,
    /// For a command: the privilege of the user who executed it.
    #[serde(rename = "by", default, skip_serializing_if = "Option::is_none")]
    pub(super) executed_by: Option<BuilderPrivilege>,
    /// The time at which it was executed, in seconds since 1970; `None` in the documents of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) executed: Option<i64>,
}

/// A layer of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedLayer {
    /// The id of its directory, which is made of its content.
    pub(super) id: LayerId,
    /// Its index among the layers of the manifest.
    #[serde(rename = "at")]
    pub(super) index: usize,
    /// Its diff ID; `None` if an image config contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) diff_id: Option<Digest>,
    /// The time that its files were given, in seconds since 1970; `None` if they have their own times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<i64>,
    /// Its compression, as a short name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) compression: String,
}

/// The privilege of the user who executed a command. Results may differ between these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BuilderPrivilege {
    /// A user who cannot set owners on the disk.
    Unprivileged,
    /// Root of a user namespace that maps a single id.
    #[serde(rename = "one-id")]
    SingleId,
    /// Root of a user namespace that maps subordinate ids.
    #[serde(rename = "lent-ids")]
    SubordinateIds,
    /// Root of the machine.
    Root,
}

impl BuilderPrivilege {
    /// Returns the privilege of this process.
    pub(super) fn current() -> BuilderPrivilege {
        match IdMapping::of_current_process() {
            IdMapping::Root => BuilderPrivilege::Root,
            IdMapping::Subordinate => BuilderPrivilege::SubordinateIds,
            IdMapping::Single => BuilderPrivilege::SingleId,
            IdMapping::Unprivileged => BuilderPrivilege::Unprivileged,
        }
    }
}

impl CachedStep {
    /// Returns whether this process can use the result. A result that was made with less privilege may lack owners and
    /// devices.
    pub(super) fn is_usable(&self) -> bool {
        self.executed_by.is_none_or(|by| by >= BuilderPrivilege::current())
    }
}

/// A layer of a shared cache, described before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfferedLayer {
    /// Its diff ID and blob.
    pub(super) packed: PackedLayer,
    /// The times of its files.
    pub(super) times: PackedTimes,
    /// Its compression.
    pub(super) compression: LayerCompression,
}

impl OfferedLayer {
    /// Returns the layer that `note` describes, of a manifest with `layers`, or of an image with `diff_ids`.
    pub(super) fn new(note: &CachedLayer, layers: &[Descriptor], diff_ids: &[Digest]) -> Result<OfferedLayer, String> {
        let blob =
            layers.get(note.index).ok_or_else(|| format!("it names the layer {} of {}", note.index, layers.len()))?;
        let diff_id = note.diff_id.or_else(|| diff_ids.get(note.index).copied());
        let diff_id = diff_id.ok_or_else(|| format!("it does not give the diff ID of the layer {}", note.index))?;
        let compress = LayerCompression::from_short_name(&note.compression);
        let compress =
            compress.ok_or_else(|| format!("there is no compression `{}`", note.compression.escape_debug()))?;
        let blob = Descriptor::new(MediaType::oci_layer(&blob.media_type), blob.digest, blob.size);
        if blob.media_type != compress.media_type() {
            return Err(format!("the layer {} is `{}`", note.index, blob.media_type.escape_debug()));
        }
        Ok(OfferedLayer {
            packed: PackedLayer { diff_id, blob },
            times: PackedTimes::new(note.time),
            compression: compress,
        })
    }
}

impl CacheDocument {
    /// Makes a document of these steps and layers.
    pub(super) fn new(steps: Vec<CachedStep>, layers: Vec<CachedLayer>) -> CacheDocument {
        let all_fixed = layers.iter().all(|layer| layer.time.is_some());
        CacheDocument { version: if all_fixed { VERSION_FIXED_TIMES } else { VERSION }, steps, layers }
    }
}

impl DocumentKind for CacheDocument {
    const NAME: &'static str = "the cache's table of contents";
    const MAX_BYTES: usize = LARGEST_DOCUMENT;
    const MAX_VALUES: usize = 2_000_000;

    fn check(&self) -> Result<(), String> {
        let CacheDocument { version, steps, layers } = self;
        if ![VERSION_FIXED_TIMES, VERSION].contains(version) {
            return Err(format!("its version is {version}, and this program knows {VERSION}"));
        }
        let times = steps.iter().filter_map(|step| step.executed).chain(layers.iter().filter_map(|layer| layer.time));
        if let Some(time) = times.into_iter().find(|time| !RFC3339_TIMES.contains(time)) {
            return Err(format!("it has the time {time}, which is not between the years 0 and 9999"));
        }
        if *version == VERSION_FIXED_TIMES && layers.iter().any(|layer| layer.time.is_none()) {
            return Err("it has a layer without a time".to_owned());
        }
        if steps.len() > MAX_STEPS || layers.len() > MAX_LAYERS {
            return Err(format!("it has {} steps and {} layers", steps.len(), layers.len()));
        }
        if steps.iter().any(|step| step.keys.is_empty() || step.keys.len() > 2) {
            return Err("it has a step without a key, or with many".to_owned());
        }
        let named = steps.iter().filter_map(|step| step.layer.as_ref()).chain(layers.iter().map(|layer| &layer.id));
        if let Some(other) = named.into_iter().find(|id| !id.is_from_step()) {
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
    fn invalid_cache_document_is_refused() {
        let (key, hex) = ("ab".repeat(32), "cd".repeat(32));
        let whole = format!(
            r#"{{"version":1,"steps":[{{"keys":["{key}"],"layer":"c-{hex}","by":"root"}}],
                "layers":[{{"id":"c-{hex}","at":0,"time":0}}]}}"#
        );
        read(&whole).unwrap();
        read(&whole.replace(r#","time":0"#, "").replace(r#""version":1"#, r#""version":2"#)).unwrap();
        for (old, new) in [
            (r#""version":1"#, r#""version":3"#),
            (r#","time":0"#, ""),
            (r#""time":0"#, r#""time":253402300800"#),
            (r#""by":"root""#, r#""by":"root","executed":-62167219201"#),
            (r#""by":"root""#, r#""by":"root","executed":"now""#),
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
    fn cached_layer_that_does_not_fit_the_manifest_is_refused() {
        let layers = [Descriptor::new(MediaType::LAYER_GZIP, Digest::of(b"b"), 3)];
        let id: LayerId = format!("c-{}", "ab".repeat(32)).parse().unwrap();
        let note = CachedLayer { id, index: 0, diff_id: None, time: None, compression: String::new() };
        let diff_ids = [Digest::of(b"d")];
        assert_eq!(OfferedLayer::new(&note, &layers, &diff_ids).unwrap().packed.diff_id, diff_ids[0]);
        for wrong in [
            CachedLayer { index: 1, ..note.clone() },
            CachedLayer { compression: "../x".to_owned(), ..note.clone() },
            CachedLayer { compression: "zstd-3".to_owned(), ..note.clone() },
        ] {
            assert!(OfferedLayer::new(&wrong, &layers, &diff_ids).is_err(), "{wrong:?}");
        }
        assert!(OfferedLayer::new(&note, &layers, &[]).is_err());
    }
}
