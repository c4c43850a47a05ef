//! The services that the command gives to a build: images, registries and files.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use dram_build::request::{
    BuildFailure, FileOrStdout, InputError, InputFinder, OutputFileWriter, PushOptions, RegistryConnector,
    WriteContents,
};
use dram_build::transfer::{ImageSink, ImageSource, TransferError};
use dram_build::{Image, ResolvedInput};
use dram_image::{Descriptor, ImagePlatform, Reference};
use dram_store::Store;

use super::remote_context::ContextFetcher;
use super::resolve_inputs::resolve_named_context;
use crate::cli::PullPolicy;
use crate::cmd::atomic_write::write_atomically;
use crate::failure::Failure;
use crate::image_lookup;
use crate::image_resolver::ImageResolver;
use crate::registry_access::RegistryAccess;

/// Finds images in the store and, as the pull policy says, in registries; fetches named contexts.
pub(super) struct CommandInputs<'a> {
    pub(super) store: &'a Store,
    pub(super) images: &'a ImageResolver<'a>,
    pub(super) bring: &'a ContextFetcher<'a>,
}

impl InputFinder for CommandInputs<'_> {
    fn find_image(&self, name: &str, platform: &ImagePlatform) -> Result<Option<Image>, InputError> {
        Ok(self.images.find(name, platform)?)
    }

    fn prepare_images(&self, wanted: &[(String, ImagePlatform)]) {
        self.images.prepare(wanted);
    }

    fn unknown_image(&self, name: &str) -> Result<InputError, InputError> {
        Ok(image_lookup::unknown_image(self.store, name)?.into())
    }

    fn resolve_context(&self, value: &str) -> Result<ResolvedInput, InputError> {
        Ok(resolve_named_context(self.store, self.bring, value)?)
    }

    fn name_complete_images(&self) -> Result<(), InputError> {
        Ok(self.images.name_complete_images()?)
    }
}

/// Opens registries. With `--pull=never`, none is read.
pub(super) struct RegistryPolicy {
    pub(super) registries: RegistryAccess,
    pub(super) pull: PullPolicy,
}

impl RegistryConnector for RegistryPolicy {
    fn open_source(
        &self,
        name: &Reference,
        insecure: bool,
    ) -> Result<(Box<dyn ImageSource>, Descriptor), BuildFailure> {
        let (source, root) = match (self.pull, insecure) {
            (PullPolicy::Never, _) => {
                return Err(InputError::work(format!("the store has no image `{}`", name.short())).into());
            }
            (PullPolicy::Always | PullPolicy::Missing, true) => self.registries.insecure_source(name)?,
            (PullPolicy::Always | PullPolicy::Missing, false) => self.registries.source(name)?,
        };
        Ok((Box::new(source), root))
    }

    fn open_sink(&self, name: &Reference, options: PushOptions) -> Result<Box<dyn ImageSink>, TransferError> {
        let PushOptions { by_digest, insecure } = options;
        let sink = if insecure { self.registries.insecure_sink(name)? } else { self.registries.sink(name)? };
        Ok(Box::new(if by_digest { sink.by_digest() } else { sink }))
    }
}

/// Writes outputs to files and to standard output.
pub(super) struct OutputFiles;

impl OutputFileWriter for OutputFiles {
    fn write_output(&self, dest: &FileOrStdout, write: &mut WriteContents<'_>) -> Result<(), BuildFailure> {
        let mut cause = None;
        let written = write_to_dest(dest, &mut |out, shown| {
            write(out, shown).map_err(|failure| {
                // The caller gets this error itself.
                let message = failure.to_string();
                cause = Some(failure);
                Failure::work(message)
            })
        });
        match (cause, written) {
            (Some(cause), _) => Err(cause),
            (None, written) => Ok(written.map_err(InputError::from)?),
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
