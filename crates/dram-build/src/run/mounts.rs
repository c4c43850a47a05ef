//! Converts the mounts of a `RUN` in the plan to mounts of the jail.
//!
//! The form in between is [`ResolvedMount`], which does not need the plan any more. It is serialisable, so that a shell
//! in a failed command gets the same mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_dockerfile::{CacheMount, Diagnostic, Mount, MountKind, MountedFile, Run, Sharing};
use dram_sandbox::{Bind, Jail, Scratch, ShownFile, Source, Tmpfs};
use dram_store::{CacheName, CacheUse, Dir, LayerId, Merged, Meta, Store, TakenCache};
use serde::{Deserialize, Serialize};

use super::agent::Relay;
use super::sources::{Picked, Shown};
use crate::container::{Place, once_each};
use crate::layer::take_over_root;
use crate::{BuildError, Given};

/// One mount of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The target: absolute and clean.
    target: String,
    what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum What {
    /// Files of layers, lowest first.
    Layers { layers: Vec<LayerId>, path: Vec<u8>, writable: bool },
    /// Files of a copy: the index in [`ResolvedMounts::copies`].
    Copy { number: usize, path: Vec<u8>, writable: bool },
    /// A cache mount.
    Cache { name: CacheName, sharing: u8, read_only: bool },
    /// The script of a heredoc.
    Script { contents: String },
    /// A secret as a file.
    Secret { id: String, mode: u32, uid: u32, gid: u32 },
    /// The socket of an ssh agent.
    Agent { id: String, mode: u32, uid: u32, gid: u32 },
    /// A tmpfs.
    Tmpfs { size: Option<u64> },
}

/// All mounts of a command.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sight {
    /// The mounts, in the order in which they are made: one may be inside another.
    seen: Vec<Seen>,
    /// Variables whose values are secrets: names and secret ids.
    variables: Vec<(String, String)>,
    /// The value of `SSH_AUTH_SOCK`.
    agent: Option<String>,
    /// Directories that were made for this command. The caller removes them.
    #[serde(skip)]
    pub(crate) copies: Vec<PathBuf>,
}

/// Resolves each mount of `run`; `picked` are their files.
pub(crate) fn look(store: &Store, run: &Run, picked: &[Option<Picked>], given: &Given) -> Result<Sight, BuildError> {
    let mut sight = Sight::default();
    for script in &run.scripts {
        let what = What::Script { contents: script.contents.clone() };
        sight.seen.push(Seen { target: script.path.clone(), what });
    }
    for (mount, picked) in run.mounts.iter().zip(picked) {
        if let Err(error) = sight.add(store, mount, picked.as_ref(), given) {
            sight.discard(store);
            return Err(error);
        }
    }
    // As in BuildKit, a mount inside another one comes after it.
    sight.seen.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(sight)
}

impl Sight {
    fn add(&mut self, store: &Store, mount: &Mount, picked: Option<&Picked>, given: &Given) -> Result<(), BuildError> {
        let (target, what) = match &mount.kind {
            MountKind::Bind { target, writable, .. } => {
                let (shown, path) = picked.expect("a bind has files").show(store, mount)?;
                let writable = *writable;
                let what = match shown {
                    Shown::Layers(layers) => What::Layers { layers, path, writable },
                    Shown::Copy(copy) => {
                        self.copies.push(copy);
                        What::Copy { number: self.copies.len() - 1, path, writable }
                    }
                };
                (target, what)
            }
            MountKind::Cache(cache) => {
                let sharing = match cache.sharing {
                    Sharing::Shared => 0,
                    Sharing::Private => 1,
                    Sharing::Locked => 2,
                };
                let what = What::Cache { name: cache_name(cache, picked), sharing, read_only: cache.read_only };
                (&cache.target, what)
            }
            MountKind::Secret { id, file, env, required } => {
                if *required && !given.secrets.contains_key(id) {
                    return Err(not_given(
                        mount,
                        "secret",
                        id,
                        &format!("--secret id={id},src=FILE` or `--secret id={id},env=NAME"),
                    ));
                }
                self.variables.extend(env.iter().map(|name| (name.clone(), id.clone())));
                let Some(MountedFile { target, mode, uid, gid }) = file else { return Ok(()) };
                (target, What::Secret { id: id.clone(), mode: *mode, uid: *uid, gid: *gid })
            }
            MountKind::Ssh { id, file, required } => {
                if *required && !given.agents.contains_key(id) {
                    return Err(not_given(mount, "ssh agent", id, &format!("--ssh {id}")));
                }
                let MountedFile { target, mode, uid, gid } = file;
                self.agent.get_or_insert_with(|| target.clone());
                (target, What::Agent { id: id.clone(), mode: *mode, uid: *uid, gid: *gid })
            }
            MountKind::Tmpfs { target, size } => (target, What::Tmpfs { size: *size }),
        };
        self.seen.push(Seen { target: target.clone(), what });
        Ok(())
    }

