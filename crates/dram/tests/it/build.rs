//! `dram build`: cache hits and misses, stages, build contexts, reproducibility and the resulting images.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::support::{BASE, Context, Store, base_tar, list, temp, tool, valid_image};

const THREE_STAGES: &str = "\
FROM parity-base AS a
COPY one /one
RUN cat /one > /from-one
FROM parity-base AS b
COPY two /two
RUN cat /two > /from-two
FROM parity-base
COPY --from=a /from-one /
COPY --from=b /from-two /
RUN cat /from-one /from-two > /both
";

fn three_stages() -> Context {
    Context::new(THREE_STAGES).file("one", "1\n").file("two", "2\n")
}

fn set_modified_times(context: &Context, seconds: u64) {
    for name in ["Dockerfile", "one", "two"] {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(context.join(name)).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn unchanged_inputs_are_cache_hits() {
    let (store, context) = (Store::with_base(), three_stages());
    let first = store.build(&context).ok();
    assert_eq!(first.steps(), (7, 0), "{first}");
    assert_eq!(store.sh("cat /both").stdout, "1\n2\n");
    let second = store.build(&context).ok();
    assert_eq!((second.steps(), second.digest()), ((0, 7), first.digest()), "{second}");
    set_modified_times(&context, 1_234_567_890);
    let touched = store.build(&context).ok();
    assert_eq!((touched.steps(), touched.digest()), ((0, 7), first.digest()), "{touched}");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_changed_file_executes_only_dependent_steps() {
    let (store, context) = (Store::with_base(), three_stages());
    let first = store.build(&context).ok();
    context.write("one", "one\n");
    let changed = store.build(&context).ok();
    assert_eq!(changed.steps(), (5, 2), "{changed}");
    assert_eq!(changed.lines("[b ").len(), 2, "{changed}");
    assert!(changed.lines("[b ").iter().all(|line| line.ends_with(": CACHED")), "{changed}");
    assert_eq!(store.sh("cat /both").stdout, "one\n2\n");
    context.write("one", "1\n");
    let back = store.build(&context).ok();
    assert_eq!((back.steps(), back.digest()), ((0, 7), first.digest()), "{back}");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_changed_file_mode_is_a_cache_miss() {
    let (store, context) = (Store::with_base(), three_stages());
    store.build(&context).ok();
    tool("chmod").arg("755").arg(context.join("two")).ok();
    let changed = store.build(&context).ok();
    // The RUN of stage b is a cache miss, but writes the same bytes: the steps that copy its result stay cache hits.
    assert_eq!(changed.steps(), (2, 5), "{changed}");
    valid_image(&store, "demo:latest");
}

#[test]
fn stages_are_cached_across_targets() {
    let (store, context) = (Store::with_base(), three_stages());
    let a = store.build(&context).args(["--target", "a"]).ok();
    assert_eq!(a.steps(), (2, 0), "{a}");
    let all = store.build(&context).ok();
    assert_eq!(all.steps(), (5, 2), "{all}");
    let again = store.build(&context).args(["--target", "A"]).ok();
    assert_eq!((again.steps(), again.digest()), ((0, 2), a.digest()), "{again}");
    valid_image(&store, "demo:latest");
}

#[test]
fn an_identical_rebuild_of_a_copied_stage_keeps_cache_hits() {
    let dockerfile = "\
FROM parity-base AS builder
COPY src /src
RUN mkdir /out && grep -v '^#' /src > /out/app
FROM parity-base
COPY --from=builder /out /app
RUN wc -c < /app/app > /size
WORKDIR /app
COPY --from=builder /out/app second
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile).file("src", "# one\ncode\n"));
    let first = store.build(&context).ok();
    context.write("src", "# another remark\ncode\n");
    let second = store.build(&context).ok();
    assert_eq!((second.steps(), second.digest()), ((2, 4), first.digest()), "{second}");
    context.write("src", "# another remark\nother code\n");
    let third = store.build(&context).ok();
    // The directory of WORKDIR already exists because of the COPY, but the layers below it are new.
    assert_eq!(third.steps(), (6, 0), "{third}");
    assert_ne!(third.digest(), first.digest());
    valid_image(&store, "demo:latest");
}

/// The same for stages that are based on the rebuilt stage with `FROM`, directly and indirectly.
#[test]
fn an_identical_rebuild_of_a_base_stage_keeps_cache_hits() {
    let dockerfile = "\
FROM parity-base AS generator
ARG NOTE
RUN date > /dev/null; echo tools > /tools
FROM parity-base AS tools
COPY --from=generator /tools /
FROM tools AS builder
RUN cat /tools > /made
WORKDIR /work
COPY --from=tools /tools copied
FROM parity-base
COPY --from=builder /made /work/copied /
RUN cat /made /copied > /both
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile));
    let first = store.build(&context).args(["--build-arg", "NOTE=one"]).ok();
    assert_eq!(first.steps(), (7, 0), "{first}");
    let second = store.build(&context).args(["--build-arg", "NOTE=two"]).ok();
    assert_eq!((second.steps(), second.digest()), ((1, 6), first.digest()), "{second}");
    valid_image(&store, "demo:latest");
}

