//! Images of other tools through a registry and dram and back: every digest is preserved.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::debian::{Debian, USER, WORD};
use super::fixtures::make_layout;
use crate::support::{ContainersStorage, Context, Store, TestCommand, base_tar, temp, tool, valid_image};

/// Returns the digest of the manifest in a registry, computed with skopeo.
fn digest(name: &str, words: &[&str]) -> String {
    let raw = tool("skopeo").args(["inspect", "--raw"]).args(words).arg(format!("docker://{name}")).ok().stdout;
    format!("sha256:{}", &tool("sha256sum").stdin(raw).ok().stdout[..64])
}

const PLAIN: &[&str] = &["--tls-verify=false"];

/// Pushes images of umoci, skopeo, buildah and podman to a registry and returns their names.
fn push_images_of_every_tool(registry: &Debian, dir: &Path) -> Vec<String> {
    let name = |image: &str| registry.name(&format!("theirs/{image}:1"));
    let place = |image: &str| format!("docker://{}", name(image));
    make_layout(dir);
    let skopeo = |words: &str| tool("skopeo").args(words.split_whitespace()).dir(dir);
    skopeo("copy --dest-tls-verify=false oci:l:x").arg(place("umoci")).ok();
    skopeo("copy --dest-tls-verify=false --format v2s2 oci:l:x").arg(place("docker")).ok();
    skopeo("copy --dest-decompress oci:l:x dir:d").ok();
    skopeo("copy --dest-tls-verify=false --dest-compress-format zstd dir:d").arg(place("zstd")).ok();
    let storage = ContainersStorage::new();
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
    // An index for two platforms.
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
fn images_of_every_tool_keep_their_digest_through_pull_and_push() {
    let (registry, dir) = (Debian::plain(), temp());
    for name in push_images_of_every_tool(&registry, dir.path()) {
        let store = Store::empty();
        let back = name.replace("theirs/", "back/");
        if name.contains("index") {
            store.dram(["pull", &name]).ok();
            assert_eq!(store.inspect(&name)["config"]["architecture"], "amd64");
            store.dram(["copy", "--all", &format!("docker://{name}"), &format!("docker://{back}")]).ok();
        } else {
            store.dram(["pull", &name]).ok();
            if !name.contains("docker") {
                // skopeo does not read Docker manifests in a layout.
                valid_image(&store, &name);
            }
            store.dram(["tag", &name, &back]).ok();
            store.dram(["push", &back]).ok();
            assert_eq!(store.digest(&name), digest(&name, PLAIN), "{name}");
        }
        assert_eq!(digest(&back, PLAIN), digest(&name, PLAIN), "{name}");
        // Other tools can read the pushed image.
        let read = tool("skopeo").args(["copy", "--all", "--src-tls-verify=false"]).arg(format!("docker://{back}"));
        read.arg(format!("dir:{}", dir.path().join("read").display())).ok();
    }
}

#[test]
fn every_tool_pulls_images_pushed_by_dram() {
    let (registry, store, dir, storage) = (Debian::plain(), Store::with_base(), temp(), ContainersStorage::new());
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
    // Blobs that the registry has are not sent again, nor those of its other repositories.
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
fn a_registry_certificate_needs_a_trusted_authority() {
    let (registry, store) = (Debian::tls(), Store::with_base());
    let name = registry.name("safe:1");
    store.dram(["tag", "parity-base", &name]).ok();
    let with = |dram: TestCommand| dram.env("SSL_CERT_FILE", registry.authority());
    store.dram(["push", &name]).fails(1).says("certificate");
    with(store.dram(["push", &name])).ok();
    let other = Store::empty();
    other.dram(["pull", &name]).fails(1).says("certificate");
    with(other.dram(["pull", &name])).ok();
    assert_eq!(other.digest(&name), store.digest(&name));
}

/// A registry with basic authentication, an image in it, and a home directory for credentials.
struct RegistryWithLogin {
    registry: Debian,
    name: String,
    config: tempfile::TempDir,
}

impl RegistryWithLogin {
    fn new() -> RegistryWithLogin {
        let (registry, dir) = (Debian::basic(), temp());
        let name = registry.name("kept:1");
        make_layout(dir.path());
        let copy = tool("skopeo").dir(dir.path()).args(["copy", "--dest-tls-verify=false", "oci:l:x"]);
        copy.arg(format!("--dest-creds={USER}:{WORD}")).arg(format!("docker://{name}")).ok();
        RegistryWithLogin { registry, name, config: temp() }
    }

    /// Returns a command of dram with an empty home directory and no other credentials.
    fn dram<const N: usize>(&self, words: [&str; N]) -> TestCommand {
        let store = self.config.path().join("store");
        let home = self.config.path();
        let mut dram =
            TestCommand::new(crate::support::dram_path()).args(words).env("DRAM_STORE", store).env("HOME", home);
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
fn login_allows_pull_and_push_until_logout() {
    let guarded = RegistryWithLogin::new();
    let (name, host) = (guarded.name.as_str(), guarded.registry.host());
    guarded.dram(["pull", name]).fails(4).says("dram login");
    let login = || guarded.dram(["login", "-u", USER, "--password-stdin", &host]);
    let wrong = login().stdin("wrong\n").fails(4).says("401");
    let wrong = wrong.says("see whether they are right").does_not_say("command line");
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
fn credentials_of_other_tools_are_used() {
    let guarded = RegistryWithLogin::new();
    let (name, host) = (guarded.name.as_str(), guarded.registry.host());
    let auths = format!(r#"{{"auths": {{"{host}": {{"auth": "dGVzdGVyOmhpZGRlbg=="}}}}}}"#);
    let fresh = || {
        guarded.dram(["rm", name]).end();
        guarded.dram(["prune", "--all"]).ok();
        guarded.dram(["pull", name])
    };
    fresh().fails(4);
    // Docker's config file, and its directory given by the environment.
    let docker = guarded.write(".docker/config.json", &auths);
    fresh().ok();
    fs::remove_file(docker).unwrap();
    let docker = guarded.write("elsewhere/config.json", &auths);
    fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).ok();
    // The auth file of podman and skopeo; skopeo writes it.
    let file = guarded.config.path().join("auth.json");
    let login = tool("skopeo").args(["login", "--tls-verify=false", "-u", USER, "--password-stdin", &host]);
    login.env("REGISTRY_AUTH_FILE", &file).stdin(WORD).ok();
    fresh().env("REGISTRY_AUTH_FILE", &file).ok();
    // Credential helpers. Their input has no newline at the end.
    let answer = format!(r#"{{"ServerURL": "{host}", "Username": "{USER}", "Secret": "{WORD}"}}"#);
    let script =
        format!("#!/bin/sh\n[ \"$1\" = get ] && {{ read host; [ \"$host\" = {host} ]; }} && echo '{answer}'\n");
    let helper = guarded.write("bin/docker-credential-tests", &script);
    fs::set_permissions(&helper, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", helper.parent().unwrap().display(), std::env::var("PATH").unwrap());
    for text in [r#"{"credsStore": "tests"}"#.to_owned(), format!(r#"{{"credHelpers": {{"{host}": "tests"}}}}"#)] {
        let docker = guarded.write("helped/config.json", &text);
        fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).env("PATH", &path).ok();
        let without = fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).fails(4);
        without.says("`docker-credential-tests`").says("it is not installed").says("no credentials are sent");
    }
    // Credentials for another host are not used.
    let docker = guarded.write("other/config.json", &auths.replace(&host, "example.com"));
    fresh().env("DOCKER_CONFIG", docker.parent().unwrap()).fails(4).says("dram login");
}

#[test]
fn basic_authentication_works_over_tls() {
    let (registry, store, config) = (Debian::tls_basic(), Store::with_base(), temp());
    let (name, host) = (registry.name("safe:1"), registry.host());
    store.dram(["tag", "parity-base", &name]).ok();
    let with = |dram: TestCommand| {
        dram.env("SSL_CERT_FILE", registry.authority()).env("DOCKER_CONFIG", config.path().join("docker"))
    };
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
fn mirrors_are_pulled_from_first_and_never_pushed_to() {
    let (own, mirror, dir, store) = (Debian::plain(), Debian::plain(), temp(), Store::empty());
    let made = make_layout(dir.path());
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
fn a_pull_of_another_platform_is_reported_and_untagged_images_listed() {
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
