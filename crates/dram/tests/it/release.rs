//! Compares releases of `dram release` with those that Mix and rebar3 make from the same build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{TestCommand, dram_path, repo, temp, tool, wait_until};

/// Timeout for the start of a release.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A copy of a project from `tests/release`, removed when dropped.
#[derive(Debug)]
pub(crate) struct Project {
    dir: TempDir,
    name: String,
}

impl Project {
    /// Copies `tests/release/NAME` without build results.
    pub(crate) fn copy(name: &str) -> Project {
        let dir = temp();
        let from = repo(&format!("tests/release/{name}"));
        tool("cp").arg("-r").arg(from).arg(dir.path()).ok();
        for built in ["_build", "priv"] {
            // `priv` of these projects is made by their compilers.
            let _ = fs::remove_dir_all(dir.path().join(name).join(built));
        }
        Project { dir, name: name.to_owned() }
    }

    /// Creates a project with these files.
    pub(crate) fn with_files(files: &[(&str, &str)]) -> Project {
        let project = Project { dir: temp(), name: "project".to_owned() };
        fs::create_dir(project.path()).unwrap();
        files.iter().for_each(|(name, text)| project.write(name, text));
        project
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Returns a path beside the project.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Returns the command `dram release PROJECT`.
    pub(crate) fn dram(&self) -> TestCommand {
        without_project_variables(TestCommand::new(dram_path())).arg("release").arg(self.path()).dir(self.dir.path())
    }

    /// Returns a build tool of the project, to be run in its directory.
    pub(crate) fn tool(&self, program: &str) -> TestCommand {
        without_project_variables(tool(program)).env("MIX_ENV", "prod").dir(self.path())
    }
}

/// Removes variables of build tools from the environment.
fn without_project_variables(tool: TestCommand) -> TestCommand {
    ["MIX_ENV", "MIX_TARGET", "REBAR_PROFILE", "SOURCE_DATE_EPOCH", "RELEASE_NODE", "RELEASE_COOKIE"]
        .into_iter()
        .fold(tool.env("LC_ALL", "C.UTF-8"), TestCommand::without)
}

/// Maps every path below a directory to its type, executable bit and digest.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_symlink() {
                found.insert(name, format!("a link to {}", fs::read_link(&path).unwrap().display()));
            } else if !kind.is_file() {
                found.insert(name, "neither a file nor a link".to_owned());
            } else {
                let executable = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
                let digest = dram_image::Digest::of(&fs::read(&path).unwrap());
                found.insert(name, format!("{digest} executable: {executable}"));
            }
        }
    }
    found
}

/// Paths that may differ from a release of Mix; `*` stands for a part of a file name. `docs/release-differences.md`
/// gives the reason for each.
const DIFFERENCES: &[&str] = &[
    "bin/NAME",
    "bin/NAME.bat",
    "erts-*/bin/ct_run",
    "erts-*/bin/dialyzer",
    "erts-*/bin/dyn_erl",
    "erts-*/bin/erl",
    "erts-*/bin/erl.src",
    "erts-*/bin/erlc",
    "erts-*/bin/erlexec",
    "erts-*/bin/escript",
    "erts-*/bin/start",
    "erts-*/bin/start.src",
    "erts-*/bin/start_erl",
    "erts-*/bin/start_erl.src",
    "erts-*/bin/typer",
    "erts-*/bin/yielding_c_fun",
    "releases/VERSION/elixir",
    "releases/VERSION/iex",
    "releases/VERSION/env.sh",
    "releases/VERSION/env.bat",
    "releases/VERSION/files.list",
    "releases/VERSION/start.conf",
    "releases/COOKIE",
    "releases/RELEASES",
    "NAME-VERSION.tar.gz",
];

fn may_differ(path: &str, name: &str, version: &str) -> bool {
    DIFFERENCES.iter().any(|pattern| {
        let pattern = pattern.replace("NAME", name).replace("VERSION", version);
        match pattern.split_once('*') {
            Some((before, after)) => path
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after))
                .is_some_and(|part| !part.contains('/')),
            None => path == pattern,
        }
    })
}

