//! `dram.toml`: settings that the project's own files cannot express.
//!
//! `[release]` applies to all releases of the project; `[release.NAME]` applies to one and overrides it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dram_start::start_conf::{StartHookPoint, StartNodeNameKind, StartWorkingDirectory};
use serde::Deserialize;

use crate::AssembleError;

/// The name of the file in the project's directory.
const FILE_NAME: &str = "dram.toml";

/// The code loading mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeLoadingMode {
    /// All modules are loaded at boot.
    Embedded,
    /// A module is loaded when it is first called.
    Interactive,
}

/// The kind of node name, if distribution is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeNameKind {
    /// No distribution: no port is opened.
    None,
    /// A short name.
    Sname,
    /// A long name.
    Name,
}

impl NodeNameKind {
    /// Returns the kind as the start program knows it.
    pub(crate) fn to_start(self) -> StartNodeNameKind {
        match self {
            NodeNameKind::None => StartNodeNameKind::None,
            NodeNameKind::Sname => StartNodeNameKind::Sname,
            NodeNameKind::Name => StartNodeNameKind::Name,
        }
    }
}

/// The directory in which the release and its scripts run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WorkingDirectory {
    /// The one in which the start program was called.
    #[default]
    Caller,
    /// The root of the release.
    Release,
}

impl WorkingDirectory {
    /// Returns the directory as the start program knows it.
    pub(crate) fn to_start(self) -> StartWorkingDirectory {
        match self {
            WorkingDirectory::Caller => StartWorkingDirectory::Caller,
            WorkingDirectory::Release => StartWorkingDirectory::Release,
        }
    }
}

/// A hook of the start program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StartHook {
    /// Before the configuration is computed.
    PreConfigure,
    /// After the configuration is computed.
    PostConfigure,
    /// Before the emulator is started.
    PreStart,
    /// After the node answers.
    PostStart,
    /// Before the node is stopped.
    PreStop,
    /// After the node has stopped.
    PostStop,
    /// Before the node installs another release.
    PreUpgrade,
    /// After the node has installed another release.
    PostUpgrade,
}

impl StartHook {
    /// Returns the hook as the start program knows it.
    pub(crate) fn to_start(self) -> StartHookPoint {
        match self {
            StartHook::PreConfigure => StartHookPoint::PreConfigure,
            StartHook::PostConfigure => StartHookPoint::PostConfigure,
            StartHook::PreStart => StartHookPoint::PreStart,
            StartHook::PostStart => StartHookPoint::PostStart,
            StartHook::PreStop => StartHookPoint::PreStop,
            StartHook::PostStop => StartHookPoint::PostStop,
            StartHook::PreUpgrade => StartHookPoint::PreUpgrade,
            StartHook::PostUpgrade => StartHookPoint::PostUpgrade,
        }
    }
}

/// The settings of one release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DramTomlSettings {
    /// The release version, for `--from`.
    pub version: Option<String>,
    /// The applications, for `--from`: a name, or `NAME:START_TYPE`.
    pub applications: Option<Vec<String>>,
    /// The code loading mode.
    pub mode: Option<CodeLoadingMode>,
    /// The kind of node name; `RELEASE_DISTRIBUTION` overrides it.
    pub distribution: Option<NodeNameKind>,
    /// True if shared libraries are included.
    pub portable: Option<bool>,
    /// A file with emulator flags.
    pub vm_args: Option<PathBuf>,
    /// A file with the configuration.
    pub sys_config: Option<PathBuf>,
    /// Directories that are copied over the release.
    pub overlays: Option<Vec<PathBuf>>,
    /// True if modules are stripped.
    pub strip: Option<bool>,
    /// Chunks to keep when modules are stripped.
    pub keep_chunks: Option<Vec<String>>,
    /// Additional ERTS programs.
    pub erts_programs: Option<Vec<String>>,
    /// True if `${VARIABLE}` is replaced in `vm.args` and `sys.config` at start.
    pub replace_os_vars: Option<bool>,
    /// The directory in which the release and its scripts run.
    pub working_directory: Option<WorkingDirectory>,
    /// The limit of open files and sockets.
    pub nofile: Option<u64>,
    /// The hook scripts.
    pub hooks: Option<BTreeMap<StartHook, PathBuf>>,
    /// Additional commands of the start program.
    pub commands: Option<BTreeMap<String, PathBuf>>,
    /// Defaults for environment variables.
    pub env: Option<BTreeMap<String, String>>,
}

/// Reads the settings of the release `name` from the project's directory; without a file they are the defaults.
///
/// # Errors
/// Fails if the file cannot be read, or contains an unknown setting.
pub(crate) fn read_settings(project: &Path, name: &str) -> Result<DramTomlSettings, AssembleError> {
    let path = project.join(FILE_NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DramTomlSettings::default()),
        Err(error) => return Err(AssembleError::io("read", path)(error)),
    };
    parse_settings(&text, name)
        .map_err(|message| AssembleError::Settings { path, message: message.trim_end().to_owned() })
}

