//! A command that failed, and what it left: somebody can look into it.

use std::path::{Path, PathBuf};

use dram_sandbox::{Ids, Jail, Network, ResourceLimit};
use dram_store::{Kept, LayerId, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::mounts::{self, InUse, Means, Sight};
use crate::container::{self, Host, Names, Place};
use crate::{BuildError, Given};

/// All that a command's world is made of, but for secrets and proxies. It can be written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Described {
    /// The step's key.
    pub(crate) key: String,
    /// The instruction.
    pub(crate) text: String,
    /// The layers below, lowest first.
    pub(crate) layers: Vec<LayerId>,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) cwd: String,
    pub(crate) user: Ids,
    pub(crate) network: Network,
    pub(crate) insecure: bool,
    pub(crate) hostname: String,
    pub(crate) hosts: Vec<(String, String)>,
    pub(crate) limits: Vec<ResourceLimit>,
    pub(crate) shm_size: u64,
    /// What it sees beside its image.
    pub(crate) sight: Sight,
}

impl Described {
    /// The jail without its mounts, over the layers, and over `changes` where there are some.
    pub(crate) fn jail<'a>(
        &self,
        store: &'a Store,
        changes: Option<PathBuf>,
        host: &Host,
    ) -> Result<(Jail, Place<'a>), StoreError> {
        let layers = self.layers.iter().rev().map(|layer| store.layers().path(layer));
        let lowers = changes.into_iter().chain(layers).collect();
        let names = Names { hostname: &self.hostname, hosts: &self.hosts };
        let (mut jail, place) = container::over(store, lowers, self.network, host, &names)?;
        jail.argv = self.argv.iter().map(|word| word.clone().into_bytes()).collect();
        jail.env.clone_from(&self.env);
        jail.cwd = self.cwd.clone().into_bytes();
        jail.user = self.user.clone();
        jail.insecure = self.insecure;
        jail.limits.extend(self.limits.iter().cloned());
        jail.shm_size = self.shm_size;
        Ok((jail, place))
    }

    /// Keeps `upper`, which the command left, and what was made for it to see. `false` when somebody looks at what
    /// another left.
    pub(crate) fn keep(&mut self, store: &Store, upper: &Path, sight: &mut Sight) -> Result<bool, StoreError> {
        let copies = std::mem::take(&mut sight.copies);
        self.sight = sight.clone();
        let about = serde_json::to_vec(self).expect("plain data becomes JSON");
        let kept = store.failed().keep(upper, &copies, &about);
        sight.copies = copies;
        kept
    }
}

/// Forgets what the step with this key left when it failed: now it is done.
pub(crate) fn forget(store: &Store, key: &dram_store::StepKey) {
    let key = key.hex();
    store.failed().forget(&|about| serde_json::from_slice::<Described>(about).is_ok_and(|about| about.key == key));
}

/// The last command that failed, and what it left.
#[derive(Debug)]
pub struct FailedCommand<'a> {
    store: &'a Store,
    kept: Kept,
    described: Described,
}

/// A world to look into.
#[derive(Debug)]
pub struct Revived<'a> {
    /// The jail. What happens in it is thrown away, but for what is written to caches.
    pub jail: Jail,
    _place: Place<'a>,
    _used: InUse,
}

impl<'a> FailedCommand<'a> {
    /// What is kept in the store, if anything is. It stays while this lives.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(store: &'a Store) -> Result<Option<FailedCommand<'a>>, StoreError> {
        let Some(kept) = store.failed().open()? else { return Ok(None) };
        // What cannot be read is of no use to anybody.
        let Ok(described) = serde_json::from_slice::<Described>(kept.about()) else { return Ok(None) };
        let whole = described.layers.iter().all(|layer| store.layers().has(layer));
        Ok(whole.then_some(FailedCommand { store, kept, described }))
    }

    /// The instruction.
    pub fn text(&self) -> &str {
        &self.described.text
    }

    /// The shell that the command was given to, if it was given to one.
    pub fn shell(&self) -> &str {
        let program = self.described.argv.first().map(String::as_str).unwrap_or_default();
        if program.ends_with("sh") { program } else { "/bin/sh" }
    }

    /// The world as the command left it: its files, environment, user, directory, network and mounts. Memory is empty,
    /// and secrets are there only when they are `given` again. While somebody has a cache who does not share, `wait`
    /// is called with its id again and again, and ends the waiting with `false`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn revive(
        &self,
        host: &Host,
        given: &Given,
        wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Revived<'a>, BuildError> {
        let (mut jail, mut place) = self.described.jail(self.store, Some(self.kept.upper()), host)?;
        let copies = (0..self.described.sight.count_copies()).map(|number| self.kept.extra(number)).collect();
        let fill = &mut |_: &_, _: &Path| Ok(());
        let mut means = Means { store: self.store, given, copies, fill, wait };
        let used = mounts::mount(&self.described.sight, &mut means, &mut place, &mut jail)?;
        let used = used.ok_or(BuildError::Cancelled)?;
        Ok(Revived { jail, _place: place, _used: used })
    }
}
