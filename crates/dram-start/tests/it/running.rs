//! Tests of the commands for a running release with a node name.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::test_release::{RunningRelease, TestRelease, lossy_text, print_note};

const NAMED: [(&str, &str); 3] =
    [("RELEASE_DISTRIBUTION", "sname"), ("RELEASE_NODE", "demo"), ("RELEASE_COOKIE", "secret")];

fn started() -> (TestRelease, RunningRelease) {
    let world = TestRelease::new("");
    let system = world.start_foreground(&NAMED);
    (world, system)
}

#[test]
fn rpc_prints_output_returns_errors_and_takes_less_than_50_ms() {
    let (world, system) = started();
    assert_eq!(world.run_ok(&["ping"], &NAMED), "pong\n");
    assert_eq!(world.run_ok(&["pid"], &NAMED), format!("{}\n", system.pid()));
    let code = "IO.puts(\"€\"); IO.inspect({:a, 1.5}); :io.format(\"~ts~n\", [\"é\"]); IO.write([\"x\", ?y, \"\\n\"])";
    assert_eq!(world.run_ok(&["rpc", code], &NAMED), "€\n{:a, 1.5}\né\nxy\n");
    assert_eq!(world.run_ok(&["rpc", "IO.inspect(IO.gets(\"? \"))"], &NAMED), "? :eof\n");
    let raised = world.run(&["rpc", "raise \"boom\""], &NAMED);
    assert_eq!(raised.status.code(), Some(1));
    assert!(lossy_text(&raised.stderr).contains("** (RuntimeError) boom"), "{}", lossy_text(&raised.stderr));
    for (reason, code) in [("{:shutdown, 4}", 4), (":shutdown", 0), (":normal", 0), (":other", 1)] {
        assert_eq!(world.run(&["rpc", &format!("exit({reason})")], &NAMED).status.code(), Some(code), "{reason}");
    }
    let big = "IO.puts(String.duplicate(\"0123456789\", 500_000))";
    assert_eq!(world.run_ok(&["rpc", big], &NAMED).len(), 5_000_001);
    let file = world.dir.path().join("code.exs");
    fs::write(&file, "IO.puts(:from_file)").unwrap();
    assert_eq!(world.run_ok(&["rpc", "--file", file.to_str().unwrap()], &NAMED), "from_file\n");
    assert_eq!(world.run_ok(&["rpc", "--mfa", "IO.inspect/1", "--argv", "a", "b"], &NAMED), "[\"a\", \"b\"]\n");
    assert!(world.run_ok(&["info"], &NAMED).contains("application_controller"));
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            world.run_ok(&["rpc", ":ok"], &NAMED);
            begun.elapsed()
        })
        .collect();
    times.sort();
    print_note(&format!("rpc: {:?} at least, {:?} in the middle", times[0], times[10]));
    assert!(times[0].as_millis() < 50);
}

#[test]
fn stop_and_restart_end_and_restart_the_release() {
    let (world, mut system) = started();
    world.run_ok(&["restart"], &NAMED);
    crate::test_release::wait_until("it is ready again", || system.output().matches("READY").count() == 2);
    world.run_ok(&["stop"], &NAMED);
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
    let silent = world.run(&["ping"], &NAMED);
    assert_eq!((silent.status.code(), lossy_text(&silent.stdout).as_str()), (Some(1), "pang\n"));
}

#[test]
fn a_wrong_cookie_is_an_error_of_ping_and_stop() {
    let (world, _system) = started();
    let mut wrong = NAMED;
    wrong[2].1 = "other";
    for command in ["ping", "stop"] {
        let output = world.command(&[command]).envs(wrong).env("RELEASE_TMP", "/nonexistent").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(lossy_text(&output.stderr).contains("does not take our cookie"), "{}", lossy_text(&output.stderr));
    }
}

#[test]
fn a_cookie_is_generated_when_none_is_set_and_refused_when_others_can_read_it() {
    let world = TestRelease::new("distribution = sname\n");
    let mut system = world.start_foreground(&[]);
    assert!(system.output().contains("no cookie is set: a new one is in"), "{}", system.output());
    let path = world.tmp().join("demo.cookie");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&path).unwrap().len(), 32);
    assert_eq!(world.run_ok(&["rpc", "IO.puts(1)"], &[]), "1\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = world.run(&["rpc", "1"], &[]);
    assert!(lossy_text(&refused.stderr).contains("others may know it"), "{}", lossy_text(&refused.stderr));
    world.run_ok(&["stop"], &[("RELEASE_COOKIE", lossy_text(&fs::read(&path).unwrap()).as_str())]);
    assert_eq!(system.wait_for_exit_code(), Some(0));
}

