//! `dram release --upgrade`: a running system becomes another version, and keeps what it knows.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::release::{Project, free_port, runs};
use crate::support::{Done, Started, Tool, repo, temp, tool, until};

/// How long a system may take until it runs.
const START: Duration = Duration::from_secs(60);

/// `tests/release/upgrade`, of which both versions are in one directory, one after the other.
fn first() -> Project {
    let project = Project::of(&[]);
    take(&project, "v1");
    project
}

fn take(project: &Project, version: &str) {
    let _ = fs::remove_dir_all(project.join("lib"));
    let from = repo(&format!("tests/release/upgrade/{version}"));
    for part in ["mix.exs", "lib"] {
        tool("cp").arg("-r").arg(from.join(part)).arg(project.path()).ok();
    }
}

/// The release of a project, at a place of its own; its archive lies beside.
fn release(project: &Project) -> Tool {
    project.dram().arg("-o").arg(project.beside("rel")).arg("--quiet")
}

/// A system on a machine of its own, as far as that goes: an unpacked archive, a port mapper, temporary files.
struct System {
    dir: TempDir,
    port: u16,
    started: Option<Started>,
}

impl System {
    /// Unpacks `archive`.
    fn of(archive: &Path) -> System {
        let dir = temp();
        fs::create_dir(dir.path().join("app")).unwrap();
        tool("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path().join("app")).ok();
        System { dir, port: free_port(), started: None }
    }

    fn join(&self, path: &str) -> PathBuf {
        self.dir.path().join("app").join(path)
    }

    fn tool(&self, tool: Tool) -> Tool {
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

    /// A command of the start program.
    fn command(&self, words: &[&str]) -> Tool {
        self.tool(Tool::of(&self.join("bin/upgrade"))).args(words)
    }

    /// What a command says that must succeed.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        self.command(words).ok().stdout
    }

    #[track_caller]
    fn eval(&self, code: &str) -> String {
        self.says(&["rpc", &format!("IO.inspect({code})")]).trim().to_owned()
    }

    fn start(&mut self, word: &str) {
        let said = self.dir.path().join("said");
        let _ = fs::remove_file(&said);
        let script = r#"exec "$0" foreground >"$1" 2>&1 </dev/null"#;
        let sh = self.tool(tool("sh")).args(["-c", script]).arg(self.join("bin/upgrade")).arg(&said);
        self.started = Some(sh.start());
        let text = || fs::read_to_string(&said).unwrap_or_default();
        until("the system says that it is ready", START, || text().contains(word));
    }

    /// The process that runs the system.
    fn process(&self) -> String {
        self.says(&["pid"]).trim().to_owned()
    }

    fn stop(&mut self) {
        self.says(&["stop"]);
        let done = self.started.take().unwrap().end();
        assert_eq!(done.code, 0, "{done}");
    }

    /// Puts an archive where `unpack` and its kind look for it.
    fn bring(&self, version: &str, archive: &Path) {
        let place = self.join(&format!("releases/{version}"));
        fs::create_dir_all(&place).unwrap();
        fs::copy(archive, place.join("upgrade.tar.gz")).unwrap();
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Ended by its number, if the test did not come so far as to stop it.
        drop(self.started.take());
        let _ = tool("epmd").args(["-port", &self.port.to_string(), "-kill"]).end();
    }
}

#[test]
fn a_running_system_becomes_another_version_and_keeps_its_state() {
    let project = first();
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
    release(&project).ok();
    let mut system = System::of(&project.beside("upgrade-1.0.0.tar.gz"));
    take(&project, "v2");
    project.write("config/runtime.exs", runtime.replace("VERSION", "2"));
    project.write("lib/named.ex", format!("{named}{}{}", of("Integer"), of("Atom")));
    release(&project).arg("--upgrade").ok();

    system.start("READY 1");
    let process = system.process();
    assert_eq!(system.eval("for _ <- 1..3, do: Upgrade.Server.bump()"), "[1, 2, 3]");
    let settings = "{Application.get_env(:upgrade, :place), Application.get_env(:upgrade, :since)}";
    let consolidated = "Protocol.consolidated?(Upgrade.Named)";
    assert_eq!(system.eval(settings), "{\"here\", 1}");
    assert_eq!(system.eval(consolidated), "true");
    system.bring("2.0.0", &project.beside("upgrade-2.0.0.tar.gz"));
    system.says(&["upgrade", "2.0.0"]);
    assert_eq!(system.eval("Upgrade.Server.state()"), "%{count: 3, step: 10}");
    assert_eq!(system.eval("{Upgrade.Server.bump(), Upgrade.Added.there?()}"), "{13, true}");
    assert_eq!(system.says(&["versions"]), "upgrade 2.0.0 permanent\nupgrade 1.0.0 old\n");
    assert_eq!(system.process(), process, "it is the same process");
    assert_eq!(fs::read_to_string(system.join("hooked")).unwrap(), "pre\npost\n");
    // What belongs to no application, and what is worked out while the system starts.
    assert_eq!(system.eval("{Upgrade.Named.name(:a), Upgrade.Named.name(1)}"), "{{Atom, :a}, {Integer, 1}}");
    assert_eq!(system.eval(consolidated), "true");
    assert_eq!(system.eval(settings), "{\"here\", 2}");
    let config = system.join("releases/2.0.0/sys.config");
    assert!(fs::read_to_string(&config).unwrap().contains("RUNTIME_CONFIG"), "it is the one of the release again");

    // Where it is kept, it is so after a restart too, of which nothing remembers the state.
    system.stop();
    system.start("READY 2");
    assert_eq!(system.eval("Upgrade.Server.bump()"), "10");
    assert_eq!(system.says(&["version"]), "upgrade 2.0.0\n");
    let process = system.process();
    system.says(&["downgrade", "1.0.0"]);
    assert_eq!(system.eval("{Upgrade.Server.state(), Upgrade.Server.bump()}"), "{10, 11}");
    assert_eq!(system.eval(":code.is_loaded(Upgrade.Added)"), "false");
    assert_eq!(system.eval(settings), "{\"here\", 1}");
    assert_eq!(system.eval("{Upgrade.Named.impl_for(:a), Upgrade.Named.name(1)}"), "{nil, {Integer, 1}}");
    assert_eq!(system.process(), process, "it is the same process");
    assert_eq!(system.says(&["versions"]), "upgrade 2.0.0 old\nupgrade 1.0.0 permanent\n");
    system.stop();
    system.start("READY 1");
    assert_eq!(system.says(&["version"]), "upgrade 1.0.0\n");

    // Until it is kept, it lasts as long as the system does.
    system.says(&["install", "2.0.0"]);
    assert_eq!(system.eval("Upgrade.Added.there?()"), "true");
    system.stop();
    system.start("READY 1");
    assert_eq!(system.says(&["versions"]), "upgrade 2.0.0 old\nupgrade 1.0.0 permanent\n");
    assert_eq!(system.eval("Code.ensure_loaded?(Upgrade.Added)"), "false");
    system.says(&["uninstall", "2.0.0"]);
    assert!(!system.join("releases/2.0.0").exists() && !system.join("lib/upgrade-2.0.0").exists());
    assert!(system.join("lib/upgrade-1.0.0").exists(), "what the other needs stays");
    system.stop();
    let port = system.port;
    drop(system);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "an epmd is left behind");
}

