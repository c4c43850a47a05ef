//! Builds every case of `tests/parity` with dram and with buildah, and compares files and config. With one time for all
//! files, every store gives the same digest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::rootless::{user_with_subids, user_without_subids, with_base};
use crate::support::{BASE, Store, TestCommand, User, base_tar, remove_at_exit, repo, temp, tool, valid_image};
use crate::tree_listing::{Listing, difference, listing};

/// The fields of the config that are compared.
const CONFIG: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes a test of each case; `_` in its name stands for `-` in the name of its directory.
macro_rules! parity_cases {
    ($($name:ident,)*) => {
        const CASES: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            check_case(&stringify!($name).replace('_', "-"));
        })*
    };
}

parity_cases! {
    add_chown_archive,
    add_file_and_directory,
    add_tar,
    add_tar_gz,
    add_tar_over_files,
    add_tar_xz_and_bz2,
    arg_before_from,
    arg_before_from_given,
    arg_default_and_given,
    arg_ends_with_its_stage,
    arg_from_arg,
    arg_is_not_in_the_config,
    arg_platform,
    arg_scope_starts_at_its_line,
    arg_shadowed_by_env,
    blanks_everywhere,
    cmd_empty,
    cmd_forms,
    cmd_shell,
    comment_in_continuation,
    comments,
    config_is_inherited,
    copy_chmod,
    copy_chown_names,
    copy_chown_numbers,
    copy_chown_of_new_users,
    copy_directory_contents,
    copy_does_not_unpack,
    copy_dotfiles,
    copy_empty_directories,
    copy_empty_file,
    copy_everything,
    copy_file_to_directory,
    copy_file_to_file,
    copy_from_a_stage_twice,
    copy_from_hard_links,
    copy_from_keeps_owners,
    copy_from_relative,
    copy_from_symlinks,
    copy_from_wildcards,
    copy_json_form,
    copy_long_names,
    copy_many_files,
    copy_merges_directories,
    copy_modes,
    copy_names_with_spaces,
    copy_replaces_a_file,
    copy_several,
    copy_special_modes,
    copy_symlinks,
    copy_to_a_linked_directory,
    copy_unicode_names,
    copy_wildcards,
    crlf_line_ends,
    dockerfile_by_name,
    entrypoint_clears_inherited_cmd,
    entrypoint_forms,
    entrypoint_keeps_own_cmd,
    entrypoint_shell,
    env_forms,
    env_override_keeps_its_place,
    env_path,
    env_same_line,
    escape_directive,
    escape_directive_in_words,
    expansion_defaults,
    expansion_escapes,
    expansion_in_instructions,
    expose,
    from_alone,
    from_scratch,
    healthcheck_all_options,
    healthcheck_exec,
    healthcheck_none,
    ignore_all_but,
    ignore_and_wildcard_copy,
    ignore_everywhere,
    ignore_except,
    ignore_order,
    ignore_simple,
    label_forms,
    lower_case_keywords,
    maintainer,
    no_expansion_in_run_and_cmd,
    no_line_end_at_the_end,
    run_base_hard_links,
    run_chmod_and_chown,
    run_continued,
    run_fifo_and_empties,
    run_file_becomes_directory,
    run_forms,
    run_hard_links,
    run_large_file,
    run_positional_and_special,
    run_removes_a_base_directory,
    run_removes_a_base_file,
    run_removes_across_layers,
    run_removes_what_copy_brought,
    run_renames,
    run_replaces_a_directory,
    run_sees_earlier_steps,
    run_special_modes,
    run_symlinks,
    run_time_and_umask,
    shell,
    shell_of_cmd,
    shell_of_entrypoint,
    stage_by_name,
    stage_by_number,
    stage_chain_of_copies,
    stage_config_is_not_inherited_by_copy,
    stage_from_stage,
    stage_name_in_capitals,
    stage_unused_is_not_built,
    stopsignal,
    stopsignal_number,
    syntax_directive,
    user_and_group,
    user_by_name,
    user_by_number,
    user_does_not_own_copies,
    user_last_is_kept,
    user_supplementary_groups,
    volume_filled_before,
    volume_forms,
    volume_of_no_directory,
    volume_written_after,
    workdir_alone,
    workdir_existing_keeps_its_owner,
    workdir_relative,
    workdir_trailing_slash,
    workdir_with_variables,
}

