//! Disk usage: blocks, not lengths, and a hard-linked file once.
//!
//! A layer is immutable, so it is measured once: the results are cached in `sizes`, as JSON, which is rewritten when
//! something was added. Lost entries are measured again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use dram_image::TreePath;
use rustix::fs::{AtFlags, FileType};

use crate::atomic_file::{self, Durability};
use crate::tree_walk::TreeWalk;
use crate::unsynced::marker_name;
use crate::{Dir, IdMapping, LayerId, Store};

/// Maximum size of the file; it is enough for a hundred thousand layers.
const MAX_FILE_SIZE: u64 = 32 << 20;

/// Returns the disk usage of `path` and everything below it in bytes. Unreadable parts are skipped.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return 0 };
    let name = TreePath::parse(std::os::unix::ffi::OsStrExt::as_bytes(name));
    let (Ok(parent), Ok(name)) = (Dir::open(parent), name) else { return 0 };
    disk_usage_below(&parent, name)
}

fn disk_usage_below(root: &Dir, start: TreePath) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    let mut walk = TreeWalk::new(start);
    while let Some(path) = walk.next_path() {
        let Ok(stat) = rustix::fs::statat(root.fd(), path.as_path(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if is_dir {
            let names = root.open_subdir(&path).and_then(|dir| dir.names()).unwrap_or_default();
            walk.enter(path, names);
        }
    }
    bytes
}

/// Cached disk usage of layers and cache mounts.
#[derive(Debug)]
pub(crate) struct SizeCache<'a> {
    store: &'a Store,
    sizes: RefCell<BTreeMap<String, u64>>,
    requested: RefCell<HashSet<String>>,
    is_dirty: RefCell<bool>,
}

impl<'a> SizeCache<'a> {
    pub(crate) fn load(store: &'a Store) -> SizeCache<'a> {
        let bytes = atomic_file::read_limited(&store.join("sizes"), MAX_FILE_SIZE).ok().flatten().unwrap_or_default();
        let sizes = serde_json::from_slice(&bytes).unwrap_or_default();
        SizeCache { store, sizes: RefCell::new(sizes), requested: RefCell::default(), is_dirty: RefCell::new(false) }
    }

    /// Returns the disk usage of an extracted layer.
    pub(crate) fn layer_size(&self, id: &LayerId, id_mapping: IdMapping) -> u64 {
        let path = self.store.subdir_of(id_mapping, "layers").join(id.as_str());
        self.get_or_measure(&marker_name(id, id_mapping), &|| disk_usage(&path))
    }

    /// Returns the disk usage of the cache mount in `directory` with that time of last use.
    pub(crate) fn cache_size(&self, directory: &str, used: i64) -> u64 {
        let path = self.store.join("caches").join(directory);
        self.get_or_measure(&format!("{directory} {used}"), &|| disk_usage(&path))
    }

    fn get_or_measure(&self, name: &str, measure: &dyn Fn() -> u64) -> u64 {
        self.requested.borrow_mut().insert(name.to_owned());
        if let Some(bytes) = self.sizes.borrow().get(name) {
            return *bytes;
        }
        let bytes = measure();
        *self.is_dirty.borrow_mut() = true;
        self.sizes.borrow_mut().insert(name.to_owned(), bytes);
        bytes
    }

    /// Saves new entries, without those that were not requested: their objects are gone.
    pub(crate) fn save(self) {
        let (mut sizes, requested) = (self.sizes.into_inner(), self.requested.into_inner());
        sizes.retain(|name, _| requested.contains(name));
        if self.is_dirty.into_inner() && self.store.require_writable().is_ok() {
            let bytes = serde_json::to_vec(&sizes).expect("plain data becomes JSON");
            let _ = atomic_file::write_atomic(
                &self.store.join("sizes"),
                &bytes,
                MAX_FILE_SIZE,
                &self.store.work_dir().path(),
                Durability::Unsynced,
            );
        }
    }
}
