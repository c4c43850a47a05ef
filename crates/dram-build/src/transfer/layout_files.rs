//! The files of an image layout, in a directory or in a tar, which is read without unpacking it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use dram_image::document::LARGEST_DOCUMENT;
use dram_image::tar::{TarEntryKind, TarReader};
use dram_image::{DocumentError, TreePath};
use dram_store::{CompressionFormat, Dir, Store, StoreError};

use crate::temp_dir::TempDir;
use crate::transfer::TransferError;

/// The largest number of entries in an image archive, which has a few files for each layer.
const MAX_ENTRIES: usize = 200_000;
/// The largest number of links that are followed to a file.
const MAX_LINKS: usize = 8;

/// An open file: its length and a reader.
pub(super) type OpenedFile = (u64, Box<dyn Read + Send>);

/// Read-only access to files by name.
pub(super) trait LayoutFiles: fmt::Debug + Send + Sync {
    /// Opens a file: its length and a reader; `None` if it does not exist.
    fn open(&self, name: &TreePath) -> Result<Option<OpenedFile>, TransferError>;

    /// Returns their location, for messages.
    fn place(&self) -> &Path;
}

/// Reads a small file; `None` if it does not exist.
pub(super) fn read_small_file(files: &dyn LayoutFiles, name: &str) -> Result<Option<Vec<u8>>, TransferError> {
    let path = TreePath::parse(name.as_bytes()).map_err(StoreError::from)?;
    let Some((_, file)) = files.open(&path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let place = || format!("{name} of {}", files.place().display());
    let read = file.take(LARGEST_DOCUMENT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| TransferError::Read { place: place(), source })?;
    if bytes.len() > LARGEST_DOCUMENT {
        let source = DocumentError::TooLarge { what: "the document", length: bytes.len() };
        let place = files.place().display().to_string();
        return Err(TransferError::Document { place, file: name.to_owned(), source });
    }
    Ok(Some(bytes))
}

/// Opens the files at `path`: those of a directory, or those in an archive. An archive that is compressed, or that is
/// no regular file, is first unpacked into a temporary directory of `store`.
///
/// # Errors
/// Returns an error if it cannot be read, or is neither.
pub(super) fn open_layout_files(path: &Path, store: &Store) -> Result<Box<dyn LayoutFiles>, TransferError> {
    let fail = |source| TransferError::Read { place: path.display().to_string(), source };
    if std::fs::metadata(path).map_err(fail)?.is_dir() {
        return Ok(Box::new(LayoutDir { dir: Dir::open(path)?, place: path.to_owned() }));
    }
    let archive = File::open(path).map_err(fail)?;
    if archive.metadata().map_err(fail)?.is_file() {
        let mut head = [0; 512];
        let got = read_start(&archive, &mut head).map_err(fail)?;
        if CompressionFormat::detect(&head[..got]) == CompressionFormat::None {
            if !dram_image::tar::is_header_block(&head[..got]) {
                return Err(TransferError::NoImages(path.to_owned()));
            }
            return Ok(Box::new(LayoutTar::read_entries(archive, path)?));
        }
    }
    let into = TempDir::new(store)?;
    match store.layers().unpack_archive(archive, into.path(), &path.display().to_string())? {
        // The directory is kept: it is read as long as the layout is open.
        Some(_) => Ok(Box::new(LayoutDir { dir: Dir::open(&into.keep())?, place: path.to_owned() })),
        None => Err(TransferError::NoImages(path.to_owned())),
    }
}

fn read_start(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match file.read_at(&mut buffer[at..], at as u64)? {
            0 => break,
            got => at += got,
        }
    }
    Ok(at)
}

#[derive(Debug)]
struct LayoutDir {
    dir: Dir,
    place: PathBuf,
}

impl LayoutFiles for LayoutDir {
    fn open(&self, name: &TreePath) -> Result<Option<OpenedFile>, TransferError> {
        let file = match self.dir.open_file(name) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let place = || format!("{name} of {}", self.place.display());
        let length = file.metadata().map_err(|source| TransferError::Read { place: place(), source })?.len();
        Ok(Some((length, Box::new(file))))
    }

