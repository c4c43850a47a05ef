//! Starts an emulator from the settings of the release.

use alloc::format;
use alloc::vec::Vec;

use dram_start::bytes::{Bytes, file_name, join, number, split_once};
use dram_start::conf::{Distribution, Moment};
use dram_start::environment::Environment;
use dram_start::erlexec::{Emulator, Place, search_path};
use dram_start::fault::{Fault, shown};
use dram_start::launch::{Purpose, Surroundings, emulator, line};
use dram_start::limits::open_files;
use dram_start::node::address::{Address, mapper_port};
use dram_start::release::{Naming, Release};
use dram_start::shim::{REAL, loaded};

use crate::errno::Errno;
use crate::{files, net, prepare, process, remote, running, shell, sys};

/// The options of a start, in addition to the settings.
#[derive(Default)]
pub(crate) struct Wish {
    /// Another boot script.
    pub(crate) boot: Option<Bytes>,
    /// The arguments for the code of the release.
    pub(crate) arguments: Vec<Bytes>,
    /// The node's name, if it is not that of the release.
    pub(crate) naming: Option<Naming>,
    /// True for the release itself, which other commands find by its state file and its node name.
    pub(crate) system: bool,
}

/// A command that is ready to be executed.
pub(crate) struct Ready {
    program: Bytes,
    argv: Vec<Bytes>,
    env: Environment,
}

impl Ready {
    /// Executes the command in this process. Returns only if that failed.
    pub(crate) fn execute(&self) -> Fault {
        let errno = sys::execute(&self.program, &self.argv, &self.env.strings());
        let what = format!("cannot start `{}`: {errno}", shown(&self.program));
        Fault::new(
            what,
            match errno {
                // The kernel also reports this error for a missing ELF loader.
                Errno::NOENT => "make the release again, or install the C library that its emulator needs",
                _ => "make the release again for this machine",
            },
        )
    }
}

/// Prepares the command, the configuration and the cookie, and starts EPMD if it is needed.
pub(crate) fn ready(release: &Release, purpose: &Purpose, wish: Wish, env: &Environment) -> Result<Ready, Fault> {
    need_null()?;
    let mut env = env.clone();
    let home = &release.home;
    let config = match purpose {
        Purpose::Remote { .. } | Purpose::Escript | Purpose::Clean => None,
        Purpose::Run | Purpose::Console | Purpose::Eval(_) => prepare::config(release, &env)?,
    };
    if let Some(config) = &config {
        env.set(b"RELEASE_SYS_CONFIG", config);
    }
    // IEx does not start without `HOME`, also when a remote console requests it.
    if env.get("HOME").is_none() {
        env.set(b"HOME", b"/");
    }
    let around = Surroundings {
        terminal: sys::is_terminal(1) && sys::is_terminal(2),
        elixir: elixir_version(&home.root),
        boot: wish.boot,
        arguments: wish.arguments,
        config,
    };
    let file = match purpose {
        Purpose::Remote { .. } => &release.remote_vm_args,
        Purpose::Run | Purpose::Console | Purpose::Clean | Purpose::Eval(_) | Purpose::Escript => &release.vm_args,
    };
    let mut arguments = prepare::arguments(release, line(release, purpose, &around, &env), file, &env)?;
    let naming = if wish.system { Some(release.naming(&arguments)) } else { wish.naming };
    if !wish.system {
        // `-heart` and `-detached` are for the release: a helper must not be restarted by heart, nor run in the
        // background.
        let end = arguments.iter().position(|one| one == b"-extra").unwrap_or(arguments.len());
        let rest = arguments.split_off(end);
        arguments.retain(|one| one != b"-heart" && one != b"-detached");
        arguments.extend(rest);
    }
    let named = naming.as_ref().is_some_and(|naming| naming.kind != Distribution::None);
    let cookie = if named { Some(prepare::cookie_or_new(release, &arguments, &env)?) } else { None };
    if let Some(naming) = naming.as_ref().filter(|_| wish.system) {
        // The release may read its name and cookie, and commands that it starts find it by them.
        env.set(b"RELEASE_DISTRIBUTION", naming.kind.word().as_bytes());
        env.set(b"RELEASE_NODE", &naming.node);
        if let Some(cookie) = &cookie {
            env.set(b"RELEASE_COOKIE", cookie);
        }
    }
    let place = Place { root: home.root.clone(), bin: home.bin(), progname: b"erl".to_vec() };
    let emulator = emulator(&arguments, naming.as_ref(), cookie.as_deref(), &place, &env)?;
    settle_env(release, &emulator, &place, &mut env);
    if emulator.wants_epmd {
        start_mapper(&place, &emulator, &env)?;
    }
    if wish.system && emulator.detached {
        return Err(Fault::new(
            format!("cannot start with `-detached` in `{}`", shown(file)),
            "remove the flag, and use the command `daemon`",
        ));
    }
    let path = join(&[&place.bin, b"/", &emulator.file]);
    let hidden = join(&[&place.bin, b"/", REAL, b"/", &emulator.file]);
    let real = if sys::may(&hidden, 0) { &hidden } else { &path };
    let name = env.filled("ESCRIPT_NAME").unwrap_or(&path).to_vec();
    limit_files(release, &emulator.arguments);
    let (program, argv) = loaded(&home.root, &release.conf, real, &name, &emulator.arguments);
    if env.is_true("VERBOSE") || env.is_true("DEBUG_BOOT") {
        let line = argv.join(b" ".as_slice());
        let _ = sys::write_all(2, format!("{}\n", shown(&line)).as_bytes());
    }
    Ok(Ready { program, argv, env })
}

