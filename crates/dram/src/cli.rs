//! The command line. The texts of `--help` are written here and in the modules below, and nowhere else.

#![allow(rustdoc::broken_intra_doc_links, reason = "the texts of --help are no Markdown, and `[:TAG]` is no link")]

mod build;
#[cfg(test)]
mod help_page;
mod store;
mod transfer;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use build::{BuildCommandArgs, LegacyBuildArgs};
pub(crate) use store::{DfArgs, FsckArgs, PruneArgs};
pub(crate) use transfer::{CopyArgs, LoginArgs, LogoutArgs, PullArgs, PullPolicy, PushArgs};

/// Assembles OTP releases, builds Dockerfiles into small OCI images, runs and moves them: no daemon, root or not
#[derive(Debug, Parser)]
#[command(name = "dram", version, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Cli {
    /// Where images and cached steps are kept [default: $DRAM_STORE, or a directory of the user's]
    #[arg(long, value_name = "DIR", global = true, help_heading = "For every command")]
    pub(crate) store: Option<PathBuf>,
    /// Change a limit for foreign archives: entries, depth, header, size, expansion or paths [default: $DRAM_LIMITS,
    /// or entries=2000000,depth=256,header=1m,size=256g,expansion=200,paths=32m]
    #[arg(long, value_name = "NAME=NUMBER", global = true, help_heading = "For every command")]
    pub(crate) limit: Vec<String>,
    /// The most that the store may take, as `20g`, or `none`: least recently used data is evicted, but no image with a
    /// name [default: $DRAM_MAX_SIZE, or 10 GB or a tenth of the disk, whichever is more]
    #[arg(long, value_name = "SIZE", global = true, help_heading = "For every command")]
    pub(crate) max_size: Option<String>,
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Assemble a self-contained release of a Mix or rebar3 project
    Release(ReleaseArgs),
    /// Build an image from a Dockerfile
    Build(Box<BuildCommandArgs>),
    /// List the images in the store
    Images(ImagesArgs),
    /// Show the history of an image: the instructions that made its layers
    History(HistoryArgs),
    /// Show an image's manifest and configuration as JSON
    Inspect(InspectArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Make an image of a single layer: some systems take only so many
    Squash(TagArgs),
    /// Remove names of images; `dram prune` then frees the space
    #[command(alias = "rmi")]
    Rm(RmArgs),
    /// Make an image from a root file system in a tar
    Import(ImportArgs),
    /// Write images to an archive or an OCI layout
    Save(SaveArgs),
    /// Read images from an archive or an OCI layout
    Load(LoadArgs),
    /// Pull images from their registries into the store
    Pull(PullArgs),
    /// Push an image to a registry, or to an engine
    Push(PushArgs),
    /// Store the credentials for a registry
    Login(LoginArgs),
    /// Remove the credentials for a registry
    Logout(LogoutArgs),
    /// Copy an image between registries, the store, layouts and archives, or into an engine
    Copy(CopyArgs),
    /// Run a command in a new container of an image
    Run(RunArgs),
    /// Explain why a step of the last build was executed
    Why(WhyArgs),
    /// Open a shell in the file system that the last failed command left
    Shell(ShellArgs),
    /// List, export, import and remove cache mounts
    Cache(CacheArgs),
    /// Remove data that no image and no cached step needs, and what the last failed command left; cache mounts stay
    Prune(PruneArgs),
    /// Show the disk usage of the store
    Df(DfArgs),
    /// Verify the whole store, and report what is damaged; the exit code is 1 if anything is
    Fsck(FsckArgs),
    /// Show which features this machine has, and how to get those that it lacks
    Doctor,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The project's directory, with `mix.exs` or `rebar.config`
    #[arg(value_name = "PROJECT", default_value = ".")]
    pub(crate) project: PathBuf,
    /// The release, where the project has several; with --from, its name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The environment to build: MIX_ENV, or a profile of rebar3 [default: $MIX_ENV, or prod]
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Option<String>,
    /// The release's version, instead of the project's
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// Where the release goes [default: _build/ENV/rel/NAME in the project]; its archive is written beside it
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Write no archive
    #[arg(long)]
    pub(crate) no_tar: bool,
    /// Replace a release that another tool wrote
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Include the shared libraries, so that it runs on any Linux, and in an empty image
    #[arg(long, overrides_with = "no_portable")]
    pub(crate) portable: bool,
    /// Use the shared libraries of the system that it runs on
    #[arg(long)]
    pub(crate) no_portable: bool,
    /// When modules are loaded
    #[arg(long, value_enum)]
    pub(crate) mode: Option<LoadMode>,
    /// Make a release with a relup, to which a running system of an older version can be upgraded
    #[arg(long)]
    pub(crate) upgrade: bool,
    /// Assemble from these directories of compiled modules, without Mix or rebar3; with --upgrade, the one VERSION to
    /// upgrade from [default: the newest other version at the destination]
    #[arg(long, value_name = "EBIN_DIR", num_args = 1..)]
    pub(crate) from: Vec<PathBuf>,
    /// Where Erlang is, for --from [default: where `erl` on the PATH is]
    #[arg(long, value_name = "DIR", requires = "from")]
    pub(crate) otp: Option<PathBuf>,
    /// Write no release; print what it would need from the system that it runs on
    #[arg(long)]
    pub(crate) requires: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// When a release's modules are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadMode {
    /// All of them, before anything starts
    Embedded,
    /// Each when it is first called
    Interactive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum NetworkMode {
    /// The host's
    #[default]
    #[value(alias = "default")]
    Host,
    /// Nothing but a loopback device
    None,
}

/// The value of `--check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckMode {
    /// Build
    False,
    /// Check; the exit code is that of BuildKit's rules
    True,
    /// Check; the exit code is that of all rules
    Advice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, `plain` elsewhere
    #[default]
    Auto,
    /// Lines that are redrawn
    Tty,
    /// One line after the other
    Plain,
    /// One JSON document after the other, as BuildKit writes them
    Rawjson,
    /// Nothing but the image's digest
    Quiet,
}

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only the ids
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Do not cut ids and digests
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Accepted for those who are used to it: all images are listed
    #[arg(short, long, hide = true)]
    pub(crate) all: bool,
    /// Accepted for those who are used to it: digests are always shown
    #[arg(long, hide = true)]
    pub(crate) digests: bool,
    /// Only the images of this name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Do not cut long instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// The platform, of an image that is for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// The image
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Show the image for this platform, of an image that is for several [default: this machine's, and a list]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// The image
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The image
    pub(crate) image: String,
    /// Its new name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Remove all names of an image that is given by its id or digest
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Accepted for those who are used to it: `dram prune` deletes what no name leads to
    #[arg(long, hide = true)]
    pub(crate) no_prune: bool,
    /// The names, or the ids of images that have one name
    #[arg(required = true, value_name = "NAME[:TAG]")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The tar: plain, gzip, xz, zstd or bzip2; `-` for standard input
    #[arg(value_name = "ROOTFS.tar")]
    pub(crate) rootfs: PathBuf,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The archive; a directory, or a name ending in `/`, becomes an OCI layout [default: standard output]
    #[arg(short, long, value_name = "FILE|DIR", default_value = "-", hide_default_value = true)]
    pub(crate) output: PathBuf,
    /// Only the image for this platform, of an image that is for several [default: all platforms]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Name the image, whatever the source calls it
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Option<String>,
    /// Keep the images for all platforms, with the index
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// The platform, of an image that is for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// The same as FILE, in Docker's words
    #[arg(short, long, value_name = "FILE", conflicts_with = "source")]
    pub(crate) input: Option<PathBuf>,
    /// An OCI archive, an OCI layout, or what `docker save` wrote [default: standard input]
    #[arg(value_name = "FILE|DIR")]
    pub(crate) source: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Set an environment variable; without `=`, to the environment's value
    #[arg(short, long, value_name = "K=V")]
    pub(crate) env: Vec<String>,
    /// Bind mount a file or directory of the host
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<String>,
    /// The directory to start in
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// The user, and maybe group, to run as: names or ids
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Pass standard input on
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Run this instead of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// The network that the command sees
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: NetworkMode,
    /// When to pull the image: `always`, when it is `missing` in the store, or `never`
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub(crate) pull: PullPolicy,
    /// The platform, of an image that is for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// A resource limit, as `nofile=1024:4096`
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// The size of /dev/shm, as `128m` [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// A port that the command listens on: it has the network of this machine, so this is only verified
    #[arg(short, long, hide = true, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    #[command(flatten)]
    pub(crate) accepted: AcceptedRunArgs,
    /// The image
    pub(crate) image: String,
    /// The command, instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// Options that scripts give to `docker run` and that change nothing here.
#[derive(Debug, Args)]
pub(crate) struct AcceptedRunArgs {
    /// A container never outlives its command
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    /// The process 1 of a container is one of dram's, which reaps orphans
    #[arg(long, hide = true)]
    pub(crate) init: bool,
    /// No other command refers to a container
    #[arg(long, hide = true)]
    pub(crate) name: Option<String>,
    #[arg(short, long, hide = true)]
    pub(crate) label: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) expose: Vec<String>,
    #[arg(short = 'P', long, hide = true)]
    pub(crate) publish_all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The Dockerfile [default: the one that was last built here, or else anywhere]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// One step: a line of the Dockerfile, a stage and a number, or a part of its text [default: all]
    #[arg(value_name = "STEP")]
    pub(crate) step: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// Start in the environment of the last failed RUN: its files, variables, user, directory and mounts
    #[arg(long)]
    pub(crate) failed: bool,
    /// A secret of the failed command, to be given again: secrets are not stored
    #[arg(long, value_name = "id=ID[,src=FILE|env=NAME]")]
    pub(crate) secret: Vec<String>,
    /// An ssh agent of the failed command, to be given again
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// The command, instead of a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the caches
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write caches into one file, to be imported on another machine
    Export {
        /// The file, `-` for standard output; compressed when it ends in .gz or .zst
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// The caches, by id or key [default: all]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Import caches from such a file; they replace those of the same key
    Import {
        /// The file, `-` for standard input
        file: PathBuf,
    },
    /// Remove caches that are not in use
    Prune(CachePruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CachePruneArgs {
    /// The caches, by id or key
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All of them
    #[arg(short, long, conflicts_with_all = ["ids", "older_than", "keep_size"])]
    pub(crate) all: bool,
    /// Those that were not used for this long: 12h, 7d, 2w
    #[arg(long, value_name = "SPAN")]
    pub(crate) older_than: Option<String>,
    /// The least recently used, until the others take at most this: 500m, 2g
    #[arg(long, value_name = "SIZE", alias = "max-used-space")]
    pub(crate) keep_size: Option<String>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}
