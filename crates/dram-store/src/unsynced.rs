//! Unsynced layers: crash safety without an fsync of each layer, which would cost more than making it. A marker, the
//! empty file `unsynced/BOOT/ID`, is created before a layer is renamed into place, and removed after a later `syncfs(2)`.
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

use crate::{Dir, IdMapping, LayerId, Store, StoreError, atomic_file, ownership};

/// Age of the markers, in seconds, from which a sync is cheap: by then, the kernel has written most of the data.
const MIN_SYNC_AGE: i64 = 60;
/// Boot id where the kernel does not tell one.
const UNKNOWN_BOOT: &str = "unknown";

/// The current boot and the unsynced layers of earlier boots.
#[derive(Debug)]
pub(crate) struct UnsyncedLayers {
    boot_id: String,
    /// Layers that may be damaged and cannot be verified now.
    suspects: BTreeSet<String>,
}

impl UnsyncedLayers {
    pub(crate) fn new() -> UnsyncedLayers {
        let boot = atomic_file::read_limited(Path::new("/proc/sys/kernel/random/boot_id"), 64).ok().flatten();
        let boot = boot.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| text.trim().to_owned());
        let boot_id = boot.filter(|boot| is_boot_id(boot.as_bytes())).unwrap_or_else(|| UNKNOWN_BOOT.to_owned());
        UnsyncedLayers { boot_id, suspects: BTreeSet::new() }
    }
}

