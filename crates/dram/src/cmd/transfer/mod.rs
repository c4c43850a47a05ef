//! `dram copy`, `dram pull`, `dram push`: transfers images.

mod from;
mod named;
mod to;

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use dram_build::Cancel;
use dram_build::transfer::{Copying, Sink, Source, Which, copy as move_image};
use dram_image::{Descriptor, Platform};
use dram_store::Store;

use self::from::from;
pub(super) use self::named::{pull, push, wanted};
use self::to::to;
use super::say;
use super::whole::write_whole;
use crate::address::Address;
use crate::ambient::{self, Ambient};
use crate::failure::Failure;
use crate::progress::Moving;
use crate::registry::Registries;
use crate::{cli, report, signals};

/// The resources of transfers, each opened on first use.
struct World<'a> {
    ambient: &'a Ambient,
    cancel: Cancel,
    // Dropped before the store in which it lies.
    scratch: OnceCell<Store>,
    store: OnceCell<Store>,
    registries: Registries,
}

impl<'a> World<'a> {
    fn new(ambient: &'a Ambient) -> Result<World<'a>, Failure> {
        let cancel = Cancel::default();
        signals::cancel_on_signal(cancel.clone())?;
        let registries = Registries::new(cancel.clone());
        Ok(World { ambient, cancel, scratch: OnceCell::new(), store: OnceCell::new(), registries })
    }

    /// The access to registries.
    fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The store.
    fn store(&self) -> Result<&Store, Failure> {
        if self.store.get().is_none() {
            let _ = self.store.set(Store::open(self.ambient.store()?)?);
        }
        Ok(self.store.get().expect("opened above"))
    }

    /// A temporary store inside the store, for images in transit. It is removed after this process.
    fn scratch(&self) -> Result<&Store, Failure> {
        if self.scratch.get().is_none() {
            let store = self.store()?;
            store.must_be_writable()?;
            let _ = self.scratch.set(Store::open(&store.work().fresh()?)?);
        }
        Ok(self.scratch.get().expect("opened above"))
    }
}

/// Copies an image from one address to another.
pub(super) fn copy(ambient: &Ambient, args: &cli::Copy) -> Result<(), Failure> {
    let (source, dest) = (Address::read(&args.source)?, Address::read(&args.dest)?);
    let which = match args.all {
        true => Which::All,
        false => Which::One(platform(args.platform.as_deref())?),
    };
    let world = World::new(ambient)?;
    let how = How::new(which, args.referrers, args.shown.style());
    let arrived = from(&world, &source, &mut |source, root| {
        to(&world, source, &dest, root, &how.which, &mut |sink| how.carry_out(&world, root, source, sink))
    })?;
    how.end();
    told(args.digestfile.as_deref(), &arrived)?;
    say(&format!("{}\n", arrived.digest));
    Ok(())
}

/// Parses a platform; parts that are missing are this machine's.
pub(super) fn platform(text: Option<&str>) -> Result<Platform, Failure> {
    let Some(text) = text else { return Ok(ambient::platform()) };
    let wrong =
        || Failure::usage(format!("`--platform {text}` is no platform")).help("as `linux/amd64`, `linux/arm/v7`");
    let parsed = dram_dockerfile::Platform::parse(text).ok_or_else(wrong)?;
    let own = ambient::platform();
    let or = |text: String, own: String| if text.is_empty() { own } else { text };
    let variant = Some(parsed.variant).filter(|variant| !variant.is_empty());
    Ok(Platform { os: or(parsed.os, own.os), architecture: or(parsed.architecture, own.architecture), variant })
}

/// The options of a transfer, and its summary.
struct How {
    which: Which,
    referrers: bool,
    shown: cli::Progress,
    /// The message to print when the transfer is complete.
    said: RefCell<Option<String>>,
}

impl How {
    fn new(which: Which, referrers: bool, shown: cli::Progress) -> How {
        How { which, referrers, shown, said: RefCell::default() }
    }

    /// Prints the summary. This comes last, because the receiver may refuse an image at the very end.
    fn end(&self) {
        if let Some(said) = self.said.take() {
            report::note(&said);
        }
    }

    fn carry_out(
        &self,
        world: &World<'_>,
        root: &Descriptor,
        source: &dyn Source,
        sink: &dyn Sink,
    ) -> Result<Descriptor, Failure> {
        let moving = Moving::new(self.shown);
        let tell = |motion| moving.tell(motion);
        let how =
            Copying { which: self.which.clone(), referrers: self.referrers, cancel: world.cancel.clone(), tell: &tell };
        let moved = move_image(root, source, sink, &how);
        let summary = moving.end();
        let arrived = moved?;
        let said = || format!("copied {} to {}: {summary}", source.shown(), sink.shown());
        self.said.replace(moving.speaks().then(said));
        Ok(arrived)
    }
}

/// Writes the digest to `digestfile`, if there is one.
fn told(digestfile: Option<&Path>, arrived: &Descriptor) -> Result<(), Failure> {
    let Some(path) = digestfile else { return Ok(()) };
    let fail = |error| Failure::work(format!("cannot write `{}`", path.display())).because(&error);
    write_whole(path, &mut |out| out.write_all(arrived.digest.to_string().as_bytes()).map_err(fail))
}
