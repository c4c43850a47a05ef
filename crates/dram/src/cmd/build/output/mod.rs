//! `--output`: the destination and the form of the result of a build.

mod parse;
mod write;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dram_build::{ImageOptions, SharedCaches, Snapshot};
use dram_image::Reference;

pub(super) use self::parse::{OutputDefaults, parse_outputs, take_compression};
pub(super) use self::write::{OutputImage, OutputWriter};

/// One output of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BuildOutput {
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
        /// The time that they get, in seconds since 1970.
        time: Option<i64>,
    },
    /// The files, as a tar.
    Tar {
        /// The file.
        dest: FileOrStdout,
        /// The time that they get, in seconds since 1970.
        time: i64,
    },
    /// Nothing: the steps are executed and cached.
    Nothing,
}

/// The options of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PushOptions {
    /// Without its tags.
    pub(super) by_digest: bool,
    /// Over plain HTTP, or TLS with an untrusted certificate, if the registry has nothing better.
    pub(super) insecure: bool,
}

/// The destination of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageDestination {
    /// Into the store, with its names.
    Store,
    /// Into the store, without a name.
    StoreUnnamed,
    /// Into an archive of the given kind.
    Archive(FileOrStdout, dram_build::ArchiveFormat),
    /// Into an OCI layout.
    Layout(PathBuf),
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileOrStdout {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl BuildOutput {
    /// Returns true if it goes to standard output.
    pub(super) fn is_stdout(&self) -> bool {
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

    /// The same output, but with a cache of `snapshot` in the image; `None` if it is no image.
    pub(super) fn with_cache(&self, shared: &SharedCaches<'_>, snapshot: &Snapshot) -> Option<BuildOutput> {
        let mut output = self.clone();
        match &mut output {
            BuildOutput::Image { options: how, .. } => {
                let (name, value) = shared.inline_annotation(snapshot, how);
                how.annotations.insert(name, value);
                Some(output)
            }
            BuildOutput::Local { .. } | BuildOutput::Tar { .. } | BuildOutput::Nothing => None,
        }
    }

    /// The destination outside the store, for messages.
    pub(super) fn destination(&self) -> Option<String> {
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
