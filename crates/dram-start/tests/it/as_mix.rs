//! Tests that run the script `bin/NAME` that Mix writes and the start program, and compare them.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::test_release::{RunningRelease, TestRelease, lossy_text, mix_release};

/// The two programs: the script of Mix, and the start program.
const PROGRAMS: [&str; 2] = ["mix-demo", "demo"];

/// A release with both programs.
fn both(conf: &str) -> TestRelease {
    let world = TestRelease::new(conf);
    fs::copy(mix_release().join("bin/demo"), world.root.join("bin/mix-demo")).unwrap();
    world
}

fn command(world: &TestRelease, program: &str, arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(world.root.join("bin").join(program));
    world.set_environment(&mut command);
    command.args(arguments).env("RELEASE_COOKIE", "secret").env("LANG", "C.UTF-8").envs(env.iter().copied());
    command
}

fn start(world: &TestRelease, program: &str, env: &[(&str, &str)]) -> RunningRelease {
    world.start_and_wait_ready(command(world, program, &["start"], env))
}

fn run(world: &TestRelease, program: &str, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    command(world, program, arguments, env).output().unwrap()
}

/// Returns the name that a node reports, without the number that Mix puts into it.
fn name_of_node(world: &TestRelease, program: &str, env: &[(&str, &str)]) -> String {
    let said = run(world, program, &["rpc", "IO.puts(node())"], env);
    assert!(said.status.success(), "{program}: {}{}", lossy_text(&said.stdout), lossy_text(&said.stderr));
    lossy_text(&said.stdout)
}

#[test]
fn release_node_in_the_environment_or_in_env_sh_gives_a_name_as_with_mix() {
    let world = both("");
    let own = fs::read_to_string(world.root.join("releases/0.1.0/env.sh")).unwrap();
    let exported = format!("{own}\nexport RELEASE_NODE=\"written\"\n");
    let long = format!("{own}\nexport RELEASE_DISTRIBUTION=name\nexport RELEASE_NODE=long@127.0.0.1\n");
    for (env_sh, env) in
        [(own.as_str(), vec![("RELEASE_NODE", "named")]), (exported.as_str(), vec![]), (long.as_str(), vec![])]
    {
        world.write("releases/0.1.0/env.sh", env_sh);
        let names: Vec<String> = PROGRAMS
            .iter()
            .map(|program| {
                let _system = start(&world, program, &env);
                let name = name_of_node(&world, program, &env);
                // Both find the node of the other.
                for caller in PROGRAMS {
                    assert_eq!(name_of_node(&world, caller, &env), name, "{caller} calls {program}");
                }
                name
            })
            .collect();
        assert_eq!(names[0], names[1]);
    }
}

/// Runs `rpc` with a standard input. Returns its exit code and its output.
fn rpc_with_input(world: &TestRelease, program: &str, code: &str, input: &[u8]) -> (Option<i32>, String) {
    let env = [("RELEASE_NODE", "spoken")];
    let mut rpc = command(world, program, &["rpc", code], &env);
    let mut child = rpc.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Code that reads nothing may end before.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), lossy_text(&output.stdout))
}

#[test]
fn rpc_reads_standard_input_and_exits_as_with_mix() {
    let world = both("");
    let _system = start(&world, "demo", &[("RELEASE_NODE", "spoken")]);
    let long = "0123456789é€\n".repeat(20_000);
    let cases: [(&str, &[u8]); 15] = [
        ("IO.inspect(IO.read(:stdio, :all))", b"x\ny"),
        ("IO.inspect(IO.read(:stdio, :eof))", "é€\nzwei".as_bytes()),
        ("IO.read(:stdio, :eof) |> byte_size() |> IO.inspect()", long.as_bytes()),
        ("for line <- IO.stream(:stdio, :line), do: IO.inspect(line)", b"a\r\nb\n\nc"),
        ("IO.inspect({IO.read(:stdio, 3), IO.read(:stdio, 2), IO.read(:stdio, :line)})", "aé€bc\n".as_bytes()),
        ("IO.inspect(IO.gets(\"name? \"))", b"dram\n"),
        ("IO.inspect({IO.gets(\"? \"), IO.gets(:more)})", b"last"),
        ("IO.inspect(IO.binread(:stdio, :line))", "é\n".as_bytes()),
        ("IO.inspect(:io.fread('', '~d ~s'))", b"12 word\n"),
        ("IO.inspect(:io.get_line(''))", b""),
        ("exit({:shutdown, 4})", b""),
        ("exit({:shutdown, :other})", b""),
        ("exit(:normal)", b""),
        ("exit(:boom)", b""),
        ("throw(:ball)", b""),
    ];
    let mut different = Vec::new();
    for (code, input) in cases {
        let [mix, own] = PROGRAMS.map(|program| rpc_with_input(&world, program, code, input));
        if own != mix {
            different.push(format!("{code}: {own:?}, with Mix {mix:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    // Mix's fails, as its own input is binaries that `io:read` does not take.
    let terms = "IO.inspect({:io.read(\"\"), :io.read(\"\"), IO.gets(\"\")})";
    let read = rpc_with_input(&world, "demo", terms, b"{a,\n1}. [2]. rest\nnext\n");
    assert_eq!(read, (Some(0), "{{:ok, {:a, 1}}, {:ok, [2]}, \"rest\\n\"}\n".to_owned()));
}

#[test]
fn a_cookie_of_latin_1_is_the_same_for_the_commands_of_both() {
    let world = both("");
    for cookie in ["schlüssel", "a b\"c'", "%-+"] {
        let env = [("RELEASE_NODE", "keyed"), ("RELEASE_COOKIE", cookie)];
        for program in PROGRAMS {
            let _system = start(&world, program, &env);
            for caller in PROGRAMS {
                let said = run(&world, caller, &["rpc", "IO.puts(Node.get_cookie())"], &env);
                let printed = lossy_text(&said.stdout);
                assert_eq!(printed, format!("{cookie}\n"), "{caller} calls {program}: {}", lossy_text(&said.stderr));
            }
        }
    }
}

#[test]
fn the_working_directory_is_that_of_the_caller_as_with_mix() {
    let world = both("");
    let env = [("RELEASE_NODE", "placed")];
    for program in PROGRAMS {
        let mut start = command(&world, program, &["start"], &env);
        start.current_dir("/usr");
        let _system = world.start_and_wait_ready(start);
        let mut eval = command(&world, program, &["eval", "IO.puts(File.cwd!())"], &env);
        assert_eq!(lossy_text(&eval.current_dir("/usr/lib").output().unwrap().stdout), "/usr/lib\n");
        let said = run(&world, program, &["rpc", "IO.puts(File.cwd!())"], &env);
        assert_eq!(lossy_text(&said.stdout), "/usr\n", "{program}");
    }
}

#[test]
fn with_a_kind_alone_the_name_is_that_of_the_release_as_with_mix() {
    let world = both("");
    for program in PROGRAMS {
        let env = [("RELEASE_DISTRIBUTION", "sname")];
        let _system = start(&world, program, &env);
        assert!(name_of_node(&world, program, &env).starts_with("demo@"), "{program}");
    }
}
