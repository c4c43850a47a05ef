//! Shell scripts of users: `env.sh`, hooks and custom commands. A shell is needed only if there are any.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use dram_start::assign::assigned;
use dram_start::bytes::{Bytes, join};
use dram_start::conf::{Conf, Moment};
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::release::Home;

use crate::{files, process, sys};

/// A variable that a shell sets after it has sourced the files, when it executes this program again.
pub(crate) const READ: &str = "RELEASE_ENV_SH_READ";

const SHELL: &[u8] = b"/bin/sh";

/// Shell functions that scripts for Distillery and relx may call.
const HELPERS: &str = r#"
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
fn hooks(home: &Home, conf: &Conf, moments: &[Moment]) -> Result<Vec<Bytes>, Fault> {
    let mut found = Vec::new();
    for path in moments.iter().flat_map(|moment| conf.hooks_of(*moment)) {
        let path = join(&[&home.root, b"/", path]);
        if !files::is_directory(&path) {
            found.push(path);
            continue;
        }
        let names = files::names(&path).map_err(|errno| {
            Fault::new(format!("cannot list `{}`: {errno}", shown(&path)), "make the directory readable")
        })?;
        found.extend(names.iter().map(|name| join(&[&path, b"/", name])));
    }
    Ok(found)
}

/// The files that a shell must source before a command: `env.sh`, and the hooks of a start. An `env.sh` that only
/// assigns variables is evaluated here.
fn before(home: &Home, conf: &Conf, starts: bool, env: &mut Environment) -> Result<Vec<Bytes>, Fault> {
    let script = join(&[&home.version_dir(), b"/env.sh"]);
    let mut found = Vec::new();
    if let Some(text) = files::read_optional(&script)? {
        match assigned(&text, env) {
            Some(after) => *env = after,
            None => found.push(script),
        }
    }
    if starts {
        found.append(&mut hooks(home, conf, &[Moment::PreConfigure, Moment::PostConfigure, Moment::PreStart])?);
    }
    Ok(found)
}

/// Makes a shell source `env.sh` and the hooks of a start, and execute this program again with their variables.
///
/// Returns if there is nothing to source, or if that has happened already.
pub(crate) fn read_first(
    home: &Home,
    conf: &Conf,
    arguments: &[Bytes],
    starts: bool,
    env: &mut Environment,
) -> Result<(), Fault> {
    if env.get(READ).is_some() {
        env.remove(READ.as_bytes());
        return Ok(());
    }
    let files = before(home, conf, starts, env)?;
    let Some(first) = files.first() else { return Ok(()) };
    need_shell(first)?;
    let mut script = join(&[HELPERS.as_bytes(), b"set -ea\n"]);
    for file in &files {
        script.extend(join(&[b". ", &quoted(file), b"\n"]));
    }
    script.extend(join(&[READ.as_bytes(), b"=true\nexec \"$RELEASE_PROGRAM\" \"$@\"\n"]));
    let mut argv = vec![b"sh".to_vec(), b"-c".to_vec(), script, home.program.clone()];
    argv.extend_from_slice(arguments.get(1..).unwrap_or_default());
    env.set(b"RELEASE_PROGRAM", &home.program);
    let errno = sys::execute(SHELL, &argv, &env.strings());
    Err(Fault::new(format!("cannot start `/bin/sh`: {errno}"), "install a shell in the image, or remove `env.sh`"))
}

/// Runs the hooks of a hook point in order, and waits for each.
pub(crate) fn run_hooks(home: &Home, conf: &Conf, moment: Moment, env: &Environment) -> Result<(), Fault> {
    for path in hooks(home, conf, &[moment])? {
        let argv = script_of(home, &path, &[])?;
        let mut env = env.clone();
        env.set(b"RELEASE_PROGRAM", &home.program);
        match process::run(SHELL, &argv, &env.strings())? {
            0 => {}
            code => {
                let what = format!("the hook `{}` failed with code {code}", shown(&path));
                return Err(Fault::new(what, "see what it printed"));
            }
        }
    }
    Ok(())
}

/// Executes a custom command in this process.
pub(crate) fn custom(home: &Home, path: &[u8], arguments: &[Bytes], env: &Environment) -> Result<u8, Fault> {
    let path = join(&[&home.root, b"/", path]);
    let argv = script_of(home, &path, arguments)?;
    let mut env = env.clone();
    env.set(b"RELEASE_PROGRAM", &home.program);
    let errno = sys::execute(SHELL, &argv, &env.strings());
    Err(Fault::new(format!("cannot start `/bin/sh`: {errno}"), "install a shell in the image"))
}

fn script_of(home: &Home, path: &[u8], arguments: &[Bytes]) -> Result<Vec<Bytes>, Fault> {
    need_shell(path)?;
    files::need(path)?;
    let script = join(&[HELPERS.as_bytes(), b". ", &quoted(path), b"\n"]);
    let mut argv = vec![b"sh".to_vec(), b"-c".to_vec(), script, home.program.clone()];
    argv.extend_from_slice(arguments);
    Ok(argv)
}

/// Returns true if there is a shell.
pub(crate) fn exists() -> bool {
    sys::may(SHELL, 1)
}

fn need_shell(path: &[u8]) -> Result<(), Fault> {
    if exists() {
        return Ok(());
    }
    let what = format!("cannot read `{}`: there is no `/bin/sh`", shown(path));
    Err(Fault::new(what, "install a shell in the image, or set the variables where the container is started"))
}

/// Quotes a text as one word of a shell.
pub(crate) fn quoted(text: &[u8]) -> Bytes {
    let parts: Vec<&[u8]> = text.split(|b| *b == b'\'').collect();
    join(&[b"'", &parts.join(b"'\\''".as_slice()), b"'"])
}
