//! `dram build --output` and other outputs of a build, read by other tools; and the options of `docker build`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::{CommandOutput, Context, Store, list, names, temp, tool, valid_image};

/// Files of many kinds in an image from scratch.
const FILES: &str = "\
FROM parity-base AS make
RUN mkdir -m 750 /dir && echo one > /dir/file && ln /dir/file /dir/again && chmod 4755 /dir/file \\
 && ln -s /etc/passwd /link && mkfifo /pipe
FROM scratch
COPY --from=make /dir /dir
COPY --from=make /dir/file /link /
";

fn build_ok(store: &Store, context: &Context, words: &[&str]) -> CommandOutput {
    store.dram(["build", "--progress", "plain", "-t", "demo"]).args(words).arg(context.path()).ok()
}

fn build_refused(store: &Store, words: &[&str]) -> CommandOutput {
    let context = Context::new("FROM parity-base\nRUN true\n");
    store.dram(["build"]).args(words).arg(context.path()).fails(2)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn read_json(path: &Path) -> Value {
    json(&fs::read_to_string(path).unwrap())
}

/// Returns the raw manifest that skopeo reads at an address.
fn raw_manifest(place: &str) -> Value {
    json(&tool("skopeo").args(["inspect", "--raw", place]).ok().stdout)
}

fn media_types(manifest: &Value) -> Vec<&str> {
    let layers = list(&manifest["layers"]).iter().map(|layer| layer["mediaType"].as_str().unwrap());
    [manifest["mediaType"].as_str().unwrap(), manifest["config"]["mediaType"].as_str().unwrap()]
        .into_iter()
        .chain(layers)
        .collect()
}

#[test]
fn archive_and_layout_outputs_are_read_by_other_tools() {
    let (store, out) = (Store::with_base(), temp());
    let context = Context::new("FROM parity-base\nRUN echo made > /made\n");
    let place = |name: &str| out.path().join(name).display().to_string();
    let (oci, docker, layout) = (place("oci.tar"), place("docker.tar"), place("layout"));
    let outputs = [
        format!("type=oci,dest={oci},compression=zstd,force-compression=true"),
        format!("type=docker,dest={docker},oci-mediatypes=false,compression=uncompressed"),
        format!("type=oci,tar=false,dest={layout},compression-level=9"),
        "type=image".to_owned(),
    ];
    let words: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output.as_str()]).collect();
    build_ok(&store, &context, &words);
    valid_image(&store, "demo:latest");
    let zstd = raw_manifest(&format!("oci-archive:{oci}"));
    assert!(media_types(&zstd)[2..].iter().all(|kind| kind.ends_with("v1.tar+zstd")), "{zstd}");
    assert_eq!(list(&zstd["layers"]).len(), 2);
    let old = out.path().join("old");
    tool("tar")
        .args(["-xf", &docker, "-C"])
        .arg({
            fs::create_dir(&old).unwrap();
            &old
        })
        .ok();
    let named = read_json(&old.join("manifest.json"));
    assert_eq!(named[0]["RepoTags"][0], "demo:latest");
    let digest = read_json(&old.join("index.json"))["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let old_manifest = read_json(&old.join("blobs").join(digest));
    let kinds = media_types(&old_manifest);
    assert!(kinds.iter().all(|kind| kind.starts_with("application/vnd.docker.")), "{kinds:?}");
    assert!(kinds[3].ends_with("rootfs.diff.tar"), "{kinds:?}");
    // skopeo verifies every digest on the way, and decompresses zstd.
    for (from, to) in [
        (format!("oci-archive:{oci}"), "a"),
        (format!("docker-archive:{docker}"), "b"),
        (format!("oci:{layout}:latest"), "c"),
    ] {
        let copy = out.path().join(to);
        tool("skopeo")
            .args(["copy", "--insecure-policy", "--quiet", "--dest-decompress", &from])
            .arg(format!("dir:{}", copy.display()))
            .ok();
        let top = read_json(&copy.join("manifest.json"))["layers"][1]["digest"].as_str().unwrap()[7..].to_owned();
        let listed = tool("tar").arg("-tf").arg(copy.join(top)).ok().stdout;
        assert_eq!(listed, "made\n", "{from}");
    }
    // An image with zstd layers can be loaded and run.
    store.dram(["load", "-t", "again", &oci]).ok();
    assert_eq!(store.dram(["run", "again", "cat", "/made"]).ok().stdout, "made\n");
}

