//! Disk usage: blocks, not lengths, and a hard-linked file once.
//!
//! A layer is immutable, so it is measured once: the results are cached in `sizes`, as JSON, which is rewritten when
//! something was added. Lost entries are measured again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use dram_image::TreePath;
use rustix::fs::{AtFlags, FileType};

use crate::file::{self, Durable};
use crate::fresh::mark_of;
use crate::{Dir, LayerId, Rights, Store};

/// Maximum size of the file; it is enough for a hundred thousand layers.
const LARGEST: u64 = 32 << 20;

/// Returns the disk usage of `path` and everything below it in bytes. Unreadable parts are skipped.
pub(crate) fn on_disk(path: &Path) -> u64 {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return 0 };
    let name = TreePath::parse(std::os::unix::ffi::OsStrExt::as_bytes(name));
    let (Ok(parent), Ok(name)) = (Dir::open(parent), name) else { return 0 };
    below(&parent, name)
}

fn below(root: &Dir, start: TreePath) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    let mut todo = vec![start];
    while let Some(path) = todo.pop() {
        let Ok(stat) = rustix::fs::statat(root.fd(), path.as_path(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if is_dir {
            let names = root.sub(&path).and_then(|dir| dir.names()).unwrap_or_default();
            todo.extend(names.iter().map(|name| path.join(name)));
        }
    }
    bytes
}

/// Cached disk usage of layers and cache mounts.
#[derive(Debug)]
pub(crate) struct Sizes<'a> {
    store: &'a Store,
    known: RefCell<BTreeMap<String, u64>>,
    asked: RefCell<HashSet<String>>,
    is_new: RefCell<bool>,
}

impl<'a> Sizes<'a> {
    pub(crate) fn of(store: &'a Store) -> Sizes<'a> {
        let bytes = file::read_small(&store.join("sizes"), LARGEST).ok().flatten().unwrap_or_default();
        let known = serde_json::from_slice(&bytes).unwrap_or_default();
        Sizes { store, known: RefCell::new(known), asked: RefCell::default(), is_new: RefCell::new(false) }
    }

    /// Returns the disk usage of an extracted layer.
    pub(crate) fn layer(&self, id: &LayerId, rights: Rights) -> u64 {
        let path = self.store.shelf_of(rights, "layers").join(id.as_str());
        self.measured(&mark_of(id, rights), &|| on_disk(&path))
    }

    /// Returns the disk usage of the cache mount in `directory` with that time of last use.
    pub(crate) fn cache(&self, directory: &str, used: i64) -> u64 {
        let path = self.store.join("caches").join(directory);
        self.measured(&format!("{directory} {used}"), &|| on_disk(&path))
    }

    fn measured(&self, name: &str, measure: &dyn Fn() -> u64) -> u64 {
        self.asked.borrow_mut().insert(name.to_owned());
        if let Some(bytes) = self.known.borrow().get(name) {
            return *bytes;
        }
        let bytes = measure();
        *self.is_new.borrow_mut() = true;
        self.known.borrow_mut().insert(name.to_owned(), bytes);
        bytes
    }

    /// Saves new entries, without those that were not requested: their objects are gone.
    pub(crate) fn keep(self) {
        let (mut known, asked) = (self.known.into_inner(), self.asked.into_inner());
        known.retain(|name, _| asked.contains(name));
        if self.is_new.into_inner() && self.store.must_be_writable().is_ok() {
            let bytes = serde_json::to_vec(&known).expect("plain data becomes JSON");
            let _ = file::replace(&self.store.join("sizes"), &bytes, &self.store.work().path(), Durable::No);
        }
    }
}
