//! Bind mounts of host paths, of build contexts and of other layers.

use crate::fixture::{JailFixture, bind_mount, expect_output, expect_refusal, run_both};
use dram_sandbox::{BindSource, ScratchDirs};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A directory of the fixture, outside the image, with these files.
fn tree(house: &JailFixture, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let place = house.dir.join(name);
    fs::create_dir_all(&place).unwrap();
    for (path, contents) in files {
        fs::create_dir_all(place.join(path).parent().unwrap()).unwrap();
        fs::write(place.join(path), contents).unwrap();
    }
    place
}

fn scratch(house: &JailFixture) -> ScratchDirs {
    ScratchDirs { upper: tree(house, "scratch-upper", &[]).into(), work: tree(house, "scratch-work", &[]).into() }
}

/// Two layers: `file` in both, `below` and `dir/deep` in the lower one, `above` in the upper one.
fn two(house: &JailFixture) -> Vec<PathBuf> {
    let above = tree(house, "above", &[("file", "above\n"), ("above", "")]);
    let below = tree(house, "below", &[("file", "below\n"), ("below", ""), ("dir/deep", "deep\n")]);
    vec![above, below]
}

fn layers(lowers: Vec<PathBuf>, scratch: Option<ScratchDirs>, path: &str) -> BindSource {
    let lowers = lowers.into_iter().map(Into::into).collect();
    BindSource::Layers { lowers, scratch, path: path.as_bytes().to_vec() }
}

#[test]
fn layers_without_scratch_are_merged_and_read_only() {
    expect_output("above\nabove\nbelow\ndir\nfile\nmnt: 3\ndeep\nfixed\nfixed\n", |house| {
        let script = "cat /mnt/file; ls /mnt; echo mnt: $(ls /mnt/dir/../dir/deep /mnt/above /mnt/below | wc -l); \
                      cat /part/deep; for f in /mnt/file /part/new; do (echo x > $f) 2> /dev/null || echo fixed; done";
        let mut jail = house.shell_jail(script);
        jail.mounts = vec![
            bind_mount(layers(two(house), None, ""), "/mnt", false),
            bind_mount(layers(two(house), None, "/dir"), "/part", true),
        ];
        jail
    });
}

#[test]
fn one_layer_needs_no_overlay() {
    expect_output("below\ndeep\nfixed\n", |house| {
        let mut jail = house.shell_jail("cat /mnt/file /deep; (echo x > /mnt/file) 2> /dev/null || echo fixed");
        let below = two(house).split_off(1);
        jail.mounts = vec![
            bind_mount(layers(below.clone(), None, "/"), "/mnt", false),
            bind_mount(layers(below, None, "dir/deep"), "/deep", false),
        ];
        jail
    });
}

#[test]
fn writes_into_layers_go_into_the_scratch_directory() {
    let make = |house: &JailFixture| {
        let mut jail = house.shell_jail("echo new > /mnt/dir/new; rm /mnt/file; ls /mnt; stat -c %a /mnt");
        let lowers = two(house);
        fs::set_permissions(&lowers[0], fs::Permissions::from_mode(0o751)).unwrap();
        jail.mounts = vec![bind_mount(layers(lowers, Some(scratch(house)), "/"), "/mnt", false)];
        jail
    };
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, "above\nbelow\ndir\n751\n"));
        assert!(house.changed_paths().is_empty());
        assert_eq!(fs::read_to_string(house.dir.join("scratch-upper/dir/new")).unwrap(), "new\n");
        assert_eq!(fs::read_to_string(house.dir.join("above/file")).unwrap(), "above\n");
        assert!(!house.dir.join("below/dir/new").exists());
    });
}

#[test]
fn scratch_directory_takes_changes_of_a_subdirectory_and_of_a_single_layer() {
    expect_output("deep\nnew\n", |house| {
        let mut jail = house.shell_jail("echo new > /part/new; cat /part/deep /part/new");
        jail.mounts = vec![bind_mount(layers(two(house).split_off(1), Some(scratch(house)), "dir"), "/part", false)];
        jail
    });
}

#[test]
fn a_read_only_bind_with_a_scratch_directory_cannot_be_written() {
    expect_output("fixed\n", |house| {
        let mut jail = house.shell_jail("(echo x > /mnt/x) 2> /dev/null || echo fixed");
        jail.mounts = vec![bind_mount(layers(two(house), Some(scratch(house)), ""), "/mnt", true)];
        jail
    });
}

