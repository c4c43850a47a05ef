//! `releases/VSN/start.conf`: the settings that the assembler writes for the start program.
//!
//! Lines are `key = value`; empty lines and lines that begin with `#` are ignored. A key may occur once, except
//! `hook.…`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bytes::{Bytes, number, split_once, trim};
use crate::fault::{Fault, shown};

/// The way in which modules are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All modules are loaded at the start.
    Embedded,
    /// A module is loaded when it is first called.
    Interactive,
}

/// The kind of a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// There is no name, and other nodes cannot connect.
    None,
    /// A short name, without dots in its host.
    Sname,
    /// A long name.
    Name,
}

impl Distribution {
    /// Parses `none`, `sname` or `name`.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        match text {
            b"none" => Some(Self::None),
            b"sname" => Some(Self::Sname),
            b"name" => Some(Self::Name),
            _ => None,
        }
    }

    /// The kind as a word: the inverse of [`parse`](Self::parse).
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sname => "sname",
            Self::Name => "name",
        }
    }
}

/// The setting for the limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nofile {
    /// A huge limit is lowered.
    Sane,
    /// The limit stays as it is.
    Keep,
    /// The soft limit is set to this value, at most to the hard limit.
    Is(u64),
}

/// A point in time at which hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
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
pub const MOMENTS: [(Moment, &str); 8] = [
    (Moment::PreConfigure, "pre_configure"),
    (Moment::PostConfigure, "post_configure"),
    (Moment::PreStart, "pre_start"),
    (Moment::PostStart, "post_start"),
    (Moment::PreStop, "pre_stop"),
    (Moment::PostStop, "post_stop"),
    (Moment::PreUpgrade, "pre_upgrade"),
    (Moment::PostUpgrade, "post_upgrade"),
];

/// A custom command of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// The name of the command.
    pub name: Bytes,
    /// Its script: a path below the release's root.
    pub path: Bytes,
    /// Its description, for the help text.
    pub about: Bytes,
}

/// The settings of a release in `start.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The release's name.
    pub name: Bytes,
    /// If true, expressions are Elixir, and the emulator is started with the flags of Elixir.
    pub elixir: bool,
    /// The way in which modules are loaded, unless `RELEASE_MODE` is set.
    pub mode: Mode,
    /// The kind of the node's name, unless `RELEASE_DISTRIBUTION` is set.
    pub distribution: Distribution,
    /// The node's name, unless `RELEASE_NODE` is set.
    pub node: Option<Bytes>,
    /// If true, the emulator writes `sys.config` while it starts and reads it again.
    pub runtime_config: bool,
    /// If true, the emulator reboots after that.
    pub reboot: bool,
    /// If true, `${NAME}` in `vm.args` and `sys.config` is replaced.
    pub replace_os_vars: bool,
    /// The ELF loader for the emulator, below the root.
    pub loader: Option<Bytes>,
    /// The library search path of that loader: directories below the root, separated by `:`.
    pub library_path: Bytes,
    /// The limit of open files.
    pub nofile: Nofile,
    /// The timeout of `stop`, in seconds.
    pub stop_timeout: u64,
    /// The number of the OTP release, for `ERL_OTP<number>_FLAGS`.
    pub otp: Option<String>,
    /// Variables that are set unless the environment sets them.
    pub env: Vec<(Bytes, Bytes)>,
    /// The hooks, in the order in which they run.
    pub hooks: Vec<(Moment, Bytes)>,
    /// The custom commands.
    pub commands: Vec<Custom>,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            elixir: false,
            mode: Mode::Embedded,
            distribution: Distribution::None,
            node: None,
            runtime_config: false,
            reboot: false,
            replace_os_vars: false,
            loader: None,
            library_path: Vec::new(),
            nofile: Nofile::Sane,
            stop_timeout: 60,
            otp: None,
            env: Vec::new(),
            hooks: Vec::new(),
            commands: Vec::new(),
        }
    }
}

const KEYS: &str = "name, elixir, mode, distribution, node, runtime_config, reboot, replace_os_vars, loader, \
                    library_path, nofile, stop_timeout, otp, env.NAME, hook.MOMENT, command.NAME";

