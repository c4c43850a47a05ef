//! Tests that no other user can read the cookie of a node.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::test_release::{TestRelease, lossy_text, wait_until};

const SECRET: &str = "ThisIsTheSecret";

/// The command lines of all processes of this machine that mention `word`, except those of other tests.
fn command_lines(word: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.filter_map(|process| fs::read(process.join("cmdline")).ok());
    lines.map(|line| lossy_text(&line)).filter(|line| line.contains(word)).collect()
}

/// Checks that the node `name` runs, with the cookie, which is on no command line.
fn check_hidden(world: &TestRelease, name: &str, env: &[(&str, &str)]) {
    assert_eq!(world.run_ok(&["rpc", "IO.puts(Node.get_cookie())"], env), format!("{SECRET}\n"));
    let node = format!("-sname\0{name}\0-setcookie\0(hidden)\0");
    assert!(command_lines(&node).len() == 1, "{:?}", command_lines(name));
    assert_eq!(command_lines(SECRET), Vec::<String>::new());
    // The emulator knows it as an argument, as always.
    let known = "IO.inspect(:init.get_argument(:setcookie))";
    assert_eq!(world.run_ok(&["rpc", known], env), format!("{{:ok, [['{SECRET}']]}}\n"));
}

#[test]
fn the_cookie_of_every_source_is_on_no_command_line() {
    for (index, source) in ["variable", "vm.args", "file", "generated"].iter().enumerate() {
        let world = TestRelease::new("distribution = sname\n");
        let name = format!("hidden{index}x{}", std::process::id());
        let mut env = vec![("RELEASE_NODE", name.as_str())];
        match *source {
            "variable" => env.push(("RELEASE_COOKIE", SECRET)),
            "vm.args" => world.write("releases/0.1.0/vm.args", &format!("-setcookie {SECRET}\n")),
            "file" => world.write("releases/COOKIE", SECRET),
            _ => {
                fs::create_dir(world.tmp()).unwrap();
                fs::write(world.tmp().join("demo.cookie"), SECRET).unwrap();
                let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                fs::set_permissions(world.tmp().join("demo.cookie"), private).unwrap();
            }
        }
        let _system = world.start_foreground(&env);
        check_hidden(&world, &name, &env);
    }
}

#[test]
fn the_cookie_of_a_daemon_of_process_1_and_of_a_remote_shell_is_on_no_command_line() {
    let world = TestRelease::new("distribution = sname\n");
    let name = format!("hiddend{}", std::process::id());
    let env = [("RELEASE_NODE", name.as_str()), ("RELEASE_COOKIE", SECRET)];
    world.run_ok(&["daemon"], &env);
    wait_until("the daemon answers", || world.run(&["ping"], &env).status.success());
    check_hidden(&world, &name, &env);
    let mut command = Command::new("script");
    world.set_environment(&mut command);
    let call = format!("exec {} remote_console", world.root.join("bin/demo").display());
    command.envs(env).env("TERM", "xterm").args(["-qec", &call, "/dev/null"]).stdin(Stdio::piped());
    let mut shell = world.spawn(command);
    shell.wait_for(&format!("iex({name}@"));
    assert_eq!(command_lines(SECRET), Vec::<String>::new());
    let mut keys = shell.child.stdin.take().unwrap();
    keys.write_all(b"\x07").unwrap();
    shell.wait_for("-->");
    keys.write_all(b"q\r").unwrap();
    assert_eq!(shell.wait_for_exit_code(), Some(0));
    world.run_ok(&["stop"], &env);

    let name = format!("hiddenp{}", std::process::id());
    let env = [("RELEASE_NODE", name.as_str()), ("RELEASE_COOKIE", SECRET)];
    let mut command = Command::new("unshare");
    world.set_environment(&mut command);
    command.args(["--pid", "--fork", "--mount-proc"]).arg(world.root.join("bin/demo")).arg("foreground").envs(env);
    let _system = world.start_and_wait_ready(command);
    check_hidden(&world, &name, &env);
    world.run_ok(&["stop"], &env);
}

#[test]
fn where_processes_cannot_be_traced_the_start_says_that_the_cookie_is_visible() {
    let world = TestRelease::new("distribution = sname\n");
    let env = [("RELEASE_NODE", "seen"), ("RELEASE_COOKIE", "visible")];
    // A process that is traced already cannot be traced by another one.
    let mut command = Command::new("strace");
    world.set_environment(&mut command);
    command.args(["-o", "/dev/null", "-e", "trace=none"]).arg(world.root.join("bin/demo")).arg("foreground").envs(env);
    let system = world.start_and_wait_ready(command);
    let said = system.output();
    assert!(said.contains("other users of this machine can see the cookie") && !said.contains("visible`"), "{said}");
    assert_eq!(world.run_ok(&["rpc", "IO.puts(Node.get_cookie())"], &env), "visible\n");
    world.run_ok(&["stop"], &env);
}
