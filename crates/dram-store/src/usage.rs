//! Disk usage of a store, by kind, image and object.

use std::collections::BTreeSet;

use crate::inventory::{StoreInventory, StoredObject};
use crate::size_cache::disk_usage;
use crate::{PruneOptions, Store, StoreError};

/// Disk usage of one kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindUsage {
    /// Kind of the objects, as shown to users.
    pub kind: &'static str,
    /// Number of objects.
    pub count: usize,
    /// Disk usage in bytes.
    pub bytes: u64,
    /// Bytes that a plain prune frees.
    pub prunable: u64,
    /// Bytes that `prune --all` frees.
    pub prunable_with_all: u64,
}

/// Disk usage of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Name of the image.
    pub name: String,
    /// Total size of its blobs in bytes.
    pub bytes: u64,
    /// Size in bytes of the blobs that it shares with other images.
    pub shared: u64,
}

/// Disk usage of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemUsage {
    /// Kind of the object, as in [`KindUsage`].
    pub kind: &'static str,
    /// Name of the object.
    pub name: String,
    /// Disk usage in bytes.
    pub bytes: u64,
    /// Time of last use, in seconds since 1970; 0 when it is not recorded.
    pub last_used: i64,
}

/// Disk usage of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreUsage {
    /// Usage by kind.
    pub kinds: Vec<KindUsage>,
    /// Usage by image.
    pub images: Vec<ImageUsage>,
    /// Usage by object, without blobs.
    pub items: Vec<ItemUsage>,
    /// Total disk usage in bytes.
    pub total_bytes: u64,
}

impl Store {
    /// Computes the disk usage. Images that cannot be read count as having no blobs.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn usage(&self) -> Result<StoreUsage, StoreError> {
        let inventory = StoreInventory::collect(self, false)?;
        let mut usage = StoreUsage::default();
        self.add_image_usage(&inventory, &mut usage);
        let gone = |all: bool| -> BTreeSet<(&'static str, String)> {
            let pruned = self.prune(&PruneOptions { all, dry_run: true, ..PruneOptions::default() });
            pruned.map_or_else(
                |_| BTreeSet::new(),
                |pruned| pruned.items.into_iter().map(|gone| (gone.kind, gone.name)).collect(),
            )
        };
        let (plain, all) = (gone(false), gone(true));
        for item in &inventory.items {
            let (kind, name) = plural_kind_and_name(&item.object);
            let key = (kind_name(&item.object), name.clone());
            let bytes = |set: &BTreeSet<(&'static str, String)>| if set.contains(&key) { item.bytes } else { 0 };
            usage.add_item(kind, item.bytes, bytes(&plain), bytes(&all));
            if !matches!(item.object, StoredObject::Blob(_)) {
                usage.items.push(ItemUsage { kind, name, bytes: item.bytes, last_used: item.last_used });
            }
        }
        let failed = inventory.failed_bytes;
        if failed > 0 {
            usage.add_item("failed", failed, failed, failed);
        }
        let work = disk_usage(&self.join("work"));
        usage.add_item("notes", inventory.other_bytes, 0, 0);
        usage.add_item("work", work, 0, 0);
        usage.total_bytes = inventory.total_bytes() + work;
        usage.items.sort_by(|a, b| (a.kind, b.bytes, &a.name).cmp(&(b.kind, a.bytes, &b.name)));
        Ok(usage)
    }

    fn add_image_usage(&self, inventory: &StoreInventory, usage: &mut StoreUsage) {
        let shares = inventory.images_per_blob();
        for image in &inventory.images {
            let (mut bytes, mut shared) = (0, 0);
            for item in &inventory.items {
                if let StoredObject::Blob(digest) = &item.object
                    && image.blobs.contains(digest)
                {
                    bytes += item.bytes;
                    shared += if shares.get(digest).is_some_and(|count| *count > 1) { item.bytes } else { 0 };
                }
            }
            usage.images.push(ImageUsage { name: image.name.clone(), bytes, shared });
        }
    }
}

impl StoreUsage {
    fn add_item(&mut self, kind: &'static str, bytes: u64, plain: u64, all: u64) {
        let share = match self.kinds.iter_mut().find(|share| share.kind == kind) {
            Some(share) => share,
            None => {
                self.kinds.push(KindUsage { kind, count: 0, bytes: 0, prunable: 0, prunable_with_all: 0 });
                self.kinds.last_mut().expect("it was pushed just now")
            }
        };
        share.count += 1;
        share.bytes += bytes;
        share.prunable += plain;
        share.prunable_with_all += all;
    }
}

fn kind_name(what: &StoredObject) -> &'static str {
    match what {
        StoredObject::Blob(_) => "blob",
        StoredObject::Layer(..) => "layer",
        StoredObject::Step(..) => "step",
        StoredObject::Download(_) => "download",
        StoredObject::Context(_) => "context",
        StoredObject::Cache(..) => "cache",
    }
}

/// Returns the plural of the kind, and the name.
fn plural_kind_and_name(what: &StoredObject) -> (&'static str, String) {
    match what {
        StoredObject::Blob(digest) => ("blobs", digest.to_string()),
        StoredObject::Layer(id, _) => ("layers", id.to_string()),
        StoredObject::Step(_, path, _) => {
            ("steps", String::from_utf8_lossy(path.name().unwrap_or_default()).into_owned())
        }
        StoredObject::Download(name) => ("downloads", name.as_path().display().to_string()),
        StoredObject::Context(name) => ("contexts", name.as_path().display().to_string()),
        StoredObject::Cache(_, id) => ("caches", id.clone()),
    }
}
