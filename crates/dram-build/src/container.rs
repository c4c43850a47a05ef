//! Prepares a command in an image's file system: the parts that `RUN` and `dram run` share.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dram_image::TreePath;
use dram_sandbox::{Jail, Mount, Network, ResourceLimit, Root, ShownFile};
use dram_store::{Dir, Merged, Store, StoreError, Tree as _};

use crate::Snapshot;
use crate::layer::{LayerMaker, Override, PlaceError, take_over_root};

/// The settings of this machine that a command gets.
#[derive(Debug, Clone)]
pub struct Host {
    /// The content of `/etc/resolv.conf` for a command on the host's network.
    pub resolv_conf: Vec<u8>,
    /// True if `no_new_privs` is set, so that setuid programs and file capabilities gain nothing. It is set for every
    /// user but root.
    pub no_new_privs: bool,
    /// True if the user namespace maps a single id, so that no command can change its user.
    pub one_id: bool,
    /// Resource limits that this process changed for itself; a command gets their original values.
    pub limits: Vec<ResourceLimit>,
}

/// The directories of one command, below the work directory of this process.
#[derive(Debug)]
pub struct Place<'a> {
    store: &'a Store,
    /// The changes of the command: the upper directory of the overlay.
    pub upper: PathBuf,
    others: Vec<PathBuf>,
}

/// The host name that commands see. It must not depend on the machine, because commands write it into files.
pub const HOSTNAME: &str = "dram";

/// Returns a jail over `snapshot` without a command, and the directories that take its changes.
///
/// # Errors
/// Returns an error if a layer cannot be fetched or a file operation fails.
pub fn jail<'a>(
    store: &'a Store,
    snapshot: &Snapshot,
    network: Network,
    host: &Host,
) -> Result<(Jail, Place<'a>), StoreError> {
    let here = snapshot.bring(store)?;
    let layers = here.layers.iter().rev().map(|layer| store.layers().path(&layer.id)).collect();
    over(store, layers, network, host, &Names { hostname: HOSTNAME, hosts: &[] })
}

/// The host names that a command sees.
pub(crate) struct Names<'a> {
    /// The container's own host name.
    pub(crate) hostname: &'a str,
    /// Other hosts: name and address.
    pub(crate) hosts: &'a [(String, String)],
}

/// Returns a jail over the directories `lowers`, topmost first.
pub(crate) fn over<'a>(
    store: &'a Store,
    mut lowers: Vec<PathBuf>,
    network: Network,
    host: &Host,
    names: &Names<'_>,
) -> Result<(Jail, Place<'a>), StoreError> {
    once_each(&mut lowers);
    let mut place = Place { store, upper: store.work().fresh()?, others: Vec::new() };
    let view = Merged::open(&lowers)?;
    take_over_root(&Dir::open_layer(&place.upper)?, &view)?;
    if lowers.is_empty() {
        // `FROM scratch`: overlayfs needs at least one lower directory.
        lowers.push(place.another()?);
    }
    let (work, stubs) = (place.another()?, place.another()?);
    let root = Root::Overlay { lowers, upper: place.upper.clone(), work, stubs };
    let mut jail = Jail::new(root, Vec::new());
    jail.hostname = names.hostname.to_owned();
    jail.network = network;
    jail.no_new_privs = host.no_new_privs;
    jail.limits.clone_from(&host.limits);
    jail.mounts = files(network, host, names);
    if host.one_id {
        jail.mounts.extend(for_one_id(&view)?);
    }
    Ok((jail, place))
}

/// Returns a configuration file for apt where only one id is mapped. Changing the user seems to succeed there, but apt
/// verifies it, so the file turns that off.
fn for_one_id(view: &Merged) -> Result<Option<Mount>, StoreError> {
    const PLACE: &str = "etc/apt/apt.conf.d";
    let there = view.find(&TreePath::parse(PLACE.as_bytes())?, false)?;
    let contents = "APT::Sandbox::User \"root\";\n";
    Ok(there.map(|_| Mount::File(ShownFile::new(format!("/{PLACE}/zz-one-id"), contents))))
}

/// Removes duplicates from `lowers`, topmost first: two steps may have produced the same layer. The kernel refuses an
/// overlay that lists a directory twice, and the upper occurrence already covers the lower one.
pub(crate) fn once_each(lowers: &mut Vec<PathBuf>) {
    let mut seen = BTreeSet::new();
    lowers.retain(|path| seen.insert(path.clone()));
}

fn files(network: Network, host: &Host, names: &Names<'_>) -> Vec<Mount> {
    let mut hosts = format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n", names.hostname);
    for (name, address) in names.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let resolv_conf = match network {
        Network::Host => host.resolv_conf.clone(),
        Network::None => Vec::new(),
    };
    vec![
        Mount::File(ShownFile::new(b"/etc/hosts", hosts)),
        Mount::File(ShownFile::new(b"/etc/resolv.conf", resolv_conf)),
    ]
}

impl Place<'_> {
    /// Returns another empty directory, which is removed when this value is dropped.
    pub(crate) fn another(&mut self) -> Result<PathBuf, StoreError> {
        let path = self.store.work().fresh()?;
        self.others.push(path.clone());
        Ok(path)
    }

    /// Keeps only the upper directory and returns it; the caller commits or discards it.
    #[must_use]
    pub fn into_upper(mut self) -> PathBuf {
        std::mem::take(&mut self.upper)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        for path in self.others.iter().chain(Some(&self.upper).filter(|upper| !upper.as_os_str().is_empty())) {
            self.store.work().discard(path);
        }
    }
}

/// Makes the directory `path` in a container that is about to start, if its image has none. Engines do the same with a
/// working directory.
///
/// # Errors
/// Returns an error if a file operation fails. That something else than a directory is at `path` is no error here.
pub fn make_dir(store: &Store, snapshot: &Snapshot, place: &Place<'_>, path: &[u8]) -> Result<(), StoreError> {
    let view = snapshot.view(store.layers())?;
    let (path, there) = view.resolve(&TreePath::clean(path)?)?;
    if there.is_some() {
        // A directory needs nothing; for anything else, starting the command reports the error.
        return Ok(());
    }
    let mut maker = LayerMaker::new(&view, place.upper.clone(), Override::default())?;
    match maker.make_dirs(&path) {
        Ok(())
        | Err(
            PlaceError::NotDir { .. }
            | PlaceError::IsDir { .. }
            | PlaceError::Several { .. }
            | PlaceError::Remote { .. }
            | PlaceError::Changed { .. },
        ) => maker.finish().map(drop),
        Err(PlaceError::Store(error)) => Err(error),
    }
}
