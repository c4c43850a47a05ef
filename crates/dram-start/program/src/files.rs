//! Files and directories.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use dram_start::byte_string::{ByteString, concat, file_name, parent_path};
use dram_start::error::{StartError, printable};

use crate::errno::StartErrno;
use crate::sys::{self, StartFd, StartFileStatus};

/// The size limit of files that the program reads.
const MAX_FILE_SIZE: usize = 16 << 20;

/// Reads a whole file.
pub(crate) fn read(path: &[u8]) -> Result<ByteString, StartErrno> {
    read_open_file(&sys::open(path, sys::RDONLY | sys::CLOEXEC, 0)?)
}

/// Reads an open file to its end.
pub(crate) fn read_open_file(file: &StartFd) -> Result<ByteString, StartErrno> {
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

const KIND: u16 = 0o170_000;
const DIRECTORY: u16 = 0o040_000;
const REGULAR: u16 = 0o100_000;

/// The path, with the working directory before it if it is relative.
pub(crate) fn absolute_path(path: &[u8]) -> ByteString {
    match sys::current_directory() {
        Ok(current) if !path.starts_with(b"/") => concat(&[&current, b"/", path]),
        Ok(_) | Err(_) => path.to_vec(),
    }
}

/// Returns true if the path is a directory.
pub(crate) fn is_directory(path: &[u8]) -> bool {
    sys::file_status(path).is_ok_and(|status| status.mode & KIND == DIRECTORY)
}

/// Returns true if the path is a device for characters.
pub(crate) fn is_character_device(path: &[u8]) -> bool {
    sys::file_status(path).is_ok_and(|status| status.mode & KIND == 0o020_000)
}

/// The reason why a file or directory is not used, although it is where this program keeps its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OwnFileError {
    /// It cannot be opened.
    Errno(StartErrno),
    /// It belongs to this other user.
    OfUser(u32),
    /// It is no regular file, or a symbolic link.
    NotAFile,
    /// It has a second name, under which others may know it.
    SecondName,
    /// Other users may change it.
    OthersMayWrite,
}

impl fmt::Display for OwnFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "{errno}"),
            Self::OfUser(user) => write!(f, "it belongs to the user with the id {user}, not to this one"),
            Self::NotAFile => f.write_str("it is a symbolic link, or not a regular file"),
            Self::SecondName => f.write_str("it is a hard link to another file"),
            Self::OthersMayWrite => f.write_str("other users may write to it"),
        }
    }
}

/// Opens a file that this program keeps for this user. It is never that of another user: in a directory that users
/// share, everybody can put one there.
pub(crate) fn open_own(path: &[u8], flags: u32, mode: u32) -> Result<StartFd, OwnFileError> {
    // Without waiting: the file may be a pipe that another user put there.
    let flags = flags | sys::NOFOLLOW | sys::NONBLOCK | sys::CLOEXEC;
    let file = sys::open(path, flags, mode).map_err(|errno| match errno {
        StartErrno::LOOP => OwnFileError::NotAFile,
        other => OwnFileError::Errno(other),
    })?;
    let status = sys::open_file_status(&file).map_err(OwnFileError::Errno)?;
    check_own(status)?;
    match status {
        StartFileStatus { mode, .. } if mode & KIND != REGULAR => Err(OwnFileError::NotAFile),
        StartFileStatus { links, .. } if links > 1 => Err(OwnFileError::SecondName),
        StartFileStatus { mode, .. } if mode & 0o002 != 0 => Err(OwnFileError::OthersMayWrite),
        StartFileStatus { .. } => Ok(file),
    }
}

fn check_own(status: StartFileStatus) -> Result<(), OwnFileError> {
    if status.owner == sys::own_uid() { Ok(()) } else { Err(OwnFileError::OfUser(status.owner)) }
}

/// Reads a file as [`open_own`] opens it. Returns it with its permissions; `None` if it does not exist.
pub(crate) fn read_own(path: &[u8]) -> Result<Option<(ByteString, u16)>, OwnFileError> {
    let file = match open_own(path, sys::RDONLY, 0) {
        Err(OwnFileError::Errno(StartErrno::NOENT)) => return Ok(None),
        other => other?,
    };
    let status = sys::open_file_status(&file).map_err(OwnFileError::Errno)?;
    Ok(Some((read_open_file(&file).map_err(OwnFileError::Errno)?, status.mode & 0o777)))
}

/// Checks that a directory belongs to this user or to the system's administrator: its owner can replace every file in
/// it.
pub(crate) fn check_directory_owner(path: &[u8]) -> Result<(), OwnFileError> {
    match sys::file_status(path).map_err(OwnFileError::Errno)? {
        StartFileStatus { owner: 0, .. } => Ok(()),
        status => check_own(status),
    }
}

/// Returns true if an open file is a directory of this user.
pub(crate) fn is_own_open_directory(file: &StartFd) -> bool {
    sys::open_file_status(file).is_ok_and(|status| status.mode & KIND == DIRECTORY && check_own(status).is_ok())
}

/// Makes a directory that only this user writes to, with its parents; an existing one is checked.
pub(crate) fn make_own_directory(path: &[u8]) -> Result<(), OwnFileError> {
    make_directories(path).map_err(OwnFileError::Errno)?;
    check_own_directory(path)
}

/// Checks that only this user writes to a directory.
pub(crate) fn check_own_directory(path: &[u8]) -> Result<(), OwnFileError> {
    check_directory_owner(path)?;
    match sys::file_status(path).map_err(OwnFileError::Errno)? {
        StartFileStatus { mode, .. } if mode & KIND != DIRECTORY => Err(OwnFileError::NotAFile),
        StartFileStatus { mode, .. } if mode & 0o002 != 0 => Err(OwnFileError::OthersMayWrite),
        StartFileStatus { .. } => Ok(()),
    }
}
