//! Writes image archives: a tar that is an OCI layout, optionally one that `docker load` reads too.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dram_image::tar::{Entry, EntryKind, TarWriter};
use dram_image::{Descriptor, Digest, Document, Manifest, MediaType, TreePath};
use serde::Serialize;

use crate::transfer::layout::{LAYOUT, Name, blob_path, named, table};
use crate::transfer::{Incoming, Sink, TransferError};

/// The format of an image archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// An OCI layout.
    Oci,
    /// An OCI layout with the `manifest.json` that `docker load` reads.
    Docker,
}

/// An entry of the `manifest.json` that `docker load` reads.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes an image archive. The same images in the same order give the same bytes.
pub struct ArchiveSink<'a> {
    archive: Archive,
    place: PathBuf,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    tar: TarWriter<&'a mut (dyn Write + Send)>,
    written: BTreeSet<Digest>,
    /// The names of the next image.
    names: Vec<Name>,
    listed: Vec<Descriptor>,
    docker: Vec<DockerEntry>,
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
        archive: Archive,
        out: &'a mut (dyn Write + Send),
        shown: &Path,
    ) -> Result<ArchiveSink<'a>, TransferError> {
        let state = State {
            tar: TarWriter::new(out),
            written: BTreeSet::new(),
            names: Vec::new(),
            listed: Vec::new(),
            docker: Vec::new(),
        };
        let sink = ArchiveSink { archive, place: shown.to_owned(), state: Mutex::new(state) };
        for dir in ["blobs", "blobs/sha256"] {
            sink.put(&mut sink.state(), dir, EntryKind::Dir, &mut io::empty())?;
        }
        Ok(sink)
    }

    /// Excludes these blobs, because the reader of the archive has them.
    pub fn leave_out(&self, blobs: impl IntoIterator<Item = Digest>) {
        self.state().written.extend(blobs);
    }

    /// Sets the names of the next image.
    pub fn name(&self, names: Vec<Name>) {
        self.state().names = names;
    }

    /// Finishes the archive, after the last image.
    ///
    /// # Errors
    /// Returns an error if the stream cannot be written.
    pub fn end(self) -> Result<(), TransferError> {
        let mut state = self.state();
        let index = table(std::mem::take(&mut state.listed), Vec::new());
        self.bytes(&mut state, "index.json", Document::write(index).bytes())?;
        match self.archive {
            Archive::Oci => {}
            Archive::Docker => {
                let docker = serde_json::to_vec(&state.docker).expect("plain data becomes JSON");
                self.bytes(&mut state, "manifest.json", &docker)?;
            }
        }
        self.bytes(&mut state, "oci-layout", LAYOUT)?;
        drop(state);
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.tar.finish().map(drop).map_err(|source| TransferError::Write { place: self.place, source })
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(
        &self,
        state: &mut State<'_>,
        path: &str,
        kind: EntryKind,
        data: &mut dyn Read,
    ) -> Result<(), TransferError> {
        let path = TreePath::parse(path.as_bytes()).expect("names in a layout are plain");
        let mode = if kind == EntryKind::Dir { 0o755 } else { 0o644 };
        let entry = Entry { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        let put = state.tar.append(&entry, data);
        put.map_err(|source| TransferError::Write { place: self.place.clone(), source })
    }

    fn bytes(&self, state: &mut State<'_>, path: &str, mut bytes: &[u8]) -> Result<(), TransferError> {
        self.put(state, path, EntryKind::File { size: bytes.len() as u64 }, &mut bytes)
    }
}

impl Sink for ArchiveSink<'_> {
    fn shown(&self) -> String {
        self.place.display().to_string()
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        Ok(self.state().written.contains(&blob.digest))
    }

    fn blob(&self, blob: &Descriptor, incoming: &Incoming<'_>) -> Result<(), TransferError> {
        let mut state = self.state();
        let kind = EntryKind::File { size: blob.size };
        self.put(&mut state, &blob_path(&blob.digest), kind, &mut incoming.open()?)?;
        state.written.insert(blob.digest);
        Ok(())
    }

    fn document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let mut state = self.state();
        if state.written.insert(document.digest) {
            self.bytes(&mut state, &blob_path(&document.digest), bytes)?;
        }
        Ok(())
    }

    fn finish(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        if self.archive == Archive::Docker && MediaType::is_index(&root.media_type) {
            return Err(TransferError::Form { place: self.shown(), what: "images for several platforms" });
        }
        self.document(root, bytes)?;
        let mut state = self.state();
        let names = std::mem::take(&mut state.names);
        state.listed.extend(named(root, &names));
        if self.archive == Archive::Docker {
            let manifest = Document::<Manifest>::read(bytes.to_vec());
            let manifest = manifest.map_err(|source| TransferError::Document {
                place: self.shown(),
                file: root.digest.to_string(),
                source,
            })?;
            state.docker.push(docker_entry(manifest.value(), &names));
        }
        Ok(())
    }

    fn referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.document(document, bytes)?;
        self.state().listed.extend(named(document, &[]));
        Ok(())
    }
}

fn docker_entry(manifest: &Manifest, names: &[Name]) -> DockerEntry {
    DockerEntry {
        config: blob_path(&manifest.config.digest),
        // `docker load` only accepts names of images.
        repo_tags: names.iter().filter(|name| name.whole.is_some()).map(|name| name.text.clone()).collect(),
        layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
    }
}
