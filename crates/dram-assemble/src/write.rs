//! Writes a release tree to a directory, atomically.
//!
//! Everything is written to a staging directory next to the destination, which then replaces the destination by an
//! atomic rename (`renameat2` with `RENAME_EXCHANGE`). Until then the old release is unchanged and can run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use dram_image::TreePath;
use dram_release::beam;
use rustix::fs::{CWD, FlockOperation, RenameFlags};

use crate::AssembleError;
use crate::tree::{ReleaseEntry, ReleaseFileContent, ReleaseTree};
use crate::write_cache::{WriteCache, WrittenFingerprint};

/// The name, below `releases/VERSION`, of the list of files that dram wrote for this version.
pub(crate) const MANIFEST: &str = "files.list";

/// An exclusive lock on a destination, held while the release is written.
pub(crate) struct DestinationLock {
    _directory: File,
}

/// Creates the parent directory of `destination`, locks it, and removes what a killed process left there: the old
/// release is moved back if the process had moved it aside.
///
/// # Errors
/// Fails if the directory cannot be created or locked.
pub(crate) fn lock_destination(destination: &Path) -> Result<DestinationLock, AssembleError> {
    let above = parent_dir(destination);
    fs::create_dir_all(&above).map_err(AssembleError::io("make the directory", &above))?;
    let directory = File::open(&above).map_err(AssembleError::io("open", &above))?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive)
        .map_err(|error| AssembleError::io("lock", &above)(error.into()))?;
    restore_destination(destination)?;
    remove_if_there(&staging_dir(destination))?;
    Ok(DestinationLock { _directory: directory })
}

/// Returns the staging directory of `destination`.
fn staging_dir(destination: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(destination.file_name().unwrap_or_default());
    name.push(".dram-new");
    parent_dir(destination).join(name)
}

/// Returns the directory that holds the old release between the two renames of [`REPLACE_STEPS`].
fn aside_dir(destination: &Path) -> PathBuf {
    staging_dir(&staging_dir(destination))
}

fn parent_dir(destination: &Path) -> PathBuf {
    match destination.parent() {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Writes `tree`, a release of version `version`, to `destination`. Existing files are kept if they belong to another
/// version or to no version (logs, for example); other files of this version are removed.
///
/// # Errors
/// Fails if the destination is not a release; if it has this version, dram did not write it and `overwrite` is not set;
/// or if a file cannot be read or written. The destination is then unchanged.
pub(crate) fn write_release(
    tree: &ReleaseTree,
    destination: &Path,
    version: &str,
    overwrite: bool,
    written: &mut WriteCache,
    _turn: &DestinationLock,
) -> Result<(), AssembleError> {
    let is_there = check_destination(destination, version, overwrite)?;
    if is_there && is_up_to_date(tree, destination, written) {
        return Ok(());
    }
    let staging = staging_dir(destination);
    let outcome = write_tree(tree, &staging, destination, written).and_then(|()| {
        if is_there {
            link_foreign_files(tree, destination, &staging, version)?;
        }
        exchange_directories(&staging, destination, is_there)
    });
    // After the exchange, the staging directory contains the old release.
    let removed = remove_if_there(&staging);
    outcome.and(removed)
}

/// Returns true if the destination exists; fails if it must not be replaced.
fn check_destination(destination: &Path, version: &str, overwrite: bool) -> Result<bool, AssembleError> {
    let mut entries = match fs::read_dir(destination) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(AssembleError::io("read", destination)(error)),
    };
    let releases = destination.join("releases");
    if entries.next().is_some() && !releases.is_dir() {
        return Err(AssembleError::NotARelease(destination.to_owned()));
    }
    let of_version = releases.join(version);
    if of_version.exists() && !of_version.join(MANIFEST).exists() && !overwrite {
        return Err(AssembleError::NotWrittenByDram(of_version));
    }
    Ok(true)
}

/// Links into `staging` the files of `old` that are neither in the new tree nor in the old manifest of this version.
fn link_foreign_files(tree: &ReleaseTree, old: &Path, staging: &Path, version: &str) -> Result<(), AssembleError> {
    let of_version = old.join("releases").join(version);
    let manifest = fs::read(of_version.join(MANIFEST)).unwrap_or_default();
    let mut ours: BTreeSet<Vec<u8>> = manifest.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    // A file of another version is kept, even if this version had it too.
    for other in other_manifests(old, version) {
        for path in other.split(|&byte| byte == 0) {
            ours.remove(path);
        }
    }
    let mut waiting = vec![TreePath::root()];
    while let Some(dir) = waiting.pop() {
        let from = old.join(dir.as_path());
        for found in fs::read_dir(&from).map_err(AssembleError::io("read", &from))? {
            let found = found.map_err(AssembleError::io("read", &from))?;
            let path = dir.join(found.file_name().as_bytes());
            let kind = found.file_type().map_err(AssembleError::io("read", found.path()))?;
            // A version that dram did not write is removed as a whole, because `overwrite` was requested.
            if found.path() == of_version && manifest.is_empty() {
                continue;
            }
            if kind.is_dir() {
                waiting.push(path);
            } else if !ours.contains(path.as_bytes()) && tree.get(&path).is_none() {
                link_file(&found.path(), &staging.join(path.as_path()), kind.is_symlink())?;
            }
        }
    }
    Ok(())
}

fn other_manifests(old: &Path, version: &str) -> Vec<Vec<u8>> {
    let Ok(versions) = fs::read_dir(old.join("releases")) else { return Vec::new() };
    let others = versions.flatten().filter(|found| found.file_name() != version);
    others.filter_map(|found| fs::read(found.path().join(MANIFEST)).ok()).collect()
}

fn link_file(from: &Path, to: &Path, is_link: bool) -> Result<(), AssembleError> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).map_err(AssembleError::io("make the directory", above))?;
    }
    if is_link {
        let said = fs::read_link(from).map_err(AssembleError::io("read", from))?;
        return symlink(said, to).map_err(AssembleError::io("make the link", to));
    }
    // A hard link and not a copy, because a running system may be writing to the file.
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(AssembleError::io("keep", from)(error)),
    }
}

