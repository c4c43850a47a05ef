//! `dram release` beside the peers: a release of Mix or of rebar3 and one of dram, of the same build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Tool, dram_path, repo, temp, tool, until};

/// How long a release may take until it runs.
const START: Duration = Duration::from_secs(60);

/// A copy of a project of `tests/release`, removed when dropped.
#[derive(Debug)]
pub(crate) struct Project {
    dir: TempDir,
    name: String,
}

impl Project {
    /// A copy of `tests/release/NAME`, without what somebody built there.
    pub(crate) fn copy(name: &str) -> Project {
        let dir = temp();
        let from = repo(&format!("tests/release/{name}"));
        tool("cp").arg("-r").arg(from).arg(dir.path()).ok();
        for built in ["_build", "priv"] {
            // What a project has in `priv` is made by its compiler.
            let _ = fs::remove_dir_all(dir.path().join(name).join(built));
        }
        Project { dir, name: name.to_owned() }
    }

    /// A project with these files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Project {
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

    /// A place beside the project.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `dram release PROJECT`.
    pub(crate) fn dram(&self) -> Tool {
        clean(Tool::of(dram_path())).arg("release").arg(self.path()).dir(self.dir.path())
    }

    /// One of the project's own tools, in its directory.
    pub(crate) fn tool(&self, program: &str) -> Tool {
        clean(tool(program)).env("MIX_ENV", "prod").dir(self.path())
    }
}

/// Without what the caller's environment says of projects.
fn clean(tool: Tool) -> Tool {
    ["MIX_ENV", "MIX_TARGET", "REBAR_PROFILE", "SOURCE_DATE_EPOCH", "RELEASE_NODE", "RELEASE_COOKIE"]
        .into_iter()
        .fold(tool.env("LC_ALL", "C.UTF-8"), Tool::without)
}

/// Everything below a directory by its path: what it is, its mode, and what is in it.
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

/// What may differ from a release of Mix: a pattern of the path, with `*` for a part of a name. The reasons are in
/// `docs/release-differences.md`, which has to name each one.
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
fn the_page_names_every_difference() {
    let page = fs::read_to_string(repo("docs/release-differences.md")).unwrap();
    for pattern in DIFFERENCES {
        assert!(page.contains(&format!("`{pattern}`")), "docs/release-differences.md says nothing of `{pattern}`");
    }
}

/// Both make the release `name` of the same build: they may differ in what the table has, and in nothing else.
#[track_caller]
fn same_as_mix(project: &Project, name: &str) -> PathBuf {
    let (theirs, ours) = (project.beside(&format!("mix/{name}")), project.beside(&format!("dram/{name}")));
    project.tool("mix").args(["release", name, "--path"]).arg(&theirs).ok();
    project.dram().args(["--name", name, "--no-tar", "--output"]).arg(&ours).ok();
    let (of_mix, of_dram) = (tree(&theirs), tree(&ours));
    let version = fs::read_to_string(ours.join("releases/start_erl.data")).unwrap();
    let version = version.split_whitespace().nth(1).unwrap();
    let paths: BTreeSet<&String> = of_mix.keys().chain(of_dram.keys()).collect();
    let differ: Vec<_> = paths
        .into_iter()
        .filter(|path| of_mix.get(*path) != of_dram.get(*path) && !may_differ(path, name, version))
        .map(|path| format!("{path}\n  mix:  {:?}\n  dram: {:?}", of_mix.get(path), of_dram.get(path)))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    for file in ["start.boot", "start_clean.boot", "start.script", "sys.config", "vm.args", "remote.vm.args"] {
        let path = format!("releases/{version}/{file}");
        assert!(of_mix.contains_key(&path) && of_mix.get(&path) == of_dram.get(&path), "{path}");
    }
    let rel = format!("releases/{version}/{name}.rel");
    assert!(of_dram.contains_key(&rel) && of_mix.get(&rel) == of_dram.get(&rel), "{rel}");
    ours
}

