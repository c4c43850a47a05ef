//! The settings of a release: those of its files, overridden by the environment.

use alloc::format;
use alloc::vec::Vec;

use crate::bytes::{Bytes, join, trim, words};
use crate::conf::{Conf, Distribution, Mode};
use crate::environment::Environment;
use crate::fault::{Fault, shown};

/// Parses `releases/start_erl.data`: the version of the emulator and that of the release.
///
/// # Errors
/// Fails if there are fewer than two words.
pub fn versions(text: &[u8]) -> Result<(Bytes, Bytes), Fault> {
    match words(text).as_slice() {
        [erts, release, ..] => Ok((erts.clone(), release.clone())),
        _ => Err(Fault::new(
            "cannot read `releases/start_erl.data`: two versions are expected",
            "make the release again: the file holds the version of the emulator, a space, and that of the release",
        )),
    }
}

/// The paths and versions of a release, and the name by which its program was called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// The root directory of the release.
    pub root: Bytes,
    /// The path of the start program, with symbolic links resolved.
    pub program: Bytes,
    /// The file name it was called by.
    pub prog: Bytes,
    /// The version of the emulator.
    pub erts: Bytes,
    /// The version of the release.
    pub vsn: Bytes,
}

impl Home {
    /// The directory `releases/VSN`.
    #[must_use]
    pub fn version_dir(&self) -> Bytes {
        join(&[&self.root, b"/releases/", &self.vsn])
    }

    /// The directory of the emulator's programs.
    #[must_use]
    pub fn bin(&self) -> Bytes {
        join(&[&self.root, b"/erts-", &self.erts, b"/bin"])
    }

    /// Sets the variables that `env.sh`, hooks and the emulator read.
    pub fn announce(&self, conf: &Conf, command: &[u8], env: &mut Environment) {
        for (name, value) in &conf.env {
            if env.get_bytes(name).is_none() {
                env.set(name, value);
            }
        }
        let name = env.filled("RELEASE_NAME").map_or_else(|| self.name(conf), <[u8]>::to_vec);
        let prog = env.filled("RELEASE_PROG").unwrap_or(&self.prog).to_vec();
        env.set(b"RELEASE_ROOT", &self.root);
        env.set(b"RELEASE_NAME", &name);
        env.set(b"RELEASE_VSN", &self.vsn);
        env.set(b"RELEASE_COMMAND", command);
        env.set(b"RELEASE_PROG", &prog);
        // The same values under the names of Distillery.
        env.set(b"RELEASE_ROOT_DIR", &self.root);
        env.set(b"REL_NAME", &name);
        env.set(b"REL_VSN", &self.vsn);
        env.set(b"ERTS_VSN", &self.erts);
    }

    fn name(&self, conf: &Conf) -> Bytes {
        if conf.name.is_empty() { self.prog.clone() } else { conf.name.clone() }
    }
}

/// The name of a node and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The kind: short, long or none.
    pub kind: Distribution,
    /// The name, with or without a host.
    pub node: Bytes,
}

/// A release with all settings resolved.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its paths and versions.
    pub home: Home,
    /// The settings of `start.conf`.
    pub conf: Conf,
    /// The name of the release.
    pub name: Bytes,
    /// The directory for files that are written at run time.
    pub tmp: Bytes,
    /// The code loading mode: `embedded` or `interactive`.
    pub mode: Bytes,
    /// The boot script, without `.boot`.
    pub boot: Bytes,
    /// The boot script that starts only the standard library, without `.boot`.
    pub boot_clean: Bytes,
    /// The path of the configuration, without `.config`.
    pub sys_config: Bytes,
    /// The path of `vm.args`.
    pub vm_args: Bytes,
    /// The path of the `vm.args` of a remote console.
    pub remote_vm_args: Bytes,
    /// The node name that the environment or the command line requests.
    pub asked: Asked,
}

/// The node name that the environment or the command line requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The kind, if it is requested.
    pub kind: Option<Distribution>,
    /// The name, if it is requested.
    pub node: Option<Bytes>,
}

