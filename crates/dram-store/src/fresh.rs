//! Unsynced layers: crash safety without an fsync of each layer, which would cost more than making it. A marker, the
//! empty file `fresh/BOOT/ID`, is created before a layer is renamed into place, and removed after a later `syncfs(2)`.
//! Markers of this boot have no effect, because reads see all writes. Layers with markers of another boot are verified:
//! a layer named by its content is compared with its id; one extracted from a blob, which was synced, is removed and
//! extracted again on demand.
//!
//! Markers and layer names are both directory entries. Journaling file systems write those in order.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;

use crate::{Dir, LayerId, Rights, Store, StoreError, beside, file};

/// Age of the markers, in seconds, from which a sync is cheap: by then, the kernel has written most of the data.
const SETTLED: i64 = 60;
/// Boot id where the kernel does not tell one.
const UNKNOWN: &str = "unknown";

/// The current boot and the unsynced layers of earlier boots.
#[derive(Debug)]
pub(crate) struct Fresh {
    boot: String,
    /// Layers that may be damaged and cannot be verified now.
    suspects: BTreeSet<String>,
}

impl Fresh {
    pub(crate) fn new() -> Fresh {
        let boot = file::read_small(Path::new("/proc/sys/kernel/random/boot_id"), 64).ok().flatten();
        let boot = boot.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| text.trim().to_owned());
        let boot = boot.filter(|boot| is_boot(boot.as_bytes())).unwrap_or_else(|| UNKNOWN.to_owned());
        Fresh { boot, suspects: BTreeSet::new() }
    }
}

