//! The files of an image layout, in a directory or in a tar, which is read without unpacking it.
//!
//! Links are followed within the directory or the tar, and never lead out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use dram_image::document::LARGEST_DOCUMENT;
use dram_image::tar::{TarEntryKind, TarReader};
use dram_image::{DocumentError, TreePath};
use dram_store::{CompressionFormat, DecompressingReader, Dir, Store, StoreError};

use crate::temp_dir::TempDir;
use crate::transfer::TransferError;

/// The largest number of entries in an image archive, which has a few files for each layer.
const MAX_ENTRIES: usize = 200_000;
/// The largest sum of the lengths of their names, in bytes.
const MAX_NAME_BYTES: usize = 64 << 20;
/// The largest number of links that are followed to a file, as many as Linux follows.
const MAX_LINKS: usize = 40;

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
    check_file_size("the document", bytes.len()).map_err(|source| {
        let place = files.place().display().to_string();
        TransferError::Document { place, file: name.to_owned(), source }
    })?;
    Ok(Some(bytes))
}

/// Checks the length of a small file, `what`, that is read or written.
pub(super) fn check_file_size(what: &'static str, length: usize) -> Result<(), DocumentError> {
    let limit = LARGEST_DOCUMENT;
    if length > limit { Err(DocumentError::TooLarge { what, length, limit }) } else { Ok(()) }
}

/// Opens the files at `path`: those of a directory, or those in an archive. An archive that is compressed, or that is
/// no regular file, is first copied without its compression to a temporary file of `store`.
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
    match copy_plain_tar(archive, path, store)? {
        Some(plain) => Ok(Box::new(LayoutTar::read_entries(plain, path)?)),
        None => Err(TransferError::NoImages(path.to_owned())),
    }
}

/// Copies the tar that `archive` holds in any supported compression to a file without a name; `None` if it is no tar.
fn copy_plain_tar(archive: File, path: &Path, store: &Store) -> Result<Option<File>, TransferError> {
    let read_error = |source| StoreError::Io { verb: "read", path: path.to_owned(), source };
    let mut plain = DecompressingReader::new(Box::new(archive), store.limits()).map_err(read_error)?;
    let mut head = Vec::new();
    let read = (&mut plain).take(512).read_to_end(&mut head);
    if read.is_err() || !dram_image::tar::is_header_block(&head) {
        return Ok(None);
    }
    let dir = TempDir::new(store)?;
    let place = dir.path().join("archive.tar");
    let write_error = |source| TransferError::Write { place: place.clone(), source };
    let mut file = File::options().read(true).write(true).create_new(true).open(&place).map_err(write_error)?;
    let (mut from, mut buffer, mut length) = (head.as_slice().chain(plain), vec![0; 128 << 10], 0_u64);
    loop {
        let got = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            got => got.map_err(read_error)?,
        };
        if got == 0 {
            break;
        }
        length += got as u64;
        // Zeros take no space on the disk.
        let written = match buffer[..got].iter().all(|&byte| byte == 0) {
            true => file.seek(SeekFrom::Start(length)).map(drop),
            false => file.write_all(&buffer[..got]),
        };
        written.map_err(write_error)?;
    }
    file.set_len(length).map_err(write_error)?;
    Ok(Some(file))
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
        let file = match self.dir.open_file_through_links(name) {
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
    /// A link to this path.
    Link(TreePath),
    /// A link that leads out of the archive.
    LinkOutside,
}

