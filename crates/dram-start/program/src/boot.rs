//! Starts an emulator from the settings of the release.

use alloc::format;
use alloc::vec::Vec;

use dram_start::byte_string::{ByteString, concat, file_name, parse_number, split_once};
use dram_start::env_script::{ENV_SH_READ, quote_word};
use dram_start::environment::EnvironmentVariables;
use dram_start::erlexec::{EmulatorCommand, EmulatorPaths, search_path};
use dram_start::error::{StartError, printable};
use dram_start::launch::{
    EmulatorPurpose, LaunchContext, emulator_command, hidden_cookie_position, launch_arguments, with_output_encoding,
};
use dram_start::node::address::{NodeAddress, epmd_port};
use dram_start::open_file_limit::new_soft_limit;
use dram_start::release::{NodeNaming, StartSettings, flag_value, tls_flags};
use dram_start::start_conf::{StartHookPoint, StartNodeNameKind};
use dram_start::trampoline::{REAL_DIR, loader_command};

use crate::config_copy::ConfigCopy;
use crate::errno::StartErrno;
use crate::files::OwnFileError;
use crate::hidden_argument::{self, HiddenArgument};
use crate::process::StopHooks;
use crate::state_lock::ReleaseStatus;
use crate::{files, net, node_connection, prepare, process, shell, state_lock, sys};

/// The variable that the emulator's cookie is taken from.
const COOKIE_VARIABLE: &str = "RELEASE_COOKIE";

/// The options of a start, in addition to the settings.
#[derive(Default)]
pub(crate) struct EmulatorOptions {
    /// Another boot script.
    pub(crate) boot_script: Option<ByteString>,
    /// The arguments for the code of the release.
    pub(crate) arguments: Vec<ByteString>,
    /// The node's name, if it is not that of the release.
    pub(crate) naming: Option<NodeNaming>,
    /// True for the release itself, which other commands find by its state file and its node name.
    pub(crate) is_release: bool,
}

/// A command that is ready to be executed.
pub(crate) struct PreparedEmulator {
    program: ByteString,
    argv: Vec<ByteString>,
    env: EnvironmentVariables,
    /// The cookie, which is not on the command line; the environment has it.
    cookie: Option<ByteString>,
    /// The copy of the configuration, which is removed when the emulator ends.
    config: Option<ConfigCopy>,
}

impl PreparedEmulator {
    /// Executes the command in this process. Returns only if that failed.
    pub(crate) fn execute(&self) -> StartError {
        if let Some(config) = &self.config
            && let Err(fault) = config.remove_when_this_process_ends()
        {
            return fault;
        }
        self.execute_supervised()
    }

    /// Executes the command in this process, whose parent removes the copy of the configuration.
    pub(crate) fn execute_supervised(&self) -> StartError {
        let environment = self.env.to_strings();
        let hidden = hidden_cookie_position(&self.argv).zip(self.env.position(COOKIE_VARIABLE));
        let errno = match (&self.cookie, hidden) {
            (Some(cookie), Some((argument, variable))) => {
                let hidden = HiddenArgument { argument, variable, name_length: COOKIE_VARIABLE.len() + 1 };
                hidden_argument::execute(&self.program, &self.argv, &environment, hidden, cookie)
            }
            (Some(_) | None, _) => sys::execute(&self.program, &self.argv, &environment),
        };
        let what = format!("cannot start `{}`: {errno}", printable(&self.program));
        StartError::new(
            what,
            match errno {
                // The kernel also reports this error for a missing ELF loader.
                StartErrno::NOENT => "make the release again, or install the C library that its emulator needs",
                _ => "make the release again for this machine",
            },
        )
    }
}

