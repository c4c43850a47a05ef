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
    // The number is raised with the rules for excluded files.
    let rules: &[&[u8]] = if step.exclude.is_empty() { &[] } else { &[b"2"] };
    let exclude = StepKey::of(rules.iter().copied().chain(step.exclude.iter().map(String::as_bytes)));
    let from = StepKey::of([from.as_bytes(), sources.as_bytes(), exclude.as_bytes()]);
    copy_key_parts(step, ground, brought)
        .with(CacheKeyPartName::Source(String::new()), from.as_bytes())
        .finish(&ground.below)
}

/// Returns the text of `--chmod` in the key. The number is raised with the rules for symbolic modes.
fn chmod_key_text(mode: &ChmodMode) -> String {
    match mode {
        ChmodMode::Exact(_) => mode.cache_key_text(),
        ChmodMode::Changes(_) => format!("{} 2", mode.cache_key_text()),
    }
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
        // The number is raised with the rules for archives.
        UnpackPolicy::Local => "local 2",
        UnpackPolicy::All => "all 2",
    };
    let mut parts = CacheKeyBuilder::new(COPY_VERSION)
        .setting("--from", from)
        .setting("the destination", dest)
        .setting("--chown", chown.as_deref().unwrap_or_default())
        .setting("--chmod", &chmod.as_ref().map(chmod_key_text).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use dram_plan::{CacheSharing, CopySource, GitRef};
    use dram_sandbox::RlimitKind;

    use super::*;
    use crate::content_digest::FileList;
    use crate::{Layer, SecretValue, SnapshotStep};

    /// Everything that a command's key is made of.
    #[derive(Clone)]
    struct RunCase {
        op: RunOp,
        below: Snapshot,
        network: JailNetwork,
        options: CommandOptions,
        inputs: Vec<Option<u8>>,
    }

    fn content(number: u8) -> ContentDigest {
        ContentDigest {
            digest: StepKey::of([&[number][..]]),
            files: Arc::new(FileList::default()),
            left_out: Default::default(),
        }
    }

    fn file(target: &str) -> MountedFile {
        MountedFile { target: target.to_owned(), mode: 0o400, uid: 0, gid: 0 }
    }

    fn run_case() -> RunCase {
        let cache = CacheMount {
            target: "/cache".to_owned(),
            id: "id".to_owned(),
            sharing: CacheSharing::Shared,
            read_only: false,
            seed: None,
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        let (target, source) = ("/bind".to_owned(), "/src".to_owned());
        let mounts = vec![
            RunMount::Bind { target, from: InputRef::Context, source, writable: false },
            RunMount::Cache(cache),
            RunMount::Secret { id: "s".to_owned(), file: Some(file("/s")), env: None, required: false },
            RunMount::Ssh { id: "a".to_owned(), file: file("/a"), required: false },
            RunMount::Tmpfs { target: "/t".to_owned(), size: None },
        ];
        let op = RunOp {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), "make".to_owned()],
            env: vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())],
            cwd: "/".to_owned(),
            user: String::new(),
            from_args: std::collections::BTreeSet::new(),
            hidden_env: Vec::new(),
            mounts,
            scripts: Vec::new(),
            network: None,
            insecure: false,
        };
        let (network, options) = (JailNetwork::None, CommandOptions::default());
        RunCase { op, below: Snapshot::default(), network, options, inputs: vec![Some(1), None, None, None, None] }
    }

    impl RunCase {
        fn key(&self) -> Arc<StepCacheKey> {
            let contents: Vec<Option<ContentDigest>> = self.inputs.iter().map(|input| input.map(content)).collect();
            let input = |content: &'_ Option<ContentDigest>| content.clone();
            let contents: Vec<Option<ContentDigest>> = contents.iter().map(input).collect();
            let inputs: Vec<MountInput<'_>> = contents
                .iter()
                .map(|content| content.as_ref().map_or(MountInput::NoFiles, MountInput::Content))
                .collect();
            let around = RunKeyOptions { network: self.network, command_options: &self.options };
            run_key(&self.op, &self.below, &around, &inputs)
        }

        fn changed(change: impl FnOnce(&mut RunCase)) -> StepKey {
            let mut case = run_case();
            change(&mut case);
            case.key().id
        }
    }

    fn cache_of(case: &mut RunCase) -> &mut CacheMount {
        match &mut case.op.mounts[1] {
            RunMount::Cache(cache) => cache,
            other @ (RunMount::Bind { .. }
            | RunMount::Secret { .. }
            | RunMount::Ssh { .. }
            | RunMount::Tmpfs { .. }) => panic!("{other:?}"),
        }
    }

    fn layer(letter: &str) -> Layer {
        Layer::Local(format!("c-{}", letter.repeat(64)).parse().unwrap())
    }

    fn limit(kind: RlimitKind, soft: Option<u64>) -> ResourceLimit {
        ResourceLimit { kind, soft, hard: Some(9) }
    }

    /// Asserts that all keys differ from each other.
    fn assert_distinct(keys: &[StepKey]) {
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "the key number {at} is equal to an earlier one");
        }
    }

    #[test]
    fn each_field_that_can_change_the_result_of_a_command_changes_its_key() {
        let s = |text: &str| text.to_owned();
        assert_distinct(&[
            run_case().key().id,
            RunCase::changed(|case| case.op.argv = vec![s("/bin/sh"), s("-c make")]),
            RunCase::changed(|case| case.op.argv.push(String::new())),
            RunCase::changed(|case| case.op.env[0].1 = s("2")),
            RunCase::changed(|case| case.op.env.swap(0, 1)),
            RunCase::changed(|case| drop(case.op.env.pop())),
            RunCase::changed(|case| case.op.cwd = s("/x")),
            RunCase::changed(|case| case.op.user = s("x")),
            RunCase::changed(|case| case.network = JailNetwork::Host),
            RunCase::changed(|case| case.op.insecure = true),
            RunCase::changed(|case| case.op.scripts = vec![HeredocScript { path: s("/p"), contents: s("1") }]),
            RunCase::changed(|case| case.op.scripts = vec![HeredocScript { path: s("/p"), contents: s("2") }]),
            RunCase::changed(|case| case.inputs[0] = Some(2)),
            RunCase::changed(|case| cache_of(case).target = s("/other")),
            RunCase::changed(|case| cache_of(case).read_only = true),
            RunCase::changed(|case| cache_of(case).mode = 0o700),
            RunCase::changed(|case| cache_of(case).uid = 1),
            RunCase::changed(|case| cache_of(case).gid = 1),
            RunCase::changed(|case| drop(case.op.mounts.pop())),
            RunCase::changed(|case| case.op.mounts[4] = RunMount::Tmpfs { target: s("/t"), size: Some(1) }),
            RunCase::changed(|case| case.op.mounts.swap(3, 4)),
            RunCase::changed(|case| case.options.hostname = Some(s("h"))),
            RunCase::changed(|case| case.options.hosts = vec![(s("h"), s("1.2.3.4"))]),
            RunCase::changed(|case| case.options.limits = vec![limit(RlimitKind::Cpu, Some(1))]),
            RunCase::changed(|case| case.options.limits = vec![limit(RlimitKind::Cpu, None)]),
            RunCase::changed(|case| case.options.shm_size = 1),
            RunCase::changed(|case| case.below.layers.push(layer("a"))),
        ]);
    }

    #[test]
    fn fields_that_must_not_change_the_result_of_a_command_leave_its_key() {
        let s = |text: &str| text.to_owned();
        let plain = run_case().key().id;
        let same: &[(&str, StepKey)] = &[
            ("variables of proxies", RunCase::changed(|case| case.op.hidden_env = vec![(s("http_proxy"), s("x"))])),
            ("the origin of a variable", RunCase::changed(|case| case.op.from_args = [s("A")].into())),
            (
                "the flag whose effect is in the network",
                RunCase::changed(|case| {
                    case.op.network = Some(dram_plan::RunNetwork::None);
                }),
            ),
            ("the name of a cache", RunCase::changed(|case| cache_of(case).id = s("other"))),
            ("who shares a cache", RunCase::changed(|case| cache_of(case).sharing = CacheSharing::Locked)),
            (
                "the path that mounted files come from",
                RunCase::changed(|case| {
                    let (target, source) = (s("/bind"), s("/elsewhere"));
                    case.op.mounts[0] = RunMount::Bind { target, from: InputRef::Scratch, source, writable: false };
                }),
            ),
            (
                "the value of a secret",
                RunCase::changed(|case| {
                    case.options.secrets.insert(s("s"), SecretValue::new(b"value".to_vec()));
                }),
            ),
            (
                "the socket of an agent",
                RunCase::changed(|case| {
                    case.options.ssh_agents.insert(s("a"), "/socket".into());
                }),
            ),
            (
                "rights that are granted",
                RunCase::changed(|case| {
                    (case.options.allow_insecure, case.options.allow_host_network) = (true, true);
                }),
            ),
            (
                "the steps that made no layer, and when they were executed",
                RunCase::changed(|case| case.below.steps = vec![SnapshotStep { made_layer: false, executed: Some(1) }]),
            ),
        ];
        for (what, key) in same {
            assert_eq!(*key, plain, "{what}");
        }
        let hosts = |address: &str| RunCase::changed(|case| case.options.hosts = vec![(s("h"), s(address))]);
        assert_eq!(hosts("1.1.1.1"), hosts("2.2.2.2"));
        let (cpu, core) = (limit(RlimitKind::Cpu, Some(1)), limit(RlimitKind::Core, Some(1)));
        let limits = |limits: &[ResourceLimit]| RunCase::changed(|case| case.options.limits = limits.to_vec());
        assert_eq!(limits(&[cpu, core]), limits(&[core, cpu]));
    }

    #[test]
    fn parts_of_a_key_have_unique_names_even_if_a_target_is_mounted_twice() {
        let mut case = run_case();
        case.op.mounts = vec![case.op.mounts[0].clone(), case.op.mounts[0].clone()];
        case.inputs = vec![Some(1), Some(2)];
        let key = case.key();
        let mut names: Vec<_> = key.parts.iter().map(|part| format!("{:?}", part.name)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), key.parts.len());
    }

    fn copy_op() -> CopyOp {
        CopyOp {
            from: InputRef::Context,
            sources: vec![CopySource { text: "src".to_owned(), kind: CopySourceKind::Path }],
            dest: "/dest".to_owned(),
            chown: None,
            chmod: None,
            unpack: UnpackPolicy::No,
            link: false,
            parents: false,
            exclude: Vec::new(),
            checksum: None,
            keep_git_dir: false,
        }
    }

    fn copy_base() -> CopyBase {
        CopyBase { below: Snapshot::default(), owner: None }
    }

    fn inline(name: &str, text: &str) -> CopySource {
        CopySource { text: name.to_owned(), kind: CopySourceKind::Inline(text.to_owned()) }
    }

    #[test]
    fn each_field_that_can_change_the_result_of_a_copy_changes_its_key() {
        let of = |copy: &CopyOp, base: &CopyBase, number| copy_key(copy, base, &content(number), &[None]).id;
        let changed = |change: &dyn Fn(&mut CopyOp)| {
            let mut copy = copy_op();
            change(&mut copy);
            of(&copy, &copy_base(), 1)
        };
        let below = Snapshot { layers: vec![layer("a")], steps: Vec::new() };
        assert_distinct(&[
            of(&copy_op(), &copy_base(), 1),
            of(&copy_op(), &copy_base(), 2),
            of(&copy_op(), &CopyBase { owner: Some((1, 2)), ..copy_base() }, 1),
            of(&copy_op(), &CopyBase { owner: Some((1, 3)), ..copy_base() }, 1),
            of(&copy_op(), &CopyBase { below, owner: None }, 1),
            changed(&|copy| copy.from = InputRef::Stage(0)),
            changed(&|copy| copy.dest = "/dest/".to_owned()),
            changed(&|copy| copy.chown = Some("1:2".to_owned())),
            changed(&|copy| copy.chmod = ChmodMode::parse("0755")),
            changed(&|copy| copy.unpack = UnpackPolicy::Local),
            changed(&|copy| copy.unpack = UnpackPolicy::All),
            changed(&|copy| copy.link = true),
            changed(&|copy| copy.parents = true),
            changed(&|copy| copy.sources = vec![inline("f", "1")]),
            changed(&|copy| copy.sources = vec![inline("f", "2")]),
            changed(&|copy| copy.sources = vec![inline("g", "1")]),
        ]);
    }

    #[test]
    fn what_the_copied_files_cover_is_not_in_the_key_of_a_copy_again() {
        let of = |copy: &CopyOp| copy_key(copy, &copy_base(), &content(1), &[None]).id;
        let by_snapshot =
            |copy: &CopyOp| copy_key_by_snapshot(copy, &copy_base(), &StepKey::of([&b"x"[..]]), &[None]).id;
        let path =
            CopyOp { sources: vec![CopySource { text: "s*".to_owned(), ..copy_op().sources[0].clone() }], ..copy_op() };
        let exclude = |pattern: &str| CopyOp { exclude: vec![pattern.to_owned()], ..copy_op() };
        let checksum = CopyOp { checksum: Some("sha256:0".to_owned()), ..copy_op() };
        for copy in [&path, &checksum, &CopyOp { from: InputRef::External("i".to_owned()), ..copy_op() }] {
            assert_eq!(of(copy), of(&copy_op()), "{copy:?}");
        }
        assert_eq!(of(&exclude("x")), of(&exclude("y")));
        // The identity of a snapshot says nothing about the selection of its files.
        assert_distinct(&[
            by_snapshot(&copy_op()),
            by_snapshot(&path),
            by_snapshot(&exclude("x")),
            by_snapshot(&exclude("y")),
        ]);
        assert_eq!(by_snapshot(&checksum), by_snapshot(&copy_op()));
        let other = copy_key_by_snapshot(&copy_op(), &copy_base(), &StepKey::of([&b"y"[..]]), &[None]).id;
        assert_ne!(other, by_snapshot(&copy_op()));
    }

    #[test]
    fn commit_and_options_of_a_repository_change_the_key_of_a_copy() {
        let of = |commit: &str, git: GitRef| {
            let kind = CopySourceKind::Git(Box::new(git));
            let copy = CopyOp { sources: vec![CopySource { text: "repo".to_owned(), kind }], ..copy_op() };
            let fetched = [Some(FetchedSource::Commit(commit.to_owned()))];
            copy_key(&copy, &copy_base(), &content(1), &fetched).id
        };
        let plain = GitRef { subdir: "a".to_owned(), ..GitRef::default() };
        assert_distinct(&[
            of("1", plain.clone()),
            of("2", plain.clone()),
            of("1", GitRef { subdir: "b".to_owned(), ..plain.clone() }),
            of("1", GitRef { keep_git_dir: Some(true), ..plain.clone() }),
            of("1", GitRef { submodules: Some(false), ..plain.clone() }),
        ]);
        let same = GitRef {
            subdir: "/a/".to_owned(),
            reference: "main".to_owned(),
            keep_git_dir: Some(false),
            ..plain.clone()
        };
        assert_eq!(of("1", same), of("1", plain));
    }

    #[test]
    fn path_user_and_layers_below_are_in_the_key_of_a_working_directory() {
        let of = |path: &str, user: &str, below: &Snapshot| {
            workdir_key(&WorkdirOp { path: path.to_owned(), user: user.to_owned() }, below).id
        };
        let (empty, other) = (Snapshot::default(), Snapshot { layers: vec![layer("a")], steps: Vec::new() });
        assert_distinct(&[of("/a", "", &empty), of("/b", "", &empty), of("/a", "b", &empty), of("/a", "", &other)]);
    }
}
