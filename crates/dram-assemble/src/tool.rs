//! The project's tools. This is the only module of this crate that starts processes.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
#[allow(clippy::disallowed_types, reason = "the project's tools are started here and nowhere else in this room")]
use std::process::{Command, Stdio};

use crate::AssembleError;

/// The maximum number of output bytes that are kept of a quiet tool.
const MOST_OUTPUT: u64 = 1 << 20;

/// The search path for tools, and their verbosity.
#[derive(Debug, Clone)]
pub struct ProjectTools {
    /// The search path, in the format of `PATH`.
    pub path: OsString,
    /// True if the output of tools is shown only when they fail.
    pub quiet: bool,
}

impl ProjectTools {
    /// Returns the executable `name` on the search path.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|dir| dir.join(name)).find(|path| {
            path.metadata().is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
        })
    }

    /// Runs the program `tool` in `dir` with `args` and with `env` in addition to this process's environment. Its
    /// output goes to standard error, because standard output is for results.
    ///
    /// # Errors
    /// Fails if the tool is missing, cannot be started, or fails.
    pub(crate) fn run(
        &self,
        tool: &'static str,
        why: &'static str,
        dir: &Path,
        args: &[&OsStr],
        env: &[(&str, &OsStr)],
    ) -> Result<(), AssembleError> {
        let program = self.find(tool).ok_or(AssembleError::NoTool { tool, why })?;
        #[allow(clippy::disallowed_types, reason = "see the module")]
        let mut command = Command::new(&program);
        command.args(args).current_dir(dir).envs(env.iter().copied()).stdin(Stdio::null());
        let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        let failed = |status: String, output: String| AssembleError::Tool {
            command: format!("{tool} {}", words.join(" ")),
            status,
            output,
        };
        if !self.quiet {
            command.stdout(std::io::stderr());
            let status = command.status().map_err(AssembleError::io("start", &program))?;
            return if status.success() { Ok(()) } else { Err(failed(status.to_string(), String::new())) };
        }
        // One pipe for both streams keeps the order of the lines.
        let (mut reader, writer) = std::io::pipe().map_err(AssembleError::io("make a pipe for", &program))?;
        let second = writer.try_clone().map_err(AssembleError::io("make a pipe for", &program))?;
        let mut child = command.stdout(writer).stderr(second).spawn().map_err(AssembleError::io("start", &program))?;
        // The command holds the write ends of the pipe, so the reader would never see its end.
        drop(command);
        let mut output = Vec::new();
        let read = (&mut reader).take(MOST_OUTPUT).read_to_end(&mut output);
        let drained = std::io::copy(&mut reader, &mut std::io::sink());
        let status = child.wait().map_err(AssembleError::io("wait for", &program))?;
        read.and(drained).map_err(AssembleError::io("read the output of", &program))?;
        if status.success() {
            return Ok(());
        }
        Err(failed(status.to_string(), String::from_utf8_lossy(&output).into_owned()))
    }
}
