//! `dram build`. Every option of `docker buildx build` is known here; options that make no sense without a daemon are
//! hidden, and are ignored or refused with an explanation.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{NetworkMode, ProgressMode};

#[derive(Debug, Args)]
pub(crate) struct BuildCommandArgs {
    /// The Dockerfile, `-` for standard input, or a URL [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "What is built")]
    pub(crate) file: Option<PathBuf>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE", help_heading = "What is built")]
    pub(crate) target: Option<String>,
    /// The platform to build for, as `linux/arm64` [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", help_heading = "What is built")]
    pub(crate) platform: Vec<String>,
    /// A value for an ARG; without `=`, the environment's
    #[arg(long, value_name = "K=V", help_heading = "What is built")]
    pub(crate) build_arg: Vec<String>,
    /// What a name after FROM or --from stands for: a directory, a URL, docker-image://NAME, oci-layout://DIR[:TAG]
    #[arg(long, value_name = "NAME=VALUE", help_heading = "What is built")]
    pub(crate) build_context: Vec<String>,
    /// When to pull the images that FROM and --from name: `always` (if there is a newer one), when the image is
    /// `missing` in the store, or `never` [default: missing]
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_value_t, default_missing_value = "always",
        hide_default_value = true, hide_possible_values = true, value_name = "POLICY", help_heading = "What is built")]
    pub(crate) pull: super::PullPolicy,

    /// Name the image; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]", help_heading = "What comes out")]
    pub(crate) tag: Vec<String>,
    /// Where the result goes: type=image|docker|oci|registry|tar|local,dest=…; or a directory, or `-` [default: the
    /// store]
    #[arg(short, long, value_name = "OUTPUT", help_heading = "What comes out")]
    pub(crate) output: Vec<String>,
    /// Push the image to where its names say: --output type=registry
    #[arg(long, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, value_name = "BOOL",
        hide_possible_values = true, help_heading = "What comes out")]
    pub(crate) push: bool,
    /// A label of the image
    #[arg(long, value_name = "K=V", help_heading = "What comes out")]
    pub(crate) label: Vec<String>,
    /// An annotation of the image's manifest
    #[arg(long, value_name = "[TYPE:]K=V", help_heading = "What comes out")]
    pub(crate) annotation: Vec<String>,
    /// The time of all files, and of the image: seconds since 1970, or `git`, the time of the context's commit [default: the
    /// environment's SOURCE_DATE_EPOCH; else every file has its own]
    #[arg(long, value_name = "EPOCH|git", help_heading = "What comes out")]
    pub(crate) source_date_epoch: Option<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE", help_heading = "What comes out")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was made to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "What comes out")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Execute every step, even if its result is cached
    #[arg(long, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, value_name = "BOOL",
        hide_possible_values = true, help_heading = "How commands run")]
    pub(crate) no_cache: bool,
    /// Execute every step of this stage; may be given several times
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "How commands run")]
    pub(crate) no_cache_filter: Vec<String>,
    /// The network that commands see
    #[arg(long, value_enum, default_value_t, help_heading = "How commands run")]
    pub(crate) network: NetworkMode,
    /// A line for /etc/hosts; `host-gateway` stands for this machine
    #[arg(long, value_name = "HOST:IP", help_heading = "How commands run")]
    pub(crate) add_host: Vec<String>,
    /// The size of /dev/shm, as `128m` [default: 64m]
    #[arg(long, value_name = "SIZE", help_heading = "How commands run")]
    pub(crate) shm_size: Option<String>,
    /// A resource limit, as `nofile=1024:4096`
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "How commands run")]
    pub(crate) ulimit: Vec<String>,
    /// A value for `RUN --mount=type=secret`, from a file or an environment variable; it leaves no trace
    #[arg(long, value_name = "id=ID[,src=FILE|env=NAME]", help_heading = "How commands run")]
    pub(crate) secret: Vec<String>,
    /// An ssh agent for `RUN --mount=type=ssh`: the running one, or the one at that socket
    #[arg(long, value_name = "default|ID[=SOCKET]", help_heading = "How commands run")]
    pub(crate) ssh: Vec<String>,
    /// Allow a privilege that commands can ask for: security.insecure, network.host
    #[arg(long, value_name = "RIGHT", value_delimiter = ',', help_heading = "How commands run")]
    pub(crate) allow: Vec<String>,

    /// A shared cache to import steps from: NAME, or type=registry,ref=NAME | type=local,src=DIR
    #[arg(long, value_name = "CACHE", help_heading = "Shared caches")]
    pub(crate) cache_from: Vec<String>,
    /// Where to export such a cache: type=registry,ref=NAME | type=local,dest=DIR | type=inline; with mode=min|max
    #[arg(long, value_name = "CACHE", help_heading = "Shared caches")]
    pub(crate) cache_to: Vec<String>,

    /// How to show the progress
    #[arg(long, value_enum, default_value_t, help_heading = "What is shown")]
    pub(crate) progress: ProgressMode,
    /// Print nothing but the image's digest
    #[arg(short, long, help_heading = "What is shown")]
    pub(crate) quiet: bool,

    /// Do not build, but check the Dockerfile: --call=check. With `--check=advice` dram's own advice counts for the exit code
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_possible_values = true, value_name = "advice", conflicts_with = "call", help_heading = "Instead of building")]
    pub(crate) check: Option<super::CheckMode>,
    /// Do not build, but `check` the Dockerfile, or show the `outline` of the target or all `targets`
    #[arg(long, value_name = "METHOD[,format=json]", help_heading = "Instead of building")]
    pub(crate) call: Option<String>,
    /// Print what --check or --call says as JSON
    #[arg(long, help_heading = "Instead of building")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) legacy: LegacyBuildArgs,
    /// The build context, from which COPY copies: a directory, a URL, a Git repository, or `-`: a tar or a Dockerfile on standard input
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,
}

impl BuildCommandArgs {
    /// The progress mode, with `--quiet` taken into account.
    pub(crate) fn progress_mode(&self) -> ProgressMode {
        if self.quiet { ProgressMode::Quiet } else { self.progress }
    }
}

/// Options that scripts give to `docker build` and that mean little or nothing here.
#[derive(Debug, Args)]
pub(crate) struct LegacyBuildArgs {
    /// The image is in the store, where `dram run` finds it
    #[arg(long, hide = true, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true")]
    pub(crate) load: bool,
    #[arg(long, hide = true, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true")]
    pub(crate) squash: bool,
    /// Nothing of these is left behind anyway
    #[arg(long, hide = true, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true")]
    pub(crate) rm: bool,
    #[arg(long, hide = true, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true")]
    pub(crate) force_rm: bool,
    /// The context is not sent anywhere
    #[arg(long, hide = true, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true")]
    pub(crate) compress: bool,
    #[arg(long, hide = true, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true")]
    pub(crate) disable_content_trust: bool,
    /// There is no client whose debug messages could be shown
    #[arg(short = 'D', long, hide = true)]
    pub(crate) debug: bool,
    #[arg(long, hide = true)]
    pub(crate) builder: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) sbom: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) provenance: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) attest: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) cgroup_parent: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) isolation: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) security_opt: Vec<String>,
    #[arg(short, long, hide = true)]
    pub(crate) memory: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) memory_swap: Option<String>,
    #[arg(short, long, hide = true)]
    pub(crate) cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) cpu_period: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) cpu_quota: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) cpuset_mems: Option<String>,
}
