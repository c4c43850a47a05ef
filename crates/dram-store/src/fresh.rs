//! What a power cut may take. Layers are not flushed one by one: that would cost more than to make them. So a layer is
//! marked before it gets its name, by an empty file `fresh/BOOT/ID`, and the mark goes when the file system was flushed
//! (`syncfs(2)`) after it. Marks of this boot say nothing: what was written is what is read. Those of another boot do:
//! a layer that is named by its content is compared with its name, and one that was unpacked from a blob, which was
//! flushed, is removed and unpacked again when it is wanted.
//!
//! Marks and the names of layers are both entries of directories. File systems with a journal bring those to the disk
//! in the order in which they were made.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;

use crate::{Dir, LayerId, Rights, Store, StoreError, beside, file};

/// Marks that are older than so many seconds are worth a flush: by then, the system has written most of it by itself.
const SETTLED: i64 = 60;
/// What a boot is called where the kernel does not say.
const UNKNOWN: &str = "unknown";

/// What is known of boots and marks.
#[derive(Debug)]
pub(crate) struct Fresh {
    boot: String,
    /// Layers that may be damaged and cannot be looked into now.
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

/// The name of a layer's mark.
pub(crate) fn mark_of(id: &LayerId, rights: Rights) -> String {
    rights.shelf().map_or_else(|| id.to_string(), |shelf| format!("{id}@{shelf}"))
}

/// The layer that a mark is for.
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

    /// Marks a layer that is about to get its name.
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

    /// Whether the layer may have been damaged by a power cut.
    pub(crate) fn suspects(&self, id: &LayerId) -> bool {
        !self.fresh().suspects.is_empty() && self.fresh().suspects.contains(&mark_of(id, self.rights()))
    }

    /// The marks of other boots: directories, and the names in them.
    fn older_marks(&self) -> Vec<(TreePath, Vec<Vec<u8>>)> {
        let Ok(fresh) = Dir::open(&self.join("fresh")) else { return Vec::new() };
        let is_older = |name: &Vec<u8>| is_boot(name) && name != self.fresh().boot.as_bytes();
        let boots = fresh.names().unwrap_or_default().into_iter().filter(is_older);
        let boots = boots.filter_map(|name| TreePath::parse(&name).ok());
        boots.map(|boot| (boot.clone(), fresh.sub(&boot).and_then(|dir| dir.names()).unwrap_or_default())).collect()
    }

    /// Whether there are marks of another boot.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.fresh().boot != UNKNOWN && !self.older_marks().is_empty()
    }

    /// What is marked since another boot is not looked at any more, by those who cannot look into it.
    pub(crate) fn suspect(&mut self) {
        let marks: Vec<_> = self.older_marks().into_iter().flat_map(|(_, names)| names).collect();
        self.fresh_mut().suspects = marks.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
    }

    /// Looks into what was not flushed when the machine went down, and removes what it cannot vouch for. The store is
    /// open alone.
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

    /// Whether a layer that is named by its content has that content. Of other layers nobody knows.
    pub(crate) fn is_what_it_says(&self, id: &LayerId, rights: Rights) -> bool {
        let path = self.shelf_of(rights, "layers").join(id.as_str());
        let content = || crate::layers::content_of(&Dir::open_layer_with(&path, rights)?);
        rights == self.rights() && id.is_by_content() && content().is_ok_and(|found| found == *id)
    }

    /// Removes an unpacked layer, and what is written down of it. Its name goes first: whoever is killed here leaves no
    /// part of a layer under it.
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

    /// The same for a layer of this process's shelf that was found damaged: notes go that may have been taken from it as
    /// it was.
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

    /// Takes off the marks of layers that are gone.
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

    /// Flushes what is marked, if the marks are old enough for that to cost little, and takes them off.
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
            // The marks stay, and the next one tries again.
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

    /// As if the machine had started again since.
    fn boot(store: &Store) {
        fs::rename(store.marks(), store.join("fresh/00000000-0000-4000-8000-000000000000")).unwrap();
    }

    #[test]
    fn a_layer_that_was_not_flushed_is_looked_into_after_a_boot() {
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
    fn marks_go_when_they_are_old_and_what_they_mark_was_flushed() {
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
    fn what_others_did_not_settle_is_not_used() {
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
