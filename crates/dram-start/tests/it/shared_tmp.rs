//! Tests of a `RELEASE_TMP` that users share: files of another user are not used, and links are not followed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::test_release::{TestRelease, lossy_text};

/// The id of a user without rights.
const OTHER_USER: u32 = 65534;

/// A release whose `RELEASE_TMP` everybody may write to, as `/tmp`.
fn shared_release(conf: &str) -> TestRelease {
    let world = TestRelease::new(conf);
    fs::create_dir(world.tmp()).unwrap();
    fs::set_permissions(world.tmp(), fs::Permissions::from_mode(0o1777)).unwrap();
    world
}

/// Gives a file to another user.
fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
}

fn private_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_cookie_of_another_user_is_refused_by_starts_and_calls() {
    let world = shared_release("distribution = sname\n");
    let cookie = world.tmp().join("demo.cookie");
    private_file(&cookie, "PLANTED");
    give_away(&cookie);
    for command in ["foreground", "rpc", "remote_console", "stop"] {
        let arguments = if command == "rpc" { vec!["rpc", "1"] } else { vec![command] };
        let refused = world.run(&arguments, &[]);
        let said = lossy_text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("belongs to the user with the id 65534") && said.contains("RELEASE_COOKIE"), "{said}");
    }
    // With a cookie of one's own, the file is not read.
    drop(world.start_foreground(&[("RELEASE_COOKIE", "secret")]));
}

#[test]
fn a_cookie_behind_a_link_or_in_a_directory_of_another_user_is_refused() {
    let world = shared_release("distribution = sname\n");
    let elsewhere = world.dir.path().join("elsewhere");
    private_file(&elsewhere, "PLANTED");
    let cookie = world.tmp().join("demo.cookie");
    symlink(&elsewhere, &cookie).unwrap();
    let refused = world.run(&["foreground"], &[]);
    assert!(lossy_text(&refused.stderr).contains("it is a symbolic link"), "{}", lossy_text(&refused.stderr));
    fs::remove_file(&cookie).unwrap();
    fs::hard_link(&elsewhere, &cookie).unwrap();
    let refused = world.run(&["foreground"], &[]);
    assert!(lossy_text(&refused.stderr).contains("it is a hard link"), "{}", lossy_text(&refused.stderr));
    fs::remove_file(&cookie).unwrap();
    assert!(Command::new("mkfifo").arg(&cookie).status().unwrap().success());
    let refused = world.run(&["foreground"], &[]);
    assert!(lossy_text(&refused.stderr).contains("not a regular file"), "{}", lossy_text(&refused.stderr));
    fs::remove_file(&cookie).unwrap();
    give_away(&world.tmp());
    for existing in [false, true] {
        if existing {
            private_file(&cookie, "PLANTED");
        }
        let refused = world.run(&["foreground"], &[]);
        let said = lossy_text(&refused.stderr);
        assert!(said.contains("cannot keep a cookie in the directory") && said.contains("65534"), "{said}");
    }
}

#[test]
fn a_state_file_of_another_user_names_no_process_that_is_signalled() {
    let world = shared_release("");
    let state = world.tmp().join("demo.state");
    let mut victim = Command::new("sleep").arg("600").spawn().unwrap();
    private_file(&state, &format!("{} 0\n", victim.id()));
    give_away(&state);
    // The other user holds the lock, as an emulator would.
    let lock = fs::File::open(&state).unwrap();
    lock.lock().unwrap();
    for command in ["stop", "pid"] {
        let refused = world.run(&[command], &[]);
        let said = lossy_text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("belongs to the user with the id 65534"), "{command}: {said}");
    }
    assert_eq!(world.run(&["ping"], &[]).status.code(), Some(1));
    assert!(world.run_ok(&["describe"], &[]).contains("not known: it belongs to the user"));
    assert_eq!(victim.try_wait().unwrap(), None, "nothing was signalled");
    // A start says that the file is of no use, and does not write to it.
    let before = fs::read(&state).unwrap();
    let system = world.start_foreground(&[]);
    assert!(system.output().contains("set RELEASE_TMP to a directory of your own"), "{}", system.output());
    assert_eq!(fs::read(&state).unwrap(), before);
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn a_state_file_that_is_a_link_is_not_written_through() {
    let world = shared_release("");
    let target = world.dir.path().join("precious");
    fs::write(&target, "precious").unwrap();
    symlink(&target, world.tmp().join("demo.state")).unwrap();
    let pid_file = world.tmp().join("demo.pid");
    symlink(&target, &pid_file).unwrap();
    let system = world.start_foreground(&[("PIDFILE", pid_file.to_str().unwrap())]);
    assert!(system.output().contains("cannot write PIDFILE"), "{}", system.output());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn a_daemon_uses_no_directory_that_others_may_write_to() {
    for name in ["log", "pipe"] {
        let world = shared_release("");
        let planted = world.tmp().join(name);
        fs::create_dir(&planted).unwrap();
        give_away(&planted);
        let refused = world.run(&["daemon"], &[]);
        let said = lossy_text(&refused.stderr);
        assert!(said.contains("cannot use the directory") && said.contains("65534"), "{name}: {said}");
    }
    let world = shared_release("");
    fs::create_dir(world.tmp().join("pipe")).unwrap();
    fs::set_permissions(world.tmp().join("pipe"), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = world.run(&["attach"], &[]);
    assert!(lossy_text(&refused.stderr).contains("other users may write to it"), "{}", lossy_text(&refused.stderr));
}

#[test]
fn a_log_that_another_user_linked_is_not_appended_to() {
    let world = shared_release("");
    for entry in fs::read_dir(&world.root).unwrap().map(|entry| entry.unwrap().path()) {
        let _ = fs::remove_file(entry.join("bin/run_erl"));
    }
    let target = world.dir.path().join("precious");
    fs::write(&target, "precious").unwrap();
    fs::create_dir(world.tmp().join("log")).unwrap();
    symlink(&target, world.tmp().join("log/demo.log")).unwrap();
    let refused = world.run(&["daemon"], &[]);
    assert!(lossy_text(&refused.stderr).contains("it is a symbolic link"), "{}", lossy_text(&refused.stderr));
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}
