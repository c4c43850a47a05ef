//! Tests of a release without other nodes: start, stop, settings, hooks, and incomplete environments.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::test_release::{TestRelease, lossy_text, program, wait_until};

#[test]
fn the_program_is_small_and_statically_linked() {
    let size = fs::metadata(program()).unwrap().len();
    assert!(size <= 300_000, "{size} bytes");
    let output = Command::new("ldd").arg(program()).output().unwrap();
    let said = lossy_text(&output.stdout) + &lossy_text(&output.stderr);
    assert!(said.contains("not a dynamic executable") || said.contains("statically linked"), "{said}");
}

#[test]
fn foreground_starts_and_exits_with_zero_on_sigterm() {
    let world = TestRelease::new("");
    let mut system = world.start_foreground(&[]);
    system.send_signal(Signal::TERM);
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
}

#[test]
fn without_a_node_name_ping_pid_and_stop_use_the_state_file() {
    let world = TestRelease::new("");
    assert_eq!(world.run(&["ping"], &[]).status.code(), Some(1));
    let mut system = world.start_foreground(&[]);
    assert_eq!(world.run_ok(&["ping"], &[]), "pong\n");
    assert_eq!(world.run_ok(&["pid"], &[]), format!("{}\n", system.pid()));
    let refused = world.run(&["rpc", "1"], &[]);
    assert!(lossy_text(&refused.stderr).contains("it has no node name"), "{}", lossy_text(&refused.stderr));
    world.run_ok(&["stop"], &[]);
    assert_eq!(system.wait_for_exit_code(), Some(0));
    let stopped = world.run(&["stop"], &[]);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(lossy_text(&stopped.stderr).contains("help: "));
}

#[test]
fn commands_are_run_and_an_unknown_one_gets_a_suggestion() {
    let world = TestRelease::new("command.greet = extra/greet.sh | Says hello\n");
    world.write("extra/greet.sh", "notice \"hello $1 from $RELEASE_NAME\"\n");
    let usage = world.run_ok(&[], &[]);
    assert!(usage.contains("remote_console") && usage.contains("Says hello"), "{usage}");
    assert_eq!(world.run_ok(&["version"], &[]), "demo 0.1.0\n");
    assert_eq!(world.run_ok(&["greet", "you"], &[]), "hello you from demo\n");
    let wrong = world.run(&["strat"], &[]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(lossy_text(&wrong.stderr).contains("did you mean `start`?"));
}

#[test]
fn eval_runs_in_a_new_emulator() {
    let world = TestRelease::new("");
    assert_eq!(world.run_ok(&["eval", "IO.puts(1 + 1)"], &[]), "2\n");
    assert_eq!(world.run_ok(&["eval", "IO.inspect(System.argv())", "a", "b"], &[]), "[\"a\", \"b\"]\n");
    assert_eq!(world.run_ok(&["eval", "--mfa", "IO.puts/1", "say \"#{x}\""], &[]), "say \"#{x}\"\n");
    assert_eq!(world.run(&["eval", "raise \"no\""], &[]).status.code(), Some(1));
    let erlang = TestRelease::new("");
    erlang.write("releases/0.1.0/start.conf", "name = demo\n");
    assert_eq!(erlang.run_ok(&["eval", "io:format(\"~p~n\", [1 + 1])"], &[]), "2\n");
}

#[test]
fn variables_are_replaced_and_unset_ones_are_an_error() {
    let world = TestRelease::new("replace_os_vars = true\n");
    world.write("releases/0.1.0/sys.config", "%% coding: utf-8\n[{demo,[{greeting,\"${WHO:-nobody}\"}]}].\n");
    let seen = world.start_foreground(&[("WHO", "somebody")]);
    assert!(seen.output().contains("READY 'somebody'"), "{}", seen.output());
    let copies = fs::read_dir(world.tmp()).unwrap().map(|entry| entry.unwrap().path());
    let copy = copies.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "runtime")).unwrap();
    assert_eq!(fs::metadata(copy.join("sys.config")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o700);
    drop(seen);
    wait_until("the copy is removed with the system", || !copy.exists());
    world.write("releases/0.1.0/vm.args", "+P 5000\n-demo ${NOT_THERE}\n");
    let refused = world.run(&["foreground"], &[]);
    let said = lossy_text(&refused.stderr);
    assert!(said.contains("vm.args` line 2") && said.contains("${NOT_THERE}"), "{said}");
}

