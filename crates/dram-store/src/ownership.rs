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

use crate::atomic_file::{self, Durability};
use crate::id_mapping::IdMapping;
use crate::{FileKind, FileStatus, StoreError};

/// The size of a table of a million files with long names.
const MAX_OWNERSHIP_TABLE_BYTES: u64 = 256 << 20;

/// Metadata of one file that differs from the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OwnershipRecord {
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
pub(crate) struct OwnershipTable {
    table_path: PathBuf,
    id_mapping: IdMapping,
    state: Mutex<OwnershipState>,
}

#[derive(Debug, Default)]
struct OwnershipState {
    /// By the bytes of the path, so that the content of a directory is a range of keys.
    records: BTreeMap<Vec<u8>, OwnershipRecord>,
    journal: Option<File>,
}

/// The path of the table of the tree `dir`.
pub(crate) fn ownership_table_path(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(".owners");
    PathBuf::from(name)
}

/// A view of an ownership table with paths relative to one directory of its tree.
#[derive(Debug, Clone)]
pub(crate) struct OwnershipView {
    pub(crate) table: Arc<OwnershipTable>,
    pub(crate) dir_path: TreePath,
}

impl OwnershipView {
    /// Opens the table of the tree `dir` for a process with `rights`. Root needs no table: `None`.
    ///
    /// # Errors
    /// When the table is damaged or cannot be read.
    pub(crate) fn open(dir: &Path, id_mapping: IdMapping) -> Result<Option<OwnershipView>, StoreError> {
        if id_mapping == IdMapping::Root {
            return Ok(None);
        }
        let file = ownership_table_path(dir);
        let state = OwnershipState { records: read_table(&file)?, journal: None };
        let table = OwnershipTable { table_path: file, id_mapping, state: Mutex::new(state) };
        Ok(Some(OwnershipView { table: Arc::new(table), dir_path: TreePath::root() }))
    }

    /// The view for the subdirectory `path`.
    pub(crate) fn for_subdir(&self, path: &TreePath) -> OwnershipView {
        OwnershipView { table: Arc::clone(&self.table), dir_path: self.dir_path.append(path) }
    }

    pub(crate) fn id_mapping(&self) -> IdMapping {
        self.table.id_mapping
    }

    /// Returns `true` when a device that cannot be created may be recorded instead. A whiteout may not where overlayfs
    /// has to see it.
    pub(crate) fn can_record_device(&self, kind: FileKind) -> bool {
        match kind {
            FileKind::Char(0, 0) => self.id_mapping() == IdMapping::Unprivileged,
            FileKind::Char(..) | FileKind::Block(..) => true,
            FileKind::File | FileKind::Dir | FileKind::Symlink | FileKind::Fifo | FileKind::Socket => false,
        }
    }

    fn record_key(&self, path: &TreePath) -> Vec<u8> {
        self.dir_path.append(path).as_bytes().to_vec()
    }

    fn lock_state(&self) -> MutexGuard<'_, OwnershipState> {
        self.table.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the disk's values in `status` by the recorded ones.
    pub(crate) fn apply_to_status(&self, path: &TreePath, status: &mut FileStatus) {
        if self.id_mapping().owner_defaults_to_root() {
            (status.uid, status.gid) = (0, 0);
        }
        let state = self.lock_state();
        if state.records.is_empty() {
            return;
        }
        if let Some(record) = state.records.get(&self.record_key(path)) {
            (status.uid, status.gid) = record.owner.unwrap_or((status.uid, status.gid));
            status.mode = record.mode.unwrap_or(status.mode);
            status.kind = record.device.unwrap_or(status.kind);
        }
    }

    /// Adds the recorded extended attributes; they take precedence.
    pub(crate) fn add_xattrs(&self, path: &TreePath, all: &mut Vec<Xattr>) {
        if let Some(record) = self.lock_state().records.get(&self.record_key(path)) {
            all.retain(|(name, _)| !record.xattrs.contains_key(name));
            all.extend(record.xattrs.clone());
            all.sort();
        }
    }

    /// Changes the record of one file.
    pub(crate) fn update_record(
        &self,
        path: &TreePath,
        change: impl FnOnce(&mut OwnershipRecord),
    ) -> Result<(), StoreError> {
        let key = self.record_key(path);
        let mut state = self.lock_state();
        let before = state.records.get(&key);
        let mut record = before.cloned().unwrap_or_default();
        change(&mut record);
        if before.map_or(record == OwnershipRecord::default(), |before| *before == record) {
            return Ok(());
        }
        let line = format_record(&key, &record);
        state.records.insert(key, record);
        self.append_line(&mut state, &line)
    }

    /// Copies the record of `old` in `from` to `new`, its new hard link.
    pub(crate) fn copy_record(&self, from: &OwnershipView, old: &TreePath, new: &TreePath) -> Result<(), StoreError> {
        let record = from.lock_state().records.get(&from.record_key(old)).cloned();
        self.update_record(new, |there| *there = record.unwrap_or_default())
    }