#[test]
fn a_written_appup_wins_and_is_the_one_of_the_release() {
    let project = first();
    release(&project).ok();
    take(&project, "v2");
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

/// As `release_handler` does it: of the first gzip member, without links that lead out.
#[test]
fn erlang_unpacks_the_archive_of_a_portable_release() {
    let project = first();
    release(&project).args(["--portable", "--no-tar"]).ok();
    take(&project, "v2");
    release(&project).args(["--portable", "--upgrade"]).ok();
    let archive = project.beside("upgrade-2.0.0.tar.gz").display().to_string();
    let place = project.beside("unpacked");
    fs::create_dir(&place).unwrap();
    let code = format!("ok = erl_tar:extract({archive:?}, [keep_old_files, {{cwd, {place:?}}}, compressed]), halt().");
    tool("erl").args(["-noshell", "-eval", &code]).ok();
    runs(&place, "upgrade", &[]);
}

/// The peer: what `systools` makes of the same release with the appups that lie in it.
#[test]
fn the_relup_is_the_one_that_systools_makes() {
    let project = first();
    release(&project).ok();
    take(&project, "v2");
    release(&project).args(["--upgrade", "--no-tar"]).ok();
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
fn what_keeps_a_system_from_becoming_another_version_is_said() {
    let project = first();
    let fails = |words: &[&str], code: i32| -> Done { release(&project).args(words).fails(code).says("help: ") };
    fails(&["--upgrade"], 2).says("there is no older version in");
    fails(&["--upgrade", "--from", "0.9"], 2).says("there is no version `0.9` in");
    release(&project).ok();
    fails(&["--upgrade", "--from", "1.0.0"], 2).says("version `1.0.0` cannot be an upgrade of itself");
    fails(&["--upgrade"], 2).says("there is no older version in");
    take(&project, "v2");
    fails(&["--upgrade", "--from", "0.9"], 2).says("there is 1.0.0");
    fails(&["--upgrade", "--from", "1.0.0", "else"], 2).says("`--from` takes one version");
    release(&project).args(["--upgrade", "--otp", "/otp", "--from", "1.0.0"]).fails(2).says("`--otp` and `--upgrade`");

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

    // A release without its old modules, and with modules that are none.
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

    // The code changed, and the application's version did not.
    let manifest = fs::read_to_string(project.join("mix.exs")).unwrap();
    project.write("mix.exs", manifest.replace("2.0.0", "1.0.0"));
    fails(&["--upgrade", "--version", "2.0.0"], 1).says("`upgrade` changed, and its version `1.0.0` did not");
    // Nothing of all this changed the old version.
    assert!(!project.beside("rel/releases/2.0.0").exists());
}
