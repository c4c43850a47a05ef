//! Times of files and images: those of the sources and of the execution by default, one time with `SOURCE_DATE_EPOCH`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::rootless::{user_with_subids, user_without_subids, with_base};
use crate::support::{Context, Store, TestCommand, list, temp, tool, valid_image};

/// A time long ago, which the sources have.
const OLD: i64 = 1_234_567_890;

fn set_time(path: &Path, seconds: i64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Returns the time of each entry in the layers of `demo` above its base, by its path, without the `/` of directories.
fn entry_times(store: &Store, base_layers: usize) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    for layer in &list(&store.inspect("demo")["manifest"]["layers"])[base_layers..] {
        let blob = store.join("oci/blobs").join(layer["digest"].as_str().unwrap().replace(':', "/"));
        let listed = tool("tar").args(["--full-time", "--utc", "-tvzf"]).arg(&blob).env("TZ", "UTC").ok().stdout;
        for line in listed.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let time = tool("date").args(["-u", "+%s", "-d"]).arg(words[3..5].join(" ")).ok().stdout;
            all.insert(words[5].trim_end_matches('/').to_owned(), time.trim().parse().unwrap());
        }
    }
    all
}

/// Unpacks the root file system of `demo` with umoci, as root.
fn unpacked(store: &Store) -> (TempDir, PathBuf) {
    let bundle = temp();
    let image = format!("{}:demo:latest", store.join("oci").display());
    tool("umoci").args(["unpack", "--image", &image]).arg(bundle.path().join("bundle")).ok();
    let root = bundle.path().join("bundle/rootfs");
    (bundle, root)
}

/// Every way in which files come into a layer.
const ALL_WAYS: &str = "\
FROM parity-base AS made
WORKDIR /work/dir
COPY file /copied/
COPY dir /copied-dir
ADD archive.tar /unpacked/
COPY <<END /inline/text
text
END
RUN test ! /copied/file -nt /inline/text && touch -d '2001-02-03 04:05:06' /touched && echo 1 > /new && rm /etc/base.conf
FROM parity-base
COPY --from=made /copied/file /touched /again/
RUN test /again/file -nt /again/touched
";

fn all_ways() -> Context {
    let context = Context::new(ALL_WAYS).file("file", "1").file("dir/sub/f", "2").file("in/implied/member", "3");
    set_time(&context.join("in/implied/member"), OLD + 3);
    tool("tar")
        .arg("-cf")
        .arg(context.join("archive.tar"))
        .arg("-C")
        .arg(context.join("in"))
        .arg("implied/member")
        .ok();
    for (path, time) in [("file", OLD), ("dir/sub/f", OLD + 1), ("dir/sub", OLD + 2), ("dir", OLD + 4)] {
        set_time(&context.join(path), time);
    }
    context
}

#[test]
fn files_have_the_times_of_their_sources_or_of_the_execution() {
    let users = [Store::with_base, || with_base(&user_with_subids()), || with_base(&user_without_subids())];
    for store in users.map(|make: fn() -> Store| make()) {
        let (context, began) = (all_ways(), now());
        let done = store.build(&context).args(["--target", "made"]).ok();
        let times = entry_times(&store, 1);
        let ended = now();
        let is = |path: &str, time: i64| assert_eq!(times[path], time, "{path} {times:?}");
        is("copied/file", OLD);
        is("copied-dir/sub/f", OLD + 1);
        is("copied-dir/sub", OLD + 2);
        is("copied-dir", OLD + 4);
        is("unpacked/implied/member", OLD + 3);
        is("touched", 981_173_106);
        let here = ["work", "work/dir", "copied", "unpacked", "unpacked/implied", "inline", "inline/text", "new"];
        for path in here.iter().chain(&["etc", "etc/.wh.base.conf"]) {
            assert!((began..=ended).contains(&times[*path]), "{path} {times:?}");
        }
        let config = store.inspect("demo")["config"].clone();
        let created = config["created"].as_str().unwrap();
        let created = tool("date").args(["-u", "+%s", "-d", created]).ok().stdout.trim().parse().unwrap();
        assert!((began..=ended).contains(&created), "{config}");
        assert_eq!(list(&config["history"]).last().unwrap()["created"], config["created"]);
        // Nothing changed, and a second later nothing changes.
        std::thread::sleep(Duration::from_millis(1100));
        set_time(&context.join("file"), OLD + 9);
        let again = store.build(&context).args(["--target", "made"]).ok();
        assert_eq!((again.steps().0, again.digest()), (0, done.digest()), "{again}");
        store.build(&context).ok();
        let times = entry_times(&store, 1);
        assert_eq!((times["again/file"], times["again/touched"]), (OLD, 981_173_106));
        valid_image(&store, "demo:latest");
    }
}