/// Prepares the command, the configuration and the cookie, and starts EPMD if it is needed.
pub(crate) fn prepare_emulator(
    release: &StartSettings,
    purpose: &EmulatorPurpose,
    wish: EmulatorOptions,
    env: &EnvironmentVariables,
) -> Result<PreparedEmulator, StartError> {
    require_null_device()?;
    let mut env = env.clone();
    let home = &release.home;
    let config = match purpose {
        EmulatorPurpose::RemoteConsole { .. }
        | EmulatorPurpose::Escript
        | EmulatorPurpose::CleanConsole
        | EmulatorPurpose::NodeBridge(_) => None,
        EmulatorPurpose::Release | EmulatorPurpose::Console | EmulatorPurpose::Eval(_) => {
            prepare::prepare_config(release, &env)?
        }
    };
    if let Some(config) = &config {
        env.set(b"RELEASE_SYS_CONFIG", &config.stem);
    }
    // IEx does not start without `HOME`, also when a remote console requests it.
    if env.get("HOME").is_none() {
        env.set(b"HOME", b"/");
    }
    let config_text = match &config {
        Some(config) => files::read_optional(&config.path())?.unwrap_or_default(),
        None => Vec::new(),
    };
    let around = LaunchContext {
        terminal: sys::is_terminal(1) && sys::is_terminal(2),
        elixir: elixir_version(&home.root),
        boot_script: wish.boot_script,
        arguments: wish.arguments,
        config: config.as_ref().map(|config| config.stem.clone()),
    };
    let file = match purpose {
        EmulatorPurpose::RemoteConsole { .. } | EmulatorPurpose::NodeBridge(_) => &release.remote_vm_args,
        EmulatorPurpose::Release
        | EmulatorPurpose::Console
        | EmulatorPurpose::CleanConsole
        | EmulatorPurpose::Eval(_)
        | EmulatorPurpose::Escript => &release.vm_args,
    };
    let arguments =
        prepare::expand_release_arguments(release, launch_arguments(release, purpose, &around, &env), file, &env)?;
    let arguments = match purpose {
        // A node that is reached by TLS only is reached with the same certificates.
        EmulatorPurpose::RemoteConsole { .. } | EmulatorPurpose::NodeBridge(_)
            if flag_value(&arguments, b"-proto_dist").is_none() =>
        {
            [tls_flags(&prepare::release_arguments(release, &env)?), arguments].concat()
        }
        EmulatorPurpose::RemoteConsole { .. }
        | EmulatorPurpose::NodeBridge(_)
        | EmulatorPurpose::Release
        | EmulatorPurpose::Console
        | EmulatorPurpose::CleanConsole
        | EmulatorPurpose::Eval(_)
        | EmulatorPurpose::Escript => arguments,
    };
    let mut arguments = with_output_encoding(release, arguments, &config_text);
    let naming = if wish.is_release { Some(release.node_naming(&arguments)) } else { wish.naming };
    if !wish.is_release {
        // `-heart` and `-detached` are for the release: a helper must not be restarted by heart, nor run in the
        // background.
        let end = arguments.iter().position(|one| one == b"-extra").unwrap_or(arguments.len());
        let rest = arguments.split_off(end);
        arguments.retain(|one| one != b"-heart" && one != b"-detached");
        arguments.extend(rest);
    }
    let named = naming.as_ref().is_some_and(|naming| naming.kind != StartNodeNameKind::None);
    let cookie = if named { Some(prepare::find_or_generate_cookie(release, &arguments, &env)?) } else { None };
    if let Some(naming) = naming.as_ref().filter(|_| wish.is_release) {
        // The release may read its name and cookie, and commands that it starts find it by them.
        env.set(b"RELEASE_DISTRIBUTION", naming.kind.as_str().as_bytes());
        env.set(b"RELEASE_NODE", &naming.node);
    }
    if let Some(cookie) = &cookie {
        env.set(COOKIE_VARIABLE.as_bytes(), cookie);
    }
    let place = EmulatorPaths { root: home.root.clone(), bin: home.bin(), progname: b"erl".to_vec() };
    let emulator = emulator_command(&arguments, naming.as_ref(), cookie.is_some(), &place, &env)?;
    set_emulator_variables(release, &emulator, &place, &mut env);
    if emulator.needs_epmd {
        start_epmd(&place, &emulator, &env)?;
    }
    if wish.is_release && emulator.detached {
        return Err(StartError::new(
            format!("cannot start with `-detached` in `{}`", printable(file)),
            "remove the flag, and use the command `daemon`",
        ));
    }
    let path = concat(&[&place.bin, b"/", &emulator.file]);
    let hidden = concat(&[&place.bin, b"/", REAL_DIR, b"/", &emulator.file]);
    let real = if sys::can_access(&hidden, 0) { &hidden } else { &path };
    let name = env.get_non_empty("ESCRIPT_NAME").unwrap_or(&path).to_vec();
    apply_open_file_limit(release, &emulator.arguments);
    let (program, argv) = loader_command(&home.root, &release.conf, real, &name, &emulator.arguments);
    if env.is_true("VERBOSE") || env.is_true("DEBUG_BOOT") {
        let line = argv.join(b" ".as_slice());
        let _ = sys::write_all(2, format!("{}\n", printable(&line)).as_bytes());
    }
    Ok(PreparedEmulator { program, argv, env, cookie, config: config.and_then(|config| config.copy) })
}

