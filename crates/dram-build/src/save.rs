//! Images leave the store: as an archive that OCI tools and Docker both read, or as a layout directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dram_image::tar::{Entry, EntryKind, TarWriter};
use dram_image::{Descriptor, Document, DocumentError, Index, Reference, TreePath};
use dram_store::{Store, StoreError};
use serde::Serialize;

use crate::Image;

const NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Why an image could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The target could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The target is a directory with something else in it.
    #[error("{} holds something that is no OCI layout", .0.display())]
    Foreign(PathBuf),
    /// The target's own index is damaged.
    #[error("cannot add to the layout {}", path.display())]
    Index {
        /// The target.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One line of the `manifest.json` that `docker load` reads.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// What an archive holds beside the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// Nothing.
    Oci,
    /// The `manifest.json` that `docker load` looks for.
    Docker,
}

/// Writes `images`, each under its names, as one tar that is an OCI layout. The same images give the same bytes.
///
/// # Errors
/// When a blob is missing or damaged, or `out` (called `shown` in errors) refuses.
pub fn save_archive(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    archive: Archive,
    out: &mut dyn Write,
    shown: &Path,
) -> Result<(), SaveError> {
    let mut tar = Layout { tar: TarWriter::new(out), shown };
    tar.dir("blobs")?;
    tar.dir("blobs/sha256")?;
    for blob in blobs(images) {
        let mut data = store.blobs().open(&blob)?;
        tar.file(&blob_path(&blob), blob.size, &mut data).map_err(|error| blame(store, &blob, error))?;
    }
    let index = Document::write(index(images, Vec::new()));
    tar.bytes("index.json", index.bytes())?;
    match archive {
        Archive::Oci => {}
        Archive::Docker => {
            let docker: Vec<_> = images.iter().map(docker_entry).collect();
            tar.bytes("manifest.json", &serde_json::to_vec(&docker).expect("plain data becomes JSON"))?;
        }
    }
    tar.bytes("oci-layout", LAYOUT)?;
    tar.tar.finish().map(drop).map_err(|source| SaveError::Write { path: shown.to_owned(), source })
}

/// Writes `images` into the OCI layout at the directory `path`, made if it is missing; other names in it stay.
///
/// # Errors
/// When a blob is missing or damaged, the directory holds something else, or it cannot be written.
pub fn save_layout(store: &Store, images: &[(Image, Vec<Reference>)], path: &Path) -> Result<(), SaveError> {
    let fail = |at: &Path| {
        let path = at.to_owned();
        move |source| SaveError::Write { path, source }
    };
    fs::create_dir_all(path).map_err(fail(path))?;
    let old = old_entries(path)?;
    let blob_dir = path.join("blobs/sha256");
    fs::create_dir_all(&blob_dir).map_err(fail(&blob_dir))?;
    for blob in blobs(images) {
        let place = path.join(blob_path(&blob));
        if fs::metadata(&place).is_ok_and(|meta| meta.len() == blob.size) {
            continue;
        }
        let new = blob_dir.join(format!(".{}.new", blob.digest.hex()));
        let mut data = store.blobs().open(&blob)?;
        let written = fs::File::create(&new).and_then(|mut file| {
            io::copy(&mut data, &mut file)?;
            file.sync_all()
        });
        let placed = written.and_then(|()| fs::rename(&new, &place)).map_err(fail(&place));
        placed.map_err(|error| {
            let _ = fs::remove_file(&new);
            blame(store, &blob, error)
        })?;
    }
    write_new(&path.join("oci-layout"), LAYOUT)?;
    write_new(&path.join("index.json"), Document::write(index(images, old)).bytes())
}

