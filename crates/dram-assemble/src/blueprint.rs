//! What is to be assembled: everything that the project, `dram.toml` and the command line say, in one form.
//!
//! Mix, rebar3, Distillery and bare directories each fill one in; [`crate::assemble`] knows nothing of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::consult::consult;
use dram_release::relx::Goal;
use dram_release::resolve::{Mode as StartType, Style};
use dram_release::term::Term;

use crate::AssembleError;
use crate::settings::{Distribution, Mode};

/// Everything that a release is made of.
#[derive(Debug)]
pub(crate) struct Blueprint {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Whose rules decide which applications it has.
    pub(crate) style: Style,
    /// Erlang.
    pub(crate) otp: Otp,
    /// Where the project wants it, when it says so.
    pub(crate) path: Option<PathBuf>,
    /// The run-time system it brings, if it brings one.
    pub(crate) erts: Option<PathBuf>,
    /// Programs of ERTS that it has besides those that every release needs.
    pub(crate) erts_programs: Vec<String>,
    /// The applications that were asked for, with their start types where these were given.
    pub(crate) applications: Vec<(String, Option<StartType>)>,
    /// Applications that were asked for, as relx has them; these and no others under its rules.
    pub(crate) goals: Vec<Goal>,
    /// Applications whose start types are not compared with those of what they depend on.
    pub(crate) unchecked: Vec<String>,
    /// Applications that are left out, whoever needs them.
    pub(crate) excluded: Vec<String>,
    /// Where the applications of the project are, and those of Elixir: directories with `ebin`.
    pub(crate) places: BTreeMap<String, PathBuf>,
    /// Protocols as they were consolidated for all of the project.
    pub(crate) consolidated: Option<PathBuf>,
    /// Directories of an application that travel besides `ebin`.
    pub(crate) directories: Vec<&'static str>,
    /// How modules are stripped; `None` leaves them as they are.
    pub(crate) strip: Option<Strip>,
    /// `sys.config`.
    pub(crate) sys_config: Text,
    /// `config/runtime.exs`, or what stands for it.
    pub(crate) runtime_config: Option<PathBuf>,
    /// Whether `Config.Provider` changes the configuration while the system starts.
    pub(crate) has_providers: bool,
    /// `vm.args`.
    pub(crate) vm_args: Text,
    /// The text of `remote.vm.args`.
    pub(crate) remote_vm_args: Option<String>,
    /// A script that is read by a shell before anything starts.
    pub(crate) env_sh: Option<String>,
    /// The secret that nodes know each other by, if it is in the project.
    pub(crate) cookie: Option<String>,
    /// What is laid over the release, in order.
    pub(crate) overlays: Vec<Overlay>,
    /// Whether shared libraries travel with it.
    pub(crate) portable: bool,
    /// What the start program is told.
    pub(crate) start: Start,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

/// A text that the start program gives to the emulator.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// It.
    pub(crate) bytes: Vec<u8>,
    /// Whether it is a template: `${VARIABLE}` in it is replaced at every start, and its name ends with `.src`.
    pub(crate) is_source: bool,
}

impl Text {
    /// A text that stays as it is.
    pub(crate) fn new(text: impl Into<Vec<u8>>) -> Text {
        Text { bytes: text.into(), is_source: false }
    }

    /// The file `path`; a template if its name says so.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Text, AssembleError> {
        let bytes = fs::read(path).map_err(AssembleError::io("read", path))?;
        Ok(Text { bytes, is_source: path.extension().is_some_and(|extension| extension == "src") })
    }

    /// The configuration in the file `path`. A template is no term yet, and is not looked into.
    ///
    /// # Errors
    /// When it cannot be read, or the emulator would not read it.
    pub(crate) fn read_configuration(path: &Path) -> Result<Text, AssembleError> {
        let text = Text::read(path)?;
        if !text.is_source {
            let terms =
                consult(&text.bytes).map_err(|source| AssembleError::Terms { path: path.to_owned(), source })?;
            if !matches!(terms.as_slice(), [Term::List(_)]) {
                let message = "a configuration is one list of applications with their settings, and a dot".to_owned();
                return Err(AssembleError::Project { file: Some(path.display().to_string()), line: None, message });
            }
        }
        Ok(text)
    }

    /// The name of its file.
    pub(crate) fn name(&self, stem: &str) -> String {
        if self.is_source { format!("{stem}.src") } else { stem.to_owned() }
    }
}

