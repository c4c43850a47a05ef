//! The step cache: small cache records, by the cache key of a step, which covers all its inputs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use dram_image::{RFC3339_TIMES, TreePath};
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, Durability};
use crate::{Dir, IdMapping, LayerId, Store, StoreError};

/// A record has a few hundred bytes; a longer file is damaged.
const MAX_RECORD_SIZE: u64 = 1 << 20;

/// A cache key: the digest of everything that can change a step's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepKey([u8; 32]);

impl StepKey {
    /// Computes the key of `inputs`, each prefixed by its length.
    pub fn of<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> StepKey {
        let mut maker = StepKeyBuilder::default();
        for input in inputs {
            maker.add(input);
        }
        maker.finish()
    }

    /// Returns the key as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Returns the bytes of the key.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Returns the bytes of the key, as input of another key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for StepKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| "not a key: 64 hexadecimal digits")?;
        Ok(StepKey(hash.into()))
    }
}

impl TryFrom<String> for StepKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StepKey> for String {
    fn from(key: StepKey) -> String {
        key.hex()
    }
}

/// Computes a key from inputs that are added one after the other.
#[derive(Debug, Default)]
pub struct StepKeyBuilder(blake3::Hasher);

impl StepKeyBuilder {
    /// Adds an input.
    pub fn add(&mut self, input: &[u8]) {
        self.0.update(&(input.len() as u64).to_le_bytes());
        self.0.update(input);
    }

    /// Returns the key of all inputs, equal to that of [`StepKey::of`].
    pub fn finish(&self) -> StepKey {
        StepKey(self.0.finalize().into())
    }
}

/// The cached result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The layer of the step; `None` when the step changed nothing that a layer can hold.
    pub layer: Option<LayerId>,
    /// The key computed from the content of the step's files, in a record that lies under a key computed from the
    /// origin of these files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_content: Option<StepKey>,
    /// The time at which the step was executed, in seconds since 1970. Records of earlier versions have none; see
    /// [`StepCache::get`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<i64>,
}

/// The cache of executed steps.
#[derive(Debug, Clone, Copy)]
pub struct StepCache<'a> {
    store: &'a Store,
}

impl<'a> StepCache<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        StepCache { store }
    }

    fn path(self, key: &StepKey) -> PathBuf {
        let hex = key.hex();
        self.store.subdir("steps").join(&hex[..2]).join(hex)
    }

    /// Returns the record of `key`. An unreadable record, or one without its layer, is a cache miss, and the step is
    /// executed again. A record without a time of execution gets the time of its last use, which is kept from then on:
    /// the step was not executed later, and every build that finds the record has the same time.
    pub fn get(self, key: &StepKey) -> Option<CacheRecord> {
        let path = self.path(key);
        let bytes = atomic_file::read_limited(&path, MAX_RECORD_SIZE).ok()??;
        let mut record: CacheRecord = serde_json::from_slice(&bytes).ok()?;
        if !record.layer.as_ref().is_none_or(|layer| self.store.layers().has(layer)) {
            return None;
        }
        if !record.executed.is_some_and(|time| RFC3339_TIMES.contains(&time)) {
            let last_use = fs::symlink_metadata(&path).ok()?.mtime();
            record.executed = Some(last_use.clamp(*RFC3339_TIMES.start(), *RFC3339_TIMES.end()));
            // In a store that cannot be written the next build does the same.
            let _ = self.insert(key, &record);
        }
        // Records the use for LRU eviction; a failure only makes the record look older.
        let _ = atomic_file::record_use(&path, self.store.opened_at());
        Some(record)
    }

    /// Stores `record` under `key`.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn insert(self, key: &StepKey, record: &CacheRecord) -> Result<(), StoreError> {
        let path = self.path(key);
        let parent = path.parent().expect("the path has three parts");
        if !parent.is_dir() {
            fs::create_dir_all(parent).map_err(StoreError::io("make the directory", parent))?;
        }
        let bytes = serde_json::to_vec(record).expect("plain data becomes JSON");
        let work = self.store.work_dir().path();
        atomic_file::write_atomic(&path, &bytes, MAX_RECORD_SIZE, &work, Durability::Unsynced)
    }

    /// Returns all records of processes with the id mapping `rights`. Other files are skipped.
    pub(crate) fn list(self, id_mapping: IdMapping) -> Result<Vec<StoredRecord>, StoreError> {
        let steps = self.store.subdir_of(id_mapping, "steps");
        let mut all = Vec::new();
        if !steps.is_dir() {
            return Ok(all);
        }
        let root = Dir::open(&steps)?;
        for subdir in root.names()? {
            let subdir = TreePath::parse(&subdir)?;
            let Ok(dir) = root.open_subdir(&subdir) else { continue };
            for name in dir.names()? {
                let is_key = std::str::from_utf8(&name).is_ok_and(|name| name.parse::<StepKey>().is_ok());
                let path = subdir.join(&name);
                let Some(status) = root.status(&path)?.filter(|_| is_key) else { continue };
                let bytes = atomic_file::read_limited(&steps.join(path.as_path()), MAX_RECORD_SIZE).ok().flatten();
                let record = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                all.push(StoredRecord { path, last_used: status.mtime.0, record });
            }
        }
        Ok(all)
    }

    /// Removes the record at `path` of processes with the id mapping `rights`.
    pub(crate) fn remove(self, id_mapping: IdMapping, path: &TreePath) -> Result<(), StoreError> {
        Dir::open(&self.store.subdir_of(id_mapping, "steps"))?.remove(path)
    }
}

/// A cache record on the disk.
#[derive(Debug, Clone)]
pub(crate) struct StoredRecord {
    /// Path below the directory of records.
    pub(crate) path: TreePath,
    /// Time of last use, in seconds since 1970, up to an hour too early.
    pub(crate) last_used: i64,
    /// The record; `None` when it cannot be read.
    pub(crate) record: Option<CacheRecord>,
}
