//! Blobs: content-addressed files, named by their digest.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dram_image::document::{DocumentKind, LARGEST_DOCUMENT};
use dram_image::{Descriptor, Digest, DigestHasher, Document, TreePath};

use crate::{Dir, Store, StoreError, atomic_file};

/// The blobs of a store.
#[derive(Debug, Clone, Copy)]
pub struct Blobs<'a> {
    store: &'a Store,
}

impl<'a> Blobs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Blobs { store }
    }

    fn dir(self) -> PathBuf {
        self.store.join("oci/blobs/sha256")
    }

    /// Returns the path of the blob, which may be missing.
    pub fn path(self, digest: &Digest) -> PathBuf {
        self.dir().join(digest.hex())
    }

    /// Returns true if a regular file of the right size exists under the digest. Does not verify its content.
    pub fn has(self, descriptor: &Descriptor) -> bool {
        let meta = fs::symlink_metadata(self.path(&descriptor.digest));
        meta.is_ok_and(|meta| meta.is_file() && meta.len() == descriptor.size)
    }

    /// Returns true if the blob exists and its content matches the digest, which reads all of it.
    pub fn is_intact(self, descriptor: &Descriptor) -> bool {
        self.has(descriptor) && self.open(descriptor).is_ok_and(|mut blob| io::copy(&mut blob, &mut io::sink()).is_ok())
    }

    /// Returns a writer that becomes a blob when it is committed.
    ///
    /// # Errors
    /// When the temporary file cannot be created.
    pub fn writer(self) -> Result<BlobWriter, StoreError> {
        let path = atomic_file::temp_path(&self.store.work_dir().path());
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        let quota = self.quota()?;
        Ok(BlobWriter { file: Some(file), path, dir: self.dir(), hasher: DigestHasher::new(), quota })
    }

    /// Returns the size limit and the current size of all blobs, if the user set a limit.
    fn quota(self) -> Result<Option<BlobQuota>, StoreError> {
        let Some(max_bytes) = self.store.max_bytes() else { return Ok(None) };
        let used = match self.store.blob_bytes().get() {
            Some(used) => used.clone(),
            None => {
                let all = self.list()?.iter().map(|(_, size)| size).sum();
                self.store.blob_bytes().get_or_init(|| Arc::new(AtomicU64::new(all))).clone()
            }
        };
        Ok(Some(BlobQuota { max_bytes, used }))
    }

    /// Stores `bytes`.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn put(self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.is_intact(&Descriptor::new("", digest, bytes.len() as u64)) {
            let mut writer = self.writer()?;
            let path = writer.path.clone();
            writer.write_all(bytes).map_err(StoreError::io("write", &path))?;
            writer.commit()?;
        }
        Ok(digest)
    }

    /// Stores a document and returns its descriptor.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn put_document<T: DocumentKind>(
        self,
        document: &Document<T>,
        media_type: &str,
    ) -> Result<Descriptor, StoreError> {
        self.put(document.bytes())?;
        Ok(document.descriptor(media_type))
    }

    /// Returns a reader that verifies the blob and fails at the end when the digest does not match.
    ///
    /// # Errors
    /// When the blob is missing, not a regular file, or of another size.
    pub fn open(self, descriptor: &Descriptor) -> Result<impl Read + use<>, StoreError> {
        let digest = descriptor.digest;
        let dir = Dir::open(&self.dir())?;
        let name = TreePath::parse(digest.hex().as_bytes())?;
        let damaged = |why: String| StoreError::DamagedBlob { digest, why };
        let file = dir.open_file(&name).map_err(|error| {
            if error.is_not_found() {
                return StoreError::MissingBlob { digest };
            }
            if let StoreError::Io { source, .. } = &error { damaged(source.to_string()) } else { error }
        })?;
        let length = file.metadata().map_err(StoreError::io("look at", &self.path(&digest)))?.len();
        if length != descriptor.size {
            return Err(damaged(format!("it has {length} bytes, expected {}", descriptor.size)));
        }
        Ok(VerifiedBlobReader { inner: file, hasher: Some(DigestHasher::new()), digest })
    }

    /// Returns the verified content of a small blob.
    ///
    /// # Errors
    /// When it is missing, damaged, or larger than the maximum size of a document.
    pub fn read(self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        let digest = descriptor.digest;
        if descriptor.size > LARGEST_DOCUMENT as u64 {
            let why = format!("{} bytes are more than any document has", descriptor.size);
            return Err(StoreError::DamagedBlob { digest, why });
        }
        let mut bytes = Vec::new();
        let read = self.open(descriptor)?.read_to_end(&mut bytes);
        read.map_err(|error| StoreError::DamagedBlob { digest, why: error.to_string() })?;
        Ok(bytes)
    }

    /// Returns a verified and parsed document.
    ///
    /// # Errors
    /// When it is missing, damaged, or not of its type.
    pub fn read_document<T: DocumentKind>(self, descriptor: &Descriptor) -> Result<Document<T>, StoreError> {
        let bytes = self.read(descriptor)?;
        let path = self.path(&descriptor.digest);
        Document::read(bytes).map_err(|source| StoreError::Document { path, source })
    }

    /// Removes an unneeded blob. A failure is ignored: garbage collection removes the blob later.
    pub fn remove(self, digest: &Digest) {
        let _ = fs::remove_file(self.path(digest));
    }

    /// Returns the digests and sizes of all blobs.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let dir = Dir::open(&self.dir())?;
        let mut all = Vec::new();
        for name in dir.names()? {
            let digest = std::str::from_utf8(&name).ok().and_then(|hex| Digest::from_hex(hex).ok());
            let status = dir.status(&TreePath::parse(&name)?)?;
            if let Some((digest, status)) = digest.zip(status) {
                all.push((digest, status.size));
            }
        }
        Ok(all)
    }
}

