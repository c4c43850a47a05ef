//! Start and end of a command, and failures to start.

use crate::fixture::{JailFixture, run_jail, run_ok, spawn_jail};
use dram_sandbox::{CommandExit, SandboxError};

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

fn refusal(house: &JailFixture, argv: &[&str]) -> SandboxError {
    spawn_jail(&house.jail_with(argv)).unwrap_err()
}

#[test]
fn the_exit_status_is_that_of_the_command() {
    let house = JailFixture::with_mount_points();
    assert_eq!(run_jail(&house.shell_jail("exit 7")).exit, CommandExit::Code(7));
    assert_eq!(run_jail(&house.shell_jail("sh -c 'kill -9 $$'; exit $?")).exit, CommandExit::Code(137));
    let mut running = spawn_jail(&house.jail_with(&["sleep", "1000"])).unwrap();
    running.kill();
    assert_eq!(running.wait().unwrap(), CommandExit::Signal(9));
    assert_eq!(running.wait().unwrap().code(), 137);
}

#[test]
fn resource_usage_covers_the_processes_that_the_command_waited_for() {
    let house = JailFixture::with_mount_points();
    let loops = |count| format!("sh -c 'i=0; while [ $i -lt {count} ]; do i=$((i+1)); done'; exit 0");
    let usage = |script: &str| {
        let mut running = spawn_jail(&house.shell_jail(script)).unwrap();
        assert_eq!(running.usage(), None);
        running.wait().unwrap();
        running.usage().unwrap()
    };
    let (little, much) = (usage(&loops(1)), usage(&loops(300_000)));
    assert!(much.user_time > little.user_time + std::time::Duration::from_millis(20), "{little:?} {much:?}");
    assert!((64 << 10..1 << 30).contains(&much.max_rss), "{much:?}");
}

#[test]
fn signals_are_forwarded_to_the_command() {
    let house = JailFixture::with_mount_points();
    let jail = house.shell_jail("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let mut running = spawn_jail(&jail).unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut running.take_stdout().unwrap(), &mut ready).unwrap();
    running.signal_handle().signal(15);
    assert_eq!(running.wait().unwrap(), CommandExit::Code(3));
}

#[test]
fn path_of_the_environment_is_searched_in_order() {
    let house = JailFixture::with_mount_points();
    house.write_program("opt/first/tool", "#!/bin/sh\necho first\n");
    house.write_program("opt/second/tool", "#!/bin/sh\necho second\n");
    house.write_file("opt/none/tool", "not executable");
    let mut jail = house.jail_with(&["tool"]);
    jail.env = vec![b"PATH=/nowhere:/opt/none:/opt/second:/opt/first".to_vec()];
    assert_eq!(run_ok(&jail), "second\n");
    jail.argv = vec![b"./tool".to_vec()];
    jail.cwd = b"/opt/first".to_vec();
    assert_eq!(run_ok(&jail), "first\n");
}

#[test]
fn a_missing_program_is_command_not_found() {
    let house = JailFixture::with_mount_points();
    house.write_file("etc/data", "x");
    assert!(
        matches!(refusal(&house, &["/bin/foo"]), SandboxError::CommandNotFound { program } if program == "/bin/foo")
    );
    assert!(matches!(refusal(&house, &["foo"]), SandboxError::CommandNotFound { .. }));
    assert!(matches!(refusal(&house, &["/etc/data"]), SandboxError::NotExecutable { .. }));
    assert!(matches!(refusal(&house, &["/etc"]), SandboxError::NotExecutable { .. }));
    assert!(house.changed_paths().is_empty());
}

#[test]
#[allow(clippy::wildcard_enum_match_arm, reason = "`SandboxError` is not exhaustive for other crates")]
fn a_missing_interpreter_is_an_error_with_its_path() {
    let house = JailFixture::with_mount_points();
    house.write_program("bin/glibc", dynamic_program("/lib64/ld-linux-x86-64.so.2"));
    house.write_program("bin/script", "#!/usr/bin/python3 -u\n");
    house.write_program("bin/dos", "#!/bin/sh\r\n");
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
    let house = JailFixture::with_mount_points();
    house.make_dir("work/er");
    house.make_link("/work/er", "short");
    let mut jail = house.jail_with(&["pwd"]);
    jail.cwd = b"/short".to_vec();
    assert_eq!(run_ok(&jail), "/work/er\n");
    for hostile in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/cwd", "/nowhere", "/bin/sh"] {
        jail.cwd = hostile.as_bytes().to_vec();
        let error = spawn_jail(&jail).unwrap_err();
        assert!(matches!(error, SandboxError::WorkingDirectory { .. }), "{hostile}: {error}");
    }
    jail.cwd = b"/work/../../../..".to_vec();
    assert_eq!(run_ok(&jail), "/\n");
}

#[test]
fn an_invalid_description_is_refused() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.jail_with(&["true"]);
    jail.cwd = b"relative".to_vec();
    assert!(matches!(spawn_jail(&jail), Err(SandboxError::Description { .. })));
    assert!(matches!(spawn_jail(&house.jail_with(&[])), Err(SandboxError::Description { .. })));
    assert!(matches!(spawn_jail(&house.jail_with(&["a\0b"])), Err(SandboxError::Description { .. })));
}

#[test]
fn arguments_that_are_not_utf8_are_passed_unchanged() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.jail_with(&["printf", "%s"]);
    jail.argv.push(b"\xff\n\x1b\"\\".to_vec());
    let mut running = spawn_jail(&jail).unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut running.take_stdout().unwrap(), &mut said).unwrap();
    assert_eq!(said, b"\xff\n\x1b\"\\");
}

#[test]
fn an_environment_of_120_kb_is_passed() {
    let house = JailFixture::with_mount_points();
    let mut jail = house.shell_jail("echo ${#BIG}");
    jail.env.push([b"BIG=".to_vec(), vec![b'x'; 120_000]].concat());
    assert_eq!(run_ok(&jail), "120000\n");
}

#[test]
fn jails_can_run_in_parallel() {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let house = JailFixture::with_mount_points();
                assert_eq!(run_ok(&house.shell_jail(&format!("echo {number}"))), format!("{number}\n"));
            });
        }
    });
}
