//! Checks at the end of a build whether the commands of the image can start: its entry point, or else its default
//! command, and its health check.
//!
//! The files are looked at as the kernel (`execve(2)`, `fs/binfmt_script.c`, `fs/binfmt_elf.c`), the container runtime
//! (search of `PATH`) and the dynamic loader (`ld.so(8)`, musl's `dynlink.c`) look at them. Only what certainly fails is
//! reported: what a volume or the machine may bring is not known here.

mod check_libraries;
mod check_release;
mod command_words;
#[cfg(test)]
mod crafted_elf;
#[cfg(test)]
mod crafted_image;
mod exec_rules;
mod image_files;
mod library_cache;
#[cfg(test)]
mod verdict_tests;

use dram_dockerfile::Diagnostic;
use dram_image::ImageConfig;
use dram_plan::{Plan, PlanStep, StageBase};
use dram_store::{MergedTree, StoreError};

use crate::step_location::StepLocation;
use crate::users::{UserError, resolve_user};
use crate::{LayerProvider, Snapshot};

use exec_rules::CommandChecker;
use image_files::ImageFiles;

/// The instruction that a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandInstruction {
    Entrypoint,
    Cmd,
    Healthcheck,
    User,
}

impl CommandInstruction {
    fn keyword(self) -> &'static str {
        match self {
            CommandInstruction::Entrypoint => "ENTRYPOINT",
            CommandInstruction::Cmd => "CMD",
            CommandInstruction::Healthcheck => "HEALTHCHECK",
            CommandInstruction::User => "USER",
        }
    }
}

/// The reason why a command cannot start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandFault {
    pub(crate) instruction: CommandInstruction,
    pub(crate) reason: FaultReason,
}

/// The reason of a fault, as the end of a sentence, with facts and ways out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FaultReason {
    pub(crate) message: String,
    pub(crate) notes: Vec<String>,
    pub(crate) helps: Vec<String>,
}

impl FaultReason {
    fn new(message: impl Into<String>) -> FaultReason {
        FaultReason { message: message.into(), notes: Vec::new(), helps: Vec::new() }
    }

    fn note(mut self, note: impl Into<String>) -> FaultReason {
        self.notes.push(note.into());
        self
    }

    fn help(mut self, help: impl Into<String>) -> FaultReason {
        self.helps.push(help.into());
        self
    }
}

/// Returns a warning for each command of the image that cannot start, at the instruction that sets it.
///
/// Nothing is fetched for this check: without all layers on the disk the result is empty.
///
/// # Errors
/// Returns an error if a layer cannot be read.
pub(crate) fn check_image(
    provider: &LayerProvider<'_>,
    snapshot: &Snapshot,
    plan: &Plan,
) -> Result<Vec<Diagnostic>, StoreError> {
    let config = &plan.stages[plan.target].config;
    let has_command = [&config.config.entrypoint, &config.config.cmd]
        .iter()
        .any(|words| words.as_ref().is_some_and(|w| !w.is_empty()));
    if !(has_command || config.config.healthcheck.is_some()) || !provider.is_local(&snapshot.layers) {
        return Ok(Vec::new());
    }
    let faults = check_commands(&provider.view(snapshot)?, config)?;
    Ok(faults.into_iter().map(|fault| locate_fault(plan, fault)).collect())
}

/// Checks the commands of an image with the files `tree`. Returns at most one fault for each instruction, and several
/// for the libraries of a release.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub(crate) fn check_commands(tree: &MergedTree, config: &ImageConfig) -> Result<Vec<CommandFault>, StoreError> {
    let settings = &config.config;
    let none = Vec::new();
    let (entrypoint, cmd) = (settings.entrypoint.as_ref().unwrap_or(&none), settings.cmd.as_ref().unwrap_or(&none));
    if config.os != "linux" {
        return Ok(Vec::new());
    }
    let user = match resolve_user(tree, &settings.user) {
        Ok(user) => user,
        Err(UserError::Store(error)) => return Err(error),
        Err(error) if entrypoint.is_empty() && cmd.is_empty() => {
            let _ = error;
            return Ok(Vec::new());
        }
        Err(error) => {
            let help = "create the user in the last stage, or write its number";
            let reason = FaultReason::new(error.to_string()).help(help);
            return Ok(vec![CommandFault { instruction: CommandInstruction::User, reason }]);
        }
    };
    let files = ImageFiles::new(tree, settings, user.ids);
    let checker = CommandChecker { files: &files, architecture: &config.architecture };
    let mut faults = Vec::new();
    let words: Vec<String> = entrypoint.iter().chain(cmd).cloned().collect();
    for (at, reason) in checker.check_words(&words)? {
        let instruction = if at < entrypoint.len() { CommandInstruction::Entrypoint } else { CommandInstruction::Cmd };
        faults.push(CommandFault { instruction, reason });
    }
    let test = settings.healthcheck.as_ref().map(|check| check.test.as_slice()).unwrap_or_default();
    let words = match test.split_first() {
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = settings.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(default);
            shell.into_iter().chain([rest.join(" ")]).collect()
        }
        _ => Vec::new(),
    };
    let of_check = checker.check_words(&words)?;
    let instruction = CommandInstruction::Healthcheck;
    faults.extend(of_check.into_iter().map(|(_, reason)| CommandFault { instruction, reason }));
    Ok(faults)
}

/// Makes a warning at the instruction that sets the command. If a base image sets it, there is no line to show.
fn locate_fault(plan: &Plan, fault: CommandFault) -> Diagnostic {
    let keyword = fault.instruction.keyword();
    let FaultReason { message, notes, helps } = fault.reason;
    let verb = match fault.instruction {
        CommandInstruction::Entrypoint | CommandInstruction::Cmd => "does not start: ",
        CommandInstruction::Healthcheck => "always fails: ",
        CommandInstruction::User => "does not exist: ",
    };
    let mut found = match setting_step(plan, keyword) {
        Some(step) => StepLocation::of(step).warning(format!("the {keyword} of the image {verb}{message}")),
        None => Diagnostic::warning(None, 0..0, format!("the {keyword} of the image {verb}{message}"))
            .note(format!("the {keyword} comes from the base image")),
    };
    found.notes.extend(notes);
    found.helps.extend(helps);
    found
}

/// Returns the last step of the target, or of the stages it is based on, whose keyword is `keyword`.
fn setting_step<'p>(plan: &'p Plan, keyword: &str) -> Option<&'p PlanStep> {
    let mut stage = &plan.stages[plan.target];
    loop {
        let sets = |step: &&PlanStep| {
            step.text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
        };
        if let Some(step) = stage.steps.iter().rev().find(sets) {
            return Some(step);
        }
        match stage.base {
            StageBase::Stage(at) => stage = &plan.stages[at],
            StageBase::Scratch | StageBase::External(_) => return None,
        }
    }
}
