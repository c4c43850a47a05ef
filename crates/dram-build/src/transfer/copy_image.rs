//! Copies images from a source to a sink.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;

use dram_image::document::LARGEST_DOCUMENT;
use dram_image::{Descriptor, Digest, Document, DocumentError, ImageConfig, Index, Manifest, MediaType};
use dram_store::MAX_INDEX_DEPTH;

use crate::CancelToken;
use crate::parallel::for_each_parallel;
use crate::transfer::{ImageSelection, ImageSink, ImageSource, IncomingBlob, TransferError, select_root};

/// The largest number of documents in an index or archive; nobody could use more.
const MAX_DOCUMENTS: usize = 10_000;

/// The options of a copy.
pub struct CopyOptions<'a> {
    /// The images of an index that are copied.
    pub selection: ImageSelection,
    /// True if referrers of the image are copied too.
    pub referrers: bool,
    /// Cancels the copy.
    pub cancel: CancelToken,
    /// Called with the progress, by several threads.
    pub tell: &'a (dyn Fn(TransferProgress) + Sync),
}

impl fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CopyOptions").field("selection", &self.selection).finish_non_exhaustive()
    }
}

/// The progress of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferProgress {
    /// The blobs that belong to the image, each once.
    Planned(Vec<Descriptor>),
    /// The sink has this blob already.
    AlreadyPresent(Digest),
    /// The sink mounted this blob from another repository of the same registry.
    Mounted(Digest),
    /// This blob is read from its beginning.
    Started(Descriptor),
    /// This number of further bytes of the blob was read.
    Bytes(Digest, u64),
    /// This blob was copied.
    Done(Digest),
}

/// Copies the image at `root`. Returns the descriptor of the copied document: `root`, or the manifest below it that was
/// selected.
///
/// # Errors
/// Returns an error if a document or blob cannot be read, does not match its descriptor, or cannot be written. In that
/// case the sink does not get a new name.
pub fn copy_image(
    root: &Descriptor,
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    how: &CopyOptions<'_>,
) -> Result<Descriptor, TransferError> {
    let root = select_root(root, source, &how.selection)?;
    let bytes = read_document(source, &root)?;
    // What the sink cannot use is refused before its layers are copied.
    if sink.takes_images_only()
        && MediaType::is_manifest(&root.media_type)
        && let Some(obstacle) = Document::<Manifest>::read(bytes.clone()).ok().and_then(|one| one.value().obstacle())
    {
        return Err(TransferError::NotAnImage { place: source.display_name(), obstacle });
    }
    let mut found = ImageContents::default();
    let referrers = if how.referrers { collect_referrers(&root, &bytes, source)? } else { Vec::new() };
    if !sink.has_image(&root)? {
        found.add_children(&root, &bytes, source, 0)?;
    }
    let mut more = Vec::new();
    for referrer in referrers {
        let bytes = read_document(source, &referrer)?;
        found.add_children(&referrer, &bytes, source, 0)?;
        more.push((referrer, bytes));
    }
    (how.tell)(TransferProgress::Planned(found.layers.iter().chain(&found.configs).cloned().collect()));
    found.copy_blobs(source, sink, how, false)?;
    match found.copy_documents(&root, &bytes, sink) {
        // The sink has lost blobs since it was asked, or its answer was wrong.
        Err(error) if error.is_blob_missing() => {
            found.add_children(&root, &bytes, source, 0)?;
            found.copy_blobs(source, sink, how, true)?;
            found.copy_documents(&root, &bytes, sink)
        }
        done => done,
    }?;
    for (document, bytes) in &more {
        sink.put_referrer(document, bytes)?;
    }
    Ok(root)
}

/// Returns the referrers of the image and of the images of an index, and their referrers.
fn collect_referrers(
    root: &Descriptor,
    bytes: &[u8],
    source: &dyn ImageSource,
) -> Result<Vec<Descriptor>, TransferError> {
    let mut all: Vec<Descriptor> = Vec::new();
    let mut next = vec![root.clone()];
    if MediaType::is_index(&root.media_type)
        && let Ok(index) = Document::<Index>::read(bytes.to_vec())
    {
        next.extend(index.value().manifests.iter().filter(|one| MediaType::is_manifest(&one.media_type)).cloned());
    }
    while let Some(one) = next.pop() {
        for referrer in source.referrers(&one)? {
            if referrer.digest != root.digest && !all.iter().any(|known| known.digest == referrer.digest) {
                all.push(referrer.clone());
                next.push(referrer);
            }
            check_document_count(all.len(), &source.display_name(), "an index")?;
        }
    }
    Ok(all)
}

