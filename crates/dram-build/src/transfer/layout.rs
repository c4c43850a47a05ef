//! OCI image layouts (OCI image specification 1.1, `image-layout.md`): reads them from a directory or an archive, and
//! writes them to a directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dram_image::{Descriptor, Digest, Document, DocumentError, Index, MediaType, Reference, TreePath};
use dram_store::StoreError;
use serde::Deserialize;

use crate::transfer::copy_image::PARALLEL_BLOBS;
use crate::transfer::layout_files::{LayoutFiles, read_small_file};
use crate::transfer::{ImageSink, ImageSource, IncomingBlob, TransferError};

/// The annotation with the name of an image in a layout.
pub(super) const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// The annotation with the full name of an image.
pub(super) const IMAGE_NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The content of the file `oci-layout`.
pub(super) const LAYOUT_FILE_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The name of an image in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutName {
    /// The name in the layout, which may be any text.
    pub text: String,
    /// The full name, if it is the name of an image.
    pub full: Option<String>,
}

impl From<&Reference> for LayoutName {
    fn from(reference: &Reference) -> LayoutName {
        LayoutName { text: reference.short(), full: Some(reference.full_name()) }
    }
}

/// A layout as a source of images.
#[derive(Debug)]
pub struct LayoutSource {
    files: Box<dyn LayoutFiles>,
}

/// An image that a layout lists.
#[derive(Debug, Clone)]
pub struct LayoutImage {
    /// The descriptor of its manifest or index.
    pub root: Descriptor,
    /// Its name, as the layout has it.
    pub name: Option<String>,
}

impl LayoutImage {
    /// Returns all names of the image.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let other = self.root.annotations.get(REF_NAME_ANNOTATION).map(String::as_str);
        self.name.as_deref().into_iter().chain(other)
    }
}

/// Returns the image that `name` names: by its digest, its exact name, the same reference in another spelling, or its
/// tag. The first of these that fits any image decides.
pub fn find_layout_image<'a>(all: &'a [LayoutImage], name: &str) -> Option<&'a LayoutImage> {
    let reference = name.parse::<Reference>().ok();
    let is_digest = |one: &&LayoutImage| one.root.digest.to_string() == name;
    let is_name = |one: &&LayoutImage| one.names().any(|text| text == name);
    let is_reference =
        |one: &&LayoutImage| one.names().any(|text| reference.is_some() && text.parse::<Reference>().ok() == reference);
    let is_tag = |one: &&LayoutImage| {
        one.names().any(|text| text.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/') && tag == name))
    };
    let first = |fits: &dyn Fn(&&LayoutImage) -> bool| all.iter().find(|one| fits(one));
    first(&is_digest).or_else(|| first(&is_name)).or_else(|| first(&is_reference)).or_else(|| first(&is_tag))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

impl LayoutSource {
    /// Opens the layout in `files`, or returns them if they are not one.
    pub(super) fn new(
        files: Box<dyn LayoutFiles>,
    ) -> Result<Result<LayoutSource, Box<dyn LayoutFiles>>, TransferError> {
        let Some(bytes) = read_small_file(&*files, "oci-layout")? else { return Ok(Err(files)) };
        let source = LayoutSource { files };
        let version: LayoutFile = serde_json::from_slice(&bytes).map_err(|error| {
            source.document_error("oci-layout", DocumentError::Json { what: "the document", source: error })
        })?;
        if !version.image_layout_version.starts_with("1.") {
            let why = format!("imageLayoutVersion is `{}`", version.image_layout_version.escape_debug());
            return Err(source.document_error("oci-layout", DocumentError::Invalid { what: "the layout", why }));
        }
        Ok(Ok(source))
    }

    fn document_error(&self, file: &str, source: DocumentError) -> TransferError {
        TransferError::Document { place: self.display_name(), file: file.to_owned(), source }
    }

    fn read_index(&self) -> Result<Document<Index>, TransferError> {
        let bytes = read_small_file(&*self.files, "index.json")?;
        let bytes = bytes.ok_or_else(|| TransferError::NoImages(self.files.place().to_owned()))?;
        Document::read(bytes).map_err(|source| self.document_error("index.json", source))
    }

    /// Returns all images of the layout, with or without a name.
    ///
    /// # Errors
    /// Returns an error if `index.json` is missing or damaged.
    pub fn list_images(&self) -> Result<Vec<LayoutImage>, TransferError> {
        let index = self.read_index()?;
        let entries = index.value().manifests.iter().map(|entry| {
            let named = |key: &str| entry.annotations.get(key).cloned();
            LayoutImage {
                root: entry.clone(),
                name: named(IMAGE_NAME_ANNOTATION).or_else(|| named(REF_NAME_ANNOTATION)),
            }
        });
        Ok(entries.collect())
    }

    /// Opens the file of a blob and verifies its length.
    fn open_blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        let damaged = |why: String| TransferError::Blob { place: self.display_name(), digest: blob.digest, why };
        let name = TreePath::parse(blob_path(&blob.digest).as_bytes()).map_err(StoreError::from)?;
        let found = self.files.open(&name).map_err(|error| damaged(dram_store::error_chain(&error)))?;
        let (length, file) = found.ok_or_else(|| damaged("it is not there".to_owned()))?;
        match length == blob.size {
            true => Ok(file),
            false => Err(damaged(format!("it has {length} bytes, expected {}", blob.size))),
        }
    }
}

