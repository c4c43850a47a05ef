//! Files that are read whole, of the kernel or in memory.

use crate::prelude::*;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read, write};

/// The number of bytes of one read.
const CHUNK: usize = 16 << 10;

/// Reads a file of `/proc` or `/sys` as text. It is empty if it cannot be read.
pub(crate) fn read_kernel_text(path: &str) -> String {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let bytes = file.and_then(|file| read_to_end(file.as_fd(), 1 << 20)).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Returns the names in a directory of `/proc` or `/sys`; none if it cannot be read.
pub(crate) fn kernel_names(path: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat(CWD, path, flags, Mode::empty()).and_then(rustix::fs::Dir::new) else {
        return Vec::new();
    };
    let names = directory.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
    names.filter(|name| name != "." && name != "..").collect()
}

/// Reads up to the end, from the current position. A longer file than `limit` bytes is an error (`EFBIG`).
pub(crate) fn read_to_end(file: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    loop {
        let length = bytes.len();
        bytes.resize(length + CHUNK, 0);
        let got = match read(file, &mut bytes[length..]) {
            Err(Errno::INTR) => 0,
            Ok(0) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            got => got?,
        };
        bytes.truncate(length + got);
        if bytes.len() > limit {
            return Err(Errno::FBIG);
        }
    }
}

/// Writes all of `bytes`.
pub(crate) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
