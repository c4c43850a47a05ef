//! Tmpfs mounts, files in memory, and mounts within mounts.

use crate::fixture::{JailFixture, bind_mount, expect_output, expect_refusal, run_both};
use dram_sandbox::{BindSource, JailMount, MemoryFile, TmpfsMount, UserIds};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Joined at run time only, so that the text is in no program.
const SECRET: [&str; 2] = ["open", "sesame"];

fn tmpfs(target: &str) -> JailMount {
    JailMount::Tmpfs(TmpfsMount { target: target.into(), size: None, mode: None })
}

fn file(target: &str, contents: &str) -> JailMount {
    JailMount::File(MemoryFile::new(target, contents))
}

fn host(house: &JailFixture, name: &str, target: &str, read_only: bool) -> JailMount {
    let place = house.dir.join(name);
    fs::create_dir_all(&place).unwrap();
    bind_mount(BindSource::Host(place.into()), target, read_only)
}

#[test]
fn a_tmpfs_is_empty_and_has_its_size_limit() {
    expect_output("0\n1048576\n700 0:0\n", |house| {
        house.write_file("full/of", "files");
        let script = "ls /full | wc -l; head -c 2000000 /dev/zero > /full/x 2> /dev/null; stat -c %s /full/x; \
                      stat -c '%a %u:%g' /full";
        let mut jail = house.shell_jail(script);
        jail.mounts =
            vec![JailMount::Tmpfs(TmpfsMount { target: "/full".into(), size: Some(1 << 20), mode: Some(0o700) })];
        jail
    });
}

#[test]
fn a_tmpfs_inherits_the_mode_of_the_directory_below() {
    expect_output("1777\n750\n1777\nbounded\n", |house| {
        house.make_dir("own");
        fs::set_permissions(house.base("own"), fs::Permissions::from_mode(0o750)).unwrap();
        let mut jail = house.shell_jail("stat -c %a /new/deep /own /again; echo thrown away > /new/deep/x; \
                                         df -k /again | tail -n 1 | awk '{ print ($2 > 0) ? \"bounded\" : \"boundless\" }'");
        let again = JailMount::Tmpfs(TmpfsMount { target: "/again".into(), size: Some(0), mode: None });
        jail.mounts = vec![tmpfs("/new/deep"), tmpfs("/own"), again];
        jail
    });
}

#[test]
fn a_secret_has_the_requested_owner_and_mode() {
    let secret = |uid, mode| {
        let shown = MemoryFile { mode, uid, gid: 7, read_only: true, ..MemoryFile::new("/run/secrets/key", "secret") };
        JailMount::File(shown)
    };
    expect_output("-r-------- 0 7\nsecretread-only\nno exec\n", |house| {
        let script = "stat -c '%A %u %g' /run/secrets/key; cat /run/secrets/key; \
                      (echo x > /run/secrets/key) 2>&1 | grep -c Read-only > /dev/null && echo read-only; \
                      chmod 755 /run/secrets/key 2> /dev/null; /run/secrets/key 2> /dev/null || echo no exec";
        let mut jail = house.shell_jail(script);
        jail.mounts = vec![secret(0, 0o400)];
        jail
    });
    for (uid, mode, expected) in [(0, 0o400, "denied\n"), (1000, 0o400, "secret"), (0, 0o444, "secret")] {
        expect_output(expected, |house| {
            let mut jail = house.shell_jail("cat /run/secrets/key 2> /dev/null || echo denied");
            jail.user = UserIds { uid: 1000, gid: 1000, groups: vec![] };
            jail.mounts = vec![secret(uid, mode)];
            jail
        });
    }
}

#[test]
fn a_file_without_execute_bit_cannot_be_executed_even_after_chmod() {
    for (mode, expected) in [(0o644, "no\n"), (0o755, "ran\n")] {
        expect_output(expected, |house| {
            let mut jail =
                house.shell_jail("/tool 2> /dev/null || { chmod 755 /tool && /tool; } 2> /dev/null || echo no");
            jail.mounts =
                vec![JailMount::File(MemoryFile { mode, ..MemoryFile::new("/tool", "#!/bin/sh\necho ran\n") })];
            jail
        });
    }
}

#[test]
fn a_secret_is_never_written_to_disk() {
    let make = |house: &JailFixture| {
        let script = "stat -f -c %T /run/secrets/key; cp /run/secrets/key /dev/shm/copy; echo more >> /run/secrets/key";
        let mut jail = house.shell_jail(script);
        jail.mounts = vec![file("/run/secrets/key", &SECRET.join("-"))];
        jail
    };
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, "tmpfs\n"));
        // The description that the probe reads contains the secret: it is written by the test itself.
        fs::remove_file(house.dir.join("jail.json")).unwrap();
        let found = std::process::Command::new("grep").args(["-rlF", &SECRET.join("-")]).arg(&house.dir).output();
        assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    });
}

#[test]
fn a_file_in_memory_can_be_executed_and_changed_during_the_run() {
    expect_output("ran\nchanged\n/dev/pipes:\nEOF\nOTHER\n", |house| {
        let script = "/dev/pipes/EOF; echo 'echo changed' > /dev/pipes/EOF; sh /dev/pipes/EOF; ls /dev/pipes /dev/pipes/OTHER > /tmp/l; \
                      grep -v '^$' /tmp/l | grep -v '^/dev/pipes/OTHER'; rm /tmp/l";
        let mut jail = house.shell_jail(script);
        let script = |name: &str| {
            JailMount::File(MemoryFile {
                mode: 0o755,
                ..MemoryFile::new(format!("/dev/pipes/{name}"), "#!/bin/sh\necho ran\n")
            })
        };
        jail.mounts = vec![tmpfs("/tmp"), script("EOF"), script("OTHER")];
        jail
    });
}

