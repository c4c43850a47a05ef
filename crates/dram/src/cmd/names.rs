//! `dram tag`, `dram squash` and `dram rm`: names of images.

use dram_store::Store;

use super::say;
use crate::ambient::Ambient;
use crate::cli;
use crate::failure::Failure;
use crate::find;

/// Gives an image another name.
pub(crate) fn tag(ambient: &Ambient, args: &cli::Tag) -> Result<(), Failure> {
    let store = Store::open_to_write(ambient.store()?)?;
    let name = find::reference(&args.name)?;
    let image = find::image(&store, &args.image)?;
    Ok(store.refs().set(&[name], &image.descriptor)?)
}

/// Makes an image of a single layer.
pub(crate) fn squash(ambient: &Ambient, args: &cli::Tag) -> Result<(), Failure> {
    let name = find::reference(&args.name)?;
    let store = Store::open_to_write(ambient.store()?)?;
    let image = find::image(&store, &args.image)?;
    let sealed = dram_build::squash(&store, &image, &|| ())?;
    store.refs().set(std::slice::from_ref(&name), &sealed.manifest)?;
    say(&format!("{}@{}\n", name.short_name(), sealed.manifest.digest));
    Ok(())
}

/// Removes names. If one of them is unknown, none is removed.
pub(crate) fn rm(ambient: &Ambient, names: &[String]) -> Result<(), Failure> {
    let store = Store::open_to_write(ambient.store()?)?;
    let known: Vec<String> = store.refs().all()?.into_iter().map(|tagged| tagged.name).collect();
    let mut wanted = Vec::new();
    for text in names {
        // A name that another tool wrote and that is no valid reference can be removed by its exact text.
        let exact = known.iter().find(|name| *name == text).cloned();
        let name = exact.or_else(|| text.parse().ok().map(|reference: dram_image::Reference| reference.short()));
        match name.filter(|name| known.contains(name)) {
            Some(name) => wanted.push(name),
            None => return Err(find::unknown(&store, text)?),
        }
    }
    for name in wanted {
        store.refs().remove(&name)?;
    }
    Ok(())
}
