//! `dram.toml`: what has no place in the project's own files.
//!
//! `[release]` holds for every release of the project, `[release.NAME]` for one, and wins.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::AssembleError;

/// The file's name, in the project's directory.
const NAME: &str = "dram.toml";

/// When modules are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All of them, before anything starts.
    Embedded,
    /// Each when it is first called.
    Interactive,
}

/// How nodes are named, if they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Distribution {
    /// No distribution: no port is opened.
    None,
    /// Short names.
    Sname,
    /// Long names.
    Name,
}

/// A moment at which scripts run, under the start program's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Moment {
    /// Before the settings are worked out.
    PreConfigure,
    /// After that.
    PostConfigure,
    /// Before the emulator is started.
    PreStart,
    /// When the node answers.
    PostStart,
    /// Before a node is asked to stop.
    PreStop,
    /// When it has.
    PostStop,
    /// Before a node takes another release.
    PreUpgrade,
    /// After that.
    PostUpgrade,
}

impl Moment {
    /// The name in `start.conf`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Moment::PreConfigure => "pre_configure",
            Moment::PostConfigure => "post_configure",
            Moment::PreStart => "pre_start",
            Moment::PostStart => "post_start",
            Moment::PreStop => "pre_stop",
            Moment::PostStop => "post_stop",
            Moment::PreUpgrade => "pre_upgrade",
            Moment::PostUpgrade => "post_upgrade",
        }
    }
}

/// The settings of one release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Its version, for `--from`.
    pub version: Option<String>,
    /// Its applications, for `--from`: a name, or `NAME:START_TYPE`.
    pub applications: Option<Vec<String>>,
    /// When modules are loaded.
    pub mode: Option<Mode>,
    /// How the node is named unless `RELEASE_DISTRIBUTION` says otherwise.
    pub distribution: Option<Distribution>,
    /// Whether shared libraries travel with it.
    pub portable: Option<bool>,
    /// A file of arguments of the emulator.
    pub vm_args: Option<PathBuf>,
    /// A file with the configuration.
    pub sys_config: Option<PathBuf>,
    /// Directories that are laid over the release.
    pub overlays: Option<Vec<PathBuf>>,
    /// Whether modules are stripped.
    pub strip: Option<bool>,
    /// Chunks that stripping keeps.
    pub keep_chunks: Option<Vec<String>>,
    /// Further programs of ERTS that it has.
    pub erts_programs: Option<Vec<String>>,
    /// Whether `${VARIABLE}` is replaced in `vm.args` and `sys.config` when it starts.
    pub replace_os_vars: Option<bool>,
    /// The most files and sockets that it may have open.
    pub nofile: Option<u64>,
    /// Scripts to run around starting, stopping, configuring and upgrading.
    pub hooks: Option<BTreeMap<Moment, PathBuf>>,
    /// Further commands of the start program.
    pub commands: Option<BTreeMap<String, PathBuf>>,
    /// Environment variables that it sets where they are not set.
    pub env: Option<BTreeMap<String, String>>,
}

/// The settings for `name` in the project's directory, and the file's path where there is one.
///
/// # Errors
/// When the file cannot be read, or says something that is not known.
pub(crate) fn read(project: &Path, name: &str) -> Result<Settings, AssembleError> {
    let path = project.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(AssembleError::io("read", path)(error)),
    };
    parse(&text, name).map_err(|message| AssembleError::Settings { path, message: message.trim_end().to_owned() })
}

fn parse(text: &str, name: &str) -> Result<Settings, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if let Some(other) = table.keys().find(|key| *key != "release") {
        return Err(format!("`[{other}]` is not known: dram reads `[release]` and `[release.NAME]`"));
    }
    let Some(release) = table.get("release") else { return Ok(Settings::default()) };
    let Some(release) = release.as_table() else { return Err("`release` is no table".to_owned()) };
    let mut common = toml::Table::new();
    let mut own = toml::Table::new();
    for (key, value) in release {
        match value.as_table() {
            Some(table) if !["hooks", "commands", "env"].contains(&key.as_str()) => {
                if key == name {
                    own = table.clone();
                }
                // A mistake in another release's table is found now, not on the day it is built.
                Settings::deserialize(table.clone()).map_err(|error| format!("in `[release.{key}]`: {error}"))?;
            }
            Some(_) | None => drop(common.insert(key.clone(), value.clone())),
        }
    }
    common.extend(own);
    let settings = Settings::deserialize(common).map_err(|error| format!("in `[release]`: {error}"))?;
    // Each becomes a line of its own for the start program.
    let is_line = |text: &str| !text.contains(['\n', '\r', '\0']);
    let is_name = |text: &str| !text.is_empty() && is_line(text) && !text.contains(['=', ' ', '/']);
    for (name, value) in settings.env.iter().flatten() {
        if !is_name(name) || !is_line(value) {
            return Err(format!("in `env`: `{}` cannot be a variable of one line", name.escape_debug()));
        }
    }
    match settings.commands.iter().flat_map(BTreeMap::keys).find(|name| !is_name(name)) {
        Some(name) => Err(format!("in `commands`: `{}` cannot be the name of a command", name.escape_debug())),
        None => Ok(settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_releases_own_table_wins() {
        let text =
            "[release]\nmode = 'embedded'\nportable = true\nenv = { A = '1' }\n[release.demo]\nmode = 'interactive'\n";
        let demo = parse(text, "demo").unwrap();
        assert_eq!((demo.mode, demo.portable), (Some(Mode::Interactive), Some(true)));
        assert_eq!(parse(text, "other").unwrap().mode, Some(Mode::Embedded));
        assert_eq!(parse(text, "other").unwrap().env.unwrap()["A"], "1");
    }

    #[test]
    fn moments_are_those_of_the_start_program() {
        let hooks = parse("[release.hooks]\npost-upgrade = 'x'\n", "demo").unwrap().hooks.unwrap();
        assert_eq!(hooks.keys().map(|moment| moment.name()).collect::<Vec<_>>(), ["post_upgrade"]);
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (text, word) in [
            ("[build]\n", "[build]"),
            ("[release]\nmodes = 'x'\n", "modes"),
            ("[release]\nmode = 'eager'\n", "eager"),
            ("[release.a]\nportabel = 1\n", "portabel"),
            ("release = 1\n", "table"),
            ("[release\n", "line 1"),
            ("[release.hooks]\npre-begin = 'x'\n", "pre-begin"),
            ("[release.env]\nA = \"1\\n2\"\n", "`A`"),
            ("[release.commands]\n'a b' = 'x'\n", "`a b`"),
        ] {
            let message = parse(text, "demo").unwrap_err();
            assert!(message.contains(word), "{text:?}: {message}");
        }
    }
}