#[test]
fn env_sh_and_hooks_are_sourced_by_a_shell() {
    let hooks = "hook.pre_start = hooks/pre\nhook.post_start = hooks/post.sh\nhook.pre_stop = hooks/stop.sh\n";
    let world = TestRelease::new(hooks);
    world.write("releases/0.1.0/env.sh", "RELEASE_TMP=\"$RELEASE_TMP/of-$RELEASE_COMMAND\"\n");
    world.write("hooks/pre/1.sh", "HOOKED=one\n");
    world.write("hooks/pre/2.sh", "echo \"$HOOKED\" > \"$RELEASE_ROOT/pre\"\n");
    world.write("hooks/post.sh", "\"$RELEASE_PROGRAM\" version > \"$RELEASE_ROOT/post\"\n");
    world.write("hooks/stop.sh", "touch \"$RELEASE_ROOT/stopped\"\n");
    let mut system = world.start_foreground(&[]);
    assert_eq!(fs::read_to_string(world.root.join("pre")).unwrap(), "one\n");
    // An Elixir release has the words of Mix.
    assert!(world.tmp().join("of-start/demo.state").exists());
    wait_until("the hook after the start", || {
        fs::read(world.root.join("post")).is_ok_and(|text| text == b"demo 0.1.0\n")
    });
    // `env.sh` gives every command a directory of its own here, so that of the release is set.
    world.write("releases/0.1.0/env.sh", "RELEASE_TMP=\"$RELEASE_TMP/of-start\"\n");
    world.run_ok(&["stop"], &[]);
    assert_eq!(system.wait_for_exit_code(), Some(0));
    assert!(world.root.join("stopped").exists());
}

#[test]
fn the_process_that_waits_for_an_answer_ends_with_a_system_that_does_not_boot() {
    let world = TestRelease::new("hook.post_start = hooks/post.sh\n");
    world.write("hooks/post.sh", "touch \"$RELEASE_ROOT/post\"\n");
    world.write("releases/0.1.0/sys.config", "this is no term");
    let mut command = world.command(&["foreground"]);
    command.envs([("RELEASE_NODE", "failing"), ("RELEASE_COOKIE", "secret")]);
    // Nothing asks for the exit code of the system before the waiting process has ended: until then it is a zombie.
    let failing = world.spawn(command);
    let program = world.root.join("bin/demo").display().to_string();
    let running = || {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        processes
            .filter_map(|process| fs::read(process.join("cmdline")).ok())
            .any(|line| String::from_utf8_lossy(&line).starts_with(&program))
    };
    wait_until("the waiting process ends", || !running() && !failing.output().is_empty());
    assert!(!world.root.join("post").exists());
}

