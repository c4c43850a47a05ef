//! The settings of a release: those of its files, overridden by the environment.

use alloc::format;
use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat, split_once, split_words, trim};
use crate::environment::EnvironmentVariables;
use crate::error::{StartError, printable};
use crate::start_conf::{StartConf, StartLoadingMode, StartNodeNameKind};

/// Parses `releases/start_erl.data`: the version of the emulator and that of the release.
///
/// # Errors
/// Fails if there are fewer than two words.
pub fn parse_start_erl_data(text: &[u8]) -> Result<(ByteString, ByteString), StartError> {
    match split_words(text).as_slice() {
        [erts, release, ..] => Ok((erts.clone(), release.clone())),
        _ => Err(StartError::new(
            "cannot read `releases/start_erl.data`: two versions are expected",
            "make the release again: the file holds the version of the emulator, a space, and that of the release",
        )),
    }
}

/// The paths and versions of a release, and the name by which its program was called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseHome {
    /// The root directory of the release.
    pub root: ByteString,
    /// The path of the start program, with symbolic links resolved.
    pub program: ByteString,
    /// The file name it was called by.
    pub prog: ByteString,
    /// The version of the emulator.
    pub erts: ByteString,
    /// The version of the release.
    pub vsn: ByteString,
}

impl ReleaseHome {
    /// The directory `releases/VSN`.
    #[must_use]
    pub fn version_dir(&self) -> ByteString {
        concat(&[&self.root, b"/releases/", &self.vsn])
    }

    /// The directory of the emulator's programs.
    #[must_use]
    pub fn bin(&self) -> ByteString {
        concat(&[&self.root, b"/erts-", &self.erts, b"/bin"])
    }

    /// Sets the variables that `env.sh`, hooks and the emulator read.
    pub fn export_variables(&self, conf: &StartConf, command: &[u8], env: &mut EnvironmentVariables) {
        for (name, value) in &conf.env {
            if env.get_bytes(name).is_none() {
                env.set(name, value);
            }
        }
        let name = env.get_non_empty("RELEASE_NAME").map_or_else(|| self.name(conf), <[u8]>::to_vec);
        let prog = env.get_non_empty("RELEASE_PROG").unwrap_or(&self.prog).to_vec();
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

    fn name(&self, conf: &StartConf) -> ByteString {
        if conf.name.is_empty() { self.prog.clone() } else { conf.name.clone() }
    }
}

/// The name of a node and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNaming {
    /// The kind: short, long or none.
    pub kind: StartNodeNameKind,
    /// The name, with or without a host.
    pub node: ByteString,
}

/// A release with all settings resolved.
#[derive(Clone, Debug)]
pub struct StartSettings {
    /// Its paths and versions.
    pub home: ReleaseHome,
    /// The settings of `start.conf`.
    pub conf: StartConf,
    /// The name of the release.
    pub name: ByteString,
    /// The directory for files that are written at run time.
    pub tmp: ByteString,
    /// The code loading mode: `embedded` or `interactive`.
    pub mode: ByteString,
    /// The boot script, without `.boot`.
    pub boot_script: ByteString,
    /// The boot script that starts only the standard library, without `.boot`.
    pub clean_boot_script: ByteString,
    /// The path of the configuration, without `.config`.
    pub sys_config: ByteString,
    /// The path of `vm.args`.
    pub vm_args: ByteString,
    /// The path of the `vm.args` of a remote console.
    pub remote_vm_args: ByteString,
    /// The node name that the environment or the command line requests.
    pub requested_name: RequestedNodeName,
}

/// The node name that the environment or the command line requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedNodeName {
    /// The kind, if it is requested.
    pub kind: Option<StartNodeNameKind>,
    /// The name, if it is requested.
    pub node: Option<ByteString>,
    /// True if the name alone requests a node name. `NAME` of Distillery does not: it is too common a variable.
    pub implies_kind: bool,
}