#[test]
fn local_output_writes_files_into_a_directory() {
    let (store, out, context) = (Store::with_base(), temp(), Context::new(FILES));
    let dest = out.path().join("new/out");
    let done = build_ok(&store, &context, &["-o", dest.to_str().unwrap()]).says("written to");
    assert!(!done.stderr.contains("packing layer"), "{done}");
    store.dram(["inspect", "demo"]).fails(1);
    let meta = |name: &str| fs::symlink_metadata(dest.join(name)).unwrap();
    assert_eq!(fs::read(dest.join("dir/again")).unwrap(), b"one\n");
    assert_eq!(meta("dir/file").ino(), meta("dir/again").ino());
    assert_eq!(meta("dir/file").permissions().mode() & 0o7777, 0o4755);
    assert_eq!((meta("file").uid(), meta("file").permissions().mode() & 0o7777), (0, 0o4755));
    // Other files in the directory are kept, links are replaced, and nothing is written through them.
    let outside = out.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(dest.join("dir")).unwrap();
    symlink(&outside, dest.join("dir")).unwrap();
    fs::remove_file(dest.join("file")).unwrap();
    symlink(outside.join("victim"), dest.join("file")).unwrap();
    fs::write(dest.join("own"), "own").unwrap();
    let time = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o", dest.to_str().unwrap()];
    build_ok(&store, &context, &time);
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "something was written outside");
    assert!(meta("dir").is_dir() && meta("file").is_file());
    assert_eq!(
        (meta("file").mtime(), meta("dir").mtime(), meta("dir/file").mtime()),
        (1_700_000_000, 1_700_000_000, 1_700_000_000)
    );
    assert_eq!(fs::read(dest.join("own")).unwrap(), b"own");
    // A non-empty directory is not replaced by a file.
    fs::remove_file(dest.join("file")).unwrap();
    fs::create_dir(dest.join("file")).unwrap();
    fs::write(dest.join("file/precious"), "").unwrap();
    let way = ["build", "-o", dest.to_str().unwrap()];
    store.dram(way).arg(context.path()).fails(1).says("is a directory with files in it");
    assert!(dest.join("file/precious").is_file());
}

#[test]
fn an_exported_layout_has_the_tag_and_the_full_name_of_each_image() {
    let (store, out) = (Store::with_base(), temp());
    let context = Context::new("FROM parity-base\nRUN echo made > /made\n");
    let place = |name: &str| out.path().join(name).display().to_string();
    let (tar, docker, lay, saved) = (place("a.tar"), place("d.tar"), place("lay"), place("saved/"));
    let outputs = [
        format!("type=oci,dest={tar}"),
        format!("type=docker,dest={docker}"),
        format!("type=oci,tar=false,dest={lay}"),
    ];
    let outputs = outputs.iter().flat_map(|output| ["-o", output.as_str()]);
    let tags = ["-t", "localhost/org/r:tag1", "-t", "reg.example:5000/r:tag2", "-t", "plain"];
    store.dram(["build"]).args(tags).args(outputs).args(["-o", "type=image"]).arg(context.path()).ok();
    store.dram(["save", "-o", &saved, "localhost/org/r:tag1", "reg.example:5000/r:tag2", "plain"]).ok();
    let unpacked = place("unpacked");
    fs::create_dir(&unpacked).unwrap();
    tool("tar").args(["-xf", &tar, "-C", &unpacked]).ok();
    let expected = [
        ("tag1", "localhost/org/r:tag1"),
        ("tag2", "reg.example:5000/r:tag2"),
        ("latest", "docker.io/library/plain:latest"),
    ];
    for dir in [&lay, &saved, &unpacked] {
        let index = read_json(&Path::new(dir).join("index.json"));
        let names: std::collections::BTreeSet<(&str, &str)> = list(&index["manifests"])
            .iter()
            .map(|entry| {
                let named = |key: &str| entry["annotations"][key].as_str().unwrap();
                (named("org.opencontainers.image.ref.name"), named("io.containerd.image.name"))
            })
            .collect();
        assert_eq!(names, expected.into(), "{dir}");
    }
    for address in [
        format!("oci-archive:{tar}:tag1"),
        format!("oci:{lay}:tag2"),
        format!("docker-archive:{docker}:localhost/org/r:tag1"),
    ] {
        tool("skopeo").args(["inspect", &address]).ok();
        store.dram(["copy", &address, "store:again"]).ok();
        assert_eq!(store.digest("again"), store.digest("plain"));
    }
    for name in ["localhost/org/r:tag1", "tag1", "reg.example:5000/r:tag2", "plain", "latest"] {
        store.dram(["copy", &format!("oci:{lay}:{name}"), "store:by-name"]).ok();
    }
    let other = Store::empty();
    let loaded = other.dram(["load", &tar]).ok().stdout;
    assert_eq!(loaded.lines().count(), 3, "{loaded}");
    assert_eq!(other.digest("localhost/org/r:tag1"), store.digest("plain"));
    // A second image of the same tag and another name stays beside the first; one of the same name replaces it.
    let next = Context::new("FROM parity-base\nRUN echo next > /made\n");
    let output = format!("type=oci,tar=false,dest={lay}");
    store.dram(["build", "-t", "localhost/other:tag1", "-o", &output]).arg(next.path()).ok();
    store.dram(["build", "-t", "localhost/org/r:tag1", "-o", &output]).arg(next.path()).ok();
    let index = read_json(&Path::new(&lay).join("index.json"));
    assert_eq!(list(&index["manifests"]).len(), 4, "{index}");
    valid_image(&store, "plain:latest");
}

