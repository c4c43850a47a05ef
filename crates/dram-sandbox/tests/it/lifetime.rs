//! No process or mount of a jail outlives its caller, however the caller dies.

use crate::fixture::{JailFixture, PROBE, probe_command, spawn_jail};
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Returns true if any process has this word in its command line.
fn alive(word: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).split('\0').any(|part| part == word))
}

fn mounted(house: &JailFixture) -> bool {
    let place = house.dir.to_str().unwrap().to_owned();
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&place)
}

fn soon(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "not soon: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A caller that is killed when a test fails.
struct KilledCaller(Child);

impl Drop for KilledCaller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn caller(house: &JailFixture, seconds: &str) -> KilledCaller {
    let jail = house.shell_jail(&format!("sleep {seconds} & setsid sleep {seconds} & sleep {seconds}"));
    let child = probe_command(house, &jail, &["/usr/bin/env"]).stderr(Stdio::piped()).spawn().unwrap();
    let caller = KilledCaller(child);
    soon("the jail runs", || alive(seconds));
    caller
}

#[test]
fn a_killed_caller_ends_all_processes_and_mounts_of_the_jail() {
    let house = JailFixture::with_mount_points();
    drop(caller(&house, "7001"));
    soon("the jail is gone", || !alive("7001"));
    assert!(!mounted(&house));
}

#[test]
fn a_killed_helper_ends_the_jail() {
    let house = JailFixture::with_mount_points();
    let mut caller = caller(&house, "7002");
    let children = format!("/proc/{0}/task/{0}/children", caller.0.id());
    let helper: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(helper).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    soon("the jail is gone", || !alive("7002"));
    assert_eq!(caller.0.wait().unwrap().code(), Some(99));
}

#[test]
fn dropping_the_running_jail_ends_it() {
    let house = JailFixture::with_mount_points();
    drop(spawn_jail(&house.jail_with(&["sleep", "7003"])).unwrap());
    assert!(!alive("7003") && !mounted(&house));
}

#[test]
fn background_processes_end_with_the_command() {
    let house = JailFixture::with_mount_points();
    let mut running = spawn_jail(&house.shell_jail("sleep 7004 & sleep 0.05")).unwrap();
    running.wait().unwrap();
    assert!(!alive("7004"));
}

#[test]
fn the_thread_that_spawned_the_jail_may_end() {
    let house = JailFixture::with_mount_points();
    let jail = house.shell_jail("sleep 0.2; exit 4");
    let mut running = std::thread::spawn(move || spawn_jail(&jail).unwrap()).join().unwrap();
    assert_eq!(running.wait().unwrap().code(), 4);
}

#[test]
fn the_helper_cannot_be_reached_from_inside() {
    let house = JailFixture::with_mount_points();
    let script = "ls -d /proc/[0-9]* | wc -l; readlink /proc/1/exe; echo x > /proc/1/exe && echo written";
    let before = fs::read(PROBE).unwrap();
    let said = crate::fixture::run_jail(&house.shell_jail(script));
    assert!(said.stdout.contains("/bin/sh") && !said.stdout.contains("written"), "{}", said.stdout);
    assert!(fs::read(PROBE).unwrap() == before);
}
