//! Images enter the store: from an OCI layout, an archive of one, or what `docker save` writes.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use dram_image::document::{Kind, LARGEST_DOCUMENT};
use dram_image::{
    Descriptor, Digest, Document, DocumentError, ImageConfig, Index, Manifest, MediaType, Reference, TreePath,
};
use dram_store::{Dir, Store, StoreError, Unpacked};
use serde::Deserialize;

use crate::Image;
use crate::packing::{Compress, compress};

/// An index in an index in an index …: nobody writes more than two.
const DEEPEST_INDEX: usize = 4;

/// Why an image could not be read in.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The source could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The source, or the file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The source is neither an archive nor a layout.
    #[error("{} is no image archive and no OCI layout", .0.display())]
    Foreign(PathBuf),
    /// A document of the source is damaged.
    #[error("{file} of {}", path.display())]
    Document {
        /// The source.
        path: PathBuf,
        /// The file in it.
        file: String,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// A blob is not what its descriptor says.
    #[error("the blob {digest} of {} is damaged: {why}", path.display())]
    Blob {
        /// The source.
        path: PathBuf,
        /// Which blob.
        digest: Digest,
        /// How it was noticed.
        why: String,
    },
    /// The source has no image for this machine.
    #[error("{} has no image for linux/{architecture}", path.display())]
    NoImage {
        /// The source.
        path: PathBuf,
        /// The architecture asked for.
        architecture: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image that was read in. It has no name yet.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The pointer to its manifest.
    pub manifest: Descriptor,
    /// The name the source gives it, as it stands there.
    pub name: Option<String>,
}

/// Reads every image for `architecture` (a Go name) from the archive or layout at `path`; every blob is verified.
///
/// # Errors
/// See [`LoadError`].
pub fn load(store: &Store, path: &Path, architecture: &str) -> Result<Vec<Loaded>, LoadError> {
    let fail = |source| LoadError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(fail)?.is_dir() {
        return Loading { store, path, dir: Dir::open(path)?, architecture }.all();
    }
    let archive = File::open(path).map_err(fail)?;
    let into = store.work().fresh()?;
    if !store.layers().unpack_archive(archive, &into, &path.display().to_string())? {
        return Err(LoadError::Foreign(path.to_owned()));
    }
    let loaded = Loading { store, path, dir: Dir::open(&into)?, architecture }.all();
    store.work().discard(&into);
    loaded
}

struct Loading<'a> {
    store: &'a Store,
    path: &'a Path,
    dir: Dir,
    architecture: &'a str,
}

/// One line of `docker save`'s `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