#[test]
fn unneeded_stages_are_not_built() {
    let dockerfile = "\
FROM parity-base AS broken
RUN exit 1
FROM image-that-is-nowhere AS foreign
RUN true
FROM parity-base AS good
RUN echo good > /good
FROM broken AS last
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile));
    let done = store.build(&context).args(["--target", "good"]).ok();
    assert_eq!(done.steps(), (1, 0), "{done}");
    store.build(&context).fails(1);
    valid_image(&store, "demo:latest");
}

#[test]
fn independent_stages_are_built_in_parallel() {
    let stages: String = ["a", "b", "c"]
        .map(|name| format!("FROM parity-base AS {name}\nRUN sleep 2; echo {name} > /{name}\n"))
        .concat();
    let copies = ["a", "b", "c"].map(|name| format!("COPY --from={name} /{name} /{name}\n")).concat();
    let (store, context) = (Store::with_base(), Context::new(&format!("{stages}FROM parity-base\n{copies}")));
    let done = store.build(&context).ok();
    let at = |what: &str| done.stderr.find(what).unwrap_or_else(|| panic!("no {what:?}\n{done}"));
    let first_end = ["a", "b", "c"].map(|name| at(&format!("[{name} 1/1] done"))).into_iter().min().unwrap();
    for name in ["a", "b", "c"] {
        assert!(at(&format!("[{name} 1/1] RUN")) < first_end, "stage {name} waited for another\n{done}");
    }
    valid_image(&store, "demo:latest");
}

#[test]
fn only_layers_of_the_final_image_are_compressed() {
    let dockerfile = "\
FROM parity-base AS builder
RUN head -c 3000000 /dev/urandom > /large
RUN head -c 100 /large > /small
FROM scratch
COPY --from=builder /small /small
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile));
    let before = store.blobs();
    store.build(&context).ok();
    let new: Vec<_> = store.blobs().into_iter().filter(|blob| !before.contains(blob)).collect();
    assert_eq!(new.len(), 3, "a layer, a configuration and a manifest, no more: {new:?}");
    let size = |name: &String| fs::metadata(store.join("oci/blobs/sha256").join(name)).unwrap().len();
    assert!(new.iter().map(size).sum::<u64>() < 10_000);
    valid_image(&store, "demo:latest");
}

