//! Files from the network: by content, and which content an address had when it was last asked. None of it is needed:
//! what is lost is fetched again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dram_image::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::file::{self, Durable};
use crate::{StepKey, Store, StoreError};

/// A note is a few lines long.
const LARGEST_NOTE: u64 = 64 << 10;

/// The room of files from the network.
#[derive(Debug, Clone, Copy)]
pub struct Downloads<'a> {
    store: &'a Store,
}

/// What an address had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The content.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it last changed, in seconds since 1970, as the server says.
    pub mtime: Option<i64>,
    /// How the server recognises it: `ETag`.
    pub etag: Option<String>,
    /// The same: `Last-Modified`.
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

    /// The file with this content, if it is here and whole.
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

    /// What `address`, without its secrets, had when it was last asked.
    pub fn known(self, address: &str) -> Option<Download> {
        let bytes = file::read_small(&self.note(address), LARGEST_NOTE).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Takes over the file at `path`, in this process's work directory, which is what `address` has. Returns where it
    /// lies now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(self, path: &Path, address: &str, what: &Download) -> Result<PathBuf, StoreError> {
        let place = self.path(&what.sha256.hex());
        fs::rename(path, &place).map_err(StoreError::io("write", &place))?;
        let note = serde_json::to_vec(what).expect("a note has only texts and numbers");
        // Without a note the address is asked for all of it again.
        let _ = file::replace(&self.note(address), &note, &self.store.work().path(), Durable::No);
        Ok(place)
    }
}
