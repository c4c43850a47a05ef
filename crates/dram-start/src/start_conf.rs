//! `releases/VSN/start.conf`: the settings that the assembler writes for the start program.
//!
//! Lines are `key = value`; empty lines and lines that begin with `#` are ignored. A key may occur once, except
//! `hook.…`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat, parse_number, split_once, trim};
use crate::error::{StartError, printable};

/// The way in which modules are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLoadingMode {
    /// All modules are loaded at the start.
    Embedded,
    /// A module is loaded when it is first called.
    Interactive,
}

/// The kind of a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartNodeNameKind {
    /// There is no name, and other nodes cannot connect.
    None,
    /// A short name, without dots in its host.
    Sname,
    /// A long name.
    Name,
}

impl StartLoadingMode {
    /// The mode as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Interactive => "interactive",
        }
    }
}

impl StartNodeNameKind {
    /// Parses `none`, `sname` or `name`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"none" => Some(Self::None),
            b"sname" => Some(Self::Sname),
            b"name" => Some(Self::Name),
            _ => None,
        }
    }

    /// The kind as a word: the inverse of [`parse`](Self::parse).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sname => "sname",
            Self::Name => "name",
        }
    }
}

/// The directory in which a release and its scripts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartWorkingDirectory {
    /// The one in which the start program was called, as with `bin/NAME` of Mix.
    Caller,
    /// The root of the release, as with `bin/NAME` of relx and Distillery.
    Release,
}

impl StartWorkingDirectory {
    /// The directory as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Release => "release",
        }
    }
}

/// The setting for the limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFileLimit {
    /// A huge limit is lowered.
    LowerIfHuge,
    /// The limit stays as it is.
    Keep,
    /// The soft limit is set to this value, at most to the hard limit.
    Value(u64),
}

/// A point in time at which hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartHookPoint {
    /// Before the settings are resolved.
    PreConfigure,
    /// After the settings are resolved.
    PostConfigure,
    /// Before the emulator is started.
    PreStart,
    /// After the node answers.
    PostStart,
    /// Before the node is asked to stop.
    PreStop,
    /// After the node has stopped.
    PostStop,
    /// Before the node upgrades to another version.
    PreUpgrade,
    /// After the upgrade.
    PostUpgrade,
}

/// All hook points with their names in `hook.NAME`.
pub const HOOK_POINTS: [(StartHookPoint, &str); 8] = [
    (StartHookPoint::PreConfigure, "pre_configure"),
    (StartHookPoint::PostConfigure, "post_configure"),
    (StartHookPoint::PreStart, "pre_start"),
    (StartHookPoint::PostStart, "post_start"),
    (StartHookPoint::PreStop, "pre_stop"),
    (StartHookPoint::PostStop, "post_stop"),
    (StartHookPoint::PreUpgrade, "pre_upgrade"),
    (StartHookPoint::PostUpgrade, "post_upgrade"),
];

/// The hook points whose scripts a shell sources before the system starts.
pub const START_HOOKS: [StartHookPoint; 3] =
    [StartHookPoint::PreConfigure, StartHookPoint::PostConfigure, StartHookPoint::PreStart];

impl StartHookPoint {
    /// Parses a name of [`HOOK_POINTS`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        HOOK_POINTS.iter().find(|(_, word)| *word == name).map(|(point, _)| *point)
    }

    /// The name in `hook.NAME`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        HOOK_POINTS.iter().find(|(point, _)| *point == self).map_or("", |(_, word)| word)
    }
}

/// A custom command of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartCustomCommand {
    /// The name of the command.
    pub name: ByteString,
    /// Its script: a path below the release's root.
    pub path: ByteString,
    /// Its description, for the help text.
    pub description: ByteString,
}

