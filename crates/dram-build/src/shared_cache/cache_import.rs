//! Reads a shared cache: from a layout, a registry, or an image with an inline cache.

use std::collections::{BTreeMap, HashMap};

use dram_image::{Descriptor, Digest, Document, DocumentError, ImageConfig, ImagePlatform, Index, Manifest, MediaType};
use dram_store::{LayerId, StepKey};

use super::cache_document::{CACHE_CONFIG_TYPE, CacheDocument, CachedStep, INLINE_CACHE_ANNOTATION, OfferedLayer};
use crate::transfer::{ImageSource, TransferError, read_config, read_document, select_manifest};

/// The media type that BuildKit's caches have instead of [`CACHE_CONFIG_TYPE`].
const BUILDKIT_CACHE_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The field of an image config that holds an inline cache of BuildKit.
const BUILDKIT_INLINE_FIELD: &str = "moby.buildkit.cache.v0";

/// The reasons why a shared cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SharedCacheError {
    /// It cannot be read.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Its cache document is damaged.
    #[error("{place}")]
    Document {
        /// The cache.
        place: String,
        /// The error in the document.
        #[source]
        source: DocumentError,
    },
    /// It is a cache of BuildKit.
    #[error("{0} is a cache of BuildKit's, in a format that only BuildKit reads")]
    BuildKit(String),
    /// It is an image without an inline cache.
    #[error("{0} is an image without a cache")]
    NoInlineCache(String),
    /// It has no manifest for the platform.
    #[error("{0} has nothing for this platform")]
    NoPlatform(String),
}

/// A shared cache that steps and layers are taken from. Everything it contains is verified when it is used.
#[derive(Debug)]
pub struct SharedCache<'a> {
    pub(super) source: Box<dyn ImageSource + 'a>,
    steps: Vec<CachedStep>,
    by_key: HashMap<StepKey, usize>,
    pub(super) layers: BTreeMap<LayerId, OfferedLayer>,
}

impl<'a> SharedCache<'a> {
    /// Reads the cache document of the cache at `root` of `source`, or of the manifest for `platform` below it. No
    /// layer is fetched.
    ///
    /// # Errors
    /// See [`SharedCacheError`].
    pub fn open(
        source: Box<dyn ImageSource + 'a>,
        root: &Descriptor,
        platform: &ImagePlatform,
    ) -> Result<SharedCache<'a>, SharedCacheError> {
        let place = source.display_name();
        let wrong = |source| SharedCacheError::Document { place: place.clone(), source };
        if MediaType::is_index(&root.media_type) {
            let index = Document::<Index>::read(read_document(&*source, root)?).map_err(wrong)?;
            if index.value().manifests.iter().any(|entry| entry.media_type == BUILDKIT_CACHE_TYPE) {
                return Err(SharedCacheError::BuildKit(place));
            }
        }
        let root =
            select_manifest(&*source, root, platform)?.ok_or_else(|| SharedCacheError::NoPlatform(place.clone()))?;
        let manifest = Document::<Manifest>::read(read_document(&*source, &root)?).map_err(wrong)?;
        let manifest = manifest.value();
        let (document, diff_ids) = if manifest.config.media_type == CACHE_CONFIG_TYPE {
            (read_config(&*source, &manifest.config)?, Vec::new())
        } else {
            read_inline_cache(&*source, manifest, &place)?
        };
        let document = Document::<CacheDocument>::read(document).map_err(wrong)?;
        let mut layers = BTreeMap::new();
        for note in &document.value().layers {
            let offered = OfferedLayer::new(note, &manifest.layers, &diff_ids);
            let offered = offered.map_err(|why| wrong(DocumentError::Invalid { what: "the cache", why }))?;
            layers.insert(note.id.clone(), offered);
        }
        let steps: Vec<CachedStep> = document.value().steps.iter().filter(|step| step.is_usable()).cloned().collect();
        let by_key = steps.iter().enumerate().flat_map(|(at, step)| step.keys.iter().map(move |key| (*key, at)));
        let by_key = by_key.collect();
        Ok(SharedCache { source, by_key, steps, layers })
    }

    /// Returns the number of steps that it knows.
    pub fn step_count(&self) -> usize {
        self.steps.len()
    }

    /// Finds the step with the cache key `key`.
    pub(super) fn find_step(&self, key: &StepKey) -> Option<&CachedStep> {
        self.by_key.get(key).map(|at| &self.steps[*at])
    }
}

/// Returns the inline cache of an image and the diff IDs of its layers.
fn read_inline_cache(
    source: &dyn ImageSource,
    manifest: &Manifest,
    place: &str,
) -> Result<(Vec<u8>, Vec<Digest>), SharedCacheError> {
    if manifest.config.media_type == BUILDKIT_CACHE_TYPE {
        return Err(SharedCacheError::BuildKit(place.to_owned()));
    }
    let config = read_config(source, &manifest.config)?;
    let wrong = |source| SharedCacheError::Document { place: place.to_owned(), source };
    let Some(document) = manifest.annotations.get(INLINE_CACHE_ANNOTATION) else {
        let fields = serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(&config);
        return Err(match fields.is_ok_and(|fields| fields.contains_key(BUILDKIT_INLINE_FIELD)) {
            true => SharedCacheError::BuildKit(place.to_owned()),
            false => SharedCacheError::NoInlineCache(place.to_owned()),
        });
    };
    let config = Document::<ImageConfig>::read(config).map_err(wrong)?;
    Ok((document.clone().into_bytes(), config.value().rootfs.diff_ids.clone()))
}
