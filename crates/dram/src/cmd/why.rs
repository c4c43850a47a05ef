//! `dram why`: shows the result of each step of the last build, and the reason.

use std::path::Path;

use dram_build::Why;
use dram_build::why::{Cause, Journal, Outcome, StepNote};
use dram_store::Store;
use serde::Serialize;

use super::say;
use crate::ambient::{self, Ambient};
use crate::cli;
use crate::failure::Failure;
use crate::format::{self, plain, table};

/// The most characters of an instruction in a table.
const WIDEST: usize = 60;

/// Prints the steps of the last build, or details about some of them.
pub(crate) fn why(ambient: &Ambient, args: &cli::Why) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let journal = journal(&store, args)?;
    let all = rows(&store, &journal);
    let asked = args.step.join(" ");
    let chosen: Vec<&Row<'_>> = if asked.is_empty() { all.iter().collect() } else { choose(&all, &asked) };
    if chosen.is_empty() && !asked.is_empty() {
        let what = format!("the last build of `{}` has no step `{}`", plain(&journal.dockerfile), plain(&asked));
        return Err(
            Failure::usage(what).help("`dram why` lists all; name one by its line, as `STAGE 3`, or by its text")
        );
    }
    match (args.json, asked.is_empty()) {
        (true, _) => say(&json(&journal, &chosen)),
        (false, true) => say(&format!("{}\n{}", head(&journal, &all), listed(&chosen))),
        (false, false) => say(&chosen.iter().map(|row| row.told()).collect::<Vec<_>>().join("\n")),
    }
    Ok(())
}

/// Returns the journal of the build of the given Dockerfile; without one, that of the last build here, or else
/// anywhere.
fn journal(store: &Store, args: &cli::Why) -> Result<Journal, Failure> {
    let places = store.places();
    let all: Vec<Journal> = places.all().iter().filter_map(|visited| Journal::read(places, &visited.place)).collect();
    let found = match &args.file {
        Some(file) => {
            let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.clone()).display().to_string();
            all.into_iter().find(|journal| journal.dockerfile == real || journal.context == real)
        }
        None => {
            let here = ambient::here().map(|here| here.display().to_string());
            let at = all.iter().position(|journal| here.as_ref().is_some_and(|here| is_of(journal, here)));
            all.into_iter().nth(at.unwrap_or(0))
        }
    };
    found.ok_or_else(|| {
        let what = match &args.file {
            Some(file) => format!("no build of `{}` is known", plain(&file.display().to_string())),
            None => "no build is known".to_owned(),
        };
        let pruned = places.forgot();
        Failure::work(what).help(match pruned {
            true => "what was known has been removed from the store; the next `dram build` is known again",
            false => "`dram build` first",
        })
    })
}

/// Returns true if `here` is the build context, or the directory of the Dockerfile.
fn is_of(journal: &Journal, here: &str) -> bool {
    let dir = Path::new(&journal.dockerfile).parent();
    journal.context == here || dir.is_some_and(|dir| dir == Path::new(here))
}

/// A step, as it is shown.
struct Row<'a> {
    stage: &'a str,
    step: usize,
    of: usize,
    note: &'a StepNote,
    /// True if the result is still there for the next build.
    kept: bool,
}

fn rows<'a>(store: &Store, journal: &'a Journal) -> Vec<Row<'a>> {
    let mut all = Vec::new();
    for stage in journal.stages.iter().filter(|stage| stage.is_last) {
        for (at, note) in stage.steps.iter().enumerate() {
            let kept = note.is_kept(store);
            all.push(Row { stage: &stage.name, step: at + 1, of: stage.steps.len(), note, kept });
        }
    }
    all
}

/// Returns the steps that `asked` names: the one on a line, one of a stage by its number, or those with that text.
fn choose<'a, 'r>(all: &'r [Row<'a>], asked: &str) -> Vec<&'r Row<'a>> {
    if let Ok(line) = asked.parse::<usize>() {
        let at = all.iter().filter(|row| row.note.line <= line).map(|row| row.note.line).max();
        return all.iter().filter(|row| Some(row.note.line) == at).collect();
    }
    let bare = asked.trim_start_matches('[').trim_end_matches(']');
    if let Some((stage, step)) = bare.rsplit_once(' ') {
        let step = step.split('/').next().unwrap_or_default().parse::<usize>();
        let is_it = |row: &&Row<'_>| row.stage.eq_ignore_ascii_case(stage) && Ok(row.step) == step;
        if let Some(row) = all.iter().find(is_it) {
            return vec![row];
        }
    }
    let wanted = asked.to_lowercase();
    all.iter().filter(|row| row.note.text.to_lowercase().contains(&wanted)).collect()
}

