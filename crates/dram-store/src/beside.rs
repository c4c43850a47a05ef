//! Ownership tables: file metadata that an unprivileged process cannot set on the disk (owners, modes, devices,
//! extended attributes). The table of the layer `layers/ID` is `layers/ID.owners`.
//!
//! A line holds the metadata of one file that differs from the disk: `PATH UID:GID MODE DEVICE NAME=VALUE,…`, with `-`
//! for a field that does not. Non-ASCII bytes and separators are escaped as `%XX`. While a layer is being written,
//! lines are appended and the last one of a path counts; `PATH gone` removes the records of a path and all below it.
//! The table of a committed layer is sorted and has one line for a path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::file::{self, Durable};
use crate::rights::Rights;
use crate::{FileKind, Status, StoreError};

/// The size of a table of a million files with long names.
const LARGEST: u64 = 256 << 20;

/// Metadata of one file that differs from the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Beside {
    /// User and group.
    pub(crate) owner: Option<(u32, u32)>,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// The device that an empty regular file represents.
    pub(crate) device: Option<FileKind>,
    /// Extended attributes.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The ownership table of a directory tree.
#[derive(Debug)]
pub(crate) struct Table {
    file: PathBuf,
    rights: Rights,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the bytes of the path, so that the content of a directory is a range of keys.
    known: BTreeMap<Vec<u8>, Beside>,
    journal: Option<File>,
}

/// The path of the table of the tree `dir`.
pub(crate) fn table_of(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(".owners");
    PathBuf::from(name)
}

/// A view of an ownership table with paths relative to one directory of its tree.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) table: Arc<Table>,
    pub(crate) at: TreePath,
}

impl Part {
    /// Opens the table of the tree `dir` for a process with `rights`. Root needs no table: `None`.
    ///
    /// # Errors
    /// When the table is damaged or cannot be read.
    pub(crate) fn open(dir: &Path, rights: Rights) -> Result<Option<Part>, StoreError> {
        if rights == Rights::All {
            return Ok(None);
        }
        let file = table_of(dir);
        let state = State { known: read(&file)?, journal: None };
        let table = Table { file, rights, state: Mutex::new(state) };
        Ok(Some(Part { table: Arc::new(table), at: TreePath::root() }))
    }

    /// The view for the subdirectory `path`.
    pub(crate) fn sub(&self, path: &TreePath) -> Part {
        Part { table: Arc::clone(&self.table), at: self.at.append(path) }
    }

    pub(crate) fn rights(&self) -> Rights {
        self.table.rights
    }

    /// Returns `true` when a device that cannot be created may be recorded instead. A whiteout may not where overlayfs
    /// has to see it.
    pub(crate) fn may_write_down(&self, kind: FileKind) -> bool {
        match kind {
            FileKind::Char(0, 0) => self.rights() == Rights::Nothing,
            FileKind::Char(..) | FileKind::Block(..) => true,
            FileKind::File | FileKind::Dir | FileKind::Symlink | FileKind::Fifo | FileKind::Socket => false,
        }
    }

    fn key(&self, path: &TreePath) -> Vec<u8> {
        self.at.append(path).as_bytes().to_vec()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.table.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the disk's values in `status` by the recorded ones.
    pub(crate) fn correct(&self, path: &TreePath, status: &mut Status) {
        if self.rights().all_is_roots() {
            (status.uid, status.gid) = (0, 0);
        }
        let state = self.state();
        if state.known.is_empty() {
            return;
        }
        if let Some(beside) = state.known.get(&self.key(path)) {
            (status.uid, status.gid) = beside.owner.unwrap_or((status.uid, status.gid));
            status.mode = beside.mode.unwrap_or(status.mode);
            status.kind = beside.device.unwrap_or(status.kind);
        }
    }

    /// Adds the recorded extended attributes; they take precedence.
    pub(crate) fn add_xattrs(&self, path: &TreePath, all: &mut Vec<Xattr>) {
        if let Some(beside) = self.state().known.get(&self.key(path)) {
            all.retain(|(name, _)| !beside.xattrs.contains_key(name));
            all.extend(beside.xattrs.clone());
            all.sort();
        }
    }

    /// Changes the record of one file.
    pub(crate) fn change(&self, path: &TreePath, change: impl FnOnce(&mut Beside)) -> Result<(), StoreError> {
        let key = self.key(path);
        let mut state = self.state();
        let before = state.known.get(&key);
        let mut beside = before.cloned().unwrap_or_default();
        change(&mut beside);
        if before.map_or(beside == Beside::default(), |before| *before == beside) {
            return Ok(());
        }
        let line = line(&key, &beside);
        state.known.insert(key, beside);
        self.append(&mut state, &line)
    }

    /// Copies the record of `old` in `from` to `new`, its new hard link.
    pub(crate) fn same(&self, from: &Part, old: &TreePath, new: &TreePath) -> Result<(), StoreError> {
        let beside = from.state().known.get(&from.key(old)).cloned();
        self.change(new, |there| *there = beside.unwrap_or_default())
    }

    /// Removes the records of `path` and all below it.
    pub(crate) fn forget(&self, path: &TreePath) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.known.is_empty() {
            return Ok(());
        }
        let key = self.key(path);
        if !forget(&mut state.known, &key) {
            return Ok(());
        }
        self.append(&mut state, &[escape(&key), b" gone\n".to_vec()].concat())
    }

