//! Files and directories.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use dram_start::byte_string::{ByteString, concat, file_name, parent_path};
use dram_start::error::{StartError, printable};

use crate::errno::StartErrno;
use crate::sys;

/// The size limit of files that the program reads.
const MAX_FILE_SIZE: usize = 16 << 20;

/// Reads a whole file.
pub(crate) fn read(path: &[u8]) -> Result<ByteString, StartErrno> {
    let file = sys::open(path, sys::RDONLY | sys::CLOEXEC, 0)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        match sys::read(file.0, &mut buffer)? {
            0 => return Ok(found),
            count => found.extend_from_slice(&buffer[..count]),
        }
        if found.len() > MAX_FILE_SIZE {
            return Err(StartErrno::TOOBIG);
        }
    }
}

/// Reads a whole file that the release requires.
pub(crate) fn read_required(path: &[u8]) -> Result<ByteString, StartError> {
    read(path).map_err(|errno| {
        StartError::new(
            format!("cannot read `{}`: {errno}", printable(path)),
            "make the file readable, or make the release again",
        )
    })
}

/// Reads a whole file; `None` if it does not exist.
pub(crate) fn read_optional(path: &[u8]) -> Result<Option<ByteString>, StartError> {
    match read(path) {
        Err(StartErrno::NOENT) => Ok(None),
        Err(_) => read_required(path).map(Some),
        Ok(text) => Ok(Some(text)),
    }
}

/// Makes a directory and its parents.
pub(crate) fn make_directories(path: &[u8]) -> Result<(), StartErrno> {
    match sys::make_directory(path, 0o755) {
        Err(StartErrno::NOENT) if parent_path(path) != path => {
            make_directories(parent_path(path))?;
            sys::make_directory(path, 0o755)
        }
        Err(StartErrno::EXIST) => Ok(()),
        other => other,
    }
}

/// Writes a file that only its owner can read. The rename is atomic: the file appears complete or not at all.
pub(crate) fn write_private(path: &[u8], content: &[u8]) -> Result<(), StartErrno> {
    make_directories(parent_path(path))?;
    let half = concat(&[parent_path(path), b"/.", file_name(path), b".", &random_name()]);
    let file = sys::open(&half, sys::WRONLY | sys::CREAT | sys::EXCL | sys::NOFOLLOW | sys::CLOEXEC, 0o600)?;
    let done = sys::write_all(file.0, content).and_then(|()| sys::rename(&half, path));
    if done.is_err() {
        let _ = sys::unlink(&half);
    }
    done
}

/// Eight random hexadecimal digits.
pub(crate) fn random_name() -> ByteString {
    let mut bytes = [0; 4];
    if sys::random(&mut bytes).is_err() {
        bytes = (sys::monotonic_milliseconds() as u32).to_ne_bytes();
    }
    format!("{:08x}", u32::from_ne_bytes(bytes)).into_bytes()
}

/// The names in a directory, sorted.
pub(crate) fn list_directory(path: &[u8]) -> Result<Vec<ByteString>, StartErrno> {
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
