//! Named contexts: `--build-context`.

use std::collections::BTreeMap;
use std::path::Path;

use dram_build::transfer::{LoadSource, find_layout_image, open_load_source};
use dram_build::{BuildContext, Image, ResolvedInput};
use dram_dockerfile::remote::{self, RemoteSource};
use dram_store::Store;

use super::dockerfile_source;
use super::remote_context::ContextFetcher;
use crate::failure::Failure;
use crate::{ambient, cli, image_lookup};

/// The tag of a layout's image, if none is given. The first image is called that, too, if none has this tag.
const DEFAULT_TAG: &str = "latest";

/// Reads the named contexts of `args`: names and values.
pub(super) fn parse_named_contexts(args: &cli::BuildCommandArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for text in &args.build_context {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                values.insert(name.to_owned(), value.to_owned());
            }
            Some(_) | None => return Err(Failure::usage(format!("`--build-context {text}` is not NAME=VALUE"))),
        }
    }
    Ok(values)
}

/// The image to which a value of `--build-context` leads, if it is one.
pub(super) fn resolve_named_image(store: &Store, value: &str) -> Result<Option<ResolvedInput>, Failure> {
    if let Some(name) = value.strip_prefix("docker-image://").filter(|name| *name != "scratch") {
        return Ok(Some(ResolvedInput::Image(Box::new(image_lookup::find_image(store, name, &ambient::platform())?))));
    }
    value.strip_prefix("oci-layout://").map(|layout| open_layout_image(store, layout)).transpose()
}

/// The image or files to which a value of `--build-context` leads.
pub(super) fn resolve_named_context(
    store: &Store,
    bring: &ContextFetcher<'_>,
    value: &str,
) -> Result<ResolvedInput, Failure> {
    if let Some(image) = resolve_named_image(store, value)? {
        return Ok(image);
    }
    if value == "docker-image://scratch" {
        return Ok(ResolvedInput::Context(BuildContext::Fetched { path: store.work_dir().temp_dir()?, owners: false }));
    }
    let path = Path::new(value);
    match remote::classify_context(value).map_err(|wrong| Failure::usage(wrong.message).help(wrong.help))? {
        Some(RemoteSource::Git(git)) => bring.fetch_git(&git, false, false).map(ResolvedInput::Context),
        // BuildKit does not unpack such a file.
        Some(RemoteSource::Url { url, .. }) => bring.fetch_url_as_file(&url).map(ResolvedInput::Context),
        None if path.is_dir() => dockerfile_source::named_directory(path).map(ResolvedInput::Context),
        None if value.contains("://") => {
            let failure = Failure::usage(format!("the build context `{value}` is of no known kind"));
            Err(failure.help("name a directory, a URL, docker-image://NAME or oci-layout://DIR[:TAG][@DIGEST]"))
        }
        None => Err(Failure::usage(format!("the build context `{value}` is not a directory"))),
    }
}

fn open_layout_image(store: &Store, text: &str) -> Result<ResolvedInput, Failure> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest)),
        None => (text, None),
    };
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (text, None),
    };
    let LoadSource::Layout(layout) = open_load_source(Path::new(path), store)? else {
        return Err(Failure::work(format!("`{path}` is no OCI layout")));
    };
    let all = layout.list_images()?;
    // Beside a digest a tag has no meaning, as in the name of an image.
    let which = digest.or(tag).unwrap_or(DEFAULT_TAG);
    let found = find_layout_image(&all, which).or_else(|| all.first().filter(|_| which == DEFAULT_TAG));
    let Some(one) = found else { return Err(Failure::work(format!("the layout `{path}` has no image `{which}`"))) };
    let manifest = dram_build::transfer::load_layout_image(store, &layout, &one.root, &ambient::platform())?;
    Ok(ResolvedInput::Image(Box::new(Image::open(store, &manifest)?)))
}