/// Returns an error if there are too many images or names in `file` of `place`.
pub(super) fn check_document_count(count: usize, place: &str, file: &str) -> Result<(), TransferError> {
    if count <= MAX_DOCUMENTS {
        return Ok(());
    }
    let why = format!("it has more than {MAX_DOCUMENTS} images");
    let error = DocumentError::Invalid { what: "the list of images", why };
    Err(TransferError::Document { place: place.to_owned(), file: file.to_owned(), source: error })
}

/// Returns the layers of the selected image, lowest first: diff ID and blob.
///
/// # Errors
/// Returns an error if a document of the image cannot be read.
pub fn image_layers(
    root: &Descriptor,
    source: &dyn ImageSource,
    which: &ImageSelection,
) -> Result<Vec<(Digest, Descriptor)>, TransferError> {
    let root = select_root(root, source, which)?;
    let wrong =
        |error| TransferError::Document { place: source.display_name(), file: root.digest.to_string(), source: error };
    let manifest = Document::<Manifest>::read(read_document(source, &root)?).map_err(wrong)?;
    let config = read_config(source, &manifest.value().config)?;
    let config = Document::<ImageConfig>::read(config).map_err(wrong)?;
    let diff_ids = config.value().rootfs.diff_ids.iter().copied();
    Ok(diff_ids.zip(manifest.value().layers.iter().cloned()).collect())
}

/// Reads a manifest or an index and verifies its size and digest.
pub(crate) fn read_document(source: &dyn ImageSource, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
    read_verified(source, document, &|| source.read_document(document))
}

/// Reads the config of an image, which is a blob, and verifies its size and digest.
pub(crate) fn read_config(source: &dyn ImageSource, config: &Descriptor) -> Result<Vec<u8>, TransferError> {
    read_verified(source, config, &|| {
        let mut bytes = Vec::new();
        let read = source.open(config)?.take(config.size.saturating_add(1)).read_to_end(&mut bytes);
        let place = || format!("the blob {} of {}", config.digest, source.display_name());
        read.map_err(|error| TransferError::Read { place: place(), source: error })?;
        Ok(bytes)
    })
}

fn read_verified(
    source: &dyn ImageSource,
    document: &Descriptor,
    read: &dyn Fn() -> Result<Vec<u8>, TransferError>,
) -> Result<Vec<u8>, TransferError> {
    let damaged = |why: String| source.damaged_blob(document.digest, why);
    if document.size > LARGEST_DOCUMENT as u64 {
        return Err(damaged(format!("{} bytes are more than any document has", document.size)));
    }
    let bytes = read()?;
    if bytes.len() as u64 != document.size {
        return Err(damaged(format!("it has {} bytes, expected {}", bytes.len(), document.size)));
    }
    match Digest::of(&bytes) == document.digest {
        true => Ok(bytes),
        false => Err(damaged("its content is not what its name says".to_owned())),
    }
}

/// The documents and blobs of an image, each once. Every document comes after those it refers to.
#[derive(Default)]
struct ImageContents {
    seen: BTreeSet<Digest>,
    layers: Vec<Descriptor>,
    configs: Vec<Descriptor>,
    documents: Vec<(Descriptor, Vec<u8>)>,
}

impl ImageContents {
    /// Copies the blobs; with `all` also those that the sink reports to have.
    fn copy_blobs(
        &self,
        source: &dyn ImageSource,
        sink: &dyn ImageSink,
        how: &CopyOptions<'_>,
        all: bool,
    ) -> Result<(), TransferError> {
        // Layers come first: some registries take an existing config as proof that its layers exist.
        for blobs in [&self.layers, &self.configs] {
            for_each_parallel(blobs, sink.parallel_blobs(), &|one| copy_blob(one, source, sink, how, all))?;
        }
        Ok(())
    }