#[test]
fn the_release_differences_page_names_every_difference() {
    let page = fs::read_to_string(repo("docs/release-differences.md")).unwrap();
    for pattern in DIFFERENCES {
        assert!(page.contains(&format!("`{pattern}`")), "docs/release-differences.md says nothing of `{pattern}`");
    }
}

/// Asserts that Mix and dram make the same release `name`, except for [`DIFFERENCES`]. Returns the release of dram.
#[track_caller]
fn assert_same_as_mix(project: &Project, name: &str) -> PathBuf {
    let (theirs, ours) = (project.beside(&format!("mix/{name}")), project.beside(&format!("dram/{name}")));
    project.tool("mix").args(["release", name, "--path"]).arg(&theirs).ok();
    project.dram().args(["--name", name, "--no-tar", "--output"]).arg(&ours).ok();
    let (of_mix, of_dram) = (tree(&theirs), tree(&ours));
    let version = fs::read_to_string(ours.join("releases/start_erl.data")).unwrap();
    let version = version.split_whitespace().nth(1).unwrap();
    assert_differences_are_known(&of_mix, &of_dram, name, version);
    for file in ["start.boot", "start_clean.boot", "start.script", "sys.config", "vm.args", "remote.vm.args"] {
        let path = format!("releases/{version}/{file}");
        assert!(of_mix.contains_key(&path) && of_mix.get(&path) == of_dram.get(&path), "{path}");
    }
    let rel = format!("releases/{version}/{name}.rel");
    assert!(of_dram.contains_key(&rel) && of_mix.get(&rel) == of_dram.get(&rel), "{rel}");
    ours
}