fn parse_settings(text: &str, name: &str) -> Result<DramTomlSettings, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if let Some(other) = table.keys().find(|key| *key != "release") {
        return Err(format!("`[{other}]` is not known: dram reads `[release]` and `[release.NAME]`"));
    }
    let Some(release) = table.get("release") else { return Ok(DramTomlSettings::default()) };
    let Some(release) = release.as_table() else { return Err("`release` is no table".to_owned()) };
    let mut common = toml::Table::new();
    let mut own = toml::Table::new();
    for (key, value) in release {
        match value.as_table() {
            Some(table) if !["hooks", "commands", "env"].contains(&key.as_str()) => {
                if key == name {
                    own = table.clone();
                }
                // An error in the table of another release is reported now, not when that release is built.
                DramTomlSettings::deserialize(table.clone())
                    .map_err(|error| format!("in `[release.{key}]`: {error}"))?;
            }
            Some(_) | None => drop(common.insert(key.clone(), value.clone())),
        }
    }
    common.extend(own);
    let settings = DramTomlSettings::deserialize(common).map_err(|error| format!("in `[release]`: {error}"))?;
    // Each of them becomes one line of `start.conf`.
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
    fn the_table_of_a_release_overrides_the_common_table() {
        let text =
            "[release]\nmode = 'embedded'\nportable = true\nenv = { A = '1' }\n[release.demo]\nmode = 'interactive'\n";
        let demo = parse_settings(text, "demo").unwrap();
        assert_eq!((demo.mode, demo.portable), (Some(CodeLoadingMode::Interactive), Some(true)));
        assert_eq!(parse_settings(text, "other").unwrap().mode, Some(CodeLoadingMode::Embedded));
        assert_eq!(parse_settings(text, "other").unwrap().env.unwrap()["A"], "1");
    }

    #[test]
    fn hook_names_are_those_of_start_conf() {
        let hooks = parse_settings("[release.hooks]\npost-upgrade = 'x'\n", "demo").unwrap().hooks.unwrap();
        assert_eq!(hooks.keys().map(|hook| hook.to_start().as_str()).collect::<Vec<_>>(), ["post_upgrade"]);
    }

    #[test]
    fn settings_errors_name_the_unknown_setting() {
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
            let message = parse_settings(text, "demo").unwrap_err();
            assert!(message.contains(word), "{text:?}: {message}");
        }
    }

    #[test]
    fn each_setting_is_read_under_its_name() {
        let text = "[release]\nversion = '1'\napplications = ['a:load']\nmode = 'embedded'\ndistribution = 'sname'\n\
                    portable = false\nvm-args = 'v'\nsys-config = 's'\noverlays = ['o']\nstrip = true\n\
                    keep-chunks = ['Docs']\nerts-programs = ['p']\nreplace-os-vars = false\nworking-directory = 'release'\nnofile = 1\n\
                    hooks = { pre-start = 'h' }\ncommands = { c = 'c.sh' }\nenv = { A = '' }\n";
        let table = |name: &str, value: &str| Some(BTreeMap::from([(name.to_owned(), value.to_owned())]));
        let expected = DramTomlSettings {
            version: Some("1".to_owned()),
            applications: Some(vec!["a:load".to_owned()]),
            mode: Some(CodeLoadingMode::Embedded),
            distribution: Some(NodeNameKind::Sname),
            portable: Some(false),
            vm_args: Some("v".into()),
            sys_config: Some("s".into()),
            overlays: Some(vec!["o".into()]),
            strip: Some(true),
            keep_chunks: Some(vec!["Docs".to_owned()]),
            erts_programs: Some(vec!["p".to_owned()]),
            replace_os_vars: Some(false),
            working_directory: Some(WorkingDirectory::Release),
            nofile: Some(1),
            hooks: Some(BTreeMap::from([(StartHook::PreStart, "h".into())])),
            commands: Some(BTreeMap::from([("c".to_owned(), "c.sh".into())])),
            env: table("A", ""),
        };
        assert_eq!(parse_settings(text, "demo").unwrap(), expected);
        assert_eq!(parse_settings("", "demo").unwrap(), DramTomlSettings::default());
    }

    #[test]
    fn a_value_of_another_type_is_an_error_that_names_the_setting() {
        for setting in [
            "version = 1",
            "applications = 'a'",
            "mode = true",
            "distribution = 'long'",
            "portable = 'yes'",
            "vm-args = ['v']",
            "sys-config = 1",
            "overlays = 'o'",
            "strip = 1",
            "keep-chunks = 'Docs'",
            "erts-programs = [1]",
            "replace-os-vars = 'true'",
            "working-directory = '/srv'",
            "nofile = -1",
            "hooks = ['h']",
            "commands = { c = 1 }",
            "env = { A = 1 }",
        ] {
            for table in ["release", "release.demo", "release.other"] {
                let message = parse_settings(&format!("[{table}]\n{setting}\n"), "demo").unwrap_err();
                assert!(message.starts_with("in `[release"), "{setting}: {message}");
            }
        }
    }

    #[test]
    fn names_that_start_conf_cannot_hold_are_refused() {
        for (text, name) in [
            ("env = { '' = '1' }", "``"),
            ("env = { 'A=B' = '1' }", "`A=B`"),
            ("env = { A = \"1\\r2\" }", "`A`"),
            ("commands = { 'a/b' = 'x' }", "`a/b`"),
            ("commands = { \"a\\n\" = 'x' }", "`a\\n`"),
        ] {
            let message = parse_settings(&format!("[release]\n{text}\n"), "demo").unwrap_err();
            assert!(message.contains(name), "{text}: {message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_settings(dir.path(), "demo").unwrap(), DramTomlSettings::default());
        fs::write(dir.path().join(FILE_NAME), "[release]\nmodes = 1\n").unwrap();
        let error = read_settings(dir.path(), "demo").unwrap_err().to_string();
        assert!(error.contains("dram.toml") && error.contains("modes"), "{error}");
        fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
        fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
        assert!(matches!(read_settings(dir.path(), "demo"), Err(AssembleError::Io { verb: "read", .. })));
    }
}