#[test]
fn no_output_follows_a_link_out_of_its_directory() {
    let (store, context) = (Store::with_base(), Context::new("FROM parity-base\nRUN echo made > /made\n"));
    store.build(&context).ok();
    let manifest = store.digest("demo").replace("sha256:", "");
    // A link in the place of each directory and file of a layout, to a directory or file elsewhere.
    let links = ["blobs", "blobs/sha256", "index.json", "oci-layout", "index.new", "oci-layout.new"];
    let links = links.into_iter().map(str::to_owned).chain([format!("blobs/sha256/{manifest}")]);
    for link in links {
        let (out, elsewhere) = (temp(), temp());
        let (lay, target) = (out.path().join("lay"), elsewhere.path().join("target"));
        fs::create_dir_all(lay.join(&link).parent().unwrap()).unwrap();
        match link.starts_with("blobs") && link.len() < 20 {
            true => fs::create_dir(&target).unwrap(),
            false => fs::write(&target, "theirs").unwrap(),
        }
        symlink(&target, lay.join(&link)).unwrap();
        let path = lay.display();
        let (oci, output) = (format!("oci:{path}:x"), format!("type=oci,tar=false,dest={path}"));
        let cache = format!("type=local,dest={path}");
        let save = format!("{path}/");
        let place = context.path().to_str().unwrap();
        for command in [
            store.dram(["copy", "store:demo", &oci]),
            store.dram(["push", "demo", &oci]),
            store.dram(["save", "-o", &save, "demo"]),
            store.dram(["build", "-t", "demo", "-o", &output, place]),
            store.dram(["build", "-t", "demo", "--cache-to", &cache, place]),
        ] {
            let done = command.end();
            let is_refused = done.code == 1 && done.stderr.contains("symbolic link");
            assert!(is_refused || done.code == 0 && !lay.join(&link).is_symlink(), "{link}\n{done}");
            let files = names(elsewhere.path());
            let inside = if target.is_dir() { names(&target) } else { vec![fs::read_to_string(&target).unwrap()] };
            let expected: &[&str] = if target.is_dir() { &[] } else { &["theirs"] };
            assert_eq!(
                (files, inside),
                (vec!["target".to_owned()], expected.iter().map(|one| (*one).to_owned()).collect()),
                "{link}\n{done}"
            );
        }
    }
    // A destination that is itself a link is the user's choice.
    let out = temp();
    fs::create_dir(out.path().join("real")).unwrap();
    symlink("real", out.path().join("way")).unwrap();
    store.dram(["copy", "store:demo"]).arg(format!("oci:{}:x", out.path().join("way").display())).ok();
    tool("skopeo").args(["inspect", &format!("oci:{}:x", out.path().join("real").display())]).ok();
}

