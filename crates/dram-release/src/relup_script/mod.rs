//! Translates the scripts of applications into the single script of a relup.
//!
//! The result is that of `systools_rc`. If dependencies allow several orders, `systools` takes the order of a hash
//! table, which differs from run to run; here it is the order of the scripts.

pub mod instruction;
mod instruction_order;

use crate::resolve::StartType;
use crate::term::Term;
use instruction::{ModuleChange, ModuleChangeKind, ModulePurge, UpgradeInstruction};
use instruction_order::DependencyGroups;

/// The reason why the scripts cannot be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelupScriptError {
    /// An instruction is invalid.
    #[error("`{shown}`: {why}")]
    Instruction {
        /// The instruction, truncated for the message.
        shown: String,
        /// The reason.
        why: &'static str,
    },
    /// An instruction other than `load_object_code` and `apply` is before the point of no return.
    #[error("`{0}` cannot come before `point_of_no_return`")]
    BeforePointOfNoReturn(String),
    /// There are several points of no return.
    #[error("`point_of_no_return` is there more than once")]
    SeveralPointsOfNoReturn,
    /// A module is loaded without `load_object_code`.
    #[error("`{0}` is loaded, and no `load_object_code` reads it")]
    NoObjectCode(String),
    /// Processes are suspended and not resumed.
    #[error("`{0}` is suspended and not resumed")]
    NotResumed(String),
    /// Processes are resumed and were not suspended.
    #[error("`{0}` is resumed and not suspended")]
    NotSuspended(String),
    /// Processes are started and were not stopped.
    #[error("`{0}` is started and not stopped")]
    NotStopped(String),
    /// Processes are stopped and not started again.
    #[error("`{0}` is stopped and not started")]
    NotStarted(String),
    /// The release has no such application.
    #[error("there is no application `{0}` in the release")]
    NoApplication(String),
    /// An application is removed, but the new release contains it.
    #[error("`{0}` is removed, and the release has it")]
    RemovedApplicationPresent(String),
    /// Object code is loaded from two versions of a library.
    #[error("code is read from two versions of `{0}`")]
    TwoVersions(String),
    /// No application of the release lists the module.
    #[error("the module `{0}` is in no application of the release")]
    NoModule(String),
    /// A module depends on a module that has no instruction.
    #[error("something depends on the module `{0}`, for which there is no instruction")]
    NoInstruction(String),
    /// There are several instructions for one module.
    #[error("there are several instructions for the module `{0}`")]
    DuplicateInstruction(String),
}

/// The direction of a change: upgrade or downgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeDirection {
    /// An upgrade to a newer version.
    Up,
    /// A downgrade to the older version.
    Down,
}

/// An application of a release, with the data that a relup needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelupApp {
    /// The application's name.
    pub name: String,
    /// The application's version.
    pub version: String,
    /// The start type.
    pub mode: StartType,
    /// The application's modules.
    pub modules: Vec<String>,
}

/// A script, split at the point of no return.
#[derive(Debug, Default)]
struct SplitScript {
    before: Vec<UpgradeInstruction>,
    after: Vec<UpgradeInstruction>,
}

/// Translates the `scripts` that lead from the applications `from` to the applications `to` into one script.
///
/// # Errors
/// See [`RelupScriptError`].
pub fn translate_scripts(
    direction: UpgradeDirection,
    scripts: &[Vec<UpgradeInstruction>],
    to: &[RelupApp],
    from: &[RelupApp],
) -> Result<Vec<UpgradeInstruction>, RelupScriptError> {
    let mut merged = SplitScript::default();
    for script in scripts {
        let SplitScript { before, after } = split_script(script)?;
        merged.before.extend(before);
        merged.after.extend(after);
    }
    check_script(&merged)?;
    let after = translate_applications(merged.after, to, from)?;
    let SplitScript { before, after } = translate_module_changes(direction, after, to)?;
    let before = merge_object_code([merged.before, before].concat())?;
    let mut all = move_restarts(direction, SplitScript { before, after });
    all.before.push(UpgradeInstruction::PointOfNoReturn);
    all.before.append(&mut all.after);
    Ok(all.before)
}

fn is_object_code(instruction: &UpgradeInstruction) -> bool {
    matches!(instruction, UpgradeInstruction::LoadObjectCode { .. })
}