fn is_boot(name: &[u8]) -> bool {
    name.len() == 36 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

/// Returns the name of a layer's marker.
pub(crate) fn mark_of(id: &LayerId, rights: Rights) -> String {
    rights.shelf().map_or_else(|| id.to_string(), |shelf| format!("{id}@{shelf}"))
}

/// Parses the name of a marker into its layer and id mapping.
pub(crate) fn marked(name: &[u8]) -> Option<(LayerId, Rights)> {
    let (id, shelf) = match std::str::from_utf8(name).ok()?.split_once('@') {
        Some((id, shelf)) => (id, Some(shelf)),
        None => (std::str::from_utf8(name).ok()?, None),
    };
    let rights = Rights::All.reach().iter().find(|rights| rights.shelf() == shelf)?;
    Some((id.parse().ok()?, *rights))
}

impl Store {
    fn marks(&self) -> PathBuf {
        self.join("fresh").join(&self.fresh().boot)
    }

    /// Creates the marker of a layer that is about to be renamed into place.
    pub(crate) fn mark(&self, id: &LayerId) -> Result<(), StoreError> {
        let (marks, name) = (self.marks(), mark_of(id, self.rights()));
        let path = marks.join(name);
        let made = File::create(&path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                fs::create_dir_all(&marks)?;
                File::create(&path)
            }
            _ => Err(error),
        });
        made.map(drop).map_err(StoreError::io("write", &path))
    }

    /// Returns true if the layer may have been damaged by a power cut.
    pub(crate) fn suspects(&self, id: &LayerId) -> bool {
        !self.fresh().suspects.is_empty() && self.fresh().suspects.contains(&mark_of(id, self.rights()))
    }

    /// Returns the markers of other boots: their directories, and the names in them.
    fn older_marks(&self) -> Vec<(TreePath, Vec<Vec<u8>>)> {
        let Ok(fresh) = Dir::open(&self.join("fresh")) else { return Vec::new() };
        let is_older = |name: &Vec<u8>| is_boot(name) && name != self.fresh().boot.as_bytes();
        let boots = fresh.names().unwrap_or_default().into_iter().filter(is_older);
        let boots = boots.filter_map(|name| TreePath::parse(&name).ok());
        boots.map(|boot| (boot.clone(), fresh.sub(&boot).and_then(|dir| dir.names()).unwrap_or_default())).collect()
    }

    /// Returns true if there are markers of another boot.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.fresh().boot != UNKNOWN && !self.older_marks().is_empty()
    }

    /// Hides layers with markers of another boot, for processes that cannot verify them.
    pub(crate) fn suspect(&mut self) {
        let marks: Vec<_> = self.older_marks().into_iter().flat_map(|(_, names)| names).collect();
        self.fresh_mut().suspects = marks.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
    }

    /// Verifies the layers that were unsynced when the machine went down, and removes those that cannot be verified.
    /// The store must be open exclusively.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let fresh = Dir::open(&self.join("fresh"))?;
        for (boot, names) in self.older_marks() {
            let mut done = true;
            for name in names {
                match marked(&name) {
                    Some((_, rights)) if !self.rights().reach().contains(&rights) => {
                        done = false;
                        continue;
                    }
                    Some((id, rights)) if !self.is_what_it_says(&id, rights) => self.remove_layer(&id, rights)?,
                    Some(_) | None => {}
                }
                fresh.remove(&boot.join(&name))?;
            }
            if done {
                fresh.remove(&boot)?;
            }
        }
        Ok(())
    }

    /// Returns true if the layer is named by its content and has that content. Other layers cannot be verified this
    /// way.
    pub(crate) fn is_what_it_says(&self, id: &LayerId, rights: Rights) -> bool {
        let path = self.shelf_of(rights, "layers").join(id.as_str());
        let content = || crate::layers::content_of(&Dir::open_layer_with(&path, rights)?);
        rights == self.rights() && id.is_by_content() && content().is_ok_and(|found| found == *id)
    }

    /// Removes an extracted layer and its ownership table. The directory is renamed away first, so that a crash leaves
    /// no partial layer under its id.
    pub(crate) fn remove_layer(&self, id: &LayerId, rights: Rights) -> Result<(), StoreError> {
        let place = self.shelf_of(rights, "layers").join(id.as_str());
        let work = self.work().path();
        let aside = file::temporary(&work);
        match fs::rename(&place, &aside) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            moved => {
                moved.map_err(StoreError::io("remove", &place))?;
                let name = aside.file_name().unwrap_or_default();
                Dir::open(&work)?.remove(&TreePath::parse(std::os::unix::ffi::OsStrExt::as_bytes(name))?)?;
            }
        }
        beside::remove(&beside::table_of(&place))
    }

    /// Removes a damaged layer of this process's subdirectory, and the records that may have been computed from its
    /// damaged content.
    pub(crate) fn remove_damaged(&self, id: &LayerId) -> Result<(), StoreError> {
        self.remove_layer(id, self.rights())?;
        let packs = Dir::open(&self.join("packs"))?;
        let is_of_it = |name: &Vec<u8>| {
            let rest = name.strip_prefix(id.as_str().as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
            let kind = rest.and_then(|rest| std::str::from_utf8(rest).ok()?.split('.').next());
            kind.is_some_and(|kind| kind == "elf" || kind.parse::<i64>().is_ok())
        };
        packs.names()?.iter().filter(|name| is_of_it(name)).try_for_each(|name| packs.remove(&TreePath::parse(name)?))
    }

    /// Removes the markers of layers that do not exist.
    pub(crate) fn forget_marks(&self) -> Result<(), StoreError> {
        let Ok(dir) = Dir::open(&self.marks()) else { return Ok(()) };
        for name in dir.names()? {
            let is_there = |(id, rights): (LayerId, Rights)| {
                self.shelf_of(rights, "layers").join(id.as_str()).symlink_metadata().is_ok()
            };
            if marked(&name).is_some_and(|mark| !is_there(mark)) {
                dir.remove(&TreePath::parse(&name)?)?;
            }
        }
        Ok(())
    }

    /// Syncs the marked layers if the markers are old enough for that to be cheap, and removes the markers.
    pub(crate) fn flush_if_old(&self) -> Result<(), StoreError> {
        let marks = self.marks();
        let (Ok(last), Ok(now)) = (fs::metadata(&marks), fs::metadata(self.work().path())) else { return Ok(()) };
        if (now.mtime() - last.mtime()).abs() < SETTLED {
            return Ok(());
        }
        let dir = Dir::open(&marks)?;
        let names: Vec<_> = dir.names()?.into_iter().filter(|name| marked(name).is_some()).collect();
        if names.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(dir.fd()).map_err(StoreError::os("flush", &marks))?;
        names.iter().try_for_each(|name| dir.remove(&TreePath::parse(name)?))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.work().is_there() {
            // The markers stay, and the next process tries again.
            let _ = self.flush_if_old();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(store: &Store, text: &str) -> LayerId {
        let made = store.work().fresh().unwrap();
        fs::write(made.join("file"), text).unwrap();
        store.layers().commit(&made).unwrap()
    }

    /// Simulates a reboot.
    fn boot(store: &Store) {
        fs::rename(store.marks(), store.join("fresh/00000000-0000-4000-8000-000000000000")).unwrap();
    }

    #[test]
    fn unsynced_layer_is_verified_after_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (whole, cut) = (layer(&store, "whole"), layer(&store, "cut"));
        let unpacked = LayerId::of_diff(&dram_image::Digest::of(b""));
        store.mark(&unpacked).unwrap();
        fs::create_dir(store.layers().path(&unpacked)).unwrap();
        fs::write(store.layers().path(&cut).join("file"), "").unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert!([&whole, &cut, &unpacked].into_iter().all(|id| store.layers().has(id)), "the same boot");
        boot(&store);
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let there = [&whole, &cut, &unpacked].map(|id| store.layers().has(id));
        assert_eq!(there, [true, false, false]);
        assert_eq!(Dir::open(&store.join("fresh")).unwrap().names().unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn old_markers_are_removed_after_a_sync() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        layer(&store, "one");
        let count = |store: &Store| fs::read_dir(store.marks()).unwrap().count();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(count(&store), 1);
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::open(store.marks()).unwrap().set_modified(old).unwrap();
        drop(store);
        assert_eq!(count(&Store::open(dir.path()).unwrap()), 0);
    }

    #[test]
    fn unverified_layer_is_not_used_while_the_store_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = layer(&store, "one");
        boot(&store);
        let second = Store::open(dir.path()).unwrap();
        assert!(!second.layers().has(&id), "the first one may work with it");
        drop((store, second));
        assert!(Store::open(dir.path()).unwrap().layers().has(&id));
    }
}