    /// Removes the records of `path` and all below it.
    pub(crate) fn remove_subtree(&self, path: &TreePath) -> Result<(), StoreError> {
        let mut state = self.lock_state();
        if state.records.is_empty() {
            return Ok(());
        }
        let key = self.record_key(path);
        if !remove_subtree_records(&mut state.records, &key) {
            return Ok(());
        }
        self.append_line(&mut state, &[escape(&key), b" gone\n".to_vec()].concat())
    }

    fn append_line(&self, state: &mut OwnershipState, line: &[u8]) -> Result<(), StoreError> {
        let fail = || StoreError::io("write", &self.table.table_path);
        if state.journal.is_none() {
            let opened = File::options().append(true).create(true).open(&self.table.table_path);
            state.journal = Some(opened.map_err(fail())?);
        }
        let Some(journal) = &mut state.journal else { return Ok(()) };
        journal.write_all(line).map_err(fail())
    }
}

/// Moves the table of the tree `made` to the tree `place`, sorted, with a temporary file in `work`. An empty table has
/// no file.
pub(crate) fn finalize_table(made: &Path, place: &Path, work: &Path) -> Result<(), StoreError> {
    let (from, to) = (ownership_table_path(made), ownership_table_path(place));
    let known = read_table(&from)?;
    if known.is_empty() {
        remove_table(&to)?;
    } else {
        let lines = known.iter().filter(|(_, record)| **record != OwnershipRecord::default());
        let bytes: Vec<u8> = lines.flat_map(|(key, record)| format_record(key, record)).collect();
        atomic_file::write_atomic(&to, &bytes, MAX_OWNERSHIP_TABLE_BYTES, work, Durability::Unsynced)?;
    }
    remove_table(&from)
}

/// The records of the tree `dir`, by the bytes of the path.
pub(crate) fn read_records(dir: &Path) -> Result<BTreeMap<Vec<u8>, OwnershipRecord>, StoreError> {
    read_table(&ownership_table_path(dir))
}

/// Removes a table's file if it exists.
pub(crate) fn remove_table(table: &Path) -> Result<(), StoreError> {
    match fs::remove_file(table) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(StoreError::io("remove", table)),
    }
}

fn read_table(file: &Path) -> Result<BTreeMap<Vec<u8>, OwnershipRecord>, StoreError> {
    let bytes = atomic_file::read_limited(file, MAX_OWNERSHIP_TABLE_BYTES)?.unwrap_or_default();
    let mut known = BTreeMap::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let damaged = || {
            let source = io::Error::new(io::ErrorKind::InvalidData, "the table of owners is damaged");
            StoreError::Io { verb: "read", path: file.to_owned(), source }
        };
        match parse_line(line).ok_or_else(damaged)? {
            (key, Some(record)) => drop(known.insert(key, record)),
            (key, None) => drop(remove_subtree_records(&mut known, &key)),
        }
    }
    Ok(known)
}

