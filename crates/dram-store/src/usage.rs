//! Disk usage of a store, by kind, image and object.

use std::collections::BTreeSet;

use crate::inventory::{Inventory, What};
use crate::sizes::on_disk;
use crate::{Store, StoreError, Wish};

/// Disk usage of one kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Kind of the objects, as shown to users.
    pub kind: &'static str,
    /// Number of objects.
    pub count: usize,
    /// Disk usage in bytes.
    pub bytes: u64,
    /// Bytes that a plain prune frees.
    pub plain: u64,
    /// Bytes that `prune --all` frees.
    pub all: u64,
}

/// Disk usage of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageShare {
    /// Name of the image.
    pub name: String,
    /// Total size of its blobs in bytes.
    pub bytes: u64,
    /// Size in bytes of the blobs that it shares with other images.
    pub shared: u64,
}

/// Disk usage of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Kind of the object, as in [`KindUsage`].
    pub kind: &'static str,
    /// Name of the object.
    pub name: String,
    /// Disk usage in bytes.
    pub bytes: u64,
    /// Time of last use, in seconds since 1970; 0 when it is not recorded.
    pub used: i64,
}

/// Disk usage of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Usage by kind.
    pub shares: Vec<Share>,
    /// Usage by image.
    pub images: Vec<ImageShare>,
    /// Usage by object, without blobs.
    pub things: Vec<Taken>,
    /// Total disk usage in bytes.
    pub total: u64,
}

impl Store {
    /// Computes the disk usage. Images that cannot be read count as having no blobs.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let inventory = Inventory::of(self, false)?;
        let mut usage = Usage::default();
        self.images_of(&inventory, &mut usage);
        let gone = |all: bool| -> BTreeSet<(&'static str, String)> {
            let pruned = self.prune(&Wish { all, dry: true, ..Wish::default() });
            pruned.map_or_else(
                |_| BTreeSet::new(),
                |pruned| pruned.gone.into_iter().map(|gone| (gone.kind, gone.name)).collect(),
            )
        };
        let (plain, all) = (gone(false), gone(true));
        for item in &inventory.items {
            let (kind, name) = named(&item.what);
            let key = (kind_of(&item.what), name.clone());
            let bytes = |set: &BTreeSet<(&'static str, String)>| if set.contains(&key) { item.bytes } else { 0 };
            usage.add(kind, item.bytes, bytes(&plain), bytes(&all));
            if !matches!(item.what, What::Blob(_)) {
                usage.things.push(Taken { kind, name, bytes: item.bytes, used: item.used });
            }
        }
        let failed = inventory.failed;
        if failed > 0 {
            usage.add("failed", failed, failed, failed);
        }
        let work = on_disk(&self.join("work"));
        usage.add("notes", inventory.rest, 0, 0);
        usage.add("work", work, 0, 0);
        usage.total = inventory.total() + work;
        usage.things.sort_by(|a, b| (a.kind, b.bytes, &a.name).cmp(&(b.kind, a.bytes, &b.name)));
        Ok(usage)
    }

    fn images_of(&self, inventory: &Inventory, usage: &mut Usage) {
        let shares = inventory.shares();
        for image in &inventory.images {
            let (mut bytes, mut shared) = (0, 0);
            for item in &inventory.items {
                if let What::Blob(digest) = &item.what
                    && image.blobs.contains(digest)
                {
                    bytes += item.bytes;
                    shared += if shares.get(digest).is_some_and(|count| *count > 1) { item.bytes } else { 0 };
                }
            }
            usage.images.push(ImageShare { name: image.name.clone(), bytes, shared });
        }
    }
}

impl Usage {
    fn add(&mut self, kind: &'static str, bytes: u64, plain: u64, all: u64) {
        let share = match self.shares.iter_mut().find(|share| share.kind == kind) {
            Some(share) => share,
            None => {
                self.shares.push(Share { kind, count: 0, bytes: 0, plain: 0, all: 0 });
                self.shares.last_mut().expect("it was pushed just now")
            }
        };
        share.count += 1;
        share.bytes += bytes;
        share.plain += plain;
        share.all += all;
    }
}

fn kind_of(what: &What) -> &'static str {
    match what {
        What::Blob(_) => "blob",
        What::Layer(..) => "layer",
        What::Step(..) => "step",
        What::Download(_) => "download",
        What::Context(_) => "context",
        What::Cache(..) => "cache",
    }
}

/// Returns the plural of the kind, and the name.
fn named(what: &What) -> (&'static str, String) {
    match what {
        What::Blob(digest) => ("blobs", digest.to_string()),
        What::Layer(id, _) => ("layers", id.to_string()),
        What::Step(_, path, _) => ("steps", String::from_utf8_lossy(path.name().unwrap_or_default()).into_owned()),
        What::Download(name) => ("downloads", name.as_path().display().to_string()),
        What::Context(name) => ("contexts", name.as_path().display().to_string()),
        What::Cache(_, id) => ("caches", id.clone()),
    }
}
