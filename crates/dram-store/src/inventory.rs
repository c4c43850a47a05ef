//! Inventory of the store: its objects, their disk usage, and the images that refer to them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;

use dram_image::{Descriptor, Digest, ImageConfig, Manifest, TreePath};

use crate::sizes::{Sizes, on_disk};
use crate::{Dir, LayerId, Record, Rights, Store, StoreError};

/// The objects of a named image.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// Name of the image.
    pub(crate) name: String,
    /// Its manifest, config and layers.
    pub(crate) blobs: BTreeSet<Digest>,
    /// Ids of its layers, as if each was extracted without parent layers.
    pub(crate) layers: BTreeSet<LayerId>,
}

/// One object that garbage collection can remove.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// The object.
    pub(crate) what: What,
    /// Disk usage in bytes.
    pub(crate) bytes: u64,
    /// Time of last use, in seconds since 1970.
    pub(crate) used: i64,
}

/// An object that garbage collection can remove.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A blob.
    Blob(Digest),
    /// An extracted layer.
    Layer(LayerId, Rights),
    /// A cache record; `None` when it cannot be read.
    Step(Rights, TreePath, Option<Record>),
    /// A downloaded file, or the record of an address.
    Download(TreePath),
    /// The digest index of a build context.
    Context(TreePath),
    /// A cache mount, by its directory and its id.
    Cache(String, String),
}

/// All objects that garbage collection can remove.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) images: Vec<Named>,
    pub(crate) items: Vec<Item>,
    /// Disk usage of everything else: records and temporary files.
    pub(crate) rest: u64,
    /// Disk usage of the last failed command's file system.
    pub(crate) failed: u64,
}

impl Inventory {
    /// Collects the inventory of the whole store.
    ///
    /// # Errors
    /// When a file system operation fails. An unreadable image is an error if `strict`, and is skipped otherwise.
    pub(crate) fn of(store: &Store, strict: bool) -> Result<Inventory, StoreError> {
        let mut found = Inventory::default();
        for tagged in store.refs().all()? {
            match named(store, &tagged.name, &tagged.manifest) {
                Ok(image) => found.images.push(image),
                Err(error) if strict => return Err(error),
                Err(_) => {}
            }
        }
        found.measure(store)?;
        for &rights in store.rights().reach() {
            for step in store.memory().all(rights)? {
                let what = What::Step(rights, step.path, step.record);
                found.items.push(Item { what, bytes: 4096, used: step.used });
            }
        }
        let rest = ["packs", "seen", "places", "fresh", "index.copy", "sizes", "lost"];
        found.rest = rest.iter().map(|name| on_disk(&store.join(name))).sum();
        Ok(found)
    }

    /// Collects only the large objects, without cache records and other small records.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub(crate) fn bulk(store: &Store) -> Result<Inventory, StoreError> {
        let mut found = Inventory::default();
        found.measure(store)?;
        Ok(found)
    }

    fn measure(&mut self, store: &Store) -> Result<(), StoreError> {
        let sizes = Sizes::of(store);
        for (digest, _) in store.blobs().all()? {
            let disk = std::fs::symlink_metadata(store.blobs().path(&digest)).map_or(0, |meta| meta.blocks() * 512);
            self.items.push(Item { what: What::Blob(digest), bytes: disk, used: 0 });
        }
        for &rights in store.rights().reach() {
            self.layers(store, rights, &sizes)?;
        }
        self.files(store, "downloads", &What::Download)?;
        self.files(store, "contexts", &What::Context)?;
        for cache in store.caches().known()? {
            let bytes = sizes.cache(&cache.key, cache.last_used);
            self.items.push(Item { what: What::Cache(cache.key, cache.name.id), bytes, used: cache.last_used });
        }
        sizes.keep();
        self.failed = if store.join("failed").exists() { on_disk(&store.join("failed")) } else { 0 };
        Ok(())
    }

    fn layers(&mut self, store: &Store, rights: Rights, sizes: &Sizes<'_>) -> Result<(), StoreError> {
        let path = store.shelf_of(rights, "layers");
        if !path.is_dir() {
            return Ok(());
        }
        for name in Dir::open(&path)?.names()? {
            let Some(id) = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<LayerId>().ok()) else {
                continue;
            };
            let (bytes, used) = (sizes.layer(&id, rights), store.layers().last_use(&id));
            self.items.push(Item { what: What::Layer(id, rights), bytes, used });
        }
        Ok(())
    }

    fn files(&mut self, store: &Store, place: &str, what: &dyn Fn(TreePath) -> What) -> Result<(), StoreError> {
        for name in Dir::open(&store.join(place))?.names()? {
            let name = TreePath::parse(&name)?;
            let Ok(meta) = std::fs::symlink_metadata(store.join(place).join(name.as_path())) else { continue };
            if meta.is_file() {
                self.items.push(Item { what: what(name), bytes: meta.blocks() * 512, used: meta.mtime() });
            }
        }
        Ok(())
    }

    /// Returns all blobs of named images.
    pub(crate) fn named_blobs(&self) -> BTreeSet<Digest> {
        self.images.iter().flat_map(|image| image.blobs.iter().copied()).collect()
    }

    /// Returns all layers of named images.
    pub(crate) fn named_layers(&self) -> BTreeSet<LayerId> {
        self.images.iter().flat_map(|image| image.layers.iter().cloned()).collect()
    }

    /// Returns the disk usage of everything in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum::<u64>() + self.rest + self.failed
    }

    /// Returns the number of images that have each blob.
    pub(crate) fn shares(&self) -> BTreeMap<Digest, usize> {
        let mut shares = BTreeMap::new();
        let mut seen: BTreeSet<&BTreeSet<Digest>> = BTreeSet::new();
        // Two names of one image do not count as sharing.
        for image in self.images.iter().filter(|image| seen.insert(&image.blobs)) {
            image.blobs.iter().for_each(|digest| *shares.entry(*digest).or_default() += 1);
        }
        shares
    }
}

/// Reads the manifest and config of an image.
pub(crate) fn named(store: &Store, name: &str, descriptor: &Descriptor) -> Result<Named, StoreError> {
    let manifest = store.blobs().document::<Manifest>(descriptor)?;
    let config = store.blobs().document::<ImageConfig>(&manifest.value().config)?;
    let layers = manifest.value().layers.iter().map(|layer| layer.digest);
    let blobs = [descriptor.digest, manifest.value().config.digest].into_iter().chain(layers).collect();
    let layers = config.value().rootfs.diff_ids.iter().map(LayerId::of_diff).collect();
    Ok(Named { name: name.to_owned(), blobs, layers })
}
