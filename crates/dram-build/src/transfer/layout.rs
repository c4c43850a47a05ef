//! OCI image layouts (OCI image specification 1.1, `image-layout.md`): reads them from a directory or an archive, and
//! writes them to a directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dram_image::document::LARGEST_DOCUMENT;
use dram_image::{Descriptor, Digest, Document, DocumentError, Index, MediaType, Reference, TreePath};
use dram_store::{OutputDir, StoreError};
use serde::Deserialize;

use crate::transfer::copy_image::{PARALLEL_BLOBS, check_document_count};
use crate::transfer::layout_files::{LayoutFiles, read_small_file};
use crate::transfer::{ImageSink, ImageSource, IncomingBlob, TransferError, attachment_tag, attachment_tags};

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
    /// The tag is the name in the layout, and the full name has an annotation of its own, as BuildKit and containerd
    /// write it.
    fn from(reference: &Reference) -> LayoutName {
        let text = match reference.digest() {
            None => reference.tag().to_owned(),
            Some(_) => reference.short(),
        };
        LayoutName { text, full: Some(reference.full_name()) }
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

    /// Returns the images of the layout without those that only refer to another one of them, such as signatures.
    ///
    /// # Errors
    /// Returns an error if `index.json` or the manifest of an image without a name is missing or damaged.
    pub fn list_main_images(&self) -> Result<Vec<LayoutImage>, TransferError> {
        let all = self.list_images()?;
        let mut main = Vec::new();
        for one in &all {
            let subject = match (attachment_tag(&one.root), &one.name) {
                (Some(_), _) => continue,
                (None, None) if all.len() > 1 && MediaType::is_manifest(&one.root.media_type) => {
                    self.subject_of(&one.root)?
                }
                (None, _) => None,
            };
            if !subject.is_some_and(|subject| all.iter().any(|other| other.root.digest == subject)) {
                main.push(one.clone());
            }
        }
        Ok(if main.is_empty() { all } else { main })
    }

    /// Returns the digest of the manifest or index to which `document` refers, if it refers to one.
    fn subject_of(&self, document: &Descriptor) -> Result<Option<Digest>, TransferError> {
        #[derive(Deserialize)]
        struct SubjectField {
            subject: Option<Descriptor>,
        }
        let bytes = crate::transfer::copy_image::read_document(self, document)?;
        let referring = serde_json::from_slice::<SubjectField>(&bytes).ok();
        Ok(referring.and_then(|referring| referring.subject).map(|subject| subject.digest))
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
        let tags = attachment_tags(&document.digest);
        let mut all = Vec::new();
        for entry in self.list_images()?.into_iter().map(|listed| listed.root) {
            if attachment_tag(&entry).is_some_and(|tag| tags.iter().any(|one| one == tag)) {
                all.push(entry);
                continue;
            }
            if !MediaType::is_manifest(&entry.media_type) && !MediaType::is_index(&entry.media_type) {
                continue;
            }
            if self.subject_of(&entry)? == Some(document.digest) {
                all.push(entry);
            }
        }
        Ok(all)
    }
}

/// A layout in a directory as a sink of images. Other names in it are kept.
#[derive(Debug)]
pub struct LayoutSink {
    dir: OutputDir,
    blobs: OutputDir,
    names: Vec<LayoutName>,
}

/// The names of `index.json` and `oci-layout` while they are written.
const TEMPORARY_NAMES: [&str; 2] = ["index.new", "oci-layout.new"];

impl LayoutSink {
    /// Opens the layout at `path`, which is made if it is missing. Copied images get `names`, or are listed without
    /// one. Links in the layout are not followed.
    ///
    /// # Errors
    /// Returns an error if the directory holds something else or cannot be made.
    pub fn new(path: &Path, names: Vec<LayoutName>) -> Result<LayoutSink, TransferError> {
        let dir = OutputDir::create(path)?;
        existing_entries(&dir)?;
        let blobs = dir.subdir("blobs")?.subdir("sha256")?;
        blobs.remove_unfinished();
        Ok(LayoutSink { dir, blobs, names })
    }

    /// Adds `new` to `index.json`, under a lock.
    fn add_to_index(&self, new: Vec<Descriptor>) -> Result<(), TransferError> {
        let lock = self.dir.lock()?;
        let index = write_index(merge_index(new, existing_entries(&self.dir)?), &self.display_name())?;
        // Blobs are named durably before the index that refers to them.
        self.blobs.sync()?;
        let [index_temporary, layout_temporary] = TEMPORARY_NAMES;
        self.dir.replace_file("oci-layout", layout_temporary, LAYOUT_FILE_CONTENT)?;
        self.dir.replace_file("index.json", index_temporary, index.bytes())?;
        drop(lock);
        Ok(())
    }