/// Splits a script at its point of no return. Without one, only `load_object_code` instructions come before it.
fn split_script(script: &[UpgradeInstruction]) -> Result<SplitScript, RelupScriptError> {
    let mut halves = script.split(|instruction| *instruction == UpgradeInstruction::PointOfNoReturn);
    let (first, second) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Err(RelupScriptError::SeveralPointsOfNoReturn);
    }
    let (before, after) = second.map_or((&[][..], first), |second| (first, second));
    let is_allowed = |instruction: &&UpgradeInstruction| {
        is_object_code(instruction) || matches!(instruction, UpgradeInstruction::Apply(_))
    };
    if let Some(other) = before.iter().find(|instruction| !is_allowed(instruction)) {
        return Err(RelupScriptError::BeforePointOfNoReturn(shown_instruction(other)));
    }
    let (code, after): (Vec<_>, Vec<_>) = after.iter().cloned().partition(is_object_code);
    Ok(SplitScript { before: [before, &code].concat(), after })
}

fn shown_instruction(instruction: &UpgradeInstruction) -> String {
    instruction.shown_term().to_string().chars().take(120).collect()
}

/// Checks that loaded modules have object code, and that suspended and stopped processes are resumed and started.
fn check_script(script: &SplitScript) -> Result<(), RelupScriptError> {
    let (mut suspended, mut resumed) = (Vec::new(), Vec::new());
    let (mut stopped, mut started) = (Vec::new(), Vec::new());
    for instruction in &script.after {
        match instruction {
            UpgradeInstruction::Load(code) => {
                let reads = |instruction: &UpgradeInstruction| match instruction {
                    UpgradeInstruction::LoadObjectCode { modules, .. } => modules.contains(&code.module),
                    UpgradeInstruction::Change(_)
                    | UpgradeInstruction::AddApplication(..)
                    | UpgradeInstruction::RemoveApplication(_)
                    | UpgradeInstruction::RestartApplication(_)
                    | UpgradeInstruction::PointOfNoReturn
                    | UpgradeInstruction::Load(_)
                    | UpgradeInstruction::Remove(_)
                    | UpgradeInstruction::Purge(_)
                    | UpgradeInstruction::Suspend(_)
                    | UpgradeInstruction::Resume(_)
                    | UpgradeInstruction::CodeChange(..)
                    | UpgradeInstruction::Stop(_)
                    | UpgradeInstruction::Start(_)
                    | UpgradeInstruction::SyncNodes(..)
                    | UpgradeInstruction::Apply(_)
                    | UpgradeInstruction::RestartNewEmulator
                    | UpgradeInstruction::RestartEmulator => false,
                };
                if !script.before.iter().any(reads) {
                    return Err(RelupScriptError::NoObjectCode(code.module.clone()));
                }
            }
            UpgradeInstruction::Suspend(modules) => suspended.extend(modules.iter().map(|(module, _)| module)),
            UpgradeInstruction::Resume(modules) => resumed.extend(modules),
            UpgradeInstruction::Stop(modules) => stopped.extend(modules),
            UpgradeInstruction::Start(modules) => started.extend(modules),
            UpgradeInstruction::Change(_)
            | UpgradeInstruction::AddApplication(..)
            | UpgradeInstruction::RemoveApplication(_)
            | UpgradeInstruction::RestartApplication(_)
            | UpgradeInstruction::LoadObjectCode { .. }
            | UpgradeInstruction::PointOfNoReturn
            | UpgradeInstruction::Remove(_)
            | UpgradeInstruction::Purge(_)
            | UpgradeInstruction::CodeChange(..)
            | UpgradeInstruction::SyncNodes(..)
            | UpgradeInstruction::Apply(_)
            | UpgradeInstruction::RestartNewEmulator
            | UpgradeInstruction::RestartEmulator => {}
        }
    }
    let lacks = |some: &[&String], others: &[&String], error: fn(String) -> RelupScriptError| {
        let missing = some.iter().find(|name| !others.contains(name));
        missing.map_or(Ok(()), |name| Err(error((*name).clone())))
    };
    lacks(&suspended, &resumed, RelupScriptError::NotResumed)?;
    lacks(&resumed, &suspended, RelupScriptError::NotSuspended)?;
    lacks(&started, &stopped, RelupScriptError::NotStopped)?;
    lacks(&stopped, &started, RelupScriptError::NotStarted)
}