fn exchange_directories(staging: &Path, destination: &Path, is_there: bool) -> Result<(), AssembleError> {
    let flags = if is_there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(CWD, staging, CWD, destination, flags) {
        Ok(()) => Ok(()),
        // Some file systems do not support the flags.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if is_there => replace_directory(destination),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::rename(staging, destination).map_err(AssembleError::io("move to", destination))
        }
        Err(error) => Err(AssembleError::io("move to", destination)(error.into())),
    }
}

/// A step that replaces the release at a destination by the one in its staging directory.
type ReplaceStep = fn(&Path) -> Result<(), AssembleError>;

/// The steps that replace a release where `RENAME_EXCHANGE` is not supported. After a kill between two of them,
/// [`restore_destination`] completes or reverts the replacement.
const REPLACE_STEPS: [ReplaceStep; 3] = [
    |destination| fs::rename(destination, aside_dir(destination)).map_err(AssembleError::io("move aside", destination)),
    |destination| fs::rename(staging_dir(destination), destination).map_err(AssembleError::io("move to", destination)),
    |destination| remove_if_there(&aside_dir(destination)),
];

/// Replaces the release at `destination` by the one in the staging directory. If that fails, the old one is moved back.
fn replace_directory(destination: &Path) -> Result<(), AssembleError> {
    let replaced = REPLACE_STEPS.iter().try_for_each(|step| step(destination));
    // The first error is reported, not that of moving the release back.
    replaced.inspect_err(|_| drop(restore_destination(destination)))
}

/// Moves the old release back if it was moved aside and nothing took its place; otherwise removes it.
fn restore_destination(destination: &Path) -> Result<(), AssembleError> {
    let aside = aside_dir(destination);
    if fs::symlink_metadata(&aside).is_ok() && fs::symlink_metadata(destination).is_err() {
        return fs::rename(&aside, destination).map_err(AssembleError::io("move back to", destination));
    }
    remove_if_there(&aside)
}

fn remove_if_there(path: &Path) -> Result<(), AssembleError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(AssembleError::io("remove", path)(error)),
    }
}

/// Returns true if all entries are at `root` already, unchanged. Files of an earlier release would be in its manifest,
/// which is an entry too.
fn is_up_to_date(tree: &ReleaseTree, root: &Path, written: &WriteCache) -> bool {
    tree.iter().all(|(path, entry)| {
        let at = root.join(path.as_path());
        let holds = |bytes: &[u8], mode: u32| {
            let status = fs::symlink_metadata(&at);
            let is_same = |status: fs::Metadata| {
                status.is_file() && status.len() == bytes.len() as u64 && has_mode(status.permissions().mode(), mode)
            };
            status.is_ok_and(is_same) && fs::read(&at).is_ok_and(|found| found == bytes)
        };
        match entry {
            ReleaseEntry::Dir => fs::symlink_metadata(&at).is_ok_and(|status| status.is_dir()),
            ReleaseEntry::Link(said) => fs::read_link(&at).is_ok_and(|found| found.as_os_str().as_bytes() == said),
            ReleaseEntry::File { content: ReleaseFileContent::Bytes(bytes), mode } => holds(bytes, *mode),
            ReleaseEntry::File { content: ReleaseFileContent::Embedded(bytes), mode } => holds(bytes, *mode),
            ReleaseEntry::File { content: ReleaseFileContent::Disk(from), mode } => written
                .get(path)
                .is_some_and(|known| known.matches_source(from, None, *mode) && known.matches_file(&at)),
            ReleaseEntry::File { content: ReleaseFileContent::Beam(from, rule), mode } => written
                .get(path)
                .is_some_and(|known| known.matches_source(from, Some(rule), *mode) && known.matches_file(&at)),
        }
    })
}

