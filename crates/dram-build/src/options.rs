//! How to carry out a plan, and with what.

use std::collections::BTreeSet;
use std::time::Duration;

use dram_sandbox::Network;
use dram_store::Store;

use crate::container::Host;
use crate::{Cancel, Context, Given, Place, Remotes, Shared};

/// How to carry out a plan.
#[derive(Debug)]
pub struct Options<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// The build context.
    pub context: &'a Context,
    /// Whether remembered steps count.
    pub use_memory: bool,
    /// Places in the plan of stages whose remembered steps do not count.
    pub forgotten: BTreeSet<usize>,
    /// The network of commands.
    pub network: Network,
    /// What commands see of this machine.
    pub host: Host,
    /// What is built, to compare with the last time.
    pub place: Place,
    /// The time since some moment before the build.
    pub clock: fn() -> Duration,
    /// What commands get from the command line.
    pub given: Given,
    /// Files and repositories on the network.
    pub remotes: &'a dyn Remotes,
    /// Caches that other machines share.
    pub shared: &'a Shared<'a>,
    /// What stops the build.
    pub cancel: Cancel,
}
