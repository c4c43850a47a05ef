//! Tmpfs mounts, files in memory, and mounts within mounts.

use crate::house::{House, bind, both, both_refuse, both_say};
use dram_sandbox::{Ids, Mount, ShownFile, Source, Tmpfs};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Joined at run time only, so that the text is in no program.
const SECRET: [&str; 2] = ["open", "sesame"];

fn tmpfs(target: &str) -> Mount {
    Mount::Tmpfs(Tmpfs { target: target.into(), size: None, mode: None })
}

fn file(target: &str, contents: &str) -> Mount {
    Mount::File(ShownFile::new(target, contents))
}

fn host(house: &House, name: &str, target: &str, read_only: bool) -> Mount {
    let place = house.place.join(name);
    fs::create_dir_all(&place).unwrap();
    bind(Source::Host(place), target, read_only)
}

#[test]
fn a_tmpfs_is_empty_and_has_its_size_limit() {
    both_say("0\n1048576\n700 0:0\n", |house| {
        house.file("full/of", "files");
        let script = "ls /full | wc -l; head -c 2000000 /dev/zero > /full/x 2> /dev/null; stat -c %s /full/x; \
                      stat -c '%a %u:%g' /full";
        let mut jail = house.shell(script);
        jail.mounts = vec![Mount::Tmpfs(Tmpfs { target: "/full".into(), size: Some(1 << 20), mode: Some(0o700) })];
        jail
    });
}

#[test]
fn a_tmpfs_inherits_the_mode_of_the_directory_below() {
    both_say("1777\n750\n1777\nbounded\n", |house| {
        house.dir("own");
        fs::set_permissions(house.base("own"), fs::Permissions::from_mode(0o750)).unwrap();
        let mut jail = house.shell("stat -c %a /new/deep /own /again; echo thrown away > /new/deep/x; \
                                         df -k /again | tail -n 1 | awk '{ print ($2 > 0) ? \"bounded\" : \"boundless\" }'");
        let again = Mount::Tmpfs(Tmpfs { target: "/again".into(), size: Some(0), mode: None });
        jail.mounts = vec![tmpfs("/new/deep"), tmpfs("/own"), again];
        jail
    });
}

#[test]
fn a_secret_has_the_requested_owner_and_mode() {
    let secret = |uid, mode| {
        let shown = ShownFile { mode, uid, gid: 7, read_only: true, ..ShownFile::new("/run/secrets/key", "secret") };
        Mount::File(shown)
    };
    both_say("-r-------- 0 7\nsecretread-only\nno exec\n", |house| {
        let script = "stat -c '%A %u %g' /run/secrets/key; cat /run/secrets/key; \
                      (echo x > /run/secrets/key) 2>&1 | grep -c Read-only > /dev/null && echo read-only; \
                      chmod 755 /run/secrets/key 2> /dev/null; /run/secrets/key 2> /dev/null || echo no exec";
        let mut jail = house.shell(script);
        jail.mounts = vec![secret(0, 0o400)];
        jail
    });
    for (uid, mode, expected) in [(0, 0o400, "denied\n"), (1000, 0o400, "secret"), (0, 0o444, "secret")] {
        both_say(expected, |house| {
            let mut jail = house.shell("cat /run/secrets/key 2> /dev/null || echo denied");
            jail.user = Ids { uid: 1000, gid: 1000, groups: vec![] };
            jail.mounts = vec![secret(uid, mode)];
            jail
        });
    }
}

#[test]
fn a_file_without_execute_bit_cannot_be_executed_even_after_chmod() {
    for (mode, expected) in [(0o644, "no\n"), (0o755, "ran\n")] {
        both_say(expected, |house| {
            let mut jail = house.shell("/tool 2> /dev/null || { chmod 755 /tool && /tool; } 2> /dev/null || echo no");
            jail.mounts = vec![Mount::File(ShownFile { mode, ..ShownFile::new("/tool", "#!/bin/sh\necho ran\n") })];
            jail
        });
    }
}

#[test]
fn a_secret_is_never_written_to_disk() {
    let make = |house: &House| {
        let script = "stat -f -c %T /run/secrets/key; cp /run/secrets/key /dev/shm/copy; echo more >> /run/secrets/key";
        let mut jail = house.shell(script);
        jail.mounts = vec![file("/run/secrets/key", &SECRET.join("-"))];
        jail
    };
    both(make, |house, ended| {
        assert_eq!((ended.code, ended.text.as_str()), (0, "tmpfs\n"));
        // The description that the probe reads contains the secret: it is written by the test itself.
        fs::remove_file(house.place.join("jail.json")).unwrap();
        let found = std::process::Command::new("grep").args(["-rlF", &SECRET.join("-")]).arg(&house.place).output();
        assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    });
}

