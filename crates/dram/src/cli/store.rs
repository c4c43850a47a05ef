//! The command line of the commands that maintain the store: `prune`, `df` and `fsck`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Forget every remembered step, and remove all unpacked layers
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Forget steps, layers and files from the network that were not used for this long: 12h, 7d, 2w
    #[arg(long, value_name = "SPAN")]
    pub(crate) older_than: Option<String>,
    /// The same as docker says it: `until=24h`
    #[arg(long, value_name = "until=SPAN", conflicts_with = "older_than")]
    pub(crate) filter: Option<String>,
    /// Remove what was used the longest ago, caches too, until the store takes at most this: 500m, 20g; images with
    /// names stay
    #[arg(long, value_name = "SIZE", alias = "keep-storage")]
    pub(crate) max_used_space: Option<String>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Accepted for those who are used to it: nothing is asked
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// List images, layers, steps, caches and files one by one
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Mend what can be mended: what is damaged goes or is made again, names that lead to nothing go, and what nobody
    /// knows is moved to `lost/` in the store
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