#[test]
fn the_same_input_and_time_give_the_same_digest() {
    let dockerfile = "\
FROM parity-base AS builder
COPY . /src
RUN mkdir /out && cat /src/one /src/two > /out/both && date > /tmp/date && ln /out/both /out/again
FROM parity-base
RUN mkdir -p /a/b && echo x > /a/b/x && rm /etc/base.conf && chown -R app /a
COPY --from=builder /out /app
WORKDIR /made/here
";
    let context = Context::new(dockerfile).file("one", "1\n").file("two", "2\n");
    let (store, other) = (Store::with_base(), Store::with_base());
    let build = |store: &Store| store.build(&context).args(["--source-date-epoch=0"]);
    let digest = build(&store).ok().digest();
    assert_eq!(build(&store).args(["--no-cache"]).ok().digest(), digest, "without memory");
    assert_eq!(build(&other).umask(0o077).ok().digest(), digest, "another store, another umask");
    set_modified_times(&context, 1_000_000_000);
    assert_eq!(build(&other).args(["--no-cache"]).ok().digest(), digest, "other times of files");
    assert_eq!(store.dram(["prune", "--all"]).ok().code, 0);
    assert_eq!(build(&store).umask(0o002).ok().digest(), digest, "after all was forgotten");
    let dated = |tool: crate::support::TestCommand| tool.env("SOURCE_DATE_EPOCH", "1700000000").ok().digest();
    let one = dated(store.build(&context));
    assert_eq!(dated(other.build(&context).args(["--no-cache"])), one, "with a date");
    assert_ne!(one, digest);
    assert_eq!(store.inspect("demo")["config"]["created"], "2023-11-14T22:13:20Z");
    let arg = store.build(&context).args(["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]).ok();
    assert_eq!(arg.digest(), one, "the date as an argument");
    store.build(&context).env("SOURCE_DATE_EPOCH", "tomorrow").fails(2).says("no number of seconds");
    valid_image(&store, "demo:latest");
    valid_image(&other, "demo:latest");
}

#[test]
fn no_cache_executes_every_step() {
    let (store, context) = (Store::with_base(), three_stages());
    store.build(&context).ok();
    let done = store.build(&context).args(["--no-cache"]).ok();
    assert_eq!(done.steps(), (7, 0), "{done}");
    valid_image(&store, "demo:latest");
}

#[test]
fn ignored_files_are_not_in_the_build_context() {
    let context = Context::new("FROM parity-base\nCOPY . /all/\nRUN ls -a /all > /list\n")
        .file(".dockerignore", "*.log\nsecret\n!keep.log\n")
        .file("a.txt", "a")
        .file("b.log", "b")
        .file("keep.log", "k")
        .file("secret/key", "s");
    let store = Store::with_base();
    store.build(&context).ok();
    assert_eq!(store.sh("cat /list").stdout, ".\n..\n.dockerignore\nDockerfile\na.txt\nkeep.log\n");
    context.write("b.log", "changed");
    context.write("secret/other", "new");
    let again = store.build(&context).ok();
    assert_eq!(again.steps(), (0, 2), "{again}");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_dockerfile_specific_ignore_file_replaces_dockerignore() {
    let context = Context::new("FROM scratch\n")
        .file("other.Dockerfile", "FROM parity-base\nCOPY . /all/\n")
        .file("other.Dockerfile.dockerignore", "b\n*Dockerfile*\n")
        .file(".dockerignore", "a\n")
        .file("a", "a")
        .file("b", "b");
    let store = Store::with_base();
    store.build(&context).arg("-f").arg(context.join("other.Dockerfile")).ok();
    assert_eq!(store.sh("ls -A /all").stdout, ".dockerignore\na\n");
    valid_image(&store, "demo:latest");
}

#[test]
fn build_arguments_are_visible_where_declared() {
    let dockerfile = "\
ARG BASE=nothing
FROM $BASE AS a
RUN echo before > /before
ARG WHO=nobody
RUN echo \"$WHO\" > /who
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile));
    let base = format!("BASE={BASE}");
    store.build(&context).args(["--build-arg", &base]).ok();
    assert_eq!(store.sh("cat /who").stdout, "nobody\n");
    let given = store.build(&context).args(["--build-arg", &base, "--build-arg", "WHO=me"]).ok();
    assert_eq!(given.steps(), (1, 1), "{given}");
    assert_eq!(store.sh("cat /who").stdout, "me\n");
    let from_env = store.build(&context).args(["--build-arg", &base, "--build-arg", "WHO"]).env("WHO", "me").ok();
    assert_eq!(from_env.steps(), (0, 2), "{from_env}");
    store.build(&context).fails(1).says("nothing");
    valid_image(&store, "demo:latest");
}

#[test]
fn named_contexts_can_be_images_layouts_and_directories() {
    let dockerfile = "\
FROM base
COPY --from=files data /data
COPY --from=tools /bin/busybox /tool/
";
    let files = Context::new("").file("data", "from a directory\n");
    let (store, other, context) = (Store::with_base(), Store::with_base(), Context::new(dockerfile));
    let files = format!("files={}", files.path().display());
    for tools in ["docker-image://parity-base".to_owned(), format!("oci-layout://{}", other.join("oci").display())] {
        let tools = format!("tools={tools}");
        let words = ["--build-context", "base=docker-image://parity-base", "--build-context", &files];
        store.build(&context).args(words).args(["--build-context", &tools]).ok();
        assert_eq!(store.sh("cat /data; /tool/busybox true && echo works").stdout, "from a directory\nworks\n");
    }
    store.build(&context).args(["--build-context", "base=ftp://x"]).fails(2).says("of no known kind");
    store.build(&context).args(["--build-context", "base"]).fails(2).says("NAME=VALUE");
    valid_image(&store, "demo:latest");
}

#[test]
fn an_image_in_a_layout_context_is_found_by_tag() {
    let (store, other) = (Store::empty(), Store::with_base());
    other.dram(["tag", BASE, "elsewhere:two"]).ok();
    let layout = format!("base=oci-layout://{}:two", other.join("oci").display());
    let context = Context::new("FROM base\nRUN true\n");
    store.build(&context).args(["--build-context", &layout]).ok();
    valid_image(&store, "demo:latest");
    let missing = format!("base=oci-layout://{}:three", other.join("oci").display());
    store.build(&context).args(["--build-context", &missing]).fails(1).says("has no image `three`");
}

#[test]
fn the_dockerfile_can_be_outside_the_build_context() {
    let (store, context) = (Store::with_base(), Context::new("").file("f", "f\n"));
    let place = temp();
    let dockerfile = place.path().join("Build.me");
    fs::write(&dockerfile, "FROM parity-base\nCOPY f /\n").unwrap();
    let one = store.build(&context).arg("-f").arg(&dockerfile).ok();
    let two = store.build(&context).args(["-f", "-"]).stdin("FROM parity-base\nCOPY f /\n").ok();
    assert_eq!((two.steps(), two.digest()), ((0, 1), one.digest()));
    valid_image(&store, "demo:latest");
}

#[test]
fn quiet_prints_the_digest_and_nothing_else() {
    let (store, context) = (Store::with_base(), three_stages());
    let done = store.dram(["build", "--progress", "quiet", "-t", "demo"]).arg(context.path()).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), (format!("{}\n", store.digest("demo")).as_str(), ""));
}

