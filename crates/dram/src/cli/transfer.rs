//! `dram pull`, `dram push`, `dram copy`, `dram login`, `dram logout`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Pull {
    /// Always; what is here and still the same is taken
    #[value(alias = "true")]
    Always,
    /// When the store has none of that name
    #[default]
    #[value(alias = "false")]
    Missing,
    /// Never
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct PullImages {
    /// The platform, of an image that is for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) shown: Shown,
    /// The images, as `debian:12` or `registry.example/team/app@sha256:…`
    #[arg(required = true, value_name = "NAME[:TAG]")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Write the digest of what was pushed to a file
    #[arg(long, value_name = "FILE", alias = "digest-file")]
    pub(crate) digestfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shown: Shown,
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) image: String,
    /// Where it goes: a name in a registry, docker-daemon:NAME, or any address that `dram copy` takes [default: where
    /// its name says]
    #[arg(value_name = "DEST")]
    pub(crate) dest: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// Copy the images for all platforms, with the index
    #[arg(short, long, conflicts_with = "platform")]
    pub(crate) all: bool,
    /// The platform, of an image that is for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Copy what refers to the image too: signatures, lists of parts
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Write the digest of what arrived to a file
    #[arg(long, value_name = "FILE", alias = "digest-file")]
    pub(crate) digestfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shown: Shown,
    /// Where it is: docker://NAME, store:NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME]
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// Where it goes: one of these, docker-daemon:NAME, or containers-storage:NAME
    #[arg(value_name = "DST")]
    pub(crate) dest: String,
}

/// What is shown of a transfer.
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// How to show what happens
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: super::Progress,
    /// Print nothing but the result
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Shown {
    /// The progress mode, with `--quiet` taken into account.
    pub(crate) fn style(&self) -> super::Progress {
        if self.quiet { super::Progress::Quiet } else { self.progress }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The name [default: asked for]
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Read the password, or a token, from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The registry
    #[arg(value_name = "HOST", default_value = "docker.io")]
    pub(crate) host: String,
}

#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The registry
    #[arg(value_name = "HOST", default_value = "docker.io")]
    pub(crate) host: String,
}