/// Translates instructions for applications into instructions for their modules.
fn translate_applications(
    script: Vec<UpgradeInstruction>,
    to: &[RelupApp],
    from: &[RelupApp],
) -> Result<Vec<UpgradeInstruction>, RelupScriptError> {
    fn find<'a>(all: &'a [RelupApp], name: &str) -> Result<&'a RelupApp, RelupScriptError> {
        all.iter().find(|app| app.name == name).ok_or_else(|| RelupScriptError::NoApplication(name.to_owned()))
    }
    let mut done = Vec::new();
    for instruction in script {
        match instruction {
            UpgradeInstruction::AddApplication(name, mode) => push_start(&mut done, find(to, &name)?, mode),
            UpgradeInstruction::RemoveApplication(name) => {
                if to.iter().any(|app| app.name == name) {
                    return Err(RelupScriptError::RemovedApplicationPresent(name));
                }
                push_stop(&mut done, find(from, &name)?);
                done.push(application_call("unload", vec![Term::atom(&name)]));
            }
            UpgradeInstruction::RestartApplication(name) => {
                let old = find(from, &name)?;
                let new = find(to, &name)?;
                push_stop(&mut done, old);
                push_start(&mut done, new, new.mode);
            }
            other @ (UpgradeInstruction::Change(_)
            | UpgradeInstruction::LoadObjectCode { .. }
            | UpgradeInstruction::PointOfNoReturn
            | UpgradeInstruction::Load(_)
            | UpgradeInstruction::Remove(_)
            | UpgradeInstruction::Purge(_)
            | UpgradeInstruction::Suspend(_)
            | UpgradeInstruction::Resume(_)
            | UpgradeInstruction::CodeChange(..)
            | UpgradeInstruction::Stop(_)
            | UpgradeInstruction::Start(_)
            | UpgradeInstruction::SyncNodes(..)
            | UpgradeInstruction::Apply(_)
            | UpgradeInstruction::RestartNewEmulator
            | UpgradeInstruction::RestartEmulator) => done.push(other),
        }
    }
    Ok(done)
}

fn application_call(function: &str, arguments: Vec<Term>) -> UpgradeInstruction {
    UpgradeInstruction::Apply(Term::tuple([Term::atom("application"), Term::atom(function), Term::List(arguments)]))
}

fn push_start(script: &mut Vec<UpgradeInstruction>, app: &RelupApp, mode: StartType) {
    script.extend(app.modules.iter().map(|module| UpgradeInstruction::Change(ModuleChange::load(module))));
    let name = Term::atom(&app.name);
    match mode {
        StartType::None => {}
        StartType::Load => script.push(application_call("load", vec![name])),
        StartType::Temporary | StartType::Transient | StartType::Permanent => {
            script.push(application_call("start", vec![name, Term::atom(mode.name())]));
        }
    }
}

fn push_stop(script: &mut Vec<UpgradeInstruction>, app: &RelupApp) {
    script.push(application_call("stop", vec![Term::atom(&app.name)]));
    script.extend(app.modules.iter().map(|module| UpgradeInstruction::Remove(ModulePurge::brutal(module))));
    script.push(UpgradeInstruction::Purge(app.modules.clone()));
}

