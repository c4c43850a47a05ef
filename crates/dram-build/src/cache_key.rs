//! Cache keys of steps. Each covers everything that can change the result of the step. The patterns destructure every
//! struct without `..`, so that a new field does not compile until its place in the key is decided. Each part has the
//! name that users know: the build prints it if the part changed.

use std::sync::Arc;

use dram_plan::{
    CacheMount, ChmodMode, CopyOp, CopySourceKind, HeredocScript, InputRef, MountedFile, RunMount, RunOp, UnpackPolicy,
    WorkdirOp,
};
use dram_sandbox::{Jail, JailNetwork, ResourceLimit};
use dram_store::StepKey;

use crate::cache_key_parts::{CacheKeyBuilder, CacheKeyPartName, StepCacheKey};
use crate::content_digest::ContentDigest;
use crate::execute_copy::CopyBase;
use crate::fetched_source::FetchedSource;
use crate::{CommandOptions, Snapshot};

/// Versions of the steps' implementations. Raise a number if the meaning of a key or the result of such a step changes:
/// existing cache records are then misses.
const RUN_VERSION: &str = "run 2";
const COPY_VERSION: &str = "copy 2";
const WORKDIR_VERSION: &str = "workdir 2";

/// The settings of the command line that a command's result depends on.
pub(crate) struct RunKeyOptions<'a> {
    /// The network that the command gets.
    pub(crate) network: JailNetwork,
    pub(crate) command_options: &'a CommandOptions,
}

/// The part of a cache key that covers the files of a mount.
pub(crate) enum MountInput<'a> {
    /// The mount shows no files.
    NoFiles,
    /// The content of the files.
    Content(&'a ContentDigest),
    /// The identity of the snapshot that the files come from.
    Snapshot(StepKey),
}

