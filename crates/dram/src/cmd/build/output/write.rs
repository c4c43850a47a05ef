//! Outputs are written, each whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use dram_build::{Event, Image, Sealed, Snapshot};
use dram_image::{ImageConfig, Reference};
use dram_store::Store;

use super::{Dest, Goal, Output};
use crate::cmd::whole::write_whole;
use crate::failure::Failure;

/// An image that an output made.
#[derive(Debug, Clone)]
pub(in crate::cmd::build) struct Made {
    /// Its manifest and configuration.
    pub(in crate::cmd::build) sealed: Sealed,
    /// Its names.
    pub(in crate::cmd::build) names: Vec<Reference>,
}

/// Writes `output`. Returns the image that it made, if it is one.
pub(in crate::cmd::build) fn write(
    store: &Store,
    snapshot: &Snapshot,
    config: &ImageConfig,
    output: &Output,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Option<Made>, Failure> {
    match output {
        Output::Nothing => Ok(None),
        Output::Local { dest, time } => {
            dram_build::export_dir(store, snapshot, dest, *time)?;
            Ok(None)
        }
        Output::Tar { dest, time } => {
            to(dest, &mut |out, shown| Ok(dram_build::export_tar(store, snapshot, *time, out, shown)?))?;
            Ok(None)
        }
        Output::Image { how, names, to: goal } => {
            let sealed = dram_build::seal(store, snapshot, config.clone(), how, tell)?;
            place(store, &sealed, names, goal)?;
            Ok(Some(Made { sealed, names: names.clone() }))
        }
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

/// Has `write` write to `dest`.
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