    fn append(&self, state: &mut State, line: &[u8]) -> Result<(), StoreError> {
        let fail = || StoreError::io("write", &self.table.file);
        if state.journal.is_none() {
            let opened = File::options().append(true).create(true).open(&self.table.file);
            state.journal = Some(opened.map_err(fail())?);
        }
        let Some(journal) = &mut state.journal else { return Ok(()) };
        journal.write_all(line).map_err(fail())
    }
}

/// Moves the table of the tree `made` to the tree `place`, sorted, with a temporary file in `work`. An empty table has
/// no file.
pub(crate) fn settle(made: &Path, place: &Path, work: &Path) -> Result<(), StoreError> {
    let (from, to) = (table_of(made), table_of(place));
    let known = read(&from)?;
    if known.is_empty() {
        remove(&to)?;
    } else {
        let lines = known.iter().filter(|(_, beside)| **beside != Beside::default());
        let bytes: Vec<u8> = lines.flat_map(|(key, beside)| line(key, beside)).collect();
        file::replace(&to, &bytes, work, Durable::No)?;
    }
    remove(&from)
}

/// Removes a table's file if it exists.
pub(crate) fn remove(table: &Path) -> Result<(), StoreError> {
    match fs::remove_file(table) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(StoreError::io("remove", table)),
    }
}

fn read(file: &Path) -> Result<BTreeMap<Vec<u8>, Beside>, StoreError> {
    let bytes = file::read_small(file, LARGEST)?.unwrap_or_default();
    let mut known = BTreeMap::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let damaged = || {
            let source = io::Error::new(io::ErrorKind::InvalidData, "the table of owners is damaged");
            StoreError::Io { verb: "read", path: file.to_owned(), source }
        };
        match parse(line).ok_or_else(damaged)? {
            (key, Some(beside)) => drop(known.insert(key, beside)),
            (key, None) => drop(forget(&mut known, &key)),
        }
    }
    Ok(known)
}

/// Removes the records of `key` and all below it. Returns `true` when there were any.
fn forget(known: &mut BTreeMap<Vec<u8>, Beside>, key: &[u8]) -> bool {
    let (from, to) = match key {
        // Of the root: everything.
        [] => (Vec::new(), vec![0xff]),
        // `0` is the byte after `/`.
        key => ([key, b"/"].concat(), [key, b"0"].concat()),
    };
    let mut gone: Vec<Vec<u8>> = known.range(from..to).map(|(path, _)| path.clone()).collect();
    gone.extend(known.contains_key(key).then(|| key.to_vec()));
    gone.iter().for_each(|path| drop(known.remove(path)));
    !gone.is_empty()
}

fn line(key: &[u8], beside: &Beside) -> Vec<u8> {
    let Beside { owner, mode, device, xattrs } = beside;
    let dash = || "-".to_owned();
    let owner = owner.map_or_else(dash, |(uid, gid)| format!("{uid}:{gid}"));
    let mode = mode.map_or_else(dash, |mode| format!("{mode:o}"));
    let device = match device {
        Some(FileKind::Char(major, minor)) => format!("c{major}:{minor}"),
        Some(FileKind::Block(major, minor)) => format!("b{major}:{minor}"),
        Some(FileKind::File | FileKind::Dir | FileKind::Symlink | FileKind::Fifo | FileKind::Socket) | None => dash(),
    };
    let mut all = [&escape(key)[..], format!(" {owner} {mode} {device} ").as_bytes()].concat();
    let each = |(name, value): (&Vec<u8>, &Vec<u8>)| [escape(name), escape(value)].join(&b'=');
    let xattrs: Vec<Vec<u8>> = xattrs.iter().map(each).collect();
    all.extend(if xattrs.is_empty() { b"-".to_vec() } else { xattrs.join(&b',') });
    all.push(b'\n');
    all
}