fn is_boot_id(name: &[u8]) -> bool {
    name.len() == 36 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

/// Returns the name of a layer's marker.
pub(crate) fn marker_name(id: &LayerId, id_mapping: IdMapping) -> String {
    id_mapping.privilege_subdir().map_or_else(|| id.to_string(), |subdir| format!("{id}@{subdir}"))
}

/// Parses the name of a marker into its layer and id mapping.
pub(crate) fn parse_marker(name: &[u8]) -> Option<(LayerId, IdMapping)> {
    let (id, subdir) = match std::str::from_utf8(name).ok()?.split_once('@') {
        Some((id, subdir)) => (id, Some(subdir)),
        None => (std::str::from_utf8(name).ok()?, None),
    };
    let id_mapping = IdMapping::Root.manageable().iter().find(|id_mapping| id_mapping.privilege_subdir() == subdir)?;
    Some((id.parse().ok()?, *id_mapping))
}

impl Store {
    fn marker_dir(&self) -> PathBuf {
        self.join("unsynced").join(&self.unsynced().boot_id)
    }

    /// Creates the marker of a layer that is about to be renamed into place.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
    pub(crate) fn mark_unsynced(&self, id: &LayerId) -> Result<(), StoreError> {
        let (marks, name) = (self.marker_dir(), marker_name(id, self.id_mapping()));
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
    pub(crate) fn is_suspect(&self, id: &LayerId) -> bool {
        !self.unsynced().suspects.is_empty() && self.unsynced().suspects.contains(&marker_name(id, self.id_mapping()))
    }

    /// Returns the markers of other boots: their directories, and the names in them.
    fn markers_of_other_boots(&self) -> Vec<(TreePath, Vec<Vec<u8>>)> {
        let Ok(fresh) = Dir::open(&self.join("unsynced")) else { return Vec::new() };
        let is_older = |name: &Vec<u8>| is_boot_id(name) && name != self.unsynced().boot_id.as_bytes();
        let boots = fresh.names().unwrap_or_default().into_iter().filter(is_older);
        let boots = boots.filter_map(|name| TreePath::parse(&name).ok());
        boots
            .map(|boot| (boot.clone(), fresh.open_subdir(&boot).and_then(|dir| dir.names()).unwrap_or_default()))
            .collect()
    }

    /// Returns true if there are markers of another boot.
    pub(crate) fn has_markers_of_other_boots(&self) -> bool {
        self.unsynced().boot_id != UNKNOWN_BOOT && !self.markers_of_other_boots().is_empty()
    }

    /// Hides layers with markers of another boot, for processes that cannot verify them.
    pub(crate) fn load_suspects(&mut self) {
        let marks: Vec<_> = self.markers_of_other_boots().into_iter().flat_map(|(_, names)| names).collect();
        self.unsynced_mut().suspects = marks.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
    }

    /// Verifies the layers that were unsynced when the machine went down, and removes those that cannot be verified.
    /// The store must be open exclusively.
    pub(crate) fn verify_unsynced(&self) -> Result<(), StoreError> {
        let fresh = Dir::open(&self.join("unsynced"))?;
        for (boot, names) in self.markers_of_other_boots() {
            let mut done = true;
            for name in names {
                match parse_marker(&name) {
                    Some((_, id_mapping)) if !self.id_mapping().manageable().contains(&id_mapping) => {
                        done = false;
                        continue;
                    }
                    Some((id, id_mapping)) if !self.layer_matches_id(&id, id_mapping) => {
                        self.remove_layer(&id, id_mapping)?;
                    }
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
    pub(crate) fn layer_matches_id(&self, id: &LayerId, id_mapping: IdMapping) -> bool {
        let path = self.subdir_of(id_mapping, "layers").join(id.as_str());
        let content = || crate::layers::content_layer_id(&Dir::open_layer_with(&path, id_mapping)?);
        id_mapping == self.id_mapping() && id.is_content_addressed() && content().is_ok_and(|found| found == *id)
    }

    /// Removes an extracted layer and its ownership table. The directory is renamed away first, so that a crash leaves
    /// no partial layer under its id.
    pub(crate) fn remove_layer(&self, id: &LayerId, id_mapping: IdMapping) -> Result<(), StoreError> {
        let place = self.subdir_of(id_mapping, "layers").join(id.as_str());
        let work = self.work_dir().path();
        let aside = atomic_file::temp_path(&work);
        match fs::rename(&place, &aside) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            moved => {
                moved.map_err(StoreError::io("remove", &place))?;
                let name = aside.file_name().unwrap_or_default();
                Dir::open(&work)?.remove(&TreePath::parse(std::os::unix::ffi::OsStrExt::as_bytes(name))?)?;
            }
        }
        ownership::remove_table(&ownership::ownership_table_path(&place))
    }

    /// Removes a damaged layer of this process's subdirectory, and the records that may have been computed from its
    /// damaged content.
    pub(crate) fn remove_damaged_layer(&self, id: &LayerId) -> Result<(), StoreError> {
        self.remove_layer(id, self.id_mapping())?;
        let packs = Dir::open(&self.join("packs"))?;
        let is_of_it = |name: &Vec<u8>| {
            let rest = name.strip_prefix(id.as_str().as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
            let kind = rest.and_then(|rest| std::str::from_utf8(rest).ok()?.split('.').next());
            kind.is_some_and(|kind| kind.parse::<i64>().is_ok())
        };
        packs.names()?.iter().filter(|name| is_of_it(name)).try_for_each(|name| packs.remove(&TreePath::parse(name)?))
    }

    /// Removes the markers of layers that do not exist.
    pub(crate) fn remove_stale_markers(&self) -> Result<(), StoreError> {
        let Ok(dir) = Dir::open(&self.marker_dir()) else { return Ok(()) };
        for name in dir.names()? {
            let is_there = |(id, id_mapping): (LayerId, IdMapping)| {
                self.subdir_of(id_mapping, "layers").join(id.as_str()).symlink_metadata().is_ok()
            };
            if parse_marker(&name).is_some_and(|mark| !is_there(mark)) {
                dir.remove(&TreePath::parse(&name)?)?;
            }
        }
        Ok(())
    }

    /// Syncs the marked layers if the markers are old enough for that to be cheap, and removes the markers.
    pub(crate) fn sync_if_old(&self) -> Result<(), StoreError> {
        let marks = self.marker_dir();
        let (Ok(last), Ok(now)) = (fs::metadata(&marks), fs::metadata(self.work_dir().path())) else { return Ok(()) };
        if (now.mtime() - last.mtime()).abs() < MIN_SYNC_AGE {
            return Ok(());
        }
        let dir = Dir::open(&marks)?;
        let names: Vec<_> = dir.names()?.into_iter().filter(|name| parse_marker(name).is_some()).collect();
        if names.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(dir.fd()).map_err(StoreError::errno("flush", &marks))?;
        names.iter().try_for_each(|name| dir.remove(&TreePath::parse(name)?))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.work_dir().is_writable() {
            // The markers stay, and the next process tries again.
            let _ = self.sync_if_old();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(store: &Store, text: &str) -> LayerId {
        let made = store.work_dir().temp_dir().unwrap();
        fs::write(made.join("file"), text).unwrap();
        store.layers().commit(&made).unwrap()
    }

    /// Simulates a reboot.
    fn boot(store: &Store) {
        fs::rename(store.marker_dir(), store.join("unsynced/00000000-0000-4000-8000-000000000000")).unwrap();
    }

    #[test]
    fn unsynced_layer_is_verified_after_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (whole, cut) = (layer(&store, "whole"), layer(&store, "cut"));
        let unpacked = LayerId::from_diff_id(&dram_image::Digest::of(b""));
        store.mark_unsynced(&unpacked).unwrap();
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
        assert_eq!(Dir::open(&store.join("unsynced")).unwrap().names().unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn old_markers_are_removed_after_a_sync() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        layer(&store, "one");
        let count = |store: &Store| fs::read_dir(store.marker_dir()).unwrap().count();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(count(&store), 1);
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::open(store.marker_dir()).unwrap().set_modified(old).unwrap();
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
