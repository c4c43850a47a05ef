//! The reader of layer tars, which are untrusted.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::{TarEntry, TarEntryKind, Xattr};
use crate::tree_path::TreePathError;
use crate::{ArchiveLimit, ArchiveLimits, LimitExceeded, TreePath};

/// The longest value of an extended attribute on Linux, in bytes.
const LONGEST_XATTR: usize = 64 << 10;

/// The error for a tar that is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The underlying stream failed.
    #[error("cannot read the archive at byte {at}")]
    Read {
        /// The number of bytes read before.
        at: u64,
        /// The error of the stream.
        #[source]
        source: io::Error,
    },
    /// The stream ended in the middle of an entry.
    #[error("the archive ends in the middle of {what}")]
    Truncated {
        /// The entry, or the header.
        what: String,
    },
    /// A header is malformed, or has a value that is not supported.
    #[error("the archive is broken at byte {at}: {why}")]
    Malformed {
        /// The offset of the header.
        at: u64,
        /// The reason.
        why: String,
    },
    /// The name of an entry, or the target of its hard link, is not a valid path.
    #[error("the archive has an entry whose name cannot be used")]
    Path(#[from] TreePathError),
    /// The archive exceeds a limit.
    #[error("the archive is more than is taken of one")]
    LimitExceeded(#[from] LimitExceeded),
    /// An entry uses a feature that is not supported.
    #[error("the archive's entry {path} is {what}")]
    Unsupported {
        /// The entry.
        path: TreePath,
        /// The feature.
        what: &'static str,
    },
}

/// Reads a tar entry by entry, and the content of the current entry.
pub struct TarReader<R> {
    stream: R,
    offset: u64,
    remaining: u64,
    padding: u64,
    current: TreePath,
    limits: ArchiveLimits,
    entries: u64,
}

/// The extended headers of the next entry.
#[derive(Default)]
struct ExtendedHeader {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: Vec<Xattr>,
    sparse: bool,
    /// The size of these headers in bytes, for the limit.
    length: u64,
}

impl<R: Read> TarReader<R> {
    /// Returns a reader at the start of an archive.
    pub fn new(stream: R) -> Self {
        TarReader::resume_at(stream, 0)
    }

    /// Returns a reader for the rest of an archive: `stream` starts with a header at offset `at`.
    pub fn resume_at(stream: R, offset: u64) -> Self {
        let limits = ArchiveLimits::default();
        TarReader { stream, offset, remaining: 0, padding: 0, current: TreePath::root(), limits, entries: 0 }
    }

    /// Returns how many bytes of the archive were read.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// Returns how many bytes of the current entry are unread.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns the reader with these limits instead of the default ones.
    #[must_use]
    pub fn with_limits(self, limits: &ArchiveLimits) -> Self {
        TarReader { limits: *limits, ..self }
    }

    /// Returns the next entry, after skipping the unread content of the current one. Returns `None` at the end of the
    /// archive; anything after the end marker is ignored.
    ///
    /// # Errors
    /// Fails as described in [`TarError`].
    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        self.skip_rest()?;
        let mut extension = ExtendedHeader::default();
        let limits = self.limits;
        loop {
            let start = self.offset;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let broken = |why: String| TarError::Malformed { at: start, why };
            let size = header_size(&header).ok_or_else(|| broken("its size is no number".to_owned()))?;
            let kind = header.entry_type();
            if !(kind.is_pax_global_extensions()
                || kind.is_pax_local_extensions()
                || kind.is_gnu_longname()
                || kind.is_gnu_longlink())
            {
                return self.build_entry(&header, kind, size, extension, start).map(Some);
            }
            // The limit holds for all extended headers of an entry together, as there may be many.
            extension.length = extension.length.saturating_add(size.max(512));
            limits.check(ArchiveLimit::Header, extension.length)?;
            let body = self.read_extended_header(size)?;
            match kind {
                EntryType::XGlobalHeader => check_global_header(&body).map_err(broken)?,
                EntryType::GNULongName => extension.path = Some(until_nul(&body).to_vec()),
                EntryType::GNULongLink => extension.link = Some(until_nul(&body).to_vec()),
                _ => read_pax(&body, &mut extension).map_err(broken)?,
            }
        }
    }

    /// Reads up to the end of the stream, so that a stream that counts or hashes its bytes has read all of them.
    ///
    /// # Errors
    /// Fails when the stream fails.
    pub fn drain(mut self) -> Result<(), TarError> {
        let at = self.offset;
        io::copy(&mut self.stream, &mut io::sink()).map(drop).map_err(|source| TarError::Read { at, source })
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
    fn build_entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        mut extension: ExtendedHeader,
        start: u64,
    ) -> Result<TarEntry, TarError> {
        let broken = |why: &str| TarError::Malformed { at: start, why: why.to_owned() };
        let name = extension.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let path = TreePath::parse(&name)?;
        path.check_names()?;
        self.limits.check(ArchiveLimit::Depth, path.components().count() as u64)?;
        self.entries += 1;
        self.limits.check(ArchiveLimit::Entries, self.entries)?;
        let size = extension.size.unwrap_or(size);
        let link = extension.link.take().or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let link = || link.filter(|link| !link.is_empty()).ok_or_else(|| broken("a link has no target"));
        let device = || {
            let number = |field: io::Result<Option<u32>>| field.ok().flatten();
            number(header.device_major())
                .zip(number(header.device_minor()))
                .filter(|&(major, minor)| major < 1 << 12 && minor < 1 << 20)
                .ok_or_else(|| broken("a device has no number that Linux knows"))
        };
        if extension.sparse || kind == EntryType::GNUSparse {
            return Err(TarError::Unsupported { path, what: "a sparse file; pack it without `--sparse`" });
        }
        let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous) || header.as_bytes()[156] == 0;
        let kind = match kind {
            _ if is_file && name.ends_with(b"/") => TarEntryKind::Dir,
            _ if is_file => TarEntryKind::File { size },
            EntryType::Directory => TarEntryKind::Dir,
            EntryType::Symlink => TarEntryKind::Symlink(check_link(link()?)?),
            EntryType::Link => match TreePath::parse(&link()?)? {
                root if root.is_root() => return Err(broken("it has a hard link to a directory, the root")),
                target => TarEntryKind::HardLink(target),
            },
            EntryType::Char => device().map(|(major, minor)| TarEntryKind::Char(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| TarEntryKind::Block(major, minor))?,
            EntryType::Fifo => TarEntryKind::Fifo,
            _ => return Err(TarError::Unsupported { path, what: "of a kind that no file system has" }),
        };
        let id = |pax: Option<u64>, field: io::Result<u64>, what: &str| {
            let id = pax.map_or(field, Ok).map_err(|_| broken(&format!("its {what} is no number")))?;
            u32::try_from(id)
                .ok()
                .filter(|&id| id != u32::MAX)
                .ok_or_else(|| broken(&format!("{what} {id} is larger than Linux takes")))
        };
        let entry = TarEntry {
            mode: header.mode().map_err(|_| broken("its mode is no number"))? & 0o7777,
            uid: id(extension.uid, header.uid(), "user id")?,
            gid: id(extension.gid, header.gid(), "group id")?,
            mtime: extension.mtime.unwrap_or_else(|| signed_mtime(header)),
            xattrs: extension.xattrs,
            path,
            kind,
        };
        // Content after a header that is not of a regular file is skipped; its size may come from a pax header too.
        self.remaining = size;
        self.padding = size.wrapping_neg() % 512;
        self.current = entry.path.clone();
        Ok(entry)
    }

    /// Reads one header block, or returns `None` at the end of the archive.
    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header::new_old();
        let start = self.offset;
        let got = self.fill(header.as_mut_bytes())?;
        if got == 0 || header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if got < 512 {
            return Err(TarError::Truncated { what: "a header".to_owned() });
        }
        if !has_valid_checksum(&header) {
            let why = if start == 0 { "it is not a tar archive" } else { "a header has a wrong checksum" };
            return Err(TarError::Malformed { at: start, why: why.to_owned() });
        }
        Ok(Some(header))
    }

    /// Reads the body of an extended header. Memory grows as bytes arrive, not by the size in the header, which may be
    /// a lie even within a raised limit.
    fn read_extended_header(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let cut = || TarError::Truncated { what: "an extended header".to_owned() };
        let padded = size.checked_next_multiple_of(512).ok_or_else(cut)?;
        let mut body = Vec::new();
        let mut block = [0; 512];
        for _ in 0..padded / 512 {
            if self.fill(&mut block)? < block.len() {
                return Err(cut());
            }
            body.extend_from_slice(&block);
        }
        body.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(body)
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<usize, TarError> {
        let whole = buffer.len();
        while !buffer.is_empty() {
            match self.read_stream(buffer)? {
                0 => break,
                got => buffer = &mut buffer[got..],
            }
        }
        Ok(whole - buffer.len())
    }

    fn read_stream(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.stream.read(buffer) {
                Ok(got) => {
                    self.offset += got as u64;
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { at: self.offset, source }),
            }
        }
    }

    /// Reads the next bytes of the current entry; zero at its end.
    ///
    /// # Errors
    /// Fails when the stream fails or ends too early.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let limit = usize::try_from(self.remaining).map_or(buffer.len(), |left| left.min(buffer.len()));
        if limit == 0 {
            return Ok(0);
        }
        match self.read_stream(&mut buffer[..limit])? {
            0 => Err(TarError::Truncated { what: format!("{}", self.current) }),
            got => {
                self.remaining -= got as u64;
                Ok(got)
            }
        }
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut buffer = vec![0; 64 << 10];
        while self.read_data(&mut buffer)? > 0 {}
        let padding = usize::try_from(self.padding).expect("less than a block");
        self.padding = 0;
        // Some writers, such as umoci, omit the padding of the last file, and Go's reader accepts that.
        self.fill(&mut buffer[..padding]).map(drop)
    }
}

