//! Prepares the configuration, the arguments and the cookie of an emulator.

use alloc::format;
use alloc::vec::Vec;

use dram_start::byte_string::{ByteString, concat, find_bytes};
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::launch::expand_launch_arguments;
use dram_start::node::cookie::check_cookie;
use dram_start::release::{StartSettings, flag_value, parse_cookie};
use dram_start::variables::{has_variables, replace_variables};

use crate::config_copy::ConfigCopy;
use crate::{files, sys};

/// The characters of a generated cookie.
const COOKIE_CHARACTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The configuration that an emulator reads.
pub(crate) struct PreparedConfig {
    /// Its path, without `.config`.
    pub(crate) stem: ByteString,
    /// The copy that was written for it, if the release's own file could not be used.
    pub(crate) copy: Option<ConfigCopy>,
}

impl PreparedConfig {
    /// The path of the file.
    pub(crate) fn path(&self) -> ByteString {
        concat(&[&self.stem, b".config"])
    }

    /// Removes the copy, if there is one.
    pub(crate) fn remove_copy(&self) {
        self.copy.iter().for_each(ConfigCopy::remove);
    }
}

/// The configuration: the release's own, or a copy that is written now. `None` if the release has none.
pub(crate) fn prepare_config(
    release: &StartSettings,
    env: &EnvironmentVariables,
) -> Result<Option<PreparedConfig>, StartError> {
    let path = concat(&[&release.sys_config, b".config"]);
    let source = concat(&[&path, b".src"]);
    let (from, text, template) = match files::read_optional(&path)? {
        Some(text) => (path, text, false),
        None => match files::read_optional(&source)? {
            Some(text) => (source, text, true),
            None => return Ok(None),
        },
    };
    let fills = (template || release.should_replace_variables(env)) && has_variables(&text);
    // Without a reboot, `Config.Provider` only reads the file.
    let changes = release.conf.reboot || find_bytes(&text, b"RUNTIME_CONFIG=true").is_some();
    if !fills && !changes && !template {
        return Ok(Some(PreparedConfig { stem: release.sys_config.clone(), copy: None }));
    }
    let text = if fills { replace_variables(&from, &text, b'%', env)? } else { text };
    let copy = ConfigCopy::write(release, &from, &text)?;
    Ok(Some(PreparedConfig { stem: copy.stem(), copy: Some(copy) }))
}

/// Expands `line` with the file of arguments, if it exists, and with the variables of the environment.
pub(crate) fn expand_release_arguments(
    release: &StartSettings,
    line: Vec<ByteString>,
    file: &[u8],
    env: &EnvironmentVariables,
) -> Result<Vec<ByteString>, StartError> {
    let source = concat(&[file, b".src"]);
    let file = if !sys::can_access(file, 0) && sys::can_access(&source, 0) { source.as_slice() } else { file };
    let fills = release.should_replace_variables(env) || file == source.as_slice();
    let mut read = |path: &[u8]| {
        let text = files::read_required(path)?;
        if fills { replace_variables(path, &text, b'#', env) } else { Ok(text) }
    };
    expand_launch_arguments(release, line, sys::can_access(file, 0).then_some(file), env, &mut read)
}

/// The arguments of the release, for commands that only need its node name and cookie.
pub(crate) fn release_arguments(
    release: &StartSettings,
    env: &EnvironmentVariables,
) -> Result<Vec<ByteString>, StartError> {
    let variable = |name: &str| dram_start::byte_string::split_words(env.get(name).unwrap_or_default());
    let mut line = if release.conf.elixir { variable("ELIXIR_ERL_OPTIONS") } else { Vec::new() };
    line.append(&mut variable("ERL_OPTS"));
    expand_release_arguments(release, line, &release.vm_args, env)
}

/// The cookie that is set, or the one that an earlier start generated.
pub(crate) fn find_cookie(
    release: &StartSettings,
    arguments: &[ByteString],
    env: &EnvironmentVariables,
) -> Result<Option<ByteString>, StartError> {
    let checked = |cookie: &[u8], source: &str| check_cookie(cookie, source).map(|()| Some(cookie.to_vec()));
    for name in ["RELEASE_COOKIE", "RELX_COOKIE", "COOKIE"] {
        if let Some(cookie) = env.get_non_empty(name) {
            return checked(cookie, name);
        }
    }
    if let Some(cookie) = flag_value(arguments, b"-setcookie") {
        return checked(cookie, "the flag `-setcookie`");
    }
    let path = concat(&[&release.home.root, b"/releases/COOKIE"]);
    if let Some(text) = files::read_optional(&path)? {
        // A variable is replaced whatever the settings say: its name is no secret.
        if let Some(cookie) = parse_cookie(&replace_variables(&path, &text, b'#', env)?) {
            return checked(&cookie, &format!("`{}`", printable(&path)));
        }
    }
    generated_cookie(release)
}

fn cookie_path(release: &StartSettings) -> ByteString {
    concat(&[&release.tmp, b"/", &release.name, b".cookie"])
}

/// The generated cookie of an earlier start.
fn generated_cookie(release: &StartSettings) -> Result<Option<ByteString>, StartError> {
    let path = cookie_path(release);
    let refuse = |why: &dyn core::fmt::Display| {
        let what = format!("cannot use the cookie in `{}`: {why}", printable(&path));
        StartError::new(what, "remove the file, set RELEASE_COOKIE, or set RELEASE_TMP to a directory of your own")
    };
    let Some((text, permissions)) = files::read_own(&path).map_err(|why| refuse(&why))? else { return Ok(None) };
    if permissions & 0o077 != 0 {
        return Err(refuse(&"others may know it"));
    }
    check_cookie_directory(release)?;
    Ok(parse_cookie(&text))
}

/// Checks that no other user can replace the generated cookie.
fn check_cookie_directory(release: &StartSettings) -> Result<(), StartError> {
    files::check_directory_owner(&release.tmp).map_err(|why| {
        let what = format!("cannot keep a cookie in the directory `{}`: {why}", printable(&release.tmp));
        StartError::new(what, "set RELEASE_COOKIE to a secret of your own, or RELEASE_TMP to a directory of your own")
    })
}

/// The cookie for a start: the one that is set, or a new one.
pub(crate) fn find_or_generate_cookie(
    release: &StartSettings,
    arguments: &[ByteString],
    env: &EnvironmentVariables,
) -> Result<ByteString, StartError> {
    if let Some(cookie) = find_cookie(release, arguments, env)? {
        return Ok(cookie);
    }
    let path = cookie_path(release);
    let mut bytes = [0; 32];
    sys::random(&mut bytes).map_err(|errno| {
        StartError::new(format!("cannot make a cookie: {errno}"), "set RELEASE_COOKIE to a secret of your own")
    })?;
    let cookie: ByteString = bytes.iter().map(|byte| COOKIE_CHARACTERS[usize::from(byte % 32)]).collect();
    if sys::can_access(&release.tmp, 0) {
        check_cookie_directory(release)?;
    }
    files::write_private(&path, &cookie).map_err(|errno| {
        let what = format!("cannot write a new cookie to `{}`: {errno}", printable(&path));
        StartError::new(
            what,
            "set RELEASE_COOKIE to a secret of your own, or RELEASE_TMP to a directory this user may write",
        )
    })?;
    let note = format!("no cookie is set: a new one is in `{}`\n", printable(&path));
    let _ = sys::write_all(2, note.as_bytes());
    Ok(cookie)
}
