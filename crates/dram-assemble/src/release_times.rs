//! The modification times of a release: of its files, directories and links, and of the archive's entries.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::AssembleError;
use crate::project_query::ProjectPaths;
use crate::tree::{ReleaseEntry, ReleaseFileContent, ReleaseTree};
use crate::write_cache::WriteCache;

/// 1980-01-02 00:00:00 UTC, in seconds since 1970: the first day that no time zone puts before 1980, where the times of
/// ZIP archives begin.
const EARLIEST: i64 = 315_619_200;

/// The rule for the times of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseTimes {
    /// Everything has this time, in seconds since 1970.
    Same(i64),
    /// Files of the project keep their times, and files that functions of the project made. Everything else has the time
    /// 1980-01-02.
    Own,
}

impl ReleaseTimes {
    /// Returns the time of everything that has no time of its own, in seconds since 1970.
    pub(crate) fn common(self) -> i64 {
        match self {
            ReleaseTimes::Same(seconds) => seconds,
            ReleaseTimes::Own => EARLIEST,
        }
    }

    /// Returns the time in the archive of a file that has the time `on_disk` in the release, in seconds since 1970.
    pub(crate) fn in_archive(self, on_disk: i64) -> i64 {
        match self {
            ReleaseTimes::Same(seconds) => seconds,
            ReleaseTimes::Own => on_disk,
        }
    }

    /// Returns the time of an entry of the release at `root`, in seconds since 1970; `None` if it keeps the one it has.
    fn time_of(self, entry: &ReleaseEntry, root: &Path, own: &OwnFiles) -> Result<Option<i64>, AssembleError> {
        match (self, entry) {
            (
                ReleaseTimes::Own,
                ReleaseEntry::File {
                    content: ReleaseFileContent::Disk(from) | ReleaseFileContent::Beam(from, _), ..
                },
            ) => match (from.starts_with(root), own.contains(from)) {
                (true, _) => Ok(None),
                (false, false) => Ok(Some(EARLIEST)),
                (false, true) => {
                    let found = fs::metadata(from).map_err(AssembleError::io("read", from))?;
                    Ok(Some(found.mtime()))
                }
            },
            _ => Ok(Some(self.common())),
        }
    }

    /// Sets the times of all entries of `tree`, which are below `root` on the disk, and of the directories above them.
    /// `written`, if given, is refreshed with the new times.
    ///
    /// # Errors
    /// Fails if a time cannot be read or set.
    pub(crate) fn apply(
        self,
        tree: &ReleaseTree,
        root: &Path,
        own: &OwnFiles,
        mut written: Option<&mut WriteCache>,
    ) -> Result<(), AssembleError> {
        let mut directories = BTreeSet::from([TreePath::root()]);
        for (path, entry) in tree.iter() {
            let full = root.join(path.as_path());
            if matches!(entry, ReleaseEntry::Dir) {
                directories.insert(path.clone());
            } else if let Some(seconds) = self.time_of(entry, root, own)?
                && set_time(&full, seconds)?
                && let Some(written) = written.as_deref_mut()
            {
                written.refresh(path, &full);
            }
            let mut above = path.parent();
            while let Some(dir) = above {
                above = dir.parent();
                if !directories.insert(dir) {
                    break;
                }
            }
        }
        directories.iter().try_for_each(|dir| set_time(&root.join(dir.as_path()), self.common()).map(drop))
    }
}

/// Recognizes the files of the project itself, by their paths: they are in the project, but not in the directories of
/// compiled code and of dependencies.
#[derive(Debug)]
pub(crate) struct OwnFiles {
    project: PathBuf,
    excluded: Vec<PathBuf>,
}

impl OwnFiles {
    /// Returns the files of the project at `places`.
    pub(crate) fn of_project(places: &ProjectPaths) -> OwnFiles {
        let project = places.project.clone();
        let excluded = vec![project.join("_build"), project.join("deps"), places.build.clone()];
        OwnFiles { project, excluded }
    }

    fn contains(&self, path: &Path) -> bool {
        path.starts_with(&self.project) && !self.excluded.iter().any(|dir| path.starts_with(dir))
    }
}

/// Sets the modification time of `path` itself, not of the target of a link. Returns true if it had another one.
fn set_time(path: &Path, seconds: i64) -> Result<bool, AssembleError> {
    let status = fs::symlink_metadata(path).map_err(AssembleError::io("read", path))?;
    if (status.mtime(), status.mtime_nsec()) == (seconds, 0) {
        return Ok(false);
    }
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| AssembleError::io("set the time of", path)(error.into()))?;
    Ok(true)
}

#[cfg(test)]
mod tests;