/// A copy fails on either side: when the blob is the damaged one, the error says so.
fn blame(store: &Store, blob: &Descriptor, error: SaveError) -> SaveError {
    if store.blobs().is_whole(blob) {
        return error;
    }
    let why = "its content is not what its name says".to_owned();
    SaveError::Store(StoreError::DamagedBlob { digest: blob.digest, why })
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
    let new = path.with_extension("new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.map_err(|source| SaveError::Write { path: path.to_owned(), source })
}

/// What a layout at `path` names already.
fn old_entries(path: &Path) -> Result<Vec<Descriptor>, SaveError> {
    match fs::read(path.join("index.json")) {
        Ok(bytes) => match Document::<Index>::read(bytes) {
            Ok(index) => Ok(index.value().manifests.clone()),
            Err(source) => Err(SaveError::Index { path: path.to_owned(), source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut entries =
                fs::read_dir(path).map_err(|source| SaveError::Write { path: path.to_owned(), source })?;
            if entries.next().is_some() { Err(SaveError::Foreign(path.to_owned())) } else { Ok(Vec::new()) }
        }
        Err(source) => Err(SaveError::Write { path: path.to_owned(), source }),
    }
}

/// Every blob of the images, once.
fn blobs(images: &[(Image, Vec<Reference>)]) -> Vec<Descriptor> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (image, _) in images {
        let manifest = image.manifest.value();
        for blob in manifest.layers.iter().chain([&manifest.config, &image.descriptor]) {
            if seen.insert(blob.digest) {
                all.push(blob.clone());
            }
        }
    }
    all
}

fn blob_path(blob: &Descriptor) -> String {
    format!("blobs/sha256/{}", blob.digest.hex())
}

fn index(images: &[(Image, Vec<Reference>)], old: Vec<Descriptor>) -> Index {
    let mut entries = Vec::new();
    for (image, names) in images {
        let mut own = image.descriptor.annotations.clone();
        own.retain(|key, _| key != NAME && key != CONTAINERD_NAME);
        let entry = |name: &[(String, String)]| {
            let mut annotations = own.clone();
            annotations.extend(name.iter().cloned());
            Descriptor { annotations, platform: None, ..image.descriptor.clone() }
        };
        for name in names {
            entries.push(entry(&[(NAME.to_owned(), name.short()), (CONTAINERD_NAME.to_owned(), name.full())]));
        }
        if names.is_empty() {
            entries.push(entry(&[]));
        }
    }
    let replaced = |entry: &Descriptor| {
        entry.annotations.contains_key(NAME)
            && entries.iter().any(|new| new.annotations.get(NAME) == entry.annotations.get(NAME))
    };
    let mut all: Vec<_> = old.into_iter().filter(|entry| !replaced(entry)).collect();
    all.extend(entries);
    Index::new(all)
}

fn docker_entry((image, names): &(Image, Vec<Reference>)) -> DockerEntry {
    let manifest = image.manifest.value();
    DockerEntry {
        config: blob_path(&manifest.config),
        repo_tags: names.iter().map(Reference::short).collect(),
        layers: manifest.layers.iter().map(blob_path).collect(),
    }
}

struct Layout<'a> {
    tar: TarWriter<&'a mut dyn Write>,
    shown: &'a Path,
}

impl Layout<'_> {
    fn put(&mut self, path: &str, kind: EntryKind, mode: u32, data: &mut dyn io::Read) -> Result<(), SaveError> {
        let path = TreePath::parse(path.as_bytes()).expect("names in a layout are plain");
        let entry = Entry { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        let put = self.tar.append(&entry, data);
        put.map_err(|source| SaveError::Write { path: self.shown.to_owned(), source })
    }

    fn dir(&mut self, path: &str) -> Result<(), SaveError> {
        self.put(path, EntryKind::Dir, 0o755, &mut io::empty())
    }

    fn file(&mut self, path: &str, size: u64, data: &mut dyn io::Read) -> Result<(), SaveError> {
        self.put(path, EntryKind::File { size }, 0o644, data)
    }

    fn bytes(&mut self, path: &str, mut bytes: &[u8]) -> Result<(), SaveError> {
        self.file(path, bytes.len() as u64, &mut bytes)
    }
}