    /// Returns the number of copies that the mounts refer to.
    pub(crate) fn count_copies(&self) -> usize {
        self.seen.iter().filter(|seen| matches!(seen.what, What::Copy { .. })).count()
    }

    /// Removes the directories that were made for the command.
    pub(crate) fn discard(&mut self, store: &Store) {
        for copy in std::mem::take(&mut self.copies) {
            store.work().discard(&copy);
        }
    }
}

fn not_given(mount: &Mount, what: &str, id: &str, flag: &str) -> BuildError {
    let what = format!("the command needs the {what} `{id}`, and it was not given");
    BuildError::at(Diagnostic::error(mount.span.clone(), what).help(format!("build with `{flag}`")))
}

fn cache_name(cache: &CacheMount, picked: Option<&Picked>) -> CacheName {
    let seed = picked.map(|picked| picked.content.digest.hex());
    CacheName { id: cache.id.clone(), seed, mode: cache.mode, uid: cache.uid, gid: cache.gid }
}

/// Writes the initial content of a new cache mount, by the name of the cache.
pub(crate) type Fill<'a> = dyn FnMut(&CacheName, &Path) -> Result<(), BuildError> + 'a;

/// Writes the initial content of the new cache mount at `data`: the files of the mount that has this cache name.
pub(crate) fn fill(run: &Run, picked: &[Option<Picked>], name: &CacheName, data: &Path) -> Result<(), BuildError> {
    for (mount, picked) in run.mounts.iter().zip(picked) {
        if let (MountKind::Cache(cache), Some(picked)) = (&mount.kind, picked)
            && cache_name(cache, Some(picked)) == *name
        {
            picked.must_be_dir(mount)?;
            picked.copy_to(data, mount)?;
            if (cache.mode, cache.uid, cache.gid) != (0o755, 0, 0) {
                let meta = Meta { mode: cache.mode, uid: cache.uid, gid: cache.gid, mtime: (0, 0) };
                Dir::open_layer(data)?.set_meta(&dram_image::TreePath::root(), &meta, false)?;
            }
            return Ok(());
        }
    }
    Ok(())
}

/// The cache mounts and agent relays that a command holds while it runs.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    caches: BTreeMap<String, TakenCache>,
    relays: Vec<Relay>,
}

/// The context for making the mounts.
pub(crate) struct Means<'a> {
    pub(crate) store: &'a Store,
    pub(crate) given: &'a Given,
    /// The directories of copies, by index.
    pub(crate) copies: Vec<PathBuf>,
    pub(crate) fill: &'a mut Fill<'a>,
    /// Called repeatedly while another command holds the cache mount with this id; ends the waiting by returning
    /// `false`.
    pub(crate) wait: &'a mut dyn FnMut(&str) -> bool,
}

/// Adds all mounts of `sight` to the jail, and sets the variables that belong to them. Returns `None` if the waiting
/// was ended.
pub(crate) fn mount(
    sight: &Sight,
    means: &mut Means<'_>,
    place: &mut Place<'_>,
    jail: &mut Jail,
) -> Result<Option<InUse>, BuildError> {
    let mut used = InUse::default();
    if !take_caches(sight, means, &mut used)? {
        return Ok(None);
    }
    for seen in &sight.seen {
        if let Some(mount) = mounted(seen, means, place, &mut used)? {
            jail.mounts.push(mount);
        }
    }
    for (name, id) in &sight.variables {
        if let Some(secret) = means.given.secrets.get(id) {
            let start = format!("{name}=").into_bytes();
            jail.env.retain(|pair| !pair.starts_with(&start));
            jail.env.push([start, secret.bytes().to_vec()].concat());
        }
    }
    if let Some(agent) = &sight.agent
        && !jail.env.iter().any(|pair| pair.starts_with(b"SSH_AUTH_SOCK="))
    {
        jail.env.push(format!("SSH_AUTH_SOCK={agent}").into_bytes());
    }
    Ok(Some(used))
}

