//! The isolation of a command from the host.

use crate::fixture::{JailFixture, run_both, run_jail, run_ok, run_through_probe};
use dram_sandbox::{JailNetwork, UserIds};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

#[test]
fn capabilities_are_those_of_docker_and_the_filter_is_active() {
    let house = JailFixture::with_mount_points();
    let status = run_ok(&house.shell_jail("grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status"));
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
    ] {
        assert!(status.lines().any(|found| found == line), "{line} in {status}");
    }
}

#[test]
fn another_user_has_no_capabilities() {
    let house = JailFixture::with_mount_points();
    let mut jail =
        house.shell_jail("id -u; id -g; id -G; grep -E '^(CapPrm|CapEff|NoNewPrivs|Seccomp:)' /proc/self/status");
    jail.user = UserIds { uid: 1000, gid: 1001, groups: vec![1001, 1002] };
    jail.no_new_privs = true;
    let said = run_ok(&jail);
    assert!(said.starts_with("1000\n1001\n1001 1002\n"), "{said}");
    assert!(
        said.contains("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2"),
        "{said}"
    );
}

#[test]
fn attempts_to_change_the_machine_fail() {
    let house = JailFixture::with_mount_points();
    for attempt in [
        "mount -t tmpfs x /tmp",
        "umount /proc",
        "unshare -m true",
        "unshare -U true",
        "echo x > /proc/sys/kernel/hostname",
        "echo h > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling",
        "mkdir /sys/fs/cgroup/x",
        "hostname other",
        "mknod /tmp/m c 1 1 && cat /tmp/m",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "cat /proc/1/root/../../../../etc/no-such-file",
    ] {
        let said = run_jail(&house.shell_jail(&format!("({attempt}) > /dev/null 2>&1")));
        assert_ne!(said.exit.code(), 0, "{attempt}");
    }
    assert_eq!(
        run_ok(&house.shell_jail("cat /proc/keys /proc/timer_list; ls /sys/firmware; head -c 9 /proc/kcore | wc -c")),
        "0\n"
    );
    let hidden = "cat /proc/interrupts; for place in /sys/dev/block /sys/devices/virtual/powercap \
                  /sys/devices/system/cpu/cpu*/thermal_throttle; do ls $place 2> /dev/null; done; true";
    assert_eq!(run_ok(&house.shell_jail(hidden)), "");
}

/// Mode and owner of the devices of the host that a jail shows, and of the files that it masks.
fn host_status() -> Vec<String> {
    let paths = ["null", "zero", "full", "random", "urandom", "tty"].map(|name| format!("/dev/{name}"));
    let masked = ["/proc/kcore", "/proc/keys", "/proc/interrupts"].map(str::to_owned);
    let status = |path: String| {
        let status = std::fs::metadata(&path).unwrap();
        format!("{path} {:o} {}:{}", status.mode(), status.uid(), status.gid())
    };
    paths.into_iter().chain(masked.into_iter().filter(|path| Path::new(path).exists())).map(status).collect()
}

/// Tries to change the mode, owner and times of devices, and of the null device behind a stream.
const CHANGE_DEVICES: &str = "for name in null zero full random urandom tty; do chmod 0667 /dev/$name; chown 0:5 \
    /dev/$name; touch -d @1000 /dev/$name; done; chmod 0667 /dev/stdin /proc/self/fd/0; chown 0:5 /proc/1/fd/0; \
    echo x > /dev/null && head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; echo y > /dev/full || echo full";

#[test]
fn devices_and_masked_files_of_the_host_keep_their_mode_and_owner() {
    let before = host_status();
    let masked =
        "chmod 0667 /proc/kcore /proc/keys /proc/interrupts; chown 0:5 /proc/kcore /proc/keys /proc/interrupts";
    run_both(
        |house| house.shell_jail(&format!("({masked}; {CHANGE_DEVICES}) 2> /dev/null")),
        |_, ended| assert_eq!(ended.output, "2\n2\nfull\n"),
    );
    for privileged in ["--bounding-set=-sys_admin", "--bounding-set=-mknod"] {
        let house = JailFixture::with_mount_points();
        let jail = house.shell_jail(&format!("({CHANGE_DEVICES}) 2> /dev/null"));
        let output = run_through_probe(&house, &jail, &["setpriv", privileged, "--inh-caps=-all"]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "2\n2\nfull\n", "{privileged}");
    }
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail(&format!("({CHANGE_DEVICES}) 2> /dev/null"));
    jail.insecure = true;
    run_jail(&jail);
    assert_eq!(host_status(), before);
}

