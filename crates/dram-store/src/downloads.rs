//! Downloaded files, by content digest, and the last known response of each address. All of it can be downloaded again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dram_image::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::file::{self, Durable};
use crate::{StepKey, Store, StoreError};

/// Maximum size of a record; most have a few lines.
const LARGEST_NOTE: u64 = 64 << 10;

/// The downloaded files.
#[derive(Debug, Clone, Copy)]
pub struct Downloads<'a> {
    store: &'a Store,
}

/// The last known response of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
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

impl<'a> Downloads<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Downloads { store }
    }

    fn path(self, name: &str) -> PathBuf {
        self.store.join("downloads").join(name)
    }

    fn note(self, address: &str) -> PathBuf {
        self.path(&format!("{}.note", StepKey::of([address.as_bytes()]).hex()))
    }

    /// Returns path and size of the file with this content, if it exists and its digest matches.
    pub fn file(self, sha256: &Digest) -> Option<(PathBuf, u64)> {
        let path = self.path(&sha256.hex());
        let mut hasher = Hasher::new();
        io::copy(&mut file::open_quietly(&path).ok()?, &mut hasher).ok()?;
        let size = hasher.length();
        if hasher.finish() == *sha256 {
            return Some((path, size));
        }
        let _ = fs::remove_file(&path);
        None
    }

    /// Returns the last known response of `address`, which must not contain credentials.
    pub fn known(self, address: &str) -> Option<Download> {
        let bytes = file::read_small(&self.note(address), LARGEST_NOTE).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Moves the file at `path`, which is in this process's work directory, to the downloads as the content of
    /// `address`. Returns its new path.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn keep(self, path: &Path, address: &str, what: &Download) -> Result<PathBuf, StoreError> {
        let place = self.path(&what.sha256.hex());
        fs::rename(path, &place).map_err(StoreError::io("write", &place))?;
        let note = serde_json::to_vec(what).expect("a note has only texts and numbers");
        // Without the record the address is downloaded again.
        let _ = file::replace(&self.note(address), &note, &self.store.work().path(), Durable::No);
        Ok(place)
    }
}
