//! Compares the inputs of a step with those of the last build.

use std::collections::HashMap;

use dram_store::StepKey;

use super::journal::{JournalPart, JournalStep, StepOutcome};
use super::redact::{is_secret, recordable_value};
use super::{MissCause, ValueChange, file_list};
use crate::cache_key_parts::{CacheKeyPart, CacheKeyPartName};
use crate::content_digest::FileList;

/// Returns the journal entry of `part`. Values that contain one of `secrets` are not recorded.
pub(crate) fn journal_part(part: &CacheKeyPart, secrets: &[String]) -> JournalPart {
    let name = part.name.clone();
    let digest = StepKey::of([part.value.as_slice()]);
    match &part.name {
        CacheKeyPartName::Variable { name: variable, .. } if is_secret(variable) => {
            JournalPart { name, digest: None, shown: None }
        }
        CacheKeyPartName::Variable { .. } | CacheKeyPartName::Setting(_) => {
            JournalPart { name, digest: Some(digest), shown: recordable_value(&part.value, secrets) }
        }
        CacheKeyPartName::Method
        | CacheKeyPartName::Command
        | CacheKeyPartName::Files(_)
        | CacheKeyPartName::Source(_)
        | CacheKeyPartName::Below => JournalPart { name, digest: Some(digest), shown: None },
    }
}

/// The inputs of a step.
pub(crate) struct StepInputs<'a> {
    /// The cache keys that cover them.
    pub(crate) keys: Vec<StepKey>,
    /// The parts of these keys, each once.
    pub(crate) parts: Vec<&'a CacheKeyPart>,
    /// The journal entries of the parts.
    pub(crate) notes: Vec<JournalPart>,
}

/// Returns the causes of a cache miss: the differences of `now` from `old`. `list` finds the file list that an earlier
/// digest was computed from. Causes that depend on other steps are returned without that step.
pub(crate) fn miss_causes(
    old: &JournalStep,
    now: &StepInputs<'_>,
    list: &dyn Fn(&StepKey) -> Option<FileList>,
) -> Vec<MissCause> {
    let before: HashMap<[&str; 2], &JournalPart> =
        old.parts.iter().map(|note| (note.name.digest_fields(), note)).collect();
    let mut found = Vec::new();
    let mut source = false;
    for (note, part) in now.notes.iter().zip(&now.parts) {
        let was = before.get(&note.name.digest_fields()).copied();
        let differs = was.is_some_and(|was| matches!((&was.digest, &note.digest), (Some(a), Some(b)) if a != b));
        match &note.name {
            CacheKeyPartName::Method if differs => return vec![MissCause::Method],
            CacheKeyPartName::Command if differs => found.push(MissCause::Command),
            CacheKeyPartName::Variable { .. } | CacheKeyPartName::Setting(_) if differs || was.is_none() => {
                found.extend(value_changed(was, note));
            }
            CacheKeyPartName::Files(target) if differs => found.push(files_changed(target, was, part, list)),
            CacheKeyPartName::Source(target) if differs => source |= !knows_files(&before, target),
            CacheKeyPartName::Below if differs => found.push(MissCause::Below),
            CacheKeyPartName::Method
            | CacheKeyPartName::Command
            | CacheKeyPartName::Variable { .. }
            | CacheKeyPartName::Setting(_) => {}
            CacheKeyPartName::Files(_) | CacheKeyPartName::Source(_) | CacheKeyPartName::Below => {}
        }
    }
    let is_there =
        |name: &CacheKeyPartName| now.notes.iter().any(|note| note.name.digest_fields() == name.digest_fields());
    found.extend(old.parts.iter().filter(|part| !is_there(&part.name)).filter_map(|part| value_removed(&part.name)));
    if source {
        found.push(MissCause::Source { step: None });
    }
    if found.is_empty() {
        found.push(hidden_cause(old, now));
    }
    found.sort_by_key(cause_rank);
    found
}

