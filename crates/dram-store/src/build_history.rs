//! Build journals, one for each combination of Dockerfile, build context and platform. A journal is replaced as a
//! whole; its file lists are named by their content. No build needs this data: without it, cache misses are not
//! explained.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dram_image::TreePath;

use crate::atomic_file::{self, Durability};
use crate::{Dir, StepKey, Store, StoreError};

/// Maximum number of journals; the one that was built least recently is evicted.
pub const MAX_BUILDS: usize = 128;
/// Maximum size of a journal; one of ten thousand steps is shorter.
const MAX_JOURNAL_SIZE: u64 = 64 << 20;
/// Maximum size of a file list; one of a hundred thousand files is shorter.
const MAX_LIST_SIZE: u64 = 64 << 20;
/// Number of bytes at the start of a journal that [`BuildHistory::journal_head`] returns.
pub const JOURNAL_HEAD_SIZE: usize = 64;
const JOURNAL_NAME: &str = "journal";
/// Name of the file that exists once a journal was evicted because there were too many.
const EVICTED_MARKER: &str = "forgot";
/// Name of the file that exists once all journals were removed.
const PRUNED_MARKER: &str = "pruned";

/// The reason why a build without a journal may have run before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalLoss {
    /// All journals were removed by a prune, and none was evicted since.
    Pruned,
    /// Only the journals of the most recent builds are kept.
    Evicted,
}

/// The journals of earlier builds.
#[derive(Debug, Clone, Copy)]
pub struct BuildHistory<'a> {
    store: &'a Store,
}

/// A build that has a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentBuild {
    /// Key of the build.
    pub build: StepKey,
    /// Time of the last build.
    pub last_built: SystemTime,
}

impl<'a> BuildHistory<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        BuildHistory { store }
    }

    fn root(self) -> PathBuf {
        self.store.join("history")
    }

    fn path(self, place: &StepKey, name: &str) -> PathBuf {
        self.root().join(place.hex()).join(name)
    }

    /// Returns the first bytes of the build's journal, if it has one that is long enough.
    pub fn journal_head(self, place: &StepKey) -> Option<[u8; JOURNAL_HEAD_SIZE]> {
        let mut head = [0; JOURNAL_HEAD_SIZE];
        File::open(self.path(place, JOURNAL_NAME)).ok()?.read_exact(&mut head).ok()?;
        Some(head)
    }

    /// Returns the build's journal; `None` when there is none that can be read.
    pub fn journal(self, place: &StepKey) -> Option<Vec<u8>> {
        atomic_file::read_limited(&self.path(place, JOURNAL_NAME), MAX_JOURNAL_SIZE).ok()?
    }

    /// Records that the build ran just now, and that its journal is still valid.
    pub fn touch(self, place: &StepKey) {
        // A failure is harmless: another build may count as the last one.
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        let path = self.path(place, JOURNAL_NAME);
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty());
    }

    /// Returns true if the build has the file list `name`.
    pub fn has_file_list(self, place: &StepKey, name: &StepKey) -> bool {
        self.path(place, &name.hex()).is_file()
    }

    /// Returns the file list `name` of the build; `None` when there is none that can be read.
    pub fn file_list(self, place: &StepKey, name: &StepKey) -> Option<Vec<u8>> {
        atomic_file::read_limited(&self.path(place, &name.hex()), MAX_LIST_SIZE).ok()?
    }

    /// Adds a file list to the build.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn put_file_list(self, place: &StepKey, name: &StepKey, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() as u64 > MAX_LIST_SIZE {
            return Ok(());
        }
        self.create_build_dir(place)?;
        atomic_file::write_atomic(
            &self.path(place, &name.hex()),
            bytes,
            MAX_LIST_SIZE,
            &self.store.work_dir().path(),
            Durability::Unsynced,
        )
    }

    /// Replaces the build's journal, and removes the file lists that are not among `lists`.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn put_journal(self, place: &StepKey, bytes: &[u8], lists: &BTreeSet<StepKey>) -> Result<(), StoreError> {
        if bytes.len() as u64 > MAX_JOURNAL_SIZE {
            return Ok(());
        }
        self.create_build_dir(place)?;
        atomic_file::write_atomic(
            &self.path(place, JOURNAL_NAME),
            bytes,
            MAX_JOURNAL_SIZE,
            &self.store.work_dir().path(),
            Durability::Unsynced,
        )?;
        let dir = Dir::open(&self.root().join(place.hex()))?;
        let keep: BTreeSet<String> = lists.iter().map(StepKey::hex).chain([JOURNAL_NAME.to_owned()]).collect();
        for name in dir.names()? {
            let name_read = String::from_utf8_lossy(&name);
            if name_read.parse::<StepKey>().is_ok() && !keep.contains(name_read.as_ref()) {
                dir.remove(&TreePath::parse(&name)?)?;
            }
        }
        Ok(())
    }

    /// Returns all builds, the last one first.
    pub fn list(self) -> Vec<RecentBuild> {
        let names = Dir::open(&self.root()).and_then(|dir| dir.names()).unwrap_or_default();
        let mut all: Vec<RecentBuild> = names.iter().filter_map(|name| self.recent_build(name)).collect();
        all.sort_by_key(|visited| std::cmp::Reverse(visited.last_built));
        all
    }

    fn recent_build(self, name: &[u8]) -> Option<RecentBuild> {
        let place = std::str::from_utf8(name).ok()?.parse().ok()?;
        // An entry without a journal was left by a build that was killed: it is evicted first.
        let time = fs::metadata(self.path(&place, JOURNAL_NAME)).and_then(|meta| meta.modified());
        Some(RecentBuild { build: place, last_built: time.unwrap_or(SystemTime::UNIX_EPOCH) })
    }

    /// Returns why a build without a journal may have run before; `None` if no journal was ever removed.
    pub fn journal_loss(self) -> Option<JournalLoss> {
        let has = |marker: &str| self.root().join(marker).exists();
        match (has(EVICTED_MARKER), has(PRUNED_MARKER)) {
            (true, _) => Some(JournalLoss::Evicted),
            (false, true) => Some(JournalLoss::Pruned),
            (false, false) => None,
        }
    }

    fn create_build_dir(self, place: &StepKey) -> Result<(), StoreError> {
        let dir = self.root().join(place.hex());
        if dir.is_dir() {
            return Ok(());
        }
        self.evict_all_but(MAX_BUILDS - 1, EVICTED_MARKER)?;
        fs::create_dir_all(&dir).map_err(StoreError::io("make the directory", &dir))
    }

    /// Removes all journals.
    pub(crate) fn remove_all(self) -> Result<(), StoreError> {
        self.evict_all_but(0, PRUNED_MARKER)?;
        // What was built before the prune is gone, however it was lost.
        if self.root().join(PRUNED_MARKER).exists() {
            let evicted = self.root().join(EVICTED_MARKER);
            match fs::remove_file(&evicted) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &evicted)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Evicts all but the `keep` most recent builds, and creates `marker` if there are others.
    fn evict_all_but(self, keep: usize, marker: &str) -> Result<(), StoreError> {
        let root = self.root();
        if !root.is_dir() {
            return Ok(());
        }
        let mut all = self.list();
        let gone = all.split_off(keep.min(all.len()));
        if gone.is_empty() {
            return Ok(());
        }
        create_marker(&root.join(marker))?;
        let dir = Dir::open(&root)?;
        for visited in gone {
            dir.remove(&TreePath::parse(visited.build.hex().as_bytes())?)?;
        }
        Ok(())
    }
}

