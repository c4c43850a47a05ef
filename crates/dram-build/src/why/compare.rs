//! What is different between the inputs of a step now and those of the last time.

use std::collections::HashMap;

use dram_store::StepKey;

use super::journal::{Outcome, PartNote, StepNote};
use super::secret::{is_secret, shown};
use super::{Cause, Change, files};
use crate::content::Files;
use crate::parts::{Name, Part};

/// What is kept of `part`. Nothing is shown that has one of `secrets` in it.
pub(crate) fn note(part: &Part, secrets: &[String]) -> PartNote {
    let name = part.name.clone();
    let digest = StepKey::of([part.value.as_slice()]);
    match &part.name {
        Name::Variable { name: variable, .. } if is_secret(variable) => PartNote { name, digest: None, shown: None },
        Name::Variable { .. } | Name::Setting(_) => {
            PartNote { name, digest: Some(digest), shown: shown(&part.value, secrets) }
        }
        Name::Method | Name::Command | Name::Files(_) | Name::Source(_) | Name::Below => {
            PartNote { name, digest: Some(digest), shown: None }
        }
    }
}

/// The inputs of a step.
pub(crate) struct Inputs<'a> {
    /// The keys that are made of them.
    pub(crate) keys: Vec<StepKey>,
    /// The parts of these keys, each once.
    pub(crate) parts: Vec<&'a Part>,
    /// What is kept of them.
    pub(crate) notes: Vec<PartNote>,
}

/// What is different in `now`. `list` finds the files that an earlier digest was made of. Causes that need more than
/// the step itself are told without it.
pub(crate) fn causes(old: &StepNote, now: &Inputs<'_>, list: &dyn Fn(&StepKey) -> Option<Files>) -> Vec<Cause> {
    let before: HashMap<[&str; 2], &PartNote> = old.parts.iter().map(|note| (note.name.digested(), note)).collect();
    let mut found = Vec::new();
    let mut source = false;
    for (note, part) in now.notes.iter().zip(&now.parts) {
        let was = before.get(&note.name.digested()).copied();
        let differs = was.is_some_and(|was| matches!((&was.digest, &note.digest), (Some(a), Some(b)) if a != b));
        match &note.name {
            Name::Method if differs => return vec![Cause::Method],
            Name::Command if differs => found.push(Cause::Command),
            Name::Variable { .. } | Name::Setting(_) if differs || was.is_none() => found.extend(value(was, note)),
            Name::Files(target) if differs => found.push(changed(target, was, part, list)),
            Name::Source(target) if differs => source |= !knows_files(&before, target),
            Name::Below if differs => found.push(Cause::Below),
            Name::Method | Name::Command | Name::Variable { .. } | Name::Setting(_) => {}
            Name::Files(_) | Name::Source(_) | Name::Below => {}
        }
    }
    let is_there = |name: &Name| now.notes.iter().any(|note| note.name.digested() == name.digested());
    found.extend(old.parts.iter().filter(|part| !is_there(&part.name)).filter_map(|part| gone(&part.name)));
    if source {
        found.push(Cause::Source { step: None });
    }
    if found.is_empty() {
        found.push(unseen(old, now));
    }
    found.sort_by_key(rank);
    found
}

fn knows_files(parts: &HashMap<[&str; 2], &PartNote>, target: &str) -> bool {
    parts.contains_key(&Name::Files(target.to_owned()).digested())
}

/// A variable or setting that is new or has another value.
fn value(was: Option<&PartNote>, note: &PartNote) -> Option<Cause> {
    let after = note.shown.clone();
    let change = match was {
        Some(was) => Change::Changed { before: was.shown.clone(), after },
        None => Change::New { after },
    };
    cause(&note.name, change)
}

fn gone(name: &Name) -> Option<Cause> {
    cause(name, Change::Gone)
}

fn cause(name: &Name, change: Change) -> Option<Cause> {
    match name {
        Name::Variable { name, is_arg } => {
            Some(Cause::Variable { keyword: keyword(*is_arg).to_owned(), name: name.clone(), change })
        }
        Name::Setting(what) => Some(Cause::Setting { what: what.clone(), change }),
        Name::Method | Name::Command | Name::Files(_) | Name::Source(_) | Name::Below => None,
    }
}

fn keyword(is_arg: bool) -> &'static str {
    if is_arg { "ARG" } else { "ENV" }
}

fn changed(target: &str, was: Option<&PartNote>, part: &Part, list: &dyn Fn(&StepKey) -> Option<Files>) -> Cause {
    let before = was.and_then(|was| list(&was.digest?));
    let (changes, more) = match (before, &part.files) {
        (Some(before), Some(after)) if after.notes.len() == after.count => files::changes(&before, after),
        (_, _) => (Vec::new(), 0),
    };
    Cause::Files { target: target.to_owned(), changes, more }
}

/// Why a step is carried out though no part that is written down differs.
fn unseen(old: &StepNote, now: &Inputs<'_>) -> Cause {
    if old.keys.iter().any(|key| now.keys.contains(key)) {
        return match old.outcome {
            Outcome::Failed => Cause::Failed,
            Outcome::Stopped => Cause::Stopped,
            Outcome::Remembered | Outcome::CarriedOut | Outcome::NotReached | Outcome::Meta => Cause::Gone,
        };
    }
    let order = |parts: &[PartNote]| -> Vec<String> {
        let variables = parts.iter().filter(|part| matches!(part.name, Name::Variable { .. }));
        variables.map(|part| part.name.digested()[1].to_owned()).collect()
    };
    if order(&old.parts) != order(&now.notes) {
        return Cause::Order;
    }
    let hidden = now.notes.iter().filter(|note| note.digest.is_none());
    let names: Vec<String> = hidden
        .filter_map(|note| match &note.name {
            Name::Variable { name, is_arg } => Some(format!("{} {name}", keyword(*is_arg))),
            Name::Method | Name::Command | Name::Setting(_) | Name::Files(_) | Name::Source(_) | Name::Below => None,
        })
        .collect();
    if names.is_empty() { Cause::Inputs } else { Cause::Hidden { names } }
}

/// What explains more comes first.
fn rank(cause: &Cause) -> u8 {
    match cause {
        Cause::NoCache
        | Cause::First { .. }
        | Cause::Unread
        | Cause::Gone
        | Cause::Failed
        | Cause::Stopped
        | Cause::Method => 0,
        Cause::Command => 1,
        Cause::Variable { keyword, .. } if keyword == "ARG" => 2,
        Cause::Variable { .. } | Cause::Order | Cause::Hidden { .. } => 3,
        Cause::Setting { .. } => 4,
        Cause::Files { .. } => 5,
        Cause::Source { .. } => 6,
        Cause::EarlierStep { .. } | Cause::StepGone { .. } | Cause::StageBelow { .. } | Cause::BaseImage { .. } => 7,
        Cause::Below | Cause::Inputs => 8,
    }
}
