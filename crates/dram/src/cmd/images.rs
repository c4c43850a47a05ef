//! `dram images`, `dram history`, `dram inspect`: show the images in the store.

use std::collections::BTreeSet;

use dram_build::Image;
use dram_build::transfer::{StoreSource, select_manifest};
use dram_image::{Descriptor, ImageConfig, Manifest, MediaType, Reference};
use dram_store::{ManifestContents, Store, StoreError, TaggedImage};
use serde::Serialize;

use super::print_stdout;
use super::transfer::parse_platform;
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::Failure;
use crate::format::{escape_control, format_size, format_table};
use crate::image_lookup;

/// One line of `dram images`.
#[derive(Serialize)]
struct ImageRow {
    name: String,
    tag: String,
    digest: String,
    id: String,
    created: Option<String>,
    /// Bytes of the unpacked layers.
    size: u64,
    /// Bytes of the compressed layers, the manifest and the config.
    compressed_size: u64,
    /// The platforms of an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    platforms: Option<Vec<String>>,
}

/// Lists every name in the store. Then fails if one of the images cannot be read.
pub(crate) fn images(ambient: &AmbientContext, args: &cli::ImagesArgs) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for tagged in
        store.refs().list()?.into_iter().filter(|tagged| args.name.as_deref().is_none_or(|name| has_name(tagged, name)))
    {
        match image_row(&store, &tagged) {
            Ok(row) => rows.push(row),
            Err(error) => broken.push((tagged.name, error)),
        }
    }
    if args.quiet {
        let ids: BTreeSet<&str> = rows.iter().map(|row| shortened(row.short_id(), 7 + 12, args.no_trunc)).collect();
        print_stdout(
            &ids.iter().map(|id| format!("{}\n", if args.no_trunc { id } else { &id[7..] })).collect::<String>(),
        );
    } else if args.json {
        print_stdout(&format!("{}\n", serde_json::to_string_pretty(&rows).expect("plain data becomes JSON")));
    } else {
        let mut head = ["NAME", "TAG", "DIGEST", "CREATED", "SIZE", "COMPRESSED"].map(str::to_owned).to_vec();
        head.extend(rows.iter().any(|row| row.platforms.is_some()).then(|| "PLATFORMS".to_owned()));
        let cells = rows.iter().map(|row| {
            let digest = shortened(&row.digest, 19, args.no_trunc).to_owned();
            let created: String = row.created.as_deref().unwrap_or_default().chars().take(10).collect();
            vec![
                row.name.clone(),
                row.tag.clone(),
                digest,
                escape_control(&created),
                format_size(row.size),
                format_size(row.compressed_size),
                row.platforms.as_ref().map(|platforms| platforms.len().to_string()).unwrap_or_default(),
            ]
        });
        print_stdout(&format_table(&std::iter::once(head).chain(cells).collect::<Vec<_>>()));
    }
    // The other images are listed all the same; one damaged image must not hide them.
    match broken.into_iter().next() {
        None => Ok(()),
        Some((name, error)) => {
            let mut failure = Failure::from(error);
            failure.causes.insert(0, format!("the image `{name}` cannot be read"));
            Err(failure)
        }
    }
}

/// Returns whether an image has the repository `wanted`, or with a tag in it exactly this name.
fn has_name(tagged: &TaggedImage, wanted: &str) -> bool {
    let (Ok(name), Ok(reference)) = (tagged.name.parse::<Reference>(), wanted.parse::<Reference>()) else {
        return false;
    };
    let has_tag = wanted.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if has_tag { name == reference } else { name.short_name() == reference.short_name() }
}

/// Returns the first `length` characters of a digest, or all with `all`.
fn shortened(digest: &str, length: usize, all: bool) -> &str {
    if all { digest } else { digest.get(..length).unwrap_or(digest) }
}

impl ImageRow {
    /// Returns what `dram rm` and others take for this image: the digest of an index, the id of another image.
    fn short_id(&self) -> &str {
        if self.platforms.is_some() { &self.digest } else { &self.id }
    }
}

fn image_row(store: &Store, tagged: &TaggedImage) -> Result<ImageRow, StoreError> {
    let contents = store.root_contents(&tagged.root);
    if let Some((_, error)) = contents.unreadable.into_iter().next() {
        return Err(error);
    }
    let is_index = MediaType::is_index(&tagged.root.media_type);
    if !is_index {
        // It also compares the manifest with the config.
        Image::open(store, &tagged.root)?;
    }
    // A recorded size may be wrong, so the sums must not overflow. What several images share is counted once, but a
    // layer that one image has twice is unpacked twice.
    let (mut size, mut counted) = (0_u64, BTreeSet::new());
    for image in &contents.manifests {
        for (diff_id, blob) in image.layers().filter(|(diff_id, _)| !counted.contains(*diff_id)) {
            size = size.saturating_add(store.layers().tar_size(diff_id, blob)?);
        }
        counted.extend(image.layers().map(|(diff_id, _)| *diff_id));
    }
    let images = || contents.manifests.iter().filter(|image| image.is_image());
    let own = match is_index {
        true => select_manifest(&StoreSource::new(store), &tagged.root, &ambient::platform()).ok().flatten(),
        false => Some(tagged.root.clone()),
    };
    let own = own.and_then(|own| images().find(|image| image.descriptor.digest == own.digest)).or(images().next());
    let (name, tag) = match &tagged.name.parse::<Reference>() {
        // As in Docker, an image that was pulled by its digest has no tag.
        Ok(reference) if reference.digest().is_some() => (reference.short_name(), "<none>".to_owned()),
        Ok(reference) => (reference.short_name(), reference.tag().to_owned()),
        Err(_) => (escape_control(&tagged.name), String::new()),
    };
    Ok(ImageRow {
        name,
        tag,
        digest: tagged.root.digest.to_string(),
        id: own.map_or(tagged.root.digest, |own| own.manifest.config.digest).to_string(),
        created: own.and_then(|own| own.config.as_ref()?.created.clone()),
        size,
        compressed_size: compressed_size(&contents.blobs, &contents.manifests, is_index),
        platforms: is_index.then(|| images().filter_map(|image| Some(image.platform()?.to_string())).collect()),
    })
}

