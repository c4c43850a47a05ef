//! Finds images in the store by the names and ids that users write.

use dram_build::Image;
use dram_build::transfer::{ImageSelection, StoreSource, TransferError, select_root};
use dram_dockerfile::suggest::nearest_name;
use dram_image::{Descriptor, Digest, ImagePlatform, Manifest, MediaType, Reference};
use dram_store::Store;

use crate::failure::Failure;

/// Parses `text` as a reference.
pub(crate) fn parse_reference(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error: dram_image::ReferenceError| Failure::usage(error.to_string()))
}

/// Returns the root that `text` names, a manifest or an index: by `NAME[:TAG]`, or by the digest of the root, of a
/// manifest or of a config, complete or at least its first 12 digits.
pub(crate) fn find_root(store: &Store, text: &str) -> Result<Descriptor, Failure> {
    match find_descriptor(store, text)? {
        Some(root) => Ok(root),
        None => Err(unknown_image(store, text)?),
    }
}

/// Returns the image for `platform` that `text` names, as [`find_root`] does. An image that is for one platform alone
/// is returned whatever its platform is.
pub(crate) fn find_image(store: &Store, text: &str, platform: &ImagePlatform) -> Result<Image, Failure> {
    let root = find_root(store, text)?;
    open_for_platform(store, text, &root, platform)
}

/// Opens the image for `platform` below `root`, which `text` names.
pub(crate) fn open_for_platform(
    store: &Store,
    text: &str,
    root: &Descriptor,
    platform: &ImagePlatform,
) -> Result<Image, Failure> {
    let selection = ImageSelection::Platform(platform.clone());
    let manifest = select_root(root, &StoreSource::new(store), &selection).map_err(|error| match error {
        TransferError::NoPlatform { platform, .. } => {
            TransferError::NoPlatform { place: format!("`{text}` in the store"), platform }
        }
        error @ (TransferError::Read { .. }
        | TransferError::Write { .. }
        | TransferError::NoImages(_)
        | TransferError::NotALayout(_)
        | TransferError::SkopeoDir(_)
        | TransferError::NotAnImage { .. }
        | TransferError::Document { .. }
        | TransferError::Blob { .. }
        | TransferError::UnsupportedContent { .. }
        | TransferError::Remote(_)
        | TransferError::Store(_)
        | TransferError::Cancelled) => error,
    })?;
    Ok(Image::open(store, &manifest)?)
}

/// Returns true if `text` could be a digest, or at least its first 12 digits.
pub(crate) fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (12..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the descriptor of the root that `text` names, if there is one.
pub(crate) fn find_descriptor(store: &Store, text: &str) -> Result<Option<Descriptor>, Failure> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if let Ok(reference) = text.parse::<Reference>()
        && let Some(found) = store.refs().get(&reference)?
    {
        return Ok(Some(found));
    }
    if !is_id(text) {
        return Ok(None);
    }
    let all = store.blobs().list()?;
    let mut fitting = all.iter().filter(|(digest, _)| digest.hex().starts_with(hex));
    let (Some(&(digest, size)), None) = (fitting.next(), fitting.next()) else { return Ok(None) };
    match store.document_descriptor(digest, size).filter(|root| is_readable(store, root)) {
        Some(root) => Ok(Some(root)),
        None => Ok(find_by_config(store, &all, &digest)),
    }
}

/// Returns true if `root` is an index, or a manifest with the config of an image.
fn is_readable(store: &Store, root: &Descriptor) -> bool {
    MediaType::is_index(&root.media_type) || Image::open(store, root).is_ok()
}

/// Returns a manifest with the config `wanted`: engines call that digest the image's id.
fn find_by_config(store: &Store, blobs: &[(Digest, u64)], wanted: &Digest) -> Option<Descriptor> {
    // A larger manifest would have thousands of layers.
    const MAX_MANIFEST_SIZE: u64 = 1 << 20;
    let small = blobs.iter().filter(|(_, size)| *size <= MAX_MANIFEST_SIZE);
    let descriptors = small.map(|(digest, size)| Descriptor::new(MediaType::MANIFEST, *digest, *size));
    let mut images = descriptors.filter(|descriptor| {
        let manifest = store.blobs().read_document::<Manifest>(descriptor);
        manifest.is_ok_and(|manifest| manifest.value().config.digest == *wanted)
    });
    images.find(|descriptor| Image::open(store, descriptor).is_ok())
}

/// The failure for a name that no image has, with the most similar name as help.
pub(crate) fn unknown_image(store: &Store, text: &str) -> Result<Failure, Failure> {
    let names: Vec<String> = store.refs().list()?.into_iter().map(|tagged| tagged.name).collect();
    let wanted = text.parse::<Reference>().map_or_else(|_| text.to_owned(), |reference| reference.short());
    let failure = Failure::work(format!("the store has no image `{text}`"));
    Ok(match nearest_name(&wanted, names.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("did you mean `{near}`?")),
        None if names.is_empty() => failure.help("bring one in with `dram import` or `dram load`, or build it"),
        None => failure.help("`dram images` lists what is there; `dram import` and `dram load` bring more"),
    })
}
