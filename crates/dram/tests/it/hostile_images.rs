//! Layouts and archives whose documents are made to hurt: each is refused in words or read as what it says, in bounded
//! time and memory, and touches nothing of the machine.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::foreign::{Layout, Part, Range, architecture, digest, dir, file, symlink as link, tar};
use crate::support::tool;

/// A small image.
fn plain() -> Layout {
    Layout::over_base([tar([file("f", "f")])])
}

#[test]
fn tables_of_contents_that_are_none() {
    let range = Range::new();
    let layout = plain();
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
        range.refuses_written(what, &layout, words);
    }
    let large = fs::File::create(layout.join("index.json")).unwrap();
    large.set_len(300 << 20).unwrap();
    range.refuses_written("300 MiB", &layout, "larger than the");
    fs::write(layout.join("index.json"), whole).unwrap();
    for (what, text, words) in [
        ("9.9.9", r#"{"imageLayoutVersion":"9.9.9"}"#, "imageLayoutVersion is `9.9.9`"),
        ("no version", "{}", "imageLayoutVersion"),
        ("no JSON", "x", "oci-layout"),
    ] {
        fs::write(layout.join("oci-layout"), text).unwrap();
        range.refuses_written(what, &layout, words);
    }
    fs::remove_file(layout.join("oci-layout")).unwrap();
    range.refuses_written("no oci-layout", &layout, "no image archive and no OCI layout");
}

#[test]
fn pointers_that_lead_elsewhere() {
    let range = Range::new();
    let bend_layer = |key: &'static str, value: Value| plain().manifest(move |it| it["layers"][1][key] = value.clone());
    let hex = "ab".repeat(32);
    for (what, layout, words) in [
        (
            "a path in the manifest's digest",
            plain().index(|it| it["manifests"][0]["digest"] = "sha256:../../../canary".into()),
            "digest",
        ),
        (
            "a path in the configuration's digest",
            plain().manifest(|it| it["config"]["digest"] = "sha256:../../../canary".into()),
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
            plain().manifest(|it| it["layers"][1]["size"] = (it["layers"][1]["size"].as_u64().unwrap() + 1).into()),
            "expected",
        ),
        (
            "a size too small",
            plain().manifest(|it| it["layers"][1]["size"] = (it["layers"][1]["size"].as_u64().unwrap() - 1).into()),
            "expected",
        ),
        ("a negative size", bend_layer("size", json!(-1)), "the image manifest cannot be read"),
        ("a text as size", bend_layer("size", json!("1024")), "the image manifest cannot be read"),
        ("a fraction as size", bend_layer("size", json!(1024.5)), "the image manifest cannot be read"),
        (
            "an index that is a manifest",
            plain().index(|it| it["manifests"][0]["mediaType"] = "application/vnd.oci.image.index.v1+json".into()),
            "the index",
        ),
        ("both kinds", plain().manifest(|it| it["manifests"] = json!([])), "both `layers` and `manifests`"),
        (
            "a manifest that says index",
            plain().manifest(|it| it["mediaType"] = "application/vnd.oci.image.index.v1+json".into()),
            "mediaType",
        ),
        ("version 1", plain().manifest(|it| it["schemaVersion"] = json!(1)), "schemaVersion is 1"),
        (
            "data that is not what its digest says",
            plain().manifest(|it| it["layers"][1]["data"] = "bm90IGl0".into()),
            "data",
        ),
        ("another kind of document", plain().index(|it| it["manifests"][0]["mediaType"] = "text/html".into()), "image"),
    ] {
        range.refuses(what, &layout, words);
    }
}

#[test]
fn blobs_that_are_not_what_they_should_be() {
    let range = Range::new();
    let written = || {
        let layout = plain();
        let place = layout.place(layout.write()[1]["digest"].as_str().unwrap());
        (layout, place)
    };
    let (layout, place) = written();
    fs::remove_file(&place).unwrap();
    tool("mkfifo").arg(&place).ok();
    range.refuses_written("a pipe", &layout, "damaged");
    let (layout, place) = written();
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    range.refuses_written("a directory", &layout, "damaged");
    let (layout, place) = written();
    fs::remove_file(&place).unwrap();
    symlink(range.target_file(), &place).unwrap();
    range.refuses_written("a link out", &layout, "damaged");
    let (layout, place) = written();
    let mut bytes = fs::read(&place).unwrap();
    bytes[700] ^= 1;
    fs::write(&place, &bytes).unwrap();
    range.refuses_written("a flipped bit", &layout, "not what its name says");
    bytes[700] ^= 1;
    bytes.push(0);
    fs::write(&place, &bytes).unwrap();
    range.refuses_written("one byte more", &layout, "expected");
    fs::write(&place, b"").unwrap();
    range.refuses_written("nothing", &layout, "expected");
}