impl Conf {
    /// Parses the file `path` with the content `text`.
    ///
    /// # Errors
    /// Fails for a line that is not `key = value`, an unknown or repeated key, or an invalid value.
    pub fn parse(path: &[u8], text: &[u8]) -> Result<Self, Fault> {
        let mut conf = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = trim(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let refuse = |why: String, help: &str| {
                Fault::new(format!("cannot read `{}` line {}: {why}", shown(path), index + 1), help)
            };
            let Some((key, value)) = split_once(line, b'=').map(|(key, value)| (trim(key), trim(value))) else {
                return Err(refuse(format!("`{}` is not `key = value`", shown(line)), "write `key = value`"));
            };
            if seen.contains(&key) && !key.starts_with(b"hook.") {
                return Err(refuse(format!("`{}` is there twice", shown(key)), "remove one of the two lines"));
            }
            seen.push(key);
            match conf.take(key, value) {
                Ok(()) => {}
                Err(Wrong::Key) => {
                    return Err(refuse(format!("unknown key `{}`", shown(key)), &format!("known keys are {KEYS}")));
                }
                Err(Wrong::Value(allowed)) => {
                    let why = format!("`{}` cannot be `{}`", shown(key), shown(value));
                    return Err(refuse(why, &format!("write {allowed}")));
                }
            }
        }
        Ok(conf)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        match key {
            b"name" => self.name = full(value)?,
            b"elixir" => self.elixir = truth(value)?,
            b"mode" => {
                self.mode = match value {
                    b"embedded" => Mode::Embedded,
                    b"interactive" => Mode::Interactive,
                    _ => return Err(Wrong::Value("`embedded` or `interactive`")),
                }
            }
            b"distribution" => {
                self.distribution = Distribution::read(value).ok_or(Wrong::Value("`none`, `sname` or `name`"))?;
            }
            b"node" => self.node = Some(full(value)?),
            b"runtime_config" => self.runtime_config = truth(value)?,
            b"reboot" => self.reboot = truth(value)?,
            b"replace_os_vars" => self.replace_os_vars = truth(value)?,
            b"loader" => self.loader = Some(relative(value)?),
            b"library_path" => {
                for part in value.split(|b| *b == b':') {
                    relative(part)?;
                }
                self.library_path = value.to_vec();
            }
            b"nofile" => {
                self.nofile = match value {
                    b"sane" => Nofile::Sane,
                    b"keep" => Nofile::Keep,
                    _ => {
                        Nofile::Is(number(value).filter(|n| *n > 0).ok_or(Wrong::Value("`sane`, `keep` or a number"))?)
                    }
                }
            }
            b"stop_timeout" => self.stop_timeout = number(value).ok_or(Wrong::Value("a number of seconds"))?,
            b"otp" => {
                let digits = number(value).ok_or(Wrong::Value("the number of the OTP release, such as `27`"))?;
                self.otp = Some(format!("{digits}"));
            }
            _ => self.take_named(key, value)?,
        }
        Ok(())
    }

    fn take_named(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        let Some((group, name)) = split_once(key, b'.').filter(|(_, name)| !name.is_empty()) else {
            return Err(Wrong::Key);
        };
        match group {
            b"env" => self.env.push((name.to_vec(), value.to_vec())),
            b"hook" => {
                let known = MOMENTS.iter().find(|(_, word)| word.as_bytes() == name).ok_or(Wrong::Key)?;
                self.hooks.push((known.0, relative(value)?));
            }
            b"command" => {
                let (path, about) = split_once(value, b'|').unwrap_or((value, b""));
                let (path, about) = (relative(trim(path))?, trim(about).to_vec());
                self.commands.push(Custom { name: name.to_vec(), path, about });
            }
            _ => return Err(Wrong::Key),
        }
        Ok(())
    }

    /// The hooks of a hook point, in order.
    pub fn hooks_of(&self, moment: Moment) -> impl Iterator<Item = &[u8]> {
        self.hooks.iter().filter(move |(when, _)| *when == moment).map(|(_, path)| path.as_slice())
    }
}

enum Wrong {
    Key,
    Value(&'static str),
}

fn truth(value: &[u8]) -> Result<bool, Wrong> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(Wrong::Value("`true` or `false`")),
    }
}

fn full(value: &[u8]) -> Result<Bytes, Wrong> {
    if value.is_empty() { Err(Wrong::Value("a value")) } else { Ok(value.to_vec()) }
}

fn relative(value: &[u8]) -> Result<Bytes, Wrong> {
    if value.is_empty() || value.starts_with(b"/") {
        return Err(Wrong::Value("a path below the release's root, without `/` in front"));
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
        let conf = Conf::parse(b"start.conf", text).unwrap();
        assert_eq!(conf.name, b"demo");
        assert!(conf.elixir && !conf.replace_os_vars);
        assert_eq!(conf.mode, Mode::Interactive);
        assert_eq!(conf.nofile, Nofile::Is(4096));
        assert_eq!(conf.hooks_of(Moment::PreStart).count(), 2);
        assert_eq!(conf.commands[0].path, b"bin/migrate.sh");
        assert_eq!(conf.commands[0].about, b"Migrates = all");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let fault = Conf::parse(b"start.conf", b"name = a\n\nnmae = b\n").unwrap_err();
        assert_eq!(fault.what, "cannot read `start.conf` line 3: unknown key `nmae`");
        assert!(fault.to_string().contains("help: known keys are name,"));
    }

    #[test]
    fn an_invalid_value_is_an_error_with_the_allowed_values() {
        let fault = Conf::parse(b"start.conf", b"mode = lazy").unwrap_err();
        assert_eq!(fault.help, "write `embedded` or `interactive`");
        assert!(Conf::parse(b"c", b"loader = /lib/ld.so").is_err());
        assert!(Conf::parse(b"c", b"name = a\nname = b").is_err());
        assert!(Conf::parse(b"c", b"hook.never = a").is_err());
    }
}