/// The settings of a release in `start.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartConf {
    /// The release's name.
    pub name: ByteString,
    /// If true, expressions are Elixir, and the emulator is started with the flags of Elixir.
    pub elixir: bool,
    /// The way in which modules are loaded, unless `RELEASE_MODE` is set.
    pub mode: StartLoadingMode,
    /// The kind of the node's name, unless `RELEASE_DISTRIBUTION` is set. If it is not there, a node has a name if
    /// `RELEASE_NODE` gives one.
    pub distribution: Option<StartNodeNameKind>,
    /// The node's name, unless `RELEASE_NODE` is set.
    pub node: Option<ByteString>,
    /// If true, the emulator writes `sys.config` while it starts and reads it again.
    pub runtime_config: bool,
    /// If true, the emulator reboots after that.
    pub reboot: bool,
    /// If true, `${NAME}` in `vm.args` and `sys.config` is replaced.
    pub replace_os_vars: bool,
    /// The ELF loader for the emulator, below the root.
    pub loader: Option<ByteString>,
    /// The library search path of that loader: directories below the root, separated by `:`.
    pub library_path: ByteString,
    /// The directory in which the release and its scripts run.
    pub working_directory: StartWorkingDirectory,
    /// The limit of open files.
    pub open_file_limit: OpenFileLimit,
    /// The timeout of `stop`, in seconds.
    pub stop_timeout: u64,
    /// The number of the OTP release, for `ERL_OTP<number>_FLAGS`.
    pub otp: Option<String>,
    /// Variables that are set unless the environment sets them.
    pub env: Vec<(ByteString, ByteString)>,
    /// The hooks, in the order in which they run.
    pub hooks: Vec<(StartHookPoint, ByteString)>,
    /// The custom commands.
    pub custom_commands: Vec<StartCustomCommand>,
}

impl Default for StartConf {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            elixir: false,
            mode: StartLoadingMode::Embedded,
            distribution: None,
            node: None,
            runtime_config: false,
            reboot: false,
            replace_os_vars: false,
            loader: None,
            library_path: Vec::new(),
            working_directory: StartWorkingDirectory::Caller,
            open_file_limit: OpenFileLimit::LowerIfHuge,
            stop_timeout: 60,
            otp: None,
            env: Vec::new(),
            hooks: Vec::new(),
            custom_commands: Vec::new(),
        }
    }
}

const KEYS: &str = "name, elixir, mode, distribution, node, runtime_config, reboot, replace_os_vars, loader, \
                    library_path, working_directory, nofile, stop_timeout, otp, env.NAME, hook.MOMENT, command.NAME";

impl StartConf {
    /// Parses the file `path` with the content `text`.
    ///
    /// # Errors
    /// Fails for a line that is not `key = value`, an unknown or repeated key, or an invalid value.
    pub fn parse(path: &[u8], text: &[u8]) -> Result<Self, StartError> {
        let mut conf = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = trim(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let refuse = |why: String, help: &str| {
                StartError::new(format!("cannot read `{}` line {}: {why}", printable(path), index + 1), help)
            };
            let Some((key, value)) = split_once(line, b'=').map(|(key, value)| (trim(key), trim(value))) else {
                return Err(refuse(format!("`{}` is not `key = value`", printable(line)), "write `key = value`"));
            };
            if seen.contains(&key) && !key.starts_with(b"hook.") {
                return Err(refuse(format!("`{}` is there twice", printable(key)), "remove one of the two lines"));
            }
            seen.push(key);
            match conf.set_key(key, value) {
                Ok(()) => {}
                Err(StartConfError::UnknownKey) => {
                    return Err(refuse(format!("unknown key `{}`", printable(key)), &format!("known keys are {KEYS}")));
                }
                Err(StartConfError::InvalidValue(allowed)) => {
                    let why = format!("`{}` cannot be `{}`", printable(key), printable(value));
                    return Err(refuse(why, &format!("write {allowed}")));
                }
            }
        }
        Ok(conf)
    }