/// Returns true if a file that was created with the mode `wanted`, less the umask, can have the mode `found`.
pub(crate) fn has_mode(found: u32, wanted: u32) -> bool {
    found & 0o700 == wanted & 0o700 && found & 0o777 & !wanted == 0
}

/// Creates `root` and writes all entries below it, in parallel. Files at `old` that the write cache knows to be
/// unchanged are linked.
fn write_tree(tree: &ReleaseTree, root: &Path, old: &Path, written: &mut WriteCache) -> Result<(), AssembleError> {
    let mut made = BTreeSet::new();
    // Files are grouped by directory, because threads that create files in the same directory block each other.
    let mut groups: BTreeMap<TreePath, Vec<(&TreePath, &ReleaseEntry)>> = BTreeMap::new();
    for (path, entry) in tree.iter() {
        let dir = if matches!(entry, ReleaseEntry::Dir) { path.clone() } else { path.parent().unwrap_or_default() };
        if !made.contains(&dir) {
            let full = root.join(dir.as_path());
            let mut builder = fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o755)
                .create(&full)
                .map_err(AssembleError::io("make the directory", &full))?;
            made.insert(dir.clone());
        }
        groups.entry(dir).or_default().push((path, entry));
    }
    let groups: Vec<_> = groups.into_values().collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let known = &*written;
    let work = || -> Result<Vec<(TreePath, WrittenFingerprint)>, AssembleError> {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            for (path, entry) in group {
                let place = EntryPaths { to: &root.join(path.as_path()), old: &old.join(path.as_path()) };
                let one = write_entry(&place, entry, known.get(path));
                let one = one.inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                done.extend(one.map(|known| ((*path).clone(), known)));
            }
        }
        Ok(done)
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a panic in a worker is a bug")).collect()
    });
    let done: Vec<_> = outcomes.into_iter().collect::<Result<_, _>>()?;
    written.replace(done.into_iter().flatten());
    Ok(())
}

/// The new and the old path of an entry.
struct EntryPaths<'a> {
    to: &'a Path,
    old: &'a Path,
}

/// Writes one entry. Returns its fingerprint for the write cache.
fn write_entry(
    place: &EntryPaths<'_>,
    entry: &ReleaseEntry,
    known: Option<&WrittenFingerprint>,
) -> Result<Option<WrittenFingerprint>, AssembleError> {
    let to = place.to;
    match entry {
        ReleaseEntry::Dir => Ok(None),
        ReleaseEntry::Link(said) => {
            let link = symlink(std::ffi::OsStr::from_bytes(said), to);
            link.map(|()| None).map_err(AssembleError::io("make the link", to))
        }
        ReleaseEntry::File { content, mode } => {
            let mode = *mode;
            let (from, rule) = match content {
                ReleaseFileContent::Bytes(bytes) => return write_file(to, mode, bytes).map(|_| None),
                ReleaseFileContent::Embedded(bytes) => return write_file(to, mode, bytes).map(|_| None),
                ReleaseFileContent::Disk(from) => (from, None),
                ReleaseFileContent::Beam(from, rule) => (from, Some(rule)),
            };
            let source = WrittenFingerprint::source_key(from, rule.map(|rule| &**rule), mode)?;
            if let Some(known) = known.filter(|known| known.source == source && known.matches_file(place.old))
                && fs::hard_link(place.old, to).is_ok()
            {
                return Ok(Some(known.clone()));
            }
            let file = match rule {
                None => copy_file(from, to, mode)?,
                Some(rule) => {
                    let bytes = fs::read(from).map_err(AssembleError::io("read", from))?;
                    let name = from.file_stem().unwrap_or_default().as_bytes();
                    let stripped = beam::strip(&bytes, Some(name), rule)
                        .map_err(|source| AssembleError::Beam { path: from.clone(), source })?;
                    write_file(to, mode, &stripped)?
                }
            };
            WrittenFingerprint::from_file(source, &file).map(Some).map_err(AssembleError::io("look at", to))
        }
    }
}

fn create_file(to: &Path, mode: u32) -> Result<File, AssembleError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options.open(to).map_err(AssembleError::io("make the file", to))
}

fn write_file(to: &Path, mode: u32, bytes: &[u8]) -> Result<File, AssembleError> {
    let mut file = create_file(to, mode)?;
    file.write_all(bytes).map_err(AssembleError::io("write", to))?;
    Ok(file)
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<File, AssembleError> {
    let mut source = File::open(from).map_err(AssembleError::io("read", from))?;
    let mut target = create_file(to, mode)?;
    // `io::copy` copies in the kernel, or shares blocks if the file system supports it.
    io::copy(&mut source, &mut target).map_err(AssembleError::io("write", to))?;
    Ok(target)
}

#[cfg(test)]
mod tests;