impl Release {
    /// Resolves the settings and writes those that can be overridden into the environment, as `bin/NAME` of Mix does.
    ///
    /// # Errors
    /// Fails if a variable has an invalid value.
    pub fn settle(home: Home, conf: Conf, env: &mut Environment) -> Result<Self, Fault> {
        let name = env.filled("RELEASE_NAME").map_or_else(|| home.name(&conf), <[u8]>::to_vec);
        let dir = home.version_dir();
        let config_dir = env.filled("RELEASE_CONFIG_DIR").map_or_else(|| dir.clone(), <[u8]>::to_vec);
        let pick = |env: &Environment, names: &[&str], usual: Bytes| env.first(names).map_or(usual, <[u8]>::to_vec);
        let mode = match conf.mode {
            Mode::Embedded => b"embedded".to_vec(),
            Mode::Interactive => b"interactive".to_vec(),
        };
        let asked = Asked::from_environment(env)?;
        let mut sys_config = pick(env, &["RELEASE_SYS_CONFIG", "SYS_CONFIG_PATH"], join(&[&config_dir, b"/sys"]));
        if let Some(stem) = sys_config.strip_suffix(b".config") {
            sys_config = stem.to_vec();
        }
        let release = Self {
            tmp: pick(env, &["RELEASE_TMP", "RELEASE_MUTABLE_DIR"], join(&[&home.root, b"/tmp"])),
            mode: pick(env, &["RELEASE_MODE", "CODE_LOADING_MODE"], mode),
            boot: pick(env, &["RELEASE_BOOT_SCRIPT"], b"start".to_vec()),
            boot_clean: pick(env, &["RELEASE_BOOT_SCRIPT_CLEAN"], b"start_clean".to_vec()),
            sys_config,
            vm_args: pick(env, &["RELEASE_VM_ARGS", "VMARGS_PATH"], join(&[&config_dir, b"/vm.args"])),
            remote_vm_args: pick(env, &["RELEASE_REMOTE_VM_ARGS"], join(&[&config_dir, b"/remote.vm.args"])),
            name,
            asked,
            home,
            conf,
        };
        if !matches!(release.mode.as_slice(), b"embedded" | b"interactive") {
            let what = format!("cannot use the variable RELEASE_MODE `{}`", shown(&release.mode));
            return Err(Fault::new(what, "set it to `embedded` or `interactive`"));
        }
        for (key, value) in [
            ("RELEASE_TMP", &release.tmp),
            ("RELEASE_MODE", &release.mode),
            ("RELEASE_BOOT_SCRIPT", &release.boot),
            ("RELEASE_BOOT_SCRIPT_CLEAN", &release.boot_clean),
            ("RELEASE_SYS_CONFIG", &release.sys_config),
            ("RELEASE_VM_ARGS", &release.vm_args),
            ("RELEASE_REMOTE_VM_ARGS", &release.remote_vm_args),
        ] {
            env.set(key.as_bytes(), value);
        }
        Ok(release)
    }

    /// The node's name: that of the command line or environment, of the expanded arguments, or of the release's
    /// settings, in this order.
    #[must_use]
    pub fn naming(&self, arguments: &[Bytes]) -> Naming {
        let written = named_in(arguments);
        let usual = self.conf.node.clone().unwrap_or_else(|| self.name.clone());
        let kind = self.asked.kind.or(written.as_ref().map(|naming| naming.kind)).unwrap_or(self.conf.distribution);
        let node = self.asked.node.clone().or(written.map(|naming| naming.node)).unwrap_or(usual);
        Naming { kind, node }
    }

    /// Returns true if `${NAME}` is replaced in configuration files.
    #[must_use]
    pub fn replaces_variables(&self, env: &Environment) -> bool {
        self.conf.replace_os_vars || env.is_true("REPLACE_OS_VARS") || env.is_true("RELX_REPLACE_OS_VARS")
    }
}

impl Asked {
    fn from_environment(env: &Environment) -> Result<Self, Fault> {
        let mut asked = Self { kind: None, node: env.filled("RELEASE_NODE").map(<[u8]>::to_vec) };
        if let Some(text) = env.first(&["RELEASE_DISTRIBUTION", "NAME_TYPE"]) {
            let text = text.strip_prefix(b"-").unwrap_or(text);
            asked.kind = Some(Distribution::read(text).ok_or_else(|| {
                let what = format!("cannot use the variable RELEASE_DISTRIBUTION `{}`", shown(text));
                Fault::new(what, "set it to `sname`, `name` or `none`")
            })?);
        }
        // `NAME` is a common variable: it counts only together with `NAME_TYPE`, or if its value is a node name.
        if asked.node.is_none()
            && let Some(name) = env.filled("NAME")
            && (env.filled("NAME_TYPE").is_some() || name.contains(&b'@'))
        {
            asked.node = Some(name.to_vec());
        }
        Ok(asked)
    }
}

