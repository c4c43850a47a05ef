//! `ADD` of URLs and Git repositories.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::http_server::{CannedResponse, TestServer, http_response};
use crate::support::{CommandOutput, Context, Store, TestCommand, temp, tool, valid_image};

/// Output of `printf x | sha256sum`.
const X: &str = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

fn add_context(words: &str) -> Context {
    Context::new(&format!("FROM parity-base\nADD {words}\n"))
}

/// Returns a build with a short network timeout.
fn impatient_build(store: &Store, context: &Context) -> TestCommand {
    store.build(context).env("DRAM_NETWORK_TIMEOUT", "0.3")
}

fn build_ok(store: &Store, context: &Context) -> CommandOutput {
    let done = impatient_build(store, context).ok();
    valid_image(store, "demo:latest");
    done
}

#[test]
fn add_url_sets_name_mode_and_time() {
    let server = TestServer::files([
        ("/dir/file%20x", CannedResponse::File("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", b"hello".to_vec())),
        ("/x.gz", CannedResponse::File("Content-Encoding: gzip\r\n", b"as it is".to_vec())),
    ]);
    let store = Store::with_base();
    let context = add_context(&format!("{} {} /d/", server.url("/dir/file%20x"), server.url("/x.gz")));
    impatient_build(&store, &context).args(["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]).ok();
    let seen = store.sh("cd /d; stat -c '%a %u:%g %Y %n' *; cat 'file x' x.gz");
    assert_eq!(seen.stdout, "600 0:0 784111777 file x\n600 0:0 0 x.gz\nhelloas it is", "{seen}");
    let context = add_context(&format!("--chown=1:2 --chmod=755 {} /tool", server.url("/x.gz")));
    build_ok(&store, &context);
    assert_eq!(store.sh("stat -c '%a %u:%g' /tool").stdout, "755 1:2\n");
}

#[test]
fn an_unchanged_url_is_revalidated_by_etag() {
    let server = TestServer::files([("/x", CannedResponse::WithEtag("\"one\"", b"x".to_vec()))]);
    let store = Store::with_base();
    let context = add_context(&format!("{} /", server.url("/x")));
    assert_eq!(build_ok(&store, &context).steps(), (1, 0));
    assert_eq!(server.take_requests(), ["GET /x"]);
    assert_eq!(build_ok(&store, &context).steps(), (0, 1));
    assert_eq!(server.take_requests(), ["GET /x \"one\""]);
    let server = TestServer::files([("/x", CannedResponse::File("", b"y".to_vec()))]);
    assert_eq!(build_ok(&store, &add_context(&format!("{} /", server.url("/x")))).steps(), (1, 0));
    assert_eq!(store.sh("cat /x").stdout, "y");
    store.dram(["prune", "--all"]).ok();
    assert_eq!(fs::read_dir(store.join("downloads")).unwrap().count(), 0);
}

#[test]
fn add_checksum_is_verified_and_saves_the_request() {
    let server = TestServer::files([
        ("/x", CannedResponse::File("", b"x".to_vec())),
        ("/y", CannedResponse::File("", b"y".to_vec())),
    ]);
    let store = Store::with_base();
    let context = add_context(&format!("--checksum={X} {} /", server.url("/x")));
    build_ok(&store, &context);
    server.take_requests();
    assert_eq!(build_ok(&store, &context).steps(), (0, 1));
    impatient_build(&store, &context).args(["--no-cache"]).ok();
    assert_eq!(server.take_requests(), Vec::<String>::new());
    // What another address brought is no answer of this one, whatever the store has.
    let other = add_context(&format!("--checksum={X} {} /x", server.url("/y")));
    for store in [&store, &Store::with_base()] {
        let done = impatient_build(store, &other).fails(1);
        done.says(&format!("and not {X}")).says("Dockerfile:2:");
    }
    let gone = add_context(&format!("--checksum={X} {} /x", server.url("/gone")));
    impatient_build(&store, &gone).fails(1).says("404");
    // Nor is what this address brought before.
    build_ok(&store, &add_context(&format!("{} /y", server.url("/y"))));
    impatient_build(&store, &other).fails(1).says(&format!("and not {X}"));
    assert_eq!(build_ok(&store, &context).steps(), (0, 1));
}

#[test]
fn remote_archives_are_unpacked_only_with_unpack() {
    let dir = temp();
    fs::write(dir.path().join("inner"), "inside").unwrap();
    tool("tar").dir(dir.path()).args(["-czf", "a.tgz", "inner"]).ok();
    let bytes = fs::read(dir.path().join("a.tgz")).unwrap();
    let server = TestServer::files([("/a.tgz", CannedResponse::File("", bytes.clone()))]);
    let store = Store::with_base();
    build_ok(&store, &add_context(&format!("{} /d/", server.url("/a.tgz"))));
    assert_eq!(store.sh("ls /d").stdout, "a.tgz\n");
    build_ok(&store, &add_context(&format!("--unpack=true {} /d/", server.url("/a.tgz"))));
    assert_eq!(store.sh("ls /d; cat /d/inner").stdout, "inner\ninside");
}

#[test]
fn transient_errors_are_retried() {
    let server =
        TestServer::files([("/x", CannedResponse::FailFirst(2, 503)), ("/y", CannedResponse::FailFirst(9, 429))]);
    let store = Store::with_base();
    build_ok(&store, &add_context(&format!("{} /", server.url("/x"))));
    assert_eq!(server.take_requests().len(), 3);
    impatient_build(&store, &add_context(&format!("{} /", server.url("/y")))).fails(1).says("the server answers 429");
    assert_eq!(server.take_requests().len(), 3);
    impatient_build(&store, &add_context(&format!("{} /", server.url("/z"))))
        .fails(1)
        .says("404")
        .says("nothing is there");
    assert_eq!(server.take_requests().len(), 1);
}

#[test]
fn hostile_servers_are_refused_within_a_time_limit() {
    let broken = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec();
    let huge = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 10 << 20]].concat();
    let server = TestServer::files([
        ("/loop", CannedResponse::Redirect("/loop".to_owned())),
        ("/endless", CannedResponse::Endless),
        ("/silent", CannedResponse::Stall),
        ("/short", CannedResponse::Raw(broken)),
        ("/huge", CannedResponse::Raw(huge)),
        ("/none", CannedResponse::Raw(Vec::new())),
        ("/noise", CannedResponse::Raw(vec![0xff; 1 << 20])),
        ("/file", CannedResponse::Redirect("file:///etc/passwd".to_owned())),
    ]);
    let store = Store::with_base();
    let table = [
        ("/loop", "it redirects more than 10 times"),
        ("/endless", "it is longer than"),
        ("/silent", "the server does not respond"),
        ("/short", "the response breaks off"),
        ("/huge", "cannot fetch"),
        ("/none", "cannot fetch"),
        ("/noise", "cannot fetch"),
        ("/file", "is not an address that a file can come from"),
    ];
    for (path, expected) in table {
        let start = Instant::now();
        impatient_build(&store, &add_context(&format!("{} /", server.url(path)))).fails(1).says(expected);
        assert!(start.elapsed() < Duration::from_secs(15), "{path} took {:?}", start.elapsed());
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    impatient_build(&store, &add_context(&format!("http://{closed}/x /"))).fails(1).says("refused");
}

#[test]
fn credentials_are_not_sent_to_a_redirect_target() {
    let other = TestServer::files([
        ("/stolen", CannedResponse::File("", b"x".to_vec())),
        ("/want", CannedResponse::ForAuthorization("Basic dTpoaWRkZW4=")),
    ]);
    let server = TestServer::files([
        ("/x", CannedResponse::ForAuthorization("Basic dTpoaWRkZW4=")),
        ("/moved", CannedResponse::Redirect(other.url("/want"))),
        ("/here", CannedResponse::Redirect("/x".to_owned())),
    ]);
    let with = |path: &str| format!("http://u:hidden@{}{path}", server.host());
    let store = Store::with_base();
    let done = build_ok(&store, &add_context(&format!("{} /", with("/here"))));
    assert_eq!(store.sh("cat /here").stdout, "secret");
    done.does_not_say("dTpoaWRkZW4");
    let failed = impatient_build(&store, &add_context(&format!("{} /", with("/moved")))).fails(1).says("401");
    assert!(!failed.lines("error").iter().any(|line| line.contains("hidden")), "{failed}");
    let history = store.dram(["inspect", "demo"]).ok();
    assert!(history.stdout.contains("xxxxx:xxxxx@"), "{history}");
    assert!(tool("grep").args(["-r", "-l", "u:hidden"]).arg(store.path()).end().stdout.is_empty());
}

#[test]
fn proxies_are_taken_from_the_environment() {
    let proxy = TestServer::files([("*", CannedResponse::Any(b"by proxy".to_vec()))]);
    let store = Store::with_base();
    let context = add_context("http://far.example/x /");
    impatient_build(&store, &context).env("http_proxy", proxy.url("")).ok();
    assert_eq!(store.sh("cat /x").stdout, "by proxy");
    assert_eq!(proxy.take_requests(), ["GET http://far.example/x"]);
    impatient_build(&store, &context)
        .args(["--no-cache"])
        .env("HTTP_PROXY", proxy.url(""))
        .env("NO_PROXY", ".example")
        .fails(1);
    assert_eq!(proxy.take_requests(), Vec::<String>::new());
}

#[test]
fn untrusted_certificates_are_refused() {
    let dir = temp();
    let certificate = |name: &str| {
        let words = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout {name}.key -out {name}.pem"
        );
        tool("openssl").dir(dir.path()).args(words.split_whitespace()).ok();
    };
    certificate("good");
    certificate("other");
    fs::write(dir.path().join("file.txt"), "safe").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = format!("s_server -accept 127.0.0.1:{port} -cert good.pem -key good.key -WWW -quiet");
    let server = tool("openssl").dir(dir.path()).args(words.split_whitespace()).start();
    crate::support::wait_until("the server listens", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let store = Store::with_base();
    let context = add_context(&format!("https://localhost:{port}/file.txt /"));
    let with = |name: &str| store.build(&context).env("SSL_CERT_FILE", dir.path().join(name));
    with("other.pem").fails(1).says("the server's certificate is not trusted");
    store.build(&context).fails(1).says("SSL_CERT_FILE");
    with("good.pem").ok();
    assert_eq!(store.sh("cat /file.txt").stdout, "safe");
    drop(server);
}

/// Creates a repository `demo.git` in the directory, with the branches `main` and `other`, a light and an annotated
/// tag, a subdirectory and a link.
pub(crate) fn create_repositories(dir: &Path) {
    let script = "set -e; umask 022; git init -q -b main work; cd work; \
        git config user.name t; git config user.email t@example.com; mkdir sub; echo one > sub/file; echo top > top; \
        printf '#!/bin/sh\\n' > run; chmod +x run; ln -s /etc link; git add .; \
        GIT_COMMITTER_DATE='1000000000 +0000' git commit -qm one; git tag light; git tag -am note noted; \
        echo two > sub/file; git commit -qam two; git checkout -q -b other; echo other > top; git commit -qam other; \
        git update-ref refs/pull/7/head HEAD~1; git checkout -q main; cd ..; git clone -q --mirror work demo.git; \
        git -C demo.git config uploadpack.allowReachableSHA1InWant true";
    tool("sh").dir(dir).args(["-c", script]).env("HOME", dir).ok();
}

fn commit_id(dir: &Path, name: &str) -> String {
    tool("git")
        .dir(dir)
        .args(["-c", "safe.directory=*", "-C", "demo.git", "rev-parse", name])
        .ok()
        .stdout
        .trim()
        .to_owned()
}

#[test]
fn add_git_fetches_the_named_ref_or_commit() {
    let dir = temp();
    create_repositories(dir.path());
    let server = TestServer::new([], dir.path());
    let url = server.url("/git/demo.git");
    let store = Store::with_base();
    let first = commit_id(dir.path(), "light");
    let table = [
        (String::new(), "two top"),
        ("#other".to_owned(), "two other"),
        ("#light".to_owned(), "one top"),
        ("?tag=noted".to_owned(), "one top"),
        ("#refs/pull/7/head".to_owned(), "two top"),
        ("#pull/7/head".to_owned(), "two top"),
        (format!("#{first}"), "one top"),
        (format!("?ref=light&checksum={}", &first[..9]), "one top"),
        (format!("?fetch-by-commit=1&checksum={first}"), "one top"),
    ];
    for (what, expected) in &table {
        build_ok(&store, &add_context(&format!("{url}{what} /r")));
        assert_eq!(
            store.sh("cd /r; echo $(cat sub/file top); test ! -e .git").stdout,
            format!("{expected}\n"),
            "{what}"
        );
    }
    let seen = store.sh("cd /r; stat -c '%a %u:%g %n' sub run top; readlink link").stdout;
    assert_eq!(seen, "755 0:0 sub\n755 0:0 run\n644 0:0 top\n/etc\n");
    build_ok(&store, &add_context(&format!("{url}#main:sub /r")));
    assert_eq!(store.sh("ls -A /r").stdout, "file\n");
    // The same commit under another name is a cache hit.
    assert_eq!(build_ok(&store, &add_context(&format!("{url}?branch=main&subdir=/sub /r"))).steps(), (0, 1));
}

#[test]
fn missing_git_refs_and_directories_are_reported() {
    let dir = temp();
    create_repositories(dir.path());
    let server = TestServer::new([], dir.path());
    let url = server.url("/git/demo.git");
    let store = Store::with_base();
    let no_such = "f".repeat(40);
    let table = [
        ("#nothing".to_owned(), "has no `nothing`"),
        ("#main:nothing".to_owned(), "has no directory `nothing`"),
        ("#main:top".to_owned(), "has no directory `top`"),
        ("#main:link".to_owned(), "has no directory `link`"),
        ("?checksum=0123456".to_owned(), "not 0123456"),
        (format!("#{no_such}"), "has no `ffff"),
        ("?refs=x".to_owned(), "did you mean `ref`?"),
    ];
    for (what, expected) in table {
        let done = impatient_build(&store, &add_context(&format!("{url}{what} /r"))).end();
        assert!(matches!(done.code, 1 | 2), "{done}");
        done.says(expected);
    }
    impatient_build(&store, &add_context(&format!("{} /r", server.url("/git/none.git")))).fails(1).says("cannot reach");
    let path = dir.path().join("empty");
    fs::create_dir(&path).unwrap();
    impatient_build(&store, &add_context(&format!("{url} /r")))
        .env("PATH", path)
        .fails(1)
        .says("`git` is not installed");
}

#[test]
fn keep_git_dir_keeps_the_git_directory() {
    let dir = temp();
    create_repositories(dir.path());
    let server = TestServer::new([], dir.path());
    let store = Store::with_base();
    for what in ["--keep-git-dir=true {}", "{}?keep-git-dir"] {
        let url = server.url("/git/demo.git").replace("http://", "http://user:hidden@");
        build_ok(&store, &add_context(&format!("{} /r", what.replace("{}", &url))));
        let seen = store.sh("cat /r/.git/HEAD; grep url /r/.git/config; ls /r/.git/hooks 2>/dev/null || true");
        assert!(seen.stdout.starts_with(&commit_id(dir.path(), "main")), "{seen}");
        assert!(seen.stdout.contains("xxxxx:xxxxx@"), "{seen}");
    }
    assert!(tool("grep").args(["-r", "-l", "user:hidden"]).arg(store.path()).end().stdout.is_empty());
}

#[test]
fn submodules_are_fetched_and_hostile_submodule_urls_refused() {
    let dir = temp();
    create_repositories(dir.path());
    let server = TestServer::new([], dir.path());
    let secret = dir.path().join("demo.git");
    let script = |module: &str| {
        format!(
            "set -e; rm -rf w outer.git; git init -q -b main w; cd w; git config user.name t; \
             git config user.email t@example.com; git -c protocol.file.allow=always submodule --quiet add {} part; \
             git config -f .gitmodules submodule.part.url '{module}'; git add .; git commit -qm outer; cd ..; \
             git clone -q --mirror w outer.git",
            secret.display()
        )
    };
    let store = Store::with_base();
    let url = server.url("/git/outer.git");
    let remake = |module: &str| tool("sh").dir(dir.path()).args(["-c", &script(module)]).env("HOME", dir.path()).ok();
    remake("../demo.git");
    build_ok(&store, &add_context(&format!("{url} /r")));
    assert_eq!(store.sh("cat /r/part/top; ls -A /r/part").stdout, "top\nlink\nrun\nsub\ntop\n");
    build_ok(&store, &add_context(&format!("{url}?submodules=false /r")));
    assert_eq!(store.sh("ls -A /r/part").stdout, "");
    let mark = dir.path().join("mark");
    for module in [format!("file://{}", secret.display()), format!("ext::sh -c touch% {}", mark.display())] {
        remake(&module);
        impatient_build(&store, &add_context(&format!("{url} /r"))).fails(1).says("cannot fetch the submodules of");
    }
    assert!(!mark.exists());
}

/// A directory with a program `ssh` that notes the socket of its agent and its arguments in `called`.
fn recording_ssh() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = temp();
    let called = dir.path().join("called");
    let script = format!("#!/bin/sh\necho \"${{SSH_AUTH_SOCK-none}} $*\" >> {}\nexit 1\n", called.display());
    fs::write(dir.path().join("ssh"), script).unwrap();
    tool("chmod").arg("755").arg(dir.path().join("ssh")).ok();
    (dir, called)
}

