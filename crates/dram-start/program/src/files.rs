//! Files and directories.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use dram_start::bytes::{Bytes, file_name, join, parent};
use dram_start::fault::{Fault, shown};

use crate::errno::Errno;
use crate::sys;

/// The size limit of files that the program reads.
const LARGEST: usize = 16 << 20;

/// Reads a whole file.
pub(crate) fn read(path: &[u8]) -> Result<Bytes, Errno> {
    let file = sys::open(path, sys::RDONLY | sys::CLOEXEC, 0)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        match sys::read(file.0, &mut buffer)? {
            0 => return Ok(found),
            count => found.extend_from_slice(&buffer[..count]),
        }
        if found.len() > LARGEST {
            return Err(Errno::TOOBIG);
        }
    }
}

/// Reads a whole file that the release requires.
pub(crate) fn need(path: &[u8]) -> Result<Bytes, Fault> {
    read(path).map_err(|errno| {
        Fault::new(
            format!("cannot read `{}`: {errno}", shown(path)),
            "make the file readable, or make the release again",
        )
    })
}

/// Reads a whole file; `None` if it does not exist.
pub(crate) fn read_optional(path: &[u8]) -> Result<Option<Bytes>, Fault> {
    match read(path) {
        Err(Errno::NOENT) => Ok(None),
        Err(_) => need(path).map(Some),
        Ok(text) => Ok(Some(text)),
    }
}

/// Makes a directory and its parents.
pub(crate) fn make_directories(path: &[u8]) -> Result<(), Errno> {
    match sys::make_directory(path, 0o755) {
        Err(Errno::NOENT) if parent(path) != path => {
            make_directories(parent(path))?;
            sys::make_directory(path, 0o755)
        }
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Writes a file that only its owner can read. The rename is atomic: the file appears complete or not at all.
pub(crate) fn write_private(path: &[u8], content: &[u8]) -> Result<(), Errno> {
    make_directories(parent(path))?;
    let half = join(&[parent(path), b"/.", file_name(path), b".", &random_name()]);
    let file = sys::open(&half, sys::WRONLY | sys::CREAT | sys::EXCL | sys::NOFOLLOW | sys::CLOEXEC, 0o600)?;
    let done = sys::write_all(file.0, content).and_then(|()| sys::rename(&half, path));
    if done.is_err() {
        let _ = sys::unlink(&half);
    }
    done
}

/// Eight random hexadecimal digits.
pub(crate) fn random_name() -> Bytes {
    let mut bytes = [0; 4];
    if sys::random(&mut bytes).is_err() {
        bytes = (sys::clock() as u32).to_ne_bytes();
    }
    format!("{:08x}", u32::from_ne_bytes(bytes)).into_bytes()
}

/// The names in a directory, sorted.
pub(crate) fn names(path: &[u8]) -> Result<Vec<Bytes>, Errno> {
    let directory = sys::open(path, sys::RDONLY | sys::CLOEXEC, 0)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 << 10];
    loop {
        let count = sys::directory_entries(&directory, &mut buffer)?;
        if count == 0 {
            found.sort();
            return Ok(found);
        }
        let mut rest = &buffer[..count];
        // An entry is two numbers of eight bytes, its length in two bytes, its type in one, and the name with a NUL.
        while let Some(length) = rest.get(16..18).map(|two| usize::from(u16::from_ne_bytes([two[0], two[1]]))) {
            let Some(entry) = rest.get(19..length) else { break };
            let name = entry.split(|b| *b == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                found.push(name.to_vec());
            }
            rest = &rest[length..];
        }
    }
}

/// Returns true if the path is a directory.
pub(crate) fn is_directory(path: &[u8]) -> bool {
    sys::mode_and_owner(path).is_ok_and(|(mode, _)| mode & 0o170_000 == 0o040_000)
}
