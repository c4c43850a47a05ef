//! Compares the inputs of a step with those of the last build.

use std::collections::HashMap;

use dram_store::StepKey;

use super::journal::{Outcome, PartNote, StepNote};
use super::secret::{is_secret, shown};
use super::{Cause, Change, files};
use crate::content::Files;
use crate::parts::{Name, Part};

/// Returns the journal entry of `part`. Values that contain one of `secrets` are not recorded.
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
    /// The cache keys that cover them.
    pub(crate) keys: Vec<StepKey>,
    /// The parts of these keys, each once.
    pub(crate) parts: Vec<&'a Part>,
    /// The journal entries of the parts.
    pub(crate) notes: Vec<PartNote>,
}

/// Returns the causes of a cache miss: the differences of `now` from `old`. `list` finds the file list that an earlier
/// digest was computed from. Causes that depend on other steps are returned without that step.
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

/// Returns the cause for a variable or setting that is new or has a new value.
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

/// Returns the cause of a cache miss if no recorded part differs.
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

/// Returns the rank of a cause: the one that explains most comes first.
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

    /// Returns the sentence for a step that had the parts `old` and `outcome` in the last build, and has the parts
    /// `new` now.
    fn explain(old: Parts, new: Parts, outcome: Outcome) -> String {
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
    fn causes_that_no_recorded_part_shows_are_explained() {
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
            // It is unknown whether the hidden variable changed too, so it is not mentioned.
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
            assert_eq!(explain(old, new, outcome), want);
        }
    }

    #[test]
    fn source_is_a_cause_only_if_its_files_are_unknown() {
        let copy = || Parts::new("copy 1");
        let source = |parts: Parts, value: &str| parts.with(Name::Source(String::new()), value.as_bytes());
        let files = |parts: Parts, value: &str| parts.with(Name::Files(String::new()), value.as_bytes());
        let done = Outcome::CarriedOut;
        assert_eq!(explain(source(copy(), "1"), source(copy(), "2"), done), "what it copies from changed");
        let (old, new) = (files(source(copy(), "1"), "1"), files(source(copy(), "2"), "2"));
        assert_eq!(explain(old, new, done), "the files changed");
    }

    #[test]
    fn arg_that_becomes_an_env_with_the_same_value_is_no_change() {
        let of = |is_arg, value: &str| Parts::new("run 1").with(variable("A", is_arg), value.as_bytes());
        assert_eq!(explain(of(true, "1"), of(false, "2"), Outcome::CarriedOut), "ENV A 1 → 2");
        assert_eq!(explain(of(true, "1"), of(false, "1"), Outcome::CarriedOut), "its result is no longer in the store");
    }
}