/// Returns the search path with `dir` before the other directories.
fn search_path_with(dir: &Path) -> OsString {
    let mut path = dir.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    path
}

#[test]
fn git_by_ssh_gets_the_agent_only_with_the_ssh_option() {
    let (dir, called) = recording_ssh();
    let path = search_path_with(dir.path());
    let socket = dir.path().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let store = Store::with_base();
    let build = |words: &str| {
        let context = add_context(words);
        let build = store.build(&context).env("PATH", &path).env("SSH_AUTH_SOCK", &socket).env("HOME", dir.path());
        (build, context)
    };
    for source in ["git@127.0.0.1:team/private.git", "ssh://git@127.0.0.1/team/private.git", "SSH://127.0.0.1:22/x.git"]
    {
        let (bare, _context) = build(&format!("{source} /src"));
        bare.fails(1).says("gets no ssh agent and no keys by itself").says("--ssh default").says("Dockerfile:2:5");
        assert!(!called.exists(), "{source}: ssh was started");
        // Another agent than the default one is for `RUN --mount=type=ssh,id=other`.
        let (other, _context) = build(&format!("{source} /src"));
        other.arg("--ssh").arg(format!("other={}", socket.display())).fails(1).says("--ssh default");
        assert!(!called.exists(), "{source}: ssh was started");
        let (given, _context) = build(&format!("{source} /src"));
        given.args(["--ssh", "default"]).fails(1).says("cannot reach");
        let call = fs::read_to_string(&called).unwrap();
        assert!(call.starts_with(&format!("{} -F /dev/null", socket.display())), "{call}");
        assert!(call.contains("-o IdentityFile=none"), "{call}");
        fs::remove_file(&called).unwrap();
    }
    // A build context is named by the user and not by a Dockerfile: it gets the running agent, as with `docker buildx`.
    let remote = store.dram(["build", "git@127.0.0.1:team/private.git"]).env("PATH", &path);
    remote.env("SSH_AUTH_SOCK", &socket).fails(1).says("cannot reach");
    assert!(fs::read_to_string(&called).unwrap().starts_with(&format!("{} ", socket.display())));
    let remote = store.dram(["build", "git@127.0.0.1:team/private.git"]).env("PATH", &path);
    remote.without("SSH_AUTH_SOCK").fails(1).says("--ssh default");
}