/// The bytes of all blobs: of an index each once, of a manifest each as often as it has it.
fn compressed_size(blobs: &[Descriptor], manifests: &[ManifestContents], is_index: bool) -> u64 {
    let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
    match manifests {
        [one] if !is_index => {
            let layers = one.manifest.layers.iter().map(|layer| layer.size);
            sum(&mut [one.descriptor.size, one.manifest.config.size].into_iter().chain(layers))
        }
        _ => sum(&mut blobs.iter().map(|blob| blob.size)),
    }
}

/// Prints one line for each entry of the image's history, the newest first.
pub(crate) fn history(ambient: &AmbientContext, args: &cli::HistoryArgs) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let platform = parse_platform(args.platform.as_deref())?;
    let image = image_lookup::find_image(&store, &args.image, &platform)?;
    let mut layers = image.layers();
    let mut rows = Vec::new();
    for entry in &image.config.value().history {
        let bytes = match entry.empty_layer {
            true => 0,
            false => match layers.next() {
                Some((diff_id, blob)) => store.layers().tar_size(diff_id, blob)?,
                None => 0,
            },
        };
        let by = escape_control(entry.created_by.as_deref().unwrap_or_default());
        let by =
            if args.no_trunc || by.chars().count() <= 72 { by } else { by.chars().take(71).chain(['…']).collect() };
        let created: String = entry.created.as_deref().unwrap_or_default().chars().take(19).collect();
        rows.push(vec![
            escape_control(&created),
            by,
            format_size(bytes),
            escape_control(entry.comment.as_deref().unwrap_or_default()),
        ]);
    }
    rows.push(["CREATED", "CREATED BY", "SIZE", "COMMENT"].map(str::to_owned).to_vec());
    rows.reverse();
    print_stdout(&format_table(&rows));
    Ok(())
}

/// The output of `dram inspect`.
#[derive(Serialize)]
struct InspectOutput<'a> {
    digest: String,
    names: Vec<String>,
    /// The images of an index, if the name leads to one and no platform was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Vec<IndexEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a ImageConfig>,
}

/// One manifest of an index.
#[derive(Serialize)]
struct IndexEntry {
    platform: Option<String>,
    digest: String,
    /// Bytes of the compressed layers, the manifest and the config.
    size: u64,
}

/// Prints the image's manifest and config. For an index without `--platform`, prints its platforms too, and the manifest
/// and config for this machine's platform if it has one.
pub(crate) fn inspect(ambient: &AmbientContext, args: &cli::InspectArgs) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let root = image_lookup::find_root(&store, &args.image)?;
    let (mut digest, mut index) = (root.digest, None);
    let image = match &args.platform {
        None if MediaType::is_index(&root.media_type) => {
            index = Some(index_entries(&store, &root)?);
            let own = select_manifest(&StoreSource::new(&store), &root, &ambient::platform())?;
            own.map(|own| Image::open(&store, &own)).transpose()?
        }
        platform => {
            let platform = parse_platform(platform.as_deref())?;
            let image = image_lookup::open_for_platform(&store, &args.image, &root, &platform)?;
            digest = image.descriptor.digest;
            Some(image)
        }
    };
    let names = store.refs().list()?.into_iter().filter(|tagged| tagged.root.digest == digest);
    let inspected = InspectOutput {
        digest: digest.to_string(),
        names: names.map(|tagged| tagged.name).collect(),
        index,
        manifest: image.as_ref().map(|image| image.manifest.value()),
        config: image.as_ref().map(|image| image.config.value()),
    };
    print_stdout(&format!("{}\n", serde_json::to_string_pretty(&inspected).expect("plain data becomes JSON")));
    Ok(())
}

fn index_entries(store: &Store, root: &Descriptor) -> Result<Vec<IndexEntry>, StoreError> {
    let contents = store.root_contents(root);
    if let Some((_, error)) = contents.unreadable.into_iter().next() {
        return Err(error);
    }
    let entry = |one: &ManifestContents| IndexEntry {
        platform: one.platform().map(|platform| platform.to_string()),
        digest: one.descriptor.digest.to_string(),
        size: compressed_size(&[], std::slice::from_ref(one), false),
    };
    Ok(contents.manifests.iter().map(entry).collect())
}