#[test]
fn changed_page_of_equal_length_has_another_time() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY www /www/\n").file("www/index.html", "app-1111.js");
    let modified = |name: &str| {
        store.dram(["build", "-t", name]).arg(context.path()).ok();
        let time = store.dram(["run", name, "stat", "-c", "%Y %s", "/www/index.html"]).ok().stdout;
        let (time, size) = time.trim().split_once(' ').unwrap();
        (time.parse::<i64>().unwrap(), size.to_owned())
    };
    set_time(&context.join("www/index.html"), OLD);
    let (first, size) = modified("demo:1");
    context.write("www/index.html", "app-2222.js");
    let (second, same_size) = modified("demo:2");
    assert_eq!((first, size), (OLD, same_size));
    // A server compares this with the time of the page in the browser's cache.
    assert!(second > first, "{second}");
}

/// As after a build: the products are not older than the sources.
#[test]
fn make_rebuilds_nothing_in_an_image_nor_in_later_steps() {
    let makefile = "all: out/final\nout/mid: src/in ; mkdir -p out && cp src/in out/mid && echo mid >> log\n\
                    out/final: out/mid ; cp out/mid out/final && echo final >> log\n";
    let dockerfile = "FROM parity-base\nWORKDIR /w\nCOPY . .\nRUN mkdir -p out && cp src/in out/mid\nRUN cp out/mid out/final\n\
                      RUN test ! src/in -nt out/mid && test ! out/mid -nt out/final\n";
    let context =
        Context::new(dockerfile).file("src/in", "1").file("Makefile", makefile).file(".dockerignore", "Dockerfile\n");
    let place = temp();
    let cache = |what: &str| format!("--cache-{what}={},mode=max", place.path().join("cache").display());
    let (store, other) = (Store::with_base(), Store::with_base());
    store.build(&context).arg(cache("to=type=local,dest")).ok();
    let from = cache("from=type=local,src").replace(",mode=max", "");
    let done = other.build(&context).arg(&from).ok();
    assert_eq!((done.steps().0, done.digest()), (0, store.digest("demo")), "{done}");
    for store in [&store, &other] {
        let (_bundle, root) = unpacked(store);
        tool("make").arg("--question").dir(root.join("w")).ok();
        // A later step sees these times, too.
        let check = "test ! src/in -nt out/mid && test ! out/mid -nt out/final";
        context.write("Dockerfile", &format!("{dockerfile}RUN {check} && echo checked\n"));
        let done = store.build(&context).arg(&from).ok().says("checked");
        assert_eq!(done.steps().0, 1, "{done}");
    }
}

#[test]
fn compiled_python_is_valid_in_the_image() {
    let context = Context::new("FROM scratch\nCOPY app /app/\n").file("app/m.py", "x = 1\n");
    set_time(&context.join("app/m.py"), OLD);
    let python = |root: &Path, words: &[&str]| {
        tool("python3").args(words).env("PYTHONDONTWRITEBYTECODE", "").dir(root.join("app")).ok()
    };
    python(context.path(), &["-m", "compileall", "-q", "."]);
    let store = Store::with_base();
    store.build(&context).ok();
    let (_bundle, root) = unpacked(&store);
    assert_eq!(fs::metadata(root.join("app/m.py")).unwrap().mtime(), OLD);
    let said = python(&root, &["-v", "-c", "import m"]).stderr;
    let cached = said.lines().any(|line| line.contains("matches") && line.contains("m.py"));
    assert!(cached && !said.contains("bytecode is stale"), "{said}");
}

