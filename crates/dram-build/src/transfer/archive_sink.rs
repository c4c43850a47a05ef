//! Writes image archives: a tar that is an OCI layout, optionally one that `docker load` reads too.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use dram_image::{Descriptor, Digest, Document, DocumentError, Manifest, MediaType, Reference, TreePath};
use serde::Serialize;

use crate::transfer::docker_archive::DOCKER_MANIFEST;
use crate::transfer::layout::{
    LAYOUT_FILE_CONTENT, LayoutName, blob_path, merge_index, name_entries, referrer_entries, write_index,
};
use crate::transfer::layout_files::check_file_size;
use crate::transfer::{ImageSink, IncomingBlob, TransferError};

/// The format of an image archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI layout.
    Oci,
    /// An OCI layout with the `manifest.json` that `docker load` reads.
    Docker,
}

/// An entry of the `manifest.json` that `docker load` reads.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifestEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes an image archive. The same images in the same order give the same bytes.
pub struct ArchiveSink<'a> {
    format: ArchiveFormat,
    place: PathBuf,
    state: Mutex<ArchiveState<'a>>,
}

struct ArchiveState<'a> {
    tar: TarWriter<&'a mut (dyn Write + Send)>,
    written: BTreeSet<Digest>,
    /// The names of the next image.
    names: Vec<LayoutName>,
    /// The image that Docker takes of the next index; the outer option says whether indexes are allowed.
    docker_image: Option<Option<Manifest>>,
    index_entries: Vec<Descriptor>,
    docker_entries: Vec<DockerManifestEntry>,
}

impl fmt::Debug for ArchiveSink<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ArchiveSink").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<'a> ArchiveSink<'a> {
    /// Starts an archive that is written to `out`, which errors call `shown`.
    ///
    /// # Errors
    /// Returns an error if `out` cannot be written.
    pub fn new(
        archive: ArchiveFormat,
        out: &'a mut (dyn Write + Send),
        shown: &Path,
    ) -> Result<ArchiveSink<'a>, TransferError> {
        let state = ArchiveState {
            tar: TarWriter::new(out),
            written: BTreeSet::new(),
            names: Vec::new(),
            docker_image: None,
            index_entries: Vec::new(),
            docker_entries: Vec::new(),
        };
        let sink = ArchiveSink { format: archive, place: shown.to_owned(), state: Mutex::new(state) };
        for dir in ["blobs", "blobs/sha256"] {
            sink.append_entry(&mut sink.state(), dir, TarEntryKind::Dir, &mut io::empty())?;
        }
        Ok(sink)
    }

    /// Excludes these blobs, because the reader of the archive has them.
    pub fn exclude_blobs(&self, blobs: impl IntoIterator<Item = Digest>) {
        self.state().written.extend(blobs);
    }

    /// Sets the names of the next image.
    pub fn set_names(&self, names: Vec<LayoutName>) {
        self.state().names = names;
    }

    /// Allows the next image to be an index, of which Docker takes the image with this manifest, if there is one.
    pub fn set_docker_image(&self, manifest: Option<Manifest>) {
        self.state().docker_image = Some(manifest);
    }

    /// Finishes the archive, after the last image.
    ///
    /// # Errors
    /// Returns an error if the stream cannot be written.
    pub fn finish_archive(self) -> Result<(), TransferError> {
        let mut state = self.state();
        let index = merge_index(std::mem::take(&mut state.index_entries), Vec::new());
        let index = write_index(index, &self.display_name())?;
        self.append_file(&mut state, "index.json", index.bytes())?;
        match self.format {
            ArchiveFormat::Oci => {}
            ArchiveFormat::Docker => {
                let docker = serde_json::to_vec(&state.docker_entries).expect("plain data becomes JSON");
                check_file_size("the list of images", docker.len())
                    .map_err(|source| self.document_error(DOCKER_MANIFEST, source))?;
                self.append_file(&mut state, DOCKER_MANIFEST, &docker)?;
            }
        }
        self.append_file(&mut state, "oci-layout", LAYOUT_FILE_CONTENT)?;
        drop(state);
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.tar.finish().map(drop).map_err(|source| TransferError::Write { place: self.place, source })
    }

    fn state(&self) -> MutexGuard<'_, ArchiveState<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_entry(
        &self,
        state: &mut ArchiveState<'_>,
        path: &str,
        kind: TarEntryKind,
        data: &mut dyn Read,
    ) -> Result<(), TransferError> {
        let path = TreePath::parse(path.as_bytes()).expect("names in a layout are plain");
        let mode = if kind == TarEntryKind::Dir { 0o755 } else { 0o644 };
        let entry = TarEntry { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        let put = state.tar.append(&entry, data);
        put.map_err(|source| TransferError::Write { place: self.place.clone(), source })
    }

    fn read_manifest(&self, root: &Descriptor, bytes: &[u8]) -> Result<Manifest, TransferError> {
        let manifest = Document::<Manifest>::read(bytes.to_vec());
        let manifest = manifest.map_err(|source| self.document_error(&root.digest.to_string(), source))?;
        Ok(manifest.value().clone())
    }

    fn document_error(&self, file: &str, source: DocumentError) -> TransferError {
        TransferError::Document { place: self.display_name(), file: file.to_owned(), source }
    }

    fn append_file(&self, state: &mut ArchiveState<'_>, path: &str, mut bytes: &[u8]) -> Result<(), TransferError> {
        self.append_entry(state, path, TarEntryKind::File { size: bytes.len() as u64 }, &mut bytes)
    }
}

impl ImageSink for ArchiveSink<'_> {
    fn display_name(&self) -> String {
        self.place.display().to_string()
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        Ok(self.state().written.contains(&blob.digest))
    }

    fn put_blob(&self, blob: &Descriptor, incoming: &IncomingBlob<'_>) -> Result<(), TransferError> {
        let mut state = self.state();
        let kind = TarEntryKind::File { size: blob.size };
        self.append_entry(&mut state, &blob_path(&blob.digest), kind, &mut incoming.open()?)?;
        state.written.insert(blob.digest);
        Ok(())
    }

    fn put_document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let mut state = self.state();
        if state.written.insert(document.digest) {
            self.append_file(&mut state, &blob_path(&document.digest), bytes)?;
        }
        Ok(())
    }

    fn put_image(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let docker_image = self.state().docker_image.take();
        let docker_image = match self.format {
            ArchiveFormat::Oci => None,
            ArchiveFormat::Docker if MediaType::is_index(&root.media_type) => docker_image.ok_or_else(|| {
                TransferError::UnsupportedContent { place: self.display_name(), what: "images for several platforms" }
            })?,
            ArchiveFormat::Docker => Some(self.read_manifest(root, bytes)?),
        };
        self.put_document(root, bytes)?;
        let mut state = self.state();
        let names = std::mem::take(&mut state.names);
        state.index_entries.extend(name_entries(root, &names));
        state.docker_entries.extend(docker_image.map(|manifest| docker_entry(&manifest, &names)));
        Ok(())
    }

    fn put_referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.put_document(document, bytes)?;
        self.state().index_entries.extend(referrer_entries(document));
        Ok(())
    }
}

fn docker_entry(manifest: &Manifest, names: &[LayoutName]) -> DockerManifestEntry {
    DockerManifestEntry {
        config: blob_path(&manifest.config.digest),
        // `docker load` only accepts names of images.
        repo_tags: names
            .iter()
            .filter_map(|name| Some(name.full.as_ref()?.parse::<Reference>().ok()?.short()))
            .collect(),
        layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
    }
}
