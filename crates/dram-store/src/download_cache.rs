//! Downloaded files, by content digest, and the last known response of each address. All of it can be downloaded again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dram_image::{Digest, DigestHasher};
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, Durability};
use crate::{StepKey, Store, StoreError};

/// Maximum size of a record; most have a few lines.
const MAX_RECORD_SIZE: u64 = 64 << 10;

/// The downloaded files.
#[derive(Debug, Clone, Copy)]
pub struct DownloadCache<'a> {
    store: &'a Store,
}

/// The last known response of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRecord {
    /// Digest of the content.
    pub sha256: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// Time of last modification, in seconds since 1970, as the server reports it.
    pub mtime: Option<i64>,
    /// `ETag` header, for conditional requests.
    pub etag: Option<String>,
    /// `Last-Modified` header, for conditional requests.
    pub last_modified: Option<String>,
}

impl<'a> DownloadCache<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        DownloadCache { store }
    }

    fn path(self, name: &str) -> PathBuf {
        self.store.join("downloads").join(name)
    }

    fn record_path(self, address: &str) -> PathBuf {
        self.path(&format!("{}.note", StepKey::of([address.as_bytes()]).hex()))
    }

    /// Returns path and size of the file with this content, if it exists and its digest matches.
    pub fn verified_file(self, sha256: &Digest) -> Option<(PathBuf, u64)> {
        let path = self.path(&sha256.hex());
        let mut hasher = DigestHasher::new();
        io::copy(&mut atomic_file::open_no_follow(&path).ok()?, &mut hasher).ok()?;
        let size = hasher.length();
        if hasher.finish() == *sha256 {
            return Some((path, size));
        }
        let _ = fs::remove_file(&path);
        None
    }

    /// Returns the last known response of `address`, which must not contain credentials.
    pub fn record(self, address: &str) -> Option<DownloadRecord> {
        let bytes = atomic_file::read_limited(&self.record_path(address), MAX_RECORD_SIZE).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Moves the file at `path`, which is in this process's work directory, to the downloads as the content of
    /// `address`. Returns its new path.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn insert(self, path: &Path, address: &str, what: &DownloadRecord) -> Result<PathBuf, StoreError> {
        let place = self.path(&what.sha256.hex());
        fs::rename(path, &place).map_err(StoreError::io("write", &place))?;
        let note = serde_json::to_vec(what).expect("a note has only texts and numbers");
        // Without the record the address is downloaded again.
        let _ = atomic_file::write_atomic(
            &self.record_path(address),
            &note,
            MAX_RECORD_SIZE,
            &self.store.work_dir().path(),
            Durability::Unsynced,
        );
        Ok(place)
    }
}
