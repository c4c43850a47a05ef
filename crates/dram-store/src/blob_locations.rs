//! Known locations of blobs: repositories of registries that have them. A registry can then mount a blob from one of
//! its own repositories, without an upload. It is a hint: a wrong entry costs one request.

use std::path::PathBuf;

use dram_image::{Digest, TreePath};

use crate::atomic_file::{self, Durability};
use crate::{Dir, Store, StoreError};

/// Maximum number of repositories for one blob; the most recent ones stay.
const MAX_REPOSITORIES: usize = 8;
/// Maximum size of a record in bytes.
const MAX_RECORD_SIZE: u64 = 16 << 10;

/// The known locations of blobs in registries.
#[derive(Debug, Clone, Copy)]
pub struct BlobLocations<'a> {
    store: &'a Store,
}

impl<'a> BlobLocations<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        BlobLocations { store }
    }

    fn record_path(self, digest: &Digest) -> PathBuf {
        self.store.join("blob-locations").join(digest.hex())
    }

    /// Returns host and name of repositories that had the blob, the most recent first.
    pub fn repositories(self, digest: &Digest) -> Vec<(String, String)> {
        let bytes =
            atomic_file::read_limited(&self.record_path(digest), MAX_RECORD_SIZE).ok().flatten().unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(host, name)| (host.to_owned(), name.to_owned())).take(MAX_REPOSITORIES).collect()
    }

    /// Records that a repository has the blob.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn add(self, digest: &Digest, host: &str, name: &str) -> Result<(), StoreError> {
        let is_plain = |text: &str| !text.contains([' ', '\n']) && text.len() <= 512;
        let mut all = self.repositories(digest);
        let new = (host.to_owned(), name.to_owned());
        if all.first() == Some(&new) || !is_plain(host) || !is_plain(name) {
            return Ok(());
        }
        all.retain(|old| *old != new);
        all.insert(0, new);
        let lines = all.iter().take(MAX_REPOSITORIES).map(|(host, name)| format!("{host} {name}\n"));
        let text: String = lines.collect();
        atomic_file::write_atomic(
            &self.record_path(digest),
            text.as_bytes(),
            MAX_RECORD_SIZE,
            &self.store.work_dir().path(),
            Durability::Unsynced,
        )
    }

    /// Removes the records of the blobs that are not wanted.
    pub(crate) fn retain(self, is_wanted: &dyn Fn(&Digest) -> bool) -> Result<(), StoreError> {
        let dir = Dir::open(&self.store.join("blob-locations"))?;
        for name in dir.names()? {
            let digest = std::str::from_utf8(&name).ok().and_then(|hex| Digest::from_hex(hex).ok());
            if digest.is_some_and(|digest| !is_wanted(&digest)) {
                dir.remove(&TreePath::parse(&name)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_recent_repositories_of_a_blob_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (digest, other) = (Digest::of(b"blob"), Digest::of(b"other"));
        assert_eq!(store.blob_locations().repositories(&digest), []);
        for number in 0..20 {
            store.blob_locations().add(&digest, "host:5000", &format!("a/{number}")).unwrap();
        }
        store.blob_locations().add(&digest, "host:5000", "a/15").unwrap();
        store.blob_locations().add(&digest, "no host", "a").unwrap();
        let found: Vec<String> =
            store.blob_locations().repositories(&digest).into_iter().map(|(_, name)| name).collect();
        assert_eq!(found, ["a/15", "a/19", "a/18", "a/17", "a/16", "a/14", "a/13", "a/12"]);
        store.blob_locations().add(&other, "h", "n").unwrap();
        store.blob_locations().retain(&|one| *one == other).unwrap();
        assert_eq!(
            (store.blob_locations().repositories(&digest).len(), store.blob_locations().repositories(&other).len()),
            (0, 1)
        );
    }
}
