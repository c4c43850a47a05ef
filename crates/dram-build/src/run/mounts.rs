//! Converts the mounts of a `RUN` in the plan to mounts of the jail.
//!
//! The form in between is [`ResolvedMount`], which does not need the plan any more. It is serialisable, so that a shell
//! in a failed command gets the same mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_plan::{CacheMount, CacheSharing, MountedFile, PlanStep, RunMount, RunOp, StepPart};
use dram_sandbox::{BindMount, BindSource, Jail, MemoryFile, ScratchDirs, TmpfsMount};
use dram_store::{
    CacheMountGuard, CacheMountIdentity, CacheMountSharing, Dir, FileMetadata, LayerId, MergedTree, Store,
};
use serde::{Deserialize, Serialize};

use super::mount_files::{BindableFiles, MountFiles};
use super::ssh_agent::AgentRelay;
use crate::container::{ContainerDirs, dedup_lowers};
use crate::layer_writer::inherit_root_metadata;
use crate::step_location::StepLocation;
use crate::{BuildError, CommandOptions};

/// One mount of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ResolvedMount {
    /// The target: absolute and clean.
    target: String,
    #[serde(rename = "what")]
    source: ResolvedMountSource,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum ResolvedMountSource {
    /// Files of layers, lowest first.
    Layers { layers: Vec<LayerId>, path: Vec<u8>, writable: bool },
    /// Files of a copy: the index in [`ResolvedMounts::copies`].
    Copy { number: usize, path: Vec<u8>, writable: bool },
    /// A cache mount.
    Cache { name: CacheMountIdentity, sharing: u8, read_only: bool },
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
pub(crate) struct ResolvedMounts {
    /// The mounts, in the order in which they are made: one may be inside another.
    #[serde(rename = "seen")]
    mounts: Vec<ResolvedMount>,
    /// Variables whose values are secrets: names and secret ids.
    variables: Vec<(String, String)>,
    /// The value of `SSH_AUTH_SOCK`.
    agent: Option<String>,
    /// Directories that were made for this command. The caller removes them.
    #[serde(skip)]
    pub(crate) copies: Vec<PathBuf>,
}

/// Resolves each mount of `run`; `picked` are their files.
pub(crate) fn resolve_mounts(
    store: &Store,
    (step, run): (&PlanStep, &RunOp),
    picked: &[Option<MountFiles<'_>>],
    given: &CommandOptions,
) -> Result<ResolvedMounts, BuildError> {
    let mut sight = ResolvedMounts::default();
    for script in &run.scripts {
        let what = ResolvedMountSource::Script { contents: script.contents.clone() };
        sight.mounts.push(ResolvedMount { target: script.path.clone(), source: what });
    }
    for ((at, mount), picked) in run.mounts.iter().enumerate().zip(picked) {
        let location = StepLocation::of_part(step, StepPart::Mount(at));
        if let Err(error) = sight.add(store, (mount, location), picked.as_ref(), given) {
            sight.discard(store);
            return Err(error);
        }
    }
    // As in BuildKit, a mount inside another one comes after it.
    sight.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(sight)
}

impl ResolvedMounts {
    fn add(
        &mut self,
        store: &Store,
        (mount, location): (&RunMount, StepLocation<'_>),
        picked: Option<&MountFiles<'_>>,
        given: &CommandOptions,
    ) -> Result<(), BuildError> {
        let (target, what) = match mount {
            RunMount::Bind { target, writable, .. } => {
                let (shown, path) = picked.expect("a bind has files").bindable_files(store, location)?;
                let writable = *writable;
                let what = match shown {
                    BindableFiles::Layers(layers) => ResolvedMountSource::Layers { layers, path, writable },
                    BindableFiles::Copy(copy) => {
                        self.copies.push(copy);
                        ResolvedMountSource::Copy { number: self.copies.len() - 1, path, writable }
                    }
                };
                (target, what)
            }
            RunMount::Cache(cache) => {
                let sharing = match cache.sharing {
                    CacheSharing::Shared => 0,
                    CacheSharing::Private => 1,
                    CacheSharing::Locked => 2,
                };
                let what =
                    ResolvedMountSource::Cache { name: cache_name(cache, picked), sharing, read_only: cache.read_only };
                (&cache.target, what)
            }
            RunMount::Secret { id, file, env, required } => {
                if *required && !given.secrets.contains_key(id) {
                    return Err(missing_option(
                        location,
                        "secret",
                        id,
                        &format!("--secret id={id},src=FILE` or `--secret id={id},env=NAME"),
                    ));
                }
                self.variables.extend(env.iter().map(|name| (name.clone(), id.clone())));
                let Some(MountedFile { target, mode, uid, gid }) = file else { return Ok(()) };
                (target, ResolvedMountSource::Secret { id: id.clone(), mode: *mode, uid: *uid, gid: *gid })
            }
            RunMount::Ssh { id, file, required } => {
                if *required && !given.ssh_agents.contains_key(id) {
                    return Err(missing_option(location, "ssh agent", id, &format!("--ssh {id}")));
                }
                let MountedFile { target, mode, uid, gid } = file;
                self.agent.get_or_insert_with(|| target.clone());
                (target, ResolvedMountSource::Agent { id: id.clone(), mode: *mode, uid: *uid, gid: *gid })
            }
            RunMount::Tmpfs { target, size } => (target, ResolvedMountSource::Tmpfs { size: *size }),
        };
        self.mounts.push(ResolvedMount { target: target.clone(), source: what });
        Ok(())
    }

    /// Returns the number of copies that the mounts refer to.
    pub(crate) fn count_copies(&self) -> usize {
        self.mounts.iter().filter(|seen| matches!(seen.source, ResolvedMountSource::Copy { .. })).count()
    }

    /// Removes the directories that were made for the command.
    pub(crate) fn discard(&mut self, store: &Store) {
        for copy in std::mem::take(&mut self.copies) {
            store.work_dir().remove_temp_dir(&copy);
        }
    }
}

fn missing_option(location: StepLocation<'_>, what: &str, id: &str, flag: &str) -> BuildError {
    let what = format!("the command needs the {what} `{id}`, and it was not given");
    BuildError::at_line(location.error(what).help(format!("build with `{flag}`")))
}

fn cache_name(cache: &CacheMount, picked: Option<&MountFiles<'_>>) -> CacheMountIdentity {
    let seed = picked.map(|picked| picked.content.digest.hex());
    CacheMountIdentity { id: cache.id.clone(), seed, mode: cache.mode, uid: cache.uid, gid: cache.gid }
}

/// Writes the initial content of a new cache mount, by the name of the cache.
pub(crate) type FillCache<'a> = dyn FnMut(&CacheMountIdentity, &Path) -> Result<(), BuildError> + 'a;

/// Writes the initial content of the new cache mount at `data`: the files of the mount that has this cache name.
pub(crate) fn fill_cache(
    (step, run): (&PlanStep, &RunOp),
    picked: &[Option<MountFiles<'_>>],
    name: &CacheMountIdentity,
    data: &Path,
) -> Result<(), BuildError> {
    for ((at, mount), picked) in run.mounts.iter().enumerate().zip(picked) {
        if let (RunMount::Cache(cache), Some(picked)) = (mount, picked)
            && cache_name(cache, Some(picked)) == *name
        {
            let location = StepLocation::of_part(step, StepPart::Mount(at));
            picked.must_be_dir(location)?;
            picked.copy_to(data, location)?;
            if (cache.mode, cache.uid, cache.gid) != (0o755, 0, 0) {
                let meta = FileMetadata { mode: cache.mode, uid: cache.uid, gid: cache.gid, mtime: (0, 0) };
                Dir::open_layer(data)?.set_metadata(&dram_image::TreePath::root(), &meta, false)?;
            }
            return Ok(());
        }
    }
    Ok(())
}

/// The cache mounts and agent relays that a command holds while it runs.
#[derive(Debug, Default)]
pub(crate) struct MountsInUse {
    caches: BTreeMap<String, CacheMountGuard>,
    relays: Vec<AgentRelay>,
}

/// The context for making the mounts.
pub(crate) struct MountContext<'a> {
    pub(crate) store: &'a Store,
    pub(crate) given: &'a CommandOptions,
    /// The directories of copies, by index.
    pub(crate) copies: Vec<PathBuf>,
    pub(crate) fill: &'a mut FillCache<'a>,
    /// Called repeatedly while another command holds the cache mount with this id; ends the waiting by returning
    /// `false`.
    pub(crate) wait: &'a mut dyn FnMut(&str) -> bool,
}

/// Adds all mounts of `sight` to the jail, and sets the variables that belong to them. Returns `None` if the waiting
/// was ended.
pub(crate) fn mount_all(
    sight: &ResolvedMounts,
    means: &mut MountContext<'_>,
    place: &mut ContainerDirs<'_>,
    jail: &mut Jail,
) -> Result<Option<MountsInUse>, BuildError> {
    let mut used = MountsInUse::default();
    if !take_caches(sight, means, &mut used)? {
        return Ok(None);
    }
    for seen in &sight.mounts {
        if let Some(mount) = jail_mount(seen, means, place, &mut used)? {
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
fn take_caches(
    sight: &ResolvedMounts,
    means: &mut MountContext<'_>,
    used: &mut MountsInUse,
) -> Result<bool, BuildError> {
    let mut wanted: BTreeMap<String, (&CacheMountIdentity, u8)> = BTreeMap::new();
    for seen in &sight.mounts {
        if let ResolvedMountSource::Cache { name, sharing, .. } = &seen.source {
            let one = wanted.entry(name.key()).or_insert((name, *sharing));
            one.1 = one.1.max(*sharing);
        }
    }
    for (key, (name, sharing)) in wanted {
        let how = match sharing {
            0 => CacheMountSharing::Shared,
            1 => CacheMountSharing::Private,
            _ => CacheMountSharing::Locked,
        };
        let (fill, wait) = (&mut means.fill, &mut means.wait);
        let taken = means.store.caches().acquire(name, how, &mut |data| fill(name, data), &mut || wait(&name.id))?;
        let Some(taken) = taken else { return Ok(false) };
        used.caches.insert(key, taken);
    }
    Ok(true)
}

fn jail_mount(
    seen: &ResolvedMount,
    means: &MountContext<'_>,
    place: &mut ContainerDirs<'_>,
    used: &mut MountsInUse,
) -> Result<Option<dram_sandbox::JailMount>, BuildError> {
    let target = seen.target.clone().into_bytes();
    let bind = |source, read_only| {
        Ok(Some(dram_sandbox::JailMount::Bind(BindMount { source, target: target.clone(), read_only })))
    };
    let file = |contents: &[u8], (mode, uid, gid): (u32, u32, u32), read_only| {
        let (target, contents) = (target.clone(), contents.to_vec());
        Ok(Some(dram_sandbox::JailMount::File(MemoryFile { target, contents, mode, uid, gid, read_only })))
    };
    match &seen.source {
        ResolvedMountSource::Layers { layers, path, writable } => {
            let mut lowers: Vec<_> = layers.iter().rev().map(|layer| means.store.layers().path(layer)).collect();
            dedup_lowers(&mut lowers);
            if lowers.is_empty() {
                let empty = place.new_dir()?;
                inherit_root_metadata(&Dir::open_layer(&empty)?, &MergedTree::open(&[])?)?;
                lowers.push(empty);
            }
            let scratch = scratch_dirs(place, &lowers, *writable)?;
            let lowers = lowers.into_iter().map(Into::into).collect();
            bind(BindSource::Layers { lowers, scratch, path: path.clone() }, !writable)
        }
        ResolvedMountSource::Copy { number, path, writable } => {
            let lowers = vec![means.copies[*number].clone()];
            let scratch = scratch_dirs(place, &lowers, *writable)?;
            let lowers = lowers.into_iter().map(Into::into).collect();
            bind(BindSource::Layers { lowers, scratch, path: path.clone() }, !writable)
        }
        ResolvedMountSource::Cache { name, read_only, .. } => {
            let directory = used.caches[&name.key()].data_dir().into();
            bind(BindSource::Below { directory, path: Vec::new() }, *read_only)
        }
        ResolvedMountSource::Script { contents } => file(contents.as_bytes(), (0o755, 0, 0), true),
        ResolvedMountSource::Secret { id, mode, uid, gid } => match means.given.secrets.get(id) {
            Some(secret) => file(secret.bytes(), (*mode, *uid, *gid), true),
            None => Ok(None),
        },
        ResolvedMountSource::Agent { id, mode, uid, gid } => {
            let Some(agent) = means.given.ssh_agents.get(id) else { return Ok(None) };
            let file = MountedFile { target: seen.target.clone(), mode: *mode, uid: *uid, gid: *gid };
            let relay = AgentRelay::start(agent, &place.new_dir()?, &file)?;
            let socket = relay.socket();
            used.relays.push(relay);
            bind(BindSource::Host(socket.into()), false)
        }
        ResolvedMountSource::Tmpfs { size } => {
            Ok(Some(dram_sandbox::JailMount::Tmpfs(TmpfsMount { target, size: *size, mode: None })))
        }
    }
}

/// Returns new directories for writes that are discarded.
fn scratch_dirs(
    place: &mut ContainerDirs<'_>,
    lowers: &[PathBuf],
    writable: bool,
) -> Result<Option<ScratchDirs>, BuildError> {
    if !writable {
        return Ok(None);
    }
    let (upper, work) = (place.new_dir()?, place.new_dir()?);
    inherit_root_metadata(&Dir::open_layer(&upper)?, &MergedTree::open(lowers)?)?;
    Ok(Some(ScratchDirs { upper: upper.into(), work: work.into() }))
}
