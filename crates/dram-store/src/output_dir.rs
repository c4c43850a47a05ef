//! Directories that outputs are written into: OCI layouts, and the files of an image.
//!
//! The user names the directory, so a symbolic link in its path is followed. Below it none is: the directory may hold
//! links that somebody else put there, and an output never leaves its directory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::{Dir, FileKind, StoreError, atomic_file};

/// A directory that an output is written into. Its names are single path components.
#[derive(Debug)]
pub struct OutputDir {
    dir: Dir,
}

/// A lock on an [`OutputDir`], which ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct OutputLock {
    _dir: Dir,
}

/// A new file of an [`OutputDir`] that is not complete yet. It is removed when it is dropped before it is committed.
#[derive(Debug)]
pub struct PendingOutput<'a> {
    to: &'a OutputDir,
    name: TreePath,
    file: File,
    is_committed: bool,
}

impl OutputDir {
    /// Opens the directory `path`, which is made with its parents if it is missing.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn create(path: &Path) -> Result<OutputDir, StoreError> {
        fs::create_dir_all(path).map_err(StoreError::io("make the directory", path))?;
        Ok(OutputDir { dir: Dir::open(path)? })
    }

    /// Opens the directory `name` in this one, which is made if it is missing.
    ///
    /// # Errors
    /// [`StoreError::LinkInOutput`] when it is a symbolic link; otherwise when it cannot be made or opened.
    pub fn subdir(&self, name: &str) -> Result<OutputDir, StoreError> {
        let name = component(name)?;
        match self.dir.make_dir(&name, 0o777) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        Ok(OutputDir { dir: self.refuse_link(&name, self.dir.open_subdir(&name))? })
    }

    /// Returns the directory as a [`Dir`], which follows no link below it either.
    pub fn into_dir(self) -> Dir {
        self.dir
    }

    /// Returns the path for messages.
    pub fn display_path(&self) -> &Path {
        self.dir.display_path()
    }

    /// Returns the path of the file `name` for messages.
    pub fn display_path_of(&self, name: &str) -> PathBuf {
        self.display_path().join(name)
    }

    /// Returns the names in the directory, sorted by their bytes.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.dir.names()
    }

    /// Opens the regular file `name` for reading; `None` if nothing has that name.
    ///
    /// # Errors
    /// [`StoreError::LinkInOutput`] when it is a symbolic link; otherwise when it is no regular file or cannot be
    /// opened.
    pub fn open_file(&self, name: &str) -> Result<Option<File>, StoreError> {
        let name = component(name)?;
        match self.refuse_link(&name, self.dir.open_file(&name)) {
            Err(error) if error.is_not_found() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Waits for the exclusive lock of the directory.
    ///
    /// # Errors
    /// When the directory cannot be locked.
    pub fn lock(&self) -> Result<OutputLock, StoreError> {
        self.lock_as(FlockOperation::LockExclusive)
    }

    fn lock_as(&self, operation: FlockOperation) -> Result<OutputLock, StoreError> {
        // Each lock is one of its own, also between the threads of a process.
        let dir = self.dir.open_subdir(&TreePath::root())?;
        loop {
            match rustix::fs::flock(dir.fd(), operation) {
                Err(Errno::INTR) => {}
                done => {
                    done.map_err(StoreError::errno("lock", self.display_path()))?;
                    return Ok(OutputLock { _dir: dir });
                }
            }
        }
    }

    /// Returns a random name for a file while it is written.
    pub fn temporary_name() -> TreePath {
        TreePath::root().join(format!(".{}.new", atomic_file::random_hex()).as_bytes())
    }

    /// Starts a new file under a temporary name, which no other writer uses.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn start_file(&self) -> Result<PendingOutput<'_>, StoreError> {
        // The shared lock is held until the new file is locked too: `remove_unfinished` runs only while no writer is
        // between these two steps.
        let _gate = self.lock_as(FlockOperation::LockShared)?;
        let name = OutputDir::temporary_name();
        let file = self.dir.create_file(&name, 0o666)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(StoreError::errno("lock", &self.display_path().join(name.as_path())))?;
        Ok(PendingOutput { to: self, name, file, is_committed: false })
    }

    /// Removes unfinished files of writers that were killed: nobody holds a lock on them.
    pub fn remove_unfinished(&self) {
        let Ok(_gate) = self.lock_as(FlockOperation::NonBlockingLockExclusive) else { return };
        for name in self.dir.names().unwrap_or_default() {
            let is_ours = name.starts_with(b".") && name.ends_with(b".new");
            let Some(name) = TreePath::parse(&name).ok().filter(|_| is_ours) else { continue };
            let is_dead = |file: File| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if self.dir.open_file(&name).is_ok_and(is_dead) {
                let _ = self.dir.remove(&name);
            }
        }
    }

    /// Replaces the file `name` by one with this content, atomically and durably. The caller holds
    /// [`OutputDir::lock`]. While it is written it is called `temporary`; a file or link of that name is removed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace_file(&self, name: &str, temporary: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let fail = || StoreError::io("write", &self.display_path_of(name));
        let (temporary, name) = (component(temporary)?, component(name)?);
        if self.dir.status(&temporary)?.is_some_and(|status| status.kind != FileKind::Dir) {
            self.dir.remove(&temporary)?;
        }
        let mut file = self.dir.create_file(&temporary, 0o666)?;
        file.write_all(bytes).map_err(fail())?;
        // After a crash the name must not lead to an empty file.
        file.sync_all().map_err(fail())?;
        self.dir.rename(&temporary, &name)?;
        self.sync()
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// When the directory cannot be synced.
    pub fn sync(&self) -> Result<(), StoreError> {
        rustix::fs::fsync(self.dir.fd()).map_err(StoreError::errno("write", self.display_path()))
    }

    /// Turns the error of the kernel for a symbolic link into one that says so.
    fn refuse_link<T>(&self, name: &TreePath, opened: Result<T, StoreError>) -> Result<T, StoreError> {
        opened.map_err(|error| match self.dir.status(name) {
            Ok(Some(status)) if status.kind == FileKind::Symlink => {
                StoreError::LinkInOutput(self.display_path().join(name.as_path()))
            }
            Ok(_) | Err(_) => error,
        })
    }
}