    /// The text of the file: the inverse of [`parse`](Self::parse). Settings with their default are left out if they
    /// are rarely set.
    #[must_use]
    pub fn to_text(&self) -> ByteString {
        let mut text = Vec::new();
        let mut line = |key: &[&[u8]], value: &[u8]| {
            text.extend_from_slice(&concat(key));
            text.extend_from_slice(b" = ");
            text.extend_from_slice(value);
            text.push(b'\n');
        };
        let word = |value: bool| if value { b"true".as_slice() } else { b"false" };
        line(&[b"name"], &self.name);
        line(&[b"elixir"], word(self.elixir));
        self.otp.iter().for_each(|otp| line(&[b"otp"], otp.as_bytes()));
        line(&[b"mode"], self.mode.as_str().as_bytes());
        self.distribution.iter().for_each(|kind| line(&[b"distribution"], kind.as_str().as_bytes()));
        self.node.iter().for_each(|node| line(&[b"node"], node));
        line(&[b"runtime_config"], word(self.runtime_config));
        line(&[b"reboot"], word(self.reboot));
        line(&[b"replace_os_vars"], word(self.replace_os_vars));
        if let Some(loader) = &self.loader {
            line(&[b"loader"], loader);
            line(&[b"library_path"], &self.library_path);
        }
        if self.working_directory != Self::default().working_directory {
            line(&[b"working_directory"], self.working_directory.as_str().as_bytes());
        }
        match self.open_file_limit {
            OpenFileLimit::LowerIfHuge => {}
            OpenFileLimit::Keep => line(&[b"nofile"], b"keep"),
            OpenFileLimit::Value(most) => line(&[b"nofile"], format!("{most}").as_bytes()),
        }
        if self.stop_timeout != Self::default().stop_timeout {
            line(&[b"stop_timeout"], format!("{}", self.stop_timeout).as_bytes());
        }
        for (name, value) in &self.env {
            line(&[b"env.", name], value);
        }
        for (point, path) in &self.hooks {
            line(&[b"hook.", point.as_str().as_bytes()], path);
        }
        for StartCustomCommand { name, path, description } in &self.custom_commands {
            match description.as_slice() {
                b"" => line(&[b"command.", name], path),
                about => line(&[b"command.", name], &concat(&[path, b" | ", about])),
            }
        }
        text
    }

    fn set_key(&mut self, key: &[u8], value: &[u8]) -> Result<(), StartConfError> {
        match key {
            b"name" => self.name = parse_non_empty(value)?,
            b"elixir" => self.elixir = parse_bool(value)?,
            b"mode" => {
                self.mode = match value {
                    b"embedded" => StartLoadingMode::Embedded,
                    b"interactive" => StartLoadingMode::Interactive,
                    _ => return Err(StartConfError::InvalidValue("`embedded` or `interactive`")),
                }
            }
            b"distribution" => {
                let kind = StartNodeNameKind::parse(value);
                self.distribution = Some(kind.ok_or(StartConfError::InvalidValue("`none`, `sname` or `name`"))?);
            }
            b"node" => self.node = Some(parse_non_empty(value)?),
            b"runtime_config" => self.runtime_config = parse_bool(value)?,
            b"reboot" => self.reboot = parse_bool(value)?,
            b"replace_os_vars" => self.replace_os_vars = parse_bool(value)?,
            b"loader" => self.loader = Some(parse_relative_path(value)?),
            b"library_path" => {
                for part in value.split(|b| *b == b':') {
                    parse_relative_path(part)?;
                }
                self.library_path = value.to_vec();
            }
            b"working_directory" => {
                self.working_directory = match value {
                    b"caller" => StartWorkingDirectory::Caller,
                    b"release" => StartWorkingDirectory::Release,
                    _ => return Err(StartConfError::InvalidValue("`caller` or `release`")),
                }
            }
            b"nofile" => {
                self.open_file_limit = match value {
                    b"sane" => OpenFileLimit::LowerIfHuge,
                    b"keep" => OpenFileLimit::Keep,
                    _ => OpenFileLimit::Value(
                        parse_number(value)
                            .filter(|n| *n > 0)
                            .ok_or(StartConfError::InvalidValue("`sane`, `keep` or a number"))?,
                    ),
                }
            }
            b"stop_timeout" => {
                self.stop_timeout = parse_number(value).ok_or(StartConfError::InvalidValue("a number of seconds"))?;
            }
            b"otp" => {
                let digits = parse_number(value)
                    .ok_or(StartConfError::InvalidValue("the number of the OTP release, such as `27`"))?;
                self.otp = Some(format!("{digits}"));
            }
            _ => self.set_prefixed_key(key, value)?,
        }
        Ok(())
    }

    fn set_prefixed_key(&mut self, key: &[u8], value: &[u8]) -> Result<(), StartConfError> {
        let Some((group, name)) = split_once(key, b'.').filter(|(_, name)| !name.is_empty()) else {
            return Err(StartConfError::UnknownKey);
        };
        match group {
            b"env" => self.env.push((name.to_vec(), value.to_vec())),
            b"hook" => {
                let point = core::str::from_utf8(name).ok().and_then(StartHookPoint::parse);
                self.hooks.push((point.ok_or(StartConfError::UnknownKey)?, parse_relative_path(value)?));
            }
            b"command" => {
                let (path, about) = split_once(value, b'|').unwrap_or((value, b""));
                let (path, about) = (parse_relative_path(trim(path))?, trim(about).to_vec());
                self.custom_commands.push(StartCustomCommand { name: name.to_vec(), path, description: about });
            }
            _ => return Err(StartConfError::UnknownKey),
        }
        Ok(())
    }

