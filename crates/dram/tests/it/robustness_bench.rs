//! Short run of `bench/robust`: kills, concurrent commands, full disks, power cuts. Its full run makes the figures of
//! docs/robustness.md.

use crate::support::{dram_path, repo, tool};

/// Runs these groups of the benchmark, which fails if anything is lost or left behind.
#[track_caller]
fn run_benchmark(groups: &[&str], rounds: u32) {
    let program = repo("bench/robust/robust.py");
    let words = ["--seconds", "10", "--mebibytes", "300", "--rounds", &rounds.to_string()];
    let done = tool("python3").arg("-B").arg(program).arg("--dram").arg(dram_path()).args(words).args(groups).ok();
    assert_eq!(done.stdout.matches("\n| ").count(), groups.len() + 1, "each group has its row\n{done}");
}

#[test]
fn killed_builds_and_prunes_lose_and_leave_nothing() {
    run_benchmark(&["kill -9 of build", "kill -9 of prune"], 10);
}

#[test]
fn killed_transfers_lose_and_leave_nothing() {
    run_benchmark(&["kill -9 of pull", "kill -9 of push", "kill -9 of save", "kill -9 of load", "kill -9 of copy"], 10);
}

#[test]
fn concurrent_commands_lose_nothing() {
    run_benchmark(&["crowd"], 10);
}

#[test]
fn full_and_read_only_disks_are_reported() {
    run_benchmark(&["full disk", "read-only store"], 10);
}

#[test]
fn a_power_cut_loses_no_completed_work() {
    run_benchmark(&["power cut"], 10);
}

#[test]
fn low_file_and_memory_limits_suffice_or_are_reported() {
    run_benchmark(&["few files", "memory"], 10);
}
