//! Prepares a command in an image's file system: the parts that `RUN` and `dram run` share.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dram_image::TreePath;
use dram_sandbox::{ExtraIds, Jail, JailMount, JailNetwork, JailRoot, MemoryFile, ResourceLimit, UserIds};
use dram_store::{Dir, FileTree as _, MergedTree, Store, StoreError};

use crate::layer_writer::{LayerWriteError, LayerWriter, MetadataOverride, inherit_root_metadata};
use crate::{LayerProvider, Snapshot};

/// The settings of this machine that a command gets.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The content of `/etc/resolv.conf` for a command on the host's network.
    pub resolv_conf: Vec<u8>,
    /// True if `no_new_privs` is set, so that setuid programs and file capabilities gain nothing. It is set for every
    /// user but root.
    pub no_new_privs: bool,
    /// True if the user namespace maps a single id, so that no command can change its user.
    pub single_id: bool,
    /// Resource limits that this process changed for itself; a command gets their original values.
    pub limits: Vec<ResourceLimit>,
}

/// The directories of one command, below the work directory of this process.
#[derive(Debug)]
pub struct ContainerDirs<'a> {
    store: &'a Store,
    /// The changes of the command: the upper directory of the overlay.
    pub upper: PathBuf,
    others: Vec<PathBuf>,
}

/// The host name that commands see. It must not depend on the machine, because commands write it into files.
pub const HOSTNAME: &str = "dram";

/// Returns a jail over `snapshot` without a command, for `user`, and the directories that take its changes.
///
/// # Errors
/// Returns an error if a layer cannot be fetched or a file operation fails.
pub fn new_jail<'a>(
    provider: &LayerProvider<'a>,
    snapshot: &Snapshot,
    network: JailNetwork,
    host: &HostSettings,
    user: UserIds,
) -> Result<(Jail, ContainerDirs<'a>), StoreError> {
    let store = provider.store();
    let ids = provider.ensure_outside_build(&snapshot.layers)?;
    let layers = ids.iter().rev().map(|id| store.layers().path(id)).collect();
    jail_over(store, layers, network, host, &ContainerHosts { hostname: HOSTNAME, hosts: &[] }, user)
}

/// The host names that a command sees.
pub(crate) struct ContainerHosts<'a> {
    /// The container's own host name.
    pub(crate) hostname: &'a str,
    /// Other hosts: name and address.
    pub(crate) hosts: &'a [(String, String)],
}

/// Returns a jail for `user` over the directories `lowers`, topmost first.
pub(crate) fn jail_over<'a>(
    store: &'a Store,
    mut lowers: Vec<PathBuf>,
    network: JailNetwork,
    host: &HostSettings,
    names: &ContainerHosts<'_>,
    user: UserIds,
) -> Result<(Jail, ContainerDirs<'a>), StoreError> {
    dedup_lowers(&mut lowers);
    let mut place = ContainerDirs { store, upper: store.work_dir().temp_dir()?, others: Vec::new() };
    let view = MergedTree::open(&lowers)?;
    inherit_root_metadata(&Dir::open_layer(&place.upper)?, &view)?;
    if lowers.is_empty() {
        // `FROM scratch`: overlayfs needs at least one lower directory.
        lowers.push(place.new_dir()?);
    }
    let all: Vec<PathBuf> = lowers.iter().chain([&place.upper]).cloned().collect();
    let gids: Vec<u32> = user.groups.iter().copied().chain([user.gid]).collect();
    let foreign = store.layers().prepare_for_command(&all, user.uid, &gids)?;
    let (work, mount_points_dir) = (place.new_dir()?, place.new_dir()?);
    let lowers = lowers.into_iter().map(Into::into).collect();
    let root = JailRoot::Overlay {
        lowers,
        upper: place.upper.clone().into(),
        work: work.into(),
        mount_points_dir: mount_points_dir.into(),
    };
    let mut jail = Jail::new(root, Vec::new());
    jail.user = user;
    jail.extra_ids =
        ExtraIds { users: foreign.users.into_iter().collect(), groups: foreign.groups.into_iter().collect() };
    jail.hostname = names.hostname.to_owned();
    jail.network = network;
    jail.no_new_privs = host.no_new_privs;
    jail.limits.clone_from(&host.limits);
    jail.mounts = network_files(network, host, names);
    if host.single_id {
        jail.mounts.extend(single_id_apt_config(&view)?);
    }
    Ok((jail, place))
}

