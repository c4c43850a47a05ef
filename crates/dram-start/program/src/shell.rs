//! Shell scripts of users: `env.sh`, hooks and custom commands. A shell is needed only if there are any.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use dram_start::byte_string::{ByteString, concat};
use dram_start::env_script::{ENV_SH_READ, evaluate_assignments, quote_word, sourcing_script};
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::release::ReleaseHome;
use dram_start::start_conf::{START_HOOKS, StartConf, StartHookPoint};

use crate::{files, process, sys};

const SHELL: &[u8] = b"/bin/sh";

/// Shell functions that scripts for Distillery and relx may call.
const SHELL_FUNCTIONS: &str = r#"
fail() { printf '%s\n' "$*" >&2; exit 1; }
notice() { printf '%s\n' "$*"; }
success() { printf '%s\n' "$*"; }
info() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
release_ctl() { "$RELEASE_PROGRAM" "$@"; }
release_remote_ctl() { "$RELEASE_PROGRAM" "$@"; }
require_live_node() { "$RELEASE_PROGRAM" ping >/dev/null || fail "Node is not running!"; }
get_pid() { "$RELEASE_PROGRAM" pid; }
relx_nodetool() { "$RELEASE_PROGRAM" "$@"; }
escript() { "$RELEASE_PROGRAM" escript "$@"; }
otp_vsn() { cat "$RELEASE_ROOT_DIR/releases/OTP_VERSION"; }
erts_vsn() { printf '%s\n' "$ERTS_VSN"; }
"#;

/// The files of hooks in order. If a hook is a directory, its files are used.
fn hook_files(home: &ReleaseHome, conf: &StartConf, moments: &[StartHookPoint]) -> Result<Vec<ByteString>, StartError> {
    let mut found = Vec::new();
    for path in moments.iter().flat_map(|moment| conf.hooks_at(*moment)) {
        let path = concat(&[&home.root, b"/", path]);
        if !files::is_directory(&path) {
            found.push(path);
            continue;
        }
        let names = files::list_directory(&path).map_err(|errno| {
            StartError::new(format!("cannot list `{}`: {errno}", printable(&path)), "make the directory readable")
        })?;
        found.extend(names.iter().map(|name| concat(&[&path, b"/", name])));
    }
    Ok(found)
}

/// The files that a shell must source before a command: `env.sh`, and the hooks of a start. An `env.sh` that only
/// assigns variables is evaluated here.
fn files_to_source(
    home: &ReleaseHome,
    conf: &StartConf,
    starts: bool,
    env: &mut EnvironmentVariables,
) -> Result<Vec<ByteString>, StartError> {
    let script = concat(&[&home.version_dir(), b"/env.sh"]);
    let mut found = Vec::new();
    if let Some(text) = files::read_optional(&script)? {
        match evaluate_assignments(&text, env) {
            Some(after) => *env = after,
            None => found.push(script),
        }
    }
    if starts {
        found.append(&mut hook_files(home, conf, &START_HOOKS)?);
    }
    Ok(found)
}

/// Makes a shell source `env.sh` and the hooks of a start, and execute this program again with their variables.
///
/// Returns if there is nothing to source, or if that has happened already.
pub(crate) fn source_files_and_reexecute(
    home: &ReleaseHome,
    conf: &StartConf,
    arguments: &[ByteString],
    starts: bool,
    env: &mut EnvironmentVariables,
) -> Result<(), StartError> {
    if env.get(ENV_SH_READ).is_some() {
        env.remove(ENV_SH_READ.as_bytes());
        return Ok(());
    }
    let files = files_to_source(home, conf, starts, env)?;
    let Some(first) = files.first() else { return Ok(()) };
    require_shell(first)?;
    let script = sourcing_script(SHELL_FUNCTIONS, &files);
    let mut argv = vec![b"sh".to_vec(), b"-c".to_vec(), script, home.program.clone()];
    argv.extend_from_slice(arguments.get(1..).unwrap_or_default());
    env.set(b"RELEASE_PROGRAM", &home.program);
    let errno = sys::execute(SHELL, &argv, &env.to_strings());
    Err(StartError::new(format!("cannot start `/bin/sh`: {errno}"), "install a shell in the image, or remove `env.sh`"))
}

/// Runs the hooks of a hook point in order, and waits for each.
pub(crate) fn run_hooks(
    home: &ReleaseHome,
    conf: &StartConf,
    moment: StartHookPoint,
    env: &EnvironmentVariables,
) -> Result<(), StartError> {
    for path in hook_files(home, conf, &[moment])? {
        let argv = shell_arguments(home, &path, &[])?;
        let mut env = env.clone();
        env.set(b"RELEASE_PROGRAM", &home.program);
        match process::run_and_wait(SHELL, &argv, &env.to_strings())? {
            0 => {}
            code => {
                let what = format!("the hook `{}` failed with code {code}", printable(&path));
                return Err(StartError::new(what, "see what it printed"));
            }
        }
    }
    Ok(())
}

/// Executes a custom command in this process.
pub(crate) fn execute_custom_command(
    home: &ReleaseHome,
    path: &[u8],
    arguments: &[ByteString],
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    let path = concat(&[&home.root, b"/", path]);
    let argv = shell_arguments(home, &path, arguments)?;
    let mut env = env.clone();
    env.set(b"RELEASE_PROGRAM", &home.program);
    let errno = sys::execute(SHELL, &argv, &env.to_strings());
    Err(StartError::new(format!("cannot start `/bin/sh`: {errno}"), "install a shell in the image"))
}

fn shell_arguments(home: &ReleaseHome, path: &[u8], arguments: &[ByteString]) -> Result<Vec<ByteString>, StartError> {
    require_shell(path)?;
    files::read_required(path)?;
    let script = concat(&[SHELL_FUNCTIONS.as_bytes(), b". ", &quote_word(path), b"\n"]);
    let mut argv = vec![b"sh".to_vec(), b"-c".to_vec(), script, home.program.clone()];
    argv.extend_from_slice(arguments);
    Ok(argv)
}

/// Returns true if there is a shell.
pub(crate) fn shell_exists() -> bool {
    sys::can_access(SHELL, 1)
}

fn require_shell(path: &[u8]) -> Result<(), StartError> {
    if shell_exists() {
        return Ok(());
    }
    let what = format!("cannot read `{}`: there is no `/bin/sh`", printable(path));
    Err(StartError::new(what, "install a shell in the image, or set the variables where the container is started"))
}
