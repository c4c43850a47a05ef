//! Inventory of the store: its objects, their disk usage, and the images that refer to them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;

use dram_image::{Descriptor, Digest, TreePath};

use crate::size_cache::{SizeCache, disk_usage};
use crate::{CacheRecord, Dir, IdMapping, LayerId, Store, StoreError};

/// The objects of a named image.
#[derive(Debug, Clone)]
pub(crate) struct NamedImage {
    /// Name of the image.
    pub(crate) name: String,
    /// Its root, and all manifests, configs and layers that the root leads to.
    pub(crate) blobs: BTreeSet<Digest>,
    /// Ids of its layers, as if each was extracted without parent layers.
    pub(crate) layers: BTreeSet<LayerId>,
}

/// One object that garbage collection can remove.
#[derive(Debug, Clone)]
pub(crate) struct InventoryItem {
    /// The object.
    pub(crate) object: StoredObject,
    /// Disk usage in bytes.
    pub(crate) bytes: u64,
    /// Time of last use, in seconds since 1970.
    pub(crate) last_used: i64,
}

/// An object that garbage collection can remove.
#[derive(Debug, Clone)]
pub(crate) enum StoredObject {
    /// A blob.
    Blob(Digest),
    /// An extracted layer.
    Layer(LayerId, IdMapping),
    /// A cache record; `None` when it cannot be read.
    Step(IdMapping, TreePath, Option<CacheRecord>),
    /// A downloaded file, or the record of an address.
    Download(TreePath),
    /// The digest index of a build context.
    Context(TreePath),
    /// A cache mount, by its directory and its id.
    Cache(String, String),
}

/// All objects that garbage collection can remove.
#[derive(Debug, Default)]
pub(crate) struct StoreInventory {
    pub(crate) images: Vec<NamedImage>,
    pub(crate) items: Vec<InventoryItem>,
    /// Disk usage of everything else: records and temporary files.
    pub(crate) other_bytes: u64,
    /// Disk usage of the last failed command's file system.
    pub(crate) failed_bytes: u64,
}

impl StoreInventory {
    /// Collects the inventory of the whole store.
    ///
    /// # Errors
    /// When a file system operation fails. An unreadable image is an error if `strict`, and is skipped otherwise.
    pub(crate) fn collect(store: &Store, strict: bool) -> Result<StoreInventory, StoreError> {
        let mut found = StoreInventory::default();
        for tagged in store.refs().list()? {
            match read_named_image(store, &tagged.name, &tagged.root) {
                Ok(image) => found.images.push(image),
                Err(error) if strict => return Err(error),
                Err(_) => {}
            }
        }
        found.measure(store)?;
        for &id_mapping in store.id_mapping().manageable() {
            for step in store.step_cache().list(id_mapping)? {
                let what = StoredObject::Step(id_mapping, step.path, step.record);
                found.items.push(InventoryItem { object: what, bytes: 4096, last_used: step.last_used });
            }
        }
        let rest = ["packs", "blob-locations", "history", "unsynced", "index.copy", "sizes", "lost"];
        found.other_bytes = rest.iter().map(|name| disk_usage(&store.join(name))).sum();
        Ok(found)
    }

    /// Collects only the large objects, without cache records and other small records.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub(crate) fn collect_largest(store: &Store) -> Result<StoreInventory, StoreError> {
        let mut found = StoreInventory::default();
        found.measure(store)?;
        Ok(found)
    }

    fn measure(&mut self, store: &Store) -> Result<(), StoreError> {
        let sizes = SizeCache::load(store);
        for (digest, _) in store.blobs().list()? {
            let disk = std::fs::symlink_metadata(store.blobs().path(&digest)).map_or(0, |meta| meta.blocks() * 512);
            self.items.push(InventoryItem { object: StoredObject::Blob(digest), bytes: disk, last_used: 0 });
        }
        for &id_mapping in store.id_mapping().manageable() {
            self.add_layers(store, id_mapping, &sizes)?;
        }
        self.add_files(store, "downloads", &StoredObject::Download)?;
        self.add_files(store, "contexts", &StoredObject::Context)?;
        for cache in store.caches().list_without_sizes()? {
            let bytes = sizes.cache_size(&cache.key, cache.last_used);
            self.items.push(InventoryItem {
                object: StoredObject::Cache(cache.key, cache.name.id),
                bytes,
                last_used: cache.last_used,
            });
        }
        sizes.save();
        self.failed_bytes = if store.join("failed").exists() { disk_usage(&store.join("failed")) } else { 0 };
        Ok(())
    }

    fn add_layers(&mut self, store: &Store, id_mapping: IdMapping, sizes: &SizeCache<'_>) -> Result<(), StoreError> {
        let path = store.subdir_of(id_mapping, "layers");
        if !path.is_dir() {
            return Ok(());
        }
        for name in Dir::open(&path)?.names()? {
            let Some(id) = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<LayerId>().ok()) else {
                continue;
            };
            let (bytes, used) = (sizes.layer_size(&id, id_mapping), store.layers().last_use(&id));
            self.items.push(InventoryItem { object: StoredObject::Layer(id, id_mapping), bytes, last_used: used });
        }
        Ok(())
    }

    fn add_files(
        &mut self,
        store: &Store,
        place: &str,
        what: &dyn Fn(TreePath) -> StoredObject,
    ) -> Result<(), StoreError> {
        for name in Dir::open(&store.join(place))?.names()? {
            let name = TreePath::parse(&name)?;
            let Ok(meta) = std::fs::symlink_metadata(store.join(place).join(name.as_path())) else { continue };
            if meta.is_file() {
                self.items.push(InventoryItem {
                    object: what(name),
                    bytes: meta.blocks() * 512,
                    last_used: meta.mtime(),
                });
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
    pub(crate) fn total_bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum::<u64>() + self.other_bytes + self.failed_bytes
    }

    /// Returns the number of images that have each blob.
    pub(crate) fn images_per_blob(&self) -> BTreeMap<Digest, usize> {
        let mut shares = BTreeMap::new();
        let mut seen: BTreeSet<&BTreeSet<Digest>> = BTreeSet::new();
        // Two names of one image do not count as sharing.
        for image in self.images.iter().filter(|image| seen.insert(&image.blobs)) {
            image.blobs.iter().for_each(|digest| *shares.entry(*digest).or_default() += 1);
        }
        shares
    }
}

/// Reads all documents of an image: its root, and what the root leads to.
///
/// # Errors
/// When a document cannot be read.
pub(crate) fn read_named_image(store: &Store, name: &str, root: &Descriptor) -> Result<NamedImage, StoreError> {
    let contents = store.root_contents(root);
    let blobs = contents.blobs.iter().map(|blob| blob.digest).collect();
    let configs = contents.manifests.iter().filter_map(|manifest| manifest.config.as_ref());
    let layers = configs.flat_map(|config| config.rootfs.diff_ids.iter().map(LayerId::from_diff_id)).collect();
    match contents.unreadable.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(NamedImage { name: name.to_owned(), blobs, layers }),
    }
}