/// Starts the release in this process or, as process 1, in a child.
pub(crate) fn start(release: &Release, purpose: &Purpose, wish: Wish, env: &Environment) -> Result<u8, Fault> {
    let ready = ready(release, purpose, wish, env)?;
    after_start(release, &ready.env)?;
    let held = running::hold(release, env);
    let own = sys::own_process();
    if own == 1 {
        return process::supervise(|| ready.execute(), |child| held.write(release, child, env));
    }
    held.write(release, own, env);
    held.hand_over();
    Err(ready.execute())
}

/// Starts a helper: an emulator that is not the release itself and takes no lock of the state file.
pub(crate) fn start_beside(release: &Release, purpose: &Purpose, wish: Wish, env: &Environment) -> Result<u8, Fault> {
    let ready = ready(release, purpose, wish, env)?;
    if sys::own_process() == 1 {
        return process::supervise(|| ready.execute(), |_| {});
    }
    Err(ready.execute())
}

/// Requires `/dev/null`: without it the emulator tries to open it forever.
fn need_null() -> Result<(), Fault> {
    let is_device = sys::mode_and_owner(b"/dev/null").is_ok_and(|(mode, _)| mode & 0o170_000 == 0o020_000);
    let null = sys::open(b"/dev/null", sys::RDWR, 0).ok().filter(|_| is_device);
    let Some(null) = null else {
        let what = "cannot start the emulator: `/dev/null` is not there, or not a device that can be used";
        return Err(Fault::new(
            what,
            "mount a `/dev` as container runtimes do, or make it: mknod -m 666 /dev/null c 1 3",
        ));
    };
    // The parent may have closed the standard streams, and the next file opened would take their place.
    for fd in 0..3 {
        if !sys::is_open(fd) {
            let _ = sys::duplicate(&null, fd);
        }
    }
    if null.0 < 3 {
        null.leave_open();
    }
    Ok(())
}

fn settle_env(release: &Release, emulator: &Emulator, place: &Place, env: &mut Environment) {
    let path = search_path(env.get("PATH"), place);
    for (name, value) in
        [("ROOTDIR", &place.root), ("BINDIR", &place.bin), ("PROGNAME", &place.progname), ("PATH", &path)]
    {
        env.set(name.as_bytes(), value);
    }
    env.set(b"EMU", b"beam");
    if emulator.arguments.iter().any(|one| one == b"-heart") && env.filled("HEART_COMMAND").is_none() {
        let command = env.get("RELEASE_COMMAND").unwrap_or_default();
        let again = join(&[&shell::quoted(&release.home.program), b" ", command]);
        env.set(b"HEART_COMMAND", &again);
    }
    for (name, value) in &emulator.env {
        env.set(name, value);
    }
}

/// The version of Elixir among the applications of the release.
fn elixir_version(root: &[u8]) -> Option<(u64, u64)> {
    let names = files::names(&join(&[root, b"/lib"])).ok()?;
    let version = names.iter().find_map(|name| name.strip_prefix(b"elixir-"))?;
    let (major, rest) = split_once(version, b'.')?;
    Some((number(major)?, number(rest.split(|b| !b.is_ascii_digit()).next()?)?))
}

/// Starts the EPMD of the release. If the release has none, one must run already.
fn start_mapper(place: &Place, emulator: &Emulator, env: &Environment) -> Result<(), Fault> {
    if let Some(command) = &emulator.epmd {
        let argv = [b"sh".to_vec(), b"-c".to_vec(), command.clone()];
        process::run(b"/bin/sh", &argv, &env.strings())?;
        return Ok(());
    }
    let program = join(&[&place.bin, b"/epmd"]);
    if sys::may(&program, 1) {
        process::run(&program, &[program.clone(), b"-daemon".to_vec()], &env.strings())?;
        return Ok(());
    }
    let port = mapper_port(env.get("ERL_EPMD_PORT"));
    if net::connect(&[Address::Four([127, 0, 0, 1])], port, 1000).is_ok() {
        return Ok(());
    }
    let what =
        format!("cannot give the node a name: no port mapper listens on port {port}, and the release has no `epmd`");
    Err(Fault::new(what, "make the release with `epmd`, start one, or set RELEASE_DISTRIBUTION=none"))
}