#[test]
fn a_file_in_memory_appears_at_its_target_only() {
    expect_output("/run/key\n", |house| {
        let script = "find / '(' -path /proc -o -path /sys ')' -prune -o -type f -size 54321c -print";
        let mut jail = house.shell_jail(script);
        jail.mounts = vec![file("/run/key", &"x".repeat(54321)), file("/run/other", "")];
        jail
    });
}

#[test]
fn a_mount_may_lie_inside_an_earlier_one() {
    expect_output("in memory\nin a bind\nin both\ndeep\nlink\n", |house| {
        house.make_dir("base-only");
        let context = house.dir.join("context");
        fs::create_dir_all(context.join("there")).unwrap();
        fs::write(context.join("there/file"), "old").unwrap();
        std::os::unix::fs::symlink("/a/b", context.join("link")).unwrap();
        let mut jail = house.shell_jail("cat /a/b/file /ctx/there/file /ctx/there2/x /a/c/d/e/f /a/b/linked");
        jail.mounts = vec![
            tmpfs("/a"),
            file("/a/b/file", "in memory\n"),
            bind_mount(BindSource::Host(context.into()), "/ctx", false),
            file("/ctx/there/file", "in a bind\n"),
            tmpfs("/ctx/there2"),
            file("/ctx/there2/x", "in both\n"),
            host(house, "other", "/a/c/d", false),
            file("/a/c/d/e/f", "deep\n"),
            file("/ctx/link/linked", "link\n"),
        ];
        jail
    });
}

#[test]
fn a_later_mount_may_lie_over_an_earlier_one() {
    expect_output("second\nnew\n", |house| {
        let mut jail = house.shell_jail("cat /x/file; cat /f");
        jail.mounts = vec![
            tmpfs("/x/y"),
            file("/x/y/file", "first\n"),
            tmpfs("/x"),
            file("/x/file", "second\n"),
            file("/f", "old\n"),
            file("/f", "new\n"),
        ];
        jail
    });
}

#[test]
fn a_missing_mount_point_in_a_read_only_mount_is_an_error() {
    for (target, directory) in [("/ctx/new", true), ("/ctx/new/er", true), ("/ctx/new/file", false)] {
        let reason = format!("cannot make the mount point `{target}`: what is mounted around it is read-only");
        expect_refusal(&reason, |house| {
            let mut jail = house.shell_jail("true");
            let inner = if directory { tmpfs(target) } else { file(target, "") };
            jail.mounts = vec![host(house, "context", "/ctx", true), inner];
            jail
        });
    }
    expect_output("inner\n", |house| {
        fs::create_dir_all(house.dir.join("context/has")).unwrap();
        let mut jail = house.shell_jail("cat /ctx/has/file");
        jail.mounts = vec![host(house, "context", "/ctx", true), tmpfs("/ctx/has"), file("/ctx/has/file", "inner\n")];
        jail
    });
}

#[test]
fn a_mount_point_of_the_wrong_type_is_an_error() {
    type MountMaker = fn(&JailFixture) -> JailMount;
    let directory: MountMaker = |_| tmpfs("/there");
    let shown: MountMaker = |_| file("/there", "");
    let below: MountMaker = |_| file("/there/x", "");
    for (is_directory, mount, reason) in [
        (false, directory, "is a file, where a directory is needed"),
        (true, shown, "is a directory, where a file is needed"),
        (false, below, "is a file, where something to mount on is needed"),
    ] {
        expect_refusal(&format!("`/there` in the container {reason}"), |house| {
            if is_directory {
                house.make_dir("there");
            } else {
                house.write_file("there", "");
            }
            let mut jail = house.shell_jail("true");
            jail.mounts = vec![mount(house)];
            jail
        });
        expect_refusal(&format!("`/ctx/there` in the container {reason}"), |house| {
            let context = house.dir.join("context");
            fs::create_dir_all(&context).unwrap();
            let there = context.join("there");
            if is_directory {
                fs::create_dir(there).unwrap();
            } else {
                fs::write(there, "").unwrap();
            }
            let inner = match mount(house) {
                JailMount::Tmpfs(one) => {
                    JailMount::Tmpfs(TmpfsMount { target: [b"/ctx", one.target.as_slice()].concat(), ..one })
                }
                JailMount::File(one) => {
                    JailMount::File(MemoryFile { target: [b"/ctx", one.target.as_slice()].concat(), ..one })
                }
                JailMount::Bind(one) => JailMount::Bind(one),
            };
            let mut jail = house.shell_jail("true");
            jail.mounts = vec![host(house, "context", "/ctx", false), inner];
            jail
        });
    }
}

#[test]
fn mount_points_never_reach_the_layer() {
    let make = |house: &JailFixture| {
        let mut jail = house.shell_jail("echo kept > /deep/new; echo hello > /hello; echo gone > /deep/er/tmp/x");
        jail.mounts = vec![
            tmpfs("/deep/er/tmp"),
            file("/deep/er/file", ""),
            host(house, "data", "/other/data", false),
            file("/run/secrets/key", ""),
        ];
        jail
    };
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, ""));
        assert_eq!(house.changed_paths(), ["/deep", "/deep/new", "/hello"]);
    });
}
