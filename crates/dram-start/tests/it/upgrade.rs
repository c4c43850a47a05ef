//! Tests of an upgrade of a running release to another version, and back.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::test_release::{TestRelease, lossy_text, mix_release, run_mix};

const NAMED: [(&str, &str); 3] =
    [("RELEASE_DISTRIBUTION", "sname"), ("RELEASE_NODE", "demo"), ("RELEASE_COOKIE", "secret")];

const APPUP: &str =
    "{\"0.2.0\",[{\"0.1.0\",[{load_module,'Elixir.Demo'}]}],[{\"0.1.0\",[{load_module,'Elixir.Demo'}]}]}.";

/// Builds version 0.2.0 of the test release, and puts its archive where `unpack` expects it.
fn make_next(world: &TestRelease) {
    let project = world.dir.path().join("project");
    let source = mix_release().ancestors().nth(4).expect("the release is four directories below its project");
    assert!(Command::new("cp").arg("-a").arg(source).arg(&project).status().unwrap().success());
    for (file, old, new) in [("mix.exs", "0.1.0", "0.2.0"), ("lib/demo.ex", ":world", ":changed")] {
        let path = project.join(file);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(old, new)).unwrap();
    }
    fs::remove_dir_all(project.join("_build/prod/rel")).unwrap();
    run_mix(&project, &["release"]);
    let next = project.join("_build/prod/rel/demo");
    fs::write(next.join("lib/demo-0.2.0/ebin/demo.appup"), APPUP).unwrap();
    fs::write(next.join("releases/0.2.0/start.conf"), "name = demo\nelixir = true\n").unwrap();
    describe_change(&world.root, &next);
    let archive = world.root.join("releases/0.2.0/demo.tar.gz");
    fs::create_dir(archive.parent().unwrap()).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(archive).current_dir(next).args(["lib/demo-0.2.0", "releases/0.2.0"]);
    assert!(tar.status().unwrap().success());
}

/// Writes `relup` and `RELEASES` with Erlang's own tools.
fn describe_change(old: &Path, new: &Path) {
    let (old, new) = (old.display(), new.display());
    let code = format!(
        "{{ok, _, _, _}} = systools:make_relup(\"{new}/releases/0.2.0/demo\", [\"{old}/releases/0.1.0/demo\"], \
         [\"{old}/releases/0.1.0/demo\"], [silent, {{path, [\"{old}/lib/*/ebin\", \"{new}/lib/*/ebin\"]}}, \
         {{outdir, \"{new}/releases/0.2.0\"}}]), \
         ok = release_handler:create_RELEASES(\"{old}\", \"{old}/releases\", \"{old}/releases/0.1.0/demo.rel\", []), \
         halt()."
    );
    let output = Command::new("erl").args(["-noshell", "-eval", &code]).output().unwrap();
    assert!(output.status.success(), "{}{}", lossy_text(&output.stdout), lossy_text(&output.stderr));
}

#[test]
fn a_version_is_unpacked_installed_made_permanent_downgraded_and_removed() {
    let world = TestRelease::new("");
    make_next(&world);
    let mut system = world.start_foreground(&NAMED);
    let hello = || world.run_ok(&["rpc", "IO.inspect(Demo.hello())"], &NAMED);
    let versions = || world.run_ok(&["versions"], &NAMED);
    world.run_ok(&["unpack", "0.2.0"], &NAMED);
    assert_eq!(versions(), "demo 0.2.0 unpacked\ndemo 0.1.0 permanent\n");
    assert_eq!(hello(), ":world\n");
    world.run_ok(&["install", "0.2.0"], &NAMED);
    assert_eq!(hello(), ":changed\n");
    assert_eq!(world.run_ok(&["version"], &[]), "demo 0.1.0\n");
    world.run_ok(&["upgrade", "0.2.0"], &NAMED);
    assert_eq!(versions(), "demo 0.2.0 permanent\ndemo 0.1.0 old\n");
    assert_eq!(world.run_ok(&["version"], &[]), "demo 0.2.0\n");
    world.run_ok(&["downgrade", "0.1.0"], &NAMED);
    assert_eq!(hello(), ":world\n");
    world.run_ok(&["uninstall", "0.2.0"], &NAMED);
    assert_eq!(versions(), "demo 0.1.0 permanent\n");
    world.run_ok(&["stop"], &NAMED);
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
}

#[test]
fn an_upgrade_whose_configuration_holds_a_function_is_refused_and_names_its_keys() {
    let world = TestRelease::new("");
    make_next(&world);
    let mut system = world.start_foreground(&NAMED);
    world.run_ok(&["unpack", "0.2.0"], &NAMED);
    let config =
        "import Config\nconfig :demo, :server, port: 1, sni_fun: fn _ -> :ok end\nconfig :demo, greeting: :hi\n";
    world.write("releases/0.2.0/runtime.exs", config);
    let provider = format!(
        "[{{elixir,[{{config_provider_init,#{{providers => [{{'Elixir.Config.Reader',{{<<\"{}\">>,[{{env,prod}}]}}}}]}}}}]}}].\n",
        world.root.join("releases/0.2.0/runtime.exs").display()
    );
    world.write("releases/0.2.0/sys.config", &provider);
    let refused = world.run(&["upgrade", "0.2.0"], &NAMED);
    let said = lossy_text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("such as a function: server of demo; start the version"), "{said}");
    // The running system has kept its version, and the file is as it was.
    assert_eq!(world.run_ok(&["rpc", "IO.inspect(Demo.hello())"], &NAMED), ":world\n");
    assert_eq!(fs::read_to_string(world.root.join("releases/0.2.0/sys.config")).unwrap(), provider);
    world.run_ok(&["stop"], &NAMED);
    assert_eq!(system.wait_for_exit_code(), Some(0));
}

#[test]
fn without_releases_file_versions_cannot_be_changed() {
    let world = TestRelease::new("");
    let _system = world.start_foreground(&NAMED);
    for command in ["unpack", "upgrade", "uninstall"] {
        let output = world.run(&[command, "0.2.0"], &NAMED);
        assert_eq!(output.status.code(), Some(1));
        assert!(lossy_text(&output.stderr).contains("releases/RELEASES is missing"), "{}", lossy_text(&output.stderr));
    }
}
