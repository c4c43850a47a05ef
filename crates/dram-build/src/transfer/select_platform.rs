//! Selects images of an index by platform: a root and a platform give a manifest.

use dram_image::{Descriptor, Document, ImagePlatform, Index, MediaType};
use dram_store::MAX_INDEX_DEPTH;

use crate::Image;
use crate::transfer::copy_image::read_document;
use crate::transfer::{ImageSource, TransferError};

/// The images of an index that are selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSelection {
    /// All images, and the index itself.
    All,
    /// The image for this platform.
    Platform(ImagePlatform),
}

/// Returns the document that is selected below `root`: the manifest for a platform if `root` is an index and a platform
/// is selected, and otherwise `root` itself.
///
/// # Errors
/// Returns an error if an index cannot be read, or has no image for the platform: the error lists the platforms that it
/// has.
pub fn select_root(
    root: &Descriptor,
    source: &dyn ImageSource,
    selection: &ImageSelection,
) -> Result<Descriptor, TransferError> {
    let platform = match selection {
        ImageSelection::Platform(platform) if MediaType::is_index(&root.media_type) => platform,
        ImageSelection::Platform(_) | ImageSelection::All => return Ok(root.clone()),
    };
    match select_manifest(source, root, platform)? {
        Some(one) => Ok(Descriptor { annotations: root.annotations.clone(), platform: None, ..one }),
        None => {
            let offered = offered_platforms(source, root);
            let offered = if offered.is_empty() { offered } else { format!("; it has {offered}") };
            let platform = format!("{platform}{offered}");
            Err(TransferError::NoPlatform { place: source.display_name(), platform })
        }
    }
}

/// Follows indexes from `entry` to the manifest for `platform`; `None` if there is none, or if `entry` is not an image.
///
/// # Errors
/// Returns an error if an index cannot be read.
pub fn select_manifest(
    source: &dyn ImageSource,
    entry: &Descriptor,
    platform: &ImagePlatform,
) -> Result<Option<Descriptor>, TransferError> {
    let mut entry = entry.clone();
    for _ in 0..MAX_INDEX_DEPTH {
        if MediaType::is_manifest(&entry.media_type) {
            return Ok(Some(entry));
        }
        if !MediaType::is_index(&entry.media_type) {
            return Ok(None);
        }
        let index = read_index(source, &entry)?;
        match best_match(&index.value().manifests, platform) {
            Some(one) => entry = one.clone(),
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Returns whether the config of the image fits `platform`, ignoring variants. An image without a platform fits all.
pub fn has_platform(image: &Image, platform: &ImagePlatform) -> bool {
    let config = image.config.value();
    let same = |said: &str, wanted: &str| said.is_empty() || said == wanted;
    same(&config.os, &platform.os) && same(&config.architecture, &platform.architecture)
}

/// Returns the platforms of the index `entry` as text, for messages.
fn offered_platforms(source: &dyn ImageSource, entry: &Descriptor) -> String {
    let Ok(index) = read_index(source, entry) else { return String::new() };
    let platforms = index.value().manifests.iter().filter_map(|one| one.platform.as_ref());
    let known = platforms.filter(|platform| platform.os != "unknown").take(20);
    known.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn read_index(source: &dyn ImageSource, entry: &Descriptor) -> Result<Document<Index>, TransferError> {
    let bytes = read_document(source, entry)?;
    Document::read(bytes).map_err(|error| TransferError::Document {
        place: source.display_name(),
        file: entry.digest.to_string(),
        source: error,
    })
}

/// Returns the best image for a platform: the one of the same variant, or else the newest variant that the processor
/// can run.
fn best_match<'a>(all: &'a [Descriptor], wanted: &ImagePlatform) -> Option<&'a Descriptor> {
    let rank = |one: &&Descriptor| {
        let platform = one.platform.as_ref()?;
        let same = platform.os == wanted.os && platform.architecture == wanted.architecture;
        let (has, want) = (variant_number(platform), variant_number(wanted));
        // The first of equal entries is taken, as in other tools; `max_by_key` would return the last one.
        (same && has <= want).then_some(has)
    };
    let top = all.iter().filter_map(|one| rank(&one)).max()?;
    all.iter().find(|one| rank(one) == Some(top))
}

/// Returns the number of a variant: 7 for `v7` of arm. Without a variant it is the usual one of the architecture.
fn variant_number(platform: &ImagePlatform) -> u32 {
    let variant = platform.variant.as_deref().filter(|variant| !variant.is_empty());
    let usual = match platform.architecture.as_str() {
        "arm64" => 8,
        "arm" => 7,
        _ => 1,
    };
    match variant {
        None => usual,
        Some(text) => text.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok()).unwrap_or(usual),
    }
}

#[cfg(test)]
mod tests {
    use dram_image::Digest;

    use super::*;

    fn platform(text: &str) -> ImagePlatform {
        let mut parts = text.split('/').map(str::to_owned);
        let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
        ImagePlatform { architecture, os, variant: parts.next() }
    }

    #[test]
    fn newest_variant_that_the_processor_runs_is_selected() {
        let all: Vec<Descriptor> = ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/amd64/v3"]
            .iter()
            .map(|text| {
                let one = Descriptor::new(MediaType::MANIFEST, Digest::of(text.as_bytes()), 1);
                Descriptor { platform: Some(platform(text)), ..one }
            })
            .collect();
        for (wanted, found) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v2", Some("linux/amd64")),
            ("linux/amd64/v4", Some("linux/amd64/v3")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v5")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/riscv64", None),
            ("windows/amd64", None),
        ] {
            let best = best_match(&all, &platform(wanted)).map(|one| one.platform.as_ref().unwrap().to_string());
            assert_eq!(best.as_deref(), found, "{wanted}");
        }
    }
}
