//! `dram copy`, `dram pull`, `dram push`: transfers images.

mod pull_push;
mod sink_address;
mod source_address;

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use dram_build::CancelToken;
use dram_build::transfer::{CopyOptions, ImageSelection, ImageSink, ImageSource, copy_image as move_image};
use dram_image::{Descriptor, ImagePlatform};
use dram_store::Store;

pub(super) use self::pull_push::{ensure_image, pull, push};
use self::sink_address::with_sink;
use self::source_address::with_source;
use super::atomic_write::write_atomically;
use super::print_stdout;
use crate::ambient::{self, AmbientContext};
use crate::failure::Failure;
use crate::format::escape_control;
use crate::image_address::ImageAddress;
use crate::progress::TransferDisplay;
use crate::registry_access::RegistryAccess;
use crate::{cli, report, signals};

/// The resources of transfers, each opened on first use.
struct TransferSession<'a> {
    ambient: &'a AmbientContext,
    cancel: CancelToken,
    // Dropped before the store in which it lies.
    temporary_store: OnceCell<Store>,
    store: OnceCell<Store>,
    registries: RegistryAccess,
}

impl<'a> TransferSession<'a> {
    fn new(ambient: &'a AmbientContext) -> Result<TransferSession<'a>, Failure> {
        let cancel = CancelToken::default();
        signals::cancel_on_signal(cancel.clone())?;
        let registries = RegistryAccess::new(cancel.clone());
        Ok(TransferSession { ambient, cancel, temporary_store: OnceCell::new(), store: OnceCell::new(), registries })
    }

    /// The access to registries.
    fn registries(&self) -> &RegistryAccess {
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
    fn temporary_store(&self) -> Result<&Store, Failure> {
        if self.temporary_store.get().is_none() {
            let store = self.store()?;
            store.require_writable()?;
            let _ = self.temporary_store.set(Store::open(&store.work_dir().temp_dir()?)?);
        }
        Ok(self.temporary_store.get().expect("opened above"))
    }
}

/// Copies an image from one address to another.
pub(super) fn copy(ambient: &AmbientContext, args: &cli::CopyArgs) -> Result<(), Failure> {
    let (source, dest) = (ImageAddress::parse(&args.source)?, ImageAddress::parse(&args.dest)?);
    let which = image_selection(args.platform.as_deref(), args.all)?;
    let world = TransferSession::new(ambient)?;
    let mut how = ImageTransfer::new(which, args.referrers, args.shown.progress_mode());
    how.shown = Some((args.source.clone(), args.dest.clone()));
    let arrived = with_source(&world, &source, &mut |source, root| {
        with_sink(&world, source, &dest, root, &how.which, &mut |sink| how.run(&world, root, source, sink))
    })?;
    how.print_summary();
    write_digest_file(args.digestfile.as_deref(), &arrived)?;
    print_stdout(&format!("{}\n", arrived.digest));
    Ok(())
}

/// The images of an index that are copied: those for all platforms if `all` is true and no platform is given, or else
/// the one for that platform or this machine's.
pub(super) fn image_selection(platform: Option<&str>, all: bool) -> Result<ImageSelection, Failure> {
    match (platform, all) {
        (None, true) => Ok(ImageSelection::All),
        (platform, _) => Ok(ImageSelection::Platform(parse_platform(platform)?)),
    }
}

/// Parses a platform; parts that are missing are this machine's.
pub(super) fn parse_platform(text: Option<&str>) -> Result<ImagePlatform, Failure> {
    let Some(text) = text else { return Ok(ambient::platform()) };
    let wrong =
        || Failure::usage(format!("`--platform {text}` is no platform")).help("as `linux/amd64`, `linux/arm/v7`");
    let parsed = dram_dockerfile::PlatformSpec::parse(text).ok_or_else(wrong)?;
    let own = ambient::platform();
    let or = |text: String, own: String| if text.is_empty() { own } else { text };
    let variant = Some(parsed.variant).filter(|variant| !variant.is_empty());
    Ok(ImagePlatform { os: or(parsed.os, own.os), architecture: or(parsed.architecture, own.architecture), variant })
}

/// The options of a transfer, and its summary.
struct ImageTransfer {
    which: ImageSelection,
    referrers: bool,
    progress_mode: cli::ProgressMode,
    /// Source and destination in the summary, if they are not called as the endpoints are.
    shown: Option<(String, String)>,
    /// The message to print when the transfer is complete.
    summary: RefCell<Option<String>>,
}

impl ImageTransfer {
    fn new(which: ImageSelection, referrers: bool, progress_mode: cli::ProgressMode) -> ImageTransfer {
        ImageTransfer { which, referrers, progress_mode, shown: None, summary: RefCell::default() }
    }

    /// Prints the summary. This comes last, because the receiver may refuse an image at the very end.
    fn print_summary(&self) {
        if let Some(said) = self.summary.take() {
            report::print_note(&said);
        }
    }

    fn run(
        &self,
        world: &TransferSession<'_>,
        root: &Descriptor,
        source: &dyn ImageSource,
        sink: &dyn ImageSink,
    ) -> Result<Descriptor, Failure> {
        let moving = TransferDisplay::new(self.progress_mode);
        let tell = |motion| moving.show_progress(motion);
        let how = CopyOptions {
            selection: self.which.clone(),
            referrers: self.referrers,
            cancel: world.cancel.clone(),
            tell: &tell,
        };
        let moved = move_image(root, source, sink, &how);
        let summary = moving.finish();
        let arrived = moved?;
        let names = || (source.display_name(), sink.display_name());
        let said = || {
            let (from, to) = self.shown.clone().unwrap_or_else(names);
            format!("copied {} to {}: {summary}", escape_control(&from), escape_control(&to))
        };
        self.summary.replace(moving.prints_notes().then(said));
        Ok(arrived)
    }
}

/// Writes the digest to `digestfile`, if there is one.
fn write_digest_file(digestfile: Option<&Path>, arrived: &Descriptor) -> Result<(), Failure> {
    let Some(path) = digestfile else { return Ok(()) };
    let fail = |error| Failure::work(format!("cannot write `{}`", path.display())).because(&error);
    write_atomically(path, &mut |out| out.write_all(arrived.digest.to_string().as_bytes()).map_err(fail))
}
