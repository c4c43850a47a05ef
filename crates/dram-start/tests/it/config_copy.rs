//! Tests that the copy of a configuration with secrets does not stay.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::test_release::{TestRelease, lossy_text, wait_until};

const NAMED: [(&str, &str); 4] =
    [("RELEASE_DISTRIBUTION", "sname"), ("RELEASE_NODE", "copied"), ("RELEASE_COOKIE", "secret"), ("WHO", "somebody")];

fn release() -> TestRelease {
    let world = TestRelease::new("replace_os_vars = true\n");
    world.write("releases/0.1.0/sys.config", "[{demo,[{greeting,\"${WHO}\"}]}].\n");
    world
}

/// The copies that are there.
fn copies(world: &TestRelease) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(world.tmp()) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().contains("runtime")).collect()
}

#[test]
fn evals_leave_no_copy_and_need_no_directory_without_one() {
    let world = release();
    for _ in 0..3 {
        let read = "IO.inspect(Application.load(:demo)); IO.inspect(Application.get_env(:demo, :greeting))";
        assert_eq!(world.run_ok(&["eval", read], &[("WHO", "me")]), ":ok\n'me'\n");
    }
    assert_eq!(world.run(&["eval", "raise \"no\""], &[("WHO", "me")]).status.code(), Some(1));
    wait_until("the copies are removed", || copies(&world).is_empty());
    // Without variables the release's own file is read, and nothing is written.
    let world = TestRelease::new("runtime_config = true\n");
    world.run_ok(&["eval", "1"], &[]);
    assert!(!world.tmp().exists());
}

#[test]
fn the_copy_lasts_as_long_as_the_system_also_across_a_restart_inside_it() {
    let world = release();
    let mut system = world.start_foreground(&NAMED);
    assert_eq!(copies(&world).len(), 1);
    world.run_ok(&["restart"], &NAMED);
    wait_until("it is ready again", || system.output().matches("READY 'somebody'").count() == 2);
    world.run_ok(&["reload_config"], &NAMED);
    assert_eq!(copies(&world).len(), 1, "that of `reload_config` is removed");
    world.run_ok(&["stop"], &NAMED);
    assert_eq!(system.wait_for_exit_code(), Some(0));
    wait_until("the copy is removed", || copies(&world).is_empty());
}

#[test]
fn a_copy_below_a_relative_release_tmp_is_removed() {
    let world = release();
    let mut command = world.command(&["eval", "IO.puts(System.get_env(\"RELEASE_SYS_CONFIG\"))"]);
    command.current_dir(world.dir.path()).envs([("RELEASE_TMP", "tmp"), ("WHO", "me")]);
    let read = lossy_text(&command.output().unwrap().stdout);
    assert!(read.starts_with(world.tmp().to_str().unwrap()), "{read}");
    wait_until("the copy is removed", || copies(&world).is_empty());
}

#[test]
fn a_copy_that_a_crash_left_is_removed_by_the_next_start_and_one_in_use_is_not() {
    let world = release();
    let left = world.tmp().join("demo-0.1.0-00000000.runtime");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("sys.config"), "secret").unwrap();
    let foreign = world.tmp().join("demo-0.1.0-11111111.runtime");
    fs::create_dir(&foreign).unwrap();
    std::os::unix::fs::lchown(&foreign, Some(65534), Some(65534)).unwrap();
    let mut first = world.start_foreground(&NAMED);
    assert!(!left.exists() && foreign.exists());
    let second = [("RELEASE_DISTRIBUTION", "none"), ("WHO", "other")];
    drop(world.start_foreground(&second));
    wait_until("the second copy is removed", || copies(&world).len() == 2);
    first.send_signal(Signal::TERM);
    assert_eq!(first.wait_for_exit_code(), Some(0), "{}", first.output());
    wait_until("the first copy is removed", || copies(&world) == [foreign.clone()]);
}

#[test]
fn a_daemon_returns_although_a_process_waits_to_remove_its_copy() {
    let world = release();
    for entry in fs::read_dir(&world.root).unwrap().map(|entry| entry.unwrap().path()) {
        let _ = fs::remove_file(entry.join("bin/run_erl"));
    }
    let started = world.run(&["daemon"], &[("WHO", "me")]);
    assert!(started.status.success(), "{}", lossy_text(&started.stderr));
    assert_eq!(copies(&world).len(), 1);
    world.run_ok(&["stop"], &[("WHO", "me")]);
    wait_until("the copy is removed", || copies(&world).is_empty());
}