#[test]
fn submodules_by_ssh_get_no_agent_of_a_repository_without_ssh() {
    let (dir, called) = recording_ssh();
    create_repositories(dir.path());
    let script = "set -e; git init -q -b main w; cd w; git config user.name t; git config user.email t@example.com; \
        git -c protocol.file.allow=always submodule --quiet add \"$PWD/../demo.git\" part; \
        git config -f .gitmodules submodule.part.url git@127.0.0.1:x.git; git add .; git commit -qm outer; cd ..; \
        git clone -q --mirror w outer.git";
    tool("sh").dir(dir.path()).args(["-c", script]).env("HOME", dir.path()).ok();
    let server = TestServer::new([], dir.path());
    let path = search_path_with(dir.path());
    let socket = dir.path().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let store = Store::with_base();
    let context = add_context(&format!("{} /r", server.url("/git/outer.git")));
    let build = store.build(&context).env("PATH", path).env("SSH_AUTH_SOCK", &socket).args(["--ssh", "default"]);
    build.fails(1).says("cannot fetch the submodules of");
    assert!(!called.exists());
}

/// The user's settings hold passwords for any host; `git` gets none of them.
#[test]
fn git_gets_no_credentials_of_the_user() {
    let dir = temp();
    let mark = dir.path().join("mark");
    let helper = dir.path().join("helper");
    fs::write(&helper, format!("#!/bin/sh\ntouch {}\necho password=hidden\n", mark.display())).unwrap();
    tool("chmod").arg("755").arg(&helper).ok();
    let config = format!("[credential]\n\thelper = {0}\n[core]\n\taskPass = {0}\n", helper.display());
    fs::write(dir.path().join(".gitconfig"), &config).unwrap();
    fs::create_dir_all(dir.path().join("xdg/git")).unwrap();
    fs::write(dir.path().join("xdg/git/config"), &config).unwrap();
    let server = TestServer::files(
        ["/file", "/x.git/info/refs"].map(|path| (path, CannedResponse::ForAuthorization("Basic dTpoaWRkZW4="))),
    );
    let host = server.host();
    let name = host.split(':').next().unwrap();
    fs::write(dir.path().join(".netrc"), format!("machine {name} login u password hidden\n")).unwrap();
    fs::write(dir.path().join(".git-credentials"), format!("http://u:hidden@{host}\n")).unwrap();
    let store = Store::with_base();
    for words in [format!("{} /r", server.url("/x.git")), format!("{} /r", server.url("/file"))] {
        let context = add_context(&words);
        let build =
            impatient_build(&store, &context).env("HOME", dir.path()).env("XDG_CONFIG_HOME", dir.path().join("xdg"));
        let build = build.env("GIT_ASKPASS", &helper).env("SSH_ASKPASS", &helper).env("GIT_CONFIG_COUNT", "1");
        build.env("GIT_CONFIG_KEY_0", "credential.helper").env("GIT_CONFIG_VALUE_0", &helper).fails(1);
        assert!(!mark.exists(), "{words}: a helper was asked");
    }
}

#[test]
fn content_disposition_does_not_name_the_file() {
    let plain = http_response("200 OK", "Content-Disposition: attachment; filename=\"../../evil\"\r\n", b"x");
    let server = TestServer::files([("/name", CannedResponse::Raw(plain))]);
    let store = Store::with_base();
    build_ok(&store, &add_context(&format!("{} /d/", server.url("/name"))));
    assert_eq!(store.sh("ls /d").stdout, "name\n");
}