impl Loading<'_> {
    fn all(&self) -> Result<Vec<Loaded>, LoadError> {
        if self.small("oci-layout")?.is_some() {
            return self.layout();
        }
        match self.small("manifest.json")? {
            Some(bytes) => self.docker(&bytes),
            None => Err(LoadError::Foreign(self.path.to_owned())),
        }
    }

    fn document(&self, file: &str, source: DocumentError) -> LoadError {
        LoadError::Document { path: self.path.to_owned(), file: file.to_owned(), source }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, file: &'static str, bytes: &[u8]) -> Result<T, LoadError> {
        serde_json::from_slice(bytes)
            .map_err(|source| self.document(file, DocumentError::Json { what: "the document", source }))
    }

    /// The bytes of a small file, or `None` when there is none.
    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let path = TreePath::parse(name.as_bytes()).map_err(StoreError::from)?;
        let file = match self.dir.open_file(&path) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        let read = file.take(LARGEST_DOCUMENT as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| LoadError::Read { path: self.dir.shown().join(name), source })?;
        if bytes.len() > LARGEST_DOCUMENT {
            return Err(self.document(name, DocumentError::Large { what: "the document", length: bytes.len() }));
        }
        Ok(Some(bytes))
    }

    fn layout(&self) -> Result<Vec<Loaded>, LoadError> {
        let version: LayoutFile = self.json("oci-layout", &self.small("oci-layout")?.unwrap_or_default())?;
        if !version.image_layout_version.starts_with("1.") {
            let why = format!("imageLayoutVersion is `{}`", version.image_layout_version.escape_debug());
            return Err(self.document("oci-layout", DocumentError::Wrong { what: "the layout", why }));
        }
        let bytes = self.small("index.json")?.ok_or_else(|| LoadError::Foreign(self.path.to_owned()))?;
        let index = Document::<Index>::read(bytes).map_err(|source| self.document("index.json", source))?;
        let mut loaded = Vec::new();
        for entry in &index.value().manifests {
            let Some(manifest) = self.for_this_machine(entry.clone())? else { continue };
            self.image(&manifest)?;
            let named = |key: &str| entry.annotations.get(key).cloned();
            let name = named("io.containerd.image.name").or_else(|| named("org.opencontainers.image.ref.name"));
            let manifest = Descriptor::new(&manifest.media_type, manifest.digest, manifest.size);
            loaded.push(Loaded { manifest, name });
        }
        if loaded.is_empty() {
            let (path, architecture) = (self.path.to_owned(), self.architecture.to_owned());
            return Err(LoadError::NoImage { path, architecture });
        }
        Ok(loaded)
    }

    /// Follows indexes down to the manifest for this machine.
    fn for_this_machine(&self, mut entry: Descriptor) -> Result<Option<Descriptor>, LoadError> {
        for _ in 0..DEEPEST_INDEX {
            if MediaType::is_manifest(&entry.media_type) {
                return Ok(Some(entry));
            }
            if !MediaType::is_index(&entry.media_type) {
                return Ok(None);
            }
            let index: Document<Index> = self.read(&entry)?;
            let fits = |one: &&Descriptor| {
                let platform = one.platform.as_ref();
                platform.is_some_and(|at| at.os == "linux" && at.architecture == self.architecture)
            };
            match index.value().manifests.iter().find(fits) {
                Some(one) => entry = one.clone(),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Takes the blob into the store, unless it is there and whole. Its length and digest are checked on the way.
    /// Returns whether it is new there.
    fn blob(&self, descriptor: &Descriptor) -> Result<bool, LoadError> {
        if self.store.blobs().is_whole(descriptor) {
            return Ok(false);
        }
        let digest = descriptor.digest;
        let damaged = |why: String| LoadError::Blob { path: self.path.to_owned(), digest, why };
        let name = TreePath::parse(format!("blobs/sha256/{}", digest.hex()).as_bytes()).map_err(StoreError::from)?;
        let file = self.dir.open_file(&name).map_err(|error| damaged(error.to_string()))?;
        let length = file.metadata().map_err(|source| self.read_error(&name, source))?.len();
        if length != descriptor.size {
            return Err(damaged(format!("it has {length} bytes, expected {}", descriptor.size)));
        }
        let mut writer = self.store.blobs().writer()?;
        let copied = io::copy(&mut file.take(descriptor.size), &mut writer);
        copied.and_then(|_| writer.flush()).map_err(|source| self.read_error(&name, source))?;
        let (found, _) = writer.commit()?;
        if found == digest { Ok(true) } else { Err(damaged("its content is not what its name says".to_owned())) }
    }

    fn read_error(&self, name: &TreePath, source: io::Error) -> LoadError {
        LoadError::Read { path: self.path.join(name.as_path()), source }
    }

    fn read<T: Kind>(&self, descriptor: &Descriptor) -> Result<Document<T>, LoadError> {
        self.blob(descriptor)?;
        Ok(self.store.blobs().document(descriptor)?)
    }

    /// Takes an image's documents and layers into the store and reads them back.
    fn image(&self, descriptor: &Descriptor) -> Result<Image, LoadError> {
        let manifest: Document<Manifest> = self.read(descriptor)?;
        self.blob(&manifest.value().config)?;
        let layers = &manifest.value().layers;
        let are_new = layers.iter().map(|layer| self.blob(layer)).collect::<Result<Vec<_>, _>>()?;
        let image = Image::open(self.store, descriptor)?;
        for ((diff_id, blob), is_new) in image.layers().zip(are_new) {
            // Read through once: `FROM` this image must not be the first to find that a layer is none.
            let layers = self.store.layers();
            if is_new {
                let checked = layers.check(blob, diff_id);
                if checked.is_err() {
                    // Else the next attempt would find it here and take it for checked.
                    self.store.blobs().remove(&blob.digest);
                }
                layers.remember_size(diff_id, checked?)?;
            }
        }
        Ok(image)
    }

    fn docker(&self, bytes: &[u8]) -> Result<Vec<Loaded>, LoadError> {
        let entries: Vec<DockerEntry> = self.json("manifest.json", bytes)?;
        let mut loaded = Vec::new();
        for entry in entries {
            let manifest = self.docker_image(&entry)?;
            let names = entry.repo_tags.unwrap_or_default();
            if names.is_empty() {
                loaded.push(Loaded { manifest: manifest.clone(), name: None });
            }
            loaded.extend(names.into_iter().map(|name| Loaded { manifest: manifest.clone(), name: Some(name) }));
        }
        Ok(loaded)
    }

    fn docker_image(&self, entry: &DockerEntry) -> Result<Descriptor, LoadError> {
        let missing = |file: &str| {
            let why = format!("it names `{}`, which is not there", file.escape_debug());
            self.document("manifest.json", DocumentError::Wrong { what: "the list of images", why })
        };
        let config = self.small(&entry.config)?.ok_or_else(|| missing(&entry.config))?;
        let config = Document::<ImageConfig>::read(config).map_err(|source| self.document(&entry.config, source))?;
        let diff_ids = &config.value().rootfs.diff_ids;
        if diff_ids.len() != entry.layers.len() {
            let why = format!("it has {} layers, and the configuration {}", entry.layers.len(), diff_ids.len());
            return Err(self.document("manifest.json", DocumentError::Wrong { what: "the list of images", why }));
        }
        let mut layers = Vec::new();
        for (layer, expected) in entry.layers.iter().zip(diff_ids) {
            let path = TreePath::parse(layer.as_bytes()).map_err(StoreError::from)?;
            let file = self.dir.open_file(&path).map_err(|_| missing(layer))?;
            let packed = compress(self.store, Compress::default(), |out| {
                let copied = Unpacked::new(Box::new(file)).and_then(|mut plain| io::copy(&mut plain, out));
                copied.map(drop).map_err(|source| StoreError::Io { verb: "read", path: layer.into(), source })
            })?;
            if packed.diff_id != *expected {
                let (blob, found, expected) = (packed.blob.digest, packed.diff_id, *expected);
                return Err(StoreError::WrongDiffId { blob, found, expected }.into());
            }
            layers.push(packed.blob);
        }
        let config = self.store.blobs().put_document(&config, MediaType::CONFIG)?;
        let manifest = Document::write(Manifest::new(config, layers));
        Ok(self.store.blobs().put_document(&manifest, MediaType::MANIFEST)?)
    }
}

impl Loaded {
    /// The source's name as a reference; `None` when it has none, or one that is a bare tag.
    pub fn reference(&self) -> Option<Reference> {
        let name = self.name.as_deref().filter(|name| name.contains([':', '/']))?;
        name.parse().ok()
    }
}
