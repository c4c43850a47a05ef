//! Rootless builds and runs, with subordinate ids.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{BASE, CommandOutput, Context, Store, User, base_tar, temp, tool, valid_image};

/// A user with subordinate ids in /etc/subuid and /etc/subgid.
const SUBID_USER: &str = "dramtest";

/// Returns the user with subordinate ids, created if missing.
pub(crate) fn user_with_subids() -> User {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(make_user);
    account(SUBID_USER, Path::new("/nonexistent"))
}

fn make_user() {
    if tool("id").arg(SUBID_USER).end().code != 0 {
        tool("useradd").args(["--user-group", "--no-create-home", SUBID_USER]).ok();
    }
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let lines = fs::read_to_string(file).unwrap_or_default();
        if !lines.lines().any(|line| line.starts_with(&format!("{SUBID_USER}:"))) {
            tool("usermod").args([option, "1000000-1065535", SUBID_USER]).ok();
        }
    }
}

fn account(name: &str, home: &Path) -> User {
    let id = |which| tool("id").args([which, name]).ok().stdout.trim().parse().unwrap();
    User { uid: id("-u"), gid: id("-g"), home: home.to_owned() }
}

/// Returns a user without subordinate ids.
pub(crate) fn user_without_subids() -> User {
    let lines = fs::read_to_string("/etc/subuid").unwrap_or_default();
    assert!(!lines.lines().any(|line| line.starts_with("nobody:")), "nobody must not be in /etc/subuid");
    account("nobody", Path::new("/nonexistent"))
}

pub(crate) fn with_base(user: &User) -> Store {
    let store = Store::for_user(user);
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    store
}

/// Returns stores with the base image: of root, of a user with subordinate ids, and of one with a single id.
pub(crate) fn stores_of_all_users() -> [Store; 3] {
    [Store::with_base(), with_base(&user_with_subids()), with_base(&user_without_subids())]
}

/// Several owners, modes, links, stages and users.
const OWNERS: &str = "\
FROM parity-base AS made
COPY --chown=1000:50 file /by/number
COPY --chown=app:staff --chmod=2750 dir /by/name/
RUN id > /id; mkdir -m 1777 /shared; echo x > /shared/x; chown 65534:65533 /shared/x; chmod 4755 /shared/x; ln /shared/x /y
RUN rm -r /usr/share/base/deep; ln -s /y /usr/share/base/deep; chown -h 7:8 /usr/share/base/deep; mkfifo /fifo
USER app
RUN id > /tmp/id; touch /tmp/mine; rm /home/app/nothing 2> /dev/null || true
USER 4321:1234
RUN id > /tmp/numbers; touch /tmp/nobodys
FROM parity-base
COPY --from=made /by /by
COPY --from=made /tmp /seen
COPY --from=made --chown=other /y /shared/ /other/
COPY --from=made / /all/
USER other
WORKDIR /home/other
RUN echo $HOME > /tmp/home
CMD id
";

fn owners_context() -> Context {
    Context::new(OWNERS).file("file", "1\n").file("dir/a", "a\n").file("dir/b/c", "c\n")
}

#[test]
fn a_rootless_build_gives_the_digest_that_root_gets() {
    let (of_root, of_user, context) = (Store::with_base(), with_base(&user_with_subids()), owners_context());
    assert_eq!(of_user.digest(BASE), of_root.digest(BASE));
    let by_user = of_user.build(&context).at_time_0().ok();
    assert_eq!(by_user.steps(), (12, 0), "{by_user}");
    assert_eq!(by_user.digest(), of_root.build(&context).at_time_0().ok().digest());
    let again = of_user.build(&context).at_time_0().ok();
    assert_eq!((again.steps(), again.digest()), ((0, 12), by_user.digest()), "{again}");
    valid_image(&of_user, "demo:latest");
    valid_image(&of_root, "demo:latest");
}

/// Every type of mount.
const MOUNTS: &str = "\
FROM parity-base AS files
RUN mkdir /d; echo staged > /d/f
FROM parity-base
RUN --mount=type=bind,target=/ctx --mount=type=bind,from=files,source=/d,target=/staged,rw \\
    --mount=type=bind,from=named,source=n,target=/named \\
    --mount=type=cache,target=/cache,from=files,source=/d --mount=type=cache,id=own,target=/own,mode=0700 \\
    --mount=type=secret,id=s,target=/secret --mount=type=secret,id=s,env=S --mount=type=ssh \\
    --mount=type=tmpfs,target=/mem,size=1m <<END
