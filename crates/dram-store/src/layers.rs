//! Unpacked layers: directories that are used as lower directories of overlayfs.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dram_image::tar::TarReader;
use dram_image::{Descriptor, Digest, DigestHasher, HashingWriter, TreePath};
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, Durability};
use crate::compress::DecompressingReader;
use crate::dir::FileMetadata;
use crate::foreign_ids::{is_foreign_owner, namespace_ids};
use crate::id_mapping::IdMapping;
use crate::layer_scan::{ScannedEntry, scan_layer};
use crate::ownership;
use crate::pack::{PackedTimes, pack};
use crate::parent_deps::{self, InheritedEntry};
use crate::tree::hash_file;
use crate::unpack::{ParentDeps, UnpackMode, UnpackOptions, unpack};
use crate::{Dir, FileKind, MergedTree, Store, StoreError};

/// The id of an unpacked layer. `d-DIFFID` is the tar with that diff ID; `d-DIFFID-HASH` the same tar when entries were
/// inherited from parent layers; `c-HASH` a digest of the directory's content (names, kinds, modes, owners, extended
/// attributes and bytes, but no times).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String);

impl LayerId {
    /// The id of the layer that the tar with this diff ID unpacks to.
    pub fn from_diff_id(diff_id: &Digest) -> LayerId {
        LayerId(format!("d-{}", diff_id.hex()))
    }

    /// The id of that layer when it inherited entries from parent layers; `taken` is a digest of them.
    fn from_diff_id_with_inherited(diff_id: &Digest, inherited: blake3::Hash) -> LayerId {
        LayerId(format!("d-{}-{}", diff_id.hex(), &inherited.to_hex()[..32]))
    }

    /// The id of the same tar without parent layers; an id by content is returned unchanged.
    pub(crate) fn without_inherited(&self) -> LayerId {
        LayerId(self.0.chars().take(66).collect())
    }

    /// The diff ID of the tar that the layer was unpacked from, if there is one.
    pub(crate) fn diff_id(&self) -> Option<Digest> {
        Digest::from_hex(self.0.strip_prefix("d-")?.get(..64)?).ok()
    }

    fn from_content(hash: blake3::Hash) -> LayerId {
        LayerId(format!("c-{}", hash.to_hex()))
    }

    /// Returns `true` for a layer that a build step created; its id is a digest of its content.
    pub fn is_from_step(&self) -> bool {
        self.0.starts_with("c-")
    }

    /// Returns `true` when the id is a digest of the directory's content.
    pub(crate) fn is_content_addressed(&self) -> bool {
        self.0.starts_with("c-")
    }

    /// The id as text; it is the name of the layer's directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LayerId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (hex, inherited) = match text.split_at_checked(2) {
            Some(("d-", rest)) => rest.split_once('-').unwrap_or((rest, "00000000000000000000000000000000")),
            Some(("c-", rest)) => (rest, "00000000000000000000000000000000"),
            _ => return Err("not the name of a layer"),
        };
        let is_hex = inherited.len() == 32 && inherited.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match Digest::from_hex(hex) {
            Ok(_) if is_hex => Ok(LayerId(text.to_owned())),
            Ok(_) | Err(_) => Err("not the name of a layer"),
        }
    }
}

impl TryFrom<String> for LayerId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> String {
        id.0
    }
}

/// The blob that a layer was packed into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The blob: the tar, compressed.
    pub blob: Descriptor,
}

/// The largest record of a digest, a layer id, a size or a time.
pub(crate) const MAX_SHORT_RECORD_BYTES: u64 = 256;

