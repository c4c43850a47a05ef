//! Translates the scripts of applications into the single script of a relup.
//!
//! The result is that of `systools_rc`. If dependencies allow several orders, `systools` takes the order of a hash
//! table, which differs from run to run; here it is the order of the scripts.

pub mod instruction;
mod order;

use crate::resolve::Mode;
use crate::term::Term;
use instruction::{Change, ChangeKind, Instruction, Purged};
use order::Groups;

/// The reason why the scripts cannot be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RcError {
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
    Before(String),
    /// There are several points of no return.
    #[error("`point_of_no_return` is there more than once")]
    Points,
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
    StillThere(String),
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
    Twice(String),
}

/// The direction of a change: upgrade or downgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// An upgrade to a newer version.
    Up,
    /// A downgrade to the older version.
    Down,
}

/// An application of a release, with the data that a relup needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The application's name.
    pub name: String,
    /// The application's version.
    pub version: String,
    /// The start type.
    pub mode: Mode,
    /// The application's modules.
    pub modules: Vec<String>,
}

/// A script, split at the point of no return.
#[derive(Debug, Default)]
struct Script {
    before: Vec<Instruction>,
    after: Vec<Instruction>,
}

/// Translates the `scripts` that lead from the applications `from` to the applications `to` into one script.
///
/// # Errors
/// See [`RelupScriptError`].
pub fn translate(
    direction: Direction,
    scripts: &[Vec<Instruction>],
    to: &[Application],
    from: &[Application],
) -> Result<Vec<Instruction>, RcError> {
    let mut merged = Script::default();
    for script in scripts {
        let Script { before, after } = split(script)?;
        merged.before.extend(before);
        merged.after.extend(after);
    }
    check(&merged)?;
    let after = applications(merged.after, to, from)?;
    let Script { before, after } = dependent(direction, after, to)?;
    let before = merge_object_code([merged.before, before].concat())?;
    let mut all = restarts(direction, Script { before, after });
    all.before.push(Instruction::PointOfNoReturn);
    all.before.append(&mut all.after);
    Ok(all.before)
}

fn is_object_code(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::LoadObjectCode { .. })
}

/// Splits a script at its point of no return. Without one, only `load_object_code` instructions come before it.
fn split(script: &[Instruction]) -> Result<Script, RcError> {
    let mut halves = script.split(|instruction| *instruction == Instruction::PointOfNoReturn);
    let (first, second) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Err(RcError::Points);
    }
    let (before, after) = second.map_or((&[][..], first), |second| (first, second));
    let is_allowed =
        |instruction: &&Instruction| is_object_code(instruction) || matches!(instruction, Instruction::Apply(_));
    if let Some(other) = before.iter().find(|instruction| !is_allowed(instruction)) {
        return Err(RcError::Before(shown(other)));
    }
    let (code, after): (Vec<_>, Vec<_>) = after.iter().cloned().partition(is_object_code);
    Ok(Script { before: [before, &code].concat(), after })
}

fn shown(instruction: &Instruction) -> String {
    let text = instruction.term().map_or_else(|| format!("{instruction:?}"), |term| term.to_string());
    text.chars().take(120).collect()
}

/// Checks that loaded modules have object code, and that suspended and stopped processes are resumed and started.
fn check(script: &Script) -> Result<(), RcError> {
    let (mut suspended, mut resumed) = (Vec::new(), Vec::new());
    let (mut stopped, mut started) = (Vec::new(), Vec::new());
    for instruction in &script.after {
        match instruction {
            Instruction::Load(code) => {
                let reads = |instruction: &Instruction| match instruction {
                    Instruction::LoadObjectCode { modules, .. } => modules.contains(&code.module),
                    _ => false,
                };
                if !script.before.iter().any(reads) {
                    return Err(RcError::NoObjectCode(code.module.clone()));
                }
            }
            Instruction::Suspend(modules) => suspended.extend(modules.iter().map(|(module, _)| module)),
            Instruction::Resume(modules) => resumed.extend(modules),
            Instruction::Stop(modules) => stopped.extend(modules),
            Instruction::Start(modules) => started.extend(modules),
            _ => {}
        }
    }
    let lacks = |some: &[&String], others: &[&String], error: fn(String) -> RcError| {
        let missing = some.iter().find(|name| !others.contains(name));
        missing.map_or(Ok(()), |name| Err(error((*name).clone())))
    };
    lacks(&suspended, &resumed, RcError::NotResumed)?;
    lacks(&resumed, &suspended, RcError::NotSuspended)?;
    lacks(&started, &stopped, RcError::NotStopped)?;
    lacks(&stopped, &started, RcError::NotStarted)
}