    fn write_blob_file(
        &self,
        digest: &Digest,
        write_to: &mut dyn FnMut(&mut File, &Path) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let mut file = self.blobs.start_file()?;
        write_to(file.file(), &self.blobs.display_path_of(&digest.hex()))?;
        Ok(file.commit(&digest.hex())?)
    }
}

/// Returns the existing entries in `index.json` of the layout in `dir`.
fn existing_entries(dir: &OutputDir) -> Result<Vec<Descriptor>, TransferError> {
    let place = || dir.display_path().display().to_string();
    if let Some(file) = dir.open_file("index.json")? {
        let mut bytes = Vec::new();
        // One byte more shows that it is too long.
        let read = file.take(LARGEST_DOCUMENT as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| TransferError::Read { place: format!("index.json of {}", place()), source })?;
        let index = Document::<Index>::read(bytes);
        let index =
            index.map_err(|source| TransferError::Document { place: place(), file: "index.json".to_owned(), source });
        return Ok(index?.value().manifests.clone());
    }
    // These files exist before the first image is listed, or after an interrupted copy.
    let own = ["blobs", "oci-layout", "index.json"].into_iter().chain(TEMPORARY_NAMES);
    let own: Vec<&[u8]> = own.map(str::as_bytes).collect();
    match dir.names()?.iter().all(|name| own.contains(&name.as_slice())) {
        true => Ok(Vec::new()),
        false => Err(TransferError::NotALayout(dir.display_path().to_owned())),
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
    let names = |entry: &Descriptor| {
        let named = |key: &str| entry.annotations.get(key).cloned();
        (named(REF_NAME_ANNOTATION), named(IMAGE_NAME_ANNOTATION))
    };
    // Two images of one tag are two images if both say their full names.
    let is_same = |entry: &Descriptor, new: &Descriptor| match (names(entry), names(new)) {
        ((_, Some(old)), (_, Some(new))) => old == new,
        ((Some(old), _), (Some(new), _)) => old == new,
        _ => entry == new,
    };
    let kept = old.into_iter().filter(|entry| !new.iter().any(|new| is_same(entry, new)));
    // Other tools take the first image of a tag: it is the new one.
    let has_tag_of_new = |entry: &Descriptor| {
        let tag = names(entry).0;
        tag.is_some() && new.iter().any(|new| names(new).0 == tag)
    };
    let (hidden, kept): (Vec<_>, Vec<_>) = kept.partition(has_tag_of_new);
    Index::new(kept.into_iter().chain(new).chain(hidden).collect())
}

/// Returns the index entries of a manifest that refers to an image.
pub(super) fn referrer_entries(referrer: &Descriptor) -> Vec<Descriptor> {
    let name = attachment_tag(referrer).map(|tag| LayoutName { text: tag.to_owned(), full: None });
    name_entries(referrer, name.as_slice())
}

/// Returns the `index.json` of the layout at `place`, unless it would be one that is not read.
pub(super) fn write_index(index: Index, place: &str) -> Result<Document<Index>, TransferError> {
    check_document_count(index.manifests.len(), place, "index.json")?;
    Ok(Document::write(index).map_err(StoreError::from)?)
}

impl ImageSink for LayoutSink {
    fn display_name(&self) -> String {
        self.dir.display_path().display().to_string()
    }

    fn parallel_blobs(&self) -> usize {
        PARALLEL_BLOBS
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        // A link of that name is replaced by the blob.
        let Ok(Some(mut file)) = self.blobs.open_file(&blob.digest.hex()) else { return Ok(false) };
        if !file.metadata().is_ok_and(|meta| meta.len() == blob.size) {
            return Ok(false);
        }
        let mut hashing = dram_image::HashingWriter::new(io::sink());
        let read = io::copy(&mut file, &mut hashing);
        Ok(read.is_ok() && hashing.finish().finish() == blob.digest)
    }

    fn put_blob(&self, blob: &Descriptor, incoming: &IncomingBlob<'_>) -> Result<(), TransferError> {
        self.write_blob_file(&blob.digest, &mut |file, place| incoming.write_to(file, place))
    }

    fn put_document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.write_blob_file(&document.digest, &mut |file, place| {
            let written = io::Write::write_all(file, bytes);
            written.map_err(|source| TransferError::Write { place: place.to_owned(), source })
        })
    }

    fn put_image(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.put_document(root, bytes)?;
        self.add_to_index(name_entries(root, &self.names))
    }

    fn put_referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.put_document(document, bytes)?;
        self.add_to_index(referrer_entries(document))
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
