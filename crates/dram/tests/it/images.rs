//! Commands on images (import, save, load, tag, rm, prune, images, history, inspect), and the exchange with other
//! tools.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{BASE, ContainersStorage, Context, Store, base_tar, list, names, temp, tool, valid_image};

const SMALL: &str = "\
FROM parity-base
RUN echo one > /one && ln /one /again && ln -s one /link && mkdir -m 1777 /shared && chown app /one
RUN rm -r /usr/share/base && mkdir /usr/share/base && echo new > /usr/share/base/new
ENV A=1
LABEL who=me
CMD [\"cat\", \"/one\"]
";

/// Returns a store with the image `demo`.
fn with_demo() -> Store {
    let store = Store::with_base();
    store.build(&Context::new(SMALL)).ok();
    store
}

/// Returns a listing of the image's file system, made by its own tools.
fn file_listing(store: &Store, name: &str) -> String {
    let script = "find /one /again /link /shared /usr/share | sort | xargs stat -c '%N %A %u:%g %h'; \
        cat /one /usr/share/base/new; id; echo $A";
    store.dram(["run", name, "sh", "-c", script]).ok().stdout
}

#[test]
fn images_lists_names_digests_and_sizes() {
    let store = with_demo();
    let rows: Value = serde_json::from_str(&store.dram(["images", "--json"]).ok().stdout).unwrap();
    let named: Vec<_> =
        list(&rows).iter().map(|row| (row["name"].as_str().unwrap(), row["tag"].as_str().unwrap())).collect();
    assert_eq!(named, [("demo", "latest"), ("parity-base", "latest")]);
    let demo = &rows[0];
    assert_eq!(demo["digest"], store.inspect("demo")["digest"]);
    assert_eq!(demo["created"], store.inspect("demo")["config"]["created"]);
    assert_eq!(rows[1]["created"], "2023-11-14T22:13:20Z", "the newest file of the tar");
    assert!(demo["created"].as_str() > rows[1]["created"].as_str());
    let tar = fs::metadata(base_tar()).unwrap().len();
    assert_eq!(rows[1]["size"], tar);
    assert!(demo["size"].as_u64().unwrap() > tar);
    let text = store.dram(["images"]).ok().stdout;
    let head: Vec<_> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["NAME", "TAG", "DIGEST", "CREATED", "SIZE", "COMPRESSED"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(Store::empty().dram(["images", "--json"]).ok().stdout.trim(), "[]");
}

#[test]
fn history_and_inspect_show_an_image() {
    let store = with_demo();
    let history = store.dram(["history", "demo"]).ok().stdout;
    let lines: Vec<_> = history.lines().skip(1).collect();
    assert_eq!(lines.len(), 6, "{history}");
    assert!(lines[0].contains("CMD [\"cat\"") && lines[0].contains("0 B"), "the youngest is first\n{history}");
    assert!(lines[4].contains("RUN") && lines[4].contains('…'), "{history}");
    assert!(lines[5].contains("dram import"), "{history}");
    let whole = store.dram(["history", "--no-trunc", "demo"]).ok().stdout;
    assert!(whole.contains("chown app /one"), "{whole}");
    let demo = store.inspect("demo");
    assert_eq!(demo["config"]["config"]["Cmd"], serde_json::json!(["cat", "/one"]));
    assert_eq!(demo["config"]["config"]["Labels"], serde_json::json!({"who": "me"}));
    assert_eq!((demo["config"]["os"].as_str(), demo["names"][0].as_str()), (Some("linux"), Some("demo:latest")));
    assert_eq!(list(&demo["manifest"]["layers"]).len(), 3);
    let layers = list(&demo["config"]["history"]).iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(layers, 3, "every layer has its line of history");
}

#[test]
fn names_are_added_moved_and_removed() {
    let store = with_demo();
    let digest = store.digest("demo");
    for name in ["other", "other:1.2", "localhost:5000/a/b:c", "docker.io/library/demo:d"] {
        store.dram(["tag", "demo", name]).ok();
        assert_eq!(store.digest(name), digest);
    }
    assert_eq!(store.digest("docker.io/library/demo"), digest, "Docker's short and long names are one");
    store.dram(["tag", &digest, "by-digest"]).ok();
    store.dram(["tag", BASE, "other"]).ok();
    assert_eq!(store.digest("other"), store.digest(BASE), "a name moves on");
    store.dram(["rm", "other:1.2", "nosuch"]).fails(1);
    assert_eq!(store.digest("other:1.2"), digest, "all or none");
    store.dram(["rm", "other:1.2", "other", "demo:d"]).ok();
    store.dram(["inspect", "other:1.2"]).fails(1);
    assert_eq!(
        store.inspect("demo")["names"],
        serde_json::json!(["by-digest:latest", "demo:latest", "localhost:5000/a/b:c"])
    );
    valid_image(&store, "localhost:5000/a/b:c");
}

#[test]
fn images_are_listed_by_name_and_as_ids_that_other_commands_take() {
    let store = with_demo();
    store.dram(["tag", "demo", "other:1"]).ok();
    let config = |name: &str| store.inspect(name)["manifest"]["config"]["digest"].as_str().unwrap()[7..].to_owned();
    let mut ids = [config("demo"), config(BASE)].map(|id| id[..12].to_owned());
    ids.sort();
    assert_eq!(store.dram(["images", "-q"]).ok().stdout.lines().collect::<Vec<_>>(), ids);
    let whole = store.dram(["image", "ls", "-q", "--no-trunc", "demo"]).ok().stdout;
    assert_eq!(whole.trim(), format!("sha256:{}", config("demo")));
    for (name, count) in [("other", 1), ("other:1", 1), ("other:2", 0), ("docker.io/library/demo", 1), ("nosuch", 0)] {
        assert_eq!(store.dram(["images", name]).ok().stdout.lines().count(), 1 + count, "{name}");
    }
    let table = store.dram(["images", "--all", "--digests", "--no-trunc"]).ok().stdout;
    assert!(table.contains(&store.digest("demo")), "{table}");
    store.dram(["rmi", &config("demo")[..12]]).fails(2).says("has 2 names").says("--force");
    valid_image(&store, "demo:latest");
    store.dram(["rmi", "-f", &config("demo")[..12], BASE]).ok();
    assert_eq!(store.dram(["images", "-q"]).ok().stdout, "");
}

#[test]
fn rm_takes_a_digest_or_an_id_that_has_one_name() {
    let store = with_demo();
    let (digest, base) = (store.digest("demo"), store.digest(BASE));
    store.dram(["tag", "demo", "other"]).ok();
    let refused = store.dram(["rm", &digest]).fails(2);
    refused.says("has 2 names: `demo:latest`, `other:latest`").says("dram rm NAME");
    store.dram(["rm", "other"]).ok();
    store.dram(["rm", &digest]).ok();
    store.dram(["inspect", "demo"]).fails(1);
    store.dram(["rm", &digest]).fails(1).says("has no name to be removed").says("dram prune");
    store.dram(["rm", &"7".repeat(64)]).fails(1).says("the store has no image");
    let config = store.inspect(BASE)["manifest"]["config"]["digest"].as_str().unwrap()[7..19].to_owned();
    valid_image(&store, "parity-base:latest");
    store.dram(["rm", &config]).ok();
    store.dram(["inspect", BASE]).fails(1);
    store.dram(["rm", &base]).fails(1).says("has no name to be removed");
}

#[test]
fn prune_removes_unused_blobs_and_with_all_the_step_cache() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nRUN head -c 3000000 /dev/urandom > /large\n");
    store.build(&context).ok();
    store.dram(["rm", "demo"]).ok();
    let size =
        || tool("du").arg("-sb").arg(store.path()).ok().stdout.split('\t').next().unwrap().parse::<u64>().unwrap();
    let (before, blobs) = (size(), store.blobs().len());
    let listed = store.dram(["prune", "--dry-run"]).ok().stdout;
    let dry = listed.split_inclusive('\n').next().unwrap();
    assert_eq!(listed.lines().filter(|line| line.starts_with("blob  sha256:")).count(), 3, "{listed}");
    assert!(dry.starts_with("would remove 3 blobs, 0 unpacked layers and 0 cached steps: "), "{dry}");
    assert_eq!((size(), store.blobs().len()), (before, blobs), "a dry run removes nothing");
    let done = store.dram(["prune"]).ok().stdout;
    assert_eq!(done.replace("removed", "would remove"), dry, "a dry run says what would be");
    assert_eq!(store.blobs().len(), blobs - 3);
    let again = store.build(&context).ok();
    assert_eq!(again.steps(), (0, 1), "the cached steps are still there\n{again}");
    valid_image(&store, "demo:latest");
    store.dram(["rm", "demo"]).ok();
    let all = store.dram(["prune", "--all"]).ok().stdout;
    assert!(all.starts_with("removed 3 blobs, ") && all.contains("1 cached step:"), "{all}");
    assert!(size() + 6_000_000 < before, "{} and before {before}", size());
    assert_eq!(names(&store.join("layers")), [""; 0]);
    valid_image(&store, "parity-base:latest");
    assert_eq!(store.build(&context).ok().steps(), (1, 0));
}

#[test]
fn prune_keeps_images_with_names() {
    let store = with_demo();
    let before = file_listing(&store, "demo");
    for options in [vec![], vec!["--all"], vec!["--all"]] {
        store.dram(["prune"]).args(options).ok();
        assert_eq!(file_listing(&store, "demo"), before);
        valid_image(&store, "demo:latest");
    }
    let none = store.dram(["prune"]).ok().stdout;
    assert_eq!(none, "removed 0 blobs, 0 unpacked layers and 0 cached steps: 0 B\n");
}

#[test]
fn prune_waits_for_a_running_build() {
    let store = Store::with_base();
    let context =
        Context::new("FROM parity-base AS a\nRUN echo x > /x; sleep 1\nFROM parity-base\nCOPY --from=a /x /\n");
    let build = store.build(&context).start();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let prune = store.dram(["prune", "--all"]).start();
    assert_eq!(build.end().code, 0);
    assert_eq!(prune.end().code, 0);
    assert_eq!(store.sh("cat /x").stdout, "x\n");
    valid_image(&store, "demo:latest");
}

#[test]
fn import_reads_every_compression() {
    let (store, place) = (Store::with_base(), temp());
    let expected = store.inspect(BASE)["config"]["rootfs"].clone();
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")] {
        let file = place.path().join(format!("base.tar.{ending}"));
        tool("sh").args(["-c", r#""$0" -c "$1" > "$2""#, program]).arg(base_tar()).arg(&file).ok();
        store.dram(["import"]).arg(&file).arg(program).ok();
        assert_eq!(store.inspect(program)["config"]["rootfs"], expected, "{program}");
        assert_eq!(store.digest(program), store.digest(BASE), "{program}");
    }
    store.dram(["import", "-", "piped"]).stdin(fs::read(base_tar()).unwrap()).ok();
    assert_eq!(store.digest("piped"), store.digest(BASE));
    valid_image(&store, "piped:latest");
}

#[test]
fn truncated_archives_are_refused_and_leave_nothing() {
    let (store, place) = (Store::empty(), temp());
    let whole = fs::read(base_tar()).unwrap();
    let file = place.path().join("cut.tar");
    for length in [100, 1000, whole.len() / 2, whole.len() / 2 + 7] {
        fs::write(&file, &whole[..length]).unwrap();
        store.dram(["import"]).arg(&file).arg("cut").fails(1).says("cut.tar");
    }
    let packed = place.path().join("whole.tar.gz");
    tool("sh").args(["-c", r#"gzip -c "$0" > "$1""#]).arg(base_tar()).arg(&packed).ok();
    let mut bytes = fs::read(&packed).unwrap();
    bytes.truncate(bytes.len() - 20);
    fs::write(&file, &bytes).unwrap();
    store.dram(["import"]).arg(&file).arg("cut").fails(1);
    assert_eq!(store.dram(["images", "--json"]).ok().stdout.trim(), "[]");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn a_saved_image_is_loaded_with_its_digest() {
    let (store, place) = (with_demo(), temp());
    let digest = store.digest("demo");
    for target in ["demo.tar", "layout/"] {
        let path = place.path().join(target);
        store.dram(["save", "-o"]).arg(&path).args(["demo", BASE]).ok();
        let other = Store::empty();
        let loaded = other.dram(["load"]).arg(&path).ok();
        // They are in the order of their digests, and the one of `demo` has the time of the build.
        let mut names: Vec<&str> = loaded.stdout.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["demo:latest", "parity-base:latest"]);
        assert_eq!((other.digest("demo"), other.digest(BASE)), (digest.clone(), store.digest(BASE)), "{target}");
        assert_eq!(file_listing(&other, "demo"), file_listing(&store, "demo"));
        valid_image(&other, "demo:latest");
        other.dram(["load", "--tag", "own:name"]).arg(&path).fails(2);
    }
    store.dram(["save", "-o"]).arg(place.path().join("one.tar")).arg("demo").ok();
    let again = place.path().join("again.tar");
    store.dram(["save", "-o"]).arg(&again).arg("demo").ok();
    assert_eq!(fs::read(place.path().join("one.tar")).unwrap(), fs::read(&again).unwrap(), "the same bytes");
    let other = Store::empty();
    other.dram(["load", "--tag", "own:name"]).arg(&again).ok();
    assert_eq!(other.digest("own:name"), digest);
    valid_image(&other, "own:name");
}

#[test]
fn an_archive_without_a_name_needs_a_tag_to_be_loaded() {
    let (store, place) = (with_demo(), temp());
    let archive = place.path().join("x.tar");
    store.dram(["save", "-o"]).arg(&archive).arg(store.digest("demo")).ok();
    let other = Store::empty();
    other.dram(["load"]).arg(&archive).fails(2).says("give one with --tag");
    other.dram(["load", "-t", "demo"]).arg(&archive).ok();
    assert_eq!(other.digest("demo"), store.digest("demo"));
    valid_image(&other, "demo:latest");
}

#[test]
fn save_writes_to_pipes_and_into_existing_layouts() {
    let (store, place) = (with_demo(), temp());
    let script = r#""$0" save -o - demo | tar -tf -"#;
    let listed = tool("sh").args(["-c", script]).arg(crate::support::dram_path()).env("DRAM_STORE", store.path()).ok();
    for file in ["index.json", "manifest.json", "oci-layout"] {
        assert!(listed.stdout.lines().any(|line| line == file), "{listed}");
    }
    // As with Docker: from a pipe, from a file that the shell opened, and from a named file.
    let archive = place.path().join("demo.tar");
    store.dram(["save", "-o"]).arg(&archive).arg("demo").ok();
    for script in [
        r#"DRAM_STORE="$1" "$0" save demo | "$0" load"#,
        r#"DRAM_STORE="$1" "$0" save -o - demo | "$0" load -"#,
        r#""$0" load < "$2""#,
        r#""$0" load -i "$2""#,
    ] {
        let other = Store::empty();
        let sh = tool("sh").args(["-c", script]).arg(crate::support::dram_path()).arg(store.path()).arg(&archive);
        sh.env("DRAM_STORE", other.path()).ok();
        assert_eq!(other.digest("demo"), store.digest("demo"), "{script}");
    }
    Store::empty().dram(["load", "-i", "x.tar"]).arg(&archive).fails(2);
    Store::empty().dram(["load"]).fails(1).says("/dev/stdin is no image archive");
    let layout = place.path().join("layout");
    tool("umoci").args(["init", "--layout"]).arg(&layout).ok();
    tool("umoci").args(["new", "--image"]).arg(format!("{}:theirs", layout.display())).ok();
    store.dram(["save", "-o"]).arg(&layout).arg("demo").ok();
    let listed = tool("umoci").args(["ls", "--layout"]).arg(&layout).ok();
    assert_eq!(listed.stdout.lines().collect::<Vec<_>>(), ["theirs", "latest"]);
    fs::create_dir(place.path().join("full")).unwrap();
    fs::write(place.path().join("full/file"), "").unwrap();
    store.dram(["save", "-o"]).arg(place.path().join("full")).arg("demo").fails(1).says("no OCI layout");
}

/// Returns the address of an image in the store's layout, as other tools write it.
fn layout_address(store: &Store, name: &str) -> String {
    format!("oci:{}:{name}:latest", store.join("oci").display())
}

fn skopeo(from: &str, to: &str) {
    tool("skopeo").args(["copy", "--insecure-policy", "--quiet", from, to]).ok();
}

#[test]
fn images_copied_by_skopeo_are_loaded_unchanged() {
    let (store, place) = (with_demo(), temp());
    let at = |name: &str| place.path().join(name).display().to_string();
    let before = file_listing(&store, "demo");
    skopeo(&layout_address(&store, "demo"), &format!("oci-archive:{}:demo:latest", at("oci.tar")));
    skopeo(&layout_address(&store, "demo"), &format!("docker-archive:{}:demo:latest", at("docker.tar")));
    skopeo(&layout_address(&store, "demo"), &format!("oci:{}:demo:latest", at("layout")));
    for source in ["oci.tar", "layout", "docker.tar"] {
        let other = Store::empty();
        other.dram(["load"]).arg(at(source)).ok();
        assert_eq!(other.digest("demo"), store.digest("demo"), "{source}");
        assert_eq!(file_listing(&other, "demo"), before, "{source}");
        valid_image(&other, "demo:latest");
    }
    // An archive of dram can be read as a Docker archive and as an OCI archive.
    store.dram(["save", "-o", &at("ours.tar"), "demo"]).ok();
    skopeo(&format!("docker-archive:{}", at("ours.tar")), &format!("dir:{}", at("dir")));
    skopeo(&format!("oci-archive:{}:latest", at("ours.tar")), &format!("dir:{}", at("dir2")));
}

#[test]
fn podman_loads_mounts_and_pulls_images_of_dram() {
    let (store, place, storage) = (with_demo(), temp(), ContainersStorage::new());
    let archive = place.path().join("demo.tar");
    store.dram(["save", "-o"]).arg(&archive).arg("demo").ok();
    let id = store.inspect("demo")["manifest"]["config"]["digest"].as_str().unwrap().to_owned();
    let podman_id = |name: &str| {
        let inspected = storage.tool("podman", ["image", "inspect", name]).ok().stdout;
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        format!("sha256:{}", inspected[0]["Id"].as_str().unwrap())
    };
    let loaded = storage.tool("podman", ["load", "--quiet", "-i"]).arg(&archive).ok();
    assert!(loaded.stdout.contains("demo:latest"), "{loaded}");
    assert_eq!(podman_id("demo"), id);
    let mounted = storage.tool("podman", ["image", "mount", "demo"]).ok().stdout;
    let root = Path::new(mounted.trim());
    assert_eq!(fs::read_to_string(root.join("one")).unwrap(), "one\n");
    assert_eq!(names(&root.join("usr/share/base")), ["new"]);
    storage.tool("podman", ["image", "umount", "demo"]).ok();
    storage.tool("podman", ["rmi", "-f", "demo"]).ok();
    let pulled = storage.tool("podman", ["pull", "--quiet", &layout_address(&store, "demo")]).ok();
    assert_eq!(format!("sha256:{}", pulled.stdout.trim()), id);
}

#[test]
fn images_saved_by_podman_and_buildah_are_loaded() {
    let (place, storage, theirs) = (temp(), ContainersStorage::new(), Store::empty());
    let at = |name: &str| place.path().join(name).display().to_string();
    let container = storage.tool("buildah", ["from", "scratch"]).ok().stdout;
    let container = container.trim();
    storage.tool("buildah", ["add", "--quiet", container]).arg(base_tar()).arg("/").ok();
    storage.tool("buildah", ["config", "--env", "A=1", "--cmd", "echo theirs", container]).ok();
    storage.tool("buildah", ["commit", "--quiet", container, "localhost/theirs:1"]).ok();
    for (source, made) in [
        (
            "b-oci.tar",
            storage
                .tool("buildah", ["push", "--quiet", "localhost/theirs:1"])
                .arg(format!("oci-archive:{}:theirs:1", at("b-oci.tar"))),
        ),
        (
            "b-docker.tar",
            storage
                .tool("buildah", ["push", "--quiet", "localhost/theirs:1"])
                .arg(format!("docker-archive:{}:theirs:1", at("b-docker.tar"))),
        ),
        (
            "b-layout",
            storage
                .tool("buildah", ["push", "--quiet", "localhost/theirs:1"])
                .arg(format!("oci:{}:theirs:1", at("b-layout"))),
        ),
        ("p-docker.tar", storage.tool("podman", ["save", "--quiet", "-o", &at("p-docker.tar"), "localhost/theirs:1"])),
        (
            "p-oci.tar",
            storage.tool(
                "podman",
                ["save", "--quiet", "--format", "oci-archive", "-o", &at("p-oci.tar"), "localhost/theirs:1"],
            ),
        ),
        (
            "p-layout",
            storage.tool(
                "podman",
                ["save", "--quiet", "--format", "oci-dir", "-o", &at("p-layout"), "localhost/theirs:1"],
            ),
        ),
        (
            "p-many.tar",
            storage.tool("podman", ["save", "--quiet", "-m", "-o", &at("p-many.tar"), "localhost/theirs:1"]),
        ),
    ] {
        made.ok();
        let loaded = theirs.dram(["load", "--tag", "theirs"]).arg(at(source)).ok();
        assert_eq!(loaded.stdout, "theirs:latest\n", "{source}");
        let run = theirs.dram(["run", "theirs"]).ok();
        assert_eq!(run.stdout, "theirs\n", "{source}\n{run}");
        assert_eq!(theirs.dram(["run", "theirs", "sh", "-c", "echo $A; wc -l < /etc/group"]).ok().stdout, "1\n5\n");
        valid_image(&theirs, "theirs:latest");
        if source.contains("oci") || source.contains("layout") {
            let inspected = if source.ends_with("tar") { "oci-archive" } else { "oci" };
            let peer = tool("skopeo").arg("inspect").arg(format!("{inspected}:{}", at(source))).ok().stdout;
            let peer: Value = serde_json::from_str(&peer).unwrap();
            assert_eq!(peer["Digest"].as_str().unwrap(), theirs.digest("theirs"), "{source}");
        }
        theirs.dram(["rm", "theirs"]).ok();
    }
}

#[test]
fn an_image_made_by_umoci_is_loaded_and_can_be_a_base() {
    let (store, place) = (Store::empty(), temp());
    let layout = place.path().join("layout");
    let image = format!("{}:made", layout.display());
    let bundle = place.path().join("bundle");
    tool("umoci").args(["init", "--layout"]).arg(&layout).ok();
    tool("umoci").args(["new", "--image", &image]).ok();
    tool("umoci").args(["unpack", "--image", &image]).arg(&bundle).ok();
    tool("tar").arg("-xf").arg(base_tar()).arg("-C").arg(bundle.join("rootfs")).ok();
    tool("umoci").args(["repack", "--image", &image]).arg(&bundle).ok();
    fs::remove_dir_all(bundle.join("rootfs/usr/share/base/deep")).unwrap();
    fs::remove_file(bundle.join("rootfs/etc/base.conf")).unwrap();
    tool("umoci").args(["repack", "--refresh-bundle", "--image", &image]).arg(&bundle).end();
    store.dram(["load"]).arg(&layout).fails(2).says("--tag");
    store.dram(["load", "-t", "made"]).arg(&layout).ok();
    store.build(&Context::new("FROM made\nRUN ls /etc /usr/share/base > /list\n")).ok();
    valid_image(&store, "demo:latest");
}

#[test]
fn an_image_that_skopeo_writes_into_the_store_layout_is_found() {
    let (store, place) = (with_demo(), temp());
    // An image that another tool copies into the layout is an image of dram at once.
    skopeo(&layout_address(&store, "demo"), &format!("oci:{}:foreign:1", place.path().join("x").display()));
    skopeo(
        &format!("oci:{}:foreign:1", place.path().join("x").display()),
        &format!("oci:{}:foreign:1", store.join("oci").display()),
    );
    assert_eq!(store.digest("foreign:1"), store.digest("demo"));
    assert_eq!(store.dram(["run", "foreign:1"]).ok().stdout, "one\n");
    store.dram(["rm", "foreign:1"]).ok();
    valid_image(&store, "demo:latest");
}