/// Removes the records of `key` and all below it. Returns `true` when there were any.
fn remove_subtree_records(known: &mut BTreeMap<Vec<u8>, OwnershipRecord>, key: &[u8]) -> bool {
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

fn format_record(key: &[u8], record: &OwnershipRecord) -> Vec<u8> {
    let OwnershipRecord { owner, mode, device, xattrs } = record;
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
fn parse_line(line: &[u8]) -> Option<(Vec<u8>, Option<OwnershipRecord>)> {
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    let [path, owner, mode, device, xattrs] = words[..] else {
        let [path, "gone"] = words[..] else { return None };
        return Some((unescape(path)?, None));
    };
    let said = |text: &&str| *text != "-";
    let pair = |text: &str| text.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let mut record = OwnershipRecord::default();
    if said(&owner) {
        record.owner = Some(pair(owner)?);
    }
    if said(&mode) {
        record.mode = Some(u32::from_str_radix(mode, 8).ok()?);
    }
    if said(&device) {
        let (kind, numbers) = device.split_at_checked(1)?;
        let (major, minor) = pair(numbers)?;
        record.device = Some(if kind == "b" { FileKind::Block(major, minor) } else { FileKind::Char(major, minor) });
    }
    for xattr in xattrs.split(',').filter(said) {
        let (name, value) = xattr.split_once('=')?;
        record.xattrs.insert(unescape(name)?, unescape(value)?);
    }
    Some((unescape(path)?, Some(record)))
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
    use dram_image::ArchiveLimits;
    use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};

    use super::*;
    use crate::Dir;
    use crate::unpack::{UnpackMode, UnpackOptions, unpack};

    #[test]
    fn formatted_lines_parse_to_the_same_record() {
        let all = OwnershipRecord {
            owner: Some((0, u32::MAX)),
            mode: Some(0o4711),
            device: Some(FileKind::Block(7, 255)),
            xattrs: BTreeMap::from([(b"user.a=b,c %".to_vec(), vec![0, 255, b'\n']), (b"user.empty".to_vec(), vec![])]),
        };
        let device = OwnershipRecord { device: Some(FileKind::Char(1, 3)), ..OwnershipRecord::default() };
        for record in [all, device, OwnershipRecord::default()] {
            for path in [&b""[..], b"a/b", b"%", b"-", b" gone", b"\xff\n/=,"] {
                let line = format_record(path, &record);
                assert!(line.ends_with(b"\n") && line.iter().filter(|&&byte| byte == b'\n').count() == 1);
                assert_eq!(parse_line(line.trim_ascii_end()), Some((path.to_vec(), Some(record.clone()))));
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
            fs::write(ownership_table_path(&layer), text).unwrap();
            assert!(OwnershipView::open(&layer, IdMapping::Unprivileged).is_err(), "{text}");
            assert!(OwnershipView::open(&layer, IdMapping::Root).unwrap().is_none());
        }
    }

    /// A tar with one entry of each kind that an unprivileged process cannot create.
    fn archive(devices: bool) -> Vec<u8> {
        let file = || TarEntryKind::File { size: 0 };
        let owned = |path: &str, kind, mode, uid, gid| {
            let path = TreePath::parse(path.as_bytes()).unwrap();
            TarEntry { path, kind, mode, uid, gid, mtime: 5, xattrs: Vec::new() }
        };
        let mut entries = vec![
            owned("d", TarEntryKind::Dir, 0o555, 77, 78),
            owned("d/set", file(), 0o6711, 0, 0),
            owned("d/again", TarEntryKind::HardLink(TreePath::parse(b"d/set").unwrap()), 0o644, 0, 0),
            owned("link", TarEntryKind::Symlink(b"d".to_vec()), 0o777, 5, 6),
            owned("link/through", file(), 0o000, 3_000_000_000, 1),
            owned("replaced", file(), 0o600, 9, 9),
            owned("replaced", file(), 0o600, 0, 0),
            owned("gone", TarEntryKind::Dir, 0o700, 9, 9),
            owned("gone/too", file(), 0o600, 9, 9),
            owned("gone", file(), 0o600, 0, 0),
            owned(".wh.below", file(), 0o600, 0, 0),
            owned("d/.wh..wh..opq", file(), 0o600, 0, 0),
            owned("pipe", TarEntryKind::Fifo, 0o622, 7, 0),
        ];
        if devices {
            entries.push(owned("null", TarEntryKind::Char(1, 3), 0o666, 0, 5));
            entries.push(owned("disk", TarEntryKind::Block(7, 0), 0o660, 0, 6));
        }
        entries[1].xattrs = vec![(b"security.capability".to_vec(), [&[1, 0, 0, 2, 0, 32][..], &[0; 14]].concat())];
        let mut writer = TarWriter::new(Vec::new());
        entries.iter().for_each(|entry| writer.append(entry, &mut io::empty()).unwrap());
        writer.finish().unwrap()
    }

    /// Unpacks `tar` with `rights` and returns the digest of its content and its ownership table.
    fn unpack_with_rights(tar: &[u8], id_mapping: IdMapping) -> (blake3::Hash, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let (made, place) = (dir.path().join("made"), dir.path().join("place"));
        fs::create_dir(&made).unwrap();
        let root = Dir::open_layer_with(&made, id_mapping).unwrap();
        let how =
            UnpackOptions { mode: UnpackMode::Layer, limits: &ArchiveLimits::default(), archive_name: "the test" };
        unpack(&mut &tar[..], &root, how).unwrap();
        let fresh = crate::layers::content_digest(&root, &mut |_| true).unwrap();
        drop(root);
        finalize_table(&made, &place, dir.path()).unwrap();
        fs::rename(&made, &place).unwrap();
        assert!(!ownership_table_path(&made).exists());
        let whole = Dir::open_layer_with(&place, id_mapping).unwrap();
        assert_eq!(crate::layers::content_digest(&whole, &mut |_| true).unwrap(), fresh);
        (fresh, fs::read(ownership_table_path(&place)).unwrap_or_default())
    }

    #[test]
    fn layer_content_is_the_same_for_all_privileges() {
        let tar = archive(true);
        let (of_root, no_table) = unpack_with_rights(&tar, IdMapping::Root);
        assert_eq!(no_table, b"");
        for id_mapping in [IdMapping::Subordinate, IdMapping::Single, IdMapping::Unprivileged] {
            assert_eq!(unpack_with_rights(&tar, id_mapping).0, of_root, "{id_mapping:?}");
        }
        let (_, table) = unpack_with_rights(&tar, IdMapping::Unprivileged);
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
        let part = OwnershipView::open(&dir.path().join("layer"), IdMapping::Single).unwrap().unwrap();
        let path = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        for name in ["a", "a/b", "a/b/c", "a-b", "a0"] {
            part.update_record(&path(name), |record| record.owner = Some((1, 1))).unwrap();
        }
        part.copy_record(&part, &path("a0"), &path("z")).unwrap();
        part.remove_subtree(&path("a")).unwrap();
        let again = OwnershipView::open(&dir.path().join("layer"), IdMapping::Single).unwrap().unwrap();
        for part in [&part, &again] {
            let names: Vec<_> = part.lock_state().records.keys().cloned().collect();
            assert_eq!(names, [&b"a-b"[..], b"a0", b"z"]);
        }
    }
}
