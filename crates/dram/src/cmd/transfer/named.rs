//! `dram pull` and `dram push`: images by their names in registries.

use dram_build::transfer::{StoreSink, StoreSource, Which, has_platform};
use dram_build::{Cancel, Image};
use dram_image::{MediaType, Platform, Reference};
use dram_store::Store;

use super::to::to;
use super::{How, World, platform, told};
use crate::address::Address;
use crate::ambient::{self, Ambient};
use crate::cmd::say;
use crate::failure::Failure;
use crate::format::plain;
use crate::progress::Moving;
use crate::pulling::Images;
use crate::{cli, find, report};

/// Pulls images into the store.
pub(in crate::cmd) fn pull(ambient: &Ambient, args: &cli::PullImages) -> Result<(), Failure> {
    let names = args.names.iter().map(|text| find::reference(text)).collect::<Result<Vec<_>, _>>()?;
    let which = Which::One(platform(args.platform.as_deref())?);
    let world = World::new(ambient)?;
    for name in &names {
        pulled(&world, name, &How::new(which.clone(), false, args.shown.style()))?;
    }
    Ok(())
}

fn pulled(world: &World<'_>, name: &Reference, how: &How) -> Result<(), Failure> {
    let store = world.store()?;
    store.must_be_writable()?;
    let (source, root) = world.registries().source(name)?;
    let index = MediaType::is_index(&root.media_type).then_some(root.digest);
    let sink = StoreSink::new(store, vec![name.clone()], false).picked_from(index);
    let arrived = how.carry_out(world, &root, &source, &sink)?;
    how.end();
    if let Which::One(platform) = &how.which {
        remark_platform(name, &Image::open(store, &arrived)?, platform);
    }
    say(&format!("{}@{}\n", name.short_name(), root.digest));
    Ok(())
}

/// Prints a note if an image, which is for one platform alone, is not for the platform `wanted`.
fn remark_platform(name: &Reference, image: &Image, wanted: &Platform) {
    if !has_platform(image, wanted) {
        let config = image.config.value();
        let has = plain(&format!("{}/{}", config.os, config.architecture));
        report::note(&format!("`{name}` is for {has} alone, and not for {}/{}", wanted.os, wanted.architecture));
    }
}

/// Returns the image `text` of the store, after pulling it if `policy` says so.
pub(in crate::cmd) fn wanted(store: &Store, text: &str, policy: cli::Pull) -> Result<Image, Failure> {
    let cancel = Cancel::default();
    let images = Images::new(store, policy, cancel.clone());
    let Some(image) = images.find(text, &ambient::platform())? else { return Err(find::unknown(store, text)?) };
    if let Some(far) = image.far.clone().filter(|_| !image.is_whole(store)) {
        // The command handles signals from here on.
        let lines = Moving::new(cli::Progress::Auto);
        images.show(Box::new(move |motion| lines.tell(motion)));
        far.blobs(store, &image.manifest.value().layers)?;
    }
    images.keep()?;
    Ok(image)
}

/// Pushes an image of the store to the registry in its name, or to another address.
pub(in crate::cmd) fn push(ambient: &Ambient, args: &cli::Push) -> Result<(), Failure> {
    let dest = match &args.dest {
        Some(text) if Address::is_one(text) => Address::read(text)?,
        Some(text) => Address::Registry(find::reference(text)?),
        None if find::is_id(&args.image) => {
            let failure = Failure::usage(format!("`{}` is no name in a registry", args.image));
            return Err(failure.help(format!("say where it goes: `dram push {} HOST/NAME:TAG`", args.image)));
        }
        None if Address::is_one(&args.image) => {
            let failure = Failure::usage(format!("`{}` says where an image goes, and not which", args.image));
            return Err(failure.help(format!("`dram push NAME {}`", args.image)));
        }
        None => Address::Registry(find::reference(&args.image)?),
    };
    let world = World::new(ambient)?;
    let store = world.store()?;
    let image = find::image(store, &args.image)?;
    let how = How::new(Which::All, false, args.shown.style());
    let source = StoreSource::new(store);
    let root = &image.descriptor;
    let arrived = to(&world, &source, &dest, root, &how.which, &mut |sink| how.carry_out(&world, root, &source, sink))?;
    how.end();
    told(args.digestfile.as_deref(), &arrived)?;
    match &dest {
        Address::Registry(name) => say(&format!("{}@{}\n", name.short_name(), arrived.digest)),
        Address::Layout(..)
        | Address::Archive(..)
        | Address::DockerArchive(..)
        | Address::Store(_)
        | Address::Engine(_)
        | Address::Podman(_) => say(&format!("{}\n", arrived.digest)),
    }
    Ok(())
}