#[test]
fn local_output_keeps_files_that_are_called_as_temporary_ones() {
    let (store, out) = (Store::with_base(), temp());
    let text = "FROM scratch\nCOPY . /\n";
    let context = Context::new(text).file(".dram-export.new", "image").file("zz", "z");
    let dest = out.path().join("out");
    build_ok(&store, &context, &["-o", dest.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(dest.join(".dram-export.new")).unwrap(), "image");
    fs::remove_file(context.path().join(".dram-export.new")).unwrap();
    fs::write(dest.join(".dram-export.new"), "own").unwrap();
    build_ok(&store, &context, &["-o", dest.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(dest.join(".dram-export.new")).unwrap(), "own");
    assert_eq!(names(&dest), [".dram-export.new", "Dockerfile", "zz"]);
}

#[test]
fn tar_output_goes_to_standard_output() {
    let (store, context) = (Store::with_base(), Context::new(FILES));
    let list = |words: [&str; 4]| {
        let tar = store.dram(words).arg(context.path());
        tar.run_under("sh", &["-c", r#""$0" "$@" | tar --full-time --utc -tvf -"#]).ok()
    };
    let listed = list(["build", "--quiet", "-o", "-"]).stdout;
    assert_eq!(listed.lines().count(), 5, "{listed}");
    for line in ["drwxr-x", "-rwsr-xr-x 0/0", " link to dir/again"] {
        assert!(listed.contains(line), "{line}\n{listed}");
    }
    assert!(!listed.contains("1970-"), "{listed}");
    // The tar is reproducible byte for byte.
    let sum = || {
        let tar = store.dram(["build", "-o", "type=tar"]).arg(context.path());
        tar.run_under("sh", &["-c", r#""$0" "$@" | sha256sum"#]).ok().stdout
    };
    assert_eq!(sum(), sum());
    let dated = list(["build", "-q", "-o", "type=tar,source-date-epoch=1700000000"]).stdout;
    assert_eq!(dated.matches("2023-11-14 22:13:20").count(), 5, "{dated}");
}

#[test]
fn output_keeps_an_existing_pipe_or_link() {
    let (store, out) = (Store::with_base(), temp());
    let context = Context::new("FROM scratch\nCOPY Dockerfile /\n");
    let (pipe, link) = (out.path().join("pipe"), out.path().join("link"));
    tool("mkfifo").arg(&pipe).ok();
    let to = format!("type=tar,dest={}", pipe.display());
    let both = store.dram(["build", "-o", &to]).arg(context.path());
    let read = both.run_under("sh", &["-c", r#"cat "$PIPE" | tar -tf - & "$0" "$@" && wait"#]).env("PIPE", &pipe).ok();
    assert_eq!(read.stdout, "Dockerfile\n");
    symlink("real", &link).unwrap();
    fs::write(out.path().join("real"), "").unwrap();
    build_ok(&store, &context, &["-o", &format!("type=tar,dest={}", link.display())]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(tool("tar").arg("-tf").arg(out.path().join("real")).ok().stdout, "Dockerfile\n");
}

#[test]
fn metadata_and_iid_files_describe_the_image() {
    let (store, out) = (Store::with_base(), temp());
    let context = Context::new("FROM parity-base\nLABEL a=file b=file\nCMD [\"echo\", \"it runs\"]\n");
    let (id, about) = (out.path().join("id"), out.path().join("about"));
    let files = ["--iidfile", id.to_str().unwrap(), "--metadata-file", about.to_str().unwrap()];
    let more =
        ["--label", "b=line", "--label", "c", "--annotation", "org.x=1", "--annotation", "manifest-descriptor:org.y=2"];
    build_ok(&store, &context, &[&files[..], &more].concat());
    valid_image(&store, "demo:latest");
    let image = store.inspect("demo");
    let (id, about) = (fs::read_to_string(&id).unwrap(), read_json(&about));
    assert_eq!(id, image["manifest"]["config"]["digest"].as_str().unwrap());
    assert_eq!(about["containerimage.config.digest"], image["manifest"]["config"]["digest"]);
    assert_eq!(about["containerimage.digest"], image["digest"]);
    assert_eq!(about["containerimage.descriptor"]["digest"], image["digest"]);
    assert_eq!(about["containerimage.descriptor"]["annotations"]["org.y"], "2");
    assert_eq!(about["containerimage.descriptor"]["platform"]["os"], "linux");
    assert_eq!(about["image.name"], "docker.io/library/demo:latest");
    let raw = raw_manifest(&format!("oci:{}:demo:latest", store.join("oci").display()));
    assert_eq!(raw["annotations"], serde_json::json!({ "org.x": "1" }));
    let labels = serde_json::json!({ "a": "file", "b": "line", "c": "" });
    assert_eq!(image["config"]["config"]["Labels"], labels);
    assert_eq!(store.dram(["run", &id]).ok().stdout, "it runs\n");
    // Files of an earlier build are removed when the build fails.
    context.write("Dockerfile", "FROM parity-base\nRUN false\n");
    store.dram(["build"]).args(files).arg(context.path()).fails(1);
    assert!(!out.path().join("id").exists());
}

#[test]
fn rawjson_progress_has_buildkits_format() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base AS Base\nRUN echo to-be-seen\nMAINTAINER me\n");
    let lines = || {
        let done = store.dram(["build", "--progress=rawjson", "-t", "demo"]).arg(context.path()).ok();
        done.stderr.lines().map(json).collect::<Vec<Value>>()
    };
    let all = lines();
    valid_image(&store, "demo:latest");
    let of = |all: &[Value], key: &str| all.iter().flat_map(|line| list(&line[key]).to_vec()).collect::<Vec<Value>>();
    let vertexes = of(&all, "vertexes");
    let run = vertexes.iter().rfind(|vertex| vertex["name"].as_str().unwrap().contains("RUN echo")).unwrap();
    assert!(run["completed"].is_string() && run["started"].is_string(), "{run}");
    let log = &of(&all, "logs")[0];
    assert_eq!(
        (&log["vertex"], &log["data"], &log["stream"]),
        (&run["digest"], &Value::from("dG8tYmUtc2Vlbgo="), &Value::from(1))
    );
    let warnings = of(&all, "warnings");
    assert!(
        !warnings.is_empty() && warnings.iter().all(|warning| warning["range"][0]["start"]["line"].is_u64()),
        "{warnings:?}"
    );
    let again = of(&lines(), "vertexes");
    assert!(again.iter().any(|vertex| vertex["cached"] == true && vertex["digest"] == run["digest"]), "{again:?}");
}

#[test]
fn add_host_ulimit_and_shm_size_apply_to_commands() {
    let store = Store::with_base();
    let script =
        "FROM parity-base\nRUN grep db /etc/hosts; grep me /etc/hosts; ulimit -Sn; ulimit -Hn; df -k /dev/shm\n";
    let context = Context::new(script);
    let words =
        ["--add-host", "db:192.0.2.1", "--add-host=me=host-gateway", "--ulimit", "nofile=100:200", "--shm-size=32m"];
    let done = build_ok(&store, &context, &words);
    for line in ["192.0.2.1    db", "127.0.0.1    me", "| 100", "| 200", " 32768 "] {
        assert!(done.stderr.contains(line), "{line}\n{done}");
    }
    valid_image(&store, "demo:latest");
    // The name of an added host is part of the cache key, its address is not.
    let moved =
        ["--add-host", "db:192.0.2.9", "--add-host=me=host-gateway", "--ulimit", "nofile=100:200", "--shm-size=32m"];
    assert_eq!(build_ok(&store, &context, &moved).steps(), (0, 1));
    assert_eq!(build_ok(&store, &context, &moved[2..]).steps(), (1, 0));
}

#[test]
fn no_cache_filter_executes_only_the_named_stages() {
    let store = Store::with_base();
    let context = Context::new(
        "FROM parity-base AS one\nRUN echo 1 > /1\nFROM parity-base AS two\nCOPY --from=one /1 /\nRUN true\n",
    );
    assert_eq!(build_ok(&store, &context, &[]).steps(), (3, 0));
    assert_eq!(build_ok(&store, &context, &["--no-cache-filter", "ONE"]).steps(), (1, 2));
    assert_eq!(build_ok(&store, &context, &["--no-cache-filter=one,two"]).steps(), (3, 0));
    store.dram(["build", "--no-cache-filter", "tow"]).arg(context.path()).fails(2).says("did you mean `two`?");
    valid_image(&store, "demo:latest");
}

#[test]
fn source_date_epoch_is_read_from_dockerfile_environment_or_argument() {
    let store = Store::with_base();
    let created = || store.inspect("demo")["config"]["created"].as_str().unwrap().to_owned();
    let context = Context::new(
        "ARG SOURCE_DATE_EPOCH=1600000000\nFROM parity-base\nARG SOURCE_DATE_EPOCH\nRUN echo got=$SOURCE_DATE_EPOCH\n",
    );
    build_ok(&store, &context, &[]).says("got=1600000000");
    assert_eq!(created(), "2020-09-13T12:26:40Z");
    store.build(&context).env("SOURCE_DATE_EPOCH", "1700000000").ok().says("got=1700000000");
    assert_eq!(created(), "2023-11-14T22:13:20Z");
    build_ok(&store, &context, &["--build-arg", "SOURCE_DATE_EPOCH=1"]).says("got=1");
    assert_eq!(created(), "1970-01-01T00:00:01Z");
    valid_image(&store, "demo:latest");
    build_refused(&store, &["--build-arg", "SOURCE_DATE_EPOCH=context"]).says("--source-date-epoch git");
    build_refused(&store, &["--build-arg", "SOURCE_DATE_EPOCH=noon"]).says("no number of seconds");
}

#[test]
fn source_date_epoch_of_a_dockerfile_is_used_refused_or_noted_with_its_line() {
    let (store, context) = (Store::with_base(), Context::new("FROM scratch"));
    let build = |first: &str| {
        context.write("Dockerfile", &format!("# one\n{first}\nFROM scratch AS Other\nFROM parity-base\nRUN true\n"));
        store.build(&context)
    };
    let created = || store.inspect("demo")["config"]["created"].as_str().unwrap().to_owned();
    build("ARG T=1600000000 SOURCE_DATE_EPOCH=${T}").ok();
    assert_eq!(created(), "2020-09-13T12:26:40Z");
    build("ARG SOURCE_DATE_EPOCH=noon SOURCE_DATE_EPOCH=1700000000").ok();
    assert_eq!(created(), "2023-11-14T22:13:20Z");
    build("ARG SOURCE_DATE_EPOCH=").ok().does_not_say("SOURCE_DATE_EPOCH");
    let text = build("ARG SOURCE_DATE_EPOCH=noon").fails(2);
    text.says("Dockerfile:2: `ARG SOURCE_DATE_EPOCH` is `noon`, which is no number of seconds");
    build("ARG SOURCE_DATE_EPOCH=999999999999").fails(2).says("Dockerfile:2: ").says("not in the years");
    build("ARG SOURCE_DATE_EPOCH=other").fails(2).says("Dockerfile:2: ").says("is the stage `other`");
    let noted = build("ARG SOURCE_DATE_EPOCH=context").ok();
    noted.says("Dockerfile:2: `ARG SOURCE_DATE_EPOCH` is `context`: a directory has no time of its own");
    // A time of the command line is stronger, whatever the Dockerfile says.
    build("ARG SOURCE_DATE_EPOCH=noon").arg("--source-date-epoch=1").ok();
    assert_eq!(created(), "1970-01-01T00:00:01Z");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_cross_platform_build_without_run_needs_no_emulator() {
    let store = Store::with_base();
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    let platform = format!("linux/{other}");
    let context = Context::new("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n");
    build_ok(&store, &context, &["--platform", &platform]);
    let image = store.inspect("demo");
    assert_eq!(image["config"]["architecture"], other);
    let layer = image["manifest"]["layers"][0]["digest"].as_str().unwrap().replace(':', "/");
    let listed = tool("tar").arg("-tzf").arg(store.join("oci/blobs").join(layer)).ok().stdout;
    assert_eq!(listed, format!("{other}\n"));
    build_refused(&store, &["--platform", "linux/amd64,linux/arm64"]).says("build once for each");
    build_refused(&store, &["--platform", "windows/amd64"]).says("images are for Linux");
}

#[test]
fn a_layer_records_every_kind_of_change() {
    let (store, out) = (Store::with_base(), temp());
    let context = Context::new(
        "FROM parity-base\n\
         RUN rm /usr/share/base/one && rm -r /usr/share/base/deep && mkdir /usr/share/base/deep && echo > /usr/share/base/deep/new \\\n\
          && mkdir /k && cd /k && echo x > a && ln a b && ln -s a c && chmod 6711 a && mkfifo p && mknod dev c 1 3 \\\n\
          && chown 1234:5678 c -h && truncate -s 1M hole && touch -d '2001-02-03 04:05:06' late \\\n\
          && touch \"$(printf 'caf\\351')\" && touch $(seq -s n 1 60) && chmod 1777 /k\n",
    );
    build_ok(&store, &context, &["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]);
    valid_image(&store, "demo:latest");
    let layer = store.inspect("demo")["manifest"]["layers"][1]["digest"].as_str().unwrap().replace(':', "/");
    let layer = store.join("oci/blobs").join(layer);
    let listed = tool("tar")
        .args(["--full-time", "--utc", "--numeric-owner", "--quoting-style=escape", "-tvzf"])
        .arg(&layer)
        .ok()
        .stdout;
    let has = |start: &str, end: &str| {
        let found = listed.lines().any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(found, "{start} … {end}\n{listed}");
    };
    has("-rw-r--r-- 0/0", " usr/share/base/.wh.one");
    has("-rw-r--r-- 0/0", " usr/share/base/deep/.wh..wh..opq");
    has("drwxrwxrwt 0/0", " k/");
    has("-rws--s--x 0/0", " k/a");
    has("h", " k/b link to k/a");
    has("lrwxrwxrwx 1234/5678", " k/c -> a");
    has("prw-r--r-- 0/0", " k/p");
    has("crw-r--r-- 0/0", " k/dev");
    has("-rw-r--r-- 0/0         1048576", " k/hole");
    has("-", r" k/caf\351");
    assert!(listed.lines().all(|line| line.contains(" 2023-11-14 22:13:20 ")), "{listed}");
    // pax headers are used only where ustar headers do not suffice: here only for the name that is not ASCII.
    let plain = out.path().join("plain.tar");
    fs::write(&plain, tool("sh").args(["-c", r#"gzip -dc "$0" | base64"#]).arg(&layer).ok().stdout).unwrap();
    let count = tool("sh").args(["-c", r#"base64 -d "$0" | grep -c -a PaxHeaders"#]).arg(&plain).ok().stdout;
    assert_eq!(count, "1\n");
}

#[test]
fn unsupported_options_are_refused_with_an_alternative() {
    let store = Store::with_base();
    for (words, says) in [
        (&["--push"][..], "--tag HOST/NAME:TAG"),
        (&["--squash"], "COPY --from=STAGE / /"),
        (&["--memory", "1g"], "systemd-run --scope -p MemoryMax"),
        (&["--builder", "cloud"], "there are no builders"),
        (&["--sbom=true"], "without attestations"),
        (&["-o", "type=registry"], "no name to be pushed to"),
        (&["-o", "type=oci,dest=a,push=true"], "`push` has no meaning"),
        (&["-o", "type=ocy,dest=a"], "did you mean `type=oci`?"),
        (&["-o", "type=oci,dets=a"], "did you mean `dest`?"),
        (&["-o", "type=local"], "it has no `dest=DIR`"),
        (&["-o", "type=local,dest=a,compression=gzip"], "has no meaning for `type=local`"),
        (&["-o", "type=oci,dest=a,compression=estargz"], "compression=zstd"),
        (&["-o", "type=oci,dest=a,compression=lz4"], "one of gzip, zstd, uncompressed"),
        (&["-o", "type=oci,dest=a,compression-level=10"], "not between 0 and 9"),
        (&["-o", "type=oci,dest=/tmp"], "is a directory"),
        (&["--source-date-epoch=0", "-o", "type=image,rewrite-timestamp=false"], "the time of all files"),
        (&["-o", "type=image,rewrite-timestamp=true"], "needs a time"),
        (&["-o", "type=image,source-date-epoch=253402300800"], "not in the years 0 to 9999"),
        (&["--source-date-epoch=noon"], "no number of seconds"),
        (&["-o", "-", "-o", "type=oci"], "two outputs go to standard output"),
        (&["-o", "out", "--iidfile", "id"], "no output is an image"),
        (&["--annotation", "index:a=b"], "several platforms"),
        (&["--add-host", "db:nowhere"], "is no address"),
        (&["--ulimit", "nofiles=1"], "did you mean `nofile`?"),
        (&["--shm-size", "big"], "is no size"),
        (&["--label", "=x"], "has no name"),
        (&["-q", "--progress", "plain"], "say different things"),
    ] {
        build_refused(&store, words).says(says);
    }
    let context = Context::new("FROM parity-base\nRUN true\n");
    let harmless =
        ["--load", "--rm", "--force-rm", "--cache-from", "type=gha", "--provenance=false", "--network=default"];
    build_ok(&store, &context, &harmless).says("has no effect");
    valid_image(&store, "demo:latest");
}