/// Asserts that the two trees of the release differ only as [`DIFFERENCES`] says.
#[track_caller]
pub(crate) fn assert_differences_are_known(
    of_mix: &BTreeMap<String, String>,
    of_dram: &BTreeMap<String, String>,
    name: &str,
    version: &str,
) {
    let paths: BTreeSet<&String> = of_mix.keys().chain(of_dram.keys()).collect();
    let differ: Vec<_> = paths
        .into_iter()
        .filter(|path| of_mix.get(*path) != of_dram.get(*path) && !may_differ(path, name, version))
        .map(|path| format!("{path}\n  mix:  {:?}\n  dram: {:?}", of_mix.get(path), of_dram.get(path)))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// Returns a free TCP port.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Starts the release, waits for READY, ends it with SIGTERM, and returns its output.
#[track_caller]
pub(crate) fn run_until_ready(release: &Path, name: &str, env: &[(&str, &str)]) -> String {
    let dir = temp();
    let (said, port) = (dir.path().join("said"), free_port());
    let started = env
        .iter()
        .fold(without_project_variables(tool("sh")), |tool, (name, value)| tool.env(name, value))
        .env("RELEASE_TMP", dir.path())
        .env("ERL_EPMD_PORT", port.to_string())
        .args(["-c", r#"exec "$0" foreground >"$1" 2>&1 </dev/null"#])
        .arg(release.join("bin").join(name))
        .arg(&said)
        .start();
    let text = || fs::read_to_string(&said).unwrap_or_default();
    wait_until("the release says READY, or ended", START_TIMEOUT, || {
        text().contains("READY") || !Path::new(&format!("/proc/{}", started.pid())).exists() || is_zombie(started.pid())
    });
    assert!(text().contains("READY"), "the release ended and said:\n{}", text());
    started.signal("TERM");
    let done = started.end();
    assert!(done.code == 0, "ended with {} and said:\n{}", done.code, text());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "an epmd is left behind");
    text()
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"))
}

#[test]
fn a_small_release_equals_that_of_mix_and_runs() {
    let project = Project::copy("small");
    let release = assert_same_as_mix_by_default(&project, "small");
    assert!(run_until_ready(&release, "small", &[]).contains("grüß dich"));
}

/// Asserts the same for a project that defines no release: dram takes the project's name as Mix would, and Mix needs an
/// entry.
#[track_caller]
fn assert_same_as_mix_by_default(project: &Project, name: &str) -> PathBuf {
    let text = fs::read_to_string(project.join("mix.exs")).unwrap();
    let at = text.find("version:").unwrap();
    project.write("mix.exs", format!("{}releases: [{name}: []], {}", &text[..at], &text[at..]));
    assert_same_as_mix(project, name)
}

#[test]
fn both_releases_of_an_umbrella_equal_those_of_mix_and_run() {
    let project = Project::copy("umbrella");
    for name in ["shop", "jobs"] {
        let release = assert_same_as_mix(&project, name);
        run_until_ready(&release, name, &[]);
    }
}

#[test]
fn a_release_with_a_nif_equals_that_of_mix_and_runs() {
    let project = Project::copy("nif");
    let release = assert_same_as_mix_by_default(&project, "nif");
    assert!(run_until_ready(&release, "nif", &[]).contains("READY 2.0 hello"));
}

#[test]
fn optional_and_included_applications_and_start_types_equal_those_of_mix() {
    let project = Project::copy("optional");
    for name in ["plain", "modes"] {
        let release = assert_same_as_mix(&project, name);
        run_until_ready(&release, name, &[]);
    }
}

#[test]
fn runtime_configuration_providers_and_overlays_equal_those_of_mix() {
    let project = Project::copy("runtime");
    let release = assert_same_as_mix(&project, "runtime");
    let said = run_until_ready(&release, "runtime", &[("GREETING", "ahoy")]);
    assert!(said.contains("ahoy 3 /nowhere/runtime.json"), "{said}");
    for name in ["reboots", "fixed"] {
        let release = assert_same_as_mix(&project, name);
        run_until_ready(&release, name, &[]);
    }
}

#[test]
fn unsupported_options_of_mix_releases_are_reported() {
    let project = Project::copy("runtime");
    let mut text = fs::read_to_string(project.join("mix.exs")).unwrap();
    text = text.replace("fixed: [", "fixed: [include_executables_for: [:unix, :windows], include_erts: false, ");
    project.write("mix.exs", text);
    let done = project.dram().args(["--no-tar", "--name", "fixed"]).ok();
    assert!(done.stderr.contains(":windows") && done.stderr.contains("include_erts"), "{done}");
    run_until_ready(&project.join("_build/prod/rel/fixed"), "fixed", &[]);
}

/// Asserts that `systools` makes the same boot script of our `.rel` file and applications.
fn assert_same_boot_script(release: &Path, name: &str, version: &str) {
    let made = temp();
    let program = format!(
        r#"Rel = "{0}/releases/{1}/{2}",
        {{ok, _, _}} = systools:make_script(Rel, [silent, no_module_tests, no_dot_erlang, {{outdir, "{3}"}},
            {{path, ["{0}/lib/*/ebin"]}}]),
        {{ok, [Theirs]}} = file:consult("{3}/{2}.script"),
        {{ok, Bytes}} = file:read_file("{0}/releases/{1}/start.boot"),
        case binary_to_term(Bytes) of
            Theirs -> halt(0);
            Ours -> io:format("theirs ~p~nours ~p~n", [Theirs, Ours]), halt(1)
        end."#,
        release.display(),
        version,
        name,
        made.path().display()
    );
    tool("erl").args(["-noshell", "-boot", "start_clean", "-eval", &program]).ok();
}

/// Asserts that both releases have the same files below `lib`, and equal modules: rebar3 compresses each with gzip.
fn assert_same_libraries(theirs: &Path, ours: &Path) {
    let names = |root: &Path| -> Vec<String> { tree(root).into_keys().collect() };
    assert_eq!(names(&theirs.join("lib")), names(&ours.join("lib")));
    let program = format!(
        r#"Mean = fun(File) ->
            {{ok, Module, Chunks}} = beam_lib:all_chunks(File),
            {{Module, lists:sort([C || {{Name, _}} = C <- Chunks, Name =/= "Attr"])}}
        end,
        Files = filelib:wildcard("lib/*/ebin/*.beam", "{0}"),
        true = length(Files) > 100,
        Differ = [File || File <- Files,
            Mean(filename:join("{0}", File)) =/= Mean(filename:join("{1}", File))],
        io:format("~p", [Differ]), halt()."#,
        theirs.display(),
        ours.display()
    );
    assert_eq!(tool("erl").args(["-noshell", "-boot", "start_clean", "-eval", &program]).ok().stdout, "[]");
    let others = |root: &Path| -> BTreeMap<String, String> {
        tree(&root.join("lib")).into_iter().filter(|(name, _)| !name.ends_with(".beam")).collect()
    };
    assert_eq!(others(theirs), others(ours));
}

#[test]
fn a_rebar3_release_equals_that_of_rebar3_and_runs() {
    let project = Project::copy("rebar");
    project.tool("rebar3").args(["as", "prod", "release", "-n", "ferry"]).ok();
    let (theirs, ours) = (project.join("_build/prod/rel/ferry"), project.beside("ferry"));
    let done = project.dram().args(["--name", "ferry", "--output"]).arg(&ours).ok();
    for hook in ["`pid`", "`wait_for_process`", "`builtin_status`"] {
        assert!(done.stderr.contains(hook), "{done}");
    }
    assert_same_boot_script(&ours, "ferry", "2.5.0");
    assert_same_libraries(&theirs, &ours);
    let (of_rebar, of_dram) = (tree(&theirs), tree(&ours));
    for path in [
        "bin/hooks/pre_start.sh",
        "bin/extensions/timetable",
        "share/about-2.5.0.txt",
        "share/prod.txt",
        "releases/2.5.0/vm.args.src",
        "releases/2.5.0/sys.config.src",
    ] {
        assert!(of_rebar.contains_key(path) && of_rebar.get(path) == of_dram.get(path), "{path}");
    }
    assert!(ours.join("log/ferry").is_dir());
    // The project's vm.args name a node, which needs an epmd; this test runs without one.
    project.write("config/vm.args.src", "+K true\n");
    project.dram().args(["--name", "ferry", "--no-tar", "--output"]).arg(&ours).ok();
    let said = run_until_ready(&ours, "ferry", &[("FERRY_HARBOUR", "Rostock")]);
    assert!(said.contains("casting off") && said.contains("READY Rostock 40"), "{said}");
}

#[test]
fn a_rebar3_release_runs_in_its_root_as_with_relx_unless_dram_toml_says_otherwise() {
    let project = Project::copy("rebar");
    project.write("scripts/timetable", "pwd; ls bin/extensions\n");
    project.tool("rebar3").args(["as", "prod", "release", "-n", "ferry"]).ok();
    let (theirs, ours) = (project.join("_build/prod/rel/ferry"), project.beside("ferry"));
    let make = || drop(project.dram().args(["--name", "ferry", "--no-tar", "--output"]).arg(&ours).ok());
    let said = |release: &Path| {
        let bin = release.join("bin/ferry");
        without_project_variables(tool(bin.to_str().unwrap())).env("FERRY_HARBOUR", "x").arg("timetable").dir("/").end()
    };
    make();
    for release in [&theirs, &ours] {
        assert_eq!(said(release).stdout, format!("{}\ntimetable\n", release.display()));
    }
    project.write("dram.toml", "[release]\nworking-directory = 'caller'\n");
    project.write("scripts/timetable", "pwd\n");
    make();
    assert_eq!(said(&ours).stdout, "/\n");
}

#[test]
fn rebar3_profiles_are_applied_and_invalid_goals_refused() {
    let project = Project::copy("rebar");
    let done = project.dram().fails(1);
    assert!(done.stderr.contains("ferry_small") && done.stderr.contains("--name"), "{done}");
    let done = project.dram().args(["--name", "ferry_small", "--env", "default"]).ok();
    assert!(done.stderr.contains("`include_erts` is false"), "{done}");
    assert!(project.join("_build/default/rel/ferry_small/bin/ferry_small").is_file());
    let text = fs::read_to_string(project.join("rebar.config")).unwrap();
    let with = |from: &str, to: &str| project.write("rebar.config", text.replacen(from, to, 1));
    with("{dock, load}", "{dock, \"9.9.9\", load}");
    let done = project.dram().args(["--name", "ferry"]).fails(1);
    assert!(done.stderr.contains("`dock`") && done.stderr.contains("9.9.9"), "{done}");
    with("{dock, load}", "{no_such, load}");
    let done = project.dram().args(["--name", "ferry"]).fails(1);
    assert!(done.stderr.contains("there is no application `no_such`"), "{done}");
    with("{erl_opts, [debug_info]}.", "{erl_opts, [debug_info].");
    let done = project.dram().args(["--name", "ferry"]).fails(1);
    assert!(done.stderr.contains("rebar.config"), "{done}");
}

#[test]
fn a_linked_checkout_of_rebar3_is_in_the_release_and_compiled_again_when_it_changes() {
    let app = "{application,moor,[{description,\"\"},{vsn,\"1\"},{registered,[]},{applications,[kernel,stdlib]}]}.";
    let project = Project::with_files(&[
        ("../moor/src/moor.app.src", app),
        ("../moor/src/moor.erl", "-module(moor).\n-export([f/0]).\nf() -> one.\n"),
        ("rebar.config", "{deps,[moor]}.\n{relx,[{release,{quay,\"1\"},[quay,moor]}]}.\n"),
        ("src/quay.app.src", &app.replace("moor", "quay")),
        ("_checkouts/here", ""),
    ]);
    std::os::unix::fs::symlink("../../moor", project.join("_checkouts/moor")).unwrap();
    let beam = project.join("_build/prod/rel/quay/lib/moor-1/ebin/moor.beam");
    project.dram().arg("--no-tar").ok();
    let before = fs::read(&beam).unwrap();
    project.write("../moor/src/moor.erl", "-module(moor).\n-export([f/0]).\nf() -> another.\n");
    project.dram().arg("--no-tar").ok();
    assert_ne!(fs::read(&beam).unwrap(), before);
}

#[test]
fn distillery_configurations_are_released_without_distillery() {
    let project = Project::copy("distillery");
    let done = project.dram().arg("--no-tar").ok();
    assert!(done.stderr.contains("the plugin `Still.Plugin` is not run"), "{done}");
    let release = project.join("_build/prod/rel/still");
    for file in ["share/notes-0.4.2.txt", "etc/still.service", "releases/0.4.2/commands/greet.sh"] {
        assert!(release.join(file).is_file(), "{file}");
    }
    assert_eq!(fs::read_link(release.join("share/linked.txt")).unwrap(), Path::new("rel/notes.txt"));
    assert_eq!(fs::read_to_string(release.join("releases/COOKIE")).unwrap(), "prod_cookie");
    assert!(!tree(&release.join("lib")).keys().any(|file| file.starts_with("mix-")), "mix is in the release");
    // Distillery's provider reads this file before the system starts, Elixir's while it starts.
    fs::write(release.join("etc/config.exs"), "import Config\nconfig :still, proof: 57\n").unwrap();
    fs::write(release.join("releases/0.4.2/vm.args"), "+K true\n").unwrap();
    let said = run_until_ready(&release, "still", &[("REPLACE_OS_VARS", "true"), ("STILL_URL", "http://here")]);
    assert!(said.contains("READY 57 sys.config of amber"), "{said}");
}

#[test]
fn unsupported_distillery_settings_are_reported_by_name() {
    let project = Project::copy("distillery");
    let text = fs::read_to_string(project.join("rel/config.exs")).unwrap();
    let text = text
        .replace("Distillery.Releases.Config.Providers.Elixir, [", "My.Provider, [")
        .replace("set strip_debug_info: true", "set executable: true\n  set dev_mode: true\n  set erl_opts: \"+S 1\"")
        .replace("  set vm_args: \"rel/vm.args.eex\"\n", "");
    project.write("rel/config.exs", text);
    let done = project.dram().arg("--no-tar").ok();
    for word in ["`My.Provider` is not run", "`executable`", "`dev_mode`", "the node has no name"] {
        assert!(done.stderr.contains(word), "{word}: {done}");
    }
    let conf = fs::read_to_string(project.join("_build/prod/rel/still/releases/0.4.2/start.conf")).unwrap();
    assert!(conf.contains("node = still@127.0.0.1") && conf.contains("env.ERL_OPTS = +S 1"), "{conf}");
    // By default, Distillery does not strip modules.
    let of = |root: &str| fs::read(project.join(root).join("ebin/Elixir.Still.Application.beam")).unwrap();
    assert_eq!(of("_build/prod/lib/still"), of("_build/prod/rel/still/lib/still-0.4.2"));
    let done = project.dram().args(["--name", "nothing"]).fails(1);
    assert!(done.stderr.contains("still, another") && done.stderr.contains("rel/config.exs"), "{done}");
}