/// Translates instructions for modules into low-level instructions in dependency order. Each group goes to the position
/// of its first instruction.
fn translate_module_changes(
    direction: UpgradeDirection,
    script: Vec<UpgradeInstruction>,
    to: &[RelupApp],
) -> Result<SplitScript, RelupScriptError> {
    let change = |instruction: &UpgradeInstruction| match instruction {
        UpgradeInstruction::Change(change) => Some(change.clone()),
        UpgradeInstruction::AddApplication(..)
        | UpgradeInstruction::RemoveApplication(_)
        | UpgradeInstruction::RestartApplication(_)
        | UpgradeInstruction::LoadObjectCode { .. }
        | UpgradeInstruction::PointOfNoReturn
        | UpgradeInstruction::Load(_)
        | UpgradeInstruction::Remove(_)
        | UpgradeInstruction::Purge(_)
        | UpgradeInstruction::Suspend(_)
        | UpgradeInstruction::Resume(_)
        | UpgradeInstruction::CodeChange(..)
        | UpgradeInstruction::Stop(_)
        | UpgradeInstruction::Start(_)
        | UpgradeInstruction::SyncNodes(..)
        | UpgradeInstruction::Apply(_)
        | UpgradeInstruction::RestartNewEmulator
        | UpgradeInstruction::RestartEmulator => None,
    };
    let mut groups = DependencyGroups::from_changes(script.iter().filter_map(change).collect())?;
    let mut done = SplitScript::default();
    for instruction in script {
        match instruction {
            UpgradeInstruction::Change(change) => {
                let group = groups.take_group(&change.code.module);
                if !group.is_empty() {
                    translate_group(direction, &group, to, &mut done)?;
                }
            }
            other @ (UpgradeInstruction::AddApplication(..)
            | UpgradeInstruction::RemoveApplication(_)
            | UpgradeInstruction::RestartApplication(_)
            | UpgradeInstruction::LoadObjectCode { .. }
            | UpgradeInstruction::PointOfNoReturn
            | UpgradeInstruction::Load(_)
            | UpgradeInstruction::Remove(_)
            | UpgradeInstruction::Purge(_)
            | UpgradeInstruction::Suspend(_)
            | UpgradeInstruction::Resume(_)
            | UpgradeInstruction::CodeChange(..)
            | UpgradeInstruction::Stop(_)
            | UpgradeInstruction::Start(_)
            | UpgradeInstruction::SyncNodes(..)
            | UpgradeInstruction::Apply(_)
            | UpgradeInstruction::RestartNewEmulator
            | UpgradeInstruction::RestartEmulator) => done.after.push(other),
        }
    }
    Ok(done)
}

