//! Build contexts that are not directories (tar archives, URLs, Git repositories), and named contexts in `FROM` and
//! `--from`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::add_remote::create_repositories;
use crate::http_server::{CannedResponse, TestServer};
use crate::rootless::{user_with_subids, user_without_subids, with_base};
use crate::support::{CommandOutput, Context, Store, TestCommand, names, temp, tool, valid_image, wait_until};

const DOCKERFILE: &str = "FROM parity-base\nCOPY . /ctx/\nRUN --mount=type=bind,target=/m cat /m/sub/file > /seen\n";

/// Returns a context with a file in a subdirectory, an executable, a link that leads outside, and an ignore file.
fn context() -> Context {
    let context = Context::new(DOCKERFILE).file("sub/file", "inside\n").file("run", "#!/bin/sh\n");
    context.write(".dockerignore", "sub\n");
    context.write("other/Build", "FROM parity-base\nCOPY sub /other/\n");
    let script = "chmod 755 run sub other; ln -s /etc/passwd link; chown 1000:50 run";
    tool("sh").dir(context.path()).args(["-c", script]).ok();
    context
}

fn tar_of(context: &Context, options: &str) -> Vec<u8> {
    let out = temp();
    let tar = out.path().join("tar");
    let script = format!("tar {options} -cf {} .", tar.display());
    tool("sh").dir(context.path()).args(["-c", &script]).ok();
    fs::read(tar).unwrap()
}

/// Returns the command `dram build -t demo CONTEXT` for a context that is not a directory.
fn build_from(store: &Store, context: &str) -> TestCommand {
    let build = store.dram(["build", "--progress", "plain", "-t", "demo"]).env("DRAM_NETWORK_TIMEOUT", "5");
    build.arg(context)
}

/// Asserts that the store keeps nothing of a fetched context.
#[track_caller]
fn assert_context_removed(store: &Store) {
    assert_eq!(names(&store.join("work")), ["gate"]);
    let remembered = fs::read_dir(store.join("contexts")).map_or(0, Iterator::count);
    assert_eq!(remembered, 0);
}

#[test]
fn a_tar_on_standard_input_is_the_build_context() {
    let (store, context) = (Store::with_base(), context());
    let done = build_from(&store, "-").stdin(tar_of(&context, "")).ok();
    assert_eq!(done.steps(), (2, 0));
    valid_image(&store, "demo:latest");
    // The ignore file is an ordinary file of an archive, and the owners are those of the archive.
    let seen = store.sh("cat /seen /ctx/sub/file; ls -A /ctx; stat -c '%a %u:%g' /ctx/run; readlink /ctx/link");
    let all = ".dockerignore\nDockerfile\nlink\nother\nrun\nsub\n";
    assert_eq!(seen.stdout, format!("inside\ninside\n{all}755 1000:50\n/etc/passwd\n"));
    assert_context_removed(&store);
    // Timestamps, the order of entries and the compression are not part of the cache key.
    for options in ["--mtime=@1000000000 -z", "--sort=name -J", "-j", "--zstd", "--format=pax"] {
        let done = build_from(&store, "-").stdin(tar_of(&context, options)).ok();
        assert_eq!(done.steps(), (0, 2), "{options}");
    }
    context.write("sub/file", "changed\n");
    let done = build_from(&store, "-").stdin(tar_of(&context, "")).ok();
    done.says("changed sub/file");
    let why = store.dram(["why"]).ok();
    assert!(why.stdout.contains("Dockerfile of -"), "{why}");
    assert_eq!(store.dram(["why", "-f", "-"]).ok().stdout, why.stdout);
}

