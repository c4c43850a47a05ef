//! Tests of the hooks around a stop when a container runtime stops process 1.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::test_release::{RunningRelease, TestRelease, wait_until};

/// A release with hooks that write what happens into one file, and its start as process 1.
fn as_process_1(conf: &str, before: &str, env: &[(&str, &str)]) -> (TestRelease, RunningRelease, Pid) {
    let hooks = "hook.pre_stop = hooks/before.sh\nhook.post_stop = hooks/after.sh\n";
    let world = TestRelease::new(&format!("{hooks}{conf}"));
    world.write("hooks/before.sh", before);
    world.write("hooks/after.sh", "echo \"after $(\"$RELEASE_PROGRAM\" ping)\" >> \"$RELEASE_ROOT/told\"\n");
    let mut command = Command::new("unshare");
    world.set_environment(&mut command);
    command.args(["--pid", "--fork", "--mount-proc"]).arg(world.root.join("bin/demo")).arg("foreground");
    command.envs(env.iter().copied());
    let system = world.start_and_wait_ready(command);
    let first = fs::read_to_string(format!("/proc/{0}/task/{0}/children", system.pid())).unwrap();
    let first = Pid::from_raw(first.trim().parse().unwrap()).unwrap();
    (world, system, first)
}

fn told(world: &TestRelease) -> String {
    fs::read_to_string(world.root.join("told")).unwrap_or_default()
}

const SAY: &str = "echo \"before $(\"$RELEASE_PROGRAM\" ping)\" >> \"$RELEASE_ROOT/told\"\n";

#[test]
fn sigterm_to_process_1_runs_the_hooks_around_the_stop() {
    let named = [("RELEASE_DISTRIBUTION", "name"), ("RELEASE_NODE", "stopped@127.0.0.1"), ("RELEASE_COOKIE", "c")];
    for env in [&[][..], &named] {
        let (world, mut system, first) = as_process_1("", SAY, env);
        kill_process(first, Signal::TERM).unwrap();
        assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
        assert_eq!(told(&world), "before pong\nafter pang\n");
    }
}

#[test]
fn a_failed_hook_does_not_keep_the_system_running_and_an_end_without_a_signal_runs_none() {
    let (world, mut system, first) = as_process_1("", &format!("{SAY}exit 3\n"), &[]);
    kill_process(first, Signal::TERM).unwrap();
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
    assert_eq!(told(&world), "before pong\nafter pang\n");
    assert!(system.output().contains("before.sh` failed with code 3"), "{}", system.output());
    let named = [("RELEASE_DISTRIBUTION", "name"), ("RELEASE_NODE", "halted@127.0.0.1"), ("RELEASE_COOKIE", "c")];
    let (world, mut system, _) = as_process_1("", SAY, &named);
    let _ = world.run(&["rpc", "spawn(fn -> Process.sleep(200); System.halt(5) end)"], &named);
    assert_eq!(system.wait_for_exit_code(), Some(5), "{}", system.output());
    assert_eq!(told(&world), "");
}

#[test]
fn hooks_are_bounded_in_time_and_a_second_signal_does_not_wait_for_them() {
    let slow = format!("{SAY}sleep 600\n");
    let begun = Instant::now();
    let (world, mut system, first) = as_process_1("stop_timeout = 1\n", &slow, &[]);
    kill_process(first, Signal::TERM).unwrap();
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
    assert!(system.output().contains("took longer than 1 seconds"), "{}", system.output());
    assert_eq!(told(&world), "before pong\nafter pang\n");
    let (world, mut system, first) = as_process_1("", &slow, &[]);
    kill_process(first, Signal::TERM).unwrap();
    wait_until("the hook runs", || told(&world) == "before pong\n");
    kill_process(first, Signal::TERM).unwrap();
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
    assert!(begun.elapsed() < Duration::from_secs(300), "nobody waited for the hook");
}