/// Translates instructions for applications into instructions for their modules.
fn applications(
    script: Vec<Instruction>,
    to: &[Application],
    from: &[Application],
) -> Result<Vec<Instruction>, RcError> {
    fn find<'a>(all: &'a [Application], name: &str) -> Result<&'a Application, RcError> {
        all.iter().find(|app| app.name == name).ok_or_else(|| RcError::NoApplication(name.to_owned()))
    }
    let mut done = Vec::new();
    for instruction in script {
        match instruction {
            Instruction::AddApplication(name, mode) => start(&mut done, find(to, &name)?, mode),
            Instruction::RemoveApplication(name) => {
                if to.iter().any(|app| app.name == name) {
                    return Err(RcError::StillThere(name));
                }
                stop(&mut done, find(from, &name)?);
                done.push(call("unload", vec![Term::atom(&name)]));
            }
            Instruction::RestartApplication(name) => {
                let old = find(from, &name)?;
                let new = find(to, &name)?;
                stop(&mut done, old);
                start(&mut done, new, new.mode);
            }
            other => done.push(other),
        }
    }
    Ok(done)
}

fn call(function: &str, arguments: Vec<Term>) -> Instruction {
    Instruction::Apply(Term::tuple([Term::atom("application"), Term::atom(function), Term::List(arguments)]))
}

fn start(script: &mut Vec<Instruction>, app: &Application, mode: Mode) {
    script.extend(app.modules.iter().map(|module| Instruction::Change(Change::load(module))));
    let name = Term::atom(&app.name);
    match mode {
        Mode::None => {}
        Mode::Load => script.push(call("load", vec![name])),
        Mode::Temporary | Mode::Transient | Mode::Permanent => {
            script.push(call("start", vec![name, Term::atom(mode.name())]));
        }
    }
}

fn stop(script: &mut Vec<Instruction>, app: &Application) {
    script.push(call("stop", vec![Term::atom(&app.name)]));
    script.extend(app.modules.iter().map(|module| Instruction::Remove(Purged::brutally(module))));
    script.push(Instruction::Purge(app.modules.clone()));
}

/// Translates instructions for modules into low-level instructions in dependency order. Each group goes to the position
/// of its first instruction.
fn dependent(direction: Direction, script: Vec<Instruction>, to: &[Application]) -> Result<Script, RcError> {
    let change = |instruction: &Instruction| match instruction {
        Instruction::Change(change) => Some(change.clone()),
        _ => None,
    };
    let mut groups = Groups::of(script.iter().filter_map(change).collect())?;
    let mut done = Script::default();
    for instruction in script {
        match instruction {
            Instruction::Change(change) => {
                let group = groups.take(&change.code.module);
                if !group.is_empty() {
                    change_group(direction, &group, to, &mut done)?;
                }
            }
            other => done.after.push(other),
        }
    }
    Ok(done)
}

