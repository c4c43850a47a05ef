//! What was written last time, and from what: a file that would be the same again is linked, not written.

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
use crate::remember::put;

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// What it was made from and how, as [`Known::key`] says it.
    pub(crate) source: String,
    /// Its own status since: size, time of change, number. Somebody may have changed it.
    at: (u64, i64, i64, u64),
}

fn status(found: &Metadata) -> (u64, i64, i64, u64) {
    (found.size(), found.mtime(), found.mtime_nsec(), found.ino())
}

impl Known {
    /// What a file made from `from` depends on.
    ///
    /// # Errors
    /// When `from` is not there.
    pub(crate) fn key(from: &Path, rule: Option<&StripRule>, mode: u32) -> Result<String, AssembleError> {
        let found = fs::metadata(from).map_err(AssembleError::io("read", from))?;
        Ok(format!("{:?} {rule:?} {mode:o} {}", status(&found), from.display()))
    }

    /// What there is to know of `file`, just made from `source`.
    pub(crate) fn of(source: String, file: &File) -> io::Result<Known> {
        Ok(Known { source, at: status(&file.metadata()?) })
    }

    /// Whether it was made from `from`, as that is now, and in the same way.
    pub(crate) fn is_from(&self, from: &Path, rule: Option<&StripRule>, mode: u32) -> bool {
        Known::key(from, rule, mode).is_ok_and(|key| key == self.source)
    }

    /// Whether the file is at `path` as it was written.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && status(&found) == self.at)
    }
}

/// The files of one release in one place.
#[derive(Debug)]
pub(crate) struct Written {
    file: Option<PathBuf>,
    known: BTreeMap<TreePath, Known>,
}

impl Written {
    /// What is remembered in `memory` of the release at `destination`; nothing, when there is no memory.
    pub(crate) fn recall(memory: Option<&Path>, destination: &Path) -> Written {
        let digest = Digest::of(destination.as_os_str().as_bytes()).hex();
        let file = memory.map(|memory| memory.join(format!("written-{}", &digest[..16])));
        let read = || -> Option<Vec<(String, Known)>> { serde_json::from_slice(&fs::read(file.as_ref()?).ok()?).ok() };
        let known = read().unwrap_or_default();
        let known = known.into_iter().filter_map(|(path, known)| Some((TreePath::parse(path.as_bytes()).ok()?, known)));
        Written { known: known.collect(), file }
    }

    /// What is known of the file at `path`.
    pub(crate) fn get(&self, path: &TreePath) -> Option<&Known> {
        self.known.get(path)
    }

    /// Knows these files and no others.
    pub(crate) fn replace(&mut self, files: impl Iterator<Item = (TreePath, Known)>) {
        self.known = files.collect();
    }

    /// Keeps it for the next time. That it cannot be kept costs time then, and is no error.
    pub(crate) fn keep(&self) {
        let Some(file) = &self.file else { return };
        // A name that is no text is written again each time.
        let name = |path: &TreePath| String::from_utf8(path.as_bytes().to_vec()).ok();
        let all: Vec<_> = self.known.iter().filter_map(|(path, known)| Some((name(path)?, known))).collect();
        if let Some(memory) = file.parent() {
            let _ = fs::create_dir_all(memory);
        }
        let _ = put(file, &serde_json::to_vec(&all).expect("texts and numbers are JSON"));
    }
}
