//! `dram pull`, `dram push`, `dram copy`, `dram login`, `dram logout`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// When an image is pulled from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PullPolicy {
    /// Always; an image that did not change is not fetched again
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
pub(crate) struct PullArgs {
    /// Keep the images for all platforms, with the index
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// The platform, of an image that is for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) shown: ProgressArgs,
    /// The images, as `debian:12` or `registry.example/team/app@sha256:…`
    #[arg(required = true, value_name = "NAME[:TAG]")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Only the image for this platform, of an image that is for several [default: all platforms]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Write the digest of what was pushed to a file
    #[arg(long, value_name = "FILE", alias = "digest-file")]
    pub(crate) digestfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shown: ProgressArgs,
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) image: String,
    /// Where it goes: a name in a registry, docker-daemon:NAME, or any address that `dram copy` takes [default: where
    /// its name says]
    #[arg(value_name = "DEST")]
    pub(crate) dest: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Copy the images for all platforms, with the index
    #[arg(short, long, visible_alias = "all-platforms", conflicts_with = "platform")]
    pub(crate) all: bool,
    /// The platform, of an image that is for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Copy the referrers of the image too: signatures, SBOMs
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Write the digest of what arrived to a file
    #[arg(long, value_name = "FILE", alias = "digest-file")]
    pub(crate) digestfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shown: ProgressArgs,
    /// Where it is: docker://NAME, store:NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME]
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// Where it goes: one of these, docker-daemon:NAME, or containers-storage:NAME
    #[arg(value_name = "DST")]
    pub(crate) dest: String,
}

/// What is shown of a transfer.
#[derive(Debug, Args)]
pub(crate) struct ProgressArgs {
    /// How to show the progress
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: super::ProgressMode,
    /// Print nothing but the result
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl ProgressArgs {
    /// The progress mode, with `--quiet` taken into account.
    pub(crate) fn progress_mode(&self) -> super::ProgressMode {
        if self.quiet { super::ProgressMode::Quiet } else { self.progress }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
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
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "HOST", default_value = "docker.io")]
    pub(crate) host: String,
}
