//! Tells from the files of a release whether its node will have a name, which some commands need.

use crate::byte_string::find_bytes;
use crate::env_script::evaluate_assignments;
use crate::environment::EnvironmentVariables;
use crate::erlexec::split_arguments;
use crate::release::{ReleaseHome, StartSettings};
use crate::start_conf::{StartConf, StartNodeNameKind};

/// The variables that give a node a name.
const NAME_VARIABLES: [&[u8]; 3] = [b"RELEASE_NODE", b"RELEASE_DISTRIBUTION", b"NAME_TYPE"];

/// The files of a release that give its node a name, or do not.
#[derive(Clone, Debug, Default)]
pub struct NamingFiles<'a> {
    /// The settings.
    pub conf: StartConf,
    /// The text of `vm.args`.
    pub vm_args: &'a [u8],
    /// The text of `env.sh`, if there is one.
    pub env_sh: Option<&'a [u8]>,
}

impl NamingFiles<'_> {
    /// Returns false if the node surely has no name when the release is started with these variables. An `env.sh` that
    /// needs a shell gives a name if it mentions a variable of one.
    #[must_use]
    pub fn may_name_node(&self, env: &EnvironmentVariables) -> bool {
        let mut env = env.clone();
        for (name, value) in &self.conf.env {
            if env.get_bytes(name).is_none() {
                env.set(name, value);
            }
        }
        if let Some(script) = self.env_sh {
            match evaluate_assignments(script, &env) {
                Some(after) => env = after,
                None if mentions_node_name(script) => return true,
                None => {}
            }
        }
        match StartSettings::resolve(ReleaseHome::default(), self.conf.clone(), &mut env) {
            Ok(release) => release.node_naming(&split_arguments(self.vm_args, true)).kind != StartNodeNameKind::None,
            Err(_) => true,
        }
    }
}

/// Returns true if a script mentions a variable that gives a node a name.
#[must_use]
pub fn mentions_node_name(script: &[u8]) -> bool {
    NAME_VARIABLES.iter().any(|name| find_bytes(script, name).is_some())
}

/// Returns true for a command of the start program that only works if the node has a name.
#[must_use]
pub fn needs_node_name(command: &[u8]) -> bool {
    use crate::command::{StartCommand, StartCommandMatch, find_command};
    match find_command(command, &[]) {
        Ok(StartCommandMatch::Builtin(command)) => matches!(
            command,
            StartCommand::Rpc
                | StartCommand::RemoteConsole
                | StartCommand::Restart
                | StartCommand::Reboot
                | StartCommand::Info
                | StartCommand::ReloadConfig
                | StartCommand::Versions
                | StartCommand::Unpack
                | StartCommand::Install
                | StartCommand::Upgrade
                | StartCommand::Uninstall
        ),
        Ok(StartCommandMatch::Custom(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(conf: &str, vm_args: &str, env_sh: Option<&str>, env: &[&str]) -> bool {
        let conf = StartConf::parse(b"start.conf", conf.as_bytes()).unwrap();
        let strings: alloc::vec::Vec<_> = env.iter().map(|text| text.as_bytes().to_vec()).collect();
        let files = NamingFiles { conf, vm_args: vm_args.as_bytes(), env_sh: env_sh.map(str::as_bytes) };
        files.may_name_node(&EnvironmentVariables::from_strings(&strings))
    }

    #[test]
    fn a_name_may_come_from_each_file_and_from_the_environment() {
        assert!(!named("name = a", "# -sname b\n+K true\n", None, &[]));
        assert!(named("distribution = sname", "", None, &[]));
        assert!(named("env.RELEASE_NODE = a", "", None, &[]));
        assert!(named("name = a", "-name a@b\n", None, &[]));
        assert!(named("name = a", "", Some("export RELEASE_NODE=a\n"), &[]));
        assert!(named("name = a", "", Some("export RELEASE_NODE=a@$(hostname)\n"), &[]));
        assert!(!named("name = a", "", Some("export X=$(hostname)\n"), &[]));
        assert!(named("name = a", "", None, &["RELEASE_DISTRIBUTION=sname"]));
        assert!(!named("distribution = sname", "", None, &["RELEASE_DISTRIBUTION=none"]));
    }

    #[test]
    fn commands_that_need_a_name_are_known_under_all_their_names() {
        for (command, needs) in
            [("rpc", true), ("remote", true), ("remsh", true), ("restart", true), ("stop", false), ("x", false)]
        {
            assert_eq!(needs_node_name(command.as_bytes()), needs, "{command}");
        }
    }
}