/// Starts the release in this process or, as process 1, in a child.
pub(crate) fn start_release(
    release: &StartSettings,
    purpose: &EmulatorPurpose,
    wish: EmulatorOptions,
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    let ready = prepare_emulator(release, purpose, wish, env)?;
    leave_post_start_hooks(release, &ready.env)?;
    let held = state_lock::lock_state_file(release, env);
    if held.is_held_by_another() {
        let note = format!(
            "another system of this release runs with RELEASE_TMP `{}`: `stop` and `pid` without a node name mean that one\n",
            printable(&release.tmp)
        );
        let _ = sys::write_all(2, note.as_bytes());
    }
    let own = sys::own_pid();
    if own == 1 {
        let hook = |point| shell::run_hooks(&release.home, &release.conf, point, &ready.env);
        let has = |point| release.conf.hooks_at(point).next().is_some();
        let stopping = StopHooks {
            before: &|| hook(StartHookPoint::PreStop),
            after: &|| hook(StartHookPoint::PostStop),
            exist: has(StartHookPoint::PreStop) || has(StartHookPoint::PostStop),
            milliseconds: release.conf.stop_timeout * 1000,
        };
        let started = |child| held.write_state(child, env);
        let code = process::supervise_as_process_1(|| ready.execute_supervised(), started, &stopping);
        ready.config.iter().for_each(ConfigCopy::remove);
        return code;
    }
    held.write_state(own, env);
    held.keep_across_exec();
    Err(ready.execute())
}

/// Starts a helper: an emulator that is not the release itself and takes no lock of the state file.
pub(crate) fn start_helper(
    release: &StartSettings,
    purpose: &EmulatorPurpose,
    wish: EmulatorOptions,
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    let ready = prepare_emulator(release, purpose, wish, env)?;
    if sys::own_pid() == 1 {
        let code = process::supervise_as_process_1(|| ready.execute_supervised(), |_| {}, &StopHooks::NONE);
        ready.config.iter().for_each(ConfigCopy::remove);
        return code;
    }
    Err(ready.execute())
}