/// The flags for a node's name and cookie, which the start program sets itself.
const DECIDED: [&[u8]; 3] = [b"-name", b"-sname", b"-setcookie"];

/// The node's name in arguments. The first one counts, as in the emulator.
#[must_use]
pub fn named_in(arguments: &[Bytes]) -> Option<Naming> {
    let mut pairs = own(arguments).windows(2);
    pairs.find_map(|pair| {
        let kind = match pair[0].as_slice() {
            b"-name" => Distribution::Name,
            b"-sname" => Distribution::Sname,
            _ => return None,
        };
        Some(Naming { kind, node: pair[1].clone() })
    })
}

/// The value of a flag in arguments.
#[must_use]
pub fn value_of<'a>(arguments: &'a [Bytes], flag: &[u8]) -> Option<&'a [u8]> {
    own(arguments).windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_slice())
}

/// Removes the flags for a node's name and cookie from `arguments`.
#[must_use]
pub fn without_names(arguments: &[Bytes]) -> Vec<Bytes> {
    let end = own(arguments).len();
    let mut kept = Vec::new();
    let mut at = 0;
    while at < end {
        if DECIDED.contains(&arguments[at].as_slice()) {
            at += 2;
        } else {
            kept.push(arguments[at].clone());
            at += 1;
        }
    }
    kept.extend_from_slice(&arguments[end.max(at).min(arguments.len())..]);
    kept
}

/// The arguments before `-extra`.
fn own(arguments: &[Bytes]) -> &[Bytes] {
    let end = arguments.iter().position(|argument| argument == b"-extra").unwrap_or(arguments.len());
    &arguments[..end]
}

/// Parses the content of a cookie file; `None` if it is empty.
#[must_use]
pub fn cookie_in(file: &[u8]) -> Option<Bytes> {
    Some(trim(file).to_vec()).filter(|cookie| !cookie.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Bytes> {
        words(text.as_bytes())
    }

    fn release(text: &str, env: &[&str]) -> Release {
        let strings: Vec<Bytes> = env.iter().map(|one| one.as_bytes().to_vec()).collect();
        let mut env = Environment::from_strings(&strings);
        let home = Home { root: b"/r".to_vec(), vsn: b"1".to_vec(), prog: b"demo".to_vec(), ..Home::default() };
        Release::settle(home, Conf::parse(b"c", text.as_bytes()).unwrap(), &mut env).unwrap()
    }

    #[test]
    fn a_name_comes_from_the_environment_then_the_arguments_then_the_settings() {
        let plain = release("distribution = sname", &[]);
        assert_eq!(plain.naming(&[]), Naming { kind: Distribution::Sname, node: b"demo".to_vec() });
        let written = list("-name a@b -extra -sname c");
        assert_eq!(plain.naming(&written), Naming { kind: Distribution::Name, node: b"a@b".to_vec() });
        let asked = release("", &["RELEASE_DISTRIBUTION=none", "RELEASE_NODE=x"]);
        assert_eq!(asked.naming(&written).kind, Distribution::None);
    }

    #[test]
    fn name_and_cookie_flags_are_removed_before_extra_only() {
        let found = without_names(&list("-a -name n -setcookie c -b -extra -name keep"));
        assert_eq!(found, list("-a -b -extra -name keep"));
        assert_eq!(without_names(&list("-sname")), Vec::<Bytes>::new());
    }

    #[test]
    fn settings_are_overridden_by_variables_of_mix_and_distillery() {
        let found = release("", &["RELEASE_MUTABLE_DIR=/var/x", "SYS_CONFIG_PATH=/etc/app.config", "NAME=box"]);
        assert_eq!(found.tmp, b"/var/x");
        assert_eq!(found.sys_config, b"/etc/app");
        assert_eq!(found.vm_args, b"/r/releases/1/vm.args");
        assert_eq!(found.asked.node, None);
    }

    #[test]
    fn start_erl_data_without_two_versions_is_refused() {
        assert_eq!(versions(b"13.1.5 0.1.0\n").unwrap(), (b"13.1.5".to_vec(), b"0.1.0".to_vec()));
        assert!(versions(b"13.1.5").is_err());
    }
}
