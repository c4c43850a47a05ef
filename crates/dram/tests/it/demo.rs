//! The demo, told by its own script, as root and without, and its image elsewhere.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::rootless::user;
use crate::support::{Done, Store, Tool, User, dram_path, list, repo, temp, tool, until, valid_image};

const IMAGE: &str = "demo:two-stage";

fn bases() -> PathBuf {
    let bases = std::env::var_os("DEMO_BASES").expect("DEMO_BASES is not set: run `make test`, which makes them");
    let bases = PathBuf::from(bases);
    assert!(bases.join("elixir-1.14.tar").is_file(), "no elixir-1.14.tar in {}: run `make test`", bases.display());
    bases
}

/// The script and the sources where everybody can read them.
fn copied() -> TempDir {
    let place = temp();
    tool("cp").arg("-r").arg(repo("scripts")).arg(repo("examples")).arg(place.path()).ok();
    tool("chmod").args(["-R", "a+rX"]).arg(place.path()).ok();
    place
}

/// The whole story, as a user or as root.
#[track_caller]
fn told(store: &Store, who: Option<&User>) -> Done {
    let (place, bases) = (copied(), bases());
    let script = tool("bash").arg(place.path().join("scripts/demo.sh"));
    let script = match who {
        Some(user) => script.user(user),
        None => script,
    };
    let script = script.env("DRAM", dram_path()).env("DEMO_BASES", bases).env("DRAM_STORE", store.path());
    let done = script.env("SOURCE_DATE_EPOCH", "").dir(place.path()).ok();
    assert!(done.stdout.ends_with("== All as it should be\n"), "{done}");
    done
}

/// What `dram images` says of an image.
#[track_caller]
fn number(store: &Store, tag: &str, what: &str) -> u64 {
    let images = serde_json::from_str(&store.dram(["images", "--json"]).ok().stdout).unwrap();
    let image = list(&images).iter().find(|image| image["name"] == "demo" && image["tag"] == tag);
    image.unwrap_or_else(|| panic!("no demo:{tag} in {images}"))[what].as_u64().unwrap()
}

#[track_caller]
fn is_much_smaller(store: &Store) {
    for what in ["size", "compressed_size"] {
        let [ours, two, single] = ["dram", "two-stage", "single-stage"].map(|tag| number(store, tag, what));
        assert!(two * 3 < single, "{what}: {two} of two stages, {single} of one");
        assert!(ours < two, "{what}: {ours} of a release on nothing, {two} of one on a base");
    }
}

/// podman with images of its own.
struct Podman(TempDir);

impl Podman {
    fn does<const N: usize>(&self, words: [&str; N]) -> Tool {
        let (root, run) = (self.0.path().join("root"), self.0.path().join("run"));
        let podman = tool("podman").arg("--root").arg(root).arg("--runroot").arg(run);
        podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]).args(words)
    }

    /// Starts the application, waits for it, and stops it.
    #[track_caller]
    fn runs(&self, image: &str) {
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
        let run = self.does(["run", "--detach", "--name", "demo", "--network", "host", "-e", "PORT=0"]);
        run.args(limits).arg(image).ok();
        until("the demo says READY", Duration::from_secs(30), || {
            self.does(["logs", "demo"]).ok().stdout.contains("READY")
        });
        self.does(["stop", "--time", "10", "demo"]).ok();
        let ended = self.does(["inspect", "--format", "{{.State.ExitCode}}", "demo"]).ok();
        assert_eq!(ended.stdout.trim(), "0", "{}", self.does(["logs", "demo"]).end());
        self.does(["rm", "demo"]).ok();
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.does(["rm", "--all", "--force"]).end();
        self.does(["rmi", "--all", "--force"]).end();
        tool("umount").arg(self.0.path().join("root/overlay")).end();
    }
}

/// The way by an archive and the way by the store itself.
#[track_caller]
fn podman_runs_it(store: &Store) {
    let podman = Podman(temp());
    let archive = podman.0.path().join("demo.tar");
    store.dram(["save", "-o"]).arg(&archive).arg(IMAGE).ok();
    podman.does(["load", "-i"]).arg(&archive).ok();
    podman.runs(&format!("docker.io/library/{IMAGE}"));
    podman.does(["rmi", "--all", "--force"]).ok();
    let layout = format!("oci:{}:{IMAGE}", store.join("oci").display());
    let id = podman.does(["pull", &layout]).ok().stdout;
    podman.runs(id.trim());
}

#[test]
fn the_demo_goes_well_and_is_the_same_without_root() {
    let user = User { home: "/nonexistent".into(), ..user() };
    let (of_root, of_user) = (Store::empty(), Store::of(&user));
    thread::scope(|both| {
        both.spawn(|| told(&of_root, None));
        both.spawn(|| told(&of_user, Some(&user)));
    });
    for store in [&of_root, &of_user] {
        is_much_smaller(store);
        valid_image(store, IMAGE);
        valid_image(store, "demo:dram");
        valid_image(store, "demo:single-stage");
    }
    // The other one has the builder's notes inside, with the times of the day.
    assert_eq!(of_root.digest(IMAGE), of_user.digest(IMAGE));
    assert_eq!(of_root.digest("demo:dram"), of_user.digest("demo:dram"));
    podman_runs_it(&of_root);
}
