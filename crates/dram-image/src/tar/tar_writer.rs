//! The writer of layer tars: the same entries always give the same bytes.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::{TarEntry, TarEntryKind};

/// The largest number that seven octal digits hold.
const LARGEST_OCTAL_ID: u32 = 0o777_7777;
/// The largest number that eleven octal digits hold.
const LARGEST_OCTAL: u64 = 0o777_7777_7777;

/// Writes ustar headers, with a pax header before an entry that needs one.
pub struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    /// Returns a writer at the start of an archive.
    pub fn new(out: W) -> Self {
        TarWriter { out }
    }

    /// Appends `entry`. For a file, `data` must yield exactly its size.
    ///
    /// # Errors
    /// Fails when writing or reading fails, or `data` yields less or more than the entry's size.
    pub fn append(&mut self, entry: &TarEntry, data: &mut dyn Read) -> io::Result<()> {
        let pax = pax_body(entry);
        if !pax.is_empty() {
            self.write_block(&pax_header(pax.len()))?;
            self.write_padded(&pax)?;
        }
        self.write_block(&ustar_header(entry))?;
        match entry.kind {
            TarEntryKind::File { size } => self.write_data(size, data),
            TarEntryKind::Dir
            | TarEntryKind::Symlink(_)
            | TarEntryKind::HardLink(_)
            | TarEntryKind::Char(..)
            | TarEntryKind::Block(..)
            | TarEntryKind::Fifo => Ok(()),
        }
    }

    /// Returns the underlying writer, for use between two entries.
    pub fn writer_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the end marker and returns the underlying writer.
    ///
    /// # Errors
    /// Fails when writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        Ok(self.out)
    }

    fn write_block(&mut self, header: &Header) -> io::Result<()> {
        self.out.write_all(header.as_bytes())
    }

    fn write_padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 512][..bytes.len().wrapping_neg() % 512])
    }

    fn write_data(&mut self, size: u64, data: &mut dyn Read) -> io::Result<()> {
        let copied = io::copy(&mut data.take(size), &mut self.out)?;
        let mut more = [0];
        if copied != size || data.read(&mut more)? != 0 {
            return Err(io::Error::other("the file changed its size while it was read"));
        }
        let padding = usize::try_from(size.wrapping_neg() % 512).expect("less than a block");
        self.out.write_all(&[0; 512][..padding])
    }
}

fn ustar_header(entry: &TarEntry) -> Header {
    let mut header = Header::new_ustar();
    let (kind, size, link, device) = match &entry.kind {
        TarEntryKind::File { size } => (EntryType::Regular, *size, None, None),
        TarEntryKind::Dir => (EntryType::Directory, 0, None, None),
        TarEntryKind::Symlink(target) => (EntryType::Symlink, 0, Some(target.as_slice()), None),
        TarEntryKind::HardLink(target) => (EntryType::Link, 0, Some(target.as_bytes()), None),
        TarEntryKind::Char(major, minor) => (EntryType::Char, 0, None, Some((*major, *minor))),
        TarEntryKind::Block(major, minor) => (EntryType::Block, 0, None, Some((*major, *minor))),
        TarEntryKind::Fifo => (EntryType::Fifo, 0, None, None),
    };
    let name = header_name(entry);
    let fields = header.as_mut_bytes();
    copy_truncated(&mut fields[0..100], &name);
    copy_truncated(&mut fields[157..257], link.unwrap_or_default());
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(u64::from(if entry.uid > LARGEST_OCTAL_ID { 0 } else { entry.uid }));
    header.set_gid(u64::from(if entry.gid > LARGEST_OCTAL_ID { 0 } else { entry.gid }));
    header.set_size(if size > LARGEST_OCTAL { 0 } else { size });
    header.set_mtime(u64::try_from(entry.mtime).ok().filter(|&time| time <= LARGEST_OCTAL).unwrap_or(0));
    let (major, minor) = device.unwrap_or_default();
    header.set_device_major(major).expect("a ustar header has the field");
    header.set_device_minor(minor).expect("a ustar header has the field");
    header.set_cksum();
    header
}

/// Returns the name in the header: a directory ends in a slash, and the root is `./`.
fn header_name(entry: &TarEntry) -> Vec<u8> {
    let mut name = entry.path.as_bytes().to_vec();
    if entry.kind == TarEntryKind::Dir {
        if name.is_empty() {
            name.push(b'.');
        }
        name.push(b'/');
    }
    name
}

fn copy_truncated(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

fn pax_header(length: usize) -> Header {
    let mut header = Header::new_ustar();
    copy_truncated(&mut header.as_mut_bytes()[0..100], b"PaxHeaders.0/x");
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(length as u64);
    header.set_mtime(0);
    header.set_cksum();
    header
}

/// Returns the pax records for values that the ustar fields cannot hold; empty for most entries.
fn pax_body(entry: &TarEntry) -> Vec<u8> {
    let mut body = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| push_pax_record(&mut body, key, value);
    let name = header_name(entry);
    if name.len() > 100 {
        add(b"path", &name);
    }
    match &entry.kind {
        TarEntryKind::Symlink(target) if target.len() > 100 => add(b"linkpath", target),
        TarEntryKind::HardLink(target) if target.as_bytes().len() > 100 => add(b"linkpath", target.as_bytes()),
        TarEntryKind::File { size } if *size > LARGEST_OCTAL => add(b"size", size.to_string().as_bytes()),
        TarEntryKind::File { .. }
        | TarEntryKind::Dir
        | TarEntryKind::Symlink(_)
        | TarEntryKind::HardLink(_)
        | TarEntryKind::Char(..)
        | TarEntryKind::Block(..)
        | TarEntryKind::Fifo => {}
    }
    if entry.uid > LARGEST_OCTAL_ID {
        add(b"uid", entry.uid.to_string().as_bytes());
    }
    if entry.gid > LARGEST_OCTAL_ID {
        add(b"gid", entry.gid.to_string().as_bytes());
    }
    if u64::try_from(entry.mtime).is_ok_and(|time| time > LARGEST_OCTAL) || entry.mtime < 0 {
        add(b"mtime", entry.mtime.to_string().as_bytes());
    }
    for (key, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", key.as_slice()].concat(), value);
    }
    body
}

/// Appends a pax record `LENGTH KEY=VALUE\n`, where LENGTH includes its own digits.
fn push_pax_record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    body.extend_from_slice(format!("{length} ").as_bytes());
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}
