//! Executes `RUN`: a command in a sandbox. The upper directory with its changes becomes the layer.

pub(crate) mod failed_command;
mod missing_loader;
pub(crate) mod mount_files;
mod mounts;
mod ssh_agent;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dram_plan::{Plan, RunNetwork, RunOp, StepOp};
use dram_sandbox::{ExtraIds, Jail, JailNetwork, JailStdio, SandboxError};
use dram_store::{Dir, ForeignIds, LayerId, MergedTree, OWNER_ATTRIBUTE, Store};

use crate::container::{self, ContainerDirs, HostSettings};
use crate::executor::{ExecuteEvent, ExecuteRequest, ResourceUsage};
use crate::step_location::StepLocation;
use crate::temp_dir::TempDir;
use crate::users::{self, UserError};
use crate::{BuildError, BuildOptions, CommandOptions};
use failed_command::CommandDescription;
use mount_files::MountFiles;
use mounts::MountContext;

/// The number of last output lines that the error of a failed command has.
const TAIL_LINES: usize = 20;
/// The exit code of a shell that did not find a program, or not what the program needs.
const EXIT_NOT_FOUND: i32 = 127;
/// The longest line; longer ones are split, so that a command that writes no line end cannot fill the memory.
const MAX_LINE_LENGTH: usize = 64 << 10;

/// A command to execute.
pub struct RunRequest<'a> {
    /// The operation.
    pub(crate) run: &'a RunOp,
    /// The files of its mounts; `None` for a mount without files.
    pub(crate) mounts: &'a [Option<MountFiles<'a>>],
    /// The network that it gets.
    pub(crate) network: JailNetwork,
    /// Its secrets, limits and other options of the command line.
    pub(crate) options: &'a CommandOptions,
}

impl fmt::Debug for RunRequest<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RunRequest").field("run", &self.run).finish_non_exhaustive()
    }
}

/// A command that is executed on this machine.
pub(crate) struct RunCommand<'a, 'r> {
    pub(crate) store: &'a Store,
    pub(crate) host: &'r HostSettings,
    pub(crate) request: &'r ExecuteRequest<'r>,
    pub(crate) run: &'r RunRequest<'r>,
    pub(crate) tell: &'r dyn Fn(ExecuteEvent<'_>),
}

/// The end of a command.
struct CommandResult {
    code: i32,
    usage: ResourceUsage,
    /// The last lines of its output.
    tail: Vec<String>,
}

/// Returns the network of a command, in a build whose default is `network`.
pub(crate) fn command_network(run: &RunOp, network: JailNetwork) -> JailNetwork {
    match run.network {
        None => network,
        Some(RunNetwork::None) => JailNetwork::None,
        Some(RunNetwork::Host) => JailNetwork::Host,
    }
}

/// Refuses a plan with commands that need a privilege which the command line does not allow, before any step is
/// executed.
pub(crate) fn check_privileges(plan: &Plan, options: &BuildOptions<'_>) -> Result<(), BuildError> {
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let StepOp::Run(run) = &step.op else { continue };
        let refused = |what: &str, right: &str| {
            let what = format!("the command wants {what}, which this build does not allow");
            Err(BuildError::at_line(StepLocation::of(step).error(what).help(format!("build with `--allow {right}`"))))
        };
        if run.insecure && !options.command_options.allow_insecure {
            return refused("all rights of the builder", "security.insecure");
        }
        // As in BuildKit, this is also refused if the whole build uses the host's network: the flag asks for more than
        // the default.
        if run.network == Some(RunNetwork::Host) && !options.command_options.allow_host_network {
            return refused("the host's network", "network.host");
        }
    }
    Ok(())
}

