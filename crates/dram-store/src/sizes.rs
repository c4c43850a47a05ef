//! What things take on the disk: blocks, not lengths, and a file with several names once.
//!
//! A layer does not change, so that it is measured once: `sizes` holds what was found, as JSON, and is written anew when
//! something was added. What is lost of it is measured again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use dram_image::TreePath;
use rustix::fs::{AtFlags, FileType};

use crate::file::{self, Durable};
use crate::fresh::mark_of;
use crate::{Dir, LayerId, Rights, Store};

/// A hundred thousand layers.
const LARGEST: u64 = 32 << 20;

/// The bytes that what is at `path` takes, with all that is below it, as far as it can be looked at.
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

/// What was measured.
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

    /// What an unpacked layer takes.
    pub(crate) fn layer(&self, id: &LayerId, rights: Rights) -> u64 {
        let path = self.store.shelf_of(rights, "layers").join(id.as_str());
        self.measured(&mark_of(id, rights), &|| on_disk(&path))
    }

    /// What the cache in `directory` takes, which was last used at that time.
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

    /// Writes down what is new, without what nobody asked for: that is gone.
    pub(crate) fn keep(self) {
        let (mut known, asked) = (self.known.into_inner(), self.asked.into_inner());
        known.retain(|name, _| asked.contains(name));
        if self.is_new.into_inner() && self.store.must_be_writable().is_ok() {
            let bytes = serde_json::to_vec(&known).expect("plain data becomes JSON");
            let _ = file::replace(&self.store.join("sizes"), &bytes, &self.store.work().path(), Durable::No);
        }
    }
}