#[test]
fn an_image_can_have_several_names_or_none() {
    let (store, context) = (Store::with_base(), three_stages());
    let done = store.build(&context).args(["-t", "other:two", "-t", "localhost:5000/a/b"]).ok();
    let names = store.inspect("demo")["names"].clone();
    let names: Vec<_> = list(&names).iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, ["demo:latest", "localhost:5000/a/b:latest", "other:two"]);
    let nameless = store.dram(["build"]).arg(context.path()).ok();
    assert_eq!(nameless.digest(), done.digest());
    for name in ["demo:latest", "other:two", "localhost:5000/a/b:latest"] {
        valid_image(&store, name);
    }
}

#[test]
fn network_none_leaves_only_loopback() {
    let (store, context) = (Store::with_base(), Context::new("FROM parity-base\nRUN ls /sys/class/net > /net\n"));
    store.build(&context).args(["--network", "none"]).ok();
    assert_eq!(store.sh("cat /net").stdout, "lo\n");
    let host = store.build(&context).args(["--network", "host"]).ok();
    assert_eq!(host.steps(), (1, 0), "another network is another step\n{host}");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_run_step_is_isolated_from_the_host() {
    let dockerfile = "\
FROM parity-base
RUN hostname > /seen && ls /proc | grep -c '^[0-9]' >> /seen && (id -u; umask; pwd; tty || true) >> /seen
RUN env | sort > /env
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile));
    store.build(&context).env("SECRET_OF_THE_HOST", "1").ok();
    let seen = store.sh("cat /seen").stdout;
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[0], "dram");
    assert!(lines[1].parse::<u32>().unwrap() < 8, "processes of the host are seen: {seen}");
    assert_eq!(lines[2..], ["0", "0022", "/", "not a tty"]);
    assert!(!store.sh("cat /env").stdout.contains("SECRET"), "the environment of the host is seen");
    valid_image(&store, "demo:latest");
}

#[test]
fn the_same_layer_can_occur_several_times() {
    let store = Store::with_base();
    let same = "RUN touch -d @0 /same && chmod 600 /same\n";
    let context = Context::new(&format!(
        "FROM {BASE}\n{same}RUN rm /same && touch /other\nRUN rm /other\n{same}{same}RUN test -e /same && test ! -e /other\n"
    ));
    store.build(&context).ok();
    assert_eq!(store.sh("ls /same").stdout, "/same\n");
    valid_image(&store, "demo:latest");
}

/// Makes the directory of a store in a place that passes on something to new files.
fn store_in(prepare: &str) -> Store {
    let store = Store::empty();
    let above = store.path().parent().unwrap().to_owned();
    tool("python3").args(["-c", prepare]).arg(above).ok();
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    store
}

#[test]
fn the_directory_around_the_store_and_the_umask_do_not_change_an_image() {
    let dockerfile = "FROM parity-base\nRUN touch /f; mkdir /d; echo x > /d/x; ln -s f /l; mkfifo /p\nCOPY file dir /c/\nWORKDIR /w/x\n\
                      RUN --mount=type=cache,target=/cache touch /cache/f; stat -c '%a %u:%g' /cache /cache/f > /seen\nADD a.tar /a/\n";
    let context = Context::new(dockerfile).file("file", "1\n").file("dir/a", "a\n");
    tool("tar").arg("-C").arg(context.path()).arg("-cf").arg(context.join("a.tar")).arg("dir/a").ok();
    let list = "import os,struct,sys; os.setxattr(sys.argv[1], 'system.posix_acl_default', struct.pack('<I', 2) + \
                b''.join(struct.pack('<HHI', tag, 7, who) for tag, who in [(1, 2**32-1), (2, 7), (4, 2**32-1), (16, 2**32-1), (32, 2**32-1)]))";
    let setgid = "import os,sys; os.chown(sys.argv[1], 0, 7); os.chmod(sys.argv[1], 0o2775)";
    let places = [("", 0o022), (list, 0o022), (setgid, 0o022), ("", 0o077), ("", 0o000), (list, 0o077)];
    let digests = places.map(|(prepare, umask)| {
        let store = store_in(prepare);
        let built = store.build(&context).umask(umask).env("SOURCE_DATE_EPOCH", "1700000000").ok();
        valid_image(&store, "demo:latest");
        built.does_not_say("access control list").digest()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:#?}");
}
