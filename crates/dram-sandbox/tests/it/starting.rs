//! Start and end of a command, and failures to start.

use crate::house::{House, out, run, start};
use dram_sandbox::{Exit, SandboxError};

/// A minimal 64-bit program that names an interpreter.
fn dynamic_program(interpreter: &str) -> Vec<u8> {
    let mut file = vec![0u8; 120];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[6] = 1;
    file[16] = 3;
    file[18..20].copy_from_slice(&(if cfg!(target_arch = "x86_64") { 62u16 } else { 183 }).to_le_bytes());
    file[20] = 1;
    file[32] = 64;
    (file[52], file[54], file[56]) = (64, 56, 1);
    file[64] = 3;
    file[72] = 120;
    let length = interpreter.len() as u8 + 1;
    (file[96], file[104]) = (length, length);
    file.extend(interpreter.as_bytes());
    file.push(0);
    file
}

fn refusal(house: &House, argv: &[&str]) -> SandboxError {
    start(&house.jail(argv)).unwrap_err()
}

#[test]
fn the_exit_status_is_that_of_the_command() {
    let house = House::usual();
    assert_eq!(run(&house.shell("exit 7")).exit, Exit::Code(7));
    assert_eq!(run(&house.shell("sh -c 'kill -9 $$'; exit $?")).exit, Exit::Code(137));
    let mut running = start(&house.jail(&["sleep", "1000"])).unwrap();
    running.kill();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    assert_eq!(running.wait().unwrap().code(), 137);
}

#[test]
fn signals_are_forwarded_to_the_command() {
    let house = House::usual();
    let jail = house.shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let mut running = start(&jail).unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut running.take_stdout().unwrap(), &mut ready).unwrap();
    running.handle().signal(15);
    assert_eq!(running.wait().unwrap(), Exit::Code(3));
}

#[test]
fn path_of_the_environment_is_searched_in_order() {
    let house = House::usual();
    house.program("opt/first/tool", "#!/bin/sh\necho first\n");
    house.program("opt/second/tool", "#!/bin/sh\necho second\n");
    house.file("opt/none/tool", "not executable");
    let mut jail = house.jail(&["tool"]);
    jail.env = vec![b"PATH=/nowhere:/opt/none:/opt/second:/opt/first".to_vec()];
    assert_eq!(out(&jail), "second\n");
    jail.argv = vec![b"./tool".to_vec()];
    jail.cwd = b"/opt/first".to_vec();
    assert_eq!(out(&jail), "first\n");
}

#[test]
fn a_missing_program_is_command_not_found() {
    let house = House::usual();
    house.file("etc/data", "x");
    assert!(
        matches!(refusal(&house, &["/bin/foo"]), SandboxError::CommandNotFound { program } if program == "/bin/foo")
    );
    assert!(matches!(refusal(&house, &["foo"]), SandboxError::CommandNotFound { .. }));
    assert!(matches!(refusal(&house, &["/etc/data"]), SandboxError::NotExecutable { .. }));
    assert!(matches!(refusal(&house, &["/etc"]), SandboxError::NotExecutable { .. }));
    assert!(house.changed().is_empty());
}

#[test]
fn a_missing_interpreter_is_an_error_with_its_path() {
    let house = House::usual();
    house.program("bin/glibc", dynamic_program("/lib64/ld-linux-x86-64.so.2"));
    house.program("bin/script", "#!/usr/bin/python3 -u\n");
    house.program("bin/dos", "#!/bin/sh\r\n");
    for (program, missing) in
        [("glibc", "/lib64/ld-linux-x86-64.so.2"), ("script", "/usr/bin/python3"), ("dos", "/bin/sh\\r")]
    {
        match refusal(&house, &[program]) {
            SandboxError::MissingInterpreter { program: found, interpreter } => {
                assert_eq!((found, interpreter), (format!("/bin/{program}"), missing.to_owned()));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_working_directory_is_resolved_inside_the_root() {
    let house = House::usual();
    house.dir("work/er");
    house.link("/work/er", "short");
    let mut jail = house.jail(&["pwd"]);
    jail.cwd = b"/short".to_vec();
    assert_eq!(out(&jail), "/work/er\n");
    for hostile in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/cwd", "/nowhere", "/bin/sh"] {
        jail.cwd = hostile.as_bytes().to_vec();
        let error = start(&jail).unwrap_err();
        assert!(matches!(error, SandboxError::WorkingDirectory { .. }), "{hostile}: {error}");
    }
    jail.cwd = b"/work/../../../..".to_vec();
    assert_eq!(out(&jail), "/\n");
}

#[test]
fn an_invalid_description_is_refused() {
    let house = House::usual();
    let mut jail = house.jail(&["true"]);
    jail.cwd = b"relative".to_vec();
    assert!(matches!(start(&jail), Err(SandboxError::Description { .. })));
    assert!(matches!(start(&house.jail(&[])), Err(SandboxError::Description { .. })));
    assert!(matches!(start(&house.jail(&["a\0b"])), Err(SandboxError::Description { .. })));
}

#[test]
fn arguments_that_are_not_utf8_are_passed_unchanged() {
    let house = House::usual();
    let mut jail = house.jail(&["printf", "%s"]);
    jail.argv.push(b"\xff\n\x1b\"\\".to_vec());
    let mut running = start(&jail).unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut running.take_stdout().unwrap(), &mut said).unwrap();
    assert_eq!(said, b"\xff\n\x1b\"\\");
}

#[test]
fn an_environment_of_120_kb_is_passed() {
    let house = House::usual();
    let mut jail = house.shell("echo ${#BIG}");
    jail.env.push([b"BIG=".to_vec(), vec![b'x'; 120_000]].concat());
    assert_eq!(out(&jail), "120000\n");
}

#[test]
fn jails_can_run_in_parallel() {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let house = House::usual();
                assert_eq!(out(&house.shell(&format!("echo {number}"))), format!("{number}\n"));
            });
        }
    });
}