impl Row<'_> {
    fn label(&self) -> String {
        format!("[{} {}/{}]", plain(self.stage), self.step, self.of)
    }

    fn time(&self) -> String {
        let millis = self.note.millis.unwrap_or_default();
        format!("{}.{:02}s", millis / 1000, millis % 1000 / 10)
    }

    fn result(&self) -> &'static str {
        match self.note.outcome {
            Outcome::Remembered => "remembered",
            Outcome::Shared => "from a shared cache",
            Outcome::CarriedOut => "carried out",
            Outcome::Failed => "failed",
            Outcome::Stopped => "interrupted",
            Outcome::NotReached => "not reached",
            Outcome::Meta => "nothing to do",
        }
    }

    fn is_carried_out(&self) -> bool {
        match self.note.outcome {
            Outcome::CarriedOut | Outcome::Failed | Outcome::Stopped => true,
            Outcome::Remembered | Outcome::Shared | Outcome::NotReached | Outcome::Meta => false,
        }
    }

    /// A remark about the result itself, apart from its cause.
    fn remark(&self) -> Option<&'static str> {
        match self.note.outcome {
            Outcome::Remembered | Outcome::CarriedOut if !self.kept => Some("its result is no longer in the store"),
            Outcome::Shared if !self.kept => Some("its result was not needed here"),
            Outcome::Remembered | Outcome::CarriedOut | Outcome::Failed | Outcome::Stopped => None,
            Outcome::Shared | Outcome::NotReached | Outcome::Meta => None,
        }
    }

    /// The details of one step, on several lines.
    fn told(&self) -> String {
        let Row { note, .. } = self;
        let mut out = format!("{} {} (line {})\n{}", self.label(), plain(&note.text), note.line, self.result());
        let mut because = "because";
        if self.is_carried_out() {
            out.push_str(&format!(" in {}", self.time()));
        } else if note.millis.is_some() {
            out.push_str(&format!("; when it was last carried out it took {}", self.time()));
            because = "that was because";
        }
        let causes: Vec<String> = note.why.causes.iter().flat_map(lines).collect();
        match causes.is_empty() {
            true => out.push('\n'),
            false => out.push_str(&format!(", {because}\n")),
        }
        for cause in causes {
            out.push_str(&format!("  {}\n", plain(&cause)));
        }
        if let Some(remark) = self.remark() {
            out.push_str(&format!("{remark}\n"));
        }
        out
    }
}

/// The lines for a cause; files have one line each.
fn lines(cause: &Cause) -> Vec<String> {
    match cause {
        Cause::Files { target, changes, more } if !changes.is_empty() => {
            let place = if target.is_empty() { String::new() } else { format!(" in the mount {target}") };
            let left_out = (*more > 0).then(|| format!("{more} more files{place}"));
            changes.iter().map(|change| format!("{change}{place}")).chain(left_out).collect()
        }
        other => vec![other.to_string()],
    }
}

fn head(journal: &Journal, rows: &[Row<'_>]) -> String {
    let count = |outcome| rows.iter().filter(|row| row.note.outcome == outcome).count();
    let target = if journal.target.is_empty() { String::new() } else { format!(", target {}", plain(&journal.target)) };
    let mut out = format!(
        "last build of {}{target} for {}: {} carried out, {} remembered",
        plain(&journal.dockerfile),
        plain(&journal.platform),
        format::count(count(Outcome::CarriedOut), "step"),
        count(Outcome::Remembered) + count(Outcome::Shared)
    );
    if count(Outcome::Shared) > 0 {
        out.push_str(&format!(" ({} from a shared cache)", count(Outcome::Shared)));
    }
    for (outcome, word) in
        [(Outcome::Failed, "failed"), (Outcome::Stopped, "interrupted"), (Outcome::NotReached, "not reached")]
    {
        if count(outcome) > 0 {
            out.push_str(&format!(", {} {word}", count(outcome)));
        }
    }
    out
}

fn listed(rows: &[&Row<'_>]) -> String {
    let head = ["STEP", "LINE", "INSTRUCTION", "RESULT", "TIME", "WHY"].map(str::to_owned).to_vec();
    let rows = rows.iter().filter(|row| row.note.outcome != Outcome::Meta).map(|row| {
        let text = plain(&row.note.text);
        let text =
            if text.chars().count() <= WIDEST { text } else { text.chars().take(WIDEST - 1).chain(['…']).collect() };
        let (time, mut why) = match row.is_carried_out() {
            true => (row.time(), plain(&row.note.why.to_string())),
            false => (String::new(), String::new()),
        };
        if let Some(remark) = row.remark() {
            why.push_str(if why.is_empty() { "" } else { "; now " });
            why.push_str(remark);
        }
        vec![row.label(), row.note.line.to_string(), text, row.result().to_owned(), time, why]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// The output of `--json`.
#[derive(Serialize)]
struct Printed<'a> {
    dockerfile: &'a str,
    context: &'a str,
    platform: &'a str,
    target: &'a str,
    steps: Vec<PrintedStep<'a>>,
}

#[derive(Serialize)]
struct PrintedStep<'a> {
    stage: &'a str,
    /// From 1.
    step: usize,
    of: usize,
    line: usize,
    instruction: &'a str,
    result: Outcome,
    /// True if the result is still there for the next build.
    kept: bool,
    /// The duration of the last execution.
    seconds: Option<f64>,
    /// The reason for the last execution, as a sentence here and by cause below.
    because: String,
    why: &'a Why,
}

fn json(journal: &Journal, rows: &[&Row<'_>]) -> String {
    let Journal { dockerfile, context, platform, target, .. } = journal;
    let steps = rows.iter().map(|row| PrintedStep {
        stage: row.stage,
        step: row.step,
        of: row.of,
        line: row.note.line,
        instruction: &row.note.text,
        result: row.note.outcome,
        kept: row.kept,
        seconds: row.note.millis.map(|millis| std::time::Duration::from_millis(millis).as_secs_f64()),
        because: row.note.why.to_string(),
        why: &row.note.why,
    });
    let printed = Printed { dockerfile, context, platform, target, steps: steps.collect() };
    format!("{}\n", serde_json::to_string_pretty(&printed).expect("plain data becomes JSON"))
}
