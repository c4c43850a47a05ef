//! How to carry out a plan, and with what.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dram_dockerfile::ignore::Ignore;
use dram_image::TreePath;
use dram_sandbox::Network;
use dram_store::{IgnoreFn, Store, Verdict};

use crate::container::Host;
use crate::{Cancel, Given, Place, Remotes, Shared};

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

/// The files that `COPY` takes.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory, and what is ignored in it.
    Dir {
        /// The directory.
        path: PathBuf,
        /// The ignore list, if there is one.
        ignore: Option<Arc<Ignore>>,
    },
}

/// The ignore list as the store asks for it.
pub(crate) fn verdicts(ignore: Option<Arc<Ignore>>) -> IgnoreFn {
    match ignore {
        None => Box::new(|_: &TreePath| Verdict::Keep),
        Some(ignore) => Box::new(move |path: &TreePath| {
            let path = String::from_utf8_lossy(path.as_bytes());
            match ignore.excludes(&path) {
                false => Verdict::Keep,
                true if ignore.may_prune(&path) => Verdict::Drop,
                true => Verdict::Look,
            }
        }),
    }
}