impl<'a> RunCommand<'a, '_> {
    /// Executes the command. Returns the directory with its changes, or `None` if there are none, and its usage.
    pub(crate) fn execute_command(&self) -> Result<(Option<TempDir<'a>>, ResourceUsage), BuildError> {
        let RunRequest { run, mounts, options, .. } = *self.run;
        let mut described = self.describe()?;
        let mut sight = mounts::resolve_mounts(self.store, (self.request.step, run), mounts, options)?;
        let done = self.run_in_jail(&mut described, &mut sight);
        sight.discard(self.store);
        done
    }

    fn run_in_jail(
        &self,
        described: &mut CommandDescription,
        sight: &mut mounts::ResolvedMounts,
    ) -> Result<(Option<TempDir<'a>>, ResourceUsage), BuildError> {
        let (store, cancel) = (self.store, self.request.cancel);
        let RunRequest { run, mounts: picked, options: given, .. } = *self.run;
        let (mut jail, mut place) = described.jail(store, None, self.host)?;
        // Only root can change owners; the attempts of other users are not recorded.
        let gives_files_away = self.host.single_id && jail.user.uid == 0;
        jail.owner_attribute = gives_files_away.then(|| OWNER_ATTRIBUTE.to_owned());
        // Variables for proxies are not part of the stored description.
        jail.env.extend(run.hidden_env.iter().map(env_entry));
        let mut told = false;
        let mut wait = |id: &str| {
            if !std::mem::replace(&mut told, true) {
                (self.tell)(ExecuteEvent::WaitingForCache(id));
            }
            !cancel.is_cancelled()
        };
        let mut fill = |name: &_, data: &Path| mounts::fill_cache((self.request.step, run), picked, name, data);
        let copies = sight.copies.clone();
        let mut means = MountContext { store, given, copies, fill: &mut fill, wait: &mut wait };
        let Some(_used) = mounts::mount_all(sight, &mut means, &mut place, &mut jail)? else {
            return Err(BuildError::Cancelled);
        };
        let CommandResult { code, usage, tail } = self.spawn_and_wait(&jail)?;
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        if code != 0 {
            return Err(self.command_failure(described, sight, place, code, tail));
        }
        if Dir::open(&place.upper)?.names()?.is_empty() {
            return Ok((None, usage));
        }
        let maker = (jail.user.uid, jail.user.gid);
        let ExtraIds { users, groups } = jail.extra_ids.clone();
        let foreign = ForeignIds { users: users.into_iter().collect(), groups: groups.into_iter().collect() };
        let below = store.layers().view(self.request.layers)?;
        store.layers().inherit_owners(&place.upper, &below, maker, &foreign)?;
        Ok((Some(TempDir::adopt(store, place.into_upper())), usage))
    }

    fn spawn_and_wait(&self, jail: &Jail) -> Result<CommandResult, BuildError> {
        let step = self.request.step;
        let start = |source| BuildError::CommandStart { text: step.text.clone(), span: step.origin.span(), source };
        let pipe = |error: io::Error| {
            let step = "make a pipe for".to_owned();
            start(SandboxError::HelperConnection { step, source: error.into() })
        };
        let (lines, writer) = io::pipe().map_err(pipe)?;
        let stderr = writer.try_clone().map_err(pipe)?;
        let io = JailStdio::Streams { stdin: Stdio::null(), stdout: writer.into(), stderr: stderr.into() };
        let mut running = jail.spawn(io).map_err(start)?;
        self.request.cancel.register(&running.signal_handle());
        let mut tail = VecDeque::new();
        read_lines(BufReader::new(lines), &mut |line| {
            (self.tell)(ExecuteEvent::Log(line));
            if tail.back().is_some_and(|last: &Vec<u8>| last.ends_with(b"\r")) {
                tail.pop_back();
            }
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line.to_vec());
        });
        let code = running.wait().map_err(start)?.code();
        let usage = ResourceUsage::of_command(running.usage().unwrap_or_default());
        let tail = tail.into_iter().map(|line| String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
        Ok(CommandResult { code, usage, tail: tail.collect() })
    }

    /// Returns the error of a command that ended with `code`, and keeps its file system.
    fn command_failure(
        &self,
        described: &mut CommandDescription,
        sight: &mut mounts::ResolvedMounts,
        place: ContainerDirs<'_>,
        code: i32,
        tail: Vec<String>,
    ) -> BuildError {
        let (store, step) = (self.store, self.request.step);
        let (text, span) = (step.text.clone(), step.origin.span());
        let is_unknown = code == EXIT_NOT_FOUND;
        let find_loader = || missing_loader(store, self.request.layers, &place.upper, self.run.run);
        let missing_loader = is_unknown.then(find_loader).flatten().map(Box::new);
        let upper = place.into_upper();
        // An error while keeping it must not replace the error of the command.
        let kept = described.keep(store, &upper, sight).unwrap_or(false);
        if !kept {
            store.work_dir().remove_temp_dir(&upper);
        }
        // The words of the C library for EINVAL, which is what a change to an owner outside of the namespace gives.
        let is_refused = tail.iter().any(|line| line.contains("Invalid argument"));
        let id_count = if is_refused { store.subordinate_id_count() } else { None };
        BuildError::CommandFailed { text, span, code, tail, missing_loader, id_count, kept }
    }

    fn describe(&self) -> Result<CommandDescription, BuildError> {
        let ExecuteRequest { step, key, layers, .. } = self.request;
        let RunRequest { run, network, options: given, .. } = *self.run;
        let view = self.store.layers().view(layers)?;
        let user = users::resolve_user(&view, &run.user).map_err(|error| match error {
            UserError::Store(error) => BuildError::from(error),
            UserError::NoUser(_)
            | UserError::NoGroup(_)
            | UserError::IdTooLarge(_)
            | UserError::InvalidEntry { .. } => {
                let help = "make the user with a RUN before the USER instruction, or write its number";
                BuildError::at_line(StepLocation::of(step).error(error.to_string()).help(help))
            }
        })?;
        let mut env: Vec<_> = run.env.iter().map(env_entry).collect();
        if !run.env.iter().any(|(name, _)| name == "HOME") {
            env.push(format!("HOME={}", user.home).into_bytes());
        }
        Ok(CommandDescription {
            key: key.hex(),
            text: step.text.clone(),
            layers: layers.to_vec(),
            argv: run.argv.clone(),
            env,
            cwd: run.cwd.clone(),
            user: user.ids,
            network,
            insecure: run.insecure,
            hostname: given.hostname.clone().unwrap_or_else(|| container::HOSTNAME.to_owned()),
            hosts: given.hosts.clone(),
            limits: given.limits.clone(),
            shm_size: given.shm_size,
            mounts: mounts::ResolvedMounts::default(),
        })
    }
}

