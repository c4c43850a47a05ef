//! `dram release --upgrade`: a running system is upgraded and keeps its state.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::release::{Project, free_port, run_until_ready};
use crate::support::{CommandOutput, RunningCommand, TestCommand, repo, temp, tool, wait_until};

/// Timeout for the start of a system.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates the project `tests/release/upgrade` in version 1; version 2 is copied over it later.
fn project_v1() -> Project {
    let project = Project::with_files(&[]);
    copy_version(&project, "v1");
    project
}

fn copy_version(project: &Project, version: &str) {
    let _ = fs::remove_dir_all(project.join("lib"));
    let from = repo(&format!("tests/release/upgrade/{version}"));
    for part in ["mix.exs", "lib"] {
        tool("cp").arg("-r").arg(from.join(part)).arg(project.path()).ok();
    }
}

/// Returns the command that makes the release in `rel`; its archive is beside it.
fn release_command(project: &Project) -> TestCommand {
    project.dram().arg("-o").arg(project.beside("rel")).arg("--quiet")
}

/// An installed system with its own epmd port and temporary directory.
struct RunningSystem {
    dir: TempDir,
    port: u16,
    started: Option<RunningCommand>,
}

impl RunningSystem {
    /// Unpacks `archive`.
    fn unpack(archive: &Path) -> RunningSystem {
        let dir = temp();
        fs::create_dir(dir.path().join("app")).unwrap();
        tool("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path().join("app")).ok();
        RunningSystem { dir, port: free_port(), started: None }
    }

    fn join(&self, path: &str) -> PathBuf {
        self.dir.path().join("app").join(path)
    }

    fn tool(&self, tool: TestCommand) -> TestCommand {
        let cookie = ("RELEASE_COOKIE", "a-secret");
        [
            ("RELEASE_DISTRIBUTION", "sname"),
            ("RELEASE_NODE", "upgrade"),
            ("PLACE", "here"),
            ("LC_ALL", "C.UTF-8"),
            cookie,
        ]
        .into_iter()
        .fold(tool, |tool, (name, value)| tool.env(name, value))
        .env("ERL_EPMD_PORT", self.port.to_string())
        .env("RELEASE_TMP", self.dir.path().join("tmp"))
        .dir(self.dir.path())
    }

    /// Returns a command of the start program.
    fn command(&self, words: &[&str]) -> TestCommand {
        self.tool(TestCommand::new(&self.join("bin/upgrade"))).args(words)
    }

    /// Runs a command that must succeed, and returns its output.
    #[track_caller]
    fn output(&self, words: &[&str]) -> String {
        self.command(words).ok().stdout
    }

    #[track_caller]
    fn eval(&self, code: &str) -> String {
        self.output(&["rpc", &format!("IO.inspect({code})")]).trim().to_owned()
    }

    fn start(&mut self, word: &str) {
        let said = self.dir.path().join("said");
        let _ = fs::remove_file(&said);
        let script = r#"exec "$0" foreground >"$1" 2>&1 </dev/null"#;
        let sh = self.tool(tool("sh")).args(["-c", script]).arg(self.join("bin/upgrade")).arg(&said);
        self.started = Some(sh.start());
        let text = || fs::read_to_string(&said).unwrap_or_default();
        wait_until("the system says that it is ready", START_TIMEOUT, || text().contains(word));
    }

    /// Returns the process id of the emulator.
    fn pid(&self) -> String {
        self.output(&["pid"]).trim().to_owned()
    }

    fn stop(&mut self) {
        self.output(&["stop"]);
        let done = self.started.take().unwrap().end();
        assert_eq!(done.code, 0, "{done}");
    }

    /// Copies an archive to where `unpack` and similar commands look for it.
    fn place_archive(&self, version: &str, archive: &Path) {
        let place = self.join(&format!("releases/{version}"));
        fs::create_dir_all(&place).unwrap();
        fs::copy(archive, place.join("upgrade.tar.gz")).unwrap();
    }
}

impl Drop for RunningSystem {
    fn drop(&mut self) {
        // Ends epmd by its port, if the test failed before it stopped the system.
        drop(self.started.take());
        let _ = tool("epmd").args(["-port", &self.port.to_string(), "-kill"]).end();
    }
}

#[test]
fn a_running_system_is_upgraded_and_keeps_its_state() {
    let project = project_v1();
    for moment in ["pre", "post"] {
        let script = format!("echo {moment} >> \"$RELEASE_ROOT/hooked\"\n");
        project.write(&format!("{moment}.sh"), script);
    }
    project.write("dram.toml", "[release]\nhooks = { pre-upgrade = 'pre.sh', post-upgrade = 'post.sh' }\n");
    let runtime = "import Config\nconfig :upgrade, place: System.get_env(\"PLACE\"), since: VERSION\n";
    project.write("config/runtime.exs", runtime.replace("VERSION", "1"));
    let named = "defprotocol Upgrade.Named do\n  def name(it)\nend\n";
    let of = |kind: &str| format!("defimpl Upgrade.Named, for: {kind} do\n  def name(it), do: {{{kind}, it}}\nend\n");
    project.write("lib/named.ex", format!("{named}{}", of("Integer")));
    release_command(&project).ok();
    let mut system = RunningSystem::unpack(&project.beside("upgrade-1.0.0.tar.gz"));
    copy_version(&project, "v2");
    project.write("config/runtime.exs", runtime.replace("VERSION", "2"));
    project.write("lib/named.ex", format!("{named}{}{}", of("Integer"), of("Atom")));
    release_command(&project).arg("--upgrade").ok();

    system.start("READY 1");
    let process = system.pid();
    assert_eq!(system.eval("for _ <- 1..3, do: Upgrade.Server.bump()"), "[1, 2, 3]");
    let settings = "{Application.get_env(:upgrade, :place), Application.get_env(:upgrade, :since)}";
    let consolidated = "Protocol.consolidated?(Upgrade.Named)";
    assert_eq!(system.eval(settings), "{\"here\", 1}");
    assert_eq!(system.eval(consolidated), "true");
    system.place_archive("2.0.0", &project.beside("upgrade-2.0.0.tar.gz"));
    system.output(&["upgrade", "2.0.0"]);
    assert_eq!(system.eval("Upgrade.Server.state()"), "%{count: 3, step: 10}");
    assert_eq!(system.eval("{Upgrade.Server.bump(), Upgrade.Added.there?()}"), "{13, true}");
    assert_eq!(system.output(&["versions"]), "upgrade 2.0.0 permanent\nupgrade 1.0.0 old\n");
    assert_eq!(system.pid(), process, "it is the same process");
    assert_eq!(fs::read_to_string(system.join("hooked")).unwrap(), "pre\npost\n");
    // Protocol consolidation belongs to no application, and runtime configuration is computed while the system starts.
    assert_eq!(system.eval("{Upgrade.Named.name(:a), Upgrade.Named.name(1)}"), "{{Atom, :a}, {Integer, 1}}");
    assert_eq!(system.eval(consolidated), "true");
    assert_eq!(system.eval(settings), "{\"here\", 2}");
    let config = system.join("releases/2.0.0/sys.config");
    assert!(fs::read_to_string(&config).unwrap().contains("RUNTIME_CONFIG"), "it is the one of the release again");

    // A permanent upgrade survives a restart; the state is lost.
    system.stop();
    system.start("READY 2");
    assert_eq!(system.eval("Upgrade.Server.bump()"), "10");
    assert_eq!(system.output(&["version"]), "upgrade 2.0.0\n");
    let process = system.pid();
    system.output(&["downgrade", "1.0.0"]);
    assert_eq!(system.eval("{Upgrade.Server.state(), Upgrade.Server.bump()}"), "{10, 11}");
    assert_eq!(system.eval(":code.is_loaded(Upgrade.Added)"), "false");
    assert_eq!(system.eval(settings), "{\"here\", 1}");
    assert_eq!(system.eval("{Upgrade.Named.impl_for(:a), Upgrade.Named.name(1)}"), "{nil, {Integer, 1}}");
    assert_eq!(system.pid(), process, "it is the same process");
    assert_eq!(system.output(&["versions"]), "upgrade 2.0.0 old\nupgrade 1.0.0 permanent\n");
    system.stop();
    system.start("READY 1");
    assert_eq!(system.output(&["version"]), "upgrade 1.0.0\n");

    // An upgrade that is not permanent lasts until the system is stopped.
    system.output(&["install", "2.0.0"]);
    assert_eq!(system.eval("Upgrade.Added.there?()"), "true");
    system.stop();
    system.start("READY 1");
    assert_eq!(system.output(&["versions"]), "upgrade 2.0.0 old\nupgrade 1.0.0 permanent\n");
    assert_eq!(system.eval("Code.ensure_loaded?(Upgrade.Added)"), "false");
    system.output(&["uninstall", "2.0.0"]);
    assert!(!system.join("releases/2.0.0").exists() && !system.join("lib/upgrade-2.0.0").exists());
    assert!(system.join("lib/upgrade-1.0.0").exists(), "what the other needs stays");
    system.stop();
    let port = system.port;
    drop(system);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "an epmd is left behind");
}

