//! Signatures, attestations and SBOMs that cosign attaches to an image by a tag: `sha256-HEX.sig`, `.att` and `.sbom` in
//! the repository of the image, where HEX is the digest of the manifest or index.
//!
//! They are older than referrers by `subject`, and are what most signed images have.

use dram_image::{Descriptor, Digest};

use crate::transfer::layout::REF_NAME_ANNOTATION;

/// The ends of the tags.
const SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// Returns the tags under which something may be attached to the manifest or index `digest`.
pub fn attachment_tags(digest: &Digest) -> [String; 3] {
    SUFFIXES.map(|suffix| format!("sha256-{}.{suffix}", digest.hex()))
}

/// Returns the descriptor of a manifest that is attached by `tag`.
#[must_use]
pub fn with_attachment_tag(mut manifest: Descriptor, tag: &str) -> Descriptor {
    manifest.annotations.insert(REF_NAME_ANNOTATION.to_owned(), tag.to_owned());
    manifest
}

/// Returns the tag by which `referrer` is attached to an image; `None` for a referrer by `subject`.
pub fn attachment_tag(referrer: &Descriptor) -> Option<&str> {
    let tag = referrer.annotations.get(REF_NAME_ANNOTATION)?;
    let (hex, suffix) = tag.strip_prefix("sha256-")?.split_once('.')?;
    (SUFFIXES.contains(&suffix) && Digest::from_hex(hex).is_ok()).then_some(tag)
}

#[cfg(test)]
mod tests {
    use dram_image::MediaType;

    use super::*;

    #[test]
    fn attached_manifests_are_known_by_their_tags() {
        let digest = Digest::of(b"image");
        let plain = Descriptor::new(MediaType::MANIFEST, Digest::of(b"signature"), 9);
        assert_eq!(attachment_tag(&plain), None);
        for tag in attachment_tags(&digest) {
            assert_eq!(attachment_tag(&with_attachment_tag(plain.clone(), &tag)), Some(tag.as_str()));
        }
        for other in ["latest", "sha256-00.sig", &format!("sha256-{}.txt", digest.hex()), &digest.to_string()] {
            assert_eq!(attachment_tag(&with_attachment_tag(plain.clone(), other)), None, "{other}");
        }
    }
}