#[test]
fn file_option_selects_a_dockerfile_inside_a_fetched_context() {
    let (store, context) = (Store::with_base(), context());
    build_from(&store, "-").args(["-f", "other/Build"]).stdin(tar_of(&context, "")).ok();
    assert_eq!(store.sh("cat /other/file").stdout, "inside\n");
    fs::rename(context.join("Dockerfile"), context.join("dockerfile")).unwrap();
    build_from(&store, "-").stdin(tar_of(&context, "")).ok();
    context.write("sub/file", "sub is ignored here\n");
    context.write("dockerfile", "FROM parity-base\nCOPY run /small\n");
    store.build(&context).ok();
    let other = build_from(&store, "-").args(["-f", "other/None"]).stdin(tar_of(&context, "")).fails(2);
    other.says("there is no Dockerfile at `other/None` in the build context");
    build_from(&store, "-").args(["-f", "sub"]).stdin(tar_of(&context, "")).fails(2).says("is not a regular file");
    // A symlink is not followed out of the context.
    build_from(&store, "-").args(["-f", "link"]).stdin(tar_of(&context, "")).fails(2).says("there is no Dockerfile");
    build_from(&store, "-").args(["-f", "../../etc/passwd"]).stdin(tar_of(&context, "")).fails(2);
    assert_context_removed(&store);
}

#[test]
fn standard_input_that_is_no_tar_is_the_dockerfile_of_an_empty_context() {
    let store = Store::with_base();
    build_from(&store, "-").stdin("FROM parity-base\nRUN echo hello > /hello\n").ok();
    assert_eq!(store.sh("cat /hello").stdout, "hello\n");
    valid_image(&store, "demo:latest");
    let done = build_from(&store, "-").stdin("FROM parity-base\nCOPY file /\n").fails(1);
    done.says("standard input:2:6").says("its root is empty");
    build_from(&store, "-").args(["-f", "-"]).stdin("FROM scratch\n").fails(2).says("cannot be both");
    build_from(&store, "-").args(["-f", "x"]).stdin("FROM scratch\n").fails(2).says("and so is `-f x`");
    build_from(&store, "-").fails(2).says("there is nothing on standard input");
    let mut gzip = tar_of(&context(), "-z");
    gzip.truncate(gzip.len() / 2);
    build_from(&store, "-").stdin(gzip).fails(1).says("standard input");
    assert_context_removed(&store);
    // A check does not create a store.
    let none = Store::empty();
    none.dram(["build", "--check", "-"]).stdin("FROM parity-base:1\n").ok();
    assert!(!none.path().exists());
}

#[test]
fn a_fetched_context_gives_the_same_image_without_root() {
    let (of_root, context) = (Store::with_base(), context());
    let expected = build_from(&of_root, "-").stdin(tar_of(&context, "")).at_time_0().ok();
    for user in [user_with_subids(), user_without_subids()] {
        let store = with_base(&user);
        let done = build_from(&store, "-").stdin(tar_of(&context, "-z")).at_time_0().ok();
        assert_eq!((done.steps(), done.digest()), ((2, 0), expected.digest()));
        assert_eq!(build_from(&store, "-").stdin(tar_of(&context, "")).ok().steps(), (0, 2));
        assert_context_removed(&store);
    }
}

#[test]
fn a_failed_build_removes_its_fetched_context() {
    let (store, context) = (Store::with_base(), context());
    context.write("Dockerfile", "FROM parity-base\nCOPY run /tool\nRUN cat /tool && false\n");
    build_from(&store, "-").stdin(tar_of(&context, "")).fails(1);
    assert_context_removed(&store);
    let seen = store.dram(["shell", "--failed", "--", "cat", "/tool"]).end();
    assert_eq!(seen.stdout, "#!/bin/sh\n", "{seen}");
}

