//! Writes the outputs of a build. Files are written atomically.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use dram_build::transfer::{self, CopyOptions, ImageSelection, StoreSource};
use dram_build::{BuildEvent, BuiltImage, CancelToken, LayerProvider, Snapshot};
use dram_image::{ImageConfig, Reference};
use dram_store::Store;

use super::{BuildOutput, FileOrStdout, ImageDestination, PushOptions};
use crate::ambient;
use crate::cmd::atomic_write::write_atomically;
use crate::failure::Failure;
use crate::image_resolver::ImageResolver;
use crate::progress::{BuildDisplay, TransferLines};

/// An image that was written as an output.
#[derive(Debug, Clone)]
pub(in crate::cmd::build) struct OutputImage {
    /// The descriptors of its manifest and config.
    pub(in crate::cmd::build) built: BuiltImage,
    /// Its names.
    pub(in crate::cmd::build) names: Vec<Reference>,
}

/// Writes the result of a build to its outputs.
pub(in crate::cmd::build) struct OutputWriter<'a> {
    pub(in crate::cmd::build) layers: &'a LayerProvider<'a>,
    pub(in crate::cmd::build) snapshot: &'a Snapshot,
    pub(in crate::cmd::build) config: &'a ImageConfig,
    /// The resolver of the base images, with the registries.
    pub(in crate::cmd::build) images: &'a ImageResolver<'a>,
    pub(in crate::cmd::build) progress: &'a Arc<BuildDisplay>,
    pub(in crate::cmd::build) cancel: &'a CancelToken,
}

impl OutputWriter<'_> {
    /// Writes `output`. Returns the image, if it is one.
    pub(in crate::cmd::build) fn write(&self, output: &BuildOutput) -> Result<Option<OutputImage>, Failure> {
        match output {
            BuildOutput::Nothing => Ok(None),
            BuildOutput::Local { dest, time } => {
                dram_build::export_dir(self.layers, self.snapshot, dest, *time)?;
                Ok(None)
            }
            BuildOutput::Tar { dest, time } => {
                let (layers, snapshot) = (self.layers, self.snapshot);
                write_to_dest(dest, &mut |out, shown| {
                    Ok(dram_build::export_tar(layers, snapshot, *time, out, shown)?)
                })?;
                Ok(None)
            }
            BuildOutput::Image { options: how, names, destination: goal, push } => {
                let tell = |event: BuildEvent| self.progress.show_event(event);
                let sealed = dram_build::write_image(self.layers, self.snapshot, self.config.clone(), how, &tell)?;
                // A registry may have the blobs of the base image: for an image that only goes there, none is fetched
                // into the store.
                if push.is_none() || *goal != ImageDestination::StoreUnnamed {
                    self.layers.fetch_blobs(&self.snapshot.layers)?;
                }
                deliver_image(self.layers.store(), &sealed, names, goal)?;
                for name in push.iter().flat_map(|_| names) {
                    self.push_image(&sealed, name, push.unwrap_or_default())?;
                }
                Ok(Some(OutputImage { built: sealed, names: names.clone() }))
            }
        }
    }

    fn push_image(&self, sealed: &BuiltImage, name: &Reference, how: PushOptions) -> Result<(), Failure> {
        let lazy = self.layers.lazy_blobs(&self.snapshot.layers);
        let source = StoreSource::with_lazy_blobs(self.layers.store(), lazy);
        let registries = self.images.registries();
        let sink = if how.insecure { registries.insecure_sink(name)? } else { registries.sink(name)? };
        let sink = if how.by_digest { sink.by_digest() } else { sink };
        let lines = TransferLines::default();
        let tell = |motion| match lines.format_progress(motion) {
            line if line.is_empty() => {}
            line => self.progress.print_line(&line),
        };
        let how =
            CopyOptions { selection: ImageSelection::All, referrers: false, cancel: self.cancel.clone(), tell: &tell };
        transfer::copy_image(&sealed.manifest, &source, &sink, &how)?;
        Ok(())
    }
}

fn deliver_image(
    store: &Store,
    sealed: &BuiltImage,
    names: &[Reference],
    goal: &ImageDestination,
) -> Result<(), Failure> {
    let images = [(sealed.manifest.clone(), names.to_vec())];
    match goal {
        ImageDestination::Store => Ok(store.refs().set(names, &sealed.manifest)?),
        ImageDestination::StoreUnnamed => Ok(()),
        ImageDestination::Layout(path) => Ok(dram_build::save_layout(store, &images, path)?),
        ImageDestination::Archive(dest, archive) => {
            let platform = ambient::platform();
            write_to_dest(dest, &mut |out, shown| {
                Ok(dram_build::save_archive(store, &images, *archive, &platform, (out, shown))?)
            })
        }
    }
}

/// Writes to `dest` with `write`.
fn write_to_dest(
    dest: &FileOrStdout,
    write: &mut dyn FnMut(&mut (dyn Write + Send), &Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match dest {
        FileOrStdout::Stdout => {
            let mut out = BufWriter::new(io::stdout());
            write(&mut out, Path::new("standard output"))?;
            out.flush().map_err(|error| Failure::work("cannot write standard output").because(&error))
        }
        FileOrStdout::File(path) => write_atomically(path, &mut |out| write(out, path)),
    }
}
