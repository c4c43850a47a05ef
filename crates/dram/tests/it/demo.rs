//! The demo, told by its own script, as root and without; and its image in podman.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::rootless;
use crate::support::{Done, Store, Tool, User, dram_path, list, repo, temp, tool, until, valid_image};

/// Where the base images lie; `make test` makes them and says so.
fn bases() -> PathBuf {
    let bases = std::env::var_os("DEMO_BASES").map(PathBuf::from);
    let bases = bases.expect("DEMO_BASES is not set: run the tests with `make test`, which makes the base images");
    assert!(bases.join("elixir-1.14.tar").is_file(), "no elixir-1.14.tar in {}", bases.display());
    bases
}

/// The script, examples and bases where every user may read them.
fn copy_for_everybody() -> tempfile::TempDir {
    let copy = temp();
    let all = [repo("scripts"), repo("examples"), bases()];
    tool("cp").arg("-r").args(all).arg(copy.path()).ok();
    tool("chmod").args(["-R", "a+rX"]).arg(copy.path()).ok();
    copy
}

fn script(copy: &Path, store: &Store, home: &Path, user: Option<&User>) -> Tool {
    let bases = copy.join(bases().file_name().unwrap());
    let bash = tool("bash");
    let bash = match user {
        Some(user) => bash.user(user),
        None => bash,
    };
    let script = bash.arg(copy.join("scripts/demo.sh")).dir("/tmp");
    script.env("DRAM", dram_path()).env("DEMO_BASES", bases).env("DRAM_STORE", store.path()).env("HOME", home)
}

/// The line of `dram images --json` about the demo's image of this tag.
fn image(store: &Store, tag: &str) -> Value {
    let images: Value = serde_json::from_str(&store.dram(["images", "--json"]).ok().stdout).unwrap();
    let found = list(&images).iter().find(|one| one["name"] == "demo" && one["tag"] == tag);
    found.unwrap_or_else(|| panic!("no demo:{tag} in {images:#}")).clone()
}

#[track_caller]
fn told(done: &Done) {
    for line in ["and found none", "READY http://", "exit code 0", "All as it should be"] {
        assert!(done.stdout.contains(line), "expected to read {line:?}\n{done}");
    }
}

#[test]
fn the_demo_tells_its_story_with_root_and_without() {
    let copy = copy_for_everybody();
    let home = temp();
    let of_root = Store::empty();
    told(&script(copy.path(), &of_root, home.path(), None).ok());
    let (two, single) = (image(&of_root, "two-stage"), image(&of_root, "single-stage"));
    let size = |image: &Value| image["size"].as_u64().unwrap();
    assert!(size(&two) * 3 < size(&single), "{two:#} {single:#}");
    valid_image(&of_root, "demo:two-stage");
    in_podman(&of_root, "demo:two-stage");

    let user = rootless::user();
    let of_user = Store::of(&user);
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    told(&script(copy.path(), &of_user, home.path(), Some(&user)).ok());
    assert_eq!(image(&of_user, "two-stage")["digest"], two["digest"]);
    valid_image(&of_user, "demo:two-stage");
}

/// The image is loaded from an archive, runs, says that it is ready, and stops when asked.
fn in_podman(store: &Store, name: &str) {
    let place = temp();
    let archive = place.path().join("demo.tar");
    store.dram(["save", "-o"]).arg(&archive).arg(name).ok();
    let podman = |words: &[&str]| {
        let podman = tool("podman").arg("--root").arg(place.path().join("r"));
        podman.arg("--runroot").arg(place.path().join("rr")).args(["--runtime", "runc"]).args(words)
    };
    podman(&["load", "--quiet", "-i"]).arg(&archive).ok();
    // Lower limits than podman would set: raising them takes an ability that a container's root may lack.
    let run = ["run", "-d", "--name", "demo", "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit"];
    podman(&run).args(["nproc=1000:1000", "-e", "PORT=0"]).arg(format!("docker.io/library/{name}")).ok();
    until("the demo is ready in podman", Duration::from_secs(60), || {
        podman(&["logs", "demo"]).end().stdout.contains("READY http://")
    });
    podman(&["stop", "-t", "20", "demo"]).ok();
    let exit = podman(&["inspect", "--format", "{{.State.ExitCode}}", "demo"]).ok().stdout;
    podman(&["rm", "-f", "demo"]).ok();
    assert_eq!(exit.trim(), "0", "podman stopped it");
}
