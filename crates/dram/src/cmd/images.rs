//! `dram images`, `dram history`, `dram inspect`: show the images in the store.

use dram_build::Image;
use dram_image::Reference;
use dram_store::Store;
use serde::Serialize;

use super::print_stdout;
use crate::ambient::AmbientContext;
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
}

/// Lists every name in the store. Then fails if one of the images cannot be read.
pub(crate) fn images(ambient: &AmbientContext, json: bool) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for tagged in store.refs().list()? {
        match image_row(&store, &tagged) {
            Ok(row) => rows.push(row),
            Err(error) => broken.push((tagged.name, error)),
        }
    }
    if json {
        print_stdout(&format!("{}\n", serde_json::to_string_pretty(&rows).expect("plain data becomes JSON")));
    } else {
        let head = ["NAME", "TAG", "DIGEST", "CREATED", "SIZE", "COMPRESSED"].map(str::to_owned).to_vec();
        let cells = rows.iter().map(|row| {
            let digest = row.digest.chars().take(19).collect();
            let created: String = row.created.as_deref().unwrap_or_default().chars().take(10).collect();
            vec![
                row.name.clone(),
                row.tag.clone(),
                digest,
                escape_control(&created),
                format_size(row.size),
                format_size(row.compressed_size),
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

fn image_row(store: &Store, tagged: &dram_store::TaggedImage) -> Result<ImageRow, dram_store::StoreError> {
    let image = Image::open(store, &tagged.manifest)?;
    // A recorded size may be wrong, so the sum must not overflow.
    let mut size = 0_u64;
    for (diff_id, blob) in image.layers() {
        size = size.saturating_add(store.layers().tar_size(diff_id, blob)?);
    }
    let reference = tagged.name.parse::<Reference>();
    let (name, tag) = match &reference {
        // As in Docker, an image that was pulled by its digest has no tag.
        Ok(reference) if reference.digest().is_some() => (reference.short_name(), "<none>".to_owned()),
        Ok(reference) => (reference.short_name(), reference.tag().to_owned()),
        Err(_) => (escape_control(&tagged.name), String::new()),
    };
    Ok(ImageRow {
        name,
        tag,
        digest: tagged.manifest.digest.to_string(),
        id: image.manifest.value().config.digest.to_string(),
        created: image.config.value().created.clone(),
        size,
        compressed_size: image.compressed_size(),
    })
}

/// Prints one line for each entry of the image's history, the newest first.
pub(crate) fn history(ambient: &AmbientContext, name: &str, whole: bool) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let image = image_lookup::find_image(&store, name)?;
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
        let by = if whole || by.chars().count() <= 72 { by } else { by.chars().take(71).chain(['…']).collect() };
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
    manifest: &'a dram_image::Manifest,
    config: &'a dram_image::ImageConfig,
}

/// Prints the image's manifest and config.
pub(crate) fn inspect(ambient: &AmbientContext, name: &str) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let image = image_lookup::find_image(&store, name)?;
    let digest = image.descriptor.digest;
    let names = store.refs().list()?.into_iter().filter(|tagged| tagged.manifest.digest == digest);
    let inspected = InspectOutput {
        digest: digest.to_string(),
        names: names.map(|tagged| tagged.name).collect(),
        manifest: image.manifest.value(),
        config: image.config.value(),
    };
    print_stdout(&format!("{}\n", serde_json::to_string_pretty(&inspected).expect("plain data becomes JSON")));
    Ok(())
}