/// Returns a configuration file for apt where only one id is mapped. Changing the user seems to succeed there, but apt
/// verifies it, so the file turns that off.
fn single_id_apt_config(view: &MergedTree) -> Result<Option<JailMount>, StoreError> {
    const PLACE: &str = "etc/apt/apt.conf.d";
    let there = view.find(&TreePath::parse(PLACE.as_bytes())?, false)?;
    let contents = "APT::Sandbox::User \"root\";\n";
    Ok(there.map(|_| JailMount::File(MemoryFile::new(format!("/{PLACE}/zz-one-id"), contents))))
}

/// Removes duplicates from `lowers`, topmost first: two steps may have produced the same layer. The kernel refuses an
/// overlay that lists a directory twice, and the upper occurrence already covers the lower one.
pub(crate) fn dedup_lowers(lowers: &mut Vec<PathBuf>) {
    let mut seen = BTreeSet::new();
    lowers.retain(|path| seen.insert(path.clone()));
}

fn network_files(network: JailNetwork, host: &HostSettings, names: &ContainerHosts<'_>) -> Vec<JailMount> {
    let mut hosts = format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n", names.hostname);
    for (name, address) in names.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let resolv_conf = match network {
        JailNetwork::Host => host.resolv_conf.clone(),
        JailNetwork::None => Vec::new(),
    };
    vec![
        JailMount::File(MemoryFile::new(b"/etc/hosts", hosts)),
        JailMount::File(MemoryFile::new(b"/etc/resolv.conf", resolv_conf)),
    ]
}

impl ContainerDirs<'_> {
    /// Returns another empty directory, which is removed when this value is dropped.
    pub(crate) fn new_dir(&mut self) -> Result<PathBuf, StoreError> {
        let path = self.store.work_dir().temp_dir()?;
        self.others.push(path.clone());
        Ok(path)
    }

    /// Keeps only the upper directory and returns it; the caller commits or discards it.
    #[must_use]
    pub fn into_upper(mut self) -> PathBuf {
        std::mem::take(&mut self.upper)
    }
}

impl Drop for ContainerDirs<'_> {
    fn drop(&mut self) {
        for path in self.others.iter().chain(Some(&self.upper).filter(|upper| !upper.as_os_str().is_empty())) {
            self.store.work_dir().remove_temp_dir(path);
        }
    }
}

/// Makes the directory `path` in a container that is about to start, if its image has none. Engines do the same with a
/// working directory. The new directories have the time `now`, in seconds since 1970 and nanoseconds.
///
/// # Errors
/// Returns an error if a file operation fails. That something else than a directory is at `path` is no error here.
pub fn make_dir(
    provider: &LayerProvider<'_>,
    snapshot: &Snapshot,
    place: &ContainerDirs<'_>,
    path: &[u8],
    now: (i64, u32),
) -> Result<(), StoreError> {
    let view = provider.view(snapshot)?;
    let (path, there) = view.resolve(&TreePath::clean(path)?)?;
    if there.is_some() {
        // A directory needs nothing; for anything else, starting the command reports the error.
        return Ok(());
    }
    let mut maker = LayerWriter::new(&view, &place.upper, MetadataOverride::default(), now)?;
    match maker.make_dirs(&path) {
        Ok(())
        | Err(
            LayerWriteError::NotDir { .. }
            | LayerWriteError::IsDir { .. }
            | LayerWriteError::SeveralSources { .. }
            | LayerWriteError::Remote { .. }
            | LayerWriteError::Time { .. }
            | LayerWriteError::Changed { .. },
        ) => maker.finish(),
        Err(LayerWriteError::Store(error)) => Err(error),
    }
}
