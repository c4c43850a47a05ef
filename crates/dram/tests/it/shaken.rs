//! The short form of `bench/robust`: kills, a crowd, full disks, power cuts. Its long form makes the figures of
//! docs/robustness.md.

use crate::support::{dram_path, repo, tool};

/// Runs groups of it; it ends with 1 where something is lost or left.
#[track_caller]
fn stands(groups: &[&str], rounds: u32) {
    let program = repo("bench/robust/robust.py");
    let words = ["--seconds", "10", "--mebibytes", "300", "--rounds", &rounds.to_string()];
    let done = tool("python3").arg("-B").arg(program).arg("--dram").arg(dram_path()).args(words).args(groups).ok();
    assert_eq!(done.stdout.matches("\n| ").count(), groups.len() + 1, "each group has its row\n{done}");
}

#[test]
fn kills_of_builds_and_prunes_leave_nothing() {
    stands(&["kill -9 of build", "kill -9 of prune"], 10);
}

#[test]
fn kills_of_what_moves_images_leave_nothing() {
    stands(&["kill -9 of pull", "kill -9 of push", "kill -9 of save", "kill -9 of load", "kill -9 of copy"], 10);
}

#[test]
fn eight_at_once_lose_nothing() {
    stands(&["crowd"], 10);
}

#[test]
fn full_and_read_only_disks_are_told() {
    stands(&["full disk", "read-only store"], 10);
}

#[test]
fn a_power_cut_takes_nothing_that_was_done() {
    stands(&["power cut"], 10);
}

#[test]
fn few_files_and_little_memory_are_enough_or_told() {
    stands(&["few files", "memory"], 10);
}