#[test]
fn every_case_directory_is_a_test() {
    let dir = repo("tests/parity");
    let found: Vec<String> = crate::support::names(&dir).into_iter().filter(|name| dir.join(name).is_dir()).collect();
    let listed: Vec<String> = CASES.iter().map(|name| name.replace('_', "-")).collect();
    assert_eq!(listed, found, "the cases that are listed above, and the directories of tests/parity");
}

/// Builds a case with both tools. Their storage with the base image is shared by all cases of this process.
fn check_case(name: &str) {
    static BUILDERS: OnceLock<(DramBuilder, BuildahBuilder)> = OnceLock::new();
    let (dram, buildah) = BUILDERS.get_or_init(|| (DramBuilder::new(), BuildahBuilder::new()));
    let case = ParityCase { name: name.to_owned(), dir: repo("tests/parity").join(name) };
    if let Err(why) = case.check(dram, buildah) {
        panic!("== {name}\n{why}");
    }
}

struct ParityCase {
    name: String,
    dir: PathBuf,
}

/// Files and config of a built image.
#[derive(Debug, PartialEq)]
struct ParityImage {
    files: Listing,
    config: BTreeMap<String, Value>,
}

impl ParityCase {
    /// Copies the case, prepares it by its `prepare.sh`, and returns the copy and the options of the build.
    fn prepare(&self) -> (TempDir, Vec<String>) {
        let copy = temp();
        tool("cp").arg("-a").arg(self.dir.join(".")).arg(copy.path()).ok();
        let _ = fs::remove_file(copy.path().join("differs"));
        let _ = fs::remove_file(copy.path().join("expected"));
        if copy.path().join("prepare.sh").exists() {
            tool("sh").arg("prepare.sh").dir(copy.path()).umask(0o022).ok();
        }
        let args = fs::read_to_string(copy.path().join("args")).unwrap_or_default();
        (copy, args.lines().map(str::to_owned).collect())
    }

    fn check(&self, dram: &DramBuilder, buildah: &BuildahBuilder) -> Result<(), String> {
        let (copy, args) = self.prepare();
        let ours = dram.build(&self.name, copy.path(), &args)?;
        dram.check_fixed_time(&self.name, copy.path(), &args)?;
        let theirs = buildah.build(&self.name, copy.path(), &args)?;
        let known = self.dir.join("differs").exists();
        let differences = list_differences(&theirs, &ours);
        if known && differences.is_empty() {
            return Err("the file `differs` is wrong: there is no difference".to_owned());
        }
        if !known && !differences.is_empty() {
            let shown = format!("what dram has (`-`: has not), beside buildah\n{}", differences.join("\n"));
            return Err(format!("{shown}\nwhat buildah has there\n{}", list_differences(&ours, &theirs).join("\n")));
        }
        self.check_expected(&list_differences(&dram.base, &ours))
    }

    /// A case may list the expected differences from its base image.
    fn check_expected(&self, found: &[String]) -> Result<(), String> {
        let path = self.dir.join("expected");
        let found = found.iter().map(|line| format!("{line}\n")).collect::<String>();
        match fs::read_to_string(&path) {
            Ok(expected) if expected == found => Ok(()),
            Ok(expected) => Err(format!("expected\n{expected}found\n{found}")),
            Err(_) if self.dir.join("differs").exists() => {
                Err(format!("it differs from buildah and has no `expected`; found\n{found}"))
            }
            Err(_) => Ok(()),
        }
    }
}

