//! The write cache: the source of each written file. A file that would be unchanged is linked and not written again.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dram_image::{Digest, TreePath};
use dram_release::beam::StripRule;
use serde::{Deserialize, Serialize};

use crate::AssembleError;
use crate::answer_cache::replace_file;

/// The fingerprint of a file in a written release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenFingerprint {
    /// The source key, as returned by [`WrittenFingerprint::source_key`].
    pub(crate) source: String,
    /// The status of the written file: size, modification time and inode number. It detects later changes.
    at: (u64, i64, i64, u64),
}

fn file_status(found: &Metadata) -> (u64, i64, i64, u64) {
    (found.size(), found.mtime(), found.mtime_nsec(), found.ino())
}

impl WrittenFingerprint {
    /// Returns the source key of a file made from `from`.
    ///
    /// # Errors
    /// Fails if `from` does not exist.
    pub(crate) fn source_key(from: &Path, rule: Option<&StripRule>, mode: u32) -> Result<String, AssembleError> {
        let found = fs::metadata(from).map_err(AssembleError::io("read", from))?;
        Ok(format!("{:?} {rule:?} {mode:o} {}", file_status(&found), from.display()))
    }

    /// Creates the fingerprint of `file`, which was just made from `source`.
    pub(crate) fn from_file(source: String, file: &File) -> io::Result<WrittenFingerprint> {
        Ok(WrittenFingerprint { source, at: file_status(&file.metadata()?) })
    }

    /// Returns true if the file was made from the current content of `from`, in the same way.
    pub(crate) fn matches_source(&self, from: &Path, rule: Option<&StripRule>, mode: u32) -> bool {
        WrittenFingerprint::source_key(from, rule, mode).is_ok_and(|key| key == self.source)
    }

    /// Returns true if the file at `path` is unchanged since it was written.
    pub(crate) fn matches_file(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && file_status(&found) == self.at)
    }
}

/// The fingerprints of the files of one release at one destination.
#[derive(Debug)]
pub(crate) struct WriteCache {
    file: Option<PathBuf>,
    fingerprints: BTreeMap<TreePath, WrittenFingerprint>,
}

impl WriteCache {
    /// Loads the cache of the release at `destination` from the directory `memory`; empty if there is none.
    pub(crate) fn load(memory: Option<&Path>, destination: &Path) -> WriteCache {
        let digest = Digest::of(destination.as_os_str().as_bytes()).hex();
        let file = memory.map(|memory| memory.join(format!("written-{}", &digest[..16])));
        let read = || -> Option<Vec<(String, WrittenFingerprint)>> {
            serde_json::from_slice(&fs::read(file.as_ref()?).ok()?).ok()
        };
        let known = read().unwrap_or_default();
        let known = known.into_iter().filter_map(|(path, known)| Some((TreePath::parse(path.as_bytes()).ok()?, known)));
        WriteCache { fingerprints: known.collect(), file }
    }

    /// Returns the fingerprint of the file at `path`.
    pub(crate) fn get(&self, path: &TreePath) -> Option<&WrittenFingerprint> {
        self.fingerprints.get(path)
    }

    /// Replaces the status of the file at `path`, which is at `full` on the disk, after its time was set.
    pub(crate) fn refresh(&mut self, path: &TreePath, full: &Path) {
        if let Some(known) = self.fingerprints.get_mut(path)
            && let Ok(found) = fs::symlink_metadata(full)
        {
            known.at = file_status(&found);
        }
    }

    /// Replaces all fingerprints.
    pub(crate) fn replace(&mut self, files: impl Iterator<Item = (TreePath, WrittenFingerprint)>) {
        self.fingerprints = files.collect();
    }

    /// Saves the cache. Errors are ignored, because a missing cache only costs time.
    pub(crate) fn save(&self) {
        let Some(file) = &self.file else { return };
        // A path that is not UTF-8 is not cached.
        let name = |path: &TreePath| String::from_utf8(path.as_bytes().to_vec()).ok();
        let all: Vec<_> = self.fingerprints.iter().filter_map(|(path, known)| Some((name(path)?, known))).collect();
        if let Some(memory) = file.parent() {
            let _ = fs::create_dir_all(memory);
        }
        let _ = replace_file(file, &serde_json::to_vec(&all).expect("texts and numbers are JSON"));
    }
}
