//! Images whose symbolic links try to redirect mounts.

use crate::house::{House, bind, both, both_refuse};
use dram_sandbox::{Mount, ShownFile, Source, Tmpfs};
use std::fs;

/// A file name that exists nowhere on the machine.
const TRACE: &str = "trace-of-a-jail";

fn secret(target: String) -> Mount {
    Mount::File(ShownFile { mode: 0o400, read_only: true, ..ShownFile::new(target, "secret\n") })
}

fn tmpfs(target: &str) -> Mount {
    Mount::Tmpfs(Tmpfs { target: target.into(), size: None, mode: None })
}

/// Checks that nothing new exists in the directories that the links of these tests name, and that nothing is mounted.
fn unharmed(house: &House) {
    for place in
        ["/", "/etc", "/dev", "/dev/shm", "/run", "/tmp", "/root", "/sys/kernel", house.place.to_str().unwrap()]
    {
        let trace = format!("{place}/{TRACE}");
        assert!(fs::symlink_metadata(&trace).is_err(), "{trace}");
    }
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(TRACE));
    assert!(house.changed().is_empty(), "{:?}", house.changed());
}

#[test]
fn a_link_in_the_target_path_cannot_reach_the_host() {
    for says in ["/etc", "../..", "../../../../../../etc", "/", "/dev", "/dev/shm", "/tmp", "/nowhere/at/all", "HOUSE"]
    {
        let make = |house: &House| {
            let says = if says == "HOUSE" { house.place.to_str().unwrap() } else { says };
            house.link(says, "run/secrets");
            let mut jail = house.shell(&format!("cat /run/secrets/{TRACE} /run/secrets/{TRACE}.d/{TRACE}"));
            jail.mounts = vec![
                secret(format!("/run/secrets/{TRACE}")),
                tmpfs(&format!("/run/secrets/{TRACE}.d")),
                secret(format!("/run/secrets/{TRACE}.d/{TRACE}")),
            ];
            jail
        };
        both(make, |house, ended| {
            assert_eq!((ended.code, ended.text.as_str()), (0, "secret\nsecret\n"), "{says}");
            unharmed(house);
        });
    }
}

#[test]
fn links_of_the_image_in_dev_are_hidden_by_the_mounted_dev() {
    let make = |house: &House| {
        house.link("/etc", "dev/pipes");
        house.link("/etc", "dev/shm");
        let mut jail = house.shell(&format!("cat /dev/pipes/{TRACE} /dev/shm/{TRACE}; ls /etc | grep {TRACE}; true"));
        jail.mounts = vec![secret(format!("/dev/pipes/{TRACE}")), secret(format!("/dev/shm/{TRACE}"))];
        jail
    };
    both(make, |house, ended| {
        assert_eq!((ended.code, ended.text.as_str()), (0, "secret\nsecret\n"));
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
        both_refuse(reason, |house| {
            house.link(says, "run/target");
            house.link("loop", "tmp/loop");
            let mut jail = house.shell("true");
            jail.mounts = vec![tmpfs("/run/target")];
            jail
        });
    }
    both_refuse("it is the root of the file system", |house| {
        house.link("/", "run/target");
        let mut jail = house.shell("true");
        jail.mounts = vec![bind(Source::Host(house.base("bin")), "/run/target", false)];
        jail
    });
    both_refuse("it is the root of the file system", |house| {
        let mut jail = house.shell("true");
        jail.mounts = vec![tmpfs("/tmp/..")];
        jail
    });
}

#[test]
fn a_target_that_links_make_too_long_is_refused() {
    both_refuse("cannot make the mount point `/run/secrets/of/this/kind`", |house| {
        house.link(&"d/".repeat(2040), "run/secrets");
        let mut jail = house.shell("true");
        jail.mounts = vec![tmpfs("/run/secrets/of/this/kind")];
        jail
    });
}

#[test]
fn a_link_in_a_bind_mount_cannot_create_files_in_the_layer() {
    let linked = |house: &House, says: &str| {
        let context = house.place.join("context");
        fs::create_dir_all(&context).unwrap();
        std::os::unix::fs::symlink(says, context.join("link")).unwrap();
        bind(Source::Host(context), "/ctx", false)
    };
    both_refuse("a link in another mount leads it to `/opt/trace-of-a-jail`, which the image lacks", |house| {
        let mut jail = house.shell("true");
        jail.mounts = vec![linked(house, "/opt"), secret(format!("/ctx/link/{TRACE}"))];
        jail
    });
    let make = |house: &House| {
        house.file(&format!("opt/{TRACE}"), "the image's");
        let mut jail = house.shell(&format!("cat /opt/{TRACE}"));
        jail.mounts = vec![linked(house, "../../../opt"), secret(format!("/ctx/link/{TRACE}"))];
        jail
    };
    both(make, |house, ended| {
        assert_eq!((ended.code, ended.text.as_str()), (0, "secret\n"));
        unharmed(house);
    });
}
