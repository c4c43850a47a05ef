//! Prepares the configuration, the arguments and the cookie of an emulator.

use alloc::format;
use alloc::vec::Vec;

use dram_start::bytes::{Bytes, find, join};
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::launch::complete;
use dram_start::release::{Release, cookie_in, value_of};
use dram_start::variables::{has_variables, replace};

use crate::errno::Errno;
use crate::{files, sys};

/// The characters of a generated cookie.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The path of the configuration, without `.config`: the release's own, or a copy that is written now. `None` if the
/// release has no configuration.
pub(crate) fn config(release: &Release, env: &Environment) -> Result<Option<Bytes>, Fault> {
    let path = join(&[&release.sys_config, b".config"]);
    let source = join(&[&path, b".src"]);
    let (from, text, template) = match files::read_optional(&path)? {
        Some(text) => (path, text, false),
        None => match files::read_optional(&source)? {
            Some(text) => (source, text, true),
            None => return Ok(None),
        },
    };
    let fills = (template || release.replaces_variables(env)) && has_variables(&text);
    let changes = release.conf.runtime_config || find(&text, b"RUNTIME_CONFIG=true").is_some();
    if !fills && !changes && !template {
        return Ok(Some(release.sys_config.clone()));
    }
    let text = if fills { replace(&from, &text, b'%', env)? } else { text };
    let stem =
        join(&[&release.tmp, b"/", &release.name, b"-", &release.home.vsn, b"-", &files::random_name(), b".runtime"]);
    let copy = join(&[&stem, b".config"]);
    files::write_private(&copy, &text).map_err(|errno| not_writable(&copy, errno))?;
    Ok(Some(stem))
}

fn not_writable(path: &[u8], errno: Errno) -> Fault {
    let what = format!("cannot write `{}`: {errno}", shown(path));
    Fault::new(what, "set RELEASE_TMP to a directory that this user may write")
}

/// Expands `line` with the file of arguments, if it exists, and with the variables of the environment.
pub(crate) fn arguments(
    release: &Release,
    line: Vec<Bytes>,
    file: &[u8],
    env: &Environment,
) -> Result<Vec<Bytes>, Fault> {
    let source = join(&[file, b".src"]);
    let file = if !sys::may(file, 0) && sys::may(&source, 0) { source.as_slice() } else { file };
    let fills = release.replaces_variables(env) || file == source.as_slice();
    let mut read = |path: &[u8]| {
        let text = files::need(path)?;
        if fills { replace(path, &text, b'#', env) } else { Ok(text) }
    };
    complete(release, line, sys::may(file, 0).then_some(file), env, &mut read)
}

/// The arguments of the release, for commands that only need its node name and cookie.
pub(crate) fn known(release: &Release, env: &Environment) -> Result<Vec<Bytes>, Fault> {
    arguments(release, dram_start::bytes::words(env.get("ERL_OPTS").unwrap_or_default()), &release.vm_args, env)
}

/// The cookie that is set, or the one that an earlier start generated.
pub(crate) fn cookie(release: &Release, arguments: &[Bytes], env: &Environment) -> Result<Option<Bytes>, Fault> {
    if let Some(cookie) = env.first(&["RELEASE_COOKIE", "RELX_COOKIE", "COOKIE"]) {
        return Ok(Some(cookie.to_vec()));
    }
    if let Some(cookie) = value_of(arguments, b"-setcookie") {
        return Ok(Some(cookie.to_vec()));
    }
    let path = join(&[&release.home.root, b"/releases/COOKIE"]);
    if let Some(cookie) = files::read_optional(&path)?.and_then(|text| cookie_in(&text)) {
        return Ok(Some(cookie));
    }
    made_before(release)
}

fn cookie_path(release: &Release) -> Bytes {
    join(&[&release.tmp, b"/", &release.name, b".cookie"])
}

/// The generated cookie of an earlier start.
fn made_before(release: &Release) -> Result<Option<Bytes>, Fault> {
    let path = cookie_path(release);
    let Ok((mode, owner)) = sys::mode_and_owner(&path) else { return Ok(None) };
    if mode & 0o077 != 0 || (owner != sys::own_user() && sys::own_user() != 0) {
        let what = format!("cannot use the cookie in `{}`: others may know it", shown(&path));
        return Err(Fault::new(what, "remove the file, or set RELEASE_COOKIE"));
    }
    Ok(files::read_optional(&path)?.and_then(|text| cookie_in(&text)))
}

/// The cookie for a start: the one that is set, or a new one.
pub(crate) fn cookie_or_new(release: &Release, arguments: &[Bytes], env: &Environment) -> Result<Bytes, Fault> {
    if let Some(cookie) = cookie(release, arguments, env)? {
        return Ok(cookie);
    }
    let path = cookie_path(release);
    let mut bytes = [0; 32];
    sys::random(&mut bytes).map_err(|errno| {
        Fault::new(format!("cannot make a cookie: {errno}"), "set RELEASE_COOKIE to a secret of your own")
    })?;
    let cookie: Bytes = bytes.iter().map(|byte| LETTERS[usize::from(byte % 32)]).collect();
    files::write_private(&path, &cookie).map_err(|errno| {
        let what = format!("cannot write a new cookie to `{}`: {errno}", shown(&path));
        Fault::new(
            what,
            "set RELEASE_COOKIE to a secret of your own, or RELEASE_TMP to a directory this user may write",
        )
    })?;
    let note = format!("no cookie is set: a new one is in `{}`\n", shown(&path));
    let _ = sys::write_all(2, note.as_bytes());
    Ok(cookie)
}
