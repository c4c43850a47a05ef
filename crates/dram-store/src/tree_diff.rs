//! Compares two layer directories and describes the first difference.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read as _};

use crate::dir::FileMetadata;
use crate::layer_scan::{LayerScan, ScannedEntry};
use crate::{Dir, FileKind, StoreError};

/// The size of each comparison buffer in bytes.
const COMPARE_BUFFER_BYTES: usize = 128 << 10;

/// Describes the first difference of `layer` from `model`; `None` when they are the same. Times of directories are not
/// compared, as implied directories have none in the tar.
///
/// # Errors
/// When `model` cannot be read. An unreadable file of `layer` is a difference.
pub(crate) fn first_difference(layer: &Dir, model: &Dir) -> Result<Option<String>, StoreError> {
    let (mut all, mut wanted) = (LayerScan::new(layer), LayerScan::new(model));
    let mut buffers = [vec![0; COMPARE_BUFFER_BYTES], vec![0; COMPARE_BUFFER_BYTES]];
    loop {
        let wants = wanted.next().transpose()?;
        let has = match all.next().transpose() {
            Ok(has) => has,
            Err(error) => return Ok(Some(describe_error(&error))),
        };
        let (has, wants) = match (has, wants) {
            (None, None) => return Ok(None),
            (Some(has), None) => return Ok(Some(describe_extra(&has))),
            (None, Some(wants)) => return Ok(Some(describe_missing(&wants))),
            (Some(has), Some(wants)) => (has, wants),
        };
        match has.path.components().cmp(wants.path.components()) {
            Ordering::Less => return Ok(Some(describe_extra(&has))),
            Ordering::Greater => return Ok(Some(describe_missing(&wants))),
            Ordering::Equal => {}
        }
        let how = match metadata_difference(&has, &wants) {
            None => {
                content_difference(layer, &has, model, &wants, &mut buffers)?.or_else(|| mtime_difference(&has, &wants))
            }
            how => how,
        };
        if let Some(how) = how {
            return Ok(Some(format!("{} {how}", path_text(&has))));
        }
    }
}

fn path_text(found: &ScannedEntry) -> String {
    if found.path.is_root() { "its root".to_owned() } else { found.path.to_string() }
}

fn describe_extra(has: &ScannedEntry) -> String {
    format!("{} is not in the tar", path_text(has))
}

fn describe_missing(wants: &ScannedEntry) -> String {
    format!("{} is missing", path_text(wants))
}

fn describe_error(error: &StoreError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// Describes a difference of kind, hard link, owner, mode, extended attributes or size.
fn metadata_difference(has: &ScannedEntry, wants: &ScannedEntry) -> Option<String> {
    let (is, should) = (&has.status, &wants.status);
    if is.kind != should.kind {
        return Some(format!("is {}, and should be {}", kind_name(is.kind), kind_name(should.kind)));
    }
    if is.kind.is_whiteout() {
        return None;
    }
    let FileMetadata { mode, uid, gid, .. } = should.metadata();
    match () {
        () if has.link_to != wants.link_to => Some("is not the same file as its other names".to_owned()),
        () if (is.uid, is.gid) != (uid, gid) => {
            Some(format!("belongs to {}:{}, and should to {uid}:{gid}", is.uid, is.gid))
        }
        () if is.mode != mode && is.kind != FileKind::Symlink => {
            Some(format!("has the mode {:o}, and should have {mode:o}", is.mode))
        }
        () if (&has.xattrs, has.opaque) != (&wants.xattrs, wants.opaque) => Some("has other attributes".to_owned()),
        () if is.kind == FileKind::File && is.size != should.size => {
            Some(format!("has {} bytes, and should have {}", is.size, should.size))
        }
        () => None,
    }
}

fn mtime_difference(has: &ScannedEntry, wants: &ScannedEntry) -> Option<String> {
    let kind = wants.status.kind;
    let counts = kind != FileKind::Dir && !kind.is_whiteout();
    (counts && has.status.mtime != wants.status.mtime).then(|| "has another time".to_owned())
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "a file",
        FileKind::Dir => "a directory",
        FileKind::Symlink => "a symbolic link",
        FileKind::Char(0, 0) => "deleted",
        FileKind::Char(..) | FileKind::Block(..) => "a device",
        FileKind::Fifo => "a pipe",
        FileKind::Socket => "a socket",
    }
}

fn content_difference(
    layer: &Dir,
    has: &ScannedEntry,
    model: &Dir,
    wants: &ScannedEntry,
    buffers: &mut [Vec<u8>; 2],
) -> Result<Option<String>, StoreError> {
    match wants.status.kind {
        FileKind::Symlink => {
            let is_same =
                layer.read_link(&has.path).is_ok_and(|to| model.read_link(&wants.path).is_ok_and(|it| it == to));
            Ok((!is_same).then(|| "leads elsewhere".to_owned()))
        }
        FileKind::File if wants.link_to.is_none() => {
            let fail = |error| StoreError::io("read", &model.display_path().join(wants.path.as_path()))(error);
            let mut right = model.open_file(&wants.path)?;
            let mut file = match layer.open_file(&has.path) {
                Ok(file) => file,
                Err(error) => return Ok(Some(format!("cannot be read: {}", describe_error(&error)))),
            };
            let [mine, its] = buffers;
            loop {
                let got = read_full(&mut right, its).map_err(fail)?;
                match read_full(&mut file, mine) {
                    Err(error) => return Ok(Some(format!("cannot be read: {error}"))),
                    Ok(read) if mine[..read] != its[..got] => return Ok(Some("has other bytes".to_owned())),
                    Ok(_) if got == 0 => return Ok(None),
                    Ok(_) => {}
                }
            }
        }
        FileKind::File
        | FileKind::Dir
        | FileKind::Char(..)
        | FileKind::Block(..)
        | FileKind::Fifo
        | FileKind::Socket => Ok(None),
    }
}

/// Reads until the buffer is full or the file ends. Returns the number of bytes read.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut full = 0;
    while full < buffer.len() {
        match file.read(&mut buffer[full..]) {
            Ok(0) => break,
            Ok(got) => full += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(full)
}
