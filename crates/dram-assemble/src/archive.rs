//! Writes a release on disk as a `.tar.gz`; the same files give the same bytes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dram_gzip::{CompressError, GzipWriter, MemberCache};
use dram_image::tar::{self, TarEntryKind, TarWriter};
use dram_image::{Digest, HashingWriter, TreePath};

use crate::AssembleError;
use crate::release_times::ReleaseTimes;
use crate::tree::{ReleaseEntry, ReleaseTree, restricted_mode};
use crate::upgrade::UpgradeError;

/// The compression level of libdeflate: the result is smaller than that of zlib's level 6, in half the time.
const LEVEL: i32 = 6;
/// The length of the digest before a cached gzip member.
const DIGEST_LEN: usize = 32;

/// An archive that was written.
#[derive(Debug)]
pub struct ReleaseArchive {
    /// The path of the archive.
    pub path: PathBuf,
    /// The SHA-256 digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The way in which an archive is compressed.
#[derive(Debug)]
pub(crate) enum ArchivePacking {
    /// As several gzip members, compressed in parallel; members in the cache are not compressed again.
    MultiMember(Option<GzipMemberCache>),
    /// As a single gzip member, for archives that a running system unpacks: `erl_tar` reads only the first member. It
    /// also refuses links that contain `..`, so they are replaced by the files that they lead to.
    SingleMember,
}

/// Packs the entries of `tree`, which are below `root` on disk, into `path`. All entries belong to user and group 0 and
/// have the modification times of `times`; they are sorted by path.
///
/// # Errors
/// Fails if a file cannot be read or the archive cannot be written. The file at `path` is then unchanged.
pub(crate) fn write_archive(
    tree: &ReleaseTree,
    root: &Path,
    path: &Path,
    times: ReleaseTimes,
    packing: &ArchivePacking,
) -> Result<ReleaseArchive, AssembleError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".dram-new");
    let half = path.with_file_name(name);
    let written = write_to(tree, root, &half, times, packing);
    match written {
        Ok((digest, size)) => {
            fs::rename(&half, path).map_err(AssembleError::io("write", path))?;
            Ok(ReleaseArchive { path: path.to_owned(), digest, size })
        }
        Err(error) => {
            // The first error is reported, not that of the removal.
            let _ = fs::remove_file(&half);
            Err(error)
        }
    }
}

fn write_to(
    tree: &ReleaseTree,
    root: &Path,
    half: &Path,
    times: ReleaseTimes,
    packing: &ArchivePacking,
) -> Result<(Digest, u64), AssembleError> {
    let file = File::create(half).map_err(AssembleError::io("make the file", half))?;
    let mut out = HashingWriter::new(BufWriter::with_capacity(1 << 18, file));
    let is_whole = matches!(packing, ArchivePacking::SingleMember);
    let pack = |out: &mut GzipWriter| pack(tree, root, out, times, is_whole);
    let packed = match packing {
        ArchivePacking::SingleMember => dram_gzip::compress_single_member(LEVEL, &mut out, pack),
        ArchivePacking::MultiMember(pieces) => {
            let cache = pieces.as_ref().map(|pieces| pieces as &dyn MemberCache);
            dram_gzip::compress(LEVEL, cache, &mut out, pack)
        }
    };
    packed.map_err(|failed| match failed {
        CompressError::Produce(error) => error,
        CompressError::Write(source) => AssembleError::Io { verb: "write", path: half.to_owned(), source },
    })?;
    out.flush().map_err(AssembleError::io("write", half))?;
    let hasher = out.finish();
    let size = hasher.length();
    Ok((hasher.finish(), size))
}

