//! The demo script, run as root and as a user, and its images run by podman.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::rootless::user_with_subids;
use crate::support::{
    CommandOutput, Store, TestCommand, User, dram_path, list, repo, temp, tool, valid_image, wait_until,
};

const IMAGE: &str = "demo:two-stage";

fn demo_bases() -> PathBuf {
    let bases = std::env::var_os("DEMO_BASES").expect("DEMO_BASES is not set: run `make test`, which makes them");
    let bases = PathBuf::from(bases);
    assert!(bases.join("elixir-1.14.tar").is_file(), "no elixir-1.14.tar in {}: run `make test`", bases.display());
    bases
}

/// Copies the script and its sources to where every user can read them.
fn copy_of_the_demo() -> TempDir {
    let place = temp();
    tool("cp").arg("-r").arg(repo("scripts")).arg(repo("examples")).arg(place.path()).ok();
    tool("chmod").args(["-R", "a+rX"]).arg(place.path()).ok();
    place
}

/// Runs the whole demo script, as a user or as root.
#[track_caller]
fn run_demo(store: &Store, who: Option<&User>) -> CommandOutput {
    let (place, bases) = (copy_of_the_demo(), demo_bases());
    let script = tool("bash").arg(place.path().join("scripts/demo.sh"));
    let script = match who {
        Some(user) => script.user(user),
        None => script,
    };
    let script = script.env("DRAM", dram_path()).env("DEMO_BASES", bases).env("DRAM_STORE", store.path());
    let done = script.env("SOURCE_DATE_EPOCH", "0").dir(place.path()).ok();
    assert!(done.stdout.ends_with("== All as it should be\n"), "{done}");
    done
}

/// Returns a numeric field of an image in `dram images --json`.
#[track_caller]
fn image_field(store: &Store, tag: &str, what: &str) -> u64 {
    let images = serde_json::from_str(&store.dram(["images", "--json"]).ok().stdout).unwrap();
    let image = list(&images).iter().find(|image| image["name"] == "demo" && image["tag"] == tag);
    image.unwrap_or_else(|| panic!("no demo:{tag} in {images}"))[what].as_u64().unwrap()
}

#[track_caller]
fn assert_is_much_smaller(store: &Store) {
    for what in ["size", "compressed_size"] {
        let [ours, two, single] = ["dram", "two-stage", "single-stage"].map(|tag| image_field(store, tag, what));
        assert!(two * 3 < single, "{what}: {two} of two stages, {single} of one");
        assert!(ours < two, "{what}: {ours} of a release on nothing, {two} of one on a base");
    }
}

/// podman with a storage of its own.
struct DemoPodman(TempDir);

impl DemoPodman {
    fn command<const N: usize>(&self, words: [&str; N]) -> TestCommand {
        let (root, run) = (self.0.path().join("root"), self.0.path().join("run"));
        let podman = tool("podman").arg("--root").arg(root).arg("--runroot").arg(run);
        podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]).args(words)
    }

    /// Asserts that the application starts, says READY, and stops with exit code 0.
    #[track_caller]
    fn assert_runs(&self, image: &str) {
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
        let run = self.command(["run", "--detach", "--name", "demo", "--network", "host", "-e", "PORT=0"]);
        run.args(limits).arg(image).ok();
        wait_until("the demo says READY", Duration::from_secs(30), || {
            self.command(["logs", "demo"]).ok().stdout.contains("READY")
        });
        self.command(["stop", "--time", "10", "demo"]).ok();
        let ended = self.command(["inspect", "--format", "{{.State.ExitCode}}", "demo"]).ok();
        assert_eq!(ended.stdout.trim(), "0", "{}", self.command(["logs", "demo"]).end());
        self.command(["rm", "demo"]).ok();
    }
}

impl Drop for DemoPodman {
    fn drop(&mut self) {
        self.command(["rm", "--all", "--force"]).end();
        self.command(["rmi", "--all", "--force"]).end();
        tool("umount").arg(self.0.path().join("root/overlay")).end();
    }
}

/// Asserts that podman runs the image, once loaded from an archive and once pulled from the store's layout.
#[track_caller]
fn assert_podman_runs_the_image(store: &Store) {
    let podman = DemoPodman(temp());
    let archive = podman.0.path().join("demo.tar");
    store.dram(["save", "-o"]).arg(&archive).arg(IMAGE).ok();
    podman.command(["load", "-i"]).arg(&archive).ok();
    podman.assert_runs(&format!("docker.io/library/{IMAGE}"));
    podman.command(["rmi", "--all", "--force"]).ok();
    let layout = format!("oci:{}:{IMAGE}", store.join("oci").display());
    let id = podman.command(["pull", &layout]).ok().stdout;
    podman.assert_runs(id.trim());
}

#[test]
fn the_demo_succeeds_and_is_identical_without_root() {
    let user = User { home: "/nonexistent".into(), ..user_with_subids() };
    let (of_root, of_user) = (Store::empty(), Store::for_user(&user));
    thread::scope(|both| {
        both.spawn(|| run_demo(&of_root, None));
        both.spawn(|| run_demo(&of_user, Some(&user)));
    });
    for store in [&of_root, &of_user] {
        assert_is_much_smaller(store);
        valid_image(store, IMAGE);
        valid_image(store, "demo:dram");
        valid_image(store, "demo:single-stage");
    }
    // The single-stage image contains the logs of its build tools, with timestamps, and is not compared.
    assert_eq!(of_root.digest(IMAGE), of_user.digest(IMAGE));
    assert_eq!(of_root.digest("demo:dram"), of_user.digest("demo:dram"));
    assert_podman_runs_the_image(&of_root);
}