/// Returns the cache key of a command over `below`; `inputs` has one entry for each mount.
pub(crate) fn run_key(
    step: &RunOp,
    below: &Snapshot,
    around: &RunKeyOptions<'_>,
    inputs: &[MountInput<'_>],
) -> Arc<StepCacheKey> {
    // Variables that only the command sees, such as the address of a proxy, must not change its result.
    let RunOp { argv, env, cwd, user, from_args, hidden_env: _, mounts, scripts, network: _, insecure } = step;
    let network = match around.network {
        JailNetwork::Host => "host",
        JailNetwork::None => "none",
    };
    let mut parts = CacheKeyBuilder::new(RUN_VERSION).command(argv);
    for (name, value) in env {
        let name = CacheKeyPartName::Variable { name: name.clone(), is_arg: from_args.contains(name) };
        parts = parts.with(name, value.as_bytes());
    }
    parts = parts.setting("the working directory", cwd).setting("the user", user).setting("--network", network);
    if *insecure {
        parts = parts.setting("--security", "insecure");
    }
    for (number, HeredocScript { path, contents }) in scripts.iter().enumerate() {
        parts = parts.setting(&format!("script {number} at {path}"), contents);
    }
    let mut targets: Vec<&str> = Vec::new();
    for (mount, input) in mounts.iter().zip(inputs) {
        let (target, what) = describe_mount(mount);
        targets.push(target);
        // Only tests mount twice on one target, but every part of a key needs a unique name.
        let again = targets.iter().filter(|other| **other == target).count();
        let name = if again == 1 { target.to_owned() } else { format!("{target} ({again})") };
        parts = parts.setting(&format!("--mount on {name}"), &what);
        parts = match input {
            MountInput::NoFiles => parts,
            MountInput::Content(content) => parts.files(&name, content),
            MountInput::Snapshot(key) => parts.with(CacheKeyPartName::Source(name), key.as_bytes()),
        };
    }
    add_command_options(parts, around.command_options).finish(below)
}

/// Returns a mount's target and the options that the result depends on. The content of a cache, and the data of a
/// secret or an ssh agent, are not part of the key.
fn describe_mount(kind: &RunMount) -> (&str, String) {
    match kind {
        // The source path and its origin are covered by the files themselves.
        RunMount::Bind { target, from: _, source: _, writable } => {
            (target, format!("bind {}", if *writable { "rw" } else { "ro" }))
        }
        RunMount::Cache(CacheMount { target, id: _, sharing: _, read_only, seed: _, mode, uid, gid }) => {
            (target, format!("cache {} {mode:o} {uid} {gid}", if *read_only { "ro" } else { "rw" }))
        }
        RunMount::Secret { id, file, env, required: _ } => {
            let place = file.as_ref().map(describe_file).unwrap_or_default();
            let target = file.as_ref().map_or(id, |file| &file.target);
            (target, format!("secret {id:?} {:?} {place}", env.as_deref().unwrap_or_default()))
        }
        RunMount::Ssh { id, file, required: _ } => (&file.target, format!("ssh {id:?} {}", describe_file(file))),
        RunMount::Tmpfs { target, size } => (target, format!("tmpfs {}", size.unwrap_or(0))),
    }
}

fn describe_file(file: &MountedFile) -> String {
    let MountedFile { target, mode, uid, gid } = file;
    format!("{target} {mode:o} {uid} {gid}")
}

/// Adds the options of the command line. Of hosts only the names are covered, as in BuildKit: addresses change.
fn add_command_options(mut parts: CacheKeyBuilder, given: &CommandOptions) -> CacheKeyBuilder {
    let CommandOptions {
        secrets: _,
        ssh_agents: _,
        hostname,
        allow_insecure: _,
        allow_host_network: _,
        hosts,
        limits,
        shm_size,
    } = given;
    if let Some(hostname) = hostname {
        parts = parts.setting("the host name", hostname);
    }
    if !hosts.is_empty() {
        let names: Vec<&str> = hosts.iter().map(|(name, _)| name.as_str()).collect();
        parts = parts.setting("--add-host", &names.join(" "));
    }
    let mut limits: Vec<String> = limits.iter().map(describe_limit).collect();
    if !limits.is_empty() {
        limits.sort();
        parts = parts.setting("--ulimit", &limits.join(" "));
    }
    if *shm_size != Jail::SHM_SIZE {
        parts = parts.setting("--shm-size", &shm_size.to_string());
    }
    parts
}

fn describe_limit(limit: &ResourceLimit) -> String {
    let ResourceLimit { kind: what, soft, hard } = limit;
    let number = |value: &Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
    format!("{}={}:{}", what.name(), number(soft), number(hard))
}

/// Returns the cache key of a copy over `ground` of sources with the content `content`.
pub(crate) fn copy_key(
    step: &CopyOp,
    ground: &CopyBase,
    content: &ContentDigest,
    brought: &[Option<FetchedSource>],
) -> Arc<StepCacheKey> {
    copy_key_parts(step, ground, brought).files("", content).finish(&ground.below)
}

/// Returns the cache key of a copy over `ground` from the snapshot with the identity `from`. It needs no access to a
/// file.
pub(crate) fn copy_key_by_snapshot(
    step: &CopyOp,
    ground: &CopyBase,
    from: &StepKey,
    brought: &[Option<FetchedSource>],
) -> Arc<StepCacheKey> {
    // Fetched sources are covered by their own identity.
    let paths = step.sources.iter().filter(|source| matches!(source.kind, CopySourceKind::Path));
    let sources = StepKey::of(paths.map(|source| source.text.as_bytes()));
    let exclude = StepKey::of(step.exclude.iter().map(String::as_bytes));
    let from = StepKey::of([from.as_bytes(), sources.as_bytes(), exclude.as_bytes()]);
    copy_key_parts(step, ground, brought)
        .with(CacheKeyPartName::Source(String::new()), from.as_bytes())
        .finish(&ground.below)
}

fn copy_key_parts(step: &CopyOp, ground: &CopyBase, brought: &[Option<FetchedSource>]) -> CacheKeyBuilder {
    // The paths, the exclusions and the origin are covered by the files or by the snapshot's identity, and so are the
    // checksum and the Git directory.
    let CopyOp { from, sources, dest, chown, chmod, unpack, link, parents, exclude: _, checksum: _, keep_git_dir: _ } =
        step;
    let from = match from {
        InputRef::Context | InputRef::External(_) | InputRef::Scratch => "outside",
        InputRef::Stage(_) => "stage",
    };
    let unpack = match unpack {
        UnpackPolicy::No => "no",
        UnpackPolicy::Local => "local",
        UnpackPolicy::All => "all",
    };
    let mut parts = CacheKeyBuilder::new(COPY_VERSION)
        .setting("--from", from)
        .setting("the destination", dest)
        .setting("--chown", chown.as_deref().unwrap_or_default())
        .setting("--chmod", &chmod.as_ref().map(ChmodMode::cache_key_text).unwrap_or_default())
        .setting("--unpack", unpack)
        .setting("--link", &link.to_string())
        .setting("--parents", &parents.to_string());
    // With `--link` the layers below are not covered by the key, so the owner that was resolved in them must be.
    if let Some((uid, gid)) = ground.owner {
        parts = parts.setting("the owner", &format!("{uid}:{gid}"));
    }
    for (at, (source, brought)) in sources.iter().zip(brought).enumerate() {
        if let Some(brought) = brought {
            let mut what = brought.identity();
            if let CopySourceKind::Git(git) = &source.kind {
                let (keep, submodules) = (git.keep_git_dir.unwrap_or(false), git.submodules.unwrap_or(true));
                what.push_str(&format!(
                    ", directory {:?}, .git {keep}, submodules {submodules}",
                    git.subdir.trim_matches('/')
                ));
            }
            parts = parts.setting(&format!("what source {} brings", at + 1), &what);
        }
    }
    for (at, source) in sources.iter().enumerate() {
        if let CopySourceKind::Inline(text) = &source.kind {
            let text = StepKey::of([source.text.as_bytes(), text.as_bytes()]);
            parts = parts.with(CacheKeyPartName::Setting(format!("the text of heredoc {}", at + 1)), text.as_bytes());
        }
    }
    parts
}

/// Returns the cache key of a `WORKDIR` over `below`.
pub(crate) fn workdir_key(step: &WorkdirOp, below: &Snapshot) -> Arc<StepCacheKey> {
    let WorkdirOp { path, user } = step;
    CacheKeyBuilder::new(WORKDIR_VERSION).setting("the directory", path).setting("the user", user).finish(below)
}