#[test]
fn the_limit_of_open_files_is_set_as_configured() {
    let world = TestRelease::new("nofile = 4096\n");
    let system = world.start_foreground(&[]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", system.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("4096"), "{line}");
}

#[test]
fn a_daemon_starts_without_run_erl_and_without_a_shell() {
    let world = TestRelease::new("");
    for entry in fs::read_dir(&world.root).unwrap().map(|entry| entry.unwrap().path()) {
        let _ = fs::remove_file(entry.join("bin/run_erl"));
    }
    world.run_ok(&["daemon"], &[]);
    let log = world.tmp().join("log/demo.log");
    wait_until("the daemon is ready", || fs::read_to_string(&log).is_ok_and(|text| text.contains("READY")));
    assert_eq!(world.run_ok(&["ping"], &[]), "pong\n");
    world.run_ok(&["stop"], &[]);
    fs::write(world.root.join("releases/0.1.0/vm.args"), "-start_epmd maybe\n").unwrap();
    let failed = world.run(&["daemon"], &[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(lossy_text(&failed.stderr).contains("`-start_epmd maybe`"), "{}", lossy_text(&failed.stderr));
}

#[test]
fn process_1_reaps_orphans_and_forwards_signals() {
    let world = TestRelease::new("");
    let mut command = Command::new("unshare");
    world.set_environment(&mut command);
    command.args(["--pid", "--fork", "--mount-proc"]).arg(world.root.join("bin/demo")).arg("foreground");
    command.envs([("RELEASE_DISTRIBUTION", "name"), ("RELEASE_NODE", "one@127.0.0.1"), ("RELEASE_COOKIE", "c")]);
    let mut system = world.start_and_wait_ready(command);
    let named = [("RELEASE_DISTRIBUTION", "name"), ("RELEASE_NODE", "one@127.0.0.1"), ("RELEASE_COOKIE", "c")];
    world.run_ok(&["rpc", ":os.cmd('(sleep 0.2 &) ; (true &)')"], &named);
    let count = "Path.wildcard(\"/proc/[0-9]*/stat\") |> Enum.map(&File.read/1) \
                 |> Enum.count(&match?({:ok, _}, &1) and elem(&1, 1) =~ \") Z \") |> IO.puts";
    let first = fs::read_to_string(format!("/proc/{0}/task/{0}/children", system.pid())).unwrap();
    let first = first.trim().to_owned();
    let name = fs::read_to_string(format!("/proc/{first}/comm")).unwrap();
    assert_eq!(name, "demo\n", "the program stays");
    wait_until("orphans are reaped", || world.run_ok(&["rpc", count], &named) == "0\n");
    let process: i32 = first.parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(process).unwrap(), Signal::TERM).unwrap();
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
}

#[test]
fn a_read_only_root_needs_release_tmp_only_for_a_configuration_that_is_written() {
    let world = TestRelease::new("");
    let mount = |world: &TestRelease, variables: &[(&str, &str)]| {
        let mut command = Command::new("unshare");
        world.set_environment(&mut command);
        command.env_remove("RELEASE_TMP").envs(variables.iter().copied());
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$0/bin/demo\" foreground";
        command.args(["--mount", "sh", "-c", script]).arg(&world.root);
        command
    };
    drop(world.start_and_wait_ready(mount(&world, &[])));
    drop(world);
    let world = TestRelease::new("runtime_config = true\n");
    drop(world.start_and_wait_ready(mount(&world, &[])));
    drop(world);
    let world = TestRelease::new("runtime_config = true\nreboot = true\n");
    let output = mount(&world, &[]).output().unwrap();
    assert!(lossy_text(&output.stderr).contains("set RELEASE_TMP"), "{}", lossy_text(&output.stderr));
    let tmp = world.tmp();
    drop(world.start_and_wait_ready(mount(&world, &[("RELEASE_TMP", tmp.to_str().unwrap())])));
    drop(world.start_and_wait_ready(mount(&world, &[("RELEASE_MUTABLE_DIR", tmp.to_str().unwrap())])));
}

/// Copies the shared libraries and the loader of a program into `root`, at their own paths.
fn copy_needs(program: &Path, root: &Path) {
    let output = Command::new("ldd").arg(program).output().unwrap();
    for word in lossy_text(&output.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(word.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(word, to).unwrap();
    }
}

fn make_null(root: &Path) {
    fs::create_dir(root.join("dev")).unwrap();
    let mut command = Command::new("mknod");
    command.args(["-m", "666"]).arg(root.join("dev/null")).args(["c", "1", "3"]);
    assert!(command.status().unwrap().success());
}

fn erts(root: &Path) -> String {
    let mut names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.starts_with("erts-")).unwrap()
}

#[test]
fn a_release_runs_without_shell_proc_and_etc_but_needs_dev_null() {
    let world = TestRelease::new("");
    let bin = world.root.join(erts(&world.root)).join("bin");
    for name in ["beam.smp", "erl_child_setup", "inet_gethost", "epmd"] {
        copy_needs(&bin.join(name), world.dir.path());
    }
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        // `timeout` comes first: if the release hangs, the test fails instead of hanging too.
        command
            .args(["--foreground", "60", "chroot"])
            .env_clear()
            .env("ERL_EPMD_PORT", world.port.to_string())
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.arg(world.dir.path()).arg("/app/bin/demo").args(arguments);
        command
    };
    let begun = Instant::now();
    let refused = inside(&["foreground"]).output().unwrap();
    assert!(lossy_text(&refused.stderr).contains("`/dev/null` is not there"), "{}", lossy_text(&refused.stderr));
    assert!(begun.elapsed() < Duration::from_secs(2));
    make_null(world.dir.path());
    let mut command = inside(&["foreground"]);
    let named = [("RELEASE_DISTRIBUTION", "name"), ("RELEASE_NODE", "two@127.0.0.1")];
    command.envs(named);
    let mut system = world.start_and_wait_ready(command);
    let said = inside(&["rpc", "IO.puts(:here)"]).envs(named).output().unwrap();
    assert_eq!(lossy_text(&said.stdout), "here\n", "{}", lossy_text(&said.stderr));
    assert!(inside(&["stop"]).envs(named).status().unwrap().success());
    assert_eq!(system.wait_for_exit_code(), Some(0));
    fs::write(world.root.join("releases/0.1.0/env.sh"), "A=$(echo 1)\n").unwrap();
    let refused = inside(&["foreground"]).output().unwrap();
    assert!(lossy_text(&refused.stderr).contains("there is no `/bin/sh`"), "{}", lossy_text(&refused.stderr));
}

#[test]
fn a_portable_release_runs_with_its_own_loader() {
    let world = TestRelease::new("loader = portable/ld.so\nlibrary_path = portable/lib\n");
    let erts = erts(&world.root);
    let libraries = world.root.join("portable/lib");
    fs::create_dir_all(&libraries).unwrap();
    for name in ["beam.smp", "erl_child_setup", "inet_gethost", "epmd"] {
        let output = Command::new("ldd").arg(world.root.join(&erts).join("bin").join(name)).output().unwrap();
        for word in lossy_text(&output.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let file = Path::new(word).file_name().unwrap();
            let loader = file.to_string_lossy().starts_with("ld-");
            let to = if loader { world.root.join("portable/ld.so") } else { libraries.join(file) };
            fs::copy(word, to).unwrap();
        }
    }
    world.make_portable(&erts);
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        // `timeout` comes first: if the release hangs, the test fails instead of hanging too.
        command
            .args(["--foreground", "60", "chroot"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("RELEASE_COOKIE", "c");
        command.envs([("RELEASE_DISTRIBUTION", "name"), ("RELEASE_NODE", "three@127.0.0.1")]);
        command.env("ERL_EPMD_PORT", world.port.to_string());
        command.arg(world.dir.path()).arg("/app/bin/demo").args(arguments);
        command
    };
    make_null(world.dir.path());
    let mut system = world.start_and_wait_ready(inside(&["foreground"]));
    let lookup = "IO.inspect(:inet.getaddr('127.0.0.1', :inet)); :inet_gethost_native.gethostbyname('none.invalid') |> elem(0) |> IO.inspect";
    let said = inside(&["rpc", lookup]).output().unwrap();
    assert_eq!(lossy_text(&said.stdout), "{:ok, {127, 0, 0, 1}}\n:error\n", "{}", lossy_text(&said.stderr));
    assert!(inside(&["stop"]).status().unwrap().success());
    assert_eq!(system.wait_for_exit_code(), Some(0));
}

#[test]
fn an_env_sh_that_ends_with_set_plus_a_is_read_once() {
    let world = TestRelease::new("");
    world.write(".env", "GREETED=yes\n");
    world.write("releases/0.1.0/env.sh", "set -a\n. \"$RELEASE_ROOT/.env\"\nset +a\n");
    assert_eq!(world.run_ok(&["eval", "IO.puts(System.get_env(\"GREETED\"))"], &[]), "yes\n");
}

#[test]
fn a_second_daemon_is_refused_while_the_first_runs() {
    let world = TestRelease::new("");
    let system = world.start_foreground(&[]);
    let refused = world.run(&["daemon"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = format!("the system runs already, as process {}", system.pid());
    assert!(lossy_text(&refused.stderr).contains(&said), "{}", lossy_text(&refused.stderr));
    let told = world.start_foreground(&[]);
    assert!(told.output().contains("another system of this release runs"), "{}", told.output());
}

#[test]
fn a_version_that_is_not_there_is_refused() {
    let world = TestRelease::new("");
    let refused = world.run(&["version"], &[("RELEASE_VSN", "9.9")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(lossy_text(&refused.stderr).contains("there is no version `9.9`"), "{}", lossy_text(&refused.stderr));
    assert_eq!(world.run_ok(&["version"], &[("RELEASE_VSN", "0.1.0")]), "demo 0.1.0\n");
}

#[test]
fn arguments_without_an_effect_are_refused_before_anything_is_done() {
    let world = TestRelease::new("");
    let file = world.root.join("bin/demo").display().to_string();
    for line in [&["stop", "now"][..], &["rpc", "IO", "puts", "hello"], &["rpc", "--file", &file, "y"]] {
        let refused = world.run(line, &[]);
        assert_eq!(refused.status.code(), Some(2), "{line:?}");
        assert!(lossy_text(&refused.stderr).contains("has no use for the argument"), "{}", lossy_text(&refused.stderr));
    }
}

#[test]
fn a_variable_in_the_cookie_file_is_replaced_and_must_be_set() {
    let world = TestRelease::new("distribution = sname\n");
    world.write("releases/COOKIE", "${ERLANG_COOKIE}");
    let refused = world.run(&["foreground"], &[]);
    let said = lossy_text(&refused.stderr);
    assert!(said.contains("cannot replace `${ERLANG_COOKIE}`") && said.contains("releases/COOKIE"), "{said}");
    let set = [("ERLANG_COOKIE", "secret")];
    let _system = world.start_foreground(&set);
    assert_eq!(world.run_ok(&["rpc", "IO.puts(Node.get_cookie())"], &set), "secret\n");
}

#[test]
fn a_daemon_can_be_stopped_while_it_boots() {
    let world = TestRelease::new("");
    for entry in fs::read_dir(&world.root).unwrap().map(|entry| entry.unwrap().path()) {
        let _ = fs::remove_file(entry.join("bin/run_erl"));
    }
    world.run_ok(&["daemon"], &[]);
    world.run_ok(&["stop"], &[]);
    assert_eq!(world.run(&["ping"], &[]).status.code(), Some(1));
}