fn knows_files(parts: &HashMap<[&str; 2], &JournalPart>, target: &str) -> bool {
    parts.contains_key(&CacheKeyPartName::Files(target.to_owned()).digest_fields())
}

/// Returns the cause for a variable or setting that is new or has a new value.
fn value_changed(was: Option<&JournalPart>, note: &JournalPart) -> Option<MissCause> {
    let after = note.shown.clone();
    let change = match was {
        Some(was) => ValueChange::Changed { before: was.shown.clone(), after },
        None => ValueChange::New { after },
    };
    value_cause(&note.name, change)
}

fn value_removed(name: &CacheKeyPartName) -> Option<MissCause> {
    value_cause(name, ValueChange::Gone)
}

fn value_cause(name: &CacheKeyPartName, change: ValueChange) -> Option<MissCause> {
    match name {
        CacheKeyPartName::Variable { name, is_arg } => {
            Some(MissCause::Variable { keyword: keyword(*is_arg).to_owned(), name: name.clone(), change })
        }
        CacheKeyPartName::Setting(what) => Some(MissCause::Setting { what: what.clone(), change }),
        CacheKeyPartName::Method
        | CacheKeyPartName::Command
        | CacheKeyPartName::Files(_)
        | CacheKeyPartName::Source(_)
        | CacheKeyPartName::Below => None,
    }
}

fn keyword(is_arg: bool) -> &'static str {
    if is_arg { "ARG" } else { "ENV" }
}

fn files_changed(
    target: &str,
    was: Option<&JournalPart>,
    part: &CacheKeyPart,
    list: &dyn Fn(&StepKey) -> Option<FileList>,
) -> MissCause {
    let before = was.and_then(|was| list(&was.digest?));
    let (changes, more) = match (before, &part.files) {
        (Some(before), Some(after)) if after.notes.len() == after.count => file_list::file_changes(&before, after),
        (_, _) => (Vec::new(), 0),
    };
    MissCause::Files { target: target.to_owned(), changes, more }
}

/// Returns the cause of a cache miss if no recorded part differs.
fn hidden_cause(old: &JournalStep, now: &StepInputs<'_>) -> MissCause {
    if old.keys.iter().any(|key| now.keys.contains(key)) {
        return match old.outcome {
            StepOutcome::Failed => MissCause::Failed,
            StepOutcome::Interrupted => MissCause::Stopped,
            StepOutcome::Cached
            | StepOutcome::Shared
            | StepOutcome::Executed
            | StepOutcome::NotReached
            | StepOutcome::Meta => MissCause::Gone,
        };
    }
    let order = |parts: &[JournalPart]| -> Vec<String> {
        let variables = parts.iter().filter(|part| matches!(part.name, CacheKeyPartName::Variable { .. }));
        variables.map(|part| part.name.digest_fields()[1].to_owned()).collect()
    };
    if order(&old.parts) != order(&now.notes) {
        return MissCause::Order;
    }
    let hidden = now.notes.iter().filter(|note| note.digest.is_none());
    let names: Vec<String> = hidden
        .filter_map(|note| match &note.name {
            CacheKeyPartName::Variable { name, is_arg } => Some(format!("{} {name}", keyword(*is_arg))),
            CacheKeyPartName::Method
            | CacheKeyPartName::Command
            | CacheKeyPartName::Setting(_)
            | CacheKeyPartName::Files(_)
            | CacheKeyPartName::Source(_)
            | CacheKeyPartName::Below => None,
        })
        .collect();
    if names.is_empty() { MissCause::Inputs } else { MissCause::Hidden { names } }
}