/// Erlang on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Otp {
    /// Where it is: a directory with `lib` and `releases`.
    pub(crate) root: PathBuf,
    /// Its number, such as 25.
    pub(crate) release: u32,
    /// The version of its run-time system, such as `13.1.5`.
    pub(crate) erts: String,
}

/// How modules are stripped.
#[derive(Debug, Clone)]
pub(crate) struct Strip {
    /// Chunks that stay besides those that the emulator needs.
    pub(crate) keep: Vec<String>,
    /// Whether each module is compressed.
    pub(crate) compress: bool,
}

/// One thing that is laid over a release.
#[derive(Debug)]
pub(crate) enum Overlay {
    /// All that is in a directory of this machine.
    Dir(PathBuf),
    /// An empty directory.
    Make(TreePath),
    /// A file or directory of this machine, and where it goes.
    Copy(PathBuf, TreePath),
    /// A symbolic link: what it says, and where it is.
    Link(Vec<u8>, TreePath),
    /// A text and where it goes, and whether it can be executed.
    Text(String, TreePath, bool),
    /// Whether the file that is there already can be executed.
    Executable(TreePath, bool),
}

/// What the start program is told.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// Whether expressions are Elixir.
    pub(crate) elixir: bool,
    /// When modules are loaded.
    pub(crate) mode: Option<Mode>,
    /// How the node is named.
    pub(crate) distribution: Option<Distribution>,
    /// The node's name.
    pub(crate) node: Option<String>,
    /// Whether the system boots again when its configuration is known.
    pub(crate) reboot: bool,
    /// Whether `${VARIABLE}` is replaced in `vm.args` and `sys.config`.
    pub(crate) replace_os_vars: bool,
    /// The most files that it may have open.
    pub(crate) nofile: Option<u64>,
    /// Environment variables that it sets where they are not set.
    pub(crate) env: BTreeMap<String, String>,
    /// Scripts by moment, such as `pre_start`, below the release.
    pub(crate) hooks: Vec<(String, TreePath)>,
    /// Further commands: name, script below the release, what it is for.
    pub(crate) commands: Vec<(String, TreePath, String)>,
}

impl Start {
    /// The text of `start.conf`, which `dram_start::conf` reads.
    pub(crate) fn text(&self, name: &str, otp: u32, has_providers: bool, loader: Option<(&str, &str)>) -> String {
        let mut lines = vec![format!("name = {name}"), format!("elixir = {}", self.elixir), format!("otp = {otp}")];
        let mode = match self.mode {
            Some(Mode::Interactive) => "interactive",
            Some(Mode::Embedded) | None => "embedded",
        };
        lines.push(format!("mode = {mode}"));
        let distribution = match self.distribution {
            Some(Distribution::Sname) => "sname",
            Some(Distribution::Name) => "name",
            Some(Distribution::None) | None => "none",
        };
        lines.push(format!("distribution = {distribution}"));
        lines.extend(self.node.iter().map(|node| format!("node = {node}")));
        lines.push(format!("runtime_config = {has_providers}"));
        lines.push(format!("reboot = {}", self.reboot));
        lines.push(format!("replace_os_vars = {}", self.replace_os_vars));
        if let Some((loader, libraries)) = loader {
            lines.push(format!("loader = {loader}"));
            lines.push(format!("library_path = {libraries}"));
        }
        lines.extend(self.nofile.iter().map(|most| format!("nofile = {most}")));
        lines.extend(self.env.iter().map(|(name, value)| format!("env.{name} = {value}")));
        let below_root = |path: &TreePath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        lines.extend(self.hooks.iter().map(|(moment, path)| format!("hook.{moment} = {}", below_root(path))));
        lines.extend(self.commands.iter().map(|(name, path, about)| match about.as_str() {
            "" => format!("command.{name} = {}", below_root(path)),
            about => format!("command.{name} = {} | {about}", below_root(path)),
        }));
        lines.push(String::new());
        lines.join("\n")
    }
}
