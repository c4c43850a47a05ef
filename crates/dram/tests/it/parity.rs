//! Builds every case of `tests/parity` with dram and with buildah, and compares files and config.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{BASE, Store, TestCommand, base_tar, repo, temp, tool, valid_image};
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

#[test]
fn dram_and_buildah_build_identical_images() {
    let cases = cases();
    assert!(cases.len() > 100, "only {} cases were found", cases.len());
    let (dram, buildah) = (DramBuilder::new(), BuildahBuilder::new());
    let queue = Mutex::new(VecDeque::from(cases));
    let failures = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = next_case(&queue) {
                    let name = case.name.clone();
                    // A panic in one case is a failure of that case only.
                    let checked =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.check(&dram, &buildah)));
                    if let Err(why) = checked.unwrap_or_else(|panic| Err(panic_message(&*panic))) {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).insert(name, why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let text: String = failures.iter().map(|(case, why)| format!("== {case}\n{why}\n")).collect();
    assert!(failures.is_empty(), "{} cases fail\n{text}", failures.len());
}

fn next_case(queue: &Mutex<VecDeque<ParityCase>>) -> Option<ParityCase> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

fn cases() -> Vec<ParityCase> {
    let dir = repo("tests/parity");
    crate::support::names(&dir)
        .into_iter()
        .map(|name| ParityCase { dir: dir.join(&name), name })
        .filter(|case| case.dir.is_dir())
        .collect()
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
    config.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    });
    config
}

struct DramBuilder {
    store: Store,
    base: ParityImage,
}

impl DramBuilder {
    fn new() -> DramBuilder {
        let store = Store::with_base();
        let base = built_image(&store, BASE);
        DramBuilder { store, base }
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

impl Drop for BuildahBuilder {
    fn drop(&mut self) {
        let _ = self.tool(["rm", "--all"]).end();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = format!("{}/", self.dir.path().display());
        let mut places: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        places.retain(|place| place.starts_with(&below));
        for place in places.iter().rev() {
            let _ = tool("umount").args(["-l", place]).end();
        }
    }
}
