//! Export and import of caches as one tar, to move them to another machine.
//!
//! The first file is `dram-caches.json`, the index of the caches with a digest of the content of each; the tree below
//! `N/` is the Nth of them, counted from 0. Names, kinds, modes, owners, extended attributes, hard links and times in
//! whole seconds are kept. Sockets and devices are omitted, as they are useless on another machine. The same caches
//! always give the same bytes.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use flate2::write::GzEncoder;
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use serde::{Deserialize, Serialize};

use super::{
    CacheMountGuard, CacheMountIdentity, CacheMountMetadata, CacheMounts, MAX_CACHE_METADATA_BYTES, read_metadata,
};
use crate::compress::{CompressionFormat, DecompressingReader, ZstdWriter};
use crate::layer_scan::{ScannedEntry, scan_layer};
use crate::layers::content_digest;
use crate::unpack::{UnpackMode, UnpackOptions, unpack};
use crate::{Dir, FileKind, StoreError};

const ARCHIVE_INDEX_FILE: &str = "dram-caches.json";
const CACHE_ARCHIVE_VERSION: u32 = 1;
/// The limit on the number of caches; a longer list is invalid.
const MAX_ARCHIVED_CACHES: usize = 10_000;

/// Errors of the export and import of caches.
#[derive(Debug, thiserror::Error)]
pub enum CacheArchiveError {
    /// A cache is in use; it must not change meanwhile.
    #[error("the cache `{id}` is in use")]
    InUse {
        /// The cache's id.
        id: String,
    },
    /// The cache no longer exists.
    #[error("the cache `{id}` is gone")]
    Gone {
        /// The cache's id.
        id: String,
    },
    /// The archive is not an archive of caches, or is incomplete or damaged.
    #[error("{what} is not an archive of caches: {why}")]
    NotCaches {
        /// The archive's name.
        what: String,
        /// The reason.
        why: String,
    },
    /// The archive cannot be written with this compression.
    #[error("archives of caches are written with gzip, with zstd or uncompressed, and not with {0:?}")]
    UnsupportedCompression(CompressionFormat),
    /// An I/O error, or a damaged tar.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The index of an archive, its first file.
#[derive(Debug, Serialize, Deserialize)]
struct CacheArchiveIndex {
    version: u32,
    caches: Vec<CacheArchiveEntry>,
}

/// One cache in an archive.
#[derive(Debug, Serialize, Deserialize)]
struct CacheArchiveEntry {
    #[serde(flatten)]
    name: CacheMountIdentity,
    number: u64,
    /// A digest of its content.
    content: String,
}

/// An imported cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedCacheMount {
    /// Its identity.
    pub name: CacheMountIdentity,
    /// `true` when it replaced a cache of the store.
    pub replaced: bool,
}