/// Returns the differences in files and config that `new` has against `old`.
fn list_differences(old: &ParityImage, new: &ParityImage) -> Vec<String> {
    let mut all = difference(&old.files, &new.files);
    let text = |config: &BTreeMap<String, Value>| {
        config.iter().map(|(name, value)| (format!("config {name}"), value.to_string())).collect::<Listing>()
    };
    all.extend(difference(&text(&old.config), &text(&new.config)));
    all
}

/// Returns the compared fields of a config, without empty ones.
fn compared_config(all: &Value) -> BTreeMap<String, Value> {
    let mut config: BTreeMap<String, Value> = CONFIG.iter().map(|&name| (name.to_owned(), all[name].clone())).collect();
    if let Some(Value::Object(labels)) = config.get_mut("Labels") {
        labels.remove("io.buildah.version");
    }
    // An image without a working directory has `/`; BuildKit and dram write it, buildah does not.
    config.retain(|name, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty() && (text != "/" || name != "WorkingDir"),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    });
    config
}

/// The option with which an image does not depend on when and where it was built.
const FIXED_TIME: &str = "--source-date-epoch=1700000000";

/// The cases with a command that writes who it is: with one id every user is root.
const SHOWS_ITS_USER: [&str; 5] =
    ["run-time-and-umask", "user-and-group", "user-by-name", "user-by-number", "user-supplementary-groups"];

struct DramBuilder {
    store: Store,
    lent_ids: Store,
    one_id: Store,
    /// The store of a machine that executes nothing, but takes all steps from a shared cache.
    shared: Store,
    base: ParityImage,
}

impl DramBuilder {
    fn new() -> DramBuilder {
        let stores = [Store::with_base(), with_base(&user_with_subids()), with_base(&user_without_subids())];
        let ([store, lent_ids, one_id], shared) = (stores, Store::with_base());
        for store in [&store, &lent_ids, &one_id, &shared] {
            remove_at_exit(store.path().parent().expect("a store lies in a temporary directory"));
        }
        let base = built_image(&store, BASE);
        DramBuilder { store, lent_ids, one_id, shared, base }
    }

    /// Builds the case again with one time for all files: with all steps cached; without the cache, in another directory,
    /// with files of another day and another umask; rootless, with ids that the user may use and with one id; and in a store
    /// that takes all steps from a shared cache. The digests must be equal.
    fn check_fixed_time(&self, case: &str, context: &Path, args: &[String]) -> Result<(), String> {
        let tag = format!("{case}-fixed");
        let build = |build: TestCommand, context: &Path| {
            let built = build.args(["-t", &tag, FIXED_TIME]).args(args).arg(".").dir(context).end();
            if built.code == 0 { Ok(built) } else { Err(format!("dram: {built}")) }
        };
        let other = ContextCopies::new(context);
        let (cache, day) = (other.dir.path().join("cache"), "2031-05-06 07:08:09");
        let to = format!("--cache-to=type=local,mode=max,dest={}", cache.display());
        let from = format!("--cache-from=type=local,src={}", cache.display());
        let cached = build(self.store.dram(["build", &to]), context)?;
        let again = build(self.store.dram(["build", "--no-cache"]).umask(0o077), &other.unpack("again", None, day))?;
        let mut digests = vec![("cached", cached.digest()), ("executed on another day", again.digest())];
        for (what, store, user) in
            [("lent ids", &self.lent_ids, user_with_subids()), ("one id", &self.one_id, user_without_subids())]
        {
            let built = build(store.dram(["build"]), &other.unpack(what, Some(&user), "now"))?;
            digests.push((what, built.digest()));
        }
        let shared = build(self.shared.dram(["build", &from]), &other.unpack("shared", None, "1999-12-31 23:59:59"))?;
        digests.push(("shared cache", shared.digest()));
        if shared.steps().0 != 0 {
            return Err(format!("steps are not in the shared cache: {shared}"));
        }
        let differing: Vec<&str> =
            digests.iter().filter(|(_, digest)| *digest != digests[0].1).map(|&(what, _)| what).collect();
        let known: &[&str] = if SHOWS_ITS_USER.contains(&case) { &["one id"] } else { &[] };
        match differing == known {
            true => Ok(()),
            false => Err(format!("with one time, another digest is known of {known:?}: {digests:?}")),
        }
    }