impl PendingOutput<'_> {
    /// Returns the file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the file and gives it the name `name`. A file or a link of that name is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn commit(mut self, name: &str) -> Result<(), StoreError> {
        self.file.sync_all().map_err(StoreError::io("write", &self.to.display_path_of(name)))?;
        self.to.dir.rename(&self.name, &component(name)?)?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for PendingOutput<'_> {
    fn drop(&mut self) {
        if !self.is_committed {
            let _ = self.to.dir.remove(&self.name);
        }
    }
}

/// Returns `name` as a path of one component.
fn component(name: &str) -> Result<TreePath, StoreError> {
    let path = TreePath::parse(name.as_bytes())?;
    debug_assert!(path.parent().is_some_and(|parent| parent.is_root()), "{name} is no single name");
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_below_the_directory_are_never_followed() {
        let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out = OutputDir::create(&place.path().join("a/b")).unwrap();
        for name in ["sub", "index.json", "index.new"] {
            symlink(elsewhere.path().join(name), out.display_path_of(name)).unwrap();
        }
        fs::create_dir(elsewhere.path().join("sub")).unwrap();
        fs::write(elsewhere.path().join("index.json"), "theirs").unwrap();
        for refused in [out.subdir("sub").map(drop), out.open_file("index.json").map(drop)] {
            assert!(matches!(refused, Err(StoreError::LinkInOutput(_))), "{refused:?}");
        }
        out.replace_file("index.json", "index.new", b"ours").unwrap();
        let mut pending = out.start_file().unwrap();
        pending.file().write_all(b"blob").unwrap();
        pending.commit("sub").unwrap();
        assert_eq!(fs::read(out.display_path_of("index.json")).unwrap(), b"ours");
        assert_eq!(fs::read(out.display_path_of("sub")).unwrap(), b"blob");
        assert_eq!(out.names().unwrap(), [b"index.json".as_slice(), b"sub"]);
        assert_eq!(fs::read(elsewhere.path().join("index.json")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 2);
        assert_eq!(fs::read_dir(elsewhere.path().join("sub")).unwrap().count(), 0);
    }

    #[test]
    fn unfinished_files_go_away_and_those_of_living_writers_stay() {
        let place = tempfile::tempdir().unwrap();
        let out = OutputDir::create(place.path()).unwrap();
        fs::write(place.path().join(".dead.new"), "x").unwrap();
        let living = out.start_file().unwrap();
        out.remove_unfinished();
        assert_eq!(out.names().unwrap().len(), 1);
        drop(living);
        assert!(out.names().unwrap().is_empty());
    }
}