/// Returns the path of a blob in a layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl ImageSource for LayoutSource {
    fn display_name(&self) -> String {
        self.files.place().display().to_string()
    }

    fn read_document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        let mut bytes = Vec::new();
        let read = self.open_blob(document)?.read_to_end(&mut bytes);
        let place = || format!("the blob {} of {}", document.digest, self.display_name());
        read.map_err(|source| TransferError::Read { place: place(), source })?;
        Ok(bytes)
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        self.open_blob(blob)
    }

    fn referrers(&self, document: &Descriptor) -> Result<Vec<Descriptor>, TransferError> {
        #[derive(Deserialize)]
        struct SubjectField {
            subject: Option<Descriptor>,
        }
        let mut all = Vec::new();
        for entry in self.list_images()?.into_iter().map(|listed| listed.root) {
            if !MediaType::is_manifest(&entry.media_type) && !MediaType::is_index(&entry.media_type) {
                continue;
            }
            let bytes = crate::transfer::copy_image::read_document(self, &entry)?;
            let subject = serde_json::from_slice::<SubjectField>(&bytes).ok().and_then(|referring| referring.subject);
            if subject.is_some_and(|subject| subject.digest == document.digest) {
                all.push(entry);
            }
        }
        Ok(all)
    }
}

/// A layout in a directory as a sink of images. Other names in it are kept.
#[derive(Debug)]
pub struct LayoutSink {
    path: PathBuf,
    names: Vec<LayoutName>,
}

impl LayoutSink {
    /// Opens the layout at `path`, which is made if it is missing. Copied images get `names`, or are listed without
    /// one.
    ///
    /// # Errors
    /// Returns an error if the directory holds something else or cannot be made.
    pub fn new(path: &Path, names: Vec<LayoutName>) -> Result<LayoutSink, TransferError> {
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(path).map_err(write_error(path))?;
        existing_entries(path)?;
        fs::create_dir_all(&blobs).map_err(write_error(&blobs))?;
        remove_unfinished(&blobs);
        Ok(LayoutSink { path: path.to_owned(), names })
    }

    fn blob_file(&self, digest: &Digest) -> PathBuf {
        self.path.join(blob_path(digest))
    }

    /// Adds `new` to `index.json`, under a lock.
    fn add_to_index(&self, new: Vec<Descriptor>) -> Result<(), TransferError> {
        let lock = File::open(&self.path).and_then(|dir| dir.lock().map(|()| dir)).map_err(write_error(&self.path))?;
        let index = merge_index(new, existing_entries(&self.path)?);
        // Blobs are named durably before the index that refers to them.
        let blobs = self.path.join("blobs/sha256");
        File::open(&blobs).and_then(|dir| dir.sync_all()).map_err(write_error(&blobs))?;
        replace_file(&self.path.join("oci-layout"), LAYOUT_FILE_CONTENT)?;
        replace_file(&self.path.join("index.json"), Document::write(index).bytes())?;
        drop(lock);
        Ok(())
    }