/// Takes each cache mount once, in the order of the keys, so that two commands cannot deadlock. Returns `false` if the
/// waiting was ended.
fn take_caches(sight: &Sight, means: &mut Means<'_>, used: &mut InUse) -> Result<bool, BuildError> {
    let mut wanted: BTreeMap<String, (&CacheName, u8)> = BTreeMap::new();
    for seen in &sight.seen {
        if let What::Cache { name, sharing, .. } = &seen.what {
            let one = wanted.entry(name.key()).or_insert((name, *sharing));
            one.1 = one.1.max(*sharing);
        }
    }
    for (key, (name, sharing)) in wanted {
        let how = match sharing {
            0 => CacheUse::Shared,
            1 => CacheUse::Private,
            _ => CacheUse::Locked,
        };
        let (fill, wait) = (&mut means.fill, &mut means.wait);
        let taken = means.store.caches().take(name, how, &mut |data| fill(name, data), &mut || wait(&name.id))?;
        let Some(taken) = taken else { return Ok(false) };
        used.caches.insert(key, taken);
    }
    Ok(true)
}

fn mounted(
    seen: &Seen,
    means: &Means<'_>,
    place: &mut Place<'_>,
    used: &mut InUse,
) -> Result<Option<dram_sandbox::Mount>, BuildError> {
    let target = seen.target.clone().into_bytes();
    let bind =
        |source, read_only| Ok(Some(dram_sandbox::Mount::Bind(Bind { source, target: target.clone(), read_only })));
    let file = |contents: &[u8], (mode, uid, gid): (u32, u32, u32), read_only| {
        let (target, contents) = (target.clone(), contents.to_vec());
        Ok(Some(dram_sandbox::Mount::File(ShownFile { target, contents, mode, uid, gid, read_only })))
    };
    match &seen.what {
        What::Layers { layers, path, writable } => {
            let mut lowers: Vec<_> = layers.iter().rev().map(|layer| means.store.layers().path(layer)).collect();
            once_each(&mut lowers);
            if lowers.is_empty() {
                let empty = place.another()?;
                take_over_root(&Dir::open_layer(&empty)?, &Merged::open(&[])?)?;
                lowers.push(empty);
            }
            let scratch = scratch(place, &lowers, *writable)?;
            bind(Source::Layers { lowers, scratch, path: path.clone() }, !writable)
        }
        What::Copy { number, path, writable } => {
            let lowers = vec![means.copies[*number].clone()];
            let scratch = scratch(place, &lowers, *writable)?;
            bind(Source::Layers { lowers, scratch, path: path.clone() }, !writable)
        }
        What::Cache { name, read_only, .. } => {
            let directory = used.caches[&name.key()].data();
            bind(Source::Below { directory, path: Vec::new() }, *read_only)
        }
        What::Script { contents } => file(contents.as_bytes(), (0o755, 0, 0), true),
        What::Secret { id, mode, uid, gid } => match means.given.secrets.get(id) {
            Some(secret) => file(secret.bytes(), (*mode, *uid, *gid), true),
            None => Ok(None),
        },
        What::Agent { id, mode, uid, gid } => {
            let Some(agent) = means.given.agents.get(id) else { return Ok(None) };
            let file = MountedFile { target: seen.target.clone(), mode: *mode, uid: *uid, gid: *gid };
            let relay = Relay::start(agent, &place.another()?, &file)?;
            let socket = relay.socket();
            used.relays.push(relay);
            bind(Source::Host(socket), false)
        }
        What::Tmpfs { size } => Ok(Some(dram_sandbox::Mount::Tmpfs(Tmpfs { target, size: *size, mode: None }))),
    }
}

/// Returns new directories for writes that are discarded.
fn scratch(place: &mut Place<'_>, lowers: &[PathBuf], writable: bool) -> Result<Option<Scratch>, BuildError> {
    if !writable {
        return Ok(None);
    }
    let (upper, work) = (place.another()?, place.another()?);
    take_over_root(&Dir::open_layer(&upper)?, &Merged::open(lowers)?)?;
    Ok(Some(Scratch { upper, work }))
}
