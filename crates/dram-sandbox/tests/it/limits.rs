//! Resource limits.

use crate::fixture::{JailFixture, expect_output, expect_refusal, run_ok};
use dram_sandbox::{ResourceLimit, RlimitKind};

/// The rows of `/proc/self/limits`, in the order of [`RlimitKind::ALL`].
const ROWS: [&str; 15] = [
    "Max core file size",
    "Max cpu time",
    "Max data size",
    "Max file size",
    "Max file locks",
    "Max locked memory",
    "Max msgqueue size",
    "Max nice priority",
    "Max open files",
    "Max processes",
    "Max resident set",
    "Max realtime priority",
    "Max realtime timeout",
    "Max pending signals",
    "Max stack size",
];

/// The highest value to which this process can raise a limit: the hard limit, which also binds root of some containers.
fn ceiling(row: &str) -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let numbers = limits.lines().find_map(|line| line.strip_prefix(row)).unwrap();
    numbers.split_whitespace().nth(1).unwrap().parse().unwrap_or(u64::MAX)
}

#[test]
fn every_limit_reaches_the_command() {
    let house = JailFixture::with_mount_points();
    for (limit, row) in RlimitKind::ALL.into_iter().zip(ROWS) {
        let hard = ceiling(row).min(888_888_000);
        let soft = hard - hard / 8;
        let mut jail = house.shell_jail(&format!("grep '^{row} ' /proc/self/limits"));
        jail.limits = vec![ResourceLimit { kind: limit, soft: Some(soft), hard: Some(hard) }];
        let said = run_ok(&jail);
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers, [soft, hard], "{said}");
    }
}

#[test]
fn a_limit_applies_and_can_be_unlimited() {
    expect_output("5\n9\nunlimited\n", |house| {
        let mut jail = house.shell_jail("ulimit -n; ulimit -Hn; ulimit -c");
        jail.limits = vec![
            ResourceLimit { kind: RlimitKind::Nofile, soft: Some(5), hard: Some(9) },
            ResourceLimit { kind: RlimitKind::Core, soft: None, hard: None },
        ];
        jail
    });
}

#[test]
fn a_refused_limit_is_an_error_with_its_name() {
    expect_refusal("the kernel refuses the limit `nofile` of 9 (at most 8)", |house| {
        let mut jail = house.shell_jail("true");
        jail.limits = vec![ResourceLimit { kind: RlimitKind::Nofile, soft: Some(9), hard: Some(8) }];
        jail
    });
    expect_refusal("the kernel refuses the limit `nofile` of 1024 (at most unlimited)", |house| {
        let mut jail = house.shell_jail("true");
        jail.limits = vec![ResourceLimit { kind: RlimitKind::Nofile, soft: Some(1024), hard: None }];
        jail
    });
}