/// A port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Starts the release, waits until it says READY, and ends it with SIGTERM; what it said is returned.
#[track_caller]
pub(crate) fn runs(release: &Path, name: &str, env: &[(&str, &str)]) -> String {
    let dir = temp();
    let (said, port) = (dir.path().join("said"), free_port());
    let started = env
        .iter()
        .fold(clean(tool("sh")), |tool, (name, value)| tool.env(name, value))
        .env("RELEASE_TMP", dir.path())
        .env("ERL_EPMD_PORT", port.to_string())
        .args(["-c", r#"exec "$0" foreground >"$1" 2>&1 </dev/null"#])
        .arg(release.join("bin").join(name))
        .arg(&said)
        .start();
    let text = || fs::read_to_string(&said).unwrap_or_default();
    until("the release says READY, or ended", START, || {
        text().contains("READY") || !Path::new(&format!("/proc/{}", started.pid())).exists() || is_dead(started.pid())
    });
    assert!(text().contains("READY"), "the release ended and said:\n{}", text());
    started.signal("TERM");
    let done = started.end();
    assert!(done.code == 0, "ended with {} and said:\n{}", done.code, text());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "an epmd is left behind");
    text()
}

fn is_dead(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"))
}

#[test]
fn small_is_as_mix_makes_it_and_runs() {
    let project = Project::copy("small");
    let release = same_as_mix_of_default(&project, "small");
    assert!(runs(&release, "small", &[]).contains("grüß dich"));
}

/// The release of a project that defines none: Mix takes the project's own name, and wants none.
#[track_caller]
fn same_as_mix_of_default(project: &Project, name: &str) -> PathBuf {
    let text = fs::read_to_string(project.join("mix.exs")).unwrap();
    let at = text.find("version:").unwrap();
    project.write("mix.exs", format!("{}releases: [{name}: []], {}", &text[..at], &text[at..]));
    same_as_mix(project, name)
}

#[test]
fn both_releases_of_an_umbrella_are_as_mix_makes_them_and_run() {
    let project = Project::copy("umbrella");
    for name in ["shop", "jobs"] {
        let release = same_as_mix(&project, name);
        runs(&release, name, &[]);
    }
}

#[test]
fn a_release_with_a_library_of_c_is_as_mix_makes_it_and_runs() {
    let project = Project::copy("nif");
    let release = same_as_mix_of_default(&project, "nif");
    assert!(runs(&release, "nif", &[]).contains("READY 2.0 hello"));
}

#[test]
fn optional_and_included_applications_and_all_start_types_are_as_mix_has_them() {
    let project = Project::copy("optional");
    for name in ["plain", "modes"] {
        let release = same_as_mix(&project, name);
        runs(&release, name, &[]);
    }
}

#[test]
fn runtime_configuration_providers_and_overlays_are_as_mix_has_them() {
    let project = Project::copy("runtime");
    let release = same_as_mix(&project, "runtime");
    let said = runs(&release, "runtime", &[("GREETING", "ahoy")]);
    assert!(said.contains("ahoy 3 /nowhere/runtime.json"), "{said}");
    for name in ["reboots", "fixed"] {
        let release = same_as_mix(&project, name);
        runs(&release, name, &[]);
    }
}

#[test]
fn what_a_release_of_mix_has_and_ours_has_not_is_said() {
    let project = Project::copy("runtime");
    let done = project.dram().arg("--no-tar").ok();
    for step in ["Runtime.MixProject.before/1", "Runtime.MixProject.after_it/1"] {
        assert!(done.stderr.contains(step), "{done}");
    }
    let mut text = fs::read_to_string(project.join("mix.exs")).unwrap();
    text = text.replace("fixed: [", "fixed: [include_executables_for: [:unix, :windows], include_erts: false, ");
    project.write("mix.exs", text);
    let done = project.dram().args(["--no-tar", "--name", "fixed"]).ok();
    assert!(done.stderr.contains(":windows") && done.stderr.contains("include_erts"), "{done}");
    runs(&project.join("_build/prod/rel/fixed"), "fixed", &[]);
}

/// As `systools` makes it of our own `.rel` file and our own applications.
fn same_boot_script(release: &Path, name: &str, version: &str) {
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

/// Fails unless both have the same files below `lib`, and modules that mean the same: rebar3 packs each with gzip.
fn same_libraries(theirs: &Path, ours: &Path) {
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
fn a_rebar3_release_has_what_rebar3_gives_it_and_runs() {
    let project = Project::copy("rebar");
    project.tool("rebar3").args(["as", "prod", "release", "-n", "ferry"]).ok();
    let (theirs, ours) = (project.join("_build/prod/rel/ferry"), project.beside("ferry"));
    let done = project.dram().args(["--name", "ferry", "--output"]).arg(&ours).ok();
    for hook in ["`pid`", "`wait_for_process`", "`builtin_status`"] {
        assert!(done.stderr.contains(hook), "{done}");
    }
    same_boot_script(&ours, "ferry", "2.5.0");
    same_libraries(&theirs, &ours);
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
    // Its vm.args name a node, which needs an epmd: it is told to use none.
    project.write("config/vm.args.src", "+K true\n");
    project.dram().args(["--name", "ferry", "--no-tar", "--output"]).arg(&ours).ok();
    let said = runs(&ours, "ferry", &[("FERRY_HARBOUR", "Rostock")]);
    assert!(said.contains("casting off") && said.contains("READY Rostock 40"), "{said}");
}

#[test]
fn rebar3_profiles_versions_and_bad_goals_are_what_relx_makes_of_them() {
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
fn distillery_configurations_become_releases_without_distillery() {
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
    // What Distillery's provider would read before the system starts, Elixir's reads while it does.
    fs::write(release.join("etc/config.exs"), "import Config\nconfig :still, proof: 57\n").unwrap();
    fs::write(release.join("releases/0.4.2/vm.args"), "+K true\n").unwrap();
    let said = runs(&release, "still", &[("REPLACE_OS_VARS", "true"), ("STILL_URL", "http://here")]);
    assert!(said.contains("READY 57 sys.config of amber"), "{said}");
}

#[test]
fn what_distillery_can_and_a_release_cannot_is_said_by_name() {
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
    // Its default keeps modules as they are.
    let of = |root: &str| fs::read(project.join(root).join("ebin/Elixir.Still.Application.beam")).unwrap();
    assert_eq!(of("_build/prod/lib/still"), of("_build/prod/rel/still/lib/still-0.4.2"));
    let done = project.dram().args(["--name", "nothing"]).fails(1);
    assert!(done.stderr.contains("still, another") && done.stderr.contains("rel/config.exs"), "{done}");
}