    /// The hooks of a hook point, in order.
    pub fn hooks_at(&self, moment: StartHookPoint) -> impl Iterator<Item = &[u8]> {
        self.hooks.iter().filter(move |(when, _)| *when == moment).map(|(_, path)| path.as_slice())
    }
}

enum StartConfError {
    UnknownKey,
    InvalidValue(&'static str),
}

fn parse_bool(value: &[u8]) -> Result<bool, StartConfError> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(StartConfError::InvalidValue("`true` or `false`")),
    }
}

fn parse_non_empty(value: &[u8]) -> Result<ByteString, StartConfError> {
    if value.is_empty() { Err(StartConfError::InvalidValue("a value")) } else { Ok(value.to_vec()) }
}

fn parse_relative_path(value: &[u8]) -> Result<ByteString, StartConfError> {
    if value.is_empty() || value.starts_with(b"/") {
        return Err(StartConfError::InvalidValue("a path below the release's root, without `/` in front"));
    }
    Ok(value.to_vec())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn settings_of_all_kinds_are_parsed() {
        let text = b"# comment\nname = demo\nelixir = true\nmode=interactive\ndistribution = sname\nnofile = 4096\n\
                     env.LANG = C.UTF-8\nhook.pre_start = hooks/a\nhook.pre_start = hooks/b\n\
                     command.migrate = bin/migrate.sh | Migrates = all\n";
        let conf = StartConf::parse(b"start.conf", text).unwrap();
        assert_eq!(conf.name, b"demo");
        assert!(conf.elixir && !conf.replace_os_vars);
        assert_eq!(conf.mode, StartLoadingMode::Interactive);
        assert_eq!(conf.open_file_limit, OpenFileLimit::Value(4096));
        assert_eq!(conf.hooks_at(StartHookPoint::PreStart).count(), 2);
        assert_eq!(conf.custom_commands[0].path, b"bin/migrate.sh");
        assert_eq!(conf.custom_commands[0].description, b"Migrates = all");
    }

    #[test]
    fn settings_are_written_as_they_are_parsed() {
        let text = b"name = demo\nelixir = true\notp = 27\nmode = interactive\ndistribution = sname\nnode = a@b\n\
                     runtime_config = true\nreboot = true\nreplace_os_vars = true\nloader = erts/ld.so\n\
                     library_path = erts/lib:lib\nworking_directory = release\nnofile = keep\nstop_timeout = 9\nenv.LANG = C.UTF-8\n\
                     hook.pre_start = hooks/a\nhook.post_upgrade = hooks/b\ncommand.migrate = bin/m.sh\n\
                     command.seed = bin/s.sh | Seeds = all\n";
        let conf = StartConf::parse(b"start.conf", text).unwrap();
        assert_eq!(core::str::from_utf8(&conf.to_text()), core::str::from_utf8(text));
        for conf in [StartConf::default(), StartConf { open_file_limit: OpenFileLimit::Value(7), ..conf }] {
            let conf = StartConf { name: b"x".to_vec(), ..conf };
            assert_eq!(StartConf::parse(b"start.conf", &conf.to_text()), Ok(conf));
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let fault = StartConf::parse(b"start.conf", b"name = a\n\nnmae = b\n").unwrap_err();
        assert_eq!(fault.message, "cannot read `start.conf` line 3: unknown key `nmae`");
        assert!(fault.to_string().contains("help: known keys are name,"));
    }

    #[test]
    fn an_invalid_value_is_an_error_with_the_allowed_values() {
        let fault = StartConf::parse(b"start.conf", b"mode = lazy").unwrap_err();
        assert_eq!(fault.help, "write `embedded` or `interactive`");
        let fault = StartConf::parse(b"start.conf", b"working_directory = /srv").unwrap_err();
        assert_eq!(fault.help, "write `caller` or `release`");
        assert!(StartConf::parse(b"c", b"loader = /lib/ld.so").is_err());
        assert!(StartConf::parse(b"c", b"name = a\nname = b").is_err());
        assert!(StartConf::parse(b"c", b"hook.never = a").is_err());
    }
}
