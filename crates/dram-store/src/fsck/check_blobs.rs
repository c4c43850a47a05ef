//! Verifies blobs: each is read and compared with its digest.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::{Digest, DigestHasher};

use super::FsckRun;
use super::check_root::kind_name;
use crate::{Dir, LayerId, PackedLayer, PackedTimes, StoreError, atomic_file};

/// Digest and length of a blob's actual content.
struct BlobContent {
    digest: Digest,
    length: u64,
}

impl FsckRun<'_> {
    /// Reads all blobs in parallel, each through a small buffer.
    pub(super) fn check_blobs(&mut self) -> Result<(), StoreError> {
        let dir = self.store.join("oci/blobs/sha256");
        let mut all = Vec::new();
        for name in Dir::open(&dir)?.names()? {
            let path = dir.join(std::ffi::OsStr::from_bytes(&name));
            let digest = std::str::from_utf8(&name).ok().and_then(|hex| Digest::from_hex(hex).ok());
            match (digest, fs::symlink_metadata(&path)) {
                (Some(digest), Ok(meta)) if meta.is_file() => all.push((digest, path)),
                (Some(digest), Ok(meta)) => self.report_wrong_kind(&path, &digest, &meta),
                (None, Ok(_)) => self.report_misnamed(&path, &name),
                (_, Err(_)) => {}
            }
        }
        let read = self.map_parallel(&all, |(_, path)| hash_blob(path));
        let mut damaged = BTreeMap::new();
        for ((digest, path), read) in all.into_iter().zip(read) {
            match read {
                Ok(read) if read.digest == digest => {
                    self.report.blobs += 1;
                    self.report.bytes += read.length;
                }
                read => drop(damaged.insert(digest, (path, read))),
            }
        }
        self.repair_damaged_blobs(damaged);
        Ok(())
    }

    fn report_wrong_kind(&mut self, path: &Path, digest: &Digest, meta: &fs::Metadata) {
        let (what, cost) = (format!("the blob {digest} is {}", kind_name(meta)), self.needed_by(digest));
        self.report_finding(path, what, cost, "it is moved to lost/", |check| check.move_to_lost(path));
    }

    fn report_misnamed(&mut self, path: &Path, name: &[u8]) {
        let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
        let what = match Digest::from_hex(&lower) {
            Ok(_) => "its name is a digest in capital letters",
            Err(_) => "its name is no digest",
        };
        self.report_finding(path, what, "nothing but its space", "it is moved to lost/", |check| {
            check.move_to_lost(path)
        });
    }

    /// A blob with wrong content is renamed to the digest of that content if that blob is needed; otherwise it is
    /// removed.
    fn repair_damaged_blobs(&mut self, damaged: BTreeMap<Digest, (PathBuf, io::Result<BlobContent>)>) {
        let names: Vec<Digest> = damaged.keys().copied().collect();
        // Two blobs may be swapped: all are moved away before any gets its new name.
        let mut aside: BTreeMap<Digest, PathBuf> = BTreeMap::new();
        for (digest, (path, read)) in damaged {
            let what = match &read {
                Ok(read) if read.length == 0 => format!("the blob {digest} is empty"),
                Ok(read) => format!("the blob {digest} has {} bytes that are not those of its name", read.length),
                Err(error) => format!("the blob {digest} cannot be read: {error}"),
            };
            let cost = self.needed_by(&digest);
            let content = read.ok().map(|read| read.digest);
            let is_wanted = content.filter(|content| {
                names.contains(content)
                    || (self.images_by_blob.contains_key(content) && !self.store.blobs().path(content).exists())
            });
            match is_wanted {
                Some(content) => {
                    let repair = format!("it is what {content} should be, and becomes it");
                    self.report_finding(&path, what, cost, &repair, |check| {
                        let place = atomic_file::temp_path(&check.store.work_dir().path());
                        fs::rename(&path, &place).map_err(StoreError::io("move", &path))?;
                        aside.insert(content, place);
                        Ok(())
                    });
                }
                None => {
                    let repair = "it is removed, and made again if the store has its layer unpacked";
                    self.report_finding(&path, what, cost, repair, |_| {
                        fs::remove_file(&path).map_err(StoreError::io("remove", &path))
                    });
                }
            }
        }
        for (content, place) in aside {
            let path = self.store.blobs().path(&content);
            let _ = fs::rename(&place, &path).and_then(|()| atomic_file::sync_parent(&path).map_err(io::Error::other));
        }
    }

    /// Restores a blob from the extracted layer that it was packed from, if that exists.
    pub(super) fn repack_blob(&self, digest: &Digest) -> bool {
        let Ok(packs) = Dir::open(&self.store.join("packs")).and_then(|dir| dir.names()) else { return false };
        packs.iter().filter_map(|name| std::str::from_utf8(name).ok()).any(|name| self.repack_blob_from(name, digest))
    }

    fn repack_blob_from(&self, name: &str, digest: &Digest) -> bool {
        let Some((id, rest)) = name.split_once('.') else { return false };
        let (times, kind) = rest.split_once('.').unwrap_or((rest, ""));
        let (Ok(id), Ok(times)) = (id.parse::<LayerId>(), times.parse::<PackedTimes>()) else { return false };
        let bytes = atomic_file::read_limited(&self.store.join("packs").join(name), 1 << 20).ok().flatten();
        let packed = bytes.and_then(|bytes| serde_json::from_slice::<PackedLayer>(&bytes).ok());
        let is_it = packed.is_some_and(|packed| packed.blob.digest == *digest);
        if !is_it || !self.store.layers().has(&id) || !self.store.layer_matches_id(&id, self.store.id_mapping()) {
            return false;
        }
        match (self.options.repack)(self.store, &id, times, kind) {
            Ok(packed) if packed.blob.digest == *digest => true,
            // It was packed by another program or an older version: this result is useless.
            Ok(packed) => {
                self.store.blobs().remove(&packed.blob.digest);
                false
            }
            Err(_) => false,
        }
    }
}

fn hash_blob(path: &Path) -> io::Result<BlobContent> {
    let mut file = atomic_file::open_no_follow(path)?;
    let mut hasher = DigestHasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => hasher.update(&buffer[..got]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = hasher.length();
    Ok(BlobContent { digest: hasher.finish(), length })
}