    /// Copies the documents, the image's own last.
    fn copy_documents(&self, root: &Descriptor, bytes: &[u8], sink: &dyn ImageSink) -> Result<(), TransferError> {
        self.documents.iter().try_for_each(|(document, bytes)| sink.put_document(document, bytes))?;
        sink.put_image(root, bytes)
    }

    /// Adds everything that `document` refers to, but not the document itself.
    fn add_children(
        &mut self,
        document: &Descriptor,
        bytes: &[u8],
        source: &dyn ImageSource,
        depth: usize,
    ) -> Result<(), TransferError> {
        let wrong = |error| TransferError::Document {
            place: source.display_name(),
            file: document.digest.to_string(),
            source: error,
        };
        if MediaType::is_index(&document.media_type) {
            if depth >= MAX_INDEX_DEPTH {
                let why = "it is an index in an index in an index …".to_owned();
                return Err(wrong(DocumentError::Invalid { what: "the index", why }));
            }
            let index = Document::<Index>::read(bytes.to_vec()).map_err(wrong)?;
            return index.value().manifests.iter().try_for_each(|one| self.add_entry(one, source, depth + 1));
        }
        let manifest = Document::<Manifest>::read(bytes.to_vec()).map_err(wrong)?;
        for layer in &manifest.value().layers {
            self.layers.extend(self.seen.insert(layer.digest).then(|| layer.clone()));
        }
        let config = &manifest.value().config;
        self.configs.extend(self.seen.insert(config.digest).then(|| config.clone()));
        Ok(())
    }

    fn add_entry(&mut self, entry: &Descriptor, source: &dyn ImageSource, depth: usize) -> Result<(), TransferError> {
        if !self.seen.insert(entry.digest) {
            return Ok(());
        }
        check_document_count(self.documents.len(), &source.display_name(), "an index")?;
        if !MediaType::is_manifest(&entry.media_type) && !MediaType::is_index(&entry.media_type) {
            self.layers.push(entry.clone());
            return Ok(());
        }
        let bytes = read_document(source, entry)?;
        self.add_children(entry, &bytes, source, depth)?;
        self.documents.push((entry.clone(), bytes));
        Ok(())
    }
}

/// The number of blobs that are copied in parallel, if the sink supports it.
pub(super) const PARALLEL_BLOBS: usize = 4;

fn copy_blob(
    blob: &Descriptor,
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    how: &CopyOptions<'_>,
    again: bool,
) -> Result<(), TransferError> {
    if how.cancel.is_cancelled() {
        return Err(TransferError::Cancelled);
    }
    let motion = if again { send_blob(blob, source, sink, how)? } else { send_or_mount_blob(blob, source, sink, how)? };
    let seen = source.known_repositories(blob);
    seen.iter().for_each(|at| sink.record_repository(blob, at));
    if let Some(at) = sink.repository() {
        source.record_repository(blob, &at);
    }
    (how.tell)(motion);
    Ok(())
}

/// Copies one blob, unless the sink has it or can mount it from another repository.
pub(super) fn send_or_mount_blob(
    blob: &Descriptor,
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    how: &CopyOptions<'_>,
) -> Result<TransferProgress, TransferError> {
    if sink.has(blob)? {
        return Ok(TransferProgress::AlreadyPresent(blob.digest));
    }
    for repository in source.known_repositories(blob) {
        if sink.mount_blob(blob, &repository)? {
            return Ok(TransferProgress::Mounted(blob.digest));
        }
    }
    send_blob(blob, source, sink, how)
}

/// Copies one blob, even if the sink has it.
pub(crate) fn send_blob(
    blob: &Descriptor,
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    how: &CopyOptions<'_>,
) -> Result<TransferProgress, TransferError> {
    let send = || {
        let incoming = IncomingBlob::new(source, blob, source.verifies_digest() || sink.verifies_digest(), how);
        sink.put_blob(blob, &incoming).map_err(|error| incoming.take_failure().unwrap_or(error))
    };
    match send() {
        // A sink that verifies digests has kept nothing of the wrong blob, so it can be sent again.
        Err(TransferError::Blob { .. }) if sink.verifies_digest() && source.report_corrupt(blob) => send()?,
        done => done?,
    }
    Ok(TransferProgress::Done(blob.digest))
}