fn create_marker(path: &Path) -> Result<(), StoreError> {
    File::create(path).map(drop).map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> StepKey {
        StepKey::of([text.as_bytes()])
    }

    #[test]
    fn new_journal_keeps_only_the_file_lists_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (places, place) = (store.build_history(), key("place"));
        assert_eq!((places.journal(&place), places.list(), places.journal_loss()), (None, Vec::new(), None));
        places.put_file_list(&place, &key("one"), b"1").unwrap();
        places.put_file_list(&place, &key("two"), b"2").unwrap();
        places.put_journal(&place, b"short", &BTreeSet::from([key("two")])).unwrap();
        assert_eq!(places.file_list(&place, &key("one")), None);
        assert_eq!(places.file_list(&place, &key("two")).unwrap(), b"2");
        assert_eq!((places.journal(&place).unwrap(), places.journal_head(&place)), (b"short".to_vec(), None));
        places.put_journal(&place, &[b'x'; 100], &BTreeSet::new()).unwrap();
        assert_eq!(places.journal_head(&place), Some([b'x'; JOURNAL_HEAD_SIZE]));
        assert!(!places.has_file_list(&place, &key("two")));
    }

    #[test]
    fn oldest_journals_are_evicted_and_eviction_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let places = store.build_history();
        for number in 0..MAX_BUILDS + 3 {
            let place = key(&number.to_string());
            places.put_journal(&place, b"{}", &BTreeSet::new()).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            File::options().write(true).open(places.path(&place, JOURNAL_NAME)).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(places.list().len(), MAX_BUILDS);
        assert_eq!(places.journal_loss(), Some(JournalLoss::Evicted));
        assert_eq!(places.journal(&key("0")), None);
        assert_eq!(places.list()[0].build, key(&(MAX_BUILDS + 2).to_string()));
        places.touch(&key("100"));
        assert_eq!(places.list()[0].build, key("100"));
        places.remove_all().unwrap();
        assert_eq!((places.list(), places.journal_loss()), (Vec::new(), Some(JournalLoss::Pruned)));
        places.remove_all().unwrap();
        assert_eq!(places.journal_loss(), Some(JournalLoss::Pruned));
    }
}
