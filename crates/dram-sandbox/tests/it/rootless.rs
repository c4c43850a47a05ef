//! Rootless execution, as user `dramtest`, which is created if it does not exist.

use crate::fixture::{JailFixture, PROBE, copy_program, run_through_probe};
use dram_sandbox::{Jail, JailMount, JailNetwork, MemoryFile, UserIds};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

static USER: Once = Once::new();

fn user() -> String {
    USER.call_once(|| {
        let exists = || Command::new("id").arg("dramtest").output().unwrap().status.success();
        if !exists() {
            assert!(Command::new("useradd").arg("dramtest").status().unwrap().success());
        }
        let lent = fs::read_to_string("/etc/subuid").unwrap_or_default();
        assert!(lent.contains("dramtest:"), "the tests need a range for dramtest in /etc/subuid");
    });
    let output = Command::new("id").args(["-u", "dramtest"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Gives the fixture and a copy of the probe to the user.
fn give_to_user(house: &JailFixture) -> String {
    let probe = house.dir.join("probe");
    copy_program(Path::new(PROBE), &probe);
    fs::set_permissions(&house.dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("chown").args(["-R", "dramtest:"]).arg(&house.dir).status().unwrap().success());
    probe.to_str().unwrap().to_owned()
}

pub(crate) fn run_as(house: &JailFixture, jail: &Jail, before: &[&str]) -> (i32, String) {
    user();
    let probe = give_to_user(house);
    // `env -i` executes the copy of the probe, with an empty environment.
    let words: Vec<&str> = before.iter().copied().chain(["/usr/bin/env", "-i", &probe]).collect();
    let file = house.dir.join("jail.json");
    fs::write(&file, serde_json::to_vec(jail).unwrap()).unwrap();
    let output = Command::new(words[0]).args(&words[1..]).arg(&file).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
}

pub(crate) const AS_USER: [&str; 4] = ["setpriv", "--reuid=dramtest", "--regid=dramtest", "--init-groups"];

#[test]
fn a_rootless_command_changes_owners_and_removes_files() {
    let house = JailFixture::bare_image();
    let mut jail = house.shell_jail(
        "id -u; echo hi > /hi; touch /other; chown 1000:1001 /other; stat -c %u:%g /other; rm /bin/vi; mkdir -p /a/b; \
         rm -rf /bin/ar; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp:)' /proc/self/status; echo x > /dev/null; cat /etc/hosts",
    );
    jail.no_new_privs = true;
    jail.mounts = vec![JailMount::File(MemoryFile::new("/etc/hosts", "shown\n"))];
    let (code, said) = run_as(&house, &jail, &AS_USER);
    assert_eq!(code, 0, "{said}");
    let caps = "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(said, format!("0\n1000:1001\n{caps}shown\n"));
    assert_eq!(house.changed_paths(), ["/a", "/a/b", "/bin", "/bin/ar", "/bin/vi", "/hi", "/other"]);
}

#[test]
fn a_rootless_command_can_run_as_another_id_with_the_host_network() {
    let house = JailFixture::with_mount_points();
    let mut jail = house
        .shell_jail("id -u; id -G; ls -d /sys/class/net; mkdir /sys/fs/cgroup/x 2>&1 | grep -c -E 'Read-only|denied'");
    jail.network = JailNetwork::Host;
    jail.no_new_privs = true;
    jail.user = UserIds { uid: 1000, gid: 1000, groups: vec![1000, 2000] };
    let (code, said) = run_as(&house, &jail, &AS_USER);
    assert_eq!((code, said.as_str()), (0, "1000\n1000 2000\n/sys/class/net\n1\n"));
}

#[test]
fn without_subordinate_ids_there_is_a_single_id() {
    let house = JailFixture::bare_image();
    let mut jail = house.shell_jail(
        "id -u; echo hi > /hi; chown 1:2 /hi && stat -c %u:%g /hi; mknod /null c 1 3 && ls /null 2> /dev/null; \
                     mknod /pipe p && ls /pipe; cat /proc/self/uid_map | wc -l",
    );
    jail.no_new_privs = true;
    jail.user = UserIds { uid: 1000, gid: 1000, groups: vec![1000, 2000] };
    // The user `nobody` never has subordinate ids.
    assert!(Command::new("id").arg("nobody").status().unwrap().success());
    let probe = give_to_user(&house);
    assert!(Command::new("chown").args(["-R", "nobody"]).arg(&house.dir).status().unwrap().success());
    let file = house.dir.join("jail.json");
    fs::write(&file, serde_json::to_vec(&jail).unwrap()).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", &probe])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // Calls about other ids return 0 and do nothing.
    assert_eq!(said, "0\n0:0\n/pipe\n1\n");
    assert_eq!(house.changed_paths(), ["/hi", "/pipe"]);
}

#[test]
fn root_runs_in_the_initial_user_namespace() {
    let house = JailFixture::with_mount_points();
    let output = run_through_probe(&house, &house.shell_jail("cat /proc/self/uid_map"), &["/usr/bin/env"]);
    let map = String::from_utf8(output.stdout).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
}

#[test]
fn no_host_check_fails_for_root() {
    let abilities = dram_sandbox::HostChecks::probe(Some(std::path::Path::new("/var/lib/dram")));
    assert!(abilities.missing_support().is_none(), "{:?}", abilities.checks());
}