/// A tree with symbolic links that would lead out of it.
fn hostile(house: &JailFixture) -> PathBuf {
    let place = tree(house, "hostile", &[("inside", "inside\n"), ("etc/passwd", "its own\n")]);
    for (says, name) in [("/etc/passwd", "absolute"), ("../../../../../../etc/passwd", "up"), ("loop", "loop")] {
        symlink(says, place.join(name)).unwrap();
    }
    place
}

#[test]
fn symbolic_links_in_the_source_are_resolved_inside_it() {
    expect_output("its own\nits own\nits own\nits own\nits own\n", |house| {
        let context = hostile(house);
        let below =
            |path: &str| BindSource::Below { directory: context.clone().into(), path: path.as_bytes().to_vec() };
        let other = tree(house, "other", &[]);
        let mut jail = house.shell_jail("cat /1 /2 /3 /4 /5");
        jail.mounts = vec![
            bind_mount(below("absolute"), "/1", true),
            bind_mount(below("/etc/../../../up"), "/2", true),
            bind_mount(layers(vec![context.clone()], None, "up"), "/3", true),
            bind_mount(layers(vec![other.clone(), context.clone()], None, "absolute"), "/4", true),
            bind_mount(layers(vec![other, context.clone()], None, "../../etc/../up"), "/5", true),
        ];
        jail
    });
}

#[test]
fn a_missing_source_is_an_error_with_its_path() {
    for path in ["no/such", "inside/x"] {
        let reason = format!("nothing is at `{path}` in what is to be mounted");
        expect_refusal(&reason, |house| {
            let mut jail = house.shell_jail("true");
            let source = BindSource::Below { directory: hostile(house).into(), path: path.as_bytes().to_vec() };
            jail.mounts = vec![bind_mount(source, "/x", true)];
            jail
        });
        expect_refusal(&reason, |house| {
            let mut jail = house.shell_jail("true");
            jail.mounts = vec![bind_mount(layers(vec![house.base("bin"), hostile(house)], None, path), "/x", true)];
            jail
        });
    }
    expect_refusal("cannot look up the source `loop`", |house| {
        let mut jail = house.shell_jail("true");
        let source = BindSource::Below { directory: hostile(house).into(), path: b"loop".to_vec() };
        jail.mounts = vec![bind_mount(source, "/x", true)];
        jail
    });
}

#[test]
fn writes_to_a_subdirectory_of_the_host_stay_there() {
    let make = |house: &JailFixture| {
        let mut jail = house.shell_jail("echo kept > /cache/file");
        let directory = tree(house, "cache", &[("part/old", "")]);
        jail.mounts = vec![bind_mount(
            BindSource::Below { directory: directory.into(), path: b"part".to_vec() },
            "/cache",
            false,
        )];
        jail
    };
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, ""));
        assert_eq!(fs::read_to_string(house.dir.join("cache/part/file")).unwrap(), "kept\n");
    });
}

#[test]
#[allow(clippy::disallowed_types, reason = "somebody must listen at the socket that is shown")]
fn a_socket_can_be_bind_mounted() {
    let socket = std::cell::RefCell::new(None);
    let make = |house: &JailFixture| {
        let path = house.dir.join("agent.sock");
        *socket.borrow_mut() = Some(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
        let mut jail = house.shell_jail("test -S /dev/log && logger heard");
        jail.mounts = vec![bind_mount(BindSource::Host(path.into()), "/dev/log", false)];
        jail
    };
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, ""));
        assert!(house.changed_paths().is_empty());
        let socket = socket.borrow_mut().take().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut said = [0; 256];
        let length = socket.recv(&mut said).unwrap();
        assert!(String::from_utf8_lossy(&said[..length]).contains("heard"));
    });
}

#[test]
fn devices_of_a_layer_do_not_work() {
    let house = JailFixture::with_mount_points();
    let lower = tree(&house, "devices", &[]);
    let made = std::process::Command::new("mknod").arg(lower.join("null")).args(["c", "1", "3"]).status().unwrap();
    assert!(made.success());
    let mut jail =
        house.shell_jail("for d in /d/null /null /host; do (echo x > $d) 2> /dev/null && echo $d; done; true");
    jail.mounts = vec![
        bind_mount(layers(vec![lower.clone()], Some(scratch(&house)), ""), "/d", false),
        bind_mount(layers(vec![lower], None, "null"), "/null", false),
        bind_mount(BindSource::Host(Path::new("/dev/null").into()), "/host", false),
    ];
    assert_eq!(crate::fixture::run_ok(&jail), "/host\n");
}
