//! `dram images`, `dram history`, `dram inspect`: show the images in the store.

use dram_build::Image;
use dram_image::Reference;
use dram_store::Store;
use serde::Serialize;

use super::say;
use crate::ambient::Ambient;
use crate::failure::Failure;
use crate::find;
use crate::format::{plain, size, table};

/// One line of `dram images`.
#[derive(Serialize)]
struct Row {
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
pub(crate) fn images(ambient: &Ambient, json: bool) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for tagged in store.refs().all()? {
        match row(&store, &tagged) {
            Ok(row) => rows.push(row),
            Err(error) => broken.push((tagged.name, error)),
        }
    }
    if json {
        say(&format!("{}\n", serde_json::to_string_pretty(&rows).expect("plain data becomes JSON")));
    } else {
        let head = ["NAME", "TAG", "DIGEST", "CREATED", "SIZE", "COMPRESSED"].map(str::to_owned).to_vec();
        let cells = rows.iter().map(|row| {
            let digest = row.digest.chars().take(19).collect();
            let created: String = row.created.as_deref().unwrap_or_default().chars().take(10).collect();
            vec![row.name.clone(), row.tag.clone(), digest, plain(&created), size(row.size), size(row.compressed_size)]
        });
        say(&table(&std::iter::once(head).chain(cells).collect::<Vec<_>>()));
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

fn row(store: &Store, tagged: &dram_store::Tagged) -> Result<Row, dram_store::StoreError> {
    let image = Image::open(store, &tagged.manifest)?;
    // A recorded size may be wrong, so the sum must not overflow.
    let mut size = 0_u64;
    for (diff_id, blob) in image.layers() {
        size = size.saturating_add(store.layers().size(diff_id, blob)?);
    }
    let reference = tagged.name.parse::<Reference>();
    let (name, tag) = match &reference {
        // As in Docker, an image that was pulled by its digest has no tag.
        Ok(reference) if reference.digest().is_some() => (reference.short_name(), "<none>".to_owned()),
        Ok(reference) => (reference.short_name(), reference.tag().to_owned()),
        Err(_) => (plain(&tagged.name), String::new()),
    };
    Ok(Row {
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
pub(crate) fn history(ambient: &Ambient, name: &str, whole: bool) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let image = find::image(&store, name)?;
    let mut layers = image.layers();
    let mut rows = Vec::new();
    for entry in &image.config.value().history {
        let bytes = match entry.empty_layer {
            true => 0,
            false => match layers.next() {
                Some((diff_id, blob)) => store.layers().size(diff_id, blob)?,
                None => 0,
            },
        };
        let by = plain(entry.created_by.as_deref().unwrap_or_default());
        let by = if whole || by.chars().count() <= 72 { by } else { by.chars().take(71).chain(['…']).collect() };
        let created: String = entry.created.as_deref().unwrap_or_default().chars().take(19).collect();
        rows.push(vec![plain(&created), by, size(bytes), plain(entry.comment.as_deref().unwrap_or_default())]);
    }
    rows.push(["CREATED", "CREATED BY", "SIZE", "COMMENT"].map(str::to_owned).to_vec());
    rows.reverse();
    say(&table(&rows));
    Ok(())
}

/// The output of `dram inspect`.
#[derive(Serialize)]
struct Inspected<'a> {
    digest: String,
    names: Vec<String>,
    manifest: &'a dram_image::Manifest,
    config: &'a dram_image::ImageConfig,
}

/// Prints the image's manifest and config.
pub(crate) fn inspect(ambient: &Ambient, name: &str) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let image = find::image(&store, name)?;
    let digest = image.descriptor.digest;
    let names = store.refs().all()?.into_iter().filter(|tagged| tagged.manifest.digest == digest);
    let inspected = Inspected {
        digest: digest.to_string(),
        names: names.map(|tagged| tagged.name).collect(),
        manifest: image.manifest.value(),
        config: image.config.value(),
    };
    say(&format!("{}\n", serde_json::to_string_pretty(&inspected).expect("plain data becomes JSON")));
    Ok(())
}