    fn place(&self) -> &Path {
        &self.place
    }
}

/// A tar with an index of its entries, which are read in place.
#[derive(Debug)]
struct LayoutTar {
    file: std::sync::Arc<File>,
    entries: BTreeMap<TreePath, TarContent>,
    place: PathBuf,
}

#[derive(Debug, Clone)]
enum TarContent {
    /// A file: the offset of its bytes, and their number.
    Bytes(u64, u64),
    /// A link to this file.
    Link(TreePath),
}

impl LayoutTar {
    fn read_entries(mut file: File, path: &Path) -> Result<LayoutTar, TransferError> {
        let broken = |source| TransferError::Store(StoreError::Tar { what: path.display().to_string(), source });
        let fail = |source| TransferError::Read { place: path.display().to_string(), source };
        let length = file.metadata().map_err(fail)?.len();
        let mut entries = BTreeMap::new();
        let mut at = 0;
        loop {
            file.seek(SeekFrom::Start(at)).map_err(fail)?;
            let mut reader = TarReader::resume_at(&mut file, at);
            let Some(entry) = reader.next_entry().map_err(broken)? else { break };
            let (start, size) = (reader.position(), reader.remaining());
            at = start.saturating_add(size).checked_next_multiple_of(512).unwrap_or(u64::MAX);
            if at > length.next_multiple_of(512) {
                let what = entry.path.to_string();
                return Err(broken(dram_image::tar::TarError::Truncated { what }));
            }
            let place = match entry.kind {
                TarEntryKind::File { size } => TarContent::Bytes(start, size),
                TarEntryKind::HardLink(target) => TarContent::Link(target),
                // Old versions of `docker save` wrote links for layers that occur several times.
                TarEntryKind::Symlink(target) => match resolve_link(&entry.path, &target) {
                    Some(target) => TarContent::Link(target),
                    None => continue,
                },
                TarEntryKind::Dir | TarEntryKind::Char(..) | TarEntryKind::Block(..) | TarEntryKind::Fifo => continue,
            };
            entries.insert(entry.path, place);
            if entries.len() > MAX_ENTRIES {
                let why = format!("it has more than {MAX_ENTRIES} files");
                return Err(broken(dram_image::tar::TarError::Malformed { at, why }));
            }
        }
        Ok(LayoutTar { file: std::sync::Arc::new(file), entries, place: path.to_owned() })
    }
}

/// Resolves the target of a symbolic link at `path`; `None` if it is outside the archive.
fn resolve_link(path: &TreePath, target: &[u8]) -> Option<TreePath> {
    let mut at = path.parent()?;
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => at = at.parent()?,
            part => at = at.join(part),
        }
    }
    (!target.starts_with(b"/")).then_some(at)
}

impl LayoutFiles for LayoutTar {
    fn open(&self, name: &TreePath) -> Result<Option<OpenedFile>, TransferError> {
        let mut name = name;
        for _ in 0..MAX_LINKS {
            match self.entries.get(name) {
                None => return Ok(None),
                Some(TarContent::Link(other)) => name = other,
                Some(TarContent::Bytes(start, size)) => {
                    let part = FileSection { file: self.file.clone(), at: *start, end: start.saturating_add(*size) };
                    return Ok(Some((*size, Box::new(part))));
                }
            }
        }
        Ok(None)
    }

    fn place(&self) -> &Path {
        &self.place
    }
}

/// A section of a file that other readers share.
struct FileSection {
    file: std::sync::Arc<File>,
    at: u64,
    end: u64,
}

impl Read for FileSection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_out_of_the_archive_is_not_followed() {
        let path = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        for (link, target, leads) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a", "b", Some("b")),
            ("a/b", "./c", Some("a/c")),
            ("a", "../etc/passwd", None),
            ("a/b", "../../etc/passwd", None),
            ("a", "/etc/passwd", None),
        ] {
            assert_eq!(resolve_link(&path(link), target.as_bytes()), leads.map(path), "{link} -> {target}");
        }
    }
}
