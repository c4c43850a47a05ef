//! A command in an image's file system: what `RUN` and `dram run` share.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dram_image::TreePath;
use dram_sandbox::{Jail, Mount, Network, ResourceLimit, Root, ShownFile};
use dram_store::{Dir, Merged, Store, StoreError, Tree as _};

use crate::Snapshot;
use crate::layer::{LayerMaker, Override, PlaceError, take_over_root};

/// What of this machine a command gets to see.
#[derive(Debug, Clone)]
pub struct Host {
    /// The content of `/etc/resolv.conf` for a command on the host's network.
    pub resolv_conf: Vec<u8>,
    /// Whether setuid programs and file capabilities lose their power: so for everybody but root.
    pub no_new_privs: bool,
    /// Whether there is one id for everybody, so that no command can become another user.
    pub one_id: bool,
    /// Resource limits that this process changed for itself: a command gets them as they were.
    pub limits: Vec<ResourceLimit>,
}

/// Directories of one command, below this process's work.
#[derive(Debug)]
pub struct Place<'a> {
    store: &'a Store,
    /// What the command changed, in overlay form.
    pub upper: PathBuf,
    others: Vec<PathBuf>,
}

/// The name that a command sees its machine under. It must not depend on the machine: commands write it into files.
pub const HOSTNAME: &str = "dram";

/// A jail over `snapshot`, with nothing to do yet, and the place of its changes.
///
/// # Errors
/// When the disk refuses.
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

/// The names of machines that a command sees.
pub(crate) struct Names<'a> {
    /// Its own.
    pub(crate) hostname: &'a str,
    /// Others', with their addresses.
    pub(crate) hosts: &'a [(String, String)],
}

/// The same over the directories `lowers`, topmost first.
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
        // `FROM scratch`: the kernel wants something to lay the changes over.
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

/// Becoming another user seems to succeed where there is one id, and apt looks twice: it is told not to.
fn for_one_id(view: &Merged) -> Result<Option<Mount>, StoreError> {
    const PLACE: &str = "etc/apt/apt.conf.d";
    let there = view.find(&TreePath::parse(PLACE.as_bytes())?, false)?;
    let contents = "APT::Sandbox::User \"root\";\n";
    Ok(there.map(|_| Mount::File(ShownFile::new(format!("/{PLACE}/zz-one-id"), contents))))
}

/// Takes out of `lowers`, topmost first, what is there a second time: two steps may have made the same. The kernel
/// refuses such a stack, and all that the lower one says, the upper one says too.
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
    /// Another empty directory, removed with the place.
    pub(crate) fn another(&mut self) -> Result<PathBuf, StoreError> {
        let path = self.store.work().fresh()?;
        self.others.push(path.clone());
        Ok(path)
    }

    /// Keeps the changes: everything else goes, and `upper` is the caller's to commit or to discard.
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

/// Makes the directory `path` in a container that is about to start, when its image has none: engines do the same
/// with a working directory.
///
/// # Errors
/// When something else is there, or the disk refuses.
pub fn make_dir(store: &Store, snapshot: &Snapshot, place: &Place<'_>, path: &[u8]) -> Result<(), StoreError> {
    let view = snapshot.view(store.layers())?;
    let (path, there) = view.resolve(&TreePath::clean(path)?)?;
    if there.is_some() {
        // A directory is as it should be; the command's start says what is wrong with anything else.
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