#[test]
fn a_hostile_context_archive_writes_nothing_outside() {
    let (store, dir) = (Store::with_base(), temp());
    let canary = dir.path().join("canary");
    let script = "import sys, tarfile, io\n\
        out = tarfile.open(sys.argv[1], 'w')\n\
        def add(name, text=b'evil', **more):\n\
        \x20   entry = tarfile.TarInfo(name)\n\
        \x20   for key, value in more.items(): setattr(entry, key, value)\n\
        \x20   entry.size = len(text) if entry.type == tarfile.REGTYPE else 0\n\
        \x20   out.addfile(entry, io.BytesIO(text))\n\
        add('Dockerfile', b'FROM parity-base\\nCOPY . /c/\\n')\n\
        add('out', type=tarfile.SYMTYPE, linkname=sys.argv[2])\n\
        add('out/through')\n\
        add('../above') if sys.argv[3] == 'up' else add('/absolute')\n\
        out.close()\n";
    fs::create_dir(&canary).unwrap();
    for kind in ["up", "absolute"] {
        let tar = dir.path().join("tar");
        tool("python3").arg("-c").arg(script).arg(&tar).arg(&canary).arg(kind).ok();
        let done: CommandOutput = build_from(&store, "-").stdin(fs::read(&tar).unwrap()).end();
        assert!(matches!(done.code, 0 | 1), "{done}");
        assert_eq!(names(&canary), Vec::<String>::new());
        assert!(!Path::new("/absolute").exists());
        assert!(!store.join("work/above").exists() && !store.join("above").exists());
        assert_context_removed(&store);
    }
}

#[test]
fn an_archive_over_the_limits_is_refused() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY . /c/\n");
    tool("truncate").args(["-s", "64M"]).arg(context.join("zeros")).ok();
    let bomb = tar_of(&context, "-z");
    for (limit, value) in [("size", "1m"), ("entries", "2")] {
        let done = build_from(&store, "-").args(["--limit", &format!("{limit}={value}")]).stdin(bomb.clone()).fails(1);
        done.says("standard input").says(&format!("--limit {limit}="));
        assert_context_removed(&store);
    }
    build_from(&store, "-").stdin(bomb.clone()).ok();
    // The same limits apply to archives in `ADD`.
    let context = Context::new("FROM parity-base\nADD bomb.tar.gz /c/\n");
    fs::write(context.join("bomb.tar.gz"), bomb).unwrap();
    store.build(&context).args(["--limit", "size=1m"]).fails(1).says("bomb.tar.gz").says("--limit size=");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn a_build_that_waits_for_its_context_can_be_interrupted() {
    let store = Store::with_base();
    // Nothing is written to the pipe, so the build waits.
    let dram = build_from(&store, "-").run_under("sh", &["-c", "sleep 60 | exec \"$@\"", "sh"]).start();
    wait_until("the store is in use", Duration::from_secs(10), || names(&store.join("work")).len() > 1);
    std::thread::sleep(Duration::from_millis(300));
    let children = tool("pgrep").args(["-x", "-P", &dram.pid().to_string(), "dram"]).ok().stdout;
    tool("kill").args(["-TERM", children.trim()]).ok();
    wait_until("it ends", Duration::from_secs(5), || names(&store.join("work")) == ["gate"]);
    dram.signal("KILL");
}

