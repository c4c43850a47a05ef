//! A release built by Mix with this start program, in a directory of its own, with an EPMD of its own.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::recipe;

const APPLICATION: &str = "defmodule Demo.Application do
  use Application
  def start(_type, _arguments) do
    result = Supervisor.start_link([], strategy: :one_for_one)
    IO.puts(\"READY #{inspect(Application.get_env(:demo, :greeting))}\")
    result
  end
end
";

/// The path of the start program, which is built once.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("program");
        let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("start-program");
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        recipe::build(&source, "dram-start", &target, &work).unwrap_or_else(|why| panic!("{why}"))
    })
}

/// A release as Mix builds it, once.
pub(crate) fn mix_release() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for old in fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()) {
            let name = old.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let process = name.strip_prefix("base-").map(|process| Path::new("/proc").join(process));
            if process.is_some_and(|process| !process.exists()) {
                let _ = fs::remove_dir_all(old);
            }
        }
        let dir = all.join(format!("base-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        run_mix(&dir, &["new", "demo", "--sup"]);
        let project = dir.join("demo");
        fs::write(project.join("lib/demo/application.ex"), APPLICATION).unwrap();
        let manifest = fs::read_to_string(project.join("mix.exs")).unwrap();
        fs::write(project.join("mix.exs"), manifest.replace("[:logger]", "[:logger, :sasl]")).unwrap();
        run_mix(&project, &["release"]);
        project.join("_build/prod/rel/demo")
    })
}

/// Runs `mix` in a directory.
pub(crate) fn run_mix(at: &Path, arguments: &[&str]) {
    let mut command = Command::new("mix");
    command.args(arguments).current_dir(at).env("MIX_ENV", "prod").env("MIX_HOME", at.join("mix-home"));
    let output = command.env("LANG", "C.UTF-8").output().expect("mix is installed");
    assert!(output.status.success(), "{}{}", lossy_text(&output.stdout), lossy_text(&output.stderr));
}

pub(crate) fn lossy_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A test release, its directory and its EPMD port.
pub(crate) struct TestRelease {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) port: u16,
}

impl TestRelease {
    /// Makes a release with these lines in its `start.conf`.
    pub(crate) fn new(conf: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("app");
        let copied = Command::new("cp").arg("-a").arg(mix_release()).arg(&root).status().unwrap();
        assert!(copied.success());
        fs::remove_file(root.join("releases/COOKIE")).unwrap();
        fs::copy(program(), root.join("bin/demo")).unwrap();
        fs::set_permissions(root.join("bin/demo"), fs::Permissions::from_mode(0o755)).unwrap();
        // The port is bound and released: the kernel does not assign it again soon.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let world = Self { dir, root, port };
        world.write("releases/0.1.0/start.conf", &format!("name = demo\nelixir = true\n{conf}"));
        world
    }

    /// Writes a file of the release.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// Sets the environment of every command.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("ERL_EPMD_PORT", self.port.to_string()).env("RELEASE_TMP", self.tmp());
        // Loading all modules of this release at the start would take long, and the tests need few.
        command.env("RELEASE_MODE", "interactive");
        command.stdin(Stdio::null());
    }

    /// A command of the release.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.root.join("bin/demo"));
        self.set_environment(&mut command);
        command.args(arguments);
        command
    }

    /// Runs a command and waits for its end.
    pub(crate) fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        self.command(arguments).envs(env.iter().copied()).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its output.
    pub(crate) fn run_ok(&self, arguments: &[&str], env: &[(&str, &str)]) -> String {
        let output = self.run(arguments, env);
        assert!(output.status.success(), "{arguments:?}: {}{}", lossy_text(&output.stdout), lossy_text(&output.stderr));
        lossy_text(&output.stdout)
    }

    /// Starts a command and waits for its output `READY`.
    pub(crate) fn start_and_wait_ready(&self, command: Command) -> RunningRelease {
        let mut system = self.spawn(command);
        system.wait_for("READY");
        system
    }

    /// Starts a command, with its output in a file.
    pub(crate) fn spawn(&self, mut command: Command) -> RunningRelease {
        let log = self.dir.path().join(format!("log-{}", fs::read_dir(self.dir.path()).unwrap().count()));
        let file = fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        RunningRelease { child: command.spawn().unwrap(), log }
    }

    /// Starts the release in the foreground and waits until it is ready.
    pub(crate) fn start_foreground(&self, env: &[(&str, &str)]) -> RunningRelease {
        let mut command = self.command(&["foreground"]);
        command.envs(env.iter().copied());
        self.start_and_wait_ready(command)
    }

    /// Replaces the programs of the emulator by those of a portable release, as the assembler lays them out.
    pub(crate) fn make_portable(&self, erts: &str) {
        let bin = self.root.join(erts).join("bin");
        fs::create_dir(bin.join(".elf")).unwrap();
        for name in ["beam.smp", "erl_child_setup", "inet_gethost", "epmd"] {
            fs::rename(bin.join(name), bin.join(".elf").join(name)).unwrap();
            if name != "beam.smp" {
                symlink("../../bin/demo", bin.join(name)).unwrap();
            }
        }
    }
}

impl Drop for TestRelease {
    fn drop(&mut self) {
        // EPMD ends only once no node is registered any more.
        let epmd = Command::new("epmd").args(["-port", &self.port.to_string(), "-kill"]).output();
        drop(epmd);
    }
}

/// A running release.
pub(crate) struct RunningRelease {
    pub(crate) child: Child,
    log: PathBuf,
}

impl RunningRelease {
    pub(crate) fn output(&self) -> String {
        lossy_text(&fs::read(&self.log).unwrap())
    }

    /// Waits until the output contains `word`.
    pub(crate) fn wait_for(&mut self, word: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.output().contains(word) {
            assert!(Instant::now() < end, "no `{word}` in: {}", self.output());
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(self.output().contains(word), "ended with {status} before `{word}`: {}", self.output());
            }
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send_signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Waits for the exit code, with a timeout.
    pub(crate) fn wait_for_exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "still there: {}", self.output());
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RunningRelease {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` returns true, with a timeout.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Prints a line for readers of the tests' output.
pub(crate) fn print_note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
