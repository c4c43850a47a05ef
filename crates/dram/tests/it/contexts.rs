//! Build contexts that are no directory, and what names after `FROM` and `--from` may stand for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::remote::repositories;
use crate::rootless::{plain_user, user, with_base};
use crate::server::{Answer, Server};
use crate::support::{Context, Done, Store, Tool, names, temp, tool, until, valid_image};

const DOCKERFILE: &str = "FROM parity-base\nCOPY . /ctx/\nRUN --mount=type=bind,target=/m cat /m/sub/file > /seen\n";

/// A directory with a file below another one, one that is executable, a link out of it, and an ignore list.
fn context() -> Context {
    let context = Context::new(DOCKERFILE).file("sub/file", "inside\n").file("run", "#!/bin/sh\n");
    context.write(".dockerignore", "sub\n");
    context.write("other/Build", "FROM parity-base\nCOPY sub /other/\n");
    let script = "chmod 755 run sub other; ln -s /etc/passwd link; chown 1000:50 run";
    tool("sh").dir(context.path()).args(["-c", script]).ok();
    context
}

fn packed(context: &Context, options: &str) -> Vec<u8> {
    let out = temp();
    let tar = out.path().join("tar");
    let script = format!("tar {options} -cf {} .", tar.display());
    tool("sh").dir(context.path()).args(["-c", &script]).ok();
    fs::read(tar).unwrap()
}

/// `dram build -t demo CONTEXT` of something that is no directory.
fn from(store: &Store, context: &str) -> Tool {
    let build = store.dram(["build", "--progress", "plain", "-t", "demo"]).env("DRAM_NETWORK_TIMEOUT", "5");
    build.arg(context)
}

/// Nothing stays of a context that was brought.
#[track_caller]
fn nothing_stays(store: &Store) {
    assert_eq!(names(&store.join("work")), ["gate"]);
    let remembered = fs::read_dir(store.join("contexts")).map_or(0, Iterator::count);
    assert_eq!(remembered, 0);
}

#[test]
fn a_tar_on_standard_input_is_the_context() {
    let (store, context) = (Store::with_base(), context());
    let done = from(&store, "-").stdin(packed(&context, "")).ok();
    assert_eq!(done.steps(), (2, 0));
    valid_image(&store, "demo:latest");
    // Its ignore list is a file, and owners are those of the archive.
    let seen = store.sh("cat /seen /ctx/sub/file; ls -A /ctx; stat -c '%a %u:%g' /ctx/run; readlink /ctx/link");
    let all = ".dockerignore\nDockerfile\nlink\nother\nrun\nsub\n";
    assert_eq!(seen.stdout, format!("inside\ninside\n{all}755 1000:50\n/etc/passwd\n"));
    nothing_stays(&store);
    // Times, the order of names and the compression are no part of what the context is.
    for options in ["--mtime=@1000000000 -z", "--sort=name -J", "-j", "--zstd", "--format=pax"] {
        let done = from(&store, "-").stdin(packed(&context, options)).ok();
        assert_eq!(done.steps(), (0, 2), "{options}");
    }
    context.write("sub/file", "changed\n");
    let done = from(&store, "-").stdin(packed(&context, "")).ok();
    done.says("changed sub/file");
    let why = store.dram(["why"]).ok();
    assert!(why.stdout.contains("Dockerfile of -"), "{why}");
    assert_eq!(store.dram(["why", "-f", "-"]).ok().stdout, why.stdout);
}

#[test]
fn a_dockerfile_is_named_within_a_context_that_is_brought() {
    let (store, context) = (Store::with_base(), context());
    from(&store, "-").args(["-f", "other/Build"]).stdin(packed(&context, "")).ok();
    assert_eq!(store.sh("cat /other/file").stdout, "inside\n");
    fs::rename(context.join("Dockerfile"), context.join("dockerfile")).unwrap();
    from(&store, "-").stdin(packed(&context, "")).ok();
    context.write("sub/file", "sub is ignored here\n");
    context.write("dockerfile", "FROM parity-base\nCOPY run /small\n");
    store.build(&context).ok();
    let other = from(&store, "-").args(["-f", "other/None"]).stdin(packed(&context, "")).fails(2);
    other.says("there is no Dockerfile at `other/None` in the build context");
    from(&store, "-").args(["-f", "sub"]).stdin(packed(&context, "")).fails(2).says("is not a regular file");
    // A link leads nowhere outside.
    from(&store, "-").args(["-f", "link"]).stdin(packed(&context, "")).fails(2).says("there is no Dockerfile");
    from(&store, "-").args(["-f", "../../etc/passwd"]).stdin(packed(&context, "")).fails(2);
    nothing_stays(&store);
}

