//! The upper directory holds what the command changed, and nothing else.

use crate::fixture::{JailFixture, bind_mount, run_jail, run_ok, spawn_jail};
use dram_sandbox::{BindSource, CommandExit, JailMount, MemoryFile, SandboxError};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};

fn shown(target: &str, contents: &str) -> JailMount {
    JailMount::File(MemoryFile::new(target, contents))
}

#[test]
fn mount_points_created_for_a_bare_image_do_not_reach_the_layer() {
    let house = JailFixture::bare_image();
    let mut jail = house.shell_jail("echo hello > /hello; cat /etc/resolv.conf /deep/er/file");
    jail.mounts = vec![shown("/etc/resolv.conf", "one\n"), shown("/etc/hosts", ""), shown("/deep/er/file", "two\n")];
    assert_eq!(run_ok(&jail), "one\ntwo\n");
    assert_eq!(house.changed_paths(), ["/hello"]);
}

#[test]
fn an_image_with_all_mount_points_needs_none_created() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("echo hello > /hello; echo thrown away >> /etc/hosts; cat /etc/hosts");
    jail.mounts = vec![shown("/etc/hosts", "127.0.0.1 localhost\n")];
    assert_eq!(run_ok(&jail), "127.0.0.1 localhost\nthrown away\n");
    assert_eq!(house.changed_paths(), ["/hello"]);
    assert_eq!(fs::read_dir(house.dir.join("mount_points")).unwrap().count(), 0);
}

#[test]
fn parents_of_a_created_mount_point_keep_owner_mode_and_time() {
    let house = JailFixture::bare_image();
    house.make_dir("etc");
    chown(house.base("etc"), Some(7), Some(8)).unwrap();
    fs::set_permissions(house.base("etc"), std::os::unix::fs::PermissionsExt::from_mode(0o1751)).unwrap();
    let before = fs::metadata(house.base("etc")).unwrap();
    let mut jail = house.shell_jail("stat -c '%a %u %g %Y' /etc; echo x > /etc/new");
    jail.mounts = vec![shown("/etc/hosts", "")];
    assert_eq!(run_ok(&jail), format!("1751 7 8 {}\n", before.mtime()));
    assert_eq!(house.changed_paths(), ["/etc", "/etc/new"]);
    assert_eq!(house.upper_entries()["/etc"], "41751 7:8");
}

#[test]
fn a_deleted_file_becomes_a_whiteout() {
    let house = JailFixture::with_mount_points();
    house.write_file("etc/gone", "x");
    run_ok(&house.shell_jail("rm /etc/gone"));
    let left = fs::symlink_metadata(house.dir.join("upper/etc/gone")).unwrap();
    assert!(left.file_type().is_char_device() && left.rdev() == 0);
}

#[test]
fn a_dangling_link_as_target_is_followed_inside_the_root() {
    let house = JailFixture::with_mount_points();
    fs::remove_file(house.base("etc/resolv.conf")).unwrap();
    house.make_link("../run/systemd/resolve/stub-resolv.conf", "etc/resolv.conf");
    let mut jail = house.shell_jail("cat /etc/resolv.conf; readlink /etc/resolv.conf");
    jail.mounts = vec![shown("/etc/resolv.conf", "nameserver 1.1.1.1\n")];
    assert_eq!(run_ok(&jail), "nameserver 1.1.1.1\n../run/systemd/resolve/stub-resolv.conf\n");
    assert!(house.changed_paths().is_empty());
}