impl CacheMounts<'_> {
    /// Writes the caches with these keys as a tar, uncompressed or compressed with gzip or zstd. They stay locked
    /// meanwhile, so that builds wait for them.
    ///
    /// # Errors
    /// When one is in use or missing, or reading or writing fails.
    pub fn export(
        self,
        keys: &[String],
        compression: CompressionFormat,
        out: &mut dyn Write,
    ) -> Result<(), CacheArchiveError> {
        let fail = || StoreError::io("write", Path::new("the archive"));
        match compression {
            CompressionFormat::Gzip => {
                let mut out = GzEncoder::new(out, flate2::Compression::fast());
                self.write_archive(keys, &mut out)?;
                out.finish().map_err(fail())?.flush().map_err(fail())?;
            }
            CompressionFormat::Zstd => {
                let mut out = ZstdWriter::new(out, 0).map_err(fail())?;
                self.write_archive(keys, &mut out)?;
                out.finish().map_err(fail())?.flush().map_err(fail())?;
            }
            CompressionFormat::None => {
                self.write_archive(keys, out)?;
                out.flush().map_err(fail())?;
            }
            CompressionFormat::Xz | CompressionFormat::Bzip2 => {
                return Err(CacheArchiveError::UnsupportedCompression(compression));
            }
        }
        Ok(())
    }

    fn write_archive(self, keys: &[String], out: &mut dyn Write) -> Result<(), CacheArchiveError> {
        let mut keys: Vec<&String> = keys.iter().collect();
        keys.sort();
        keys.dedup();
        let mut guards = Vec::new();
        let mut list = CacheArchiveIndex { version: CACHE_ARCHIVE_VERSION, caches: Vec::new() };
        for key in keys {
            let (cache, name) = self.acquire_for_archive(key)?;
            let number = key.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            let content =
                content_digest(&Dir::open_layer(&cache.data_dir())?, &mut is_archivable)?.to_hex().to_string();
            list.caches.push(CacheArchiveEntry { name, number, content });
            guards.push(cache);
        }
        let mut writer = TarWriter::new(out);
        let text = serde_json::to_vec_pretty(&list).expect("plain data becomes JSON");
        let path = TreePath::parse(ARCHIVE_INDEX_FILE.as_bytes()).map_err(StoreError::from)?;
        let kind = TarEntryKind::File { size: text.len() as u64 };
        let entry = TarEntry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        let fail = || StoreError::io("write", Path::new("the archive"));
        writer.append(&entry, &mut text.as_slice()).map_err(fail())?;
        for (number, cache) in guards.iter().enumerate() {
            let dir = Dir::open_layer(&cache.data_dir())?;
            let below = TreePath::parse(number.to_string().as_bytes()).map_err(StoreError::from)?;
            scan_layer(&dir, &mut |found| append_archive_entry(&mut writer, &dir, &below, found))?;
        }
        writer.finish().map_err(fail())?;
        Ok(())
    }

    /// Locks a cache exclusively, without waiting.
    fn acquire_for_archive(self, key: &str) -> Result<(CacheMountGuard, CacheMountIdentity), CacheArchiveError> {
        let directory = self.caches_dir().join(key);
        let Some(about) = read_metadata(&directory) else { return Err(CacheArchiveError::Gone { id: key.to_owned() }) };
        match self.try_acquire(key, FlockOperation::NonBlockingLockExclusive)? {
            Some(guards) => Ok((guards, about.name)),
            None => Err(CacheArchiveError::InUse { id: about.name.id }),
        }
    }

    /// Imports the caches of a tar in any supported compression; `what` is its name for messages. An existing cache is
    /// replaced. Nothing changes before the whole archive is read and verified.
    ///
    /// # Errors
    /// When the archive is damaged or not one of caches, a cache to replace is in use, or on an I/O error.
    pub fn import(self, stream: Box<dyn Read>, what: &str) -> Result<Vec<ImportedCacheMount>, CacheArchiveError> {
        let place = self.store.work_dir().temp_dir()?;
        let done = self.import_from_temp_dir(&place, stream, what);
        self.store.work_dir().remove_temp_dir(&place);
        done
    }

    fn import_from_temp_dir(
        self,
        place: &Path,
        stream: Box<dyn Read>,
        what: &str,
    ) -> Result<Vec<ImportedCacheMount>, CacheArchiveError> {
        let limits = self.store.limits();
        let mut plain = DecompressingReader::new(stream, limits).map_err(StoreError::io("read", Path::new(what)))?;
        let dir = Dir::open_layer(place)?;
        unpack(&mut plain, &dir, UnpackOptions { mode: UnpackMode::Archive, limits, archive_name: what })?;
        let list = read_archive_index(&dir, what)?;
        let mut ready = Vec::new();
        for (number, listed) in list.caches.iter().enumerate() {
            verify_archive_entry(&dir, number, listed, what)?;
            ready.push(PendingCacheImport {
                data: place.join(number.to_string()),
                archive_entry: listed,
                replaced_cache: self.acquire_replaced(listed)?,
            });
        }
        for (number, one) in ready.iter().enumerate() {
            self.install_import(place, number, one)?;
        }
        let imported = |one: PendingCacheImport<'_>| ImportedCacheMount {
            name: one.archive_entry.name.clone(),
            replaced: one.replaced_cache.is_some(),
        };
        Ok(ready.into_iter().map(imported).collect())
    }

    /// Locks the existing cache that the entry replaces, if there is one.
    fn acquire_replaced(self, listed: &CacheArchiveEntry) -> Result<Option<CacheMountGuard>, CacheArchiveError> {
        match self.acquire_for_archive(&cache_dir_name(listed)) {
            Ok((guards, _)) => Ok(Some(guards)),
            Err(CacheArchiveError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves one cache into place with an atomic rename or exchange.
    fn install_import(self, place: &Path, number: usize, one: &PendingCacheImport<'_>) -> Result<(), StoreError> {
        if let Some(there) = &one.replaced_cache {
            let old = there.data_dir();
            return rustix::fs::renameat_with(CWD, &one.data, CWD, &old, RenameFlags::EXCHANGE)
                .map_err(StoreError::errno("replace", &old));
        }
        let made = place.join(format!("made-{number}"));
        fs::create_dir(&made).map_err(StoreError::io("make the directory", &made))?;
        fs::rename(&one.data, made.join("data")).map_err(StoreError::io("write", &made))?;
        self.write_metadata(&made, &CacheMountMetadata { name: one.archive_entry.name.clone(), uses: 0 })?;
        drop(crate::lock::lock_file(&made.join("lock"), FlockOperation::LockShared)?);
        let to = self.caches_dir().join(cache_dir_name(one.archive_entry));
        match fs::rename(&made, &to) {
            // A build created the cache meanwhile, which is newer and is kept.
            Err(_) if to.is_dir() => Ok(()),
            renamed => renamed.map_err(StoreError::io("write", &to)),
        }
    }
}

/// A verified cache that is ready to be moved into place, and the one that it replaces.
struct PendingCacheImport<'a> {
    data: PathBuf,
    archive_entry: &'a CacheArchiveEntry,
    replaced_cache: Option<CacheMountGuard>,
}

fn cache_dir_name(listed: &CacheArchiveEntry) -> String {
    format!("{}.{}", listed.name.key(), listed.number)
}

/// Returns `true` for files that an archive includes.
fn is_archivable(found: &ScannedEntry) -> bool {
    match found.status.kind {
        FileKind::File | FileKind::Dir | FileKind::Symlink | FileKind::Fifo => true,
        FileKind::Char(..) | FileKind::Block(..) | FileKind::Socket => false,
    }
}

fn append_archive_entry(
    writer: &mut TarWriter<&mut dyn Write>,
    dir: &Dir,
    below: &TreePath,
    found: &ScannedEntry,
) -> Result<(), StoreError> {
    if !is_archivable(found) {
        return Ok(());
    }
    let kind = match (found.status.kind, &found.link_to) {
        (_, Some(first)) => TarEntryKind::HardLink(below.append(first)),
        (FileKind::File, None) => TarEntryKind::File { size: found.status.size },
        (FileKind::Dir, None) => TarEntryKind::Dir,
        (FileKind::Symlink, None) => TarEntryKind::Symlink(dir.read_link(&found.path)?),
        (FileKind::Fifo, None) => TarEntryKind::Fifo,
        (FileKind::Char(..) | FileKind::Block(..) | FileKind::Socket, None) => unreachable!("these do not travel"),
    };
    let is_symlink = matches!(kind, TarEntryKind::Symlink(_));
    let entry = TarEntry {
        path: below.append(&found.path),
        mode: if is_symlink { 0o777 } else { found.status.mode },
        uid: found.status.uid,
        gid: found.status.gid,
        mtime: found.status.mtime.0,
        xattrs: found.xattrs.clone(),
        kind,
    };
    let written = match &entry.kind {
        TarEntryKind::File { .. } => writer.append(&entry, &mut dir.open_file(&found.path)?),
        TarEntryKind::Dir
        | TarEntryKind::Symlink(_)
        | TarEntryKind::HardLink(_)
        | TarEntryKind::Fifo
        | TarEntryKind::Char(..)
        | TarEntryKind::Block(..) => writer.append(&entry, &mut std::io::empty()),
    };
    written.map_err(StoreError::io("pack", &dir.display_path().join(found.path.as_path())))
}

fn read_archive_index(dir: &Dir, what: &str) -> Result<CacheArchiveIndex, CacheArchiveError> {
    let wrong = |why: String| CacheArchiveError::NotCaches { what: what.to_owned(), why };
    let path = TreePath::parse(ARCHIVE_INDEX_FILE.as_bytes()).map_err(StoreError::from)?;
    let file = match dir.open_file(&path) {
        Err(error) if error.is_not_found() => return Err(wrong(format!("it has no `{ARCHIVE_INDEX_FILE}`"))),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(MAX_CACHE_METADATA_BYTES)
        .read_to_end(&mut text)
        .map_err(StoreError::io("read", Path::new(ARCHIVE_INDEX_FILE)))?;
    let list: CacheArchiveIndex = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("its `{ARCHIVE_INDEX_FILE}` is wrong: {error}")))?;
    if list.version != CACHE_ARCHIVE_VERSION {
        return Err(wrong(format!(
            "it is of version {}, and this program knows version {CACHE_ARCHIVE_VERSION}",
            list.version
        )));
    }
    if list.caches.len() > MAX_ARCHIVED_CACHES {
        return Err(wrong(format!("it lists more than {MAX_ARCHIVED_CACHES} caches")));
    }
    let mut names: Vec<String> = list.caches.iter().map(cache_dir_name).collect();
    names.sort();
    match names.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(wrong("it lists a cache twice".to_owned())),
        false => Ok(list),
    }
}

/// Compares an unpacked cache with its digest in the index.
fn verify_archive_entry(
    dir: &Dir,
    number: usize,
    listed: &CacheArchiveEntry,
    what: &str,
) -> Result<(), CacheArchiveError> {
    let wrong = |why: String| CacheArchiveError::NotCaches { what: what.to_owned(), why };
    let path = TreePath::parse(number.to_string().as_bytes()).map_err(StoreError::from)?;
    if dir.status(&path)?.is_none_or(|status| status.kind != FileKind::Dir) {
        return Err(wrong(format!("it lacks the cache `{}`", listed.name.id)));
    }
    let found = content_digest(&dir.open_subdir(&path)?, &mut is_archivable)?.to_hex().to_string();
    match found == listed.content {
        true => Ok(()),
        false => Err(wrong(format!("the cache `{}` does not hold what the list says", listed.name.id))),
    }
}