#[test]
fn what_is_no_tar_is_the_dockerfile_and_the_context_is_empty() {
    let store = Store::with_base();
    from(&store, "-").stdin("FROM parity-base\nRUN echo hello > /hello\n").ok();
    assert_eq!(store.sh("cat /hello").stdout, "hello\n");
    valid_image(&store, "demo:latest");
    let done = from(&store, "-").stdin("FROM parity-base\nCOPY file /\n").fails(1);
    done.says("standard input:2:6").says("its root is empty");
    from(&store, "-").args(["-f", "-"]).stdin("FROM scratch\n").fails(2).says("cannot be both");
    from(&store, "-").args(["-f", "x"]).stdin("FROM scratch\n").fails(2).says("and so is `-f x`");
    from(&store, "-").fails(2).says("there is nothing on standard input");
    let mut gzip = packed(&context(), "-z");
    gzip.truncate(gzip.len() / 2);
    from(&store, "-").stdin(gzip).fails(1).says("standard input");
    nothing_stays(&store);
    // Without building, no store is made of it.
    let none = Store::empty();
    none.dram(["build", "--check", "-"]).stdin("FROM parity-base:1\n").ok();
    assert!(!none.path().exists());
}

#[test]
fn without_root_a_context_is_the_same() {
    let (of_root, context) = (Store::with_base(), context());
    let expected = from(&of_root, "-").stdin(packed(&context, "")).ok();
    for user in [user(), plain_user()] {
        let store = with_base(&user);
        let done = from(&store, "-").stdin(packed(&context, "-z")).ok();
        assert_eq!((done.steps(), done.digest()), ((2, 0), expected.digest()));
        assert_eq!(from(&store, "-").stdin(packed(&context, "")).ok().steps(), (0, 2));
        nothing_stays(&store);
    }
}

#[test]
fn a_failed_build_leaves_nothing_of_its_context() {
    let (store, context) = (Store::with_base(), context());
    context.write("Dockerfile", "FROM parity-base\nCOPY run /tool\nRUN cat /tool && false\n");
    from(&store, "-").stdin(packed(&context, "")).fails(1);
    nothing_stays(&store);
    let seen = store.dram(["shell", "--failed", "--", "cat", "/tool"]).end();
    assert_eq!(seen.stdout, "#!/bin/sh\n", "{seen}");
}

#[test]
fn an_archive_touches_nothing_outside() {
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
        let done: Done = from(&store, "-").stdin(fs::read(&tar).unwrap()).end();
        assert!(matches!(done.code, 0 | 1), "{done}");
        assert_eq!(names(&canary), Vec::<String>::new());
        assert!(!Path::new("/absolute").exists());
        assert!(!store.join("work/above").exists() && !store.join("above").exists());
        nothing_stays(&store);
    }
}

#[test]
fn an_archive_that_grows_too_much_is_refused() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY . /c/\n");
    tool("truncate").args(["-s", "64M"]).arg(context.join("zeros")).ok();
    let bomb = packed(&context, "-z");
    for (limit, value) in [("size", "1m"), ("entries", "2")] {
        let done = from(&store, "-").args(["--limit", &format!("{limit}={value}")]).stdin(bomb.clone()).fails(1);
        done.says("standard input").says(&format!("--limit {limit}="));
        nothing_stays(&store);
    }
    from(&store, "-").stdin(bomb.clone()).ok();
    // The same counts for archives that are added.
    let context = Context::new("FROM parity-base\nADD bomb.tar.gz /c/\n");
    fs::write(context.join("bomb.tar.gz"), bomb).unwrap();
    store.build(&context).args(["--limit", "size=1m"]).fails(1).says("bomb.tar.gz").says("--limit size=");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn a_build_that_waits_for_its_context_can_be_stopped() {
    let store = Store::with_base();
    // Nothing is ever written to the pipe.
    let dram = from(&store, "-").within("sh", &["-c", "sleep 60 | exec \"$@\"", "sh"]).start();
    until("the store is in use", Duration::from_secs(10), || names(&store.join("work")).len() > 1);
    std::thread::sleep(Duration::from_millis(300));
    let children = tool("pgrep").args(["-x", "-P", &dram.pid().to_string(), "dram"]).ok().stdout;
    tool("kill").args(["-TERM", children.trim()]).ok();
    until("it ends", Duration::from_secs(5), || names(&store.join("work")) == ["gate"]);
    dram.signal("KILL");
}