fn limit_files(release: &Release, flags: &[Bytes]) {
    if let Ok((soft, hard)) = sys::open_files()
        && let Some(wanted) = open_files(soft, hard, release.conf.nofile, flags)
    {
        let _ = sys::set_open_files(wanted, hard);
    }
}

/// Leaves a background process that runs the post-start hooks as soon as the node answers.
fn after_start(release: &Release, env: &Environment) -> Result<(), Fault> {
    if release.conf.hooks_of(Moment::PostStart).next().is_none() {
        return Ok(());
    }
    process::leave_behind(|| {
        let until = sys::clock() + 60_000;
        // Without a node name the answer comes from the lock, which is held at once: the emulator gets some time to
        // begin.
        sys::pause(200);
        while sys::clock() < until && matches!(remote::ping(release, env), Ok(false) | Err(_)) {
            sys::pause(200);
        }
        if let Err(fault) = shell::run_hooks(&release.home, &release.conf, Moment::PostStart, env) {
            process::say(&fault);
        }
    })
}

/// Starts the release in the background.
pub(crate) fn daemon(release: &Release, purpose: &Purpose, wish: Wish, env: &Environment) -> Result<u8, Fault> {
    let home = &release.home;
    let pipes = env.filled("PIPE_DIR").map_or_else(|| join(&[&release.tmp, b"/pipe"]), <[u8]>::to_vec);
    let logs = env.filled("RUNNER_LOG_DIR").map_or_else(|| join(&[&release.tmp, b"/log"]), <[u8]>::to_vec);
    let make = |path: &[u8]| {
        files::make_directories(path).map_err(|errno| {
            let what = format!("cannot make the directory `{}`: {errno}", shown(path));
            Fault::new(what, "set RELEASE_TMP to a directory that this user may write")
        })
    };
    make(&logs)?;
    let runner = join(&[&home.bin(), b"/run_erl"]);
    let command: &[u8] = if *purpose == Purpose::Console { b"console" } else { b"foreground" };
    if sys::may(&runner, 1) && shell::exists() {
        make(&pipes)?;
        let mut call = join(&[b"exec ", &shell::quoted(&home.program), b" ", command]);
        for argument in &wish.arguments {
            call.extend(join(&[b" ", &shell::quoted(argument)]));
        }
        let slash = |path: &[u8]| join(&[path, b"/"]);
        let argv = [file_name(&runner).to_vec(), b"-daemon".to_vec(), slash(&pipes), slash(&logs), call];
        let mut env = env.clone();
        env.set(shell::READ.as_bytes(), b"true");
        let ready = Ready { program: runner, argv: argv.to_vec(), env };
        return Err(ready.execute());
    }
    if *purpose == Purpose::Console {
        let what = "cannot give a daemon a shell: the release has no `run_erl`, or there is no `/bin/sh`";
        return Err(Fault::new(what, "use `daemon`, and `remote_console` for a shell in it"));
    }
    let path = join(&[&logs, b"/", &release.name, b".log"]);
    let log = sys::open(&path, sys::WRONLY | sys::CREAT | sys::APPEND | sys::CLOEXEC, 0o640).map_err(|errno| {
        let what = format!("cannot open `{}`: {errno}", shown(&path));
        Fault::new(what, "set RELEASE_TMP to a directory that this user may write")
    })?;
    process::background(&log, || match start(release, purpose, wish, env) {
        Err(fault) => fault,
        Ok(_) => Fault::new("the system ended at once", "see its log"),
    })
}

/// Attaches the terminal to a daemon.
pub(crate) fn attach(release: &Release, env: &Environment) -> Result<u8, Fault> {
    let pipes = env.filled("PIPE_DIR").map_or_else(|| join(&[&release.tmp, b"/pipe"]), <[u8]>::to_vec);
    let program = join(&[&release.home.bin(), b"/to_erl"]);
    if !sys::may(&program, 1) {
        let what = "cannot attach to the daemon: the release has no `to_erl`";
        return Err(Fault::new(what, "use `remote_console`, or make the release with `run_erl` and `to_erl`"));
    }
    let argv = [b"to_erl".to_vec(), join(&[&pipes, b"/"])].to_vec();
    Err(Ready { program, argv, env: env.clone() }.execute())
}