#[test]
fn the_node_name_is_taken_from_vm_args_or_the_option() {
    let world = TestRelease::new("");
    world.write("releases/0.1.0/vm.args", "-name written@127.0.0.1\n-setcookie \"in file\"\n");
    let system = world.start_foreground(&[]);
    assert_eq!(world.run_ok(&["rpc", "IO.puts(node())"], &[]), "written@127.0.0.1\n");
    // The release may read its name and cookie, as with Mix.
    let told = "for name <- ~w(DISTRIBUTION NODE COOKIE), do: IO.puts(System.get_env(\"RELEASE_\" <> name))";
    assert_eq!(world.run_ok(&["rpc", told], &[]), "name\nwritten@127.0.0.1\nin file\n");
    drop(system);
    let mut command = world.command(&["foreground", "--sname", "asked"]);
    command.env("RELEASE_TMP", world.dir.path().join("other"));
    let _system = world.start_and_wait_ready(command);
    let asked = [("RELEASE_DISTRIBUTION", "sname"), ("RELEASE_NODE", "asked")];
    assert!(world.run_ok(&["rpc", "IO.puts(node())"], &asked).starts_with("asked@"));
}

#[test]
fn rpc_of_an_erlang_release_evaluates_erlang() {
    let (world, _system) = started();
    world.write("releases/0.1.0/start.conf", "name = demo\n");
    assert_eq!(world.run_ok(&["rpc", "lists:sum([1, 2])"], &NAMED), "3\n");
    assert_eq!(world.run_ok(&["rpc", "X = 2, io:format(\"~p~n\", [X]), {X, \"t\"}."], &NAMED), "2\n{2,\"t\"}\n");
    for (code, said) in [("1 +", "syntax error"), ("1/0", "badarith"), ("'a", "unterminated atom")] {
        let output = world.run(&["rpc", code], &NAMED);
        assert_eq!(output.status.code(), Some(1));
        assert!(lossy_text(&output.stderr).contains(said), "{}", lossy_text(&output.stderr));
    }
}

#[test]
fn reload_config_applies_a_changed_sys_config() {
    let (world, _system) = started();
    let read = "IO.inspect(Application.get_env(:demo, :greeting))";
    assert_eq!(world.run_ok(&["rpc", read], &NAMED), "nil\n");
    world.write("releases/0.1.0/sys.config", "[{demo,[{greeting,hello}]}].\n");
    world.run_ok(&["reload_config"], &NAMED);
    assert_eq!(world.run_ok(&["rpc", read], &NAMED), ":hello\n");
}

#[test]
fn remote_console_opens_a_shell_in_the_running_node() {
    let (world, system) = started();
    let mut command = Command::new("script");
    world.set_environment(&mut command);
    let call = format!("exec {} remote_console", world.root.join("bin/demo").display());
    command.envs(NAMED).env("TERM", "xterm").args(["-qec", &call, "/dev/null"]).stdin(Stdio::piped());
    let mut shell = world.spawn(command);
    shell.wait_for("iex(demo@");
    let mut keys = shell.child.stdin.take().unwrap();
    keys.write_all(b"IO.puts(\"process \" <> System.pid())\r").unwrap();
    shell.wait_for(&format!("process {}", system.pid()));
    keys.write_all(b"\x07").unwrap();
    shell.wait_for("-->");
    keys.write_all(b"q\r").unwrap();
    assert_eq!(shell.wait_for_exit_code(), Some(0));
}

#[test]
fn a_configuration_that_is_copied_includes_the_files_beside_it_and_is_read_again_with_them() {
    let world = TestRelease::new("replace_os_vars = true\n");
    world.write("releases/0.1.0/sys.config", "[{demo,[{host,\"${HOSTNAME:-here}\"},{greeting,none}]},\"./extra\"].\n");
    world.write("releases/0.1.0/extra.config", "[{demo,[{greeting,hello}]}].\n");
    let system = world.start_foreground(&NAMED);
    assert!(system.output().contains("READY :hello"), "{}", system.output());
    world.write("releases/0.1.0/extra.config", "[{demo,[{greeting,again}]}].\n");
    world.run_ok(&["reload_config"], &NAMED);
    let read = "IO.inspect(for key <- [:greeting, :host], do: Application.get_env(:demo, key))";
    assert_eq!(world.run_ok(&["rpc", read], &NAMED), "[:again, 'here']\n");
}
