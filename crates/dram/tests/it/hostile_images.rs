//! Hostile layouts and archives: each document is refused with an error or read as what it says, within limits of time
//! and memory, and nothing on the host is touched.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::crafted::{CraftedLayout, HostileHarness, RawEntry, architecture, digest, dir, file, symlink as link, tar};
use crate::support::tool;

/// Returns a small valid image.
fn small_image() -> CraftedLayout {
    CraftedLayout::over_base([tar([file("f", "f")])])
}

#[test]
fn invalid_indexes_and_layout_files_are_refused() {
    let harness = HostileHarness::new();
    let layout = small_image();
    layout.write();
    let whole = fs::read_to_string(layout.join("index.json")).unwrap();
    let deep = "[".repeat(200_000);
    let deep_list = format!(r#"{{"schemaVersion":2,"manifests":{deep}"#);
    let many =
        format!(r#"{{"schemaVersion":2,"annotations":{{{}"a":""}},"manifests":[]}}"#, r#""a":"b","#.repeat(3 << 20));
    let one = serde_json::from_str::<Value>(&whole).unwrap()["manifests"][0].clone();
    let images = json!({"schemaVersion": 2, "manifests": vec![one; 20_000]}).to_string();
    for (what, text, words) in [
        ("no JSON", "no JSON", "the index cannot be read"),
        ("nothing", "", "the index cannot be read"),
        ("cut", &whole[..whole.len() / 2], "the index cannot be read"),
        ("nested", &deep, "the index cannot be read"),
        ("a nested list", &deep_list, "the index cannot be read"),
        ("version 1", r#"{"schemaVersion":1,"manifests":[]}"#, "schemaVersion is 1"),
        ("no version", r#"{"manifests":[]}"#, "schemaVersion"),
        ("both kinds", r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, "both `layers` and `manifests`"),
        ("empty", r#"{"schemaVersion":2,"manifests":[]}"#, "image"),
        ("null", r#"{"schemaVersion":2,"manifests":null}"#, "the index cannot be read"),
        ("large and right", &many, "values"),
        ("20,000 images", &images, "more than 10000 images"),
    ] {
        fs::write(layout.join("index.json"), text).unwrap();
        harness.assert_refused_as_written(what, &layout, words);
    }
    let large = fs::File::create(layout.join("index.json")).unwrap();
    large.set_len(300 << 20).unwrap();
    harness.assert_refused_as_written("300 MiB", &layout, "larger than the");
    fs::write(layout.join("index.json"), whole).unwrap();
    for (what, text, words) in [
        ("9.9.9", r#"{"imageLayoutVersion":"9.9.9"}"#, "imageLayoutVersion is `9.9.9`"),
        ("no version", "{}", "imageLayoutVersion"),
        ("no JSON", "x", "oci-layout"),
    ] {
        fs::write(layout.join("oci-layout"), text).unwrap();
        harness.assert_refused_as_written(what, &layout, words);
    }
    fs::remove_file(layout.join("oci-layout")).unwrap();
    harness.assert_refused_as_written("no oci-layout", &layout, "no image archive and no OCI layout");
}

#[test]
fn invalid_descriptors_are_refused() {
    let harness = HostileHarness::new();
    let bend_layer =
        |key: &'static str, value: Value| small_image().manifest(move |it| it["layers"][1][key] = value.clone());
    let hex = "ab".repeat(32);
    for (what, layout, words) in [
        (
            "a path in the manifest's digest",
            small_image().index(|it| it["manifests"][0]["digest"] = "sha256:../../../canary".into()),
            "digest",
        ),
        (
            "a path in the configuration's digest",
            small_image().manifest(|it| it["config"]["digest"] = "sha256:../../../canary".into()),
            "digest",
        ),
        ("upper case", bend_layer("digest", format!("sha256:{}", hex.to_uppercase()).into()), "digest"),
        ("short", bend_layer("digest", "sha256:abcd".into()), "digest"),
        ("no colon", bend_layer("digest", hex.clone().into()), "digest"),
        ("no hex", bend_layer("digest", format!("sha256:{}", "xy".repeat(32)).into()), "digest"),
        ("md5", bend_layer("digest", "md5:d41d8cd98f00b204e9800998ecf8427e".into()), "digest"),
        ("a blob that is not there", bend_layer("digest", format!("sha256:{hex}").into()), &hex[..12]),
        (
            "a size too large",
            small_image()
                .manifest(|it| it["layers"][1]["size"] = (it["layers"][1]["size"].as_u64().unwrap() + 1).into()),
            "expected",
        ),
        (
            "a size too small",
            small_image()
                .manifest(|it| it["layers"][1]["size"] = (it["layers"][1]["size"].as_u64().unwrap() - 1).into()),
            "expected",
        ),
        ("a negative size", bend_layer("size", json!(-1)), "the image manifest cannot be read"),
        ("a text as size", bend_layer("size", json!("1024")), "the image manifest cannot be read"),
        ("a fraction as size", bend_layer("size", json!(1024.5)), "the image manifest cannot be read"),
        (
            "an index that is a manifest",
            small_image()
                .index(|it| it["manifests"][0]["mediaType"] = "application/vnd.oci.image.index.v1+json".into()),
            "the index",
        ),
        ("both kinds", small_image().manifest(|it| it["manifests"] = json!([])), "both `layers` and `manifests`"),
        (
            "a manifest that says index",
            small_image().manifest(|it| it["mediaType"] = "application/vnd.oci.image.index.v1+json".into()),
            "mediaType",
        ),
        ("version 1", small_image().manifest(|it| it["schemaVersion"] = json!(1)), "schemaVersion is 1"),
        (
            "data that is not what its digest says",
            small_image().manifest(|it| it["layers"][1]["data"] = "bm90IGl0".into()),
            "data",
        ),
        (
            "another kind of document",
            small_image().index(|it| it["manifests"][0]["mediaType"] = "text/html".into()),
            "image",
        ),
    ] {
        harness.assert_refused(what, &layout, words);
    }
}

#[test]
fn blobs_of_the_wrong_kind_size_or_digest_are_refused() {
    let harness = HostileHarness::new();
    let written = || {
        let layout = small_image();
        let place = layout.blob_path(layout.write()[1]["digest"].as_str().unwrap());
        (layout, place)
    };
    let (layout, place) = written();
    fs::remove_file(&place).unwrap();
    tool("mkfifo").arg(&place).ok();
    harness.assert_refused_as_written("a pipe", &layout, "damaged");
    let (layout, place) = written();
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    harness.assert_refused_as_written("a directory", &layout, "damaged");
    let (layout, place) = written();
    fs::remove_file(&place).unwrap();
    symlink(harness.target_file(), &place).unwrap();
    harness.assert_refused_as_written("a link out", &layout, "damaged");
    let (layout, place) = written();
    let mut bytes = fs::read(&place).unwrap();
    bytes[700] ^= 1;
    fs::write(&place, &bytes).unwrap();
    harness.assert_refused_as_written("a flipped bit", &layout, "does not match its digest");
    bytes[700] ^= 1;
    bytes.push(0);
    fs::write(&place, &bytes).unwrap();
    harness.assert_refused_as_written("one byte more", &layout, "expected");
    fs::write(&place, b"").unwrap();
    harness.assert_refused_as_written("nothing", &layout, "expected");
}

#[test]
fn invalid_configs_are_refused_and_odd_ones_accepted() {
    let harness = HostileHarness::new();
    for (what, layout, words) in [
        (
            "more layers than diff_ids",
            small_image().config(|it| drop(it["rootfs"]["diff_ids"].as_array_mut().unwrap().pop())),
            "layers",
        ),
        (
            "more diff_ids than layers",
            small_image().config(|it| it["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(digest(b"")))),
            "layers",
        ),
        (
            "rootfs: null",
            small_image().config(|it| (it["config"], it["rootfs"]) = (Value::Null, Value::Null)),
            "the image configuration",
        ),
        ("Cmd is a number", small_image().config(|it| it["config"]["Cmd"] = json!(5)), "the image configuration"),
        (
            "Entrypoint is a text",
            small_image().config(|it| it["config"]["Entrypoint"] = json!("sh -c x")),
            "the image configuration",
        ),
        (
            "a diff_id that is a path",
            small_image().config(|it| it["rootfs"]["diff_ids"][1] = json!("sha256:../x")),
            "digest",
        ),
        (
            "diff_ids in another order",
            small_image().config(|it| it["rootfs"]["diff_ids"].as_array_mut().unwrap().reverse()),
            "configuration says",
        ),
        ("another kind of rootfs", small_image().config(|it| it["rootfs"]["type"] = json!("x")), "rootfs.type"),
    ] {
        harness.assert_refused(what, &layout, words);
    }
    let env = json!(["PATH=/bin", "NOTHING", "=x", "A=1", "A=2", "LINES=1\n2", "NUL=\0x"]);
    for (what, layout, script, wanted) in [
        (
            "a history of more layers",
            small_image().config(|it| it["history"] = json!([{"created_by": "a"}, {"created_by": "b"}, {}, {}, {}])),
            "cat /f",
            "f",
        ),
        (
            "an odd environment",
            small_image().config(move |it| it["config"]["Env"] = env.clone()),
            r#"echo "$A $LINES""#,
            "2 1\n2",
        ),
        (
            "a directory that climbs",
            small_image().config(|it| it["config"]["WorkingDir"] = json!("../../etc/../tmp")),
            "pwd",
            "/tmp",
        ),
        (
            "no system and no architecture",
            small_image().config(|it| (it["os"], it["architecture"]) = (json!(""), json!(""))),
            "cat /f",
            "f",
        ),
        ("config: null", small_image().config(|it| it["config"] = Value::Null), "cat /f", "f"),
        (
            "keys of other cases",
            small_image().manifest(|it| {
                it["layers"][1]["Digest"] = json!(digest(b"other"));
                it["Layers"] = json!([]);
            }),
            "cat /f",
            "f",
        ),
        (
            "a layer that says it is elsewhere",
            small_image().manifest(|it| {
                it["layers"][1]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
                it["layers"][1]["urls"] = json!(["http://169.254.169.254/latest"]);
            }),
            "cat /f",
            "f",
        ),
    ] {
        harness.assert_prints(what, &layout, script, wanted);
    }
}

#[test]
fn control_characters_of_images_do_not_reach_the_terminal() {
    let harness = HostileHarness::new();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\u{9b}31m";
    let layout = small_image()
        .config(move |it| {
            it["author"] = json!(evil);
            it["created"] = json!(evil);
            it["comment"] = json!(evil);
            it["config"]["Labels"] = json!({evil: evil});
            it["history"] = json!([{"created_by": evil, "comment": evil, "created": evil}, {"created_by": evil}]);
        })
        .manifest(move |it| it["annotations"] = json!({evil: evil}));
    assert_eq!(harness.load(&layout).code, 0);
    for words in [
        vec!["images"],
        vec!["history", "hostile"],
        vec!["history", "--no-trunc", "hostile"],
        vec!["inspect", "hostile"],
    ] {
        let done = harness.store.dram([]).args(words).ok();
        let text = format!("{}{}", done.stdout, done.stderr);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{9b}']), "{}", text.escape_debug());
    }
    for name in [evil, "../../canary", "a\nb", "hostile:latest\u{1b}[2J"] {
        let other = HostileHarness::new();
        let named = move |it: &mut Value| {
            it["manifests"][0]["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        };
        let done = other.load(&small_image().index(named));
        let text = format!("{}{}", done.stdout, done.stderr);
        assert!(done.code != 0 && !text.contains('\u{1b}'), "{}", text.escape_debug());
        assert_eq!(other.images(), [""; 0], "{done}");
    }
}

#[test]
fn duplicate_entries_are_loaded_once_and_deep_indexes_refused() {
    let harness = HostileHarness::new();
    let twice = small_image().index(|it| {
        let first = it["manifests"][0].clone();
        it["manifests"].as_array_mut().unwrap().push(first);
    });
    let done = harness.load(&twice);
    assert!(done.code == 0 && harness.images() == ["hostile:latest"], "{done}");
    let deep = small_image();
    deep.write();
    // Eight nested indexes.
    for _ in 0..8 {
        let inner = fs::read(deep.join("index.json")).unwrap();
        fs::write(deep.blob_path(&digest(&inner)), &inner).unwrap();
        let entry = json!({
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(&inner), "size": inner.len(),
            "platform": {"os": "linux", "architecture": architecture()},
        });
        fs::write(deep.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    }
    let done = HostileHarness::new().load_written(&deep);
    assert!(done.code != 0, "{done}");
}

/// Returns an archive as `docker save` writes it: manifest.json, config, and one layer.
fn docker_archive(layer: RawEntry, list: &dyn Fn(&mut Value)) -> Vec<u8> {
    let inner = tar([file("f", "f")]);
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {"Cmd": ["/f"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&inner)]},
    });
    let mut all =
        json!([{"Config": "config.json", "RepoTags": ["docker.io/library/debian:12"], "Layers": ["layer.tar"]}]);
    list(&mut all);
    tar([file("config.json", &config.to_string()), layer, file("manifest.json", &all.to_string())])
}

#[test]
fn hostile_docker_archives_are_refused() {
    let harness = HostileHarness::new();
    let place = CraftedLayout::with_layers([]);
    let inner = || RawEntry::new(b'0', "layer.tar").data(tar([file("f", "f")]));
    let path = place.join("docker.tar");
    let target = harness.target_file();
    let no_list = tar([file("config.json", "{}"), inner()]);
    let tag = |tag: &'static str| docker_archive(inner(), &move |it| it[0]["RepoTags"] = json!([tag]));
    for (what, bytes, words) in [
        ("a layer that is a link out", docker_archive(link("layer.tar", &target), &|_| ()), "layer.tar"),
        (
            "a layer that is a hard link out",
            docker_archive(crate::crafted::hard_link("layer.tar", &target), &|_| ()),
            "it names `layer.tar`, which is not there",
        ),
        (
            "a layer in a linked directory",
            docker_archive(link("d", harness.target()), &|it| it[0]["Layers"] = json!(["d/file"])),
            "d/file",
        ),
        (
            "a layer that climbs",
            docker_archive(inner(), &|it| it[0]["Layers"] = json!(["../../../etc/passwd"])),
            "climbs",
        ),
        (
            "a layer of the machine",
            docker_archive(inner(), &|it| it[0]["Layers"] = json!(["/etc/hostname"])),
            "/etc/hostname",
        ),
        (
            "a configuration of the machine",
            docker_archive(inner(), &|it| it[0]["Config"] = json!("/etc/hostname")),
            "/etc/hostname",
        ),
        ("a layer that is a directory", docker_archive(dir("layer.tar"), &|_| ()), "layer.tar"),
        ("a layer that is a pipe", docker_archive(RawEntry::new(b'6', "layer.tar"), &|_| ()), "layer.tar"),
        ("a layer that is no tar", docker_archive(file("layer.tar", &"x".repeat(2000)), &|_| ()), "not a tar archive"),
        (
            "more layers than diff_ids",
            docker_archive(inner(), &|it| it[0]["Layers"] = json!(["layer.tar", "layer.tar"])),
            "2 layers",
        ),
        ("no list", no_list, "no image archive"),
        ("a list that is none", docker_archive(inner(), &|it| *it = json!({"Config": 1})), "manifest.json"),
        ("an empty list", docker_archive(inner(), &|it| *it = json!([])), "is no image archive and no OCI layout"),
        ("a nested list", tar([file("manifest.json", &"[".repeat(200_000))]), "manifest.json"),
        ("an odd name", tag("\u{1b}[2J"), "has no name but `\\u{1b}[2J`"),
        ("a name that climbs", tag("../../canary:x"), "has no name but `../../canary:x`"),
        (
            "20,000 images",
            docker_archive(inner(), &|it| *it = vec![it[0].clone(); 20_000].into()),
            "more than 10000 images",
        ),
        (
            "20,000 names",
            docker_archive(inner(), &|it| it[0]["RepoTags"] = vec!["x:1"; 20_000].into()),
            "more than 10000 images",
        ),
        (
            "one of two without a name",
            docker_archive(inner(), &|it| *it = json!([it[0], {"Config": "config.json", "Layers": ["layer.tar"]}])),
            "has no name",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        let done = harness.dram(["load"], &path);
        assert!(done.code != 0 && done.stderr.contains(words), "{what}: expected to read {words:?}\n{done}");
        assert!(!done.stderr.contains('\u{1b}'), "{what}\n{done}");
        assert_eq!(harness.images(), [""; 0], "{what}: nothing is left\n{done}");
    }
    // The largest allowed number of images: their shared layer is packed once, and all names are written at once.
    let many = |it: &mut Value| {
        let named = |number: usize| json!({"Config": "config.json", "RepoTags": [format!("many:{number}")], "Layers": ["layer.tar"]});
        *it = (0..5_000).map(named).collect();
    };
    fs::write(&path, docker_archive(inner(), &many)).unwrap();
    let done = harness.dram(["load"], &path);
    assert!(done.code == 0 && done.stdout.lines().count() == 5_000, "{done}");
    assert_eq!(harness.images().len(), 5_000);
    // The archive chooses the names, and they are printed; an overwritten name is reported with its old digest.
    fs::write(&path, docker_archive(inner(), &|_| ())).unwrap();
    let done = harness.dram(["load"], &path);
    assert_eq!((done.code, done.stdout.as_str()), (0, "debian:12\n"), "{done}");
    assert!(!done.stderr.contains("was"), "{done}");
    let before = harness.store.digest("debian:12");
    let other = tar([file("g", "g")]);
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&other)]},
    });
    let list = json!([{"Config": "c", "RepoTags": ["debian:12"], "Layers": ["l"]}]).to_string();
    let parts = [file("c", &config.to_string()), RawEntry::new(b'0', "l").data(other), file("manifest.json", &list)];
    fs::write(&path, tar(parts)).unwrap();
    let done = harness.dram(["load"], &path);
    assert!(done.code == 0 && done.stderr.contains(&format!("`debian:12` was {before}")), "{done}");
}

/// `docker save` writes a link for a layer that another image of the archive has too.
#[test]
fn linked_layers_of_docker_archives_are_loaded_from_files_pipes_and_compressed() {
    let harness = HostileHarness::new();
    let place = CraftedLayout::with_layers([]);
    let inner = tar([file("f", "f")]);
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {"Cmd": ["/f"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&inner), digest(&inner), digest(&inner)]},
    });
    let layers = ["2/layer.tar", "1/layer.tar", "3/layer.tar"];
    let all = json!([{"Config": "config.json", "RepoTags": ["linked:1"], "Layers": layers}]).to_string();
    let archive = tar([
        file("manifest.json", &all),
        link("2/layer.tar", "../1/layer.tar"),
        crate::crafted::hard_link("3/layer.tar", "2/layer.tar"),
        file("config.json", &config.to_string()),
        RawEntry::new(b'0', "1/layer.tar").data(inner),
    ]);
    let path = place.join("docker.tar");
    fs::write(&path, &archive).unwrap();
    tool("gzip").arg("-k").arg(&path).ok();
    let mut digests = Vec::new();
    for way in ["file", "pipe", "gzip"] {
        let loaded = match way {
            "file" => harness.store.dram(["load"]).arg(&path),
            "pipe" => harness.store.dram(["load"]).stdin(archive.clone()),
            _ => harness.store.dram(["load"]).arg(path.with_extension("tar.gz")),
        };
        assert_eq!(loaded.ok().stdout, "linked:1\n", "{way}");
        digests.push(harness.store.digest("linked:1"));
        harness.store.dram(["rm", "linked:1"]).ok();
    }
    assert!(digests.iter().all(|one| *one == digests[0]), "{digests:?}");
}