/// Returns the size in a header: octal digits, or a base-256 number, which must not be negative.
fn header_size(header: &Header) -> Option<u64> {
    let field = &header.as_bytes()[124..136];
    match field[0] {
        // The field has eleven bytes and seven bits, more than 64 bits.
        0x80 if field[1..4] == [0; 3] => Some(u64::from_be_bytes(field[4..].try_into().ok()?)),
        first if first & 0x80 != 0 => None,
        _ => header.entry_size().ok(),
    }
    .filter(|&size| i64::try_from(size).is_ok())
}

/// Returns whether `block` is a valid header block, and so the start of a tar with at least one entry.
pub fn is_header_block(block: &[u8]) -> bool {
    block.len() == 512 && has_valid_checksum(Header::from_byte_slice(block))
}

/// Compares the checksum, the sum of all bytes of the header with the checksum field read as blanks.
fn has_valid_checksum(header: &Header) -> bool {
    let sum =
        header.as_bytes().iter().enumerate().fold(0_u32, |sum, (at, &byte)| {
            sum + if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(byte) }
        });
    header.cksum().ok() == Some(sum)
}

/// Returns the modification time. Times before 1970 are base-256 numbers, which the `tar` crate reads as unsigned.
fn signed_mtime(header: &Header) -> i64 {
    let field = &header.as_bytes()[136..148];
    if field[0] == 0xff {
        return i64::from_be_bytes(field[4..].try_into().expect("eight bytes"));
    }
    header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn check_link(target: Vec<u8>) -> Result<Vec<u8>, TreePathError> {
    let lossy = || String::from_utf8_lossy(&target[..target.len().min(200)]).into_owned();
    match target.len() {
        _ if target.contains(&0) => Err(TreePathError::Nul(lossy())),
        4096.. => Err(TreePathError::PathTooLong(target.len())),
        _ => Ok(target),
    }
}

/// The key and the value of a pax record.
type PaxRecord<'a> = (&'a [u8], &'a [u8]);

/// Parses the records of a pax header: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
fn pax_records(mut body: &[u8]) -> Result<Vec<PaxRecord<'_>>, String> {
    let mut records = Vec::new();
    while !body.is_empty() && body[0] != 0 {
        let space = body.iter().take(20).position(|&b| b == b' ').ok_or("a pax record has no length")?;
        let length: usize = std::str::from_utf8(&body[..space])
            .ok()
            .and_then(|digits| digits.parse().ok())
            .filter(|&length| length > space + 2 && length <= body.len())
            .ok_or("a pax record has a wrong length")?;
        let record = body[space + 1..length].strip_suffix(b"\n").ok_or("a pax record has a wrong length")?;
        let equals = record.iter().position(|&b| b == b'=').ok_or("a pax record has no `=`")?;
        records.push((&record[..equals], &record[equals + 1..]));
        body = &body[length..];
    }
    Ok(records)
}