/// Copies the program and its shared libraries into `context/root`, at their paths.
fn add_program(context: &Context, name: &str) {
    let found = tool("sh").args(["-c", "command -v \"$1\"", "sh", name]).env("PATH", "/usr/sbin:/usr/bin").ok().stdout;
    let libraries = tool("ldd").arg(found.trim()).ok().stdout;
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/')).chain([found.trim()]);
    for path in paths {
        let to = context.join("root").join(&path[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}

/// Starts a server in the container, which has a loopback device of its own, and sends a request with one more line.
const ASK: &str = r#"#!/bin/sh
case $1 in
nginx)
    mkdir -p /var/log/nginx /var/lib/nginx
    nginx -c /nginx.conf &
    ;;
caddy) HOME=/tmp caddy file-server --root /www --listen :8080 2>/dev/null & ;;
httpd) httpd -f -p 8080 -h /www & ;;
esac
for _ in $(seq 100); do
    if nc 127.0.0.1 8080 </dev/null; then break; fi
    sleep 0.1
done
{ printf 'GET /page.html HTTP/1.0\r\nHost: localhost\r\n%s\r\n\r\n' "$2"; sleep 1; } | nc 127.0.0.1 8080
"#;
const NGINX_CONF: &str = "\
daemon off; user root; worker_processes 1; error_log stderr; pid /tmp/pid;
events {}
http { access_log off; server { listen 8080; root /www; } }
";

/// Browsers and proxies ask for a page again with the time or the tag that the server told them.
#[test]
fn servers_send_a_changed_page_of_equal_length_and_no_other() {
    let store = Store::with_base();
    let dockerfile = "FROM parity-base\nCOPY root /\nCOPY --chmod=755 ask /\nCOPY nginx.conf /\nCOPY www /www/\n";
    let context =
        Context::new(dockerfile).file("ask", ASK).file("nginx.conf", NGINX_CONF).file("www/page.html", "app-1111");
    add_program(&context, "nginx");
    // A server in Go: it answers with `http.ServeContent`, as `http.FileServer` does.
    add_program(&context, "caddy");
    set_time(&context.join("www/page.html"), OLD);
    store.dram(["build", "-t", "demo:1"]).arg(context.path()).ok();
    context.write("www/page.html", "app-2222");
    store.dram(["build", "-t", "demo:2"]).arg(context.path()).ok();
    let ask = |image: &str, server: &str, line: &str| {
        store.dram(["run", "--network", "none", image, "/ask", server, line]).ok().stdout
    };
    for (server, lines) in [
        ("nginx", &[("Last-Modified", "If-Modified-Since"), ("ETag", "If-None-Match")][..]),
        ("caddy", &[("Last-Modified", "If-Modified-Since"), ("Etag", "If-None-Match")]),
        ("httpd", &[("ETag", "If-None-Match")]),
    ] {
        let first = ask("demo:1", server, "X-Nothing: 1");
        assert!(first.contains(" 200 ") && first.contains("app-1111"), "{server}: {first}");
        for (told, asked) in lines {
            let told = first.lines().find_map(|line| line.strip_prefix(told)?.strip_prefix(": "));
            let line = format!("{asked}: {}", told.unwrap_or_else(|| panic!("{server}: {first}")));
            let same = ask("demo:1", server, &line);
            assert!(same.contains(" 304 "), "{server}: {line}: {same}");
            let changed = ask("demo:2", server, &line);
            assert!(changed.contains(" 200 ") && changed.contains("app-2222"), "{server}: {line}: {changed}");
        }
    }
}

/// Serves the first directory, and asks for its page and that of the second with the time of the first.
const PYTHON_SERVER: &str = "\
import functools, http.server, sys, threading, urllib.error, urllib.request
def ask(place, headers):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=place)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = urllib.request.Request(f'http://127.0.0.1:{server.server_port}/page.html', headers=headers)
    try:
        answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page)
        return answer.status, answer.headers['Last-Modified'], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, None, ''
old, new = sys.argv[1:]
_, time, _ = ask(old, {})
print(ask(old, {'If-Modified-Since': time})[0], *ask(new, {'If-Modified-Since': time})[::2])
";

