//! The options of a build.

use std::collections::BTreeSet;
use std::time::Duration;

use dram_sandbox::JailNetwork;
use dram_store::Store;

use crate::{BuildContext, BuildId, CancelToken, CommandOptions, Executor, LayerProvider, RemoteFetcher};

/// The options of a build.
#[derive(Debug)]
pub struct BuildOptions<'a> {
    /// The provider of layers: the store, the base images and the shared caches.
    pub layers: &'a LayerProvider<'a>,
    /// The executor of steps.
    pub executor: &'a dyn Executor,
    /// The build context.
    pub context: &'a BuildContext,
    /// True if the step cache is used.
    pub use_cache: bool,
    /// Indexes of stages that do not use the step cache (`--no-cache-filter`).
    pub no_cache_stages: BTreeSet<usize>,
    /// The default network of commands.
    pub network: JailNetwork,
    /// The identity of this build, to find the journal of the last one.
    pub build_id: BuildId,
    /// Returns the time since a fixed moment before the build.
    pub clock: fn() -> Duration,
    /// Returns the time of day, in seconds since 1970 and nanoseconds.
    pub wall_clock: fn() -> (i64, u32),
    /// The time that all files of the result get, in seconds since 1970, if one was requested. With it, results of shared
    /// caches without a time are used, and directories that a step makes have that time.
    pub time: Option<i64>,
    /// The options of the command line for commands.
    pub command_options: CommandOptions,
    /// The fetcher for files and repositories on the network.
    pub remotes: &'a dyn RemoteFetcher,
    /// Cancels the build.
    pub cancel: CancelToken,
}

impl<'a> BuildOptions<'a> {
    /// Returns the store.
    pub(crate) fn store(&self) -> &'a Store {
        self.layers.store()
    }
}
