//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;

/// Has `write` write the file at `path`. The old file stays whole until the new one is. What is no regular file, as a
/// pipe or `/dev/null`, is written to as it is.
pub(super) fn write_whole(
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
    // Through a symbolic link: the link stays, and what it leads to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let new = New::beside(path).map_err(|error| fail(&error))?;
    let mut out = BufWriter::new(&new.file);
    let written = write(&mut out).and_then(|()| {
        let flushed = out.flush().and_then(|()| new.file.sync_all());
        flushed.map_err(|error| fail(&error))
    });
    drop(out);
    written.and_then(|()| new.take_place(path).map_err(|error| fail(&error)))
}

/// A file that is not whole yet.
struct New {
    file: File,
    /// Its name, where the disk has no files without one.
    name: Option<PathBuf>,
}

impl New {
    /// One on the same disk as `path`: without a name, so that nothing stays of it however this process ends.
    fn beside(path: &Path) -> io::Result<New> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(New { file: file.into(), name: None }),
            // The kernel's answer for a disk that cannot do that, and that of older ones.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = named(path, &std::process::id().to_string());
                Ok(New { file: File::create_new(&name)?, name: Some(name) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it the name `path`, and takes that from what had it.
    fn take_place(mut self, path: &Path) -> io::Result<()> {
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
        // A link never replaces. The name in between is always the same one: what a killed process leaves, the next
        // one removes. Whoever else writes the same file at once may have removed or renamed it: then once more.
        let between = named(path, "dram");
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

impl Drop for New {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs::remove_file(name);
        }
    }
}

/// A name beside `path`.
fn named(path: &Path, part: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{part}.new"));
    path.with_file_name(name)
}