impl StartSettings {
    /// Resolves the settings and writes those that can be overridden into the environment, as `bin/NAME` of Mix does.
    ///
    /// # Errors
    /// Fails if a variable has an invalid value.
    pub fn resolve(home: ReleaseHome, conf: StartConf, env: &mut EnvironmentVariables) -> Result<Self, StartError> {
        let name = env.get_non_empty("RELEASE_NAME").map_or_else(|| home.name(&conf), <[u8]>::to_vec);
        let dir = home.version_dir();
        let config_dir = env.get_non_empty("RELEASE_CONFIG_DIR").map_or_else(|| dir.clone(), <[u8]>::to_vec);
        let pick = |env: &EnvironmentVariables, names: &[&str], usual: ByteString| {
            env.first_non_empty(names).map_or(usual, <[u8]>::to_vec)
        };
        let mode = match conf.mode {
            StartLoadingMode::Embedded => b"embedded".to_vec(),
            StartLoadingMode::Interactive => b"interactive".to_vec(),
        };
        let asked = RequestedNodeName::from_environment(env)?;
        let mut sys_config = pick(env, &["RELEASE_SYS_CONFIG", "SYS_CONFIG_PATH"], concat(&[&config_dir, b"/sys"]));
        if let Some(stem) = sys_config.strip_suffix(b".config") {
            sys_config = stem.to_vec();
        }
        let release = Self {
            tmp: pick(env, &["RELEASE_TMP", "RELEASE_MUTABLE_DIR"], concat(&[&home.root, b"/tmp"])),
            mode: pick(env, &["RELEASE_MODE", "CODE_LOADING_MODE"], mode),
            boot_script: pick(env, &["RELEASE_BOOT_SCRIPT"], b"start".to_vec()),
            clean_boot_script: pick(env, &["RELEASE_BOOT_SCRIPT_CLEAN"], b"start_clean".to_vec()),
            sys_config,
            vm_args: pick(env, &["RELEASE_VM_ARGS", "VMARGS_PATH"], concat(&[&config_dir, b"/vm.args"])),
            remote_vm_args: pick(env, &["RELEASE_REMOTE_VM_ARGS"], concat(&[&config_dir, b"/remote.vm.args"])),
            name,
            requested_name: asked,
            home,
            conf,
        };
        if !matches!(release.mode.as_slice(), b"embedded" | b"interactive") {
            let what = format!("cannot use the variable RELEASE_MODE `{}`", printable(&release.mode));
            return Err(StartError::new(what, "set it to `embedded` or `interactive`"));
        }
        for (key, value) in [
            ("RELEASE_TMP", &release.tmp),
            ("RELEASE_MODE", &release.mode),
            ("RELEASE_BOOT_SCRIPT", &release.boot_script),
            ("RELEASE_BOOT_SCRIPT_CLEAN", &release.clean_boot_script),
            ("RELEASE_SYS_CONFIG", &release.sys_config),
            ("RELEASE_VM_ARGS", &release.vm_args),
            ("RELEASE_REMOTE_VM_ARGS", &release.remote_vm_args),
        ] {
            env.set(key.as_bytes(), value);
        }
        Ok(release)
    }

    /// The node's name: that of the command line or environment, of the expanded arguments, or of the release's
    /// settings, in this order. If only the name is requested, it is a short one as in Mix, or a long one if its host
    /// has a dot: the emulator takes no such short name.
    #[must_use]
    pub fn node_naming(&self, arguments: &[ByteString]) -> NodeNaming {
        let written = naming_in_arguments(arguments);
        let usual = self.conf.node.clone().unwrap_or_else(|| self.name.clone());
        let alone = self.requested_name.node.as_ref().filter(|_| self.requested_name.implies_kind);
        let implied = || alone.map_or(StartNodeNameKind::None, |node| implied_kind(node));
        let written_kind = written.as_ref().map(|naming| naming.kind);
        let kind = self.requested_name.kind.or(written_kind).or(self.conf.distribution).unwrap_or_else(implied);
        let node = self.requested_name.node.clone().or(written.map(|naming| naming.node)).unwrap_or(usual);
        NodeNaming { kind, node }
    }

