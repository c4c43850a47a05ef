//! The options of a build.

use std::collections::BTreeSet;
use std::time::Duration;

use dram_sandbox::Network;
use dram_store::Store;

use crate::container::Host;
use crate::{Cancel, Context, Given, Place, Remotes, Shared};

/// The options of a build.
#[derive(Debug)]
pub struct Options<'a> {
    /// The store.
    pub store: &'a Store,
    /// The build context.
    pub context: &'a Context,
    /// True if the step cache is used.
    pub use_memory: bool,
    /// Indexes of stages that do not use the step cache (`--no-cache-filter`).
    pub forgotten: BTreeSet<usize>,
    /// The default network of commands.
    pub network: Network,
    /// The settings of this machine that commands get.
    pub host: Host,
    /// The identity of this build, to find the journal of the last one.
    pub place: Place,
    /// Returns the time since a fixed moment before the build.
    pub clock: fn() -> Duration,
    /// The options of the command line for commands.
    pub given: Given,
    /// The fetcher for files and repositories on the network.
    pub remotes: &'a dyn Remotes,
    /// Caches that are shared with other machines.
    pub shared: &'a Shared<'a>,
    /// Cancels the build.
    pub cancel: Cancel,
}
