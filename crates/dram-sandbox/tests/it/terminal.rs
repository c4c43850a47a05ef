//! Commands with a pseudo-terminal.

use crate::fixture::JailFixture;
use dram_sandbox::{CommandExit, JailStdio, TerminalSize, UserIds};
use std::fs::File;
use std::io::{Read, Write};

#[test]
fn the_command_has_a_controlling_terminal() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail(
        "stty size; tty; ls -l /dev/console | cut -c1; read line; echo got $line; echo through > /dev/tty; exit 5",
    );
    jail.terminal = Some(TerminalSize { rows: 33, columns: 77 });
    jail.user = UserIds { uid: 1000, gid: 1000, groups: vec![] };
    let mut running = jail.spawn(JailStdio::Terminal).unwrap();
    let mut terminal = File::from(running.take_terminal().unwrap());
    terminal.write_all(b"typed\n").unwrap();
    let mut said = Vec::new();
    // Ends with `EIO` when the last process closes the other end.
    let _ = terminal.read_to_end(&mut said);
    let said = String::from_utf8(said).unwrap();
    for line in ["33 77", "/dev/pts/0", "c", "got typed", "through"] {
        assert!(said.lines().any(|found| found.trim_end() == line), "{line} in {said}");
    }
    assert_eq!(running.wait().unwrap(), CommandExit::Code(5));
}

#[test]
fn typed_interrupts_reach_the_command() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("trap 'exit 6' INT; echo ready; while :; do sleep 0.05; done");
    jail.terminal = Some(TerminalSize { rows: 33, columns: 77 });
    let mut running = jail.spawn(JailStdio::Terminal).unwrap();
    let mut terminal = File::from(running.take_terminal().unwrap());
    terminal.read_exact(&mut [0; 5]).unwrap();
    terminal.write_all(b"\x03").unwrap();
    assert_eq!(running.wait().unwrap(), CommandExit::Code(6));
}
