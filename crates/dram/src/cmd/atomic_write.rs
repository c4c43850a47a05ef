//! Writes files atomically: a file is there completely or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;

/// Writes the file at `path` with `write`. An old file stays until the new one is complete. A path that is no regular
/// file, such as a pipe or `/dev/null`, is written to directly.
pub(super) fn write_atomically(
    path: &Path,
    write: &mut dyn FnMut(&mut (dyn Write + Send)) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let fail = |error: &io::Error| Failure::work(format!("cannot write `{}`", path.display())).because(error);
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let file = File::options().write(true).open(path).map_err(|error| fail(&error))?;
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        return out.flush().map_err(|error| fail(&error));
    }
    // A symbolic link stays, and the file to which it leads is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let new = PendingFile::create_near(path).map_err(|error| fail(&error))?;
    let mut out = BufWriter::new(&new.file);
    let written = write(&mut out).and_then(|()| {
        let flushed = out.flush().and_then(|()| new.file.sync_all());
        flushed.map_err(|error| fail(&error))
    });
    drop(out);
    written.and_then(|()| new.rename_to(path).map_err(|error| fail(&error)))
}

/// A file that is not complete yet.
struct PendingFile {
    file: File,
    /// The temporary name, where the file system has no files without a name (`O_TMPFILE`).
    name: Option<PathBuf>,
}

impl PendingFile {
    /// Creates a file on the same disk as `path`. It has no name, so that nothing is left of it if this process is
    /// killed.
    fn create_near(path: &Path) -> io::Result<PendingFile> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(PendingFile { file: file.into(), name: None }),
            // The error of a file system without `O_TMPFILE`, and those of older kernels.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = temporary_name(path, &std::process::id().to_string());
                Ok(PendingFile { file: File::create_new(&name)?, name: Some(name) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file the name `path`, and replaces an old file atomically.
    fn rename_to(mut self, path: &Path) -> io::Result<()> {
        if let Some(name) = &self.name {
            fs::rename(name, path)?;
            self.name = None;
            return Ok(());
        }
        let own = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let link = |to: &Path| rustix::fs::linkat(CWD, &own, CWD, to, AtFlags::SYMLINK_FOLLOW);
        match link(path) {
            Err(Errno::EXIST) => {}
            done => return Ok(done?),
        }
        // A link never replaces a file, so the file first gets a temporary name, then an atomic rename. That name is
        // always the same: the next process removes one that a killed process left. Another process that writes the
        // same file at this moment may have removed or renamed it: then this is repeated.
        let between = temporary_name(path, "dram");
        for _ in 0..100 {
            match link(&between) {
                Err(Errno::EXIST) => {
                    let _ = fs::remove_file(&between);
                    continue;
                }
                done => done?,
            }
            match fs::rename(&between, path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        Err(Errno::EXIST.into())
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs::remove_file(name);
        }
    }
}

/// A temporary name in the directory of `path`.
fn temporary_name(path: &Path, part: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{part}.new"));
    path.with_file_name(name)
}