#[test]
fn a_file_in_memory_can_be_executed_and_changed_during_the_run() {
    both_say("ran\nchanged\n/dev/pipes:\nEOF\nOTHER\n", |house| {
        let script = "/dev/pipes/EOF; echo 'echo changed' > /dev/pipes/EOF; sh /dev/pipes/EOF; ls /dev/pipes /dev/pipes/OTHER > /tmp/l; \
                      grep -v '^$' /tmp/l | grep -v '^/dev/pipes/OTHER'; rm /tmp/l";
        let mut jail = house.shell(script);
        let script = |name: &str| {
            Mount::File(ShownFile {
                mode: 0o755,
                ..ShownFile::new(format!("/dev/pipes/{name}"), "#!/bin/sh\necho ran\n")
            })
        };
        jail.mounts = vec![tmpfs("/tmp"), script("EOF"), script("OTHER")];
        jail
    });
}

#[test]
fn a_file_in_memory_appears_at_its_target_only() {
    both_say("/run/key\n", |house| {
        let script = "find / '(' -path /proc -o -path /sys ')' -prune -o -type f -size 54321c -print";
        let mut jail = house.shell(script);
        jail.mounts = vec![file("/run/key", &"x".repeat(54321)), file("/run/other", "")];
        jail
    });
}

#[test]
fn a_mount_may_lie_inside_an_earlier_one() {
    both_say("in memory\nin a bind\nin both\ndeep\nlink\n", |house| {
        house.dir("base-only");
        let context = house.place.join("context");
        fs::create_dir_all(context.join("there")).unwrap();
        fs::write(context.join("there/file"), "old").unwrap();
        std::os::unix::fs::symlink("/a/b", context.join("link")).unwrap();
        let mut jail = house.shell("cat /a/b/file /ctx/there/file /ctx/there2/x /a/c/d/e/f /a/b/linked");
        jail.mounts = vec![
            tmpfs("/a"),
            file("/a/b/file", "in memory\n"),
            bind(Source::Host(context), "/ctx", false),
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
    both_say("second\nnew\n", |house| {
        let mut jail = house.shell("cat /x/file; cat /f");
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
        both_refuse(&reason, |house| {
            let mut jail = house.shell("true");
            let inner = if directory { tmpfs(target) } else { file(target, "") };
            jail.mounts = vec![host(house, "context", "/ctx", true), inner];
            jail
        });
    }
    both_say("inner\n", |house| {
        fs::create_dir_all(house.place.join("context/has")).unwrap();
        let mut jail = house.shell("cat /ctx/has/file");
        jail.mounts = vec![host(house, "context", "/ctx", true), tmpfs("/ctx/has"), file("/ctx/has/file", "inner\n")];
        jail
    });
}

#[test]
fn a_mount_point_of_the_wrong_type_is_an_error() {
    type MountMaker = fn(&House) -> Mount;
    let directory: MountMaker = |_| tmpfs("/there");
    let shown: MountMaker = |_| file("/there", "");
    let below: MountMaker = |_| file("/there/x", "");
    for (is_directory, mount, reason) in [
        (false, directory, "is a file, where a directory is needed"),
        (true, shown, "is a directory, where a file is needed"),
        (false, below, "is a file, where something to mount on is needed"),
    ] {
        both_refuse(&format!("`/there` in the container {reason}"), |house| {
            if is_directory {
                house.dir("there");
            } else {
                house.file("there", "");
            }
            let mut jail = house.shell("true");
            jail.mounts = vec![mount(house)];
            jail
        });
        both_refuse(&format!("`/ctx/there` in the container {reason}"), |house| {
            let context = house.place.join("context");
            fs::create_dir_all(&context).unwrap();
            let there = context.join("there");
            if is_directory {
                fs::create_dir(there).unwrap();
            } else {
                fs::write(there, "").unwrap();
            }
            let inner = match mount(house) {
                Mount::Tmpfs(one) => Mount::Tmpfs(Tmpfs { target: [b"/ctx", one.target.as_slice()].concat(), ..one }),
                Mount::File(one) => Mount::File(ShownFile { target: [b"/ctx", one.target.as_slice()].concat(), ..one }),
                Mount::Bind(one) => Mount::Bind(one),
            };
            let mut jail = house.shell("true");
            jail.mounts = vec![host(house, "context", "/ctx", false), inner];
            jail
        });
    }
}

#[test]
fn mount_points_never_reach_the_layer() {
    let make = |house: &House| {
        let mut jail = house.shell("echo kept > /deep/new; echo hello > /hello; echo gone > /deep/er/tmp/x");
        jail.mounts = vec![
            tmpfs("/deep/er/tmp"),
            file("/deep/er/file", ""),
            host(house, "data", "/other/data", false),
            file("/run/secrets/key", ""),
        ];
        jail
    };
    both(make, |house, ended| {
        assert_eq!((ended.code, ended.text.as_str()), (0, ""));
        assert_eq!(house.changed(), ["/deep", "/deep/new", "/hello"]);
    });
}
