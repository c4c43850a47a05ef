//! Writes the outputs of a build. Files are written atomically.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use dram_build::transfer::{self, Copying, StoreSource, Which};
use dram_build::{Cancel, Event, Image, Sealed, Snapshot};
use dram_image::{ImageConfig, Reference};
use dram_store::Store;

use super::{Dest, Goal, Output, Push};
use crate::cmd::whole::write_whole;
use crate::failure::Failure;
use crate::progress::{Lines, Progress};
use crate::pulling::Images;

/// An image that was written as an output.
#[derive(Debug, Clone)]
pub(in crate::cmd::build) struct Made {
    /// The descriptors of its manifest and config.
    pub(in crate::cmd::build) sealed: Sealed,
    /// Its names.
    pub(in crate::cmd::build) names: Vec<Reference>,
}

/// Writes the result of a build to its outputs.
pub(in crate::cmd::build) struct Outlet<'a> {
    pub(in crate::cmd::build) store: &'a Store,
    pub(in crate::cmd::build) snapshot: &'a Snapshot,
    pub(in crate::cmd::build) config: &'a ImageConfig,
    /// The resolver of the base images, with the registries.
    pub(in crate::cmd::build) images: &'a Images<'a>,
    pub(in crate::cmd::build) progress: &'a Arc<Progress>,
    pub(in crate::cmd::build) cancel: &'a Cancel,
}

impl Outlet<'_> {
    /// Writes `output`. Returns the image, if it is one.
    pub(in crate::cmd::build) fn write(&self, output: &Output) -> Result<Option<Made>, Failure> {
        match output {
            Output::Nothing => Ok(None),
            Output::Local { dest, time } => {
                dram_build::export_dir(self.store, self.snapshot, dest, *time)?;
                Ok(None)
            }
            Output::Tar { dest, time } => {
                let (store, snapshot) = (self.store, self.snapshot);
                to(dest, &mut |out, shown| Ok(dram_build::export_tar(store, snapshot, *time, out, shown)?))?;
                Ok(None)
            }
            Output::Image { how, names, to: goal, push } => {
                let tell = |event: Event| self.progress.tell(event);
                let sealed = dram_build::seal(self.store, self.snapshot, self.config.clone(), how, &tell)?;
                // A registry may have the blobs of the base image: for an image that only goes there, none is fetched
                // into the store.
                if push.is_none() || *goal != Goal::Nameless {
                    self.snapshot.bring_blobs(self.store)?;
                }
                place(self.store, &sealed, names, goal)?;
                for name in push.iter().flat_map(|_| names) {
                    self.push(&sealed, name, push.unwrap_or_default())?;
                }
                Ok(Some(Made { sealed, names: names.clone() }))
            }
        }
    }

    fn push(&self, sealed: &Sealed, name: &Reference, how: Push) -> Result<(), Failure> {
        let far = self.snapshot.far().map(|(blob, far)| (blob.digest, far.clone())).collect();
        let source = StoreSource::with(self.store, far);
        let registries = self.images.registries();
        let sink = if how.insecure { registries.insecure_sink(name)? } else { registries.sink(name)? };
        let sink = if how.by_digest { sink.by_digest() } else { sink };
        let lines = Lines::default();
        let tell = |motion| match lines.line(motion) {
            line if line.is_empty() => {}
            line => self.progress.line(&line),
        };
        let how = Copying { which: Which::All, referrers: false, cancel: self.cancel.clone(), tell: &tell };
        transfer::copy(&sealed.manifest, &source, &sink, &how)?;
        Ok(())
    }
}

fn place(store: &Store, sealed: &Sealed, names: &[Reference], goal: &Goal) -> Result<(), Failure> {
    let images = || -> Result<_, Failure> { Ok([(Image::open(store, &sealed.manifest)?, names.to_vec())]) };
    match goal {
        Goal::Store => Ok(store.refs().set(names, &sealed.manifest)?),
        Goal::Nameless => Ok(()),
        Goal::Layout(path) => Ok(dram_build::save_layout(store, &images()?, path)?),
        Goal::Archive(dest, archive) => {
            let images = images()?;
            to(dest, &mut |out, shown| Ok(dram_build::save_archive(store, &images, *archive, out, shown)?))
        }
    }
}

/// Writes to `dest` with `write`.
fn to(
    dest: &Dest,
    write: &mut dyn FnMut(&mut (dyn Write + Send), &Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match dest {
        Dest::Stdout => {
            let mut out = BufWriter::new(io::stdout());
            write(&mut out, Path::new("standard output"))?;
            out.flush().map_err(|error| Failure::work("cannot write standard output").because(&error))
        }
        Dest::File(path) => write_whole(path, &mut |out| write(out, path)),
    }
}
