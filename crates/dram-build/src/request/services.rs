//! The services of a requested build: everything that this crate may not do itself.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use dram_image::{Descriptor, ImagePlatform, Reference};
use dram_sandbox::MissingHostSupport;
use dram_store::Store;

use super::{BuildFailure, FileOrStdout, InputError, PushOptions};
use crate::transfer::{ImageSink, ImageSource, TransferError};
use crate::{CancelToken, Executor, Image, RemoteFetcher, ResolvedInput};

/// The services of a build.
#[derive(Clone)]
pub struct BuildServices<'a> {
    /// The store.
    pub store: &'a Store,
    /// Finds images and named contexts.
    pub inputs: &'a dyn InputFinder,
    /// Opens repositories of registries.
    pub registries: &'a dyn RegistryConnector,
    /// Writes the files of outputs.
    pub files: &'a dyn OutputFileWriter,
    /// Fetches files and Git repositories for `ADD`.
    pub remotes: &'a dyn RemoteFetcher,
    /// Executes steps.
    pub executor: &'a dyn Executor,
    /// Returns the reasons why this machine cannot run commands, if it cannot.
    pub missing_support: &'a dyn Fn() -> Option<MissingHostSupport>,
    /// Returns the time since a fixed moment before the build.
    pub clock: fn() -> Duration,
    /// Returns the time of day, in seconds since 1970 and nanoseconds.
    pub wall_clock: fn() -> (i64, u32),
    /// Cancels the build.
    pub cancel: CancelToken,
}

impl fmt::Debug for BuildServices<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("BuildServices").finish_non_exhaustive()
    }
}

/// Finds the inputs that a Dockerfile names. The pull policy decides whether a registry is asked.
pub trait InputFinder {
    /// Returns the image called `name` for `platform`, or `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if it cannot be determined, or if the image cannot be pulled.
    fn find_image(&self, name: &str, platform: &ImagePlatform) -> Result<Option<Image>, InputError>;

    /// Prepares for [`InputFinder::find_image`] of all of these names and platforms, which may ask several registries at
    /// the same time. What cannot be found is reported when it is looked for.
    fn prepare_images(&self, wanted: &[(String, ImagePlatform)]) {
        let _ = wanted;
    }

    /// Returns the error for an image that is not found, with similar names as help.
    ///
    /// # Errors
    /// Returns an error if the names cannot be listed.
    fn unknown_image(&self, name: &str) -> Result<InputError, InputError>;

    /// Resolves the value of a named context. It is called once for each value.
    ///
    /// # Errors
    /// Returns an error if it is of no known kind, or cannot be fetched.
    fn resolve_context(&self, value: &str) -> Result<ResolvedInput, InputError>;

    /// Gives names in the store to pulled images that are complete after the outputs were written.
    ///
    /// # Errors
    /// Returns an error if the names cannot be written.
    fn name_complete_images(&self) -> Result<(), InputError>;
}

/// Opens repositories of registries.
pub trait RegistryConnector {
    /// Opens a repository for reading. Returns it with the descriptor for which `name` stands there. With `insecure`,
    /// plain HTTP or an untrusted certificate is accepted if the registry has nothing better.
    ///
    /// # Errors
    /// Returns an error if the registry cannot be asked or has no such image.
    fn open_source(&self, name: &Reference, insecure: bool)
    -> Result<(Box<dyn ImageSource>, Descriptor), BuildFailure>;

    /// Opens a repository for writing.
    ///
    /// # Errors
    /// Returns an error if the registry cannot be asked.
    fn open_sink(&self, name: &Reference, options: PushOptions) -> Result<Box<dyn ImageSink>, TransferError>;
}

/// Writes the contents of an output to its writer. The path is the name for messages.
pub type WriteContents<'a> = dyn FnMut(&mut (dyn Write + Send), &Path) -> Result<(), BuildFailure> + 'a;

/// Writes the files of outputs.
pub trait OutputFileWriter {
    /// Calls `write` with a writer to `dest`. A file is only replaced when it is complete.
    ///
    /// # Errors
    /// Returns the error of `write`, or an error if the file cannot be written.
    fn write_output(&self, dest: &FileOrStdout, write: &mut WriteContents<'_>) -> Result<(), BuildFailure>;
}