#[test]
fn files_of_an_image_can_be_served_by_python_and_archived_with_zip() {
    let store = Store::with_base();
    let dockerfile = "FROM parity-base\nCOPY www /www/\nRUN echo made > /www/made && mkdir /www/dir\n";
    let context = Context::new(dockerfile).file("www/page.html", "app-1111");
    set_time(&context.join("www/page.html"), OLD);
    store.build(&context).ok();
    let (_first, old) = unpacked(&store);
    context.write("www/page.html", "app-2222");
    store.build(&context).ok();
    let (_second, new) = unpacked(&store);
    let asked = tool("python3").args(["-c", PYTHON_SERVER]).args([old.join("www"), new.join("www")]).ok();
    assert_eq!(asked.stdout, "304 200 app-2222\n", "{asked}");
    let place = temp();
    let python = |words: &[&str]| tool("python3").args(["-m", "zipfile"]).args(words).env("TZ", "UTC");
    let www = old.join("www");
    // It refuses files from before 1980, and zip writes another time.
    python(&["-c"]).arg(place.path().join("python.zip")).arg(&www).ok();
    tool("zip").args(["-q", "-r"]).arg(place.path().join("zip.zip")).arg("www").dir(&old).env("TZ", "UTC").ok();
    for archive in ["python.zip", "zip.zip"] {
        let listed = python(&["-l"]).arg(place.path().join(archive)).ok();
        assert!(listed.stdout.contains("www/made") && listed.stdout.contains("2009-02-13 23:31:30"), "{listed}");
    }
}

#[test]
fn squashed_and_exported_files_keep_their_times() {
    let (store, context, place) = (Store::with_base(), all_ways(), temp());
    store.build(&context).args(["--target", "made"]).ok();
    let dest = place.path().join("dir");
    store.dram(["build", "--target", "made", "-o"]).arg(&dest).arg(context.path()).ok();
    let time = |path: PathBuf| fs::symlink_metadata(path).unwrap().mtime();
    assert_eq!((time(dest.join("copied/file")), time(dest.join("touched"))), (OLD, 981_173_106));
    let tar = place.path().join("files.tar");
    let output = format!("type=tar,dest={}", tar.display());
    store.dram(["build", "--target", "made", "-o", &output]).arg(context.path()).ok();
    let from_tar = place.path().join("from-tar");
    fs::create_dir(&from_tar).unwrap();
    tool("tar").arg("-xf").arg(&tar).arg("-C").arg(&from_tar).ok();
    assert_eq!((time(from_tar.join("copied/file")), time(from_tar.join("touched"))), (OLD, 981_173_106));
    store.dram(["squash", "demo", "demo:squashed"]).ok();
    let listed = store.dram(["run", "demo:squashed", "stat", "-c", "%Y", "/copied/file", "/touched"]).ok().stdout;
    assert_eq!(listed, format!("{OLD}\n981173106\n"));
    // `import` keeps the times of the tar, and is as old as the newest file, so that it is the same image everywhere.
    store.dram(["import"]).arg(&tar).arg("demo").ok();
    let times = entry_times(&store, 0);
    assert_eq!(times["copied/file"], OLD);
    let created = store.inspect("demo")["config"]["created"].as_str().unwrap().to_owned();
    let created: i64 = tool("date").args(["-u", "+%s", "-d", &created]).ok().stdout.trim().parse().unwrap();
    assert_eq!(Some(&created), times.values().max());
}

#[test]
fn time_that_no_short_number_holds_is_kept_or_refused() {
    let store = Store::with_base();
    for date in ["2440-01-01", "2242-06-01", "1930-01-01"] {
        let context = Context::new("FROM scratch\nCOPY file /\n").file("file", date);
        tool("touch").args(["-d", date]).arg(context.join("file")).ok();
        let there = fs::metadata(context.join("file")).unwrap().mtime();
        let done = store.build(&context).end();
        if done.code == 0 {
            let layer = store.inspect("demo")["manifest"]["layers"][0]["digest"].as_str().unwrap().replace(':', "/");
            let listed =
                tool("tar").args(["--full-time", "--utc", "-tvzf"]).arg(store.join("oci/blobs").join(layer)).ok();
            let text = tool("date").args(["-u", "+%F %T", "-d", &format!("@{there}")]).ok().stdout;
            assert!(listed.stdout.contains(text.trim()), "{text}{listed}");
            valid_image(&store, "demo:latest");
        } else {
            done.says("the file system of the store cannot hold the time of");
        }
    }
}