fn env_entry((name, value): &(String, String)) -> Vec<u8> {
    format!("{name}={value}").into_bytes()
}

/// Searches for a missing loader in the file system of the failed command.
fn missing_loader(store: &Store, below: &[LayerId], upper: &Path, run: &RunOp) -> Option<(String, String)> {
    let lowers = below.iter().rev().map(|id| store.layers().path(id));
    let layers: Vec<PathBuf> = std::iter::once(upper.to_owned()).chain(lowers).collect();
    missing_loader::missing_loader(&MergedTree::open(&layers).ok()?, run)
}

/// Calls `each` with every line, without its line end, until all writers are closed. A line that ends with a carriage
/// return alone is overwritten by the next one: it keeps the carriage return, unless nothing follows.
fn read_lines(mut from: impl io::BufRead, each: &mut dyn FnMut(&[u8])) {
    let mut line = Vec::new();
    loop {
        let length = match from.fill_buf() {
            Ok(bytes) if !bytes.is_empty() => {
                bytes.iter().for_each(|byte| read_output_byte(&mut line, *byte, each));
                bytes.len()
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Ok(_) | Err(_) => break,
        };
        from.consume(length);
    }
    if let Some(rest) = line.strip_suffix(b"\r").or(Some(&line)).filter(|rest| !rest.is_empty()) {
        each(rest);
    }
}

/// Adds a byte of output to the line that it belongs to. A carriage return stays at the end of the line until the next
/// byte says what it means.
fn read_output_byte(line: &mut Vec<u8>, byte: u8, each: &mut dyn FnMut(&[u8])) {
    let returned = line.last() == Some(&b'\r');
    match byte {
        b'\n' => {
            each(line.strip_suffix(b"\r").unwrap_or(line));
            line.clear();
        }
        b'\r' if returned => {}
        _ => {
            if returned {
                if line.len() > 1 {
                    each(line);
                }
                line.clear();
            }
            line.push(byte);
            if line.len() == MAX_LINE_LENGTH {
                each(line);
                line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn output_is_split_into_lines_without_line_ends() {
        let mut lines = Vec::new();
        super::read_lines(&b"a\r\n\nb"[..], &mut |line| lines.push(line.to_vec()));
        assert_eq!(lines, [&b"a"[..], b"", b"b"]);
    }

    #[test]
    fn line_that_is_overwritten_keeps_its_carriage_return() {
        for (output, expected) in [
            ("1%\r2%\r3%\n", vec!["1%\r", "2%\r", "3%"]),
            ("\r1%\r2%", vec!["1%\r", "2%"]),
            ("1%\r", vec!["1%"]),
            ("a\r\r\nb", vec!["a", "b"]),
            ("\r\n\r\r", vec![""]),
        ] {
            // Readers of one byte: a line may be in several reads.
            for capacity in [1, 100] {
                let mut lines = Vec::new();
                let reader = std::io::BufReader::with_capacity(capacity, output.as_bytes());
                super::read_lines(reader, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()));
                assert_eq!(lines, expected, "{output:?}");
            }
        }
    }
}
