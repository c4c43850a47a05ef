//! Images of other tools, through a registry and dram and back: every digest stays.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::debian::{Debian, USER, WORD};
use super::fixtures::layout;
use crate::support::{Context, Storage, Store, Tool, base_tar, temp, tool, valid_image};

/// The digest of what is there, by another tool.
fn digest(name: &str, words: &[&str]) -> String {
    let raw = tool("skopeo").args(["inspect", "--raw"]).args(words).arg(format!("docker://{name}")).ok().stdout;
    format!("sha256:{}", &tool("sha256sum").stdin(raw).ok().stdout[..64])
}

const PLAIN: &[&str] = &["--tls-verify=false"];

/// Images of umoci, skopeo, buildah and podman in a registry: their names there.
fn images_of_all(registry: &Debian, dir: &Path) -> Vec<String> {
    let name = |image: &str| registry.name(&format!("theirs/{image}:1"));
    let place = |image: &str| format!("docker://{}", name(image));
    layout(dir);
    let skopeo = |words: &str| tool("skopeo").args(words.split_whitespace()).dir(dir);
    skopeo("copy --dest-tls-verify=false oci:l:x").arg(place("umoci")).ok();
    skopeo("copy --dest-tls-verify=false --format v2s2 oci:l:x").arg(place("docker")).ok();
    skopeo("copy --dest-decompress oci:l:x dir:d").ok();
    skopeo("copy --dest-tls-verify=false --dest-compress-format zstd dir:d").arg(place("zstd")).ok();
    let storage = Storage::new();
    let container = storage.tool("buildah", ["from", "scratch"]).ok().stdout;
    let container = container.trim();
    storage.tool("buildah", ["add", "--quiet", container]).arg(base_tar()).arg("/").ok();
    storage.tool("buildah", ["config", "--cmd", "echo theirs", container]).ok();
    storage.tool("buildah", ["commit", "--quiet", container, "localhost/theirs:1"]).ok();
    let push = |program, image: &str, format| {
        let words = ["push", "--quiet", "--tls-verify=false", "--format", format, "localhost/theirs:1"];
        storage.tool(program, words).arg(place(image)).ok();
    };
    push("buildah", "buildah", "oci");
    push("buildah", "buildah-docker", "v2s2");
    push("podman", "podman", "oci");
    // For two machines.
    storage.tool("buildah", ["config", "--arch", "arm64", "--cmd", "echo other", container]).ok();
    storage.tool("buildah", ["commit", "--quiet", container, "localhost/other:1"]).ok();
    storage.tool("buildah", ["manifest", "create", "localhost/both:1"]).ok();
    for image in ["localhost/theirs:1", "localhost/other:1"] {
        storage.tool("buildah", ["manifest", "add", "localhost/both:1", image]).ok();
    }
    storage
        .tool("buildah", ["manifest", "push", "--all", "--tls-verify=false", "localhost/both:1"])
        .arg(place("index"))
        .ok();
    ["umoci", "docker", "zstd", "buildah", "buildah-docker", "podman", "index"].map(name).to_vec()
}

#[test]
fn images_of_every_tool_come_and_go() {
    let (registry, dir) = (Debian::plain(), temp());
    for name in images_of_all(&registry, dir.path()) {
        let store = Store::empty();
        let back = name.replace("theirs/", "back/");
        if name.contains("index") {
            store.dram(["pull", &name]).ok();
            assert_eq!(store.inspect(&name)["config"]["architecture"], "amd64");
            store.dram(["copy", "--all", &format!("docker://{name}"), &format!("docker://{back}")]).ok();
        } else {
            store.dram(["pull", &name]).ok();
            if !name.contains("docker") {
                // skopeo does not see Docker's manifests in a layout.
                valid_image(&store, &name);
            }
            store.dram(["tag", &name, &back]).ok();
            store.dram(["push", &back]).ok();
            assert_eq!(store.digest(&name), digest(&name, PLAIN), "{name}");
        }
        assert_eq!(digest(&back, PLAIN), digest(&name, PLAIN), "{name}");
        // Others can read what came back.
        let read = tool("skopeo").args(["copy", "--all", "--src-tls-verify=false"]).arg(format!("docker://{back}"));
        read.arg(format!("dir:{}", dir.path().join("read").display())).ok();
    }
}

