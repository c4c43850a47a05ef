//! Images by what a person calls them.

use dram_build::Image;
use dram_dockerfile::nearest::nearest;
use dram_image::{Descriptor, MediaType, Reference};
use dram_store::Store;

use crate::failure::Failure;

/// The reference that `text` is.
pub(crate) fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error: dram_image::ReferenceError| Failure::usage(error.to_string()))
}

/// The image that `text` names: `NAME[:TAG]`, or the digest of its manifest, whole or its first 12 digits and more.
pub(crate) fn image(store: &Store, text: &str) -> Result<Image, Failure> {
    match descriptor(store, text)? {
        Some(descriptor) => Ok(Image::open(store, &descriptor)?),
        None => Err(unknown(store, text)?),
    }
}

/// The manifest of the image that `text` names, if there is one.
pub(crate) fn descriptor(store: &Store, text: &str) -> Result<Option<Descriptor>, Failure> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_digest = (12..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if let Ok(reference) = text.parse::<Reference>()
        && let Some(found) = store.refs().get(&reference)?
    {
        return Ok(Some(found));
    }
    if !is_digest {
        return Ok(None);
    }
    let mut fitting = store.blobs().all()?.into_iter().filter(|(digest, _)| digest.hex().starts_with(hex));
    match (fitting.next(), fitting.next()) {
        (Some((digest, size)), None) => {
            let descriptor = Descriptor::new(MediaType::MANIFEST, digest, size);
            Ok(Image::open(store, &descriptor).is_ok().then_some(descriptor))
        }
        (_, _) => Ok(None),
    }
}

/// The failure for a name that nothing has.
pub(crate) fn unknown(store: &Store, text: &str) -> Result<Failure, Failure> {
    let names: Vec<String> = store.refs().all()?.into_iter().map(|tagged| tagged.name).collect();
    let wanted = text.parse::<Reference>().map_or_else(|_| text.to_owned(), |reference| reference.short());
    let failure = Failure::work(format!("the store has no image `{text}`"));
    Ok(match nearest(&wanted, names.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("did you mean `{near}`?")),
        None if names.is_empty() => failure.help("bring one in with `dram import` or `dram load`, or build it"),
        None => failure.help("`dram images` lists what is there; `dram import` and `dram load` bring more"),
    })
}