    fn build(&self, case: &str, context: &Path, args: &[String]) -> Result<ParityImage, String> {
        let built = self.store.dram(["build", "-t", case]).args(args).arg(".").dir(context).end();
        if built.code != 0 {
            return Err(format!("dram: {built}"));
        }
        valid_image(&self.store, &format!("{case}:latest"));
        Ok(built_image(&self.store, case))
    }
}

/// Copies of a build context in other directories.
struct ContextCopies {
    dir: TempDir,
    tar: PathBuf,
}

impl ContextCopies {
    fn new(context: &Path) -> ContextCopies {
        let dir = temp();
        let tar = dir.path().join("context.tar");
        tool("tar").arg("-cf").arg(&tar).arg("-C").arg(context).arg(".").ok();
        ContextCopies { dir, tar }
    }

    /// Makes a copy in the directory `name` that belongs to `user`. Its files have the time `day`.
    fn unpack(&self, name: &str, user: Option<&User>, day: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        if let Some(user) = user {
            std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.gid)).unwrap();
        }
        let unpack = tool("tar").args(["-x", "-p", "-m", "--no-same-owner", "-f"]).arg(&self.tar).arg("-C").arg(&dir);
        match user {
            Some(user) => unpack.user(user).ok(),
            None => unpack.ok(),
        };
        tool("find").arg(&dir).args(["-exec", "touch", "-h", "-d", day, "{}", "+"]).ok();
        dir
    }
}

fn built_image(store: &Store, name: &str) -> ParityImage {
    let bundle = temp();
    let image = format!("{}:{name}:latest", store.join("oci").display());
    tool("umoci").args(["unpack", "--image", &image]).arg(bundle.path().join("bundle")).ok();
    let mut files = listing(&bundle.path().join("bundle/rootfs"));
    files.remove(".");
    ParityImage { files, config: compared_config(&store.inspect(name)["config"]["config"]) }
}

struct BuildahBuilder {
    dir: TempDir,
}

impl BuildahBuilder {
    fn new() -> BuildahBuilder {
        let dir = temp();
        remove_at_exit(dir.path());
        let conf = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/root\"\nrunroot = \"{0}/run\"\n",
            dir.path().display()
        );
        fs::write(dir.path().join("storage.conf"), conf).unwrap();
        let buildah = BuildahBuilder { dir };
        let container = buildah.tool(["from", "scratch"]).ok().stdout;
        let container = container.trim();
        buildah.tool(["add", "--quiet", container]).arg(base_tar()).arg("/").ok();
        buildah.tool(["config", "--env", PATH, container]).ok();
        buildah.tool(["commit", "--quiet", container, BASE]).ok();
        buildah
    }

    fn tool<const N: usize>(&self, words: [&str; N]) -> TestCommand {
        tool("buildah").args(words).env("CONTAINERS_STORAGE_CONF", self.dir.path().join("storage.conf"))
    }

    fn build(&self, case: &str, context: &Path, args: &[String]) -> Result<ParityImage, String> {
        let options = ["bud", "--format", "docker", "--isolation", "chroot", "--layers=false", "--network", "host"];
        let built = self.tool(options).args(["-t", case]).args(args).arg(".").dir(context).end();
        if built.code != 0 {
            return Err(format!("buildah: {built}"));
        }
        let container = self.tool(["from", case]).ok().stdout;
        let root = self.tool(["mount", container.trim()]).ok().stdout;
        let mut files = listing(Path::new(root.trim()));
        // buildah's storage does not keep the mode of the root directory.
        files.remove(".");
        let inspected = self.tool(["inspect", "--type", "image", case]).ok().stdout;
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        self.tool(["rm", container.trim()]).ok();
        Ok(ParityImage { files, config: compared_config(&inspected["Docker"]["config"]) })
    }
}
