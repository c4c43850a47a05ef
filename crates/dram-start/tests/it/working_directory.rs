//! Tests of the directory in which a release and its scripts run.

use std::fs;
use std::process::Command;

use crate::test_release::{TestRelease, lossy_text, wait_until};

const NAMED: [(&str, &str); 3] =
    [("RELEASE_DISTRIBUTION", "sname"), ("RELEASE_NODE", "placed"), ("RELEASE_COOKIE", "secret")];

/// A release with hooks and a command that call `bin/demo` by a relative path.
fn release(conf: &str) -> TestRelease {
    let world = TestRelease::new(&format!(
        "{conf}hook.pre_start = hooks/pre_start.sh\nhook.post_start = hooks/post_start.sh\n\
         hook.pre_stop = hooks/pre_stop.sh\ncommand.where = commands/where.sh\n"
    ));
    world.write("hooks/pre_start.sh", "bin/demo version >> told\n");
    world.write("hooks/post_start.sh", "bin/demo ping >> told\n");
    world.write("hooks/pre_stop.sh", "bin/demo rpc 'IO.puts(File.cwd!())' >> told\n");
    world.write("commands/where.sh", "pwd\n");
    world
}

/// A command of the release that is called in another directory.
fn elsewhere(world: &TestRelease, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    command.current_dir("/").envs(NAMED);
    command
}

fn output_elsewhere(world: &TestRelease, arguments: &[&str]) -> String {
    let output = elsewhere(world, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", lossy_text(&output.stderr));
    lossy_text(&output.stdout)
}

#[test]
fn with_the_release_as_directory_hooks_commands_and_the_configuration_have_paths_below_its_root() {
    let world = release("working_directory = release\n");
    let root = format!("{}\n", world.root.display());
    let file = "[{kernel,[{logger,[{handler,file,logger_std_h,#{config => #{file => \"log/placed.log\"}}}]}]}].\n";
    world.write("releases/0.1.0/sys.config", file);
    let told = || fs::read_to_string(world.root.join("told")).unwrap_or_default();
    let mut system = world.start_and_wait_ready(elsewhere(&world, &["foreground"]));
    wait_until("the hook after the start has run", || told() == "demo 0.1.0\npong\n");
    assert!(world.root.join("log/placed.log").is_file());
    assert_eq!(output_elsewhere(&world, &["where"]), root);
    assert_eq!(output_elsewhere(&world, &["eval", "IO.puts(File.cwd!())"]), root);
    fs::write(world.root.join("code.exs"), "IO.puts(:from_file)").unwrap();
    assert_eq!(output_elsewhere(&world, &["rpc", "--file", "code.exs"]), "from_file\n");
    output_elsewhere(&world, &["stop"]);
    assert_eq!(system.wait_for_exit_code(), Some(0));
    assert_eq!(told(), format!("demo 0.1.0\npong\n{root}"));
}

#[test]
fn daemons_with_and_without_run_erl_run_in_the_root_of_the_release() {
    for keep in [true, false] {
        let world = TestRelease::new("working_directory = release\n");
        let erts = fs::read_dir(&world.root).unwrap().map(|entry| entry.unwrap().path());
        let runner = erts.map(|path| path.join("bin/run_erl")).find(|path| path.is_file()).unwrap();
        if !keep {
            fs::remove_file(runner).unwrap();
        }
        output_elsewhere(&world, &["daemon"]);
        wait_until("the daemon answers", || elsewhere(&world, &["ping"]).output().unwrap().status.success());
        assert_eq!(output_elsewhere(&world, &["rpc", "IO.puts(File.cwd!())"]), format!("{}\n", world.root.display()));
        output_elsewhere(&world, &["stop"]);
    }
}