/// Requires `/dev/null`: without it the emulator tries to open it forever.
fn require_null_device() -> Result<(), StartError> {
    let is_device = files::is_character_device(b"/dev/null");
    let null = sys::open(b"/dev/null", sys::RDWR, 0).ok().filter(|_| is_device);
    let Some(null) = null else {
        let what = "cannot start the emulator: `/dev/null` is not there, or not a device that can be used";
        return Err(StartError::new(
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

fn set_emulator_variables(
    release: &StartSettings,
    emulator: &EmulatorCommand,
    place: &EmulatorPaths,
    env: &mut EnvironmentVariables,
) {
    let path = search_path(env.get("PATH"), place);
    for (name, value) in
        [("ROOTDIR", &place.root), ("BINDIR", &place.bin), ("PROGNAME", &place.progname), ("PATH", &path)]
    {
        env.set(name.as_bytes(), value);
    }
    env.set(b"EMU", b"beam");
    if emulator.arguments.iter().any(|one| one == b"-heart") && env.get_non_empty("HEART_COMMAND").is_none() {
        let command = env.get("RELEASE_COMMAND").unwrap_or_default();
        let again = concat(&[&quote_word(&release.home.program), b" ", command]);
        env.set(b"HEART_COMMAND", &again);
    }
    for (name, value) in &emulator.env {
        env.set(name, value);
    }
}

/// The version of Elixir among the applications of the release.
fn elixir_version(root: &[u8]) -> Option<(u64, u64)> {
    let names = files::list_directory(&concat(&[root, b"/lib"])).ok()?;
    let version = names.iter().find_map(|name| name.strip_prefix(b"elixir-"))?;
    let (major, rest) = split_once(version, b'.')?;
    Some((parse_number(major)?, parse_number(rest.split(|b| !b.is_ascii_digit()).next()?)?))
}

/// Starts the EPMD of the release. If the release has none, one must run already.
fn start_epmd(place: &EmulatorPaths, emulator: &EmulatorCommand, env: &EnvironmentVariables) -> Result<(), StartError> {
    if let Some(command) = &emulator.epmd_command {
        let argv = [b"sh".to_vec(), b"-c".to_vec(), command.clone()];
        process::run_and_wait(b"/bin/sh", &argv, &env.to_strings())?;
        return Ok(());
    }
    let program = concat(&[&place.bin, b"/epmd"]);
    if sys::can_access(&program, 1) {
        process::run_and_wait(&program, &[program.clone(), b"-daemon".to_vec()], &env.to_strings())?;
        return Ok(());
    }
    let port = epmd_port(env.get("ERL_EPMD_PORT"));
    if net::connect_to_any(&[NodeAddress::V4([127, 0, 0, 1])], port, 1000).is_ok() {
        return Ok(());
    }
    let what =
        format!("cannot give the node a name: no port mapper listens on port {port}, and the release has no `epmd`");
    Err(StartError::new(what, "make the release with `epmd`, start one, or set RELEASE_DISTRIBUTION=none"))
}

fn apply_open_file_limit(release: &StartSettings, flags: &[ByteString]) {
    if let Ok((soft, hard)) = sys::open_files()
        && let Some(wanted) = new_soft_limit(soft, hard, release.conf.open_file_limit, flags)
    {
        let _ = sys::set_open_files(wanted, hard);
    }
}

/// Leaves a background process that runs the post-start hooks as soon as the node answers.
fn leave_post_start_hooks(release: &StartSettings, env: &EnvironmentVariables) -> Result<(), StartError> {
    if release.conf.hooks_at(StartHookPoint::PostStart).next().is_none() {
        return Ok(());
    }
    let own = sys::own_pid();
    process::spawn_detached(|| {
        process::close_inherited_files();
        let until = sys::monotonic_milliseconds() + 60_000;
        // Without a node name the answer comes from the lock, which is held at once: the emulator gets some time to
        // begin.
        sys::sleep(200);
        while sys::monotonic_milliseconds() < until
            && matches!(node_connection::answers_ping(release, env), Ok(false) | Err(_))
        {
            // The emulator has the process id of this program, unless that is process 1.
            if own != 1 && state_lock::has_ended(own) {
                return;
            }
            sys::sleep(200);
        }
        if let Err(fault) = shell::run_hooks(&release.home, &release.conf, StartHookPoint::PostStart, env) {
            process::print_error(&fault);
        }
    })
}

/// Starts the release in the background.
pub(crate) fn start_daemon(
    release: &StartSettings,
    purpose: &EmulatorPurpose,
    wish: EmulatorOptions,
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    if let ReleaseStatus::Running(state) = state_lock::release_status(release) {
        let what = format!("cannot start in the background: the system runs already, as process {}", state.pid);
        return Err(StartError::new(what, "stop it before, or set RELEASE_TMP to a directory of its own"));
    }
    let home = &release.home;
    let pipes = env.get_non_empty("PIPE_DIR").map_or_else(|| concat(&[&release.tmp, b"/pipe"]), <[u8]>::to_vec);
    let logs = env.get_non_empty("RUNNER_LOG_DIR").map_or_else(|| concat(&[&release.tmp, b"/log"]), <[u8]>::to_vec);
    // Whoever may write to them can redirect the log and type into the shell.
    let make = |path: &[u8]| {
        files::make_own_directory(path).map_err(|why| {
            let what = format!("cannot use the directory `{}`: {why}", printable(path));
            StartError::new(what, "set RELEASE_TMP to a directory that only this user may write")
        })
    };
    make(&logs)?;
    let runner = concat(&[&home.bin(), b"/run_erl"]);
    let command: &[u8] = if *purpose == EmulatorPurpose::Console { b"console" } else { b"foreground" };
    if sys::can_access(&runner, 1) && shell::shell_exists() {
        make(&pipes)?;
        let mut call = concat(&[b"exec ", &quote_word(&home.program), b" ", command]);
        for argument in &wish.arguments {
            call.extend(concat(&[b" ", &quote_word(argument)]));
        }
        let slash = |path: &[u8]| concat(&[path, b"/"]);
        let argv = [file_name(&runner).to_vec(), b"-daemon".to_vec(), slash(&pipes), slash(&logs), call];
        let mut env = env.clone();
        env.set(ENV_SH_READ.as_bytes(), b"true");
        let ready = PreparedEmulator { program: runner, argv: argv.to_vec(), env, cookie: None, config: None };
        return Err(ready.execute());
    }
    if *purpose == EmulatorPurpose::Console {
        let what = "cannot give a daemon a shell: the release has no `run_erl`, or there is no `/bin/sh`";
        return Err(StartError::new(what, "use `daemon`, and `remote_console` for a shell in it"));
    }
    let path = concat(&[&logs, b"/", &release.name, b".log"]);
    let log = files::open_own(&path, sys::WRONLY | sys::CREAT | sys::APPEND, 0o640).map_err(|why| {
        let what = format!("cannot open `{}`: {why}", printable(&path));
        StartError::new(what, "set RELEASE_TMP to a directory that only this user may write")
    })?;
    process::run_in_background(&log, || match start_release(release, purpose, wish, env) {
        Err(fault) => fault,
        Ok(_) => StartError::new("the system ended at once", "see its log"),
    })
}

/// Attaches the terminal to a daemon.
pub(crate) fn attach_to_daemon(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    let pipes = env.get_non_empty("PIPE_DIR").map_or_else(|| concat(&[&release.tmp, b"/pipe"]), <[u8]>::to_vec);
    let program = concat(&[&release.home.bin(), b"/to_erl"]);
    if !sys::can_access(&program, 1) {
        let what = "cannot attach to the daemon: the release has no `to_erl`";
        return Err(StartError::new(what, "use `remote_console`, or make the release with `run_erl` and `to_erl`"));
    }
    match files::check_own_directory(&pipes) {
        Ok(()) | Err(OwnFileError::Errno(_)) => {}
        Err(why) => {
            let what = format!("cannot attach to the daemon in `{}`: {why}", printable(&pipes));
            return Err(StartError::new(what, "call the command as the user who started the daemon"));
        }
    }
    let argv = [b"to_erl".to_vec(), concat(&[&pipes, b"/"])].to_vec();
    Err(PreparedEmulator { program, argv, env: env.clone(), cookie: None, config: None }.execute())
}