#[test]
fn an_address_is_a_context() {
    let (store, context) = (Store::with_base(), context());
    let server = Server::files([
        ("/c.tar.gz", Answer::File("", packed(&context, "-z"))),
        ("/Dockerfile", Answer::File("", b"FROM parity-base\nCOPY context /mine\n".to_vec())),
    ]);
    let url = server.url("/c.tar.gz");
    assert_eq!(from(&store, &url).ok().steps(), (2, 0));
    assert_eq!(store.sh("cat /seen; stat -c %u:%g /ctx/run").stdout, "inside\n1000:50\n");
    let same = from(&store, "-").stdin(packed(&context, "")).ok();
    assert_eq!(same.steps(), (0, 2));
    from(&store, &url).args(["-f", "other/Build"]).ok();
    assert_eq!(store.sh("cat /other/file").stdout, "inside\n");
    let why = store.dram(["why", "-f", &url]).ok();
    assert!(why.stdout.contains(&format!("other/Build of {url}")), "{why}");
    from(&store, &url).args(["-f", "-"]).stdin("FROM parity-base\nCOPY run /tool\n").ok();
    assert_eq!(store.sh("cat /tool").stdout, "#!/bin/sh\n");
    // What is no archive is the Dockerfile; it lies in its own context, as in BuildKit.
    from(&store, &server.url("/Dockerfile")).ok();
    assert_eq!(
        store.sh("cat /mine; stat -c '%a %u:%g' /mine").stdout,
        "FROM parity-base\nCOPY context /mine\n600 0:0\n"
    );
    from(&store, &server.url("/Dockerfile")).args(["-f", "x"]).fails(2).says("and so is `-f x`");
    from(&store, &server.url("/none")).fails(1).says("cannot fetch the build context").says("404");
    // The Dockerfile may come from the network too.
    let dir = Context::new("").file("context", "from here\n");
    store.build(&dir).arg("-f").arg(server.url("/Dockerfile")).ok();
    assert_eq!(store.sh("cat /mine").stdout, "from here\n");
    valid_image(&store, "demo:latest");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn a_repository_is_a_context() {
    let dir = temp();
    repositories(dir.path());
    let script = "set -e; git clone -q demo.git w; cd w; git config user.name t; git config user.email t@example.com; \
        printf 'FROM parity-base\\nCOPY . /ctx/\\n' > Dockerfile; cp Dockerfile sub/; echo top > .dockerignore; \
        git add .; git commit -qm built; git push -q origin main";
    tool("sh").dir(dir.path()).args(["-c", script]).env("HOME", dir.path()).ok();
    let server = Server::new([], dir.path());
    let store = Store::with_base();
    let url = server.url("/git/demo.git").replace("http://", "http://user:hidden@");
    from(&store, &url).ok();
    let seen = store.sh("cd /ctx; ls -A; stat -c '%a %u:%g' run").stdout;
    assert_eq!(seen, ".dockerignore\nDockerfile\nlink\nrun\nsub\ntop\n755 0:0\n");
    assert_eq!(from(&store, &format!("{url}#main")).ok().steps(), (0, 1));
    from(&store, &format!("{url}#main:sub")).ok();
    assert_eq!(store.sh("ls -A /ctx").stdout, "Dockerfile\nfile\n");
    from(&store, &url).args(["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]).ok();
    assert!(store.sh("ls -A /ctx").stdout.starts_with(".dockerignore\n.git\n"));
    from(&store, &format!("{url}#main:../..")).end();
    from(&store, &format!("{url}#none")).fails(1).says("cannot fetch the build context").does_not_say("hidden");
    nothing_stays(&store);
    assert!(tool("grep").args(["-r", "-l", "user:hidden"]).arg(store.path()).end().stdout.is_empty());
}

#[test]
fn a_name_stands_for_what_lies_on_the_network() {
    let dir = temp();
    repositories(dir.path());
    let server = Server::new([("/c.tar", Answer::File("", packed(&context(), "")))], dir.path());
    let store = Store::with_base();
    let context = Context::new(
        "FROM parity-base\nCOPY --from=repo sub/file /file\nCOPY --from=repo / /all/\nADD --from=tar context /c/\n",
    );
    context.write("Dockerfile", "FROM parity-base\nCOPY --from=repo sub/file /file\nCOPY --from=tar / /c/\n");
    let (repo, tar) = (format!("repo={}#light", server.url("/git/demo.git")), format!("tar={}", server.url("/c.tar")));
    let build = || store.build(&context).args(["--build-context", &repo, "--build-context", &tar]).ok();
    build();
    // As in BuildKit, a named archive is not unpacked.
    assert_eq!(store.sh("cat /file; ls /c; tar -tf /c/context | grep sub/file").stdout, "one\ncontext\n./sub/file\n");
    assert_eq!(build().steps(), (0, 2));
    valid_image(&store, "demo:latest");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn a_stage_can_stand_on_a_directory() {
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
    let server = Server::files([("/x", Answer::File("", b"from afar".to_vec()))]);
    store.build(&context).args(["--build-context", &format!("files={}", server.url("/x"))]).ok();
    assert_eq!(store.sh("cat /one/context").stdout, "from afar");
    store.build(&context).args(["--build-context", "files=docker-image://scratch"]).ok();
    assert_eq!(store.sh("ls -A /one").stdout, "");
}

#[test]
fn a_named_directory_has_an_ignore_list_of_its_own() {
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
fn a_layout_context_is_found_by_its_digest() {
    let (store, other) = (Store::empty(), Store::with_base());
    let context = Context::new("FROM base\nRUN true\n");
    let layout = |what: &str| format!("base=oci-layout://{}{what}", other.join("oci").display());
    let digest = other.digest("parity-base");
    store.build(&context).args(["--build-context", &layout(&format!("@{digest}"))]).ok();
    store.build(&context).args(["--build-context", &layout(&format!(":any@{digest}"))]).ok();
    let none = format!("@sha256:{}", "0".repeat(64));
    store.build(&context).args(["--build-context", &layout(&none)]).fails(1).says("has no image `sha256:000");
}