fn pack(
    tree: &ReleaseTree,
    root: &Path,
    out: &mut GzipWriter,
    times: ReleaseTimes,
    for_erlang: bool,
) -> Result<(), AssembleError> {
    let mut writer = TarWriter::new(out);
    let mut part = Vec::new();
    let mut above = TreePath::root();
    for (path, entry) in tree.iter() {
        let parent = path.parent().unwrap_or_default();
        // The members are cut per application, so that an unchanged application gives an unchanged member.
        let of = path.components().take(2).collect::<Vec<_>>().concat();
        if of != part {
            writer.writer_mut().end_piece().map_err(AssembleError::io("pack", root))?;
            part = of;
        }
        if parent != above {
            append_directories(&mut writer, &above, &parent, times.common())?;
            above = parent;
        }
        let (kind, mode) = match entry {
            ReleaseEntry::Dir => (TarEntryKind::Dir, 0o755),
            ReleaseEntry::Link(said) if !(for_erlang && leads_out_of_archive(said)) => {
                (TarEntryKind::Symlink(said.clone()), 0o777)
            }
            ReleaseEntry::Link(_) | ReleaseEntry::File { .. } => {
                let full = root.join(path.as_path());
                let mut file = File::open(&full).map_err(AssembleError::io("read", &full))?;
                let status = file.metadata().map_err(AssembleError::io("read", &full))?;
                if !status.is_file() {
                    return Err(UpgradeError::Link(path.as_path().to_owned()).into());
                }
                let size = status.len();
                let mode = match entry {
                    ReleaseEntry::File { mode, .. } => *mode,
                    ReleaseEntry::Link(_) | ReleaseEntry::Dir => restricted_mode(status.mode()),
                };
                let entry = entry_header(path, TarEntryKind::File { size }, mode, times.in_archive(status.mtime()));
                writer.append(&entry, &mut file).map_err(AssembleError::io("pack", &full))?;
                continue;
            }
        };
        let entry = entry_header(path, kind, mode, times.common());
        writer.append(&entry, &mut io::empty()).map_err(AssembleError::io("pack", root))?;
    }
    writer.finish().map_err(AssembleError::io("pack", root)).map(drop)
}

/// Returns true if `erl_tar` refuses the link because it leads out of the archive. It resolves links from the root.
fn leads_out_of_archive(said: &[u8]) -> bool {
    said.starts_with(b"/") || said.split(|&byte| byte == b'/').any(|part| part == b"..")
}

/// Appends the parent directories of `to` that are not parent directories of `from`, outermost first.
fn append_directories(
    writer: &mut TarWriter<&mut GzipWriter>,
    from: &TreePath,
    to: &TreePath,
    seconds: i64,
) -> Result<(), AssembleError> {
    let mut path = TreePath::root();
    for name in to.components() {
        path = path.join(name);
        if from.strip_prefix(&path).is_none() {
            let entry = entry_header(&path, TarEntryKind::Dir, 0o755, seconds);
            writer.append(&entry, &mut io::empty()).map_err(AssembleError::io("pack", path.as_path()))?;
        }
    }
    Ok(())
}

fn entry_header(path: &TreePath, kind: TarEntryKind, mode: u32, seconds: i64) -> tar::TarEntry {
    tar::TarEntry { path: path.clone(), kind, mode, uid: 0, gid: 0, mtime: seconds, xattrs: Vec::new() }
}

/// A cache of compressed gzip members in a directory. Most of a release is OTP and Elixir, and does not change.
#[derive(Debug)]
pub(crate) struct GzipMemberCache {
    directory: PathBuf,
    used: Mutex<BTreeSet<String>>,
}

impl GzipMemberCache {
    /// Creates a cache in `directory`, which does not have to exist.
    pub(crate) fn new(directory: PathBuf) -> GzipMemberCache {
        GzipMemberCache { directory, used: Mutex::default() }
    }

    /// Removes the members that the last archive did not use. Errors are ignored.
    pub(crate) fn remove_unused(&self) {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| used.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn mark_used(&self, key: &str) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
    }
}

impl MemberCache for GzipMemberCache {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let mut kept = fs::read(self.directory.join(key)).ok()?;
        let member = (kept.len() >= DIGEST_LEN).then(|| kept.split_off(DIGEST_LEN))?;
        // The member is not fsynced, so after a power failure the file may contain anything.
        let is_whole = *blake3::hash(&member).as_bytes() == *kept;
        is_whole.then(|| self.mark_used(key))?;
        Some(member)
    }

    fn put(&self, key: &str, member: &[u8]) {
        let half = self.directory.join(format!("{key}.new"));
        let kept = fs::create_dir_all(&self.directory)
            .and_then(|()| fs::write(&half, [blake3::hash(member).as_bytes(), member].concat()))
            .and_then(|()| fs::rename(&half, self.directory.join(key)));
        if kept.is_ok() {
            self.mark_used(key);
        }
    }
}

#[cfg(test)]
mod tests;