/// Returns the rank of a cause: the one that explains most comes first.
fn cause_rank(cause: &MissCause) -> u8 {
    match cause {
        MissCause::NoCache { .. }
        | MissCause::First { .. }
        | MissCause::FirstKnown { .. }
        | MissCause::Unread
        | MissCause::Gone
        | MissCause::Failed
        | MissCause::Stopped
        | MissCause::Method => 0,
        MissCause::Command => 1,
        MissCause::Variable { keyword, .. } if keyword == "ARG" => 2,
        MissCause::Variable { .. } | MissCause::Order | MissCause::Hidden { .. } => 3,
        MissCause::Setting { .. } => 4,
        MissCause::Files { .. } => 5,
        MissCause::Source { .. } => 6,
        MissCause::EarlierStep { .. }
        | MissCause::StepGone { .. }
        | MissCause::StageBelow { .. }
        | MissCause::BaseImage { .. } => 7,
        MissCause::Below | MissCause::Inputs => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Snapshot;
    use crate::cache_key_parts::CacheKeyBuilder;
    use crate::why::CacheMiss;

    fn variable(name: &str, is_arg: bool) -> CacheKeyPartName {
        CacheKeyPartName::Variable { name: name.to_owned(), is_arg }
    }

    /// Returns the sentence for a step that had the parts `old` and `outcome` in the last build, and has the parts
    /// `new` now.
    fn explain(old: CacheKeyBuilder, new: CacheKeyBuilder, outcome: StepOutcome) -> String {
        let below = Snapshot::default();
        let (old, new) = (old.finish(&below), new.finish(&below));
        let before = JournalStep {
            line: 1,
            text: String::new(),
            outcome,
            millis: None,
            usage: None,
            why: CacheMiss::default(),
            result: None,
            keys: vec![old.id],
            parts: old.parts.iter().map(|part| journal_part(part, &[])).collect(),
        };
        let parts: Vec<&CacheKeyPart> = new.parts.iter().collect();
        let notes = parts.iter().map(|part| journal_part(part, &[])).collect();
        let causes = miss_causes(&before, &StepInputs { keys: vec![new.id], parts, notes }, &|_| None);
        CacheMiss { causes }.to_string()
    }

    #[test]
    fn causes_that_no_recorded_part_shows_are_explained() {
        let run = || CacheKeyBuilder::new("run 1");
        let with = |all: &[(&str, &str)]| {
            all.iter().fold(run(), |parts, (name, value)| parts.with(variable(name, true), value.as_bytes()))
        };
        let done = StepOutcome::Executed;
        let table = [
            (with(&[("A", "1")]), with(&[("A", "1")]), done, "its result is no longer in the store"),
            (with(&[("A", "1")]), with(&[("A", "1")]), StepOutcome::Failed, "it failed the last time"),
            (with(&[("A", "1")]), with(&[("A", "1")]), StepOutcome::Interrupted, "it was interrupted the last time"),
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
            (
                run(),
                CacheKeyBuilder::new("run 2").setting("a", "b"),
                done,
                "another version of dram executed it the last time",
            ),
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
        let copy = || CacheKeyBuilder::new("copy 1");
        let source =
            |parts: CacheKeyBuilder, value: &str| parts.with(CacheKeyPartName::Source(String::new()), value.as_bytes());
        let files =
            |parts: CacheKeyBuilder, value: &str| parts.with(CacheKeyPartName::Files(String::new()), value.as_bytes());
        let done = StepOutcome::Executed;
        assert_eq!(explain(source(copy(), "1"), source(copy(), "2"), done), "what it copies from changed");
        let (old, new) = (files(source(copy(), "1"), "1"), files(source(copy(), "2"), "2"));
        assert_eq!(explain(old, new, done), "the files changed");
    }

    #[test]
    fn arg_that_becomes_an_env_with_the_same_value_is_no_change() {
        let of = |is_arg, value: &str| CacheKeyBuilder::new("run 1").with(variable("A", is_arg), value.as_bytes());
        assert_eq!(explain(of(true, "1"), of(false, "2"), StepOutcome::Executed), "ENV A 1 → 2");
        assert_eq!(
            explain(of(true, "1"), of(false, "1"), StepOutcome::Executed),
            "its result is no longer in the store"
        );
    }
}