set -e
cat /ctx/file /staged/f /named /cache/f /secret > /out
echo \" $S\" >> /out
stat -c %a /own /secret >> /out
test -S $SSH_AUTH_SOCK
echo x > /staged/new; echo x > /mem/x; echo kept > /own/log
touch /ctx/new 2> /dev/null && exit 7
touch /named 2> /dev/null && exit 8
! dd if=/dev/zero of=/mem/big bs=1M count=2 2> /dev/null
END
RUN --mount=type=cache,id=own,target=/own,mode=0700 cat /own/log >> /out
RUN for path in /ctx /staged /named /cache /own /secret /mem /run/buildkit; do test ! -e $path || echo $path >> /out; done
";

#[test]
fn every_mount_type_works_rootless() {
    let dir = temp();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = dir.path().join("agent");
    let _agent = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let context = Context::new(MOUNTS).file("file", "context\n");
    let named = Context::new("").file("n", "named\n");
    let mut digests = Vec::new();
    for store in [Store::with_base(), with_base(&user_with_subids()), with_base(&user_without_subids())] {
        let build = store.build(&context).args(["--secret", "id=s,env=WORD"]).env("WORD", "secret");
        let build = build.arg("--build-context").arg(format!("named={}", named.path().display()));
        let done = build.arg("--ssh").arg(format!("default={}", socket.display())).at_time_0().ok();
        let seen = store.sh("cat /out").stdout;
        assert_eq!(seen, "context\nstaged\nnamed\nstaged\nsecret secret\n700\n400\nkept\n");
        valid_image(&store, "demo:latest");
        digests.push(done.digest());
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_rootless_run_can_use_every_id_of_the_image() {
    let store = with_base(&user_with_subids());
    store.build(&owners_context()).ok();
    let said = |words: &[&str]| store.dram(["run"]).args(words).ok().stdout;
    assert_eq!(said(&["demo"]), "uid=1001(other) gid=50(staff) groups=50(staff)\n");
    assert_eq!(said(&["-u", "0", "demo", "id", "-u"]), "0\n");
    assert_eq!(said(&["-u", "4321:99", "demo", "sh", "-c", "id -u; id -g; pwd"]), "4321\n99\n/home/other\n");
    let stat = "stat -c '%a %u:%g' /by/number /by/name /by/name/b/c /seen/mine /seen/nobodys";
    assert_eq!(
        said(&["demo", "sh", "-c", stat]),
        "644 1000:50\n2750 1000:50\n2750 1000:50\n644 1000:1000\n644 4321:1234\n"
    );
    let own = "touch /tmp/x; stat -c %u /tmp/x; touch /x 2> /dev/null || echo refused";
    assert_eq!(said(&["demo", "sh", "-c", own]), "1001\nrefused\n");
    assert_eq!(store.dram(["run", "demo", "sh", "-c", "exit 7"]).end().code, 7);
}

#[test]
fn save_load_and_prune_work_rootless() {
    let (user, out) = (user_with_subids(), temp());
    let (store, other, of_root) = (with_base(&user), Store::for_user(&user), Store::empty());
    tool("chown").arg(user.uid.to_string()).arg(out.path()).ok();
    store.build(&owners_context()).ok();
    let tar = out.path().join("demo.tar");
    store.dram(["save", "-o"]).arg(&tar).arg("demo").ok();
    for other in [&other, &of_root] {
        other.dram(["load"]).arg(&tar).ok();
        assert_eq!(other.digest("demo"), store.digest("demo"));
        assert_eq!(other.dram(["run", "demo", "id", "-u"]).ok().stdout, "1001\n");
        valid_image(other, "demo:latest");
    }
    store.dram(["rm", "demo"]).ok();
    store.dram(["prune", "--all"]).ok();
    // Files owned by subordinate ids are removed too.
    assert_eq!(fs::read_dir(store.join("subordinate/layers")).unwrap().count(), 0);
    store.dram(["run", BASE, "true"]).ok();
}

#[test]
fn files_in_a_volume_of_a_rootless_run_belong_to_the_user() {
    let (user, shared) = (user_with_subids(), temp());
    let store = with_base(&user);
    tool("chown").arg(format!("{}:{}", user.uid, user.gid)).arg(shared.path()).ok();
    let volume = format!("{}:/here", shared.path().display());
    store.dram(["run", "-v", &volume, BASE, "sh", "-c", "stat -c %u /here; echo x > /here/file"]).ok();
    let made = tool("stat").args(["-c", "%u:%g"]).arg(shared.path().join("file")).ok().stdout;
    assert_eq!(made, format!("{}:{}\n", user.uid, user.gid));
}

/// Returns the rows of `dram doctor`: name and state.
pub(crate) fn doctor_rows(doctor: &CommandOutput) -> Vec<(String, String)> {
    let states = ["ok", "limited", "MISSING"];
    let row = |line: &str| {
        let at = states.iter().find_map(|state| line.find(&format!("  {state}  ")).map(|at| (at, *state)));
        at.map(|(at, state)| (line[..at].trim().to_owned(), state.to_owned()))
    };
    doctor.stdout.lines().filter_map(row).collect()
}

#[test]
fn doctor_reports_ok_for_root_and_for_subordinate_ids() {
    let common = [
        "COPY, ADD, WORKDIR",
        "RUN, dram run",
        "kernel",
        "files of the host",
        "processes and threads",
        "system call filter",
    ];
    let for_users = ["user namespaces", "ids for other users"];
    let last = ["namespaces", "system calls", "overlay file system", "proc file system", "network namespaces"];
    let all_ok =
        |names: Vec<&str>| names.into_iter().map(|name| (name.to_owned(), "ok".to_owned())).collect::<Vec<_>>();
    let of_root = Store::empty().dram(["doctor"]).ok();
    assert_eq!(doctor_rows(&of_root), all_ok([&common[..], &last].concat()), "{of_root}");
    let of_user = Store::for_user(&user_with_subids()).dram(["doctor"]).ok();
    assert_eq!(doctor_rows(&of_user), all_ok([&common[..], &for_users, &last].concat()), "{of_user}");
}

#[test]
fn images_are_managed_without_subordinate_ids() {
    let (user, out) = (user_without_subids(), temp());
    let (store, of_root) = (with_base(&user), Store::with_base());
    assert_eq!(store.digest(BASE), of_root.digest(BASE));
    assert!(store.dram(["images"]).ok().stdout.contains(BASE));
    store.dram(["history", BASE]).ok();
    store.dram(["tag", BASE, "again"]).ok();
    tool("chown").arg(user.uid.to_string()).arg(out.path()).ok();
    let tar = save_archive(&store, out.path());
    of_root.dram(["load"]).arg(&tar).ok();
    store.dram(["rm", "again"]).ok();
    store.dram(["load"]).arg(&tar).ok();
    assert_eq!(store.digest("again"), of_root.digest("again"));
    store.dram(["prune", "--all"]).ok();
    valid_image(&store, "again:latest");
}

fn save_archive(store: &Store, dir: &Path) -> PathBuf {
    let tar = dir.join("again.tar");
    store.dram(["save", "-o"]).arg(&tar).arg("again").ok();
    tar
}

#[test]
fn a_store_of_another_user_is_refused() {
    let store = Store::with_base();
    let theirs = Store::for_user(&user_with_subids());
    let done = theirs.dram(["images", "--store"]).arg(store.path()).fails(1);
    done.says(&store.path().display().to_string()).says("ermission denied").does_not_say("panick");
}

#[test]
fn an_unreadable_file_of_the_context_is_named_with_the_way_out() {
    let store = with_base(&user_without_subids());
    for unreadable in ["secret", "dir", "."] {
        let context = Context::new("FROM parity-base\nCOPY . /all/\n").file("secret", "x").file("dir/file", "x");
        fs::set_permissions(context.join(unreadable), fs::Permissions::from_mode(0o700)).unwrap();
        let refused = store.build(&context).fails(1).says("let this user read it").does_not_say("store");
        assert!(refused.stderr.contains("Permission denied"), "{unreadable}: {refused}");
        assert!(unreadable == "." || refused.stderr.contains(&format!("/{unreadable}")), "{unreadable}: {refused}");
    }
    let context =
        Context::new("FROM parity-base\nCOPY . /all/\n").file("secret", "x").file(".dockerignore", "secret\n");
    fs::set_permissions(context.join("secret"), fs::Permissions::from_mode(0o700)).unwrap();
    store.build(&context).ok();
}