fn translate_group(
    direction: UpgradeDirection,
    group: &[ModuleChange],
    to: &[RelupApp],
    done: &mut SplitScript,
) -> Result<(), RelupScriptError> {
    let (mut suspended, mut dynamic, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let mut still = Vec::new();
    for ModuleChange { code, kind, .. } in group {
        let module = code.module.clone();
        if let ModuleChangeKind::Update { is_static, timeout, advanced } = kind {
            suspended.push((module.clone(), timeout.clone()));
            if let Some(extra) = advanced {
                let part = if *is_static { &mut still } else { &mut dynamic };
                part.push((module.clone(), extra.clone()));
                all.push((module.clone(), extra.clone()));
            }
        }
        if *kind != ModuleChangeKind::Delete {
            let app = to.iter().find(|app| app.modules.contains(&module));
            let app = app.ok_or_else(|| RelupScriptError::NoModule(module.clone()))?;
            let (library, version) = (app.name.clone(), Term::string(&app.version));
            done.before.push(UpgradeInstruction::LoadObjectCode { library, version, modules: vec![module] });
        }
    }
    let code = |change: &ModuleChange| match change.kind {
        ModuleChangeKind::Update { .. } | ModuleChangeKind::Load => vec![UpgradeInstruction::Load(change.code.clone())],
        ModuleChangeKind::Delete => {
            let module = change.code.module.clone();
            vec![UpgradeInstruction::Remove(ModulePurge::brutal(&module)), UpgradeInstruction::Purge(vec![module])]
        }
    };
    let code_change = |changes: Vec<(String, Term)>| {
        let is_down = direction == UpgradeDirection::Down;
        (!changes.is_empty()).then_some(UpgradeInstruction::CodeChange(Some(is_down), changes))
    };
    let resumed: Vec<_> = suspended.iter().rev().map(|(module, _)| module.clone()).collect();
    let is_update = !suspended.is_empty();
    done.after.extend(is_update.then_some(UpgradeInstruction::Suspend(suspended)));
    match direction {
        UpgradeDirection::Up => {
            done.after.extend(group.iter().rev().flat_map(code));
            done.after.extend(code_change(all));
        }
        UpgradeDirection::Down => {
            // The newer code converts its own state; for a static module, the older code does, after it was loaded.
            done.after.extend(code_change(dynamic));
            done.after.extend(group.iter().flat_map(code));
            done.after.extend(code_change(still));
        }
    }
    done.after.extend(is_update.then_some(UpgradeInstruction::Resume(resumed)));
    Ok(())
}

/// Merges the `load_object_code` instructions of each library into one. All other instructions follow.
fn merge_object_code(before: Vec<UpgradeInstruction>) -> Result<Vec<UpgradeInstruction>, RelupScriptError> {
    type LibraryCode = (String, Term, Vec<Vec<String>>);
    let mut libraries: Vec<LibraryCode> = Vec::new();
    let mut others = Vec::new();
    for instruction in before {
        match instruction {
            UpgradeInstruction::LoadObjectCode { library, version, modules } => {
                match libraries.iter_mut().find(|(name, ..)| *name == library) {
                    None => libraries.push((library, version, vec![modules])),
                    Some((_, known, parts)) if *known == version => parts.push(modules),
                    Some(_) => return Err(RelupScriptError::TwoVersions(library)),
                }
            }
            other @ (UpgradeInstruction::Change(_)
            | UpgradeInstruction::AddApplication(..)
            | UpgradeInstruction::RemoveApplication(_)
            | UpgradeInstruction::RestartApplication(_)
            | UpgradeInstruction::PointOfNoReturn
            | UpgradeInstruction::Load(_)
            | UpgradeInstruction::Remove(_)
            | UpgradeInstruction::Purge(_)
            | UpgradeInstruction::Suspend(_)
            | UpgradeInstruction::Resume(_)
            | UpgradeInstruction::CodeChange(..)
            | UpgradeInstruction::Stop(_)
            | UpgradeInstruction::Start(_)
            | UpgradeInstruction::SyncNodes(..)
            | UpgradeInstruction::Apply(_)
            | UpgradeInstruction::RestartNewEmulator
            | UpgradeInstruction::RestartEmulator) => others.push(other),
        }
    }
    let merged = libraries.into_iter().map(|(library, version, parts)| {
        // If a module is listed twice, the last position counts.
        let modules = parts.into_iter().rev().fold(Vec::new(), |known: Vec<String>, part| {
            let new = part.into_iter().filter(|module| !known.contains(module)).collect::<Vec<_>>();
            [new, known].concat()
        });
        UpgradeInstruction::LoadObjectCode { library, version, modules }
    });
    Ok(merged.chain(others).collect())
}

/// Moves emulator restarts: `restart_new_emulator` comes first in an upgrade; in a downgrade, and for
/// `restart_emulator`, the restart comes last.
fn move_restarts(direction: UpgradeDirection, mut script: SplitScript) -> SplitScript {
    let new = |instruction: &UpgradeInstruction| *instruction == UpgradeInstruction::RestartNewEmulator;
    let same = |instruction: &UpgradeInstruction| *instruction == UpgradeInstruction::RestartEmulator;
    if script.after.iter().any(new) {
        script.after.retain(|instruction| !new(instruction));
        match direction {
            UpgradeDirection::Up => script.before.insert(0, UpgradeInstruction::RestartNewEmulator),
            UpgradeDirection::Down => script.after.push(UpgradeInstruction::RestartEmulator),
        }
    }
    if script.after.iter().any(same) {
        script.after.retain(|instruction| !same(instruction));
        script.after.push(UpgradeInstruction::RestartEmulator);
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consult::parse_one;

    #[test]
    fn an_instruction_before_the_point_of_no_return_is_shown_as_it_is_written() {
        for (instruction, shown) in [
            ("{update,m,{advanced,[]},[other]}", "{update,m}"),
            ("{load_module,m}", "{load_module,m}"),
            ("{delete_module,m}", "{delete_module,m}"),
            ("{add_application,app}", "{add_application,app,permanent}"),
            ("{remove_application,app}", "{remove_application,app}"),
            ("{restart_application,app}", "{restart_application,app}"),
            ("{suspend,[m]}", "{suspend,[m]}"),
        ] {
            let script = parse_one(format!("[{instruction},point_of_no_return]").as_bytes()).unwrap();
            let script = instruction::read_script(&script).unwrap();
            let Err(error) = split_script(&script) else { panic!("{instruction} is allowed") };
            assert_eq!(error.to_string(), format!("`{shown}` cannot come before `point_of_no_return`"));
        }
    }
}