    fn write_blob_file(
        &self,
        digest: &Digest,
        write_to: &mut dyn FnMut(&mut File) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let place = self.blob_file(digest);
        // The name contains the process id, because two processes that copy the same blob must not write the same file.
        let new = place.with_file_name(format!(".{}.{}.new", digest.hex(), std::process::id()));
        // The shared lock is held until the new file is locked too: `remove_unfinished` runs only while no writer is
        // between these two steps.
        let gate = File::open(self.path.join("blobs/sha256")).and_then(|dir| dir.lock_shared().map(|()| dir));
        let gate = gate.map_err(write_error(&new))?;
        let mut file = File::create(&new).and_then(|file| file.lock().map(|()| file)).map_err(write_error(&new))?;
        drop(gate);
        let written = write_to(&mut file).and_then(|()| {
            let synced = file.sync_all().and_then(|()| fs::rename(&new, &place));
            synced.map_err(write_error(&place))
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}

/// Removes unfinished files of copies that were killed: nobody holds a lock on them.
fn remove_unfinished(blobs: &Path) {
    let Ok(gate) = File::open(blobs) else { return };
    if gate.try_lock().is_err() {
        return;
    }
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes().ends_with(b".new");
        if is_ours && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn write_error(place: &Path) -> impl FnOnce(io::Error) -> TransferError + use<> {
    let place = place.to_owned();
    move |source| TransferError::Write { place, source }
}

fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), TransferError> {
    // A fixed name is enough: the writer holds the lock, and an unfinished file is overwritten.
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        io::Write::write_all(&mut file, bytes)?;
        // After a crash the name must not lead to an empty file.
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(write_error(path))
}

/// Returns the existing entries in `index.json` of the layout at `path`.
fn existing_entries(path: &Path) -> Result<Vec<Descriptor>, TransferError> {
    match fs::read(path.join("index.json")) {
        Ok(bytes) => match Document::<Index>::read(bytes) {
            Ok(index) => Ok(index.value().manifests.clone()),
            Err(source) => {
                let place = path.display().to_string();
                Err(TransferError::Document { place, file: "index.json".to_owned(), source })
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let names = fs::read_dir(path).map_err(write_error(path))?.flatten().map(|entry| entry.file_name());
            // These files exist before the first image is listed, or after an interrupted copy.
            let own = ["blobs", "oci-layout", "oci-layout.new", "index.new", "index.json"];
            let foreign = names.into_iter().any(|name| !own.iter().any(|own| name == *own));
            if foreign { Err(TransferError::NotALayout(path.to_owned())) } else { Ok(Vec::new()) }
        }
        Err(source) => Err(TransferError::Write { place: path.to_owned(), source }),
    }
}

/// Returns the index entries that give `names` to `root`.
pub(super) fn name_entries(root: &Descriptor, names: &[LayoutName]) -> Vec<Descriptor> {
    let mut own = root.annotations.clone();
    own.retain(|key, _| {
        key != REF_NAME_ANNOTATION
            && key != IMAGE_NAME_ANNOTATION
            && !key.starts_with(dram_store::OWN_ANNOTATION_PREFIX)
    });
    let bare = Descriptor { annotations: own, platform: None, ..root.clone() };
    if names.is_empty() {
        return vec![bare];
    }
    let entry = |name: &LayoutName| {
        let mut entry = bare.clone();
        entry.annotations.insert(REF_NAME_ANNOTATION.to_owned(), name.text.clone());
        entry.annotations.extend(name.full.clone().map(|whole| (IMAGE_NAME_ANNOTATION.to_owned(), whole)));
        entry
    };
    names.iter().map(entry).collect()
}

/// Returns an index with `new` and those entries of `old` that it does not replace.
pub(super) fn merge_index(new: Vec<Descriptor>, old: Vec<Descriptor>) -> Index {
    let replaced = |entry: &Descriptor| match entry.annotations.get(REF_NAME_ANNOTATION) {
        Some(name) => new.iter().any(|new| new.annotations.get(REF_NAME_ANNOTATION) == Some(name)),
        None => new.contains(entry),
    };
    let mut all: Vec<_> = old.into_iter().filter(|entry| !replaced(entry)).collect();
    all.extend(new);
    Index::new(all)
}

impl ImageSink for LayoutSink {
    fn display_name(&self) -> String {
        self.path.display().to_string()
    }

    fn parallel_blobs(&self) -> usize {
        PARALLEL_BLOBS
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        let place = self.blob_file(&blob.digest);
        if !fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_file() && meta.len() == blob.size) {
            return Ok(false);
        }
        let mut hashing = dram_image::HashingWriter::new(io::sink());
        let read = File::open(&place).and_then(|mut file| io::copy(&mut file, &mut hashing));
        Ok(read.is_ok() && hashing.finish().finish() == blob.digest)
    }

    fn put_blob(&self, blob: &Descriptor, incoming: &IncomingBlob<'_>) -> Result<(), TransferError> {
        let place = self.blob_file(&blob.digest);
        self.write_blob_file(&blob.digest, &mut |file| incoming.write_to(file, &place))
    }

    fn put_document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let place = self.blob_file(&document.digest);
        self.write_blob_file(&document.digest, &mut |file| {
            io::Write::write_all(file, bytes).map_err(write_error(&place))
        })
    }

    fn put_image(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.put_document(root, bytes)?;
        self.add_to_index(name_entries(root, &self.names))
    }

    fn put_referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.put_document(document, bytes)?;
        self.add_to_index(name_entries(document, &[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_image_is_found_by_digest_name_reference_and_tag() {
        let image = |number: u8, names: &[&str]| {
            let mut root = Descriptor::new(MediaType::MANIFEST, Digest::of(&[number]), 1);
            if let Some(other) = names.get(1) {
                root.annotations.insert(REF_NAME_ANNOTATION.to_owned(), (*other).to_owned());
            }
            LayoutImage { root, name: names.first().map(|name| (*name).to_owned()) }
        };
        let all = [
            image(0, &["docker.io/library/app:latest"]),
            image(1, &["registry.example:5000/app:1", "1.0"]),
            image(2, &["1"]),
            image(3, &[]),
        ];
        let digest = all[3].root.digest.to_string();
        for (name, wanted) in [
            ("app", Some(0)),
            ("app:latest", Some(0)),
            ("latest", Some(0)),
            ("registry.example:5000/app:1", Some(1)),
            ("1.0", Some(1)),
            // The exact name is preferred to the tag.
            ("1", Some(2)),
            (digest.as_str(), Some(3)),
            ("5000/app:1", None),
            ("2", None),
            ("", None),
        ] {
            let found = find_layout_image(&all, name).map(|one| one.root.digest);
            assert_eq!(found, wanted.map(|at: usize| all[at].root.digest), "{name}");
        }
    }
}
