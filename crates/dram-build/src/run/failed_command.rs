//! Keeps a failed command and its file system, so that a shell can be started in it.

use std::path::{Path, PathBuf};

use dram_sandbox::{Jail, JailNetwork, ResourceLimit, UserIds};
use dram_store::{LayerId, SavedFailedCommand, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::mounts::{self, MountContext, MountsInUse, ResolvedMounts};
use crate::container::{self, ContainerDirs, ContainerHosts, HostSettings};
use crate::{BuildError, CommandOptions};

/// The description of a command and its environment without secrets and proxies. It is stored with a failed command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommandDescription {
    /// The cache key of the step.
    pub(crate) key: String,
    /// The instruction.
    pub(crate) text: String,
    /// The layers below, lowest first.
    pub(crate) layers: Vec<LayerId>,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) cwd: String,
    pub(crate) user: UserIds,
    pub(crate) network: JailNetwork,
    pub(crate) insecure: bool,
    pub(crate) hostname: String,
    pub(crate) hosts: Vec<(String, String)>,
    pub(crate) limits: Vec<ResourceLimit>,
    pub(crate) shm_size: u64,
    /// The mounts of the command.
    #[serde(rename = "sight")]
    pub(crate) mounts: ResolvedMounts,
}

impl CommandDescription {
    /// Returns a jail without the mounts: over the layers, and over `changes` if there are some.
    pub(crate) fn jail<'a>(
        &self,
        store: &'a Store,
        changes: Option<PathBuf>,
        host: &HostSettings,
    ) -> Result<(Jail, ContainerDirs<'a>), StoreError> {
        let layers = self.layers.iter().rev().map(|layer| store.layers().path(layer));
        let lowers = changes.into_iter().chain(layers).collect();
        let names = ContainerHosts { hostname: &self.hostname, hosts: &self.hosts };
        let (mut jail, place) = container::jail_over(store, lowers, self.network, host, &names, self.user.clone())?;
        jail.argv = self.argv.iter().map(|word| word.clone().into_bytes()).collect();
        jail.env.clone_from(&self.env);
        jail.cwd = self.cwd.clone().into_bytes();
        jail.insecure = self.insecure;
        jail.limits.extend(self.limits.iter().cloned());
        jail.shm_size = self.shm_size;
        Ok((jail, place))
    }

    /// Keeps the upper directory `upper` of the command, and the directories made for its mounts. Returns `false` if
    /// another kept command is in use.
    pub(crate) fn keep(&mut self, store: &Store, upper: &Path, sight: &mut ResolvedMounts) -> Result<bool, StoreError> {
        let copies = std::mem::take(&mut sight.copies);
        self.mounts = sight.clone();
        let about = serde_json::to_vec(self).expect("plain data becomes JSON");
        let kept = store.failed_command().keep(upper, &copies, &about);
        sight.copies = copies;
        kept
    }
}

/// Removes what was kept of the step with this cache key when it failed, because it has succeeded now.
pub(crate) fn forget_failed_command(store: &Store, key: &dram_store::StepKey) {
    let key = key.hex();
    store
        .failed_command()
        .remove_if(&|about| serde_json::from_slice::<CommandDescription>(about).is_ok_and(|about| about.key == key));
}

/// The last failed command and its kept file system.
#[derive(Debug)]
pub struct FailedCommand<'a> {
    store: &'a Store,
    kept: SavedFailedCommand,
    description: CommandDescription,
}

/// A failed command that is ready for a shell.
#[derive(Debug)]
pub struct RevivedCommand<'a> {
    /// The jail. Changes in it are discarded, except those in cache mounts.
    pub jail: Jail,
    _dirs: ContainerDirs<'a>,
    _mounts: MountsInUse,
}

impl<'a> FailedCommand<'a> {
    /// Opens the failed command that the store keeps, if there is one. It is not removed as long as this value lives.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub fn open(store: &'a Store) -> Result<Option<FailedCommand<'a>>, StoreError> {
        let Some(kept) = store.failed_command().open()? else { return Ok(None) };
        // An unreadable description is treated as missing.
        let Ok(described) = serde_json::from_slice::<CommandDescription>(kept.description()) else { return Ok(None) };
        let whole = described.layers.iter().all(|layer| store.layers().has(layer));
        Ok(whole.then_some(FailedCommand { store, kept, description: described }))
    }

    /// The instruction.
    pub fn text(&self) -> &str {
        &self.description.text
    }

    /// Returns the shell that executed the command, or `/bin/sh` if there was none.
    pub fn shell(&self) -> &str {
        let program = self.description.argv.first().map(String::as_str).unwrap_or_default();
        if program.ends_with("sh") { program } else { "/bin/sh" }
    }

    /// Prepares the state at the end of the command: its files, environment, user, directory, network and mounts. A
    /// tmpfs is empty, and secrets exist only if they are `given` again. While another command holds a cache mount that
    /// is not shared, `wait` is called repeatedly with its id; it ends the waiting by returning `false`.
    ///
    /// # Errors
    /// Returns an error if a file operation fails, or if `wait` ended the waiting.
    pub fn revive(
        &self,
        host: &HostSettings,
        given: &CommandOptions,
        wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RevivedCommand<'a>, BuildError> {
        let (mut jail, mut place) = self.description.jail(self.store, Some(self.kept.upper_dir()), host)?;
        let copies = (0..self.description.mounts.count_copies()).map(|number| self.kept.extra_dir(number)).collect();
        let fill = &mut |_: &_, _: &Path| Ok(());
        let mut means = MountContext { store: self.store, given, copies, fill, wait };
        let used = mounts::mount_all(&self.description.mounts, &mut means, &mut place, &mut jail)?;
        let used = used.ok_or(BuildError::Cancelled)?;
        Ok(RevivedCommand { jail, _dirs: place, _mounts: used })
    }
}
