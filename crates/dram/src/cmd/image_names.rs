//! `dram tag`, `dram squash` and `dram rm`: names of images.

use dram_build::LayerProvider;
use dram_store::Store;

use super::print_stdout;
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::Failure;
use crate::format::escape_control;
use crate::image_lookup;

/// Gives an image another name.
pub(crate) fn tag(ambient: &AmbientContext, args: &cli::TagArgs) -> Result<(), Failure> {
    let store = Store::open_writable(ambient.store()?)?;
    let name = image_lookup::parse_reference(&args.name)?;
    let root = image_lookup::find_root(&store, &args.image)?;
    // A name for something that cannot be read would keep garbage collection from working.
    if let Some((_, error)) = store.root_contents(&root).unreadable.into_iter().next() {
        return Err(error.into());
    }
    Ok(store.refs().set(&[name], &root)?)
}

/// Makes an image of a single layer.
pub(crate) fn squash(ambient: &AmbientContext, args: &cli::TagArgs) -> Result<(), Failure> {
    let name = image_lookup::parse_reference(&args.name)?;
    let store = Store::open_writable(ambient.store()?)?;
    let image = image_lookup::find_image(&store, &args.image, &ambient::platform())?;
    let sealed = dram_build::squash(&LayerProvider::new(&store), &image)?;
    store.refs().set(std::slice::from_ref(&name), &sealed.manifest)?;
    print_stdout(&format!("{}@{}\n", name.short_name(), sealed.manifest.digest));
    Ok(())
}

/// Returns the names of the image with the digest or id `text`, which is one unless `all` of them are asked for: as
/// `docker rmi` removes them.
fn names_of(store: &Store, text: &str, all_names: bool) -> Result<Vec<String>, Failure> {
    let root = image_lookup::find_descriptor(store, text)?.filter(|_| image_lookup::is_id(text));
    let Some(root) = root else { return Err(image_lookup::unknown_image(store, text)?) };
    let all = store.refs().list()?;
    let names: Vec<&str> =
        all.iter().filter(|tagged| tagged.root.digest == root.digest).map(|tagged| tagged.name.as_str()).collect();
    match names.as_slice() {
        [_, ..] if all_names || names.len() == 1 => Ok(names.into_iter().map(str::to_owned).collect()),
        [] => {
            let index = all.iter().find(|tagged| {
                let manifests = store.root_contents(&tagged.root).manifests;
                manifests.iter().any(|image| image.descriptor.digest == root.digest)
            });
            Err(match index {
                Some(index) => {
                    let name = escape_control(&index.name);
                    let failure = Failure::work(format!("the image `{text}` is one of the platforms of `{name}`"));
                    failure.help(format!("`dram rm {name}` removes all of them"))
                }
                None => Failure::work(format!("the image `{text}` has no name to be removed"))
                    .help("`dram prune` deletes images without a name"),
            })
        }
        [..] => {
            let list: Vec<String> = names.iter().map(|name| format!("`{}`", escape_control(name))).collect();
            let failure = Failure::usage(format!("the image `{text}` has {} names: {}", names.len(), list.join(", ")));
            Err(failure.help("say which: `dram rm NAME…`, or all: `dram rm --force ID`"))
        }
    }
}

/// Removes names. If one of them is unknown, none is removed.
pub(crate) fn rm(ambient: &AmbientContext, args: &cli::RmArgs) -> Result<(), Failure> {
    let store = Store::open_writable(ambient.store()?)?;
    let known: Vec<String> = store.refs().list()?.into_iter().map(|tagged| tagged.name).collect();
    let mut wanted = Vec::new();
    for text in &args.names {
        // A name that another tool wrote and that is no valid reference can be removed by its exact text.
        let exact = known.iter().find(|name| *name == text).cloned();
        let name = exact.or_else(|| text.parse().ok().map(|reference: dram_image::Reference| reference.short()));
        match name.filter(|name| known.contains(name)) {
            Some(name) => wanted.push(name),
            None => wanted.extend(names_of(&store, text, args.force)?),
        }
    }
    wanted.sort();
    wanted.dedup();
    for name in wanted {
        store.refs().remove(&name)?;
    }
    Ok(())
}