fn change_group(direction: Direction, group: &[Change], to: &[Application], done: &mut Script) -> Result<(), RcError> {
    let (mut suspended, mut dynamic, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let mut still = Vec::new();
    for Change { code, kind, .. } in group {
        let module = code.module.clone();
        if let ChangeKind::Update { is_static, timeout, advanced } = kind {
            suspended.push((module.clone(), timeout.clone()));
            if let Some(extra) = advanced {
                let part = if *is_static { &mut still } else { &mut dynamic };
                part.push((module.clone(), extra.clone()));
                all.push((module.clone(), extra.clone()));
            }
        }
        if *kind != ChangeKind::Delete {
            let app = to.iter().find(|app| app.modules.contains(&module));
            let app = app.ok_or_else(|| RcError::NoModule(module.clone()))?;
            let (library, version) = (app.name.clone(), Term::string(&app.version));
            done.before.push(Instruction::LoadObjectCode { library, version, modules: vec![module] });
        }
    }
    let code = |change: &Change| match change.kind {
        ChangeKind::Update { .. } | ChangeKind::Load => vec![Instruction::Load(change.code.clone())],
        ChangeKind::Delete => {
            let module = change.code.module.clone();
            vec![Instruction::Remove(Purged::brutally(&module)), Instruction::Purge(vec![module])]
        }
    };
    let code_change = |changes: Vec<(String, Term)>| {
        let is_down = direction == Direction::Down;
        (!changes.is_empty()).then_some(Instruction::CodeChange(Some(is_down), changes))
    };
    let resumed: Vec<_> = suspended.iter().rev().map(|(module, _)| module.clone()).collect();
    let is_update = !suspended.is_empty();
    done.after.extend(is_update.then_some(Instruction::Suspend(suspended)));
    match direction {
        Direction::Up => {
            done.after.extend(group.iter().rev().flat_map(code));
            done.after.extend(code_change(all));
        }
        Direction::Down => {
            // The newer code converts its own state; for a static module, the older code does, after it was loaded.
            done.after.extend(code_change(dynamic));
            done.after.extend(group.iter().flat_map(code));
            done.after.extend(code_change(still));
        }
    }
    done.after.extend(is_update.then_some(Instruction::Resume(resumed)));
    Ok(())
}

/// Merges the `load_object_code` instructions of each library into one. All other instructions follow.
fn merge_object_code(before: Vec<Instruction>) -> Result<Vec<Instruction>, RcError> {
    type Read = (String, Term, Vec<Vec<String>>);
    let mut libraries: Vec<Read> = Vec::new();
    let mut others = Vec::new();
    for instruction in before {
        match instruction {
            Instruction::LoadObjectCode { library, version, modules } => {
                match libraries.iter_mut().find(|(name, ..)| *name == library) {
                    None => libraries.push((library, version, vec![modules])),
                    Some((_, known, parts)) if *known == version => parts.push(modules),
                    Some(_) => return Err(RcError::TwoVersions(library)),
                }
            }
            other => others.push(other),
        }
    }
    let merged = libraries.into_iter().map(|(library, version, parts)| {
        // If a module is listed twice, the last position counts.
        let modules = parts.into_iter().rev().fold(Vec::new(), |known: Vec<String>, part| {
            let new = part.into_iter().filter(|module| !known.contains(module)).collect::<Vec<_>>();
            [new, known].concat()
        });
        Instruction::LoadObjectCode { library, version, modules }
    });
    Ok(merged.chain(others).collect())
}

/// Moves emulator restarts: `restart_new_emulator` comes first in an upgrade; in a downgrade, and for
/// `restart_emulator`, the restart comes last.
fn restarts(direction: Direction, mut script: Script) -> Script {
    let new = |instruction: &Instruction| *instruction == Instruction::RestartNewEmulator;
    let same = |instruction: &Instruction| *instruction == Instruction::RestartEmulator;
    if script.after.iter().any(new) {
        script.after.retain(|instruction| !new(instruction));
        match direction {
            Direction::Up => script.before.insert(0, Instruction::RestartNewEmulator),
            Direction::Down => script.after.push(Instruction::RestartEmulator),
        }
    }
    if script.after.iter().any(same) {
        script.after.retain(|instruction| !same(instruction));
        script.after.push(Instruction::RestartEmulator);
    }
    script
}
