//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

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
    let new = beside(path);
    let file = File::create_new(&new).map_err(|error| fail(&error))?;
    let mut out = BufWriter::new(file);
    let written = write(&mut out).and_then(|()| {
        let synced = out.flush().and_then(|()| out.get_ref().sync_all());
        synced.and_then(|()| fs::rename(&new, path)).map_err(|error| fail(&error))
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// A name beside `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}