/// Returns a context that is the work tree of a Git repository with one commit.
fn repository() -> Context {
    let context = Context::new("FROM scratch\nCOPY sub /sub/\n").file("sub/f", "1").file(".gitignore", "/ignored/\n");
    git(&context).args(["init", "-q"]).ok();
    commit(&context);
    context
}

fn git(context: &Context) -> TestCommand {
    let git = tool("git").dir(context.path()).env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
    git.args(["-c", "user.name=n", "-c", "user.email=e@example.com"])
}

fn commit(context: &Context) {
    git(context).args(["add", "."]).ok();
    let date = format!("{OLD} +0000");
    let commit = git(context).args(["commit", "-q", "-m", "m"]);
    commit.env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", "1000000000 +0000").ok();
}

#[test]
fn time_of_the_commit_is_that_of_a_clean_work_tree() {
    let (store, context) = (Store::with_base(), repository());
    let build = |words: &[&str]| store.build(&context).arg("--source-date-epoch=git").args(words);
    build(&[]).ok();
    assert_eq!(entry_times(&store, 0), BTreeMap::from([("sub".to_owned(), OLD), ("sub/f".to_owned(), OLD)]));
    assert_eq!(store.inspect("demo")["config"]["created"], "2009-02-13T23:31:30Z");
    let digest = store.digest("demo");
    // It is stronger than the environment, and its number is the same time. A hook's variables do not matter.
    let other = Store::with_base();
    other.build(&context).arg(format!("--source-date-epoch={OLD}")).env("SOURCE_DATE_EPOCH", "7").ok();
    assert_eq!(other.digest("demo"), digest);
    build(&[]).env("GIT_DIR", "/nonexistent").env("GIT_INDEX_FILE", "/nonexistent").ok();
    let refused = |says: &str| {
        build(&[]).fails(2).says("has no time of a commit").says(says).says("--source-date-epoch EPOCH");
    };
    context.write("sub/f", "2");
    refused("differ from the commit, as `sub/f`");
    git(&context).args(["checkout", "-q", "sub/f"]).ok();
    context.write("sub/new", "2");
    refused("differ from the commit, as `sub/new`");
    fs::remove_file(context.join("sub/new")).unwrap();
    build(&[]).ok();
    // A program that the repository's own settings name is not started.
    let marker = temp();
    let script = format!("touch {}/started", marker.path().display());
    git(&context).args(["config", "core.fsmonitor", &script]).ok();
    build(&[]).ok();
    assert_eq!(fs::read_dir(marker.path()).unwrap().count(), 0);
    let bare = Context::new("FROM scratch\n");
    let outside = store.build(&bare).arg("--source-date-epoch=git").env("GIT_CEILING_DIRECTORIES", "/");
    outside.fails(2).says("has no time of a commit").says("not a git repository");
    git(&bare).args(["init", "-q"]).ok();
    fs::write(bare.join(".git/info/exclude"), "*\n").unwrap();
    store.build(&bare).arg("--source-date-epoch=git").fails(2).says("has no time of a commit");
    store
        .dram(["build", "--source-date-epoch=git", "-"])
        .stdin("FROM scratch\n")
        .fails(2)
        .says("not in a Git repository");
    store
        .build(&context)
        .arg("--source-date-epoch=git")
        .env("PATH", "/nonexistent")
        .fails(2)
        .says("`git` is not installed");
}

#[test]
fn directory_that_git_ignores_has_no_time_of_a_commit() {
    let (store, context) = (Store::with_base(), repository());
    fs::create_dir(context.join("ignored")).unwrap();
    fs::write(context.join("ignored/Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let build = store.dram(["build", "--source-date-epoch=git"]).arg(context.join("ignored"));
    build.fails(2).says("git ignores the directory");
}
