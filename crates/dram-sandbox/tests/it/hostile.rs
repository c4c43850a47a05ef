//! Images whose symbolic links try to redirect mounts.

use crate::fixture::{JailFixture, bind_mount, expect_refusal, run_both};
use dram_sandbox::{BindSource, JailMount, MemoryFile, TmpfsMount};
use std::fs;

/// A file name that exists nowhere on the machine.
const TRACE: &str = "trace-of-a-jail";

fn secret(target: String) -> JailMount {
    JailMount::File(MemoryFile { mode: 0o400, read_only: true, ..MemoryFile::new(target, "secret\n") })
}

fn tmpfs(target: &str) -> JailMount {
    JailMount::Tmpfs(TmpfsMount { target: target.into(), size: None, mode: None })
}

/// Checks that nothing new exists in the directories that the links of these tests name, and that nothing is mounted.
fn unharmed(house: &JailFixture) {
    for place in ["/", "/etc", "/dev", "/dev/shm", "/run", "/tmp", "/root", "/sys/kernel", house.dir.to_str().unwrap()]
    {
        let trace = format!("{place}/{TRACE}");
        assert!(fs::symlink_metadata(&trace).is_err(), "{trace}");
    }
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(TRACE));
    assert!(house.changed_paths().is_empty(), "{:?}", house.changed_paths());
}

#[test]
fn a_link_in_the_target_path_cannot_reach_the_host() {
    for says in ["/etc", "../..", "../../../../../../etc", "/", "/dev", "/dev/shm", "/tmp", "/nowhere/at/all", "HOUSE"]
    {
        let make = |house: &JailFixture| {
            let says = if says == "HOUSE" { house.dir.to_str().unwrap() } else { says };
            house.make_link(says, "run/secrets");
            let mut jail = house.shell_jail(&format!("cat /run/secrets/{TRACE} /run/secrets/{TRACE}.d/{TRACE}"));
            jail.mounts = vec![
                secret(format!("/run/secrets/{TRACE}")),
                tmpfs(&format!("/run/secrets/{TRACE}.d")),
                secret(format!("/run/secrets/{TRACE}.d/{TRACE}")),
            ];
            jail
        };
        run_both(make, |house, ended| {
            assert_eq!((ended.code, ended.output.as_str()), (0, "secret\nsecret\n"), "{says}");
            unharmed(house);
        });
    }
}

#[test]
fn links_of_the_image_in_dev_are_hidden_by_the_mounted_dev() {
    let make = |house: &JailFixture| {
        house.make_link("/etc", "dev/pipes");
        house.make_link("/etc", "dev/shm");
        let mut jail =
            house.shell_jail(&format!("cat /dev/pipes/{TRACE} /dev/shm/{TRACE}; ls /etc | grep {TRACE}; true"));
        jail.mounts = vec![secret(format!("/dev/pipes/{TRACE}")), secret(format!("/dev/shm/{TRACE}"))];
        jail
    };
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, "secret\nsecret\n"));
        unharmed(house);
    });
}

#[test]
fn links_to_proc_sys_the_root_or_in_a_loop_are_refused() {
    for (says, reason) in [
        ("/proc/self/root/etc", "links of the image lead it to `/proc`"),
        ("/proc/1/cwd", "links of the image lead it to `/proc`"),
        ("/proc/self/fd/3", "links of the image lead it to `/proc`"),
        ("/proc/sys/kernel", "links of the image lead it to `/proc`"),
        ("../proc", "links of the image lead it to `/proc`"),
        ("/sys/kernel", "links of the image lead it to `/sys`"),
        ("/", "it is the root of the file system"),
        ("../../../..", "it is the root of the file system"),
        ("target", "too many symbolic links"),
        ("../tmp/loop/x", "too many symbolic links"),
    ] {
        expect_refusal(reason, |house| {
            house.make_link(says, "run/target");
            house.make_link("loop", "tmp/loop");
            let mut jail = house.shell_jail("true");
            jail.mounts = vec![tmpfs("/run/target")];
            jail
        });
    }
    expect_refusal("it is the root of the file system", |house| {
        house.make_link("/", "run/target");
        let mut jail = house.shell_jail("true");
        jail.mounts = vec![bind_mount(BindSource::Host(house.base("bin").into()), "/run/target", false)];
        jail
    });
    expect_refusal("it is the root of the file system", |house| {
        let mut jail = house.shell_jail("true");
        jail.mounts = vec![tmpfs("/tmp/..")];
        jail
    });
}

#[test]
fn a_target_that_links_make_too_long_is_refused() {
    expect_refusal("cannot make the mount point `/run/secrets/of/this/kind`", |house| {
        house.make_link(&"d/".repeat(2040), "run/secrets");
        let mut jail = house.shell_jail("true");
        jail.mounts = vec![tmpfs("/run/secrets/of/this/kind")];
        jail
    });
}

#[test]
fn a_link_in_a_bind_mount_cannot_create_files_in_the_layer() {
    let linked = |house: &JailFixture, says: &str| {
        let context = house.dir.join("context");
        fs::create_dir_all(&context).unwrap();
        std::os::unix::fs::symlink(says, context.join("link")).unwrap();
        bind_mount(BindSource::Host(context.into()), "/ctx", false)
    };
    expect_refusal("a link in another mount leads it to `/opt/trace-of-a-jail`, which the image lacks", |house| {
        let mut jail = house.shell_jail("true");
        jail.mounts = vec![linked(house, "/opt"), secret(format!("/ctx/link/{TRACE}"))];
        jail
    });
    let make = |house: &JailFixture| {
        house.write_file(&format!("opt/{TRACE}"), "the image's");
        let mut jail = house.shell_jail(&format!("cat /opt/{TRACE}"));
        jail.mounts = vec![linked(house, "../../../opt"), secret(format!("/ctx/link/{TRACE}"))];
        jail
    };
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, "secret\n"));
        unharmed(house);
    });
}