#[test]
fn files_of_proc_keep_their_mode_and_owner_on_the_machine() {
    // Each mount of procfs shows the modes that the kernel has now; the host's own may be older.
    let shown = "stat -c '%n %a %u:%g' /proc/meminfo /proc/version /proc/uptime /proc/kmsg /proc/tty /proc/tty/drivers \
                 /proc/kallsyms /proc/sys";
    let of_machine = || {
        let mut command = Command::new("unshare");
        let output = command.args(["-mpf", "--mount-proc"]).args(["sh", "-c", shown]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = of_machine();
    let change = "for file in meminfo version uptime kmsg tty tty/drivers kallsyms; do chmod 0640 /proc/$file; \
                  chown 5:6 /proc/$file; touch -d @1000 /proc/$file; done 2> /dev/null";
    let processes = "echo 7 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj; printf name > /proc/1/comm; \
                     cat /proc/1/comm; head -c 9 /proc/meminfo";
    run_both(
        |house| house.shell_jail(&format!("{change}; {processes}")),
        |_, ended| assert_eq!(ended.output, "7\nname\nMemTotal:"),
    );
    for privileged in ["--bounding-set=-sys_admin", "--bounding-set=-mknod"] {
        let house = JailFixture::with_mount_points();
        let jail = house.shell_jail(&format!("{change}; head -c 9 /proc/meminfo"));
        let output = run_through_probe(&house, &jail, &["setpriv", privileged, "--inh-caps=-all"]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "MemTotal:", "{privileged}");
    }
    assert_eq!(of_machine(), before);
}

#[test]
fn root_can_change_the_devices_of_its_jail_and_others_cannot() {
    let house = JailFixture::with_mount_points();
    let script = "chmod 0600 /dev/full && chown 0:5 /dev/null && stat -c '%a %u:%g' /dev/full /dev/null; ls -l /dev/stdin | \
                  cut -c1; mknod /dev/mem c 1 1 && head -c 1 /dev/mem > /dev/null 2>&1 || echo no";
    assert_eq!(run_ok(&house.shell_jail(script)), "600 0:0\n666 0:5\nl\nno\n");
    // As root of a container that may make no devices, with all its ids.
    let house = JailFixture::with_mount_points();
    let jail = house.shell_jail("chmod 0667 /dev/full 2>&1; echo x > /dev/null; cat /dev/null");
    let output = run_through_probe(&house, &jail, &["setpriv", "--bounding-set=-mknod", "--inh-caps=-all"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "chmod: /dev/full: Read-only file system\n");
}

#[test]
fn the_environment_is_exactly_that_of_the_jail() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.jail_with(&["/bin/env"]);
    assert_eq!(run_ok(&jail), "PATH=/bin\n");
    jail.env = vec![b"A=b=c".to_vec(), b"E=".to_vec()];
    assert_eq!(run_ok(&jail), "A=b=c\nE=\n");
}

#[test]
fn no_descriptor_of_the_host_is_inherited() {
    let house = JailFixture::with_mount_points();
    // Three streams, and the directory that `ls` reads.
    assert_eq!(run_ok(&house.shell_jail("exec ls /proc/self/fd")), "0\n1\n2\n3\n");
    assert_eq!(run_ok(&house.shell_jail("umask; readlink /proc/self/fd/0; echo $$")), "0022\n/dev/null\n1\n");
}

#[test]
fn the_host_name_is_that_of_the_jail() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("hostname");
    jail.hostname = "build".to_owned();
    assert_eq!(run_ok(&jail), "build\n");
}

#[test]
fn without_a_network_there_is_only_loopback() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("ls /sys/class/net; ip route; ping -c 1 -W 1 127.0.0.1 > /dev/null && echo up");
    assert_eq!(run_ok(&jail), "lo\nup\n");
    jail = house.shell_jail("readlink /proc/self/ns/net");
    let own = run_ok(&jail);
    jail.network = JailNetwork::Host;
    let hosts = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(run_ok(&jail).trim_end(), hosts.to_str().unwrap());
    assert_ne!(own.trim_end(), hosts.to_str().unwrap());
}

#[test]
fn default_devices_exist_and_work() {
    let house = JailFixture::bare_image();
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo y > /dev/full; \
                  echo z | cat /dev/stdin; stat -c %a /dev/shm /dev/pts/ptmx; ls /dev | tr '\\n' ' '";
    let said = run_jail(&house.shell_jail(script));
    let devices = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(said.stdout, format!("3\n3\nz\n1777\n666\n{devices}"));
    assert!(said.stderr.contains("No space left"), "{}", said.stderr);
}

#[test]
fn dev_shm_has_the_size_limit_of_the_jail() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("head -c 2000000 /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x");
    jail.shm_size = 1 << 20;
    assert_eq!(run_jail(&jail).stdout, "1048576\n");
    let mut jail = house.shell_jail("df -k /dev/shm | tail -n 1 | awk '{ print $2 }'");
    assert_eq!(run_jail(&jail).stdout, "65536\n");
    jail.shm_size = 0;
    assert_eq!(run_jail(&jail).stdout, "65536\n");
}
