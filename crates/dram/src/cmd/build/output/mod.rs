//! `--output`: the destination and the form of the result of a build.

mod parse;
mod write;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dram_build::{Sealing, Shared, Snapshot};
use dram_image::Reference;

pub(super) use self::parse::{Asked, compress, outputs};
pub(super) use self::write::{Made, Outlet};

/// One output of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// An image.
    Image {
        /// The options of writing the image.
        how: Box<Sealing>,
        /// Its names.
        names: Vec<Reference>,
        /// Its destination.
        to: Goal,
        /// The options of pushing it to its names, if it is pushed.
        push: Option<Push>,
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
        dest: Dest,
        /// The time that they get, in seconds since 1970.
        time: i64,
    },
    /// Nothing: the steps are executed and cached.
    Nothing,
}

/// The options of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Push {
    /// Without its tags.
    pub(super) by_digest: bool,
    /// Over plain HTTP, or TLS with an untrusted certificate, if the registry has nothing better.
    pub(super) insecure: bool,
}

/// The destination of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// Into the store, with its names.
    Store,
    /// Into the store, without a name.
    Nameless,
    /// Into an archive of the given kind.
    Archive(Dest, dram_build::Archive),
    /// Into an OCI layout.
    Layout(PathBuf),
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dest {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl Output {
    /// Returns true if it goes to standard output.
    pub(super) fn is_stdout(&self) -> bool {
        match self {
            Output::Image { to: Goal::Archive(dest, _), .. } | Output::Tar { dest, .. } => *dest == Dest::Stdout,
            Output::Image { to: Goal::Store | Goal::Nameless | Goal::Layout(_), .. }
            | Output::Local { .. }
            | Output::Nothing => false,
        }
    }

    /// The same output, but with a cache of `snapshot` in the image; `None` if it is no image.
    pub(super) fn with_cache(&self, shared: &Shared<'_>, snapshot: &Snapshot) -> Option<Output> {
        let mut output = self.clone();
        match &mut output {
            Output::Image { how, .. } => {
                let (name, value) = shared.inline(snapshot, how);
                how.annotations.insert(name, value);
                Some(output)
            }
            Output::Local { .. } | Output::Tar { .. } | Output::Nothing => None,
        }
    }

    /// The destination outside the store, for messages.
    pub(super) fn place(&self) -> Option<String> {
        let file = |dest: &Dest| match dest {
            Dest::Stdout => "standard output".to_owned(),
            Dest::File(path) => path.display().to_string(),
        };
        match self {
            Output::Image { push: Some(_), names, .. } => {
                let hosts: BTreeSet<&str> = names.iter().map(Reference::host).collect();
                Some(hosts.into_iter().collect::<Vec<_>>().join(" and "))
            }
            Output::Image { to: Goal::Store | Goal::Nameless, .. } | Output::Nothing => None,
            Output::Image { to: Goal::Layout(path), .. } | Output::Local { dest: path, .. } => {
                Some(path.display().to_string())
            }
            Output::Image { to: Goal::Archive(dest, _), .. } | Output::Tar { dest, .. } => Some(file(dest)),
        }
    }
}