#[test]
fn a_handwritten_appup_overrides_the_generated_one() {
    let project = project_v1();
    release_command(&project).ok();
    copy_version(&project, "v2");
    let written = "%% by hand\n{\"2.0.0\",[{<<\"1[.].*\">>,[{update,'Elixir.Upgrade.Server',{advanced,by_hand}}]}],\n\
                   [{\"1.0.0\",[{load_module,'Elixir.Upgrade.Server',soft_purge,soft_purge,[]}]}]}.\n";
    project.write("rel/appups/upgrade/1.0.0_to_2.0.0.appup", written);
    let json = project.dram().arg("-o").arg(project.beside("rel")).args(["--json", "--upgrade", "--no-tar"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["upgrade"]["from"], "1.0.0");
    let appup = json["upgrade"]["applications"][0]["appup"].as_str().unwrap();
    assert!(appup.ends_with("rel/appups/upgrade/1.0.0_to_2.0.0.appup"), "{appup}");
    let relup = fs::read_to_string(project.beside("rel/releases/2.0.0/relup")).unwrap();
    assert!(relup.contains("{code_change,up,[{'Elixir.Upgrade.Server',by_hand}]}"), "{relup}");
    assert!(relup.contains("{load,{'Elixir.Upgrade.Server',soft_purge,soft_purge}}"), "{relup}");
    let appup = fs::read_to_string(project.beside("rel/lib/upgrade-2.0.0/ebin/upgrade.appup")).unwrap();
    assert!(appup.contains("by_hand"), "{appup}");
}

/// Unpacks as `release_handler` does: only the first gzip member, and no links that lead outside.
#[test]
fn erlang_unpacks_the_archive_of_a_portable_release() {
    let project = project_v1();
    release_command(&project).args(["--portable", "--no-tar"]).ok();
    copy_version(&project, "v2");
    release_command(&project).args(["--portable", "--upgrade"]).ok();
    let archive = project.beside("upgrade-2.0.0.tar.gz").display().to_string();
    let place = project.beside("unpacked");
    fs::create_dir(&place).unwrap();
    let code = format!("ok = erl_tar:extract({archive:?}, [keep_old_files, {{cwd, {place:?}}}, compressed]), halt().");
    tool("erl").args(["-noshell", "-eval", &code]).ok();
    run_until_ready(&place, "upgrade", &[]);
}

/// Compares with the relup that `systools` makes from the same release and its appups.
#[test]
fn the_relup_equals_that_of_systools() {
    let project = project_v1();
    release_command(&project).ok();
    copy_version(&project, "v2");
    release_command(&project).args(["--upgrade", "--no-tar"]).ok();
    let rel = project.beside("rel");
    let at = |version: &str| rel.join("releases").join(version).join("upgrade").display().to_string();
    let code = format!(
        "{{ok,_,_,_}} = systools:make_relup({:?}, [{:?}], [{:?}], [silent, {{outdir, {:?}}}, \
         {{path, [{:?}]}}]), halt().",
        at("2.0.0"),
        at("1.0.0"),
        at("1.0.0"),
        project.beside("").display().to_string(),
        rel.join("lib/*/ebin").display().to_string(),
    );
    tool("erl").env("LC_ALL", "C.UTF-8").args(["-noshell", "-eval", &code]).ok();
    let ours = fs::read_to_string(rel.join("releases/2.0.0/relup")).unwrap();
    assert_eq!(ours, fs::read_to_string(project.beside("relup")).unwrap());
}

#[test]
fn impossible_upgrades_are_reported() {
    let project = project_v1();
    let fails = |words: &[&str], code: i32| -> CommandOutput {
        release_command(&project).args(words).fails(code).says("help: ")
    };
    fails(&["--upgrade"], 2).says("there is no older version in");
    fails(&["--upgrade", "--from", "0.9"], 2).says("there is no version `0.9` in");
    release_command(&project).ok();
    fails(&["--upgrade", "--from", "1.0.0"], 2).says("version `1.0.0` cannot be an upgrade of itself");
    fails(&["--upgrade"], 2).says("there is no older version in");
    copy_version(&project, "v2");
    fails(&["--upgrade", "--from", "0.9"], 2).says("there is 1.0.0");
    fails(&["--upgrade", "--from", "1.0.0", "else"], 2).says("`--from` takes one version");
    release_command(&project)
        .args(["--upgrade", "--otp", "/otp", "--from", "1.0.0"])
        .fails(2)
        .says("`--otp` and `--upgrade`");

    let appup = "rel/appups/upgrade/1.0.0_to_2.0.0.appup";
    let down = "[{\"1.0.0\",[]}]";
    for (text, said) in [
        ("{\"2.0.0\",\n [{\"1.0.0\",}],[]}.\n".to_owned(), "line 2, column "),
        ("{\"2.0.0\",[]}.\n".to_owned(), "it is not `{VERSION,"),
        (format!("{{\"2.0.0\",[{{\"1.0.0\",[{{load_modul,a}}]}}],{down}}}."), "`{load_modul,a}`: there is no such"),
        (format!("{{\"2.0.0\",[{{\"0.1.0\",[]}}],{down}}}."), "does not lead from `1.0.0` to `2.0.0` and back"),
        (format!("{{\"2.0.1\",{down},{down}}}."), "does not lead from `1.0.0` to `2.0.0` and back"),
        (format!("{{\"2.0.0\",[{{\"1.0.0\",[{{load_module,nobody}}]}}],{down}}}."), "`nobody` is in no application"),
        (format!("{{\"2.0.0\",[{{\"1.0.0\",[{{suspend,[a]}}]}}],{down}}}."), "`a` is suspended and not resumed"),
    ] {
        project.write(appup, text);
        let done = fails(&["--upgrade"], 1).says(said);
        assert!(said.contains("nobody") || said.contains("suspended") || done.stderr.contains(appup), "{done}");
    }
    fs::remove_file(project.join(appup)).unwrap();

    // An old release with invalid modules, and one without the application.
    let old = project.beside("rel/lib/upgrade-1.0.0");
    let module = old.join("ebin/Elixir.Upgrade.Server.beam");
    let bytes = fs::read(&module).unwrap();
    fs::write(&module, "nothing").unwrap();
    fails(&["--upgrade"], 1)
        .says("there is no appup for `upgrade`, and none can be made")
        .says("Elixir.Upgrade.Server");
    fs::rename(&old, project.beside("aside")).unwrap();
    fails(&["--upgrade"], 1).says("`upgrade` 1.0.0 of the old version is not in");
    fs::rename(project.beside("aside"), &old).unwrap();
    fs::write(&module, bytes).unwrap();

    // The code changed, but the application's version did not.
    let manifest = fs::read_to_string(project.join("mix.exs")).unwrap();
    project.write("mix.exs", manifest.replace("2.0.0", "1.0.0"));
    fails(&["--upgrade", "--version", "2.0.0"], 1).says("`upgrade` changed, and its version `1.0.0` did not");
    // None of these failures changed the release.
    assert!(!project.beside("rel/releases/2.0.0").exists());
}
