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
            Outcome::Remembered | Outcome::Shared | Outcome::CarriedOut | Outcome::NotReached | Outcome::Meta => {
                Cause::Gone
            }
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
        Cause::NoCache { .. }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Snapshot;
    use crate::parts::Parts;
    use crate::why::Why;

    fn variable(name: &str, is_arg: bool) -> Name {
        Name::Variable { name: name.to_owned(), is_arg }
    }

    /// The sentence for a step that was `old` and is `new`, and ended with `outcome` the last time.
    fn told(old: Parts, new: Parts, outcome: Outcome) -> String {
        let below = Snapshot::default();
        let (old, new) = (old.on(&below), new.on(&below));
        let before = StepNote {
            line: 1,
            text: String::new(),
            outcome,
            millis: None,
            why: Why::default(),
            left: None,
            keys: vec![old.id],
            parts: old.parts.iter().map(|part| note(part, &[])).collect(),
        };
        let parts: Vec<&Part> = new.parts.iter().collect();
        let notes = parts.iter().map(|part| note(part, &[])).collect();
        let causes = causes(&before, &Inputs { keys: vec![new.id], parts, notes }, &|_| None);
        Why { causes }.to_string()
    }

    #[test]
    fn what_cannot_be_seen_in_the_parts_is_told_with_care() {
        let run = || Parts::new("run 1");
        let with = |all: &[(&str, &str)]| {
            all.iter().fold(run(), |parts, (name, value)| parts.with(variable(name, true), value.as_bytes()))
        };
        let done = Outcome::CarriedOut;
        let table = [
            (with(&[("A", "1")]), with(&[("A", "1")]), done, "its result is no longer in the store"),
            (with(&[("A", "1")]), with(&[("A", "1")]), Outcome::Failed, "it failed the last time"),
            (with(&[("A", "1")]), with(&[("A", "1")]), Outcome::Stopped, "it was interrupted the last time"),
            (
                with(&[("A", "1"), ("B", "2")]),
                with(&[("B", "2"), ("A", "1")]),
                done,
                "the order of the variables changed",
            ),
            (with(&[("TOKEN", "1")]), with(&[("TOKEN", "2")]), done, "ARG TOKEN changed"),
            (
                with(&[("TOKEN", "1"), ("MY_SECRET", "1")]),
                with(&[("TOKEN", "2"), ("MY_SECRET", "1")]),
                done,
                "one of ARG TOKEN, ARG MY_SECRET changed",
            ),
            // Whether the hidden one changed too is not known, and not told.
            (with(&[("TOKEN", "1"), ("A", "1")]), with(&[("TOKEN", "2"), ("A", "2")]), done, "ARG A 1 → 2"),
            (with(&[]), with(&[("TOKEN", "2")]), done, "ARG TOKEN is new"),
            (with(&[("A", "1")]), with(&[("A", &"x".repeat(81))]), done, "ARG A changed"),
            (run(), Parts::new("run 2").setting("a", "b"), done, "another version of dram did it the last time"),
            (
                with(&[("A", "1"), ("B", "1"), ("C", "1")]),
                with(&[("A", "2"), ("B", "2"), ("C", "2")]),
                done,
                "ARG A 1 → 2; ARG B 1 → 2; 1 more",
            ),
        ];
        for (old, new, outcome, want) in table {
            assert_eq!(told(old, new, outcome), want);
        }
    }

    #[test]
    fn a_source_counts_only_where_its_files_are_not_known() {
        let copy = || Parts::new("copy 1");
        let source = |parts: Parts, value: &str| parts.with(Name::Source(String::new()), value.as_bytes());
        let files = |parts: Parts, value: &str| parts.with(Name::Files(String::new()), value.as_bytes());
        let done = Outcome::CarriedOut;
        assert_eq!(told(source(copy(), "1"), source(copy(), "2"), done), "what it copies from changed");
        let (old, new) = (files(source(copy(), "1"), "1"), files(source(copy(), "2"), "2"));
        assert_eq!(told(old, new, done), "the files changed");
    }

    #[test]
    fn an_arg_that_becomes_an_env_with_the_same_value_is_the_same() {
        let of = |is_arg, value: &str| Parts::new("run 1").with(variable("A", is_arg), value.as_bytes());
        assert_eq!(told(of(true, "1"), of(false, "2"), Outcome::CarriedOut), "ENV A 1 → 2");
        assert_eq!(told(of(true, "1"), of(false, "1"), Outcome::CarriedOut), "its result is no longer in the store");
    }
}