    /// Returns true if `${NAME}` is replaced in configuration files.
    #[must_use]
    pub fn should_replace_variables(&self, env: &EnvironmentVariables) -> bool {
        self.conf.replace_os_vars || env.is_true("REPLACE_OS_VARS") || env.is_true("RELX_REPLACE_OS_VARS")
    }
}

fn implied_kind(node: &[u8]) -> StartNodeNameKind {
    match split_once(node, b'@') {
        Some((_, host)) if host.contains(&b'.') => StartNodeNameKind::Name,
        Some(_) | None => StartNodeNameKind::Sname,
    }
}

impl RequestedNodeName {
    fn from_environment(env: &EnvironmentVariables) -> Result<Self, StartError> {
        let node = env.get_non_empty("RELEASE_NODE").map(<[u8]>::to_vec);
        let mut asked = Self { kind: None, implies_kind: node.is_some(), node };
        if let Some(text) = env.first_non_empty(&["RELEASE_DISTRIBUTION", "NAME_TYPE"]) {
            let text = text.strip_prefix(b"-").unwrap_or(text);
            asked.kind = Some(StartNodeNameKind::parse(text).ok_or_else(|| {
                let what = format!("cannot use the variable RELEASE_DISTRIBUTION `{}`", printable(text));
                StartError::new(what, "set it to `sname`, `name` or `none`")
            })?);
        }
        // `NAME` is a common variable: it counts only together with `NAME_TYPE`, or if its value is a node name.
        if asked.node.is_none()
            && let Some(name) = env.get_non_empty("NAME")
            && (env.get_non_empty("NAME_TYPE").is_some() || name.contains(&b'@'))
        {
            asked.node = Some(name.to_vec());
        }
        Ok(asked)
    }
}

/// The flags for a node's name and cookie, which the start program sets itself.
const NAME_FLAGS: [&[u8]; 3] = [b"-name", b"-sname", b"-setcookie"];

/// The node's name in arguments. The first one counts, as in the emulator.
#[must_use]
pub fn naming_in_arguments(arguments: &[ByteString]) -> Option<NodeNaming> {
    let mut pairs = before_extra(arguments).windows(2);
    pairs.find_map(|pair| {
        let kind = match pair[0].as_slice() {
            b"-name" => StartNodeNameKind::Name,
            b"-sname" => StartNodeNameKind::Sname,
            _ => return None,
        };
        Some(NodeNaming { kind, node: pair[1].clone() })
    })
}

/// The value of a flag in arguments.
#[must_use]
pub fn flag_value<'a>(arguments: &'a [ByteString], flag: &[u8]) -> Option<&'a [u8]> {
    before_extra(arguments).windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_slice())
}

/// The flags of arguments for a distribution protocol with TLS, with their values. Empty if the protocol is another one.
#[must_use]
pub fn tls_flags(arguments: &[ByteString]) -> Vec<ByteString> {
    let arguments = before_extra(arguments);
    if !flag_value(arguments, b"-proto_dist").is_some_and(|protocol| protocol.ends_with(b"_tls")) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut belongs = false;
    for argument in arguments {
        if argument.starts_with(b"-") || argument.starts_with(b"+") {
            belongs = argument == b"-proto_dist" || argument.starts_with(b"-ssl_dist_");
        }
        if belongs {
            found.push(argument.clone());
        }
    }
    found
}