#[test]
fn a_url_is_a_build_context() {
    let (store, context) = (Store::with_base(), context());
    let server = TestServer::files([
        ("/c.tar.gz", CannedResponse::File("", tar_of(&context, "-z"))),
        ("/Dockerfile", CannedResponse::File("", b"FROM parity-base\nCOPY context /mine\n".to_vec())),
    ]);
    let url = server.url("/c.tar.gz");
    assert_eq!(build_from(&store, &url).ok().steps(), (2, 0));
    assert_eq!(store.sh("cat /seen; stat -c %u:%g /ctx/run").stdout, "inside\n1000:50\n");
    let same = build_from(&store, "-").stdin(tar_of(&context, "")).ok();
    assert_eq!(same.steps(), (0, 2));
    build_from(&store, &url).args(["-f", "other/Build"]).ok();
    assert_eq!(store.sh("cat /other/file").stdout, "inside\n");
    let why = store.dram(["why", "-f", &url]).ok();
    assert!(why.stdout.contains(&format!("other/Build of {url}")), "{why}");
    build_from(&store, &url).args(["-f", "-"]).stdin("FROM parity-base\nCOPY run /tool\n").ok();
    assert_eq!(store.sh("cat /tool").stdout, "#!/bin/sh\n");
    // A response that is not an archive is the Dockerfile; as in BuildKit, it is also a file of its own context.
    build_from(&store, &server.url("/Dockerfile")).ok();
    assert_eq!(
        store.sh("cat /mine; stat -c '%a %u:%g' /mine").stdout,
        "FROM parity-base\nCOPY context /mine\n600 0:0\n"
    );
    build_from(&store, &server.url("/Dockerfile")).args(["-f", "x"]).fails(2).says("and so is `-f x`");
    build_from(&store, &server.url("/none")).fails(1).says("cannot fetch the build context").says("404");
    // The Dockerfile alone can be a URL too.
    let dir = Context::new("").file("context", "from here\n");
    store.build(&dir).arg("-f").arg(server.url("/Dockerfile")).ok();
    assert_eq!(store.sh("cat /mine").stdout, "from here\n");
    valid_image(&store, "demo:latest");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn a_git_repository_is_a_build_context() {
    let dir = temp();
    create_repositories(dir.path());
    let script = "set -e; git clone -q demo.git w; cd w; git config user.name t; git config user.email t@example.com; \
        printf 'FROM parity-base\\nCOPY . /ctx/\\n' > Dockerfile; cp Dockerfile sub/; echo top > .dockerignore; \
        git add .; GIT_COMMITTER_DATE='1000000000 +0000' git commit -qm built; git push -q origin main";
    tool("sh").dir(dir.path()).args(["-c", script]).env("HOME", dir.path()).ok();
    let server = TestServer::new([], dir.path());
    let store = Store::with_base();
    let url = server.url("/git/demo.git").replace("http://", "http://user:hidden@");
    build_from(&store, &url).ok();
    let seen = store.sh("cd /ctx; ls -A; stat -c '%a %u:%g' run").stdout;
    assert_eq!(seen, ".dockerignore\nDockerfile\nlink\nrun\nsub\ntop\n755 0:0\n");
    assert_eq!(build_from(&store, &format!("{url}#main")).ok().steps(), (0, 1));
    let dated = |store: &Store, words: &[&str]| build_from(store, &format!("{url}#main:sub")).args(words).ok().digest();
    let digest = dated(&store, &["--source-date-epoch=git", "--build-arg", "SOURCE_DATE_EPOCH=7"]);
    assert_eq!(store.inspect("demo")["config"]["created"], "2001-09-09T01:46:40Z");
    assert_eq!(dated(&Store::with_base(), &["--source-date-epoch=1000000000"]), digest);
    build_from(&store, &format!("{url}#main:sub")).ok();
    assert_eq!(store.sh("ls -A /ctx").stdout, "Dockerfile\nfile\n");
    build_from(&store, &url).args(["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]).ok();
    assert!(store.sh("ls -A /ctx").stdout.starts_with(".dockerignore\n.git\n"));
    build_from(&store, &format!("{url}#main:../..")).end();
    build_from(&store, &format!("{url}#none")).fails(1).says("cannot fetch the build context").does_not_say("hidden");
    assert_context_removed(&store);
    assert!(tool("grep").args(["-r", "-l", "user:hidden"]).arg(store.path()).end().stdout.is_empty());
}

#[test]
fn named_contexts_can_be_urls_and_git_repositories() {
    let dir = temp();
    create_repositories(dir.path());
    let server = TestServer::new([("/c.tar", CannedResponse::File("", tar_of(&context(), "")))], dir.path());
    let store = Store::with_base();
    let context = Context::new(
        "FROM parity-base\nCOPY --from=repo sub/file /file\nCOPY --from=repo / /all/\nADD --from=tar context /c/\n",
    );
    context.write("Dockerfile", "FROM parity-base\nCOPY --from=repo sub/file /file\nCOPY --from=tar / /c/\n");
    let (repo, tar) = (format!("repo={}#light", server.url("/git/demo.git")), format!("tar={}", server.url("/c.tar")));
    let build = || store.build(&context).args(["--build-context", &repo, "--build-context", &tar]).ok();
    build();
    // As in BuildKit, an archive as a named context is not unpacked.
    assert_eq!(store.sh("cat /file; ls /c; tar -tf /c/context | grep sub/file").stdout, "one\ncontext\n./sub/file\n");
    assert_eq!(build().steps(), (0, 2));
    valid_image(&store, "demo:latest");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn from_can_name_a_directory_context() {
    let store = Store::with_base();
    let files = Context::new("").file("data", "data\n").file("hidden", "x").file("dir/also", "x");
    files.write(".dockerignore", "hidden\ndir\n.dockerignore\nDockerfile\n");
    tool("chown").args(["5:6"]).arg(files.join("data")).ok();
    let context = Context::new("FROM files AS one\nLABEL a=b\nFROM parity-base\nCOPY --from=one / /one/\n");
    let named = format!("files={}", files.path().display());
    let build = |more: &[&str]| store.build(&context).args(["--build-context", &named]).args(more).ok();
    build(&[]);
    assert_eq!(store.sh("cd /one; ls -A; stat -c %u:%g data").stdout, "data\n0:0\n");
    build(&["--target", "one"]);
    valid_image(&store, "demo:latest");
    let config = store.inspect("demo")["config"].clone();
    let history: Vec<_> = config["history"].as_array().unwrap().iter().map(|line| &line["created_by"]).collect();
    assert_eq!(history, ["FROM files", "LABEL a=b"]);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    files.write("hidden", "changed");
    assert_eq!(build(&[]).steps(), (0, 2));
    files.write("data", "changed");
    build(&[]).says("changed data");
    let server = TestServer::files([("/x", CannedResponse::File("", b"from afar".to_vec()))]);
    store.build(&context).args(["--build-context", &format!("files={}", server.url("/x"))]).ok();
    assert_eq!(store.sh("cat /one/context").stdout, "from afar");
    store.build(&context).args(["--build-context", "files=docker-image://scratch"]).ok();
    assert_eq!(store.sh("ls -A /one").stdout, "");
}

#[test]
fn a_named_directory_context_has_its_own_dockerignore() {
    let store = Store::with_base();
    let files = Context::new("").file("kept", "x").file("hidden", "x").file(".dockerignore", "hidden\n");
    let context = Context::new(
        "FROM parity-base\nCOPY --from=files . /c/\nRUN --mount=type=bind,from=files,target=/m ls /m > /seen\n",
    );
    let named = format!("files={}", files.path().display());
    store.build(&context).args(["--build-context", &named]).ok();
    assert_eq!(store.sh("ls /c /seen; cat /seen").stdout, "/seen\n\n/c:\nDockerfile\nkept\nDockerfile\nkept\n");
    context.write("Dockerfile", "FROM parity-base\nCOPY --from=files hidden /\n");
    let done = store.build(&context).args(["--build-context", &named]).fails(1);
    done.says("no such file in `files`: `hidden`").says("leaves it out");
    files.write(".dockerignore", "[\n");
    store.build(&context).args(["--build-context", &named]).fails(2).says(".dockerignore:1:");
}

#[test]
fn an_image_in_a_layout_context_is_found_by_digest() {
    let (store, other) = (Store::empty(), Store::with_base());
    let context = Context::new("FROM base\nRUN true\n");
    let layout = |what: &str| format!("base=oci-layout://{}{what}", other.join("oci").display());
    let digest = other.digest("parity-base");
    store.build(&context).args(["--build-context", &layout(&format!("@{digest}"))]).ok();
    store.build(&context).args(["--build-context", &layout(&format!(":any@{digest}"))]).ok();
    let none = format!("@sha256:{}", "0".repeat(64));
    store.build(&context).args(["--build-context", &layout(&none)]).fails(1).says("has no image `sha256:000");
}