#[test]
fn configurations_that_say_what_cannot_be() {
    let range = Range::new();
    for (what, layout, words) in [
        (
            "more layers than diff_ids",
            plain().config(|it| drop(it["rootfs"]["diff_ids"].as_array_mut().unwrap().pop())),
            "layers",
        ),
        (
            "more diff_ids than layers",
            plain().config(|it| it["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(digest(b"")))),
            "layers",
        ),
        (
            "rootfs: null",
            plain().config(|it| (it["config"], it["rootfs"]) = (Value::Null, Value::Null)),
            "the image configuration",
        ),
        ("Cmd is a number", plain().config(|it| it["config"]["Cmd"] = json!(5)), "the image configuration"),
        (
            "Entrypoint is a text",
            plain().config(|it| it["config"]["Entrypoint"] = json!("sh -c x")),
            "the image configuration",
        ),
        ("a diff_id that is a path", plain().config(|it| it["rootfs"]["diff_ids"][1] = json!("sha256:../x")), "digest"),
        (
            "diff_ids in another order",
            plain().config(|it| it["rootfs"]["diff_ids"].as_array_mut().unwrap().reverse()),
            "configuration says",
        ),
        ("another kind of rootfs", plain().config(|it| it["rootfs"]["type"] = json!("x")), "rootfs.type"),
    ] {
        range.refuses(what, &layout, words);
    }
    let env = json!(["PATH=/bin", "NOTHING", "=x", "A=1", "A=2", "LINES=1\n2", "NUL=\0x"]);
    for (what, layout, script, wanted) in [
        (
            "a history of more layers",
            plain().config(|it| it["history"] = json!([{"created_by": "a"}, {"created_by": "b"}, {}, {}, {}])),
            "cat /f",
            "f",
        ),
        (
            "an odd environment",
            plain().config(move |it| it["config"]["Env"] = env.clone()),
            r#"echo "$A $LINES""#,
            "2 1\n2",
        ),
        (
            "a directory that climbs",
            plain().config(|it| it["config"]["WorkingDir"] = json!("../../etc/../tmp")),
            "pwd",
            "/tmp",
        ),
        (
            "no system and no architecture",
            plain().config(|it| (it["os"], it["architecture"]) = (json!(""), json!(""))),
            "cat /f",
            "f",
        ),
        ("config: null", plain().config(|it| it["config"] = Value::Null), "cat /f", "f"),
        (
            "keys of other cases",
            plain().manifest(|it| {
                it["layers"][1]["Digest"] = json!(digest(b"other"));
                it["Layers"] = json!([]);
            }),
            "cat /f",
            "f",
        ),
        (
            "a layer that says it is elsewhere",
            plain().manifest(|it| {
                it["layers"][1]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
                it["layers"][1]["urls"] = json!(["http://169.254.169.254/latest"]);
            }),
            "cat /f",
            "f",
        ),
    ] {
        range.prints(what, &layout, script, wanted);
    }
}

#[test]
fn words_of_others_do_not_reach_the_terminal_as_they_are() {
    let range = Range::new();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\u{9b}31m";
    let layout = plain()
        .config(move |it| {
            it["author"] = json!(evil);
            it["created"] = json!(evil);
            it["comment"] = json!(evil);
            it["config"]["Labels"] = json!({evil: evil});
            it["history"] = json!([{"created_by": evil, "comment": evil, "created": evil}, {"created_by": evil}]);
        })
        .manifest(move |it| it["annotations"] = json!({evil: evil}));
    assert_eq!(range.load(&layout).code, 0);
    for words in [
        vec!["images"],
        vec!["history", "hostile"],
        vec!["history", "--no-trunc", "hostile"],
        vec!["inspect", "hostile"],
    ] {
        let done = range.store.dram([]).args(words).ok();
        let text = format!("{}{}", done.stdout, done.stderr);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{9b}']), "{}", text.escape_debug());
    }
    for name in [evil, "../../canary", "a\nb", "hostile:latest\u{1b}[2J"] {
        let other = Range::new();
        let named = move |it: &mut Value| {
            it["manifests"][0]["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        };
        let done = other.load(&plain().index(named));
        let text = format!("{}{}", done.stdout, done.stderr);
        assert!(done.code != 0 && !text.contains('\u{1b}'), "{}", text.escape_debug());
        assert_eq!(other.images(), [""; 0], "{done}");
    }
}

#[test]
fn two_images_of_one_name() {
    let range = Range::new();
    let twice = plain().index(|it| {
        let first = it["manifests"][0].clone();
        it["manifests"].as_array_mut().unwrap().push(first);
    });
    let done = range.load(&twice);
    assert!(done.code == 0 && range.images() == ["hostile:latest"], "{done}");
    let deep = plain();
    deep.write();
    // An index in an index in an index …
    for _ in 0..8 {
        let inner = fs::read(deep.join("index.json")).unwrap();
        fs::write(deep.place(&digest(&inner)), &inner).unwrap();
        let entry = json!({
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(&inner), "size": inner.len(),
            "platform": {"os": "linux", "architecture": architecture()},
        });
        fs::write(deep.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    }
    let done = Range::new().load_written(&deep);
    assert!(done.code != 0, "{done}");
}

/// What `docker save` writes: the list, the configuration, and one layer of these parts.
fn docker(layer: Part, list: &dyn Fn(&mut Value)) -> Vec<u8> {
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
fn archives_of_docker() {
    let range = Range::new();
    let place = Layout::of([]);
    let inner = || Part::new(b'0', "layer.tar").data(tar([file("f", "f")]));
    let path = place.join("docker.tar");
    let target = range.target_file();
    let no_list = tar([file("config.json", "{}"), inner()]);
    let tag = |tag: &'static str| docker(inner(), &move |it| it[0]["RepoTags"] = json!([tag]));
    for (what, bytes, words) in [
        ("a layer that is a link out", docker(link("layer.tar", &target), &|_| ()), "layer.tar"),
        ("a layer that is a hard link out", docker(crate::foreign::hard_link("layer.tar", &target), &|_| ()), ""),
        (
            "a layer in a linked directory",
            docker(link("d", range.target()), &|it| it[0]["Layers"] = json!(["d/file"])),
            "d/file",
        ),
        ("a layer that climbs", docker(inner(), &|it| it[0]["Layers"] = json!(["../../../etc/passwd"])), "climbs"),
        ("a layer of the machine", docker(inner(), &|it| it[0]["Layers"] = json!(["/etc/hostname"])), "/etc/hostname"),
        (
            "a configuration of the machine",
            docker(inner(), &|it| it[0]["Config"] = json!("/etc/hostname")),
            "/etc/hostname",
        ),
        ("a layer that is a directory", docker(dir("layer.tar"), &|_| ()), "layer.tar"),
        ("a layer that is a pipe", docker(Part::new(b'6', "layer.tar"), &|_| ()), "layer.tar"),
        ("a layer that is no tar", docker(file("layer.tar", &"x".repeat(2000)), &|_| ()), "not a tar archive"),
        (
            "more layers than diff_ids",
            docker(inner(), &|it| it[0]["Layers"] = json!(["layer.tar", "layer.tar"])),
            "2 layers",
        ),
        ("no list", no_list, "no image archive"),
        ("a list that is none", docker(inner(), &|it| *it = json!({"Config": 1})), "manifest.json"),
        ("an empty list", docker(inner(), &|it| *it = json!([])), ""),
        ("a nested list", tar([file("manifest.json", &"[".repeat(200_000))]), "manifest.json"),
        ("an odd name", tag("\u{1b}[2J"), ""),
        ("a name that climbs", tag("../../canary:x"), ""),
        ("20,000 images", docker(inner(), &|it| *it = vec![it[0].clone(); 20_000].into()), "more than 10000 images"),
        (
            "20,000 names",
            docker(inner(), &|it| it[0]["RepoTags"] = vec!["x:1"; 20_000].into()),
            "more than 10000 images",
        ),
        (
            "one of two without a name",
            docker(inner(), &|it| *it = json!([it[0], {"Config": "config.json", "Layers": ["layer.tar"]}])),
            "has no name",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        let done = range.dram(["load"], &path);
        assert!(done.code != 0 && done.stderr.contains(words), "{what}: expected to read {words:?}\n{done}");
        assert!(!done.stderr.contains('\u{1b}'), "{what}\n{done}");
        assert_eq!(range.images(), [""; 0], "{what}: nothing is left\n{done}");
    }
    // As many as there may be: what they share is packed once, and they are named at once.
    let many = |it: &mut Value| {
        let named = |number: usize| json!({"Config": "config.json", "RepoTags": [format!("many:{number}")], "Layers": ["layer.tar"]});
        *it = (0..5_000).map(named).collect();
    };
    fs::write(&path, docker(inner(), &many)).unwrap();
    let done = range.dram(["load"], &path);
    assert!(done.code == 0 && done.stdout.lines().count() == 5_000, "{done}");
    assert_eq!(range.images().len(), 5_000);
    // A name is the archive's to say, and said aloud; what it named before is told.
    fs::write(&path, docker(inner(), &|_| ())).unwrap();
    let done = range.dram(["load"], &path);
    assert_eq!((done.code, done.stdout.as_str()), (0, "debian:12\n"), "{done}");
    assert!(!done.stderr.contains("was"), "{done}");
    let before = range.store.digest("debian:12");
    let other = tar([file("g", "g")]);
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&other)]},
    });
    let list = json!([{"Config": "c", "RepoTags": ["debian:12"], "Layers": ["l"]}]).to_string();
    let parts = [file("c", &config.to_string()), Part::new(b'0', "l").data(other), file("manifest.json", &list)];
    fs::write(&path, tar(parts)).unwrap();
    let done = range.dram(["load"], &path);
    assert!(done.code == 0 && done.stderr.contains(&format!("`debian:12` was {before}")), "{done}");
}