/// The unpacked layers of a store.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    store: &'a Store,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Layers { store }
    }

    /// The store that holds these layers.
    pub fn store(self) -> &'a Store {
        self.store
    }

    /// The path of the layer's directory, which need not exist.
    pub fn path(self, id: &LayerId) -> PathBuf {
        self.store.subdir("layers").join(&id.0)
    }

    /// Returns `true` when the layer exists and needs no verification after a crash.
    pub fn has(self, id: &LayerId) -> bool {
        self.path(id).is_dir() && !self.store.is_suspect(id)
    }

    /// Commits the directory `made` (in this process's work directory) as a layer, named by a digest of its content.
    ///
    /// Attributes of overlayfs that a command set itself are no content and are removed: they would act in dram, and
    /// nowhere else.
    ///
    /// # Errors
    /// On an I/O error, and when an entry has a name that is a whiteout in an OCI layer.
    pub fn commit(self, made: &Path) -> Result<LayerId, StoreError> {
        self.commit_telling(made, &mut |_| ())
    }

    /// As [`Layers::commit`]. Calls `lost` with each path that had an access control list: no layer of an image holds one, so
    /// it is removed.
    ///
    /// # Errors
    /// As for [`Layers::commit`].
    pub fn commit_telling(self, made: &Path, lost: &mut dyn FnMut(&TreePath)) -> Result<LayerId, StoreError> {
        let dir = Dir::open_layer(made)?;
        let (mut whiteout_name, mut marked, mut foreign, mut listed) = (None, Vec::new(), Vec::new(), Vec::new());
        // Only overlayfs mounts of root do not interpret `user.overlay.` attributes, so that a command can set them.
        let is_root = self.store.id_mapping() == IdMapping::Root;
        let has_stand_ins = self.store.id_mapping() == IdMapping::Subordinate;
        let digest = content_digest(&dir, &mut |found| {
            if found.path.name().is_some_and(|name| name.starts_with(b".wh.")) && whiteout_name.is_none() {
                whiteout_name = Some(found.path.clone());
            }
            if found.has_access_list {
                listed.push(found.path.clone());
            }
            if is_root && found.has_user_overlay_xattrs {
                marked.push(found.path.clone());
            }
            let owner = (found.status.uid, found.status.gid);
            if has_stand_ins && is_foreign_owner(namespace_ids(), owner) {
                foreign.push((found.path.clone(), owner));
            }
            true
        })?;
        // A command gave away a file to an id that is kept for stand-ins, and so is foreign.
        for (path, owner) in foreign {
            dir.record_foreign_owner(&path, Some(owner))?;
        }
        if let Some(path) = whiteout_name {
            return Err(StoreError::Unrepresentable { path, why: "such a name stands for a deleted file" });
        }
        for path in &marked {
            Self::remove_xattrs(&dir, path, b"user.overlay.")?;
        }
        for path in &listed {
            Self::remove_xattrs(&dir, path, b"system.posix_acl_")?;
            lost(path);
        }
        let id = if marked.is_empty() { LayerId::from_content(digest) } else { content_layer_id(&dir)? };
        self.install(made, &id)?;
        Ok(id)
    }

    /// Removes the attributes of an entry whose names begin with `prefix`.
    fn remove_xattrs(dir: &Dir, path: &TreePath, prefix: &[u8]) -> Result<(), StoreError> {
        let all = dir.xattrs(path)?;
        all.iter().filter(|(name, _)| name.starts_with(prefix)).try_for_each(|(name, _)| dir.remove_xattr(path, name))
    }

    /// A merged view of the layers `ids`, lowest first.
    ///
    /// # Errors
    /// When a layer is missing.
    pub fn view(self, ids: &[LayerId]) -> Result<MergedTree, StoreError> {
        let paths: Vec<_> = ids.iter().rev().map(|id| self.path(id)).collect();
        MergedTree::open(&paths)
    }

    /// Writes the layer as a tar. The same content, with the same times, always gives the same bytes.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn pack(self, id: &LayerId, times: PackedTimes, out: &mut dyn Write) -> Result<(), StoreError> {
        pack(&self.path(id), times, out)
    }

    /// Decompresses a layer's blob to `out`: the tar, byte for byte.
    ///
    /// # Errors
    /// When the blob is missing, damaged, not a layer or has another diff ID, or when writing to `out` fails.
    pub fn copy_uncompressed(self, blob: &Descriptor, diff_id: &Digest, out: &mut dyn Write) -> Result<(), StoreError> {
        let path = self.store.blobs().path(&blob.digest);
        let copy = |stream: &mut dyn Read, _: &str| {
            std::io::copy(stream, out).map(drop).map_err(StoreError::io("copy", &path))
        };
        self.read_layer_blob(blob, diff_id, &mut { copy }).map(drop)
    }

    /// The size of the layer's tar in bytes. The first call reads the whole blob and records the size.
    ///
    /// # Errors
    /// Those of [`Layers::verify_blob`].
    pub fn tar_size(self, diff_id: &Digest, blob: &Descriptor) -> Result<u64, StoreError> {
        let known = atomic_file::read_limited(&self.size_record_path(diff_id), MAX_SHORT_RECORD_BYTES).ok().flatten();
        let known = known.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse().ok());
        if let Some(size) = known {
            return Ok(size);
        }
        let size = self.verify_blob(blob, diff_id)?;
        // Failure is ignored: the next call reads the blob again, and a read-only store cannot be written.
        let _ = self.record_tar_size(diff_id, size);
        Ok(size)
    }

    /// Returns `true` when a record says that the whole blob was verified to contain the tar `diff_id`.
    pub fn is_blob_verified(self, blob: &Descriptor, diff_id: &Digest) -> bool {
        let known = atomic_file::read_limited(&self.diff_record_path(blob), MAX_SHORT_RECORD_BYTES).ok().flatten();
        known.is_some_and(|known| known == diff_id.hex().as_bytes())
    }

    /// Records that the whole blob was verified to contain the tar `diff_id`. Without the record it is verified again.
    pub fn record_blob_verified(self, blob: &Descriptor, diff_id: &Digest) {
        let bytes = diff_id.hex();
        let _ = atomic_file::write_atomic(
            &self.diff_record_path(blob),
            bytes.as_bytes(),
            MAX_SHORT_RECORD_BYTES,
            &self.store.work_dir().path(),
            Durability::Unsynced,
        );
    }

    fn diff_record_path(self, blob: &Descriptor) -> PathBuf {
        self.store.join("packs").join(format!("{}.diff", blob.digest.hex()))
    }

    /// Verifies that the blob is a complete tar with the diff ID `diff_id`. Returns the tar's size.
    ///
    /// # Errors
    /// When the blob is missing, damaged, not a layer, or has another diff ID.
    pub fn verify_blob(self, descriptor: &Descriptor, diff_id: &Digest) -> Result<u64, StoreError> {
        self.read_layer_blob(descriptor, diff_id, &mut |stream, what| {
            let fail = |source| StoreError::LayerTar { what: what.to_owned(), source };
            let mut reader = TarReader::new(stream).with_limits(self.store.limits());
            while reader.next_entry().map_err(fail)?.is_some() {}
            reader.drain().map_err(fail)
        })
        .inspect(|_| self.record_blob_verified(descriptor, diff_id))
    }

    /// Passes the decompressed bytes of a layer's blob to `consume`, which must read to the end, and compares their
    /// digest with `diff_id`. Returns the number of bytes.
    fn read_layer_blob(
        self,
        descriptor: &Descriptor,
        diff_id: &Digest,
        consume: &mut dyn FnMut(&mut dyn Read, &str) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let blob = descriptor.digest;
        let reader = self.store.blobs().open(descriptor)?;
        let unpacked = DecompressingReader::new(Box::new(reader), self.store.limits())
            .map_err(StoreError::io("read", &self.store.blobs().path(&blob)))?;
        let mut counted = DigestingReader { inner: unpacked, hasher: DigestHasher::new() };
        consume(&mut counted, &format!("the layer {blob}"))?;
        let (length, found) = (counted.hasher.length(), counted.hasher.finish());
        if found == *diff_id {
            return Ok(length);
        }
        Err(StoreError::WrongDiffId { blob, found, expected: *diff_id })
    }

    pub(crate) fn size_record_path(self, diff_id: &Digest) -> PathBuf {
        self.store.join("packs").join(format!("{}.size", LayerId::from_diff_id(diff_id)))
    }

    /// Records the size of the layer's tar.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn record_tar_size(self, diff_id: &Digest, size: u64) -> Result<(), StoreError> {
        atomic_file::write_atomic(
            &self.size_record_path(diff_id),
            size.to_string().as_bytes(),
            MAX_SHORT_RECORD_BYTES,
            &self.store.work_dir().path(),
            Durability::Unsynced,
        )
    }

    /// Unpacks a tar in any supported compression into the directory `into`, for `ADD`. Returns the directories that the
    /// archive only implies: they have no entry, and were made because entries lie below them. Returns `None` and does
    /// nothing when `stream` is not a tar.
    ///
    /// # Errors
    /// When the archive is broken, or on an I/O error.
    pub fn unpack_archive(
        self,
        stream: impl Read + 'static,
        into: &Path,
        what: &str,
    ) -> Result<Option<BTreeSet<TreePath>>, StoreError> {
        let fail = || StoreError::io("read", Path::new(what));
        let mut unpacked = DecompressingReader::new(Box::new(stream), self.store.limits()).map_err(fail())?;
        let mut head = Vec::new();
        // `ADD` copies a compressed file that is not a tar, or that is damaged, as a plain file.
        if (&mut unpacked).take(512).read_to_end(&mut head).is_err() || !dram_image::tar::is_header_block(&head) {
            return Ok(None);
        }
        let mut stream = head.as_slice().chain(unpacked);
        let options = UnpackOptions { mode: UnpackMode::Archive, limits: self.store.limits(), archive_name: what };
        unpack(&mut stream, &Dir::open_layer(into)?, options).map(|deps| Some(deps.implied_dirs))
    }

    /// Moves a directory into place with an atomic rename. When another process was faster, its result is kept.
    fn install(self, made: &Path, id: &LayerId) -> Result<(), StoreError> {
        let place = self.path(id);
        if self.store.id_mapping() != IdMapping::Root && !place.is_dir() {
            self.prepare_new_layer(made)?;
            ownership::finalize_table(made, &place, &self.store.work_dir().path())?;
        }
        self.store.mark_unsynced(id)?;
        if !place.is_dir() {
            // A record of a layer that was evicted since.
            let _ = fs::remove_file(self.made_record_path(id));
        }
        match fs::rename(made, &place) {
            Err(_) if place.is_dir() => {
                self.store.work_dir().remove_temp_dir(made);
                Ok(())
            }
            done => done.map_err(StoreError::io("write", &place)),
        }
    }

    /// Returns the layer of the blob `descriptor` on top of the parent layers `below`, lowest first; it is unpacked now
    /// unless it already was. The layer is committed only after the blob's digest and size and `diff_id` are verified.
    ///
    /// # Errors
    /// When the blob is missing, damaged, not a layer, or has another diff ID.
    pub fn unpack(self, descriptor: &Descriptor, diff_id: &Digest, below: &[LayerId]) -> Result<LayerId, StoreError> {
        if let Some(id) = self.find_unpacked(diff_id, below)? {
            return Ok(id);
        }
        let _turn = self.store.lock_subject(LayerId::from_diff_id(diff_id).as_str())?;
        if let Some(id) = self.find_unpacked(diff_id, below)? {
            return Ok(id);
        }
        let made = self.store.work_dir().temp_dir()?;
        let done = self.unpack_into(&made, descriptor, diff_id, below).and_then(|id| {
            self.install(&made, &id)?;
            Ok(id)
        });
        if done.is_err() {
            self.store.work_dir().remove_temp_dir(&made);
        }
        done
    }

    /// The layer of the tar `diff_id` on top of the parent layers `below`, if it is unpacked. Records the use.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn find_unpacked(self, diff_id: &Digest, below: &[LayerId]) -> Result<Option<LayerId>, StoreError> {
        let Some((id, is_noted)) = self.lookup_unpacked(diff_id, below)? else { return Ok(None) };
        self.record_use(&id);
        if !is_noted {
            // Failure is ignored: the next call resolves it again, and a read-only store cannot be written.
            let record = self.parents_record_path(diff_id, below);
            let _ = atomic_file::write_atomic(
                &record,
                id.as_str().as_bytes(),
                MAX_SHORT_RECORD_BYTES,
                &self.store.work_dir().path(),
                Durability::Unsynced,
            );
        }
        Ok(Some(id))
    }

    /// As [`Layers::find_unpacked`], but writes nothing. The `bool` is `true` when there is nothing to record.
    pub(crate) fn lookup_unpacked(
        self,
        diff_id: &Digest,
        below: &[LayerId],
    ) -> Result<Option<(LayerId, bool)>, StoreError> {
        let deps = parent_deps::read_parent_deps(&self.parent_deps_record_path(diff_id))?;
        let alone = LayerId::from_diff_id(diff_id);
        if deps == ParentDeps::default() {
            return Ok(Some((alone, true)).filter(|(id, _)| self.has(id)));
        }
        let known =
            atomic_file::read_limited(&self.parents_record_path(diff_id, below), MAX_SHORT_RECORD_BYTES).ok().flatten();
        let known: Option<LayerId> = known.and_then(|id| String::from_utf8(id).ok()?.parse().ok());
        if let Some(id) = known.filter(|id| id.without_inherited() == alone && self.has(id)) {
            return Ok(Some((id, true)));
        }
        let id = self.id_with_inherited(diff_id, &parent_deps::resolve_inherited(&deps, below, self)?);
        Ok(Some((id, false)).filter(|(id, _)| self.has(id)))
    }

    /// The path of the record of the layer's id on top of `below`. Without it each inherited path is resolved again.
    fn parents_record_path(self, diff_id: &Digest, below: &[LayerId]) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        for id in below {
            hasher.update(id.as_str().as_bytes());
            hasher.update(b" ");
        }
        let below = hasher.finalize().to_hex();
        self.store.join("packs").join(format!("{}.{}.over", LayerId::from_diff_id(diff_id), &below[..32]))
    }

    /// Records the time of use for eviction, as no step's cache record refers to this layer. When this fails, the layer
    /// may be evicted earlier.
    fn record_use(self, id: &LayerId) {
        let record = self.store.join("packs").join(format!("{id}.used"));
        if atomic_file::record_use(&record, self.store.opened_at())
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            let _ = fs::File::create(&record);
        }
    }

    /// The time of the last [`Layers::record_use`], in seconds since 1970; 0 for never.
    pub(crate) fn last_use(self, id: &LayerId) -> i64 {
        let record = self.store.join("packs").join(format!("{id}.used"));
        fs::symlink_metadata(record).map_or(0, |meta| std::os::unix::fs::MetadataExt::mtime(&meta))
    }

    fn unpack_into(
        self,
        made: &Path,
        descriptor: &Descriptor,
        diff_id: &Digest,
        below: &[LayerId],
    ) -> Result<LayerId, StoreError> {
        let dir = Dir::open_layer(made)?;
        let (deps, _) = self.unpack_without_parents(&dir, descriptor, diff_id)?;
        let inherited = parent_deps::resolve_inherited(&deps, below, self)?;
        parent_deps::apply_inherited(&dir, &inherited)?;
        parent_deps::write_parent_deps(&self.parent_deps_record_path(diff_id), &deps, self.store)?;
        let id = self.id_with_inherited(diff_id, &inherited);
        self.record_use(&id);
        Ok(id)
    }

    /// Unpacks the blob into `dir` without parent layers. Returns its dependencies on parent layers and its tar's size.
    pub(crate) fn unpack_without_parents(
        self,
        dir: &Dir,
        descriptor: &Descriptor,
        diff_id: &Digest,
    ) -> Result<(ParentDeps, u64), StoreError> {
        // Many tars have no entry for the root, and the mode of a new directory depends on the umask.
        dir.set_metadata(&TreePath::root(), &FileMetadata { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0) }, false)?;
        let mut deps = ParentDeps::default();
        let length = self.read_layer_blob(descriptor, diff_id, &mut |stream, what| {
            let options = UnpackOptions { mode: UnpackMode::Layer, limits: self.store.limits(), archive_name: what };
            deps = unpack(stream, dir, options)?;
            Ok(())
        })?;
        Ok((parent_deps::retain_effective(dir, &deps)?, length))
    }

    pub(crate) fn id_with_inherited(self, diff_id: &Digest, inherited: &[InheritedEntry]) -> LayerId {
        if inherited.is_empty() {
            LayerId::from_diff_id(diff_id)
        } else {
            LayerId::from_diff_id_with_inherited(diff_id, parent_deps::inherited_digest(inherited))
        }
    }

    pub(crate) fn parent_deps_record_path(self, diff_id: &Digest) -> PathBuf {
        self.store.join("packs").join(format!("{}.leans", LayerId::from_diff_id(diff_id)))
    }

    /// Imports the layer `id` that another machine created and packed with `times`; its blob is in the store. All of it
    /// is verified: the blob's digest, the diff ID, the digest of the unpacked content against `id`, and that packing
    /// it here gives the same tar, byte for byte.
    ///
    /// # Errors
    /// When a verification fails, or on an I/O error. The layer is not added then.
    pub fn import_verified(self, packed: &PackedLayer, id: &LayerId, times: PackedTimes) -> Result<(), StoreError> {
        if self.has(id) {
            return Ok(());
        }
        let _turn = self.store.lock_subject(id.as_str())?;
        if self.has(id) {
            return Ok(());
        }
        let made = self.store.work_dir().temp_dir()?;
        let imported = self.unpack_verified(packed, id, times, &made).and_then(|()| self.install(&made, id));
        if imported.is_err() {
            self.store.work_dir().remove_temp_dir(&made);
        }
        imported
    }

    fn unpack_verified(
        self,
        packed: &PackedLayer,
        id: &LayerId,
        times: PackedTimes,
        made: &Path,
    ) -> Result<(), StoreError> {
        let dir = Dir::open_layer(made)?;
        // Packing omits a root with these values, and the mode of a new directory depends on the umask.
        let mtime = (times.fixed().unwrap_or(0), 0);
        dir.set_metadata(&TreePath::root(), &FileMetadata { mode: 0o755, uid: 0, gid: 0, mtime }, false)?;
        self.read_layer_blob(&packed.blob, &packed.diff_id, &mut |stream, what| {
            unpack(
                stream,
                &dir,
                UnpackOptions { mode: UnpackMode::Layer, limits: self.store.limits(), archive_name: what },
            )
            .map(drop)
        })?;
        let found = content_layer_id(&dir)?;
        if found != *id {
            return Err(StoreError::WrongContent { blob: packed.blob.digest, found, expected: id.clone() });
        }
        let mut hashing = HashingWriter::new(std::io::sink());
        pack(made, times, &mut hashing)?;
        if hashing.finish().finish() != packed.diff_id {
            return Err(StoreError::ForeignPacking { blob: packed.blob.digest });
        }
        Ok(())
    }
}