/// Parses a line into a path and its record, which is `None` for a `gone` line. Returns `None` for a damaged line.
fn parse(line: &[u8]) -> Option<(Vec<u8>, Option<Beside>)> {
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    let [path, owner, mode, device, xattrs] = words[..] else {
        let [path, "gone"] = words[..] else { return None };
        return Some((unescape(path)?, None));
    };
    let said = |text: &&str| *text != "-";
    let pair = |text: &str| text.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let mut beside = Beside::default();
    if said(&owner) {
        beside.owner = Some(pair(owner)?);
    }
    if said(&mode) {
        beside.mode = Some(u32::from_str_radix(mode, 8).ok()?);
    }
    if said(&device) {
        let (kind, numbers) = device.split_at_checked(1)?;
        let (major, minor) = pair(numbers)?;
        beside.device = Some(if kind == "b" { FileKind::Block(major, minor) } else { FileKind::Char(major, minor) });
    }
    for xattr in xattrs.split(',').filter(said) {
        let (name, value) = xattr.split_once('=')?;
        beside.xattrs.insert(unescape(name)?, unescape(value)?);
    }
    Some((unescape(path)?, Some(beside)))
}

/// Escapes a field. The root's path is empty and becomes `%`, as a field cannot be empty.
fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut all = if bytes.is_empty() { b"%".to_vec() } else { Vec::new() };
    for &byte in bytes {
        match byte {
            b'%' | b'=' | b',' | 0..=b' ' | 0x7f.. => all.extend(format!("%{byte:02x}").bytes()),
            byte => all.push(byte),
        }
    }
    all
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    if text == "%" {
        return Some(Vec::new());
    }
    let mut parts = text.as_bytes().split(|&byte| byte == b'%');
    let mut all = parts.next()?.to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        all.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        all.extend(rest);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use dram_image::Limits;
    use dram_image::tar::{Entry, EntryKind, TarWriter};

    use super::*;
    use crate::Dir;
    use crate::unpack::{How, Meaning, unpack};

    #[test]
    fn formatted_lines_parse_to_the_same_record() {
        let all = Beside {
            owner: Some((0, u32::MAX)),
            mode: Some(0o4711),
            device: Some(FileKind::Block(7, 255)),
            xattrs: BTreeMap::from([(b"user.a=b,c %".to_vec(), vec![0, 255, b'\n']), (b"user.empty".to_vec(), vec![])]),
        };
        let device = Beside { device: Some(FileKind::Char(1, 3)), ..Beside::default() };
        for beside in [all, device, Beside::default()] {
            for path in [&b""[..], b"a/b", b"%", b"-", b" gone", b"\xff\n/=,"] {
                let line = line(path, &beside);
                assert!(line.ends_with(b"\n") && line.iter().filter(|&&byte| byte == b'\n').count() == 1);
                assert_eq!(parse(line.trim_ascii_end()), Some((path.to_vec(), Some(beside.clone()))));
            }
        }
    }

    #[test]
    fn damaged_table_is_an_error_except_for_root() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer");
        for text in
            ["a", "a 1 - - -", "a 1:x - - -", "a - 9 - -", "a - - \u{e9}1:2 -", "a - - c1 -", "a - - - x", "%4 - - - -"]
        {
            fs::write(table_of(&layer), text).unwrap();
            assert!(Part::open(&layer, Rights::Nothing).is_err(), "{text}");
            assert!(Part::open(&layer, Rights::All).unwrap().is_none());
        }
    }

    /// A tar with one entry of each kind that an unprivileged process cannot create.
    fn archive(devices: bool) -> Vec<u8> {
        let file = || EntryKind::File { size: 0 };
        let owned = |path: &str, kind, mode, uid, gid| {
            let path = TreePath::parse(path.as_bytes()).unwrap();
            Entry { path, kind, mode, uid, gid, mtime: 5, xattrs: Vec::new() }
        };
        let mut entries = vec![
            owned("d", EntryKind::Dir, 0o555, 77, 78),
            owned("d/set", file(), 0o6711, 0, 0),
            owned("d/again", EntryKind::HardLink(TreePath::parse(b"d/set").unwrap()), 0o644, 0, 0),
            owned("link", EntryKind::Symlink(b"d".to_vec()), 0o777, 5, 6),
            owned("link/through", file(), 0o000, 3_000_000_000, 1),
            owned("replaced", file(), 0o600, 9, 9),
            owned("replaced", file(), 0o600, 0, 0),
            owned("gone", EntryKind::Dir, 0o700, 9, 9),
            owned("gone/too", file(), 0o600, 9, 9),
            owned("gone", file(), 0o600, 0, 0),
            owned(".wh.below", file(), 0o600, 0, 0),
            owned("d/.wh..wh..opq", file(), 0o600, 0, 0),
            owned("pipe", EntryKind::Fifo, 0o622, 7, 0),
        ];
        if devices {
            entries.push(owned("null", EntryKind::Char(1, 3), 0o666, 0, 5));
            entries.push(owned("disk", EntryKind::Block(7, 0), 0o660, 0, 6));
        }
        entries[1].xattrs = vec![(b"security.capability".to_vec(), [&[1, 0, 0, 2, 0, 32][..], &[0; 14]].concat())];
        let mut writer = TarWriter::new(Vec::new());
        entries.iter().for_each(|entry| writer.append(entry, &mut io::empty()).unwrap());
        writer.finish().unwrap()
    }

    /// Unpacks `tar` with `rights` and returns the digest of its content and its ownership table.
    fn unpack_with_rights(tar: &[u8], rights: Rights) -> (blake3::Hash, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let (made, place) = (dir.path().join("made"), dir.path().join("place"));
        fs::create_dir(&made).unwrap();
        let root = Dir::open_layer_with(&made, rights).unwrap();
        let how = How { meaning: Meaning::Layer, limits: &Limits::default(), what: "the test" };
        unpack(&mut &tar[..], &root, how).unwrap();
        let fresh = crate::layers::content(&root, &|_| true).unwrap();
        drop(root);
        settle(&made, &place, dir.path()).unwrap();
        fs::rename(&made, &place).unwrap();
        assert!(!table_of(&made).exists());
        let whole = Dir::open_layer_with(&place, rights).unwrap();
        assert_eq!(crate::layers::content(&whole, &|_| true).unwrap(), fresh);
        (fresh, fs::read(table_of(&place)).unwrap_or_default())
    }

    #[test]
    fn layer_content_is_the_same_for_all_privileges() {
        let tar = archive(true);
        let (of_root, no_table) = unpack_with_rights(&tar, Rights::All);
        assert_eq!(no_table, b"");
        for rights in [Rights::Lent, Rights::OneId, Rights::Nothing] {
            assert_eq!(unpack_with_rights(&tar, rights).0, of_root, "{rights:?}");
        }
        let (_, table) = unpack_with_rights(&tar, Rights::Nothing);
        let table = String::from_utf8(table).unwrap();
        for line in ["d 77:78 555 - -\n", "d/again - 6711 - -\n", "d/through 3000000000:1 0 - -\n", "link 5:6 - - -\n"]
        {
            assert!(table.contains(line), "{table}");
        }
        assert!(!table.contains("replaced") && !table.contains("gone"), "{table}");
    }

    #[test]
    fn removing_a_path_removes_the_records_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part::open(&dir.path().join("layer"), Rights::OneId).unwrap().unwrap();
        let path = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        for name in ["a", "a/b", "a/b/c", "a-b", "a0"] {
            part.change(&path(name), |beside| beside.owner = Some((1, 1))).unwrap();
        }
        part.same(&part, &path("a0"), &path("z")).unwrap();
        part.forget(&path("a")).unwrap();
        let again = Part::open(&dir.path().join("layer"), Rights::OneId).unwrap().unwrap();
        for part in [&part, &again] {
            let names: Vec<_> = part.state().known.keys().cloned().collect();
            assert_eq!(names, [&b"a-b"[..], b"a0", b"z"]);
        }
    }
}
