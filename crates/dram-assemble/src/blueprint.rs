//! The blueprint of a release: the project, `dram.toml` and the command line combined.
//!
//! Mix, rebar3, Distillery and bare directories each have a module that creates one; [`crate::assemble`] does not
//! depend on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::consult::consult;
use dram_release::relx::RelxGoal;
use dram_release::resolve::{ReleaseRules, StartType};
use dram_release::term::Term;
use dram_start::start_conf::{OpenFileLimit, StartConf, StartCustomCommand, StartHookPoint, StartLoadingMode};

use crate::AssembleError;
use crate::settings::{CodeLoadingMode, NodeNameKind, WorkingDirectory};

/// Everything that defines a release.
#[derive(Debug)]
pub(crate) struct ReleaseBlueprint {
    /// The release name.
    pub(crate) name: String,
    /// The release version.
    pub(crate) version: String,
    /// The rules that decide which applications it has.
    pub(crate) rules: ReleaseRules,
    /// The Erlang/OTP installation.
    pub(crate) otp: OtpInstallation,
    /// The destination that the project configures.
    pub(crate) configured_output: Option<PathBuf>,
    /// Additional ERTS programs.
    pub(crate) erts_programs: Vec<String>,
    /// The requested applications, with their start types if given.
    pub(crate) applications: Vec<(String, Option<StartType>)>,
    /// The applications and boot scripts, if a step of Mix changed them; then the requested ones do not count.
    pub(crate) listed: Option<ListedApplications>,
    /// The goals under the rules of relx, which has no other requested applications.
    pub(crate) goals: Vec<RelxGoal>,
    /// Applications whose start types are not validated against those of their dependencies.
    pub(crate) skip_mode_validation: Vec<String>,
    /// Applications that are excluded, even if others depend on them.
    pub(crate) excluded: Vec<String>,
    /// The directories of the project's and Elixir's applications, each with an `ebin`.
    pub(crate) app_dirs: BTreeMap<String, PathBuf>,
    /// The directory of consolidated protocols.
    pub(crate) consolidated: Option<PathBuf>,
    /// The subdirectories of an application that are included besides `ebin`.
    pub(crate) app_subdirs: Vec<&'static str>,
    /// The options for stripping modules; `None` if they are not stripped.
    pub(crate) strip: Option<StripOptions>,
    /// `sys.config`.
    pub(crate) sys_config: ConfigText,
    /// The runtime configuration: `config/runtime.exs` or another file.
    pub(crate) runtime_config: Option<PathBuf>,
    /// True if `Config.Provider` changes the configuration at boot.
    pub(crate) has_providers: bool,
    /// `vm.args`.
    pub(crate) vm_args: ConfigText,
    /// The text of `remote.vm.args`.
    pub(crate) remote_vm_args: Option<String>,
    /// A shell script that is sourced before the emulator starts.
    pub(crate) env_sh: Option<String>,
    /// The cookie, if the project sets one.
    pub(crate) cookie: Option<String>,
    /// The overlays, in order.
    pub(crate) overlays: Vec<OverlayStep>,
    /// True if shared libraries are included.
    pub(crate) portable: bool,
    /// The settings of the start program.
    pub(crate) start: StartProgramSettings,
    /// Warnings for the user.
    pub(crate) warnings: Vec<String>,
}

/// The applications and the boot scripts of a release whose steps changed them.
#[derive(Debug)]
pub(crate) struct ListedApplications {
    /// All applications.
    pub(crate) names: Vec<String>,
    /// The boot scripts by name, each with its applications in order.
    pub(crate) scripts: Vec<(String, Vec<(String, StartType)>)>,
}

/// A configuration file of the emulator.
#[derive(Debug, Default)]
pub(crate) struct ConfigText {
    /// The content.
    pub(crate) bytes: Vec<u8>,
    /// True for a template, whose name ends with `.src`: `${VARIABLE}` is replaced at every start.
    pub(crate) is_template: bool,
}

impl ConfigText {
    /// Creates a text that is not a template.
    pub(crate) fn new(text: impl Into<Vec<u8>>) -> ConfigText {
        ConfigText { bytes: text.into(), is_template: false }
    }