/// The id by content of the layer directory `dir`.
pub(crate) fn content_layer_id(dir: &Dir) -> Result<LayerId, StoreError> {
    Ok(LayerId::from_content(content_digest(dir, &mut |_| true)?))
}

/// A reader that computes the digest of the bytes that pass through it.
struct DigestingReader<R> {
    inner: R,
    hasher: DigestHasher,
}

impl<R: std::io::Read> std::io::Read for DigestingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        Ok(got)
    }
}

/// The digest of the entries of a layer directory for which `counts` returns `true`, without their times.
pub(crate) fn content_digest(
    dir: &Dir,
    counts: &mut dyn FnMut(&ScannedEntry) -> bool,
) -> Result<blake3::Hash, StoreError> {
    let mut hasher = blake3::Hasher::new();
    scan_layer(dir, &mut |found| {
        // A tar cannot hold a socket, and a socket is useless without the process that created it.
        if !counts(found) || found.status.kind == FileKind::Socket {
            return Ok(());
        }
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(found.path.as_bytes());
        for (name, value) in &found.xattrs {
            add(name);
            add(value);
        }
        add(&entry_digest_input(dir, found)?);
        Ok(())
    })?;
    Ok(hasher.finalize())
}

/// Kind, mode, owner and content of one entry, as input for the digest.
fn entry_digest_input(dir: &Dir, found: &ScannedEntry) -> Result<Vec<u8>, StoreError> {
    let status = &found.status;
    if status.kind.is_whiteout() {
        // The kernel and dram create whiteouts with different modes, and a tar does not store them.
        return Ok(b"0 0 0 0 Char(0, 0)".to_vec());
    }
    let head = format!("{:o} {} {} {} ", status.mode, status.uid, status.gid, u8::from(found.opaque));
    let tail = match (status.kind, &found.link_to) {
        (_, Some(first)) => [b"link ", first.as_bytes()].concat(),
        (FileKind::File, None) => {
            let digest =
                hash_file(dir.open_file(&found.path)?).map_err(StoreError::io("read", found.path.as_path()))?;
            [&b"file "[..], &digest].concat()
        }
        (FileKind::Symlink, None) => [b"symlink ".to_vec(), dir.read_link(&found.path)?].concat(),
        (kind, None) => format!("{kind:?}").into_bytes(),
    };
    Ok([head.into_bytes(), tail].concat())
}