fn read_pax(body: &[u8], into: &mut ExtendedHeader) -> Result<(), String> {
    for (key, value) in pax_records(body)? {
        let number = || -> Result<u64, String> {
            let text = std::str::from_utf8(value).map_err(|_| "a pax number is no number")?;
            text.parse().map_err(|_| format!("pax `{}` is no number", key.escape_ascii()))
        };
        match key {
            b"path" => into.path = Some(value.to_vec()),
            b"linkpath" => into.link = Some(value.to_vec()),
            b"size" => {
                let size = number()?;
                i64::try_from(size).map_err(|_| "pax `size` is larger than any file")?;
                into.size = Some(size);
            }
            b"uid" => into.uid = Some(number()?),
            b"gid" => into.gid = Some(number()?),
            b"mtime" => into.mtime = Some(whole_seconds(value)),
            key if key.starts_with(b"GNU.sparse.") => into.sparse = true,
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > LONGEST_XATTR {
                        return Err("an extended attribute is longer than Linux takes".to_owned());
                    }
                    into.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    // The last of several attributes with the same name wins.
    into.xattrs.reverse();
    into.xattrs.sort_by(|(one, _), (other, _)| one.cmp(other));
    into.xattrs.dedup_by(|(next, _), (kept, _)| next == kept);
    Ok(())
}

/// Returns the seconds of a pax time, rounded down. A malformed time counts as 1970.
fn whole_seconds(value: &[u8]) -> i64 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().unwrap_or(0);
    let below_zero = whole.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
    seconds.saturating_sub(i64::from(below_zero))
}

/// Checks a global header. Comments are allowed (git leaves the commit there), but nothing that renames or resizes
/// later entries.
fn check_global_header(body: &[u8]) -> Result<(), String> {
    match pax_records(body)?.iter().find(|(key, _)| matches!(*key, b"path" | b"linkpath" | b"size")) {
        None => Ok(()),
        Some((key, _)) => Err(format!("a global header sets `{}` for every entry", key.escape_ascii())),
    }
}