    /// Reads the file `path`; it is a template if its extension is `src`.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<ConfigText, AssembleError> {
        let bytes = fs::read(path).map_err(AssembleError::io("read", path))?;
        Ok(ConfigText { bytes, is_template: path.extension().is_some_and(|extension| extension == "src") })
    }

    /// Reads the configuration file `path`. A template is not parsed, because it is not a term yet.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or is not a valid configuration.
    pub(crate) fn read_configuration(path: &Path) -> Result<ConfigText, AssembleError> {
        let text = ConfigText::read(path)?;
        if !text.is_template {
            let terms =
                consult(&text.bytes).map_err(|source| AssembleError::Terms { path: path.to_owned(), source })?;
            if !matches!(terms.as_slice(), [Term::List(_)]) {
                let message = "a configuration is one list of applications with their settings, and a dot".to_owned();
                return Err(AssembleError::Project { file: Some(path.display().to_string()), line: None, message });
            }
        }
        Ok(text)
    }

    /// Returns the file name.
    pub(crate) fn file_name(&self, stem: &str) -> String {
        if self.is_template { format!("{stem}.src") } else { stem.to_owned() }
    }
}

/// An Erlang/OTP installation.
#[derive(Debug, Clone)]
pub(crate) struct OtpInstallation {
    /// The root directory, with `lib` and `releases`.
    pub(crate) root: PathBuf,
    /// The OTP release number, such as 25.
    pub(crate) release: u32,
    /// The ERTS version, such as `13.1.5`.
    pub(crate) erts: String,
}

/// The options for stripping modules.
#[derive(Debug, Clone)]
pub(crate) struct StripOptions {
    /// Chunks to keep besides those that the emulator needs.
    pub(crate) keep: Vec<String>,
    /// True if each module is compressed.
    pub(crate) compress: bool,
}

/// An overlay of a release.
#[derive(Debug)]
pub(crate) enum OverlayStep {
    /// Copies the content of a directory to the root of the release.
    Dir(PathBuf),
    /// Creates an empty directory.
    MakeDir(TreePath),
    /// Copies a file or directory to a path.
    Copy(PathBuf, TreePath),
    /// Creates a symbolic link: its target and its path.
    Link(Vec<u8>, TreePath),
    /// Writes a text to a path, with these permission bits.
    Text(String, TreePath, u32),
    /// Sets the permission bits of an existing file.
    SetMode(TreePath, u32),
}

/// The settings of the start program.
#[derive(Debug, Default)]
pub(crate) struct StartProgramSettings {
    /// True if expressions are Elixir, false if they are Erlang.
    pub(crate) elixir: bool,
    /// The code loading mode.
    pub(crate) mode: Option<CodeLoadingMode>,
    /// The kind of node name.
    pub(crate) distribution: Option<NodeNameKind>,
    /// The node name.
    pub(crate) node: Option<String>,
    /// True if the system reboots after its configuration was read.
    pub(crate) reboot: bool,
    /// True if `${VARIABLE}` is replaced in `vm.args` and `sys.config`.
    pub(crate) replace_os_vars: bool,
    /// The directory in which the release and its scripts run.
    pub(crate) working_directory: WorkingDirectory,
    /// The limit of open files.
    pub(crate) nofile: Option<u64>,
    /// Defaults for environment variables.
    pub(crate) env: BTreeMap<String, String>,
    /// The hook scripts, and their paths in the release.
    pub(crate) hooks: Vec<(StartHookPoint, TreePath)>,
    /// Additional commands: name, path of the script in the release, and description.
    pub(crate) commands: Vec<(String, TreePath, String)>,
}

impl StartProgramSettings {
    /// Returns the settings as they are written to `start.conf`.
    pub(crate) fn to_conf(&self, name: &str, otp: u32, has_providers: bool, loader: Option<(&str, &str)>) -> StartConf {
        let below = |path: &TreePath| path.as_bytes().to_vec();
        StartConf {
            name: name.into(),
            elixir: self.elixir,
            mode: match self.mode {
                Some(CodeLoadingMode::Interactive) => StartLoadingMode::Interactive,
                Some(CodeLoadingMode::Embedded) | None => StartLoadingMode::Embedded,
            },
            distribution: self.distribution.map(NodeNameKind::to_start),
            node: self.node.clone().map(String::into_bytes),
            runtime_config: has_providers,
            reboot: self.reboot,
            replace_os_vars: self.replace_os_vars,
            loader: loader.map(|(loader, _)| loader.into()),
            library_path: loader.map(|(_, libraries)| libraries.into()).unwrap_or_default(),
            working_directory: self.working_directory.to_start(),
            open_file_limit: self.nofile.map_or(OpenFileLimit::LowerIfHuge, OpenFileLimit::Value),
            otp: Some(otp.to_string()),
            env: self.env.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect(),
            hooks: self.hooks.iter().map(|(point, path)| (*point, below(path))).collect(),
            custom_commands: self
                .commands
                .iter()
                .map(|(name, path, about)| StartCustomCommand {
                    name: name.clone().into_bytes(),
                    path: below(path),
                    description: about.clone().into_bytes(),
                })
                .collect(),
            ..StartConf::default()
        }
    }
}
