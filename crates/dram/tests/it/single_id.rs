//! Builds with a single id, and without user namespaces: ownership that the disk cannot hold is recorded beside the
//! layers.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use tempfile::TempDir;

use crate::rootless::{doctor_rows, user_without_subids, with_base};
use crate::support::{BASE, CommandOutput, Context, Store, TestCommand, base_tar, dram_path, temp, tool, valid_image};

/// Owners by name and by id, an archive with everything that an unprivileged user cannot create, and users.
const FILES: &str = "\
FROM parity-base AS made
COPY --chown=1000:50 file /by/number
COPY --chown=app:staff --chmod=2750 dir /by/name/
ADD all.tar /all/
USER other
WORKDIR /home/w
FROM parity-base
COPY --from=made /by /by
COPY --from=made --chown=7:8 /all/d /given/
COPY --from=made / /everything/
USER app
WORKDIR /srv/x
CMD [\"id\"]
";

fn files(dockerfile: &str) -> Context {
    let context = Context::new(dockerfile).file("file", "1\n").file("dir/a", "a\n").file("dir/b/c", "c\n");
    let tree = temp();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir(at("d")).unwrap();
    for (name, mode, (uid, gid)) in [
        ("secret", 0o000, (12, 34)),
        ("set", 0o4711, (0, 42)),
        ("d/file", 0o640, (3_000_000, 5)),
        ("cap", 0o755, (0, 0)),
    ] {
        fs::write(at(name), name).unwrap();
        chown(at(name), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::hard_link(at("set"), at("again")).unwrap();
    symlink("set", at("link")).unwrap();
    tool("chown").args(["-h", "5:6"]).arg(at("link")).ok();
    tool("mknod").arg(at("null")).args(["c", "1", "3"]).ok();
    tool("mknod").arg(at("d/disk")).args(["b", "7", "0"]).ok();
    tool("mkfifo").arg(at("pipe")).ok();
    tool("setcap").arg("cap_net_raw+ep").arg(at("cap")).ok();
    chown(at("d"), Some(77), Some(78)).unwrap();
    fs::set_permissions(at("d"), Permissions::from_mode(0o555)).unwrap();
    let tar = tool("tar").arg("-C").arg(tree.path()).args(["--xattrs", "--xattrs-include=*", "-cf"]);
    tar.arg(context.join("all.tar")).arg(".").ok();
    fs::set_permissions(context.join("all.tar"), Permissions::from_mode(0o644)).unwrap();
    context
}

/// Wraps the command so that it cannot create user namespaces and has no capabilities.
fn without_namespaces(dram: TestCommand) -> TestCommand {
    let user = user_without_subids();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces || exit 99; \
                  exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"";
    let (uid, gid) = (format!("--reuid={}", user.uid), format!("--regid={}", user.gid));
    let outer = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c", script, "sh"];
    dram.run_under("setpriv", &[&[uid.as_str(), &gid, "--clear-groups"][..], &outer].concat())
}

#[test]
fn a_single_id_build_gives_the_digest_that_root_gets() {
    let (of_root, of_user, context) = (Store::with_base(), with_base(&user_without_subids()), files(FILES));
    let by_user = of_user.build(&context).at_time_0().ok().does_not_say("single id");
    assert_eq!(by_user.steps(), (8, 0), "{by_user}");
    assert_eq!(by_user.digest(), of_root.build(&context).at_time_0().ok().digest());
    let again = of_user.build(&context).at_time_0().ok();
    assert_eq!((again.steps(), again.digest()), ((0, 8), by_user.digest()), "{again}");
    valid_image(&of_user, "demo:latest");
    let table = fs::read_dir(of_user.join("single/layers")).unwrap().map(|entry| entry.unwrap().path());
    let tables: Vec<String> =
        table.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(tables.iter().any(|table| table.contains("all/d/disk - - b7:0 -\n")), "{tables:?}");
    of_user.dram(["prune", "--all"]).ok();
    assert_eq!(fs::read_dir(of_user.join("single/layers")).unwrap().count(), 0);
}

#[test]
fn a_build_without_user_namespaces_gives_the_digest_that_root_gets() {
    let (of_root, store, context) = (Store::with_base(), Store::for_user(&user_without_subids()), files(FILES));
    let dram = |words: &[&str]| without_namespaces(store.dram([]).args(words));
    dram(&["import"]).arg(base_tar()).arg(BASE).ok();
    let built = without_namespaces(store.build(&context).at_time_0()).ok();
    assert_eq!(built.digest(), of_root.build(&context).at_time_0().ok().digest());
    let again = without_namespaces(store.build(&context).at_time_0()).ok();
    assert_eq!((again.steps(), again.digest()), ((0, 8), built.digest()), "{again}");
    assert!(dram(&["images"]).ok().stdout.contains("demo"));
    let tar = store.path().with_file_name("demo.tar");
    dram(&["save", "-o"]).arg(&tar).arg("demo").ok();
    dram(&["rm", "demo"]).ok();
    dram(&["load"]).arg(&tar).ok();
    assert_eq!(store.digest("demo"), of_root.digest("demo"));
    valid_image(&store, "demo:latest");
    dram(&["prune", "--all"]).ok();
    assert_eq!(fs::read_dir(store.join("unprivileged/layers")).unwrap().count(), 0);
}

#[test]
fn run_without_user_namespaces_is_refused_before_any_step() {
    let store = Store::for_user(&user_without_subids());
    without_namespaces(store.dram(["import"])).arg(base_tar()).arg(BASE).ok();
    let context = files("FROM parity-base\nCOPY file /\nRUN true\n");
    let build = without_namespaces(store.build(&context)).fails(3);
    let build =
        build.says("Dockerfile:3:1").says("user.max_user_namespaces = 0").says("sysctl -w").does_not_say("COPY");
    build.says("dram doctor");
    assert!(!store.join("unprivileged/layers").read_dir().unwrap().any(|_| true), "something was executed");
    let run = without_namespaces(store.dram(["run", BASE, "true"])).fails(3);
    run.says("user.max_user_namespaces = 0").says("sysctl -w");
    let doctor = without_namespaces(store.dram(["doctor"])).fails(3);
    for row in [("COPY, ADD, WORKDIR", "ok"), ("RUN, dram run", "MISSING"), ("user namespaces", "MISSING")] {
        assert!(doctor_rows(&doctor).contains(&(row.0.to_owned(), row.1.to_owned())), "{doctor}");
    }
}

/// Commands that change no owner, in an image with several owners.
const COMMANDS: &str = "\
FROM parity-base
COPY --chown=app:staff dir /mine/
RUN echo more >> /mine/a; mkdir /new; touch /new/file /mine/new; rm /usr/share/base/one; rm -r /mine/b; mkdir /mine/b
USER app
WORKDIR /home/app/work
RUN echo x > file; mkdir -p a/b; echo y > /tmp/y; ln -s file link; echo z >> /mine/a
";

#[test]
fn files_created_with_a_single_id_have_the_owners_that_root_gives() {
    let (of_root, of_user, context) = (Store::with_base(), with_base(&user_without_subids()), files(COMMANDS));
    let by_user = of_user.build(&context).at_time_0().ok();
    let by_user =
        by_user.says("single id").says("/etc/subuid").says("usermod --add-subuids").says("`USER app` ran as root");
    let list = "cd /; find mine new usr/share/base home tmp -exec stat -c '%n %F %a %u:%g' {} +";
    let by_root = of_root.build(&context).at_time_0().ok();
    let said = |store: &Store| store.dram(["run", "-u", "0", "demo", "sh", "-c", list]).ok().stdout;
    // Compared in root's store, which shows the owners of the image and not those of the single id.
    let (tar, seen) = (of_user.path().with_file_name("demo.tar"), Store::empty());
    of_user.dram(["save", "-o"]).arg(&tar).arg("demo").ok();
    seen.dram(["load"]).arg(&tar).ok();
    assert_eq!(said(&seen), said(&of_root));
    assert_eq!(by_user.digest(), by_root.digest());
    valid_image(&of_user, "demo:latest");
}

/// Changes of ownership in every way that there is.
const GIVEN: &str = "\
FROM parity-base
COPY dir /srv/
COPY --chown=app:staff dir /again/
RUN sed -i s/a/x/ /again/a && chown 0:0 /again/b/c && chown root:root /again
RUN chown -R 5:6 /srv && chgrp staff /tmp && chown app /usr/share/base/two && cd /usr/share && chown :8 base/deep/er
RUN mkdir -m 2775 /shared && touch /shared/new /shared/set && chown app:staff /shared /shared/new && mv /shared/new /shared/kept \\
 && chown 3:4 /shared/set && chmod 6755 /shared/set && ln /shared/set /set && cp -p /bin/busybox /own && chmod u+s /own && chown 9 /own \\
 && chown 1:1 /shared/nothing 2> /dev/null; install -o 70 -g 80 -m 750 /etc/base.conf /etc/installed; ln -s /etc/passwd /link && chown 11 /link
";

#[test]
fn chown_with_a_single_id_is_recorded_in_the_layer() {
    let (of_root, of_user, context) = (Store::with_base(), with_base(&user_without_subids()), files(GIVEN));
    let by_user = of_user.build(&context).at_time_0().ok().says("single id");
    let by_root = of_root.build(&context).at_time_0().ok();
    let list = "cd /; find srv tmp usr shared set own etc link -exec stat -c '%n %F %a %u:%g %h' {} +";
    let said = |store: &Store| store.dram(["run", "-u", "0", "demo", "sh", "-c", list]).ok().stdout;
    let (tar, seen) = (of_user.path().with_file_name("demo.tar"), Store::empty());
    of_user.dram(["save", "-o"]).arg(&tar).arg("demo").ok();
    seen.dram(["load"]).arg(&tar).ok();
    assert_eq!(said(&seen), said(&of_root));
    assert_eq!(by_user.digest(), by_root.digest());
}

#[test]
fn chown_mknod_and_su_succeed_with_a_single_id() {
    let store = with_base(&user_without_subids());
    let script = "chown -R 5:6 /srv && mknod /dev0 c 1 3 && chgrp staff /tmp && su app -c 'touch /tmp/by-app' \
                  && chown -h 7 /bin/sh && id -u && mkfifo /fifo";
    let context =
        Context::new(&format!("FROM parity-base\nRUN {script}\nUSER 4321:99\nRUN id -u && touch /tmp/mine\n"));
    let built = store.build(&context).ok();
    assert_eq!(built.stderr.matches("| 0\n").count(), 2, "{built}");
    built.says("commands saw all files as root's").says("`USER 4321:99` ran as root");
    let said = |words: &[&str]| store.dram(["run"]).args(words).ok();
    let shown = said(&["demo", "sh", "-c", "id -u; stat -c %u:%g /srv /tmp/mine; ls /dev0 /fifo 2> /dev/null; true"]);
    assert_eq!(shown.stdout, "0\n0:0\n0:0\n/fifo\n");
    shown.says("runs as root instead of `4321:99`");
    said(&["-u", "0", "demo", "true"]).does_not_say("runs as root");
}

#[test]
fn doctor_reports_a_single_id_as_limited() {
    let doctor = Store::for_user(&user_without_subids()).dram(["doctor"]).ok();
    for row in [("COPY, ADD, WORKDIR", "ok"), ("RUN, dram run", "limited"), ("ids for other users", "limited")] {
        assert!(doctor_rows(&doctor).contains(&(row.0.to_owned(), row.1.to_owned())), "{doctor}");
    }
    assert!(doctor.stdout.contains("/etc/subuid") && doctor.stdout.contains("uidmap"), "{doctor}");
}

/// A container with a seccomp filter as Docker applies it to unprivileged containers.
struct FilteredContainer(TempDir);

impl FilteredContainer {
    fn new(context: &Context) -> FilteredContainer {
        let dir = temp();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("root")).unwrap();
        tool("tar").arg("-C").arg(at("root")).arg("-xf").arg(base_tar()).ok();
        fs::copy(dram_path(), at("root/dram")).unwrap();
        fs::copy(base_tar(), at("root/base.tar")).unwrap();
        tool("cp").arg("-r").arg(context.path()).arg(at("root/context")).ok();
        fs::write(at("filter.json"), seccomp_profile()).unwrap();
        FilteredContainer(dir)
    }

    fn sh(&self, user: &str, script: &str) -> CommandOutput {
        let at = |name: &str| self.0.path().join(name);
        let podman = tool("podman").arg("--root").arg(at("images")).arg("--runroot").arg(at("run"));
        let podman = podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        let podman = podman.args(["run", "--rm", "--network", "host", "--ulimit", "nofile=1024:1024"]);
        let filter = format!("seccomp={}", at("filter.json").display());
        let podman = podman.args(["--ulimit", "nproc=1000:1000", "--security-opt", &filter, "--user", user]);
        podman.args(["-e", "DRAM_STORE=/tmp/store", "--rootfs"]).arg(at("root")).args(["sh", "-c", script]).end()
    }
}

impl Drop for FilteredContainer {
    fn drop(&mut self) {
        tool("umount").arg(self.0.path().join("images/overlay")).end();
    }
}

/// Returns a seccomp profile that forbids the calls that Docker's default profile reserves for `CAP_SYS_ADMIN`, as far
/// as they matter here.
fn seccomp_profile() -> String {
    let refused = |name: &str| format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_ERRNO","errnoRet":1}}"#);
    let calls = ["unshare", "mount", "umount2", "setns", "pivot_root", "fsopen", "fsconfig", "fsmount", "open_tree"];
    let mut rules: Vec<String> =
        calls.iter().chain(&["move_mount", "mount_setattr"]).map(|call| refused(call)).collect();
    rules.push(r#"{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}"#.to_owned());
    for flag in [0x2_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        let argument = format!(r#"[{{"index":0,"value":{flag},"valueTwo":{flag},"op":"SCMP_CMP_MASKED_EQ"}}]"#);
        let rule = format!(r#"{{"names":["clone"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":{argument}}}"#);
        rules.push(rule);
    }
    format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}}"#, rules.join(","))
}

fn assert_builds_in_a_filtered_container(user: &str) {
    let (of_root, context) = (Store::with_base(), files(FILES));
    context.write("run.dockerfile", "FROM parity-base\nCOPY file /\nRUN true\n");
    let container = FilteredContainer::new(&context);
    fs::create_dir(container.0.path().join("root/tmp/store")).unwrap();
    tool("chmod").arg("777").arg(container.0.path().join("root/tmp/store")).ok();
    let built = container.sh(
        user,
        "/dram import /base.tar parity-base && SOURCE_DATE_EPOCH=0 /dram build --progress quiet -t demo /context && /dram images",
    );
    assert_eq!(built.code, 0, "{built}");
    assert!(built.stdout.contains(&of_root.build(&context).at_time_0().ok().digest()), "{built}");
    let refused = container.sh(user, "/dram build -f /context/run.dockerfile /context");
    assert_eq!(refused.code, 3, "{refused}");
    refused.says("run.dockerfile:3:1").says("system call filter of this container forbids unshare(CLONE_NEWUSER)");
    let doctor = container.sh(user, "/dram doctor");
    assert_eq!(doctor.code, 3, "{doctor}");
    assert!(doctor_rows(&doctor).contains(&("COPY, ADD, WORKDIR".to_owned(), "ok".to_owned())), "{doctor}");
}

#[test]
fn a_user_in_a_seccomp_filtered_container_builds_without_run() {
    assert_builds_in_a_filtered_container("1000:1000");
}

#[test]
fn root_in_a_seccomp_filtered_container_builds_without_run() {
    assert_builds_in_a_filtered_container("0:0");
}

/// Without filters and masked paths, root in a container works like root on the host.
#[test]
fn root_without_cap_sys_admin_builds_in_a_user_namespace() {
    let (of_root, store) = (Store::with_base(), Store::with_base());
    let context =
        files(&FILES.replace("USER app\n", "RUN chown 5:6 /srv && mkdir /m && chown app /m\nUSER app\nRUN id\n"));
    let weak = |dram: TestCommand| dram.run_under("setpriv", &["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    let doctor = weak(store.dram(["doctor"])).ok();
    assert!(doctor.stdout.contains("in a user namespace with 4294967294 ids"), "{doctor}");
    let built = weak(store.build(&context).at_time_0()).ok().does_not_say("single id");
    assert_eq!(built.digest(), of_root.build(&context).at_time_0().ok().digest());
    assert!(Path::new(&store.join("subordinate/layers")).is_dir());
}