#[test]
fn every_tool_takes_what_dram_pushes() {
    let (registry, store, dir, storage) = (Debian::plain(), Store::with_base(), temp(), Storage::new());
    let name = registry.name("ours:1");
    store.dram(["tag", "parity-base", &name]).ok();
    store.dram(["push", &name]).ok();
    assert_eq!(digest(&name, PLAIN), store.digest(&name));
    let id = store.inspect(&name)["manifest"]["config"]["digest"].as_str().unwrap().to_owned();
    for program in ["podman", "buildah"] {
        let pulled = storage.tool(program, ["pull", "--quiet", "--tls-verify=false", &name]).ok().stdout;
        assert_eq!(format!("sha256:{}", pulled.trim()), id);
        storage.tool(program, ["rmi", "--force", pulled.trim()]).ok();
    }
    let copied = tool("skopeo").args(["copy", "--src-tls-verify=false"]).arg(format!("docker://{name}"));
    copied.arg(format!("oci:{}:x", dir.path().join("l").display())).ok();
    tool("umoci").args(["unpack", "--image", "l:x", "bundle"]).dir(dir.path()).ok();
    assert!(dir.path().join("bundle/rootfs/bin/busybox").exists());
    // What is there is not sent again, nor what another repository of the registry has.
    let sent = |registry: &Debian| registry.requests().iter().filter(|line| line.starts_with("PATCH")).count();
    let before = sent(&registry);
    store.dram(["push", &name]).ok();
    let other = registry.name("team/other:2");
    store.dram(["tag", &name, &other]).ok();
    store.dram(["push", &other]).ok();
    assert_eq!(sent(&registry), before);
    assert_eq!(digest(&other, PLAIN), store.digest(&name));
}

#[test]
fn a_registry_with_a_certificate_is_believed_when_its_authority_is() {
    let (registry, store) = (Debian::tls(), Store::with_base());
    let name = registry.name("safe:1");
    store.dram(["tag", "parity-base", &name]).ok();
    let with = |dram: Tool| dram.env("SSL_CERT_FILE", registry.authority());
    store.dram(["push", &name]).fails(1).says("certificate");
    with(store.dram(["push", &name])).ok();
    let other = Store::empty();
    other.dram(["pull", &name]).fails(1).says("certificate");
    with(other.dram(["pull", &name])).ok();
    assert_eq!(other.digest(&name), store.digest(&name));
}

/// A registry that asks who is there, an image in it, and a place for what dram knows.
struct Guarded {
    registry: Debian,
    name: String,
    config: tempfile::TempDir,
}

impl Guarded {
    fn new() -> Guarded {
        let (registry, dir) = (Debian::basic(), temp());
        let name = registry.name("kept:1");
        layout(dir.path());
        let copy = tool("skopeo").dir(dir.path()).args(["copy", "--dest-tls-verify=false", "oci:l:x"]);
        copy.arg(format!("--dest-creds={USER}:{WORD}")).arg(format!("docker://{name}")).ok();
        Guarded { registry, name, config: temp() }
    }

    /// dram of somebody of whom nothing else is known.
    fn dram<const N: usize>(&self, words: [&str; N]) -> Tool {
        let store = self.config.path().join("store");
        let home = self.config.path();
        let mut dram = Tool::of(crate::support::dram_path()).args(words).env("DRAM_STORE", store).env("HOME", home);
        for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            dram = dram.without(name);
        }
        dram
    }

    fn write(&self, file: &str, text: &str) -> std::path::PathBuf {
        let path = self.config.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

#[test]
fn who_logs_in_may_pull_and_push_until_they_log_out() {
    let guarded = Guarded::new();
    let (name, host) = (guarded.name.as_str(), guarded.registry.host());
    guarded.dram(["pull", name]).fails(4).says("dram login");
    let login = || guarded.dram(["login", "-u", USER, "--password-stdin", &host]);
    let wrong = login().stdin("wrong\n").fails(4).says("401");
    assert!(!wrong.stderr.contains("wrong\n"), "{wrong}");
    let done = login().stdin(format!("{WORD}\n")).ok();
    assert!(!format!("{done}").contains(WORD), "{done}");
    guarded.dram(["pull", name]).ok();
    let back = guarded.registry.name("back:1");
    guarded.dram(["tag", name, &back]).ok();
    guarded.dram(["push", &back]).ok();
    let creds = format!("--creds={USER}:{WORD}");
    assert_eq!(digest(&back, &[PLAIN[0], &creds]), digest(name, &[PLAIN[0], &creds]));
    let kept = guarded.config.path().join(".docker/config.json");
    if kept.exists() {
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    }
    guarded.dram(["logout", &host]).ok();
    guarded.dram(["push", &back]).fails(4).says("dram login");
}

#[test]
fn what_other_tools_know_is_known() {
    let guarded = Guarded::new();
    let (name, host) = (guarded.name.as_str(), guarded.registry.host());
    let auths = format!(r#"{{"auths": {{"{host}": {{"auth": "dGVzdGVyOmhpZGRlbg=="}}}}}}"#);
    let fresh = || {
        guarded.dram(["rm", name]).end();
        guarded.dram(["prune", "--all"]).ok();
        guarded.dram(["pull", name])
    };
    fresh().fails(4);
    // Docker's own file, and its directory by the environment.
    let docker = guarded.write(".docker/config.json", &auths);
    fresh().ok();
    fs::remove_file(docker).unwrap();
    let docker = guarded.write("elsewhere/config.json", &auths);
    fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).ok();
    // Those of podman and its family; skopeo writes one itself.
    let file = guarded.config.path().join("auth.json");
    let login = tool("skopeo").args(["login", "--tls-verify=false", "-u", USER, "--password-stdin", &host]);
    login.env("REGISTRY_AUTH_FILE", &file).stdin(WORD).ok();
    fresh().env("REGISTRY_AUTH_FILE", &file).ok();
    // And helpers. What they are asked ends without a line's end.
    let answer = format!(r#"{{"ServerURL": "{host}", "Username": "{USER}", "Secret": "{WORD}"}}"#);
    let script =
        format!("#!/bin/sh\n[ \"$1\" = get ] && {{ read host; [ \"$host\" = {host} ]; }} && echo '{answer}'\n");
    let helper = guarded.write("bin/docker-credential-tests", &script);
    fs::set_permissions(&helper, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", helper.parent().unwrap().display(), std::env::var("PATH").unwrap());
    for text in [r#"{"credsStore": "tests"}"#.to_owned(), format!(r#"{{"credHelpers": {{"{host}": "tests"}}}}"#)] {
        let docker = guarded.write("helped/config.json", &text);
        fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).env("PATH", &path).ok();
        fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).fails(1).says("docker-credential-tests");
    }
    // For another host it is not.
    let docker = guarded.write("other/config.json", &auths.replace(&host, "example.com"));
    fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).fails(4).says("dram login");
}