/// Writes and hashes the bytes of a blob, and renames it to its digest on commit. If dropped before, the file is
/// removed.
#[derive(Debug)]
pub struct BlobWriter {
    file: Option<File>,
    path: PathBuf,
    dir: PathBuf,
    hasher: DigestHasher,
    quota: Option<BlobQuota>,
}

/// The size limit that the user set.
#[derive(Debug)]
struct BlobQuota {
    max_bytes: u64,
    /// Total size of the store's blobs.
    used: Arc<AtomicU64>,
}

/// A blob that exceeds the size limit that the user set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store may take {max_bytes} bytes, its blobs have {used}, and {requested} more are needed")]
pub struct QuotaExceeded {
    /// The limit in bytes.
    pub max_bytes: u64,
    /// Total size of the blobs.
    pub used: u64,
    /// Lower bound of the bytes that were to be written.
    pub requested: u64,
}

impl BlobQuota {
    fn check(&self, requested: u64) -> io::Result<()> {
        let (max_bytes, used) = (self.max_bytes, self.used.load(Ordering::Relaxed));
        match used.saturating_add(requested) > max_bytes {
            true => Err(io::Error::new(io::ErrorKind::QuotaExceeded, QuotaExceeded { max_bytes, used, requested })),
            false => Ok(()),
        }
    }
}

impl BlobWriter {
    /// Commits like [`BlobWriter::commit`] if the bytes match `expected`; otherwise removes them.
    ///
    /// # Errors
    /// When they do not match, or a file system operation fails.
    pub fn commit_as(self, expected: &Descriptor) -> Result<(), StoreError> {
        let (found, length) = (self.hasher.clone().finish(), self.hasher.length());
        let damaged = |why| Err(StoreError::DamagedBlob { digest: expected.digest, why });
        if length != expected.size {
            return damaged(format!("it has {length} bytes, expected {}", expected.size));
        }
        if found != expected.digest {
            return damaged("its content does not match its digest".to_owned());
        }
        self.commit().map(drop)
    }

    /// Syncs the bytes and renames the file to its digest. Returns digest and size.
    ///
    /// # Errors
    /// When a file system operation fails.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
    pub fn commit(mut self) -> Result<(Digest, u64), StoreError> {
        let file = self.file.take().expect("only commit and drop take the file");
        file.sync_all().map_err(StoreError::io("write", &self.path))?;
        let (digest, length) = (self.hasher.clone().finish(), self.hasher.length());
        let place = self.dir.join(digest.hex());
        fs::rename(&self.path, &place).map_err(|error| match error.kind() {
            io::ErrorKind::IsADirectory => StoreError::DamagedBlob { digest, why: "it is a directory".to_owned() },
            _ => StoreError::io("write", &place)(error),
        })?;
        atomic_file::sync_parent(&place)?;
        if let Some(quota) = &self.quota {
            quota.used.fetch_add(length, Ordering::Relaxed);
        }
        Ok((digest, length))
    }

    /// Returns the path of the temporary file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(quota) = &self.quota {
            quota.check(self.hasher.length() + bytes.len() as u64)?;
        }
        let file = self.file.as_mut().expect("only commit and drop take the file");
        let written = file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reader that fails at the end when the bytes do not match the digest.
struct VerifiedBlobReader {
    inner: File,
    hasher: Option<DigestHasher>,
    digest: Digest,
}

impl Read for VerifiedBlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let Some(hasher) = &mut self.hasher else { return Ok(got) };
        hasher.update(&buffer[..got]);
        if got == 0 && !buffer.is_empty() {
            let found = self.hasher.take().map(DigestHasher::finish);
            if found != Some(self.digest) {
                let why = "its content does not match its digest".to_owned();
                let damage = StoreError::DamagedBlob { digest: self.digest, why };
                return Err(io::Error::new(io::ErrorKind::InvalidData, damage));
            }
        }
        Ok(got)
    }
}

impl std::fmt::Debug for VerifiedBlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedBlobReader").field("digest", &self.digest).finish_non_exhaustive()
    }
}
