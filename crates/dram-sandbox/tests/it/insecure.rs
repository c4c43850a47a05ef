//! Insecure commands, which keep all privileges.

use crate::fixture::{JailFixture, run_ok};
use crate::rootless;
use dram_sandbox::UserIds;

#[test]
fn an_insecure_command_of_root_keeps_all_privileges() {
    let house = JailFixture::with_mount_points();
    let script = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|Seccomp|NoNewPrivs):' /proc/self/status | uniq -f 1; \
                  mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted; \
                  mknod /zero c 1 5 && head -c 2 /zero | wc -c; rm /zero; \
                  test -w /proc/sys/kernel/hostname && echo own > /proc/sys/kernel/hostname && hostname; \
                  ls /dev/kmsg /dev/net/tun /dev/loop-control /dev/loop0; \
                  grep -c ' /sys sysfs rw' /proc/mounts; grep -c ' /proc/kcore ' /proc/mounts; umount /tmp/m; rmdir /tmp/m";
    let mut jail = house.shell_jail(script);
    jail.insecure = true;
    let said = run_ok(&jail);
    let bounding = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = bounding.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let expected = format!(
        "CapInh:\t{all}\nNoNewPrivs:\t0\nmounted\n2\nown\n\
         /dev/kmsg\n/dev/loop-control\n/dev/loop0\n/dev/net/tun\n1\n0\n"
    );
    assert_eq!(said, expected);
    assert_eq!(house.changed_paths(), ["/tmp", "/zero"].map(str::to_owned)[..1].to_vec());
}

#[test]
fn an_insecure_command_of_another_user_keeps_its_capabilities() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("id -u; hostname changed && hostname");
    jail.insecure = true;
    jail.user = UserIds { uid: 1000, gid: 1000, groups: vec![] };
    assert_eq!(run_ok(&jail), "1000\nchanged\n");
}

#[test]
fn an_insecure_command_in_a_user_namespace_is_refused() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("true");
    jail.insecure = true;
    let (code, said) = rootless::run_as(&house, &jail, &rootless::AS_USER);
    assert_eq!(code, 99);
    assert!(said.contains("an insecure command needs root of the machine"), "{said}");
}
