//! The command line of the commands that maintain the store: `prune`, `df` and `fsck`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Remove all cached steps and all unpacked layers, too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Remove cached steps, layers and downloaded files that were not used for this long: 12h, 7d, 2w
    #[arg(long, value_name = "SPAN")]
    pub(crate) older_than: Option<String>,
    /// The same in Docker's form: `until=24h`
    #[arg(long, value_name = "until=SPAN", conflicts_with = "older_than")]
    pub(crate) filter: Option<String>,
    /// Evict the least recently used data, cache mounts too, until the store takes at most this: 500m, 20g; images with
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
    /// Repair what can be repaired: damaged data is removed or made again, names of missing images are removed, and
    /// unknown files are moved to `lost/` in the store
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