/// Removes the flags for a node's name and cookie from `arguments`.
#[must_use]
pub fn remove_name_flags(arguments: &[ByteString]) -> Vec<ByteString> {
    let end = before_extra(arguments).len();
    let mut kept = Vec::new();
    let mut at = 0;
    while at < end {
        if NAME_FLAGS.contains(&arguments[at].as_slice()) {
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
#[must_use]
pub fn before_extra(arguments: &[ByteString]) -> &[ByteString] {
    let end = arguments.iter().position(|argument| argument == b"-extra").unwrap_or(arguments.len());
    &arguments[..end]
}

/// Parses the content of a cookie file; `None` if it is empty.
#[must_use]
pub fn parse_cookie(file: &[u8]) -> Option<ByteString> {
    Some(trim(file).to_vec()).filter(|cookie| !cookie.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<ByteString> {
        split_words(text.as_bytes())
    }

    fn release(text: &str, env: &[&str]) -> StartSettings {
        let strings: Vec<ByteString> = env.iter().map(|one| one.as_bytes().to_vec()).collect();
        let mut env = EnvironmentVariables::from_strings(&strings);
        let home =
            ReleaseHome { root: b"/r".to_vec(), vsn: b"1".to_vec(), prog: b"demo".to_vec(), ..ReleaseHome::default() };
        StartSettings::resolve(home, StartConf::parse(b"c", text.as_bytes()).unwrap(), &mut env).unwrap()
    }

    #[test]
    fn a_name_comes_from_the_environment_then_the_arguments_then_the_settings() {
        let plain = release("distribution = sname", &[]);
        assert_eq!(plain.node_naming(&[]), NodeNaming { kind: StartNodeNameKind::Sname, node: b"demo".to_vec() });
        let written = list("-name a@b -extra -sname c");
        assert_eq!(plain.node_naming(&written), NodeNaming { kind: StartNodeNameKind::Name, node: b"a@b".to_vec() });
        let asked = release("", &["RELEASE_DISTRIBUTION=none", "RELEASE_NODE=x"]);
        assert_eq!(asked.node_naming(&written).kind, StartNodeNameKind::None);
    }

    #[test]
    fn the_name_alone_gives_a_node_a_name_as_in_mix_unless_the_settings_say_none() {
        let kind = |conf: &str, env: &[&str]| release(conf, env).node_naming(&[]).kind;
        assert_eq!(kind("", &["RELEASE_NODE=x"]), StartNodeNameKind::Sname);
        assert_eq!(kind("", &["RELEASE_NODE=x@box"]), StartNodeNameKind::Sname);
        assert_eq!(kind("", &["RELEASE_NODE=x@10.0.0.1"]), StartNodeNameKind::Name);
        assert_eq!(kind("", &["RELEASE_NODE="]), StartNodeNameKind::None);
        assert_eq!(kind("distribution = none", &["RELEASE_NODE=x"]), StartNodeNameKind::None);
        assert_eq!(kind("", &["NAME=me@example.org"]), StartNodeNameKind::None);
        assert_eq!(release("", &["RELEASE_NODE=x"]).node_naming(&list("-name a@b")).kind, StartNodeNameKind::Name);
    }

    #[test]
    fn name_and_cookie_flags_are_removed_before_extra_only() {
        let found = remove_name_flags(&list("-a -name n -setcookie c -b -extra -name keep"));
        assert_eq!(found, list("-a -b -extra -name keep"));
        assert_eq!(remove_name_flags(&list("-sname")), Vec::<ByteString>::new());
    }

    #[test]
    fn the_flags_of_tls_are_found_with_all_their_values() {
        let tls = "-proto_dist inet_tls -ssl_dist_opt server_certfile a client_verify verify_peer -ssl_dist_optfile f";
        assert_eq!(tls_flags(&list(&format!("-a b {tls} +K true -extra -ssl_dist_optfile g"))), list(tls));
        assert_eq!(tls_flags(&list("-proto_dist inet6_tcp -ssl_dist_optfile f")), list(""));
    }

    #[test]
    fn settings_are_overridden_by_variables_of_mix_and_distillery() {
        let found = release("", &["RELEASE_MUTABLE_DIR=/var/x", "SYS_CONFIG_PATH=/etc/app.config", "NAME=box"]);
        assert_eq!(found.tmp, b"/var/x");
        assert_eq!(found.sys_config, b"/etc/app");
        assert_eq!(found.vm_args, b"/r/releases/1/vm.args");
        assert_eq!(found.requested_name.node, None);
    }

    #[test]
    fn start_erl_data_without_two_versions_is_refused() {
        assert_eq!(parse_start_erl_data(b"13.1.5 0.1.0\n").unwrap(), (b"13.1.5".to_vec(), b"0.1.0".to_vec()));
        assert!(parse_start_erl_data(b"13.1.5").is_err());
    }
}
