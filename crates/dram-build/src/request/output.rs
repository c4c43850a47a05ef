//! The outputs of a build: their destinations and forms.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dram_image::{DocumentWriteError, Reference};

use crate::{ArchiveFormat, ImageOptions, SharedCaches, Snapshot};

/// One output of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildOutput {
    /// An image.
    Image {
        /// The options of writing the image.
        options: Box<ImageOptions>,
        /// Its names.
        names: Vec<Reference>,
        /// Its destination.
        destination: ImageDestination,
        /// The options of pushing it to its names, if it is pushed.
        push: Option<PushOptions>,
    },
    /// The files, into a directory.
    Local {
        /// The directory.
        dest: PathBuf,
        /// The time that they get, in seconds since 1970; without one they keep theirs.
        time: Option<i64>,
    },
    /// The files, as a tar.
    Tar {
        /// The file.
        dest: FileOrStdout,
        /// The time that they get, in seconds since 1970; without one they keep theirs.
        time: Option<i64>,
    },
    /// Nothing: the steps are executed and cached.
    Nothing,
}

/// The options of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushOptions {
    /// Without its tags.
    pub by_digest: bool,
    /// Over plain HTTP, or TLS with an untrusted certificate, if the registry has nothing better.
    pub insecure: bool,
}

/// The destination of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageDestination {
    /// Into the store, with its names.
    Store,
    /// Into the store, without a name.
    StoreUnnamed,
    /// Into an archive of the given kind.
    Archive(FileOrStdout, ArchiveFormat),
    /// Into an OCI layout.
    Layout(PathBuf),
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOrStdout {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl BuildOutput {
    /// Returns true if it goes to standard output.
    pub fn is_stdout(&self) -> bool {
        match self {
            BuildOutput::Image { destination: ImageDestination::Archive(dest, _), .. }
            | BuildOutput::Tar { dest, .. } => *dest == FileOrStdout::Stdout,
            BuildOutput::Image {
                destination: ImageDestination::Store | ImageDestination::StoreUnnamed | ImageDestination::Layout(_),
                ..
            }
            | BuildOutput::Local { .. }
            | BuildOutput::Nothing => false,
        }
    }

    /// Returns the same output, but with a cache of `snapshot` in the image; `None` if it is no image.
    ///
    /// # Errors
    /// Returns an error if the cache is larger than what is read.
    pub(crate) fn with_cache(
        &self,
        shared: &SharedCaches<'_>,
        snapshot: &Snapshot,
    ) -> Result<Option<BuildOutput>, DocumentWriteError> {
        let mut output = self.clone();
        match &mut output {
            BuildOutput::Image { options, .. } => {
                let (name, value) = shared.inline_annotation(snapshot, options)?;
                options.annotations.insert(name, value);
                Ok(Some(output))
            }
            BuildOutput::Local { .. } | BuildOutput::Tar { .. } | BuildOutput::Nothing => Ok(None),
        }
    }

    /// Returns the destination outside the store, for messages.
    pub fn destination(&self) -> Option<String> {
        let file = |dest: &FileOrStdout| match dest {
            FileOrStdout::Stdout => "standard output".to_owned(),
            FileOrStdout::File(path) => path.display().to_string(),
        };
        match self {
            BuildOutput::Image { push: Some(_), names, .. } => {
                let hosts: BTreeSet<&str> = names.iter().map(Reference::host).collect();
                Some(hosts.into_iter().collect::<Vec<_>>().join(" and "))
            }
            BuildOutput::Image { destination: ImageDestination::Store | ImageDestination::StoreUnnamed, .. }
            | BuildOutput::Nothing => None,
            BuildOutput::Image { destination: ImageDestination::Layout(path), .. }
            | BuildOutput::Local { dest: path, .. } => Some(path.display().to_string()),
            BuildOutput::Image { destination: ImageDestination::Archive(dest, _), .. }
            | BuildOutput::Tar { dest, .. } => Some(file(dest)),
        }
    }
}