#[test]
fn absolute_links_are_resolved_inside_the_root() {
    let house = JailFixture::with_mount_points();
    let outside = house.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    house.make_link(outside.to_str().unwrap(), "etc/linked");
    house.make_link("../../../../../../../../etc/shadow", "etc/up");
    let mut jail = house.shell_jail("cat /etc/linked/file; cat /etc/up");
    jail.mounts = vec![shown("/etc/linked/file", "inside\n"), shown("/etc/up", "harmless\n")];
    assert_eq!(run_ok(&jail), "inside\nharmless\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(house.changed_paths().is_empty());
}

#[test]
fn links_or_files_at_proc_dev_and_sys_are_refused() {
    for name in ["proc", "dev", "sys"] {
        let house = JailFixture::bare_image();
        house.make_link("/tmp", name);
        let error = spawn_jail(&house.shell_jail("true")).unwrap_err();
        assert!(matches!(&error, SandboxError::MountPoint { path, .. } if *path == format!("/{name}")), "{error}");
        let house = JailFixture::bare_image();
        house.write_file(name, "");
        assert!(matches!(spawn_jail(&house.shell_jail("true")).unwrap_err(), SandboxError::MountPoint { .. }));
    }
}

#[test]
fn two_hundred_layers_are_merged() {
    let mut house = JailFixture::with_mount_points();
    for number in 0..200 {
        let layer = house.dir.join(format!("layer-{number}-{}", "long".repeat(20)));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("from-{number}")), "").unwrap();
        fs::write(layer.join("which"), number.to_string()).unwrap();
        house.lowers.insert(0, layer);
    }
    assert_eq!(run_ok(&house.shell_jail("ls / | grep -c from-; cat /which")), "200\n199");
}

#[test]
fn more_layers_than_one_overlay_takes_are_merged() {
    let mut house = JailFixture::with_mount_points();
    // With the base and the layer of the mount points: 999.
    for number in 0..997 {
        let layer = house.dir.join(format!("layer-{number}"));
        fs::create_dir_all(layer.join("all")).unwrap();
        fs::write(layer.join(format!("all/from-{number}")), "").unwrap();
        fs::write(layer.join("which"), number.to_string()).unwrap();
        // Each removes a file of the layer below it, also across the two overlays.
        if number % 2 == 1 {
            let gone = layer.join(format!("all/from-{}", number - 1));
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &gone,
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::empty(),
                0,
            )
            .unwrap();
        }
        house.lowers.insert(0, layer);
    }
    let script = "ls /all | wc -l; cat /which; rm -r /all; mkdir /all; touch /all/new; ls /all; echo x > /which";
    assert_eq!(run_ok(&house.shell_jail(script)), "499\n996new\n");
}

#[test]
fn too_many_layers_are_an_error() {
    let mut house = JailFixture::with_mount_points();
    house.lowers = vec![house.base(""); 1000];
    let error = spawn_jail(&house.shell_jail("true")).unwrap_err();
    assert!(matches!(error, SandboxError::TooManyLayers { .. }), "{error}");
}

#[test]
fn a_second_run_sees_the_changes_of_the_first() {
    let house = JailFixture::bare_image();
    run_ok(&house.shell_jail("mkdir /etc; echo one > /etc/hosts; rm /bin/vi"));
    let mut jail = house.shell_jail("cat /etc/hosts; ls /bin/vi");
    jail.mounts = vec![shown("/etc/resolv.conf", "")];
    let said = run_jail(&jail);
    assert_eq!((said.stdout.as_str(), said.exit), ("one\n", CommandExit::Code(1)));
    assert_eq!(house.changed_paths(), ["/bin", "/bin/vi", "/etc", "/etc/hosts"]);
}

#[test]
fn bind_mounts_of_host_paths_are_writable_or_read_only_as_requested() {
    let house = JailFixture::bare_image();
    let (data, fixed) = (house.dir.join("data"), house.dir.join("fixed"));
    fs::create_dir(&data).unwrap();
    fs::write(&fixed, "fixed\n").unwrap();
    let mut jail = house.shell_jail(
        "cat /fixed; echo x > /fixed; echo new > /vol/data/file; mknod /vol/data/m c 1 1 && cat /vol/data/m",
    );
    jail.mounts = vec![
        bind_mount(BindSource::Host(data.clone().into()), "/vol/data", false),
        bind_mount(BindSource::Host(fixed.into()), "/fixed", true),
    ];
    let said = run_jail(&jail);
    assert_eq!(said.stdout, "fixed\n");
    assert!(
        said.stderr.contains("Read-only file system") && said.stderr.contains("Permission denied"),
        "{}",
        said.stderr
    );
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "new\n");
    assert!(house.changed_paths().is_empty());
}