impl LayoutTar {
    fn read_entries(mut file: File, path: &Path) -> Result<LayoutTar, TransferError> {
        let broken = |source| TransferError::Store(StoreError::Tar { what: path.display().to_string(), source });
        let fail = |source| TransferError::Read { place: path.display().to_string(), source };
        let length = file.metadata().map_err(fail)?.len();
        let mut entries = BTreeMap::new();
        let (mut at, mut name_bytes) = (0, 0);
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
                TarEntryKind::Symlink(target) => {
                    resolve_link(&entry.path, &target).map_or(TarContent::LinkOutside, TarContent::Link)
                }
                TarEntryKind::Dir | TarEntryKind::Char(..) | TarEntryKind::Block(..) | TarEntryKind::Fifo => continue,
            };
            name_bytes += entry.path.as_bytes().len();
            if let TarContent::Link(target) = &place {
                name_bytes += target.as_bytes().len();
            }
            entries.insert(entry.path, place);
            if entries.len() > MAX_ENTRIES || name_bytes > MAX_NAME_BYTES {
                let why = format!("it has more than {MAX_ENTRIES} files, or {} MiB of names", MAX_NAME_BYTES >> 20);
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

impl LayoutTar {
    /// Returns offset and length of the file `name`, to which links may lead: in its last component, or in one before.
    fn find(&self, name: &TreePath) -> Result<Option<(u64, u64)>, TransferError> {
        let refused = |why: String| TransferError::Document {
            place: self.place.display().to_string(),
            file: name.to_string(),
            source: DocumentError::Invalid { what: "the archive", why },
        };
        let mut path = name.clone();
        for _ in 0..=MAX_LINKS {
            let Some((link, content)) = self.first_entry_on(&path) else { return Ok(None) };
            match content {
                TarContent::Bytes(start, size) => return Ok((link == path).then_some((*start, *size))),
                TarContent::LinkOutside => return Err(refused(format!("`{link}` is a link that leads out of it"))),
                TarContent::Link(target) => {
                    let rest = path.as_bytes()[link.as_bytes().len()..].to_vec();
                    let joined = [target.as_bytes(), &rest].concat();
                    path = TreePath::parse(&joined).map_err(StoreError::from)?;
                }
            }
        }
        Err(refused(format!("it goes through more than {MAX_LINKS} links")))
    }

    /// Returns the first file or link among `path` and the paths on the way to it.
    fn first_entry_on(&self, path: &TreePath) -> Option<(TreePath, &TarContent)> {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([bytes.len()]).find_map(|end| {
            let part = TreePath::parse(&bytes[..end]).ok()?;
            let content = self.entries.get(&part)?;
            Some((part, content))
        })
    }
}

impl LayoutFiles for LayoutTar {
    fn open(&self, name: &TreePath) -> Result<Option<OpenedFile>, TransferError> {
        let Some((start, size)) = self.find(name)? else { return Ok(None) };
        let part = FileSection { file: self.file.clone(), at: start, end: start.saturating_add(size) };
        Ok(Some((size, Box::new(part))))
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
    use std::os::unix::fs::symlink;

    use dram_image::tar::{TarEntry, TarWriter};
    use dram_store::ZstdWriter;

    use super::*;

    fn archive(entries: &[(&str, TarEntryKind)]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (name, kind) in entries {
            let path = TreePath::parse(name.as_bytes()).unwrap();
            let size = if let TarEntryKind::File { size } = kind { *size } else { 0 };
            let content = name.as_bytes().repeat(usize::try_from(size).unwrap() / name.len());
            let (mode, mtime, xattrs) = (0o644, 0, Vec::new());
            let entry = TarEntry { path, kind: kind.clone(), mode, uid: 0, gid: 0, mtime, xattrs };
            tar.append(&entry, &mut content.as_slice()).unwrap();
        }
        tar.finish().unwrap()
    }

    #[test]
    fn links_in_an_archive_lead_to_the_same_files_whatever_way_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let symlink_to = |target: &str| TarEntryKind::Symlink(target.as_bytes().to_vec());
        let bytes = archive(&[
            ("2/layer.tar", symlink_to("../1/layer.tar")),
            ("3/layer.tar", symlink_to("../2/./layer.tar")),
            ("dir", symlink_to("1")),
            ("hard", TarEntryKind::HardLink(TreePath::parse(b"2/layer.tar").unwrap())),
            ("loop", symlink_to("pool")),
            ("pool", symlink_to("loop")),
            ("out", symlink_to("../../etc/hostname")),
            ("absolute", symlink_to("/etc/hostname")),
            ("gone", symlink_to("nothing")),
            ("1/layer.tar", TarEntryKind::File { size: 11 * 100 }),
        ]);
        let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
        std::fs::write(&plain, &bytes).unwrap();
        let mut writer = ZstdWriter::new(File::create(&packed).unwrap(), 3).unwrap();
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap();
        for place in [plain, packed] {
            let files = open_layout_files(&place, &store).unwrap();
            for name in ["1/layer.tar", "2/layer.tar", "3/layer.tar", "dir/layer.tar", "hard"] {
                let mut read = Vec::new();
                let (size, mut file) = files.open(&TreePath::parse(name.as_bytes()).unwrap()).unwrap().expect(name);
                file.read_to_end(&mut read).unwrap();
                assert_eq!((size, read), (1100, b"1/layer.tar".repeat(100)), "{name} of {}", place.display());
            }
            for (name, words) in [("loop", "more than 40 links"), ("out", "leads out"), ("absolute", "leads out")] {
                let error = files.open(&TreePath::parse(name.as_bytes()).unwrap()).err().expect(name);
                let text = dram_store::error_chain(&error);
                assert!(text.contains(words), "{name}: {text}");
            }
            for name in ["gone", "dir", "1/layer.tar/x"] {
                assert!(files.open(&TreePath::parse(name.as_bytes()).unwrap()).unwrap().is_none(), "{name}");
            }
        }
    }

    #[test]
    fn links_in_a_directory_are_followed_within_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("saved");
        std::fs::create_dir_all(place.join("1")).unwrap();
        std::fs::write(place.join("1/layer.tar"), "layer").unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("1/layer.tar", place.join("in")).unwrap();
        symlink("../secret", place.join("out")).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let files = open_layout_files(&place, &store).unwrap();
        assert_eq!(files.open(&TreePath::parse(b"in").unwrap()).unwrap().unwrap().0, 5);
        let error = files.open(&TreePath::parse(b"out").unwrap()).err().unwrap();
        assert!(dram_store::error_chain(&error).contains("leads out of the directory"), "{error}");
    }

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