#[test]
fn a_password_goes_over_tls_too() {
    let (registry, store, config) = (Debian::tls_basic(), Store::with_base(), temp());
    let (name, host) = (registry.name("safe:1"), registry.host());
    store.dram(["tag", "parity-base", &name]).ok();
    let with =
        |dram: Tool| dram.env("SSL_CERT_FILE", registry.authority()).env("DOCKER_CONFIG", config.path().join("docker"));
    with(store.dram(["push", &name])).fails(4).says("dram login");
    with(store.dram(["login", "-u", USER, "--password-stdin", &host])).stdin(WORD).ok();
    with(store.dram(["push", &name])).ok();
    let other = Store::empty();
    with(other.dram(["pull", &name])).ok();
    assert_eq!(other.digest(&name), store.digest(&name));
    with(other.dram(["logout", &host])).ok();
    with(other.dram(["pull", &name])).fails(4).says("dram login");
}

#[test]
fn mirrors_are_asked_first_and_given_nothing() {
    let (own, mirror, dir, store) = (Debian::plain(), Debian::plain(), temp(), Store::empty());
    let made = layout(dir.path());
    let copy = |to: String| {
        let copy = tool("skopeo").dir(dir.path()).args(["copy", "--dest-tls-verify=false", "oci:l:x"]);
        copy.arg(format!("docker://{to}")).ok();
    };
    copy(mirror.name("hub/both:1"));
    copy(own.name("own/both:1"));
    copy(own.name("own/alone:1"));
    let conf = dir.path().join("registries.conf");
    let text = format!(
        "[[registry]]\nprefix = \"images.example/team\"\nlocation = \"{}/own\"\n[[registry.mirror]]\n\
         location = \"{}/hub\"\n[[registry]]\nprefix = \"images.example/secret\"\nblocked = true\n",
        own.host(),
        mirror.host()
    );
    fs::write(&conf, text).unwrap();
    let dram = |words: [&str; 2]| store.dram(words).env("CONTAINERS_REGISTRIES_CONF", &conf);
    let asked = |registry: &Debian, what: &str| registry.requests().iter().any(|line| line.contains(what));
    dram(["pull", "images.example/team/both:1"]).ok();
    assert!(asked(&mirror, "/hub/both/") && !asked(&own, "GET /v2/own/both/"));
    dram(["pull", "images.example/team/alone:1"]).ok();
    assert!(asked(&mirror, "/hub/alone/") && asked(&own, "/own/alone/"));
    assert_eq!(store.digest("images.example/team/alone:1"), made);
    store.dram(["tag", "images.example/team/both:1", "images.example/team/new:1"]).ok();
    dram(["push", "images.example/team/new:1"]).ok();
    assert_eq!(digest(&own.name("own/new:1"), PLAIN), made);
    assert!(!asked(&mirror, "/hub/new/"));
    dram(["pull", "images.example/secret/x:1"]).fails(1).says("blocked").says("registries.conf");
}

#[test]
fn what_was_pulled_is_shown_as_it_is() {
    let (registry, store, other) = (Debian::plain(), Store::empty(), Store::empty());
    let context = Context::new("FROM scratch\nCOPY f /\n").file("f", "x");
    store.build(&context).arg("--platform=linux/arm64").ok();
    let name = registry.name("arm:1");
    store.dram(["tag", "demo", &name]).ok();
    store.dram(["push", &name]).ok();
    other.dram(["pull", &name]).ok().says("is for linux/arm64 alone, and not for linux/amd64");
    other.dram(["pull", "--platform", "linux/arm64", &name]).ok().does_not_say("alone");
    let by_digest = format!("{}@{}", name.trim_end_matches(":1"), store.digest("demo"));
    other.dram(["rm", &name]).ok();
    other.dram(["pull", "--platform", "linux/arm64", &by_digest]).ok();
    let listed = other.dram(["images"]).ok().stdout;
    assert!(listed.lines().nth(1).unwrap().contains("  <none>  "), "{listed}");
    other.dram(["rm", &by_digest]).ok();
}
