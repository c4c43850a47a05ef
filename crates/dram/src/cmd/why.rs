//! `dram why`: shows the result of each step of the last build, and the reason.

use std::path::Path;

use dram_build::CacheMiss;
use dram_build::why::{BuildJournal, JournalStep, MissCause, StepOutcome};
use dram_store::{JournalLoss, MAX_BUILDS, Store};
use serde::Serialize;

use super::print_stdout;
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::Failure;
use crate::format::{self, escape_control, format_table};

/// The most characters of an instruction in a table.
const MAX_INSTRUCTION_WIDTH: usize = 60;

/// Prints the steps of the last build, or details about some of them.
pub(crate) fn why(ambient: &AmbientContext, args: &cli::WhyArgs) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let journal = find_journal(&store, args)?;
    let all = step_rows(&store, &journal);
    let asked = args.step.join(" ");
    let chosen: Vec<&StepRow<'_>> = if asked.is_empty() { all.iter().collect() } else { select_steps(&all, &asked) };
    if chosen.is_empty() && !asked.is_empty() {
        let what = format!(
            "the last build of `{}` has no step `{}`",
            escape_control(&journal.dockerfile),
            escape_control(&asked)
        );
        return Err(
            Failure::usage(what).help("`dram why` lists all; name one by its line, as `STAGE 3`, or by its text")
        );
    }
    match (args.json, asked.is_empty()) {
        (true, _) => print_stdout(&to_json(&journal, &chosen)),
        (false, true) => print_stdout(&format!("{}\n{}", summary_line(&journal, &all), steps_table(&chosen))),
        (false, false) => print_stdout(&chosen.iter().map(|row| row.details()).collect::<Vec<_>>().join("\n")),
    }
    Ok(())
}

/// Returns the journal of the build of the given Dockerfile; without one, that of the last build here, or else
/// anywhere.
fn find_journal(store: &Store, args: &cli::WhyArgs) -> Result<BuildJournal, Failure> {
    let places = store.build_history();
    let all: Vec<BuildJournal> =
        places.list().iter().filter_map(|visited| BuildJournal::read(places, &visited.build)).collect();
    let found = match &args.file {
        Some(file) => {
            let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.clone()).display().to_string();
            all.into_iter().find(|journal| journal.dockerfile == real || journal.context == real)
        }
        None => {
            let here = ambient::working_dir().map(|here| here.display().to_string());
            let at = all.iter().position(|journal| here.as_ref().is_some_and(|here| is_built_in(journal, here)));
            all.into_iter().nth(at.unwrap_or(0))
        }
    };
    found.ok_or_else(|| {
        let what = match &args.file {
            Some(file) => format!("no build of `{}` is known", escape_control(&file.display().to_string())),
            None => "no build is known".to_owned(),
        };
        let help = match places.journal_loss() {
            Some(JournalLoss::Pruned) => {
                "the build journals have been removed from the store; the next `dram build` writes one".to_owned()
            }
            Some(JournalLoss::Evicted) => {
                format!("the store has the journals of the last {MAX_BUILDS} builds; the next `dram build` writes one")
            }
            None => "`dram build` first".to_owned(),
        };
        Failure::work(what).help(help)
    })
}

/// Returns true if `here` is the build context, or the directory of the Dockerfile.
fn is_built_in(journal: &BuildJournal, here: &str) -> bool {
    let dir = Path::new(&journal.dockerfile).parent();
    journal.context == here || dir.is_some_and(|dir| dir == Path::new(here))
}

/// A step, as it is shown.
struct StepRow<'a> {
    stage: &'a str,
    step: usize,
    of: usize,
    note: &'a JournalStep,
    /// True if the result is still there for the next build.
    kept: bool,
}

fn step_rows<'a>(store: &Store, journal: &'a BuildJournal) -> Vec<StepRow<'a>> {
    let mut all = Vec::new();
    for stage in journal.stages.iter().filter(|stage| stage.in_last_build) {
        for (at, note) in stage.steps.iter().enumerate() {
            let kept = note.is_cached(store);
            all.push(StepRow { stage: &stage.name, step: at + 1, of: stage.steps.len(), note, kept });
        }
    }
    all
}

/// Returns the steps that `asked` names: the one on a line, one of a stage by its number, or those with that text.
fn select_steps<'a, 'r>(all: &'r [StepRow<'a>], asked: &str) -> Vec<&'r StepRow<'a>> {
    if let Ok(line) = asked.parse::<usize>() {
        let at = all.iter().filter(|row| row.note.line <= line).map(|row| row.note.line).max();
        return all.iter().filter(|row| Some(row.note.line) == at).collect();
    }
    let bare = asked.trim_start_matches('[').trim_end_matches(']');
    if let Some((stage, step)) = bare.rsplit_once(' ') {
        let step = step.split('/').next().unwrap_or_default().parse::<usize>();
        let is_it = |row: &&StepRow<'_>| row.stage.eq_ignore_ascii_case(stage) && Ok(row.step) == step;
        if let Some(row) = all.iter().find(is_it) {
            return vec![row];
        }
    }
    let wanted = asked.to_lowercase();
    all.iter().filter(|row| row.note.text.to_lowercase().contains(&wanted)).collect()
}

impl StepRow<'_> {
    fn label(&self) -> String {
        format!("[{} {}/{}]", escape_control(self.stage), self.step, self.of)
    }

    fn time(&self) -> String {
        let millis = self.note.millis.unwrap_or_default();
        format!("{}.{:02}s", millis / 1000, millis % 1000 / 10)
    }

    fn result(&self) -> &'static str {
        match self.note.outcome {
            StepOutcome::Cached => "cached",
            StepOutcome::Shared => "from a shared cache",
            StepOutcome::Executed => "executed",
            StepOutcome::Failed => "failed",
            StepOutcome::Interrupted => "interrupted",
            StepOutcome::NotReached => "not reached",
            StepOutcome::Meta => "nothing to do",
        }
    }

    fn was_executed(&self) -> bool {
        match self.note.outcome {
            StepOutcome::Executed | StepOutcome::Failed | StepOutcome::Interrupted => true,
            StepOutcome::Cached | StepOutcome::Shared | StepOutcome::NotReached | StepOutcome::Meta => false,
        }
    }

    /// A remark about the result itself, apart from its cause.
    fn remark(&self) -> Option<&'static str> {
        match self.note.outcome {
            StepOutcome::Cached | StepOutcome::Executed if !self.kept => Some("its result is no longer in the store"),
            StepOutcome::Shared if !self.kept => Some("its result was not needed here"),
            StepOutcome::Cached | StepOutcome::Executed | StepOutcome::Failed | StepOutcome::Interrupted => None,
            StepOutcome::Shared | StepOutcome::NotReached | StepOutcome::Meta => None,
        }
    }

    /// The details of one step, on several lines.
    fn details(&self) -> String {
        let StepRow { note, .. } = self;
        // A generated step has no line.
        let line = if note.line == 0 { String::new() } else { format!(" (line {})", note.line) };
        let mut out = format!("{} {}{line}\n{}", self.label(), escape_control(&note.text), self.result());
        let mut because = "because";
        if self.was_executed() {
            out.push_str(&format!(" in {}", self.time()));
        } else if note.millis.is_some() {
            out.push_str(&format!("; its last execution took {}", self.time()));
            because = "that was because";
        }
        let causes: Vec<String> = note.why.causes.iter().flat_map(cause_lines).collect();
        match causes.is_empty() {
            true => out.push('\n'),
            false => out.push_str(&format!(", {because}\n")),
        }
        for cause in causes {
            out.push_str(&format!("  {}\n", escape_control(&cause)));
        }
        if let Some(remark) = self.remark() {
            out.push_str(&format!("{remark}\n"));
        }
        out
    }
}

/// The lines for a cause; files have one line each.
fn cause_lines(cause: &MissCause) -> Vec<String> {
    match cause {
        MissCause::Files { target, changes, more } if !changes.is_empty() => {
            let place = if target.is_empty() { String::new() } else { format!(" in the mount {target}") };
            let left_out = (*more > 0).then(|| format!("{more} more files{place}"));
            changes.iter().map(|change| format!("{change}{place}")).chain(left_out).collect()
        }
        other @ (MissCause::NoCache { .. }
        | MissCause::First { .. }
        | MissCause::FirstKnown { .. }
        | MissCause::Unread
        | MissCause::Gone
        | MissCause::Failed
        | MissCause::Stopped
        | MissCause::Method
        | MissCause::Command
        | MissCause::Variable { .. }
        | MissCause::Order
        | MissCause::Setting { .. }
        | MissCause::Files { .. }
        | MissCause::Source { .. }
        | MissCause::EarlierStep { .. }
        | MissCause::StepGone { .. }
        | MissCause::StageBelow { .. }
        | MissCause::BaseImage { .. }
        | MissCause::Below
        | MissCause::Inputs
        | MissCause::Hidden { .. }) => vec![other.to_string()],
    }
}

fn summary_line(journal: &BuildJournal, rows: &[StepRow<'_>]) -> String {
    let count = |outcome| rows.iter().filter(|row| row.note.outcome == outcome).count();
    let target =
        if journal.target.is_empty() { String::new() } else { format!(", target {}", escape_control(&journal.target)) };
    let mut out = format!(
        "last build of {}{target} for {}: {} executed, {} cached",
        escape_control(&journal.dockerfile),
        escape_control(&journal.platform),
        format::format_count(count(StepOutcome::Executed), "step"),
        count(StepOutcome::Cached) + count(StepOutcome::Shared)
    );
    if count(StepOutcome::Shared) > 0 {
        out.push_str(&format!(" ({} from a shared cache)", count(StepOutcome::Shared)));
    }
    for (outcome, word) in [
        (StepOutcome::Failed, "failed"),
        (StepOutcome::Interrupted, "interrupted"),
        (StepOutcome::NotReached, "not reached"),
    ] {
        if count(outcome) > 0 {
            out.push_str(&format!(", {} {word}", count(outcome)));
        }
    }
    out
}

fn steps_table(rows: &[&StepRow<'_>]) -> String {
    let head = ["STEP", "LINE", "INSTRUCTION", "RESULT", "TIME", "WHY"].map(str::to_owned).to_vec();
    let rows = rows.iter().filter(|row| row.note.outcome != StepOutcome::Meta).map(|row| {
        let text = escape_control(&row.note.text);
        let text = if text.chars().count() <= MAX_INSTRUCTION_WIDTH {
            text
        } else {
            text.chars().take(MAX_INSTRUCTION_WIDTH - 1).chain(['…']).collect()
        };
        let (time, mut why) = match row.was_executed() {
            true => (row.time(), escape_control(&row.note.why.to_string())),
            false => (String::new(), String::new()),
        };
        if let Some(remark) = row.remark() {
            why.push_str(if why.is_empty() { "" } else { "; now " });
            why.push_str(remark);
        }
        vec![row.label(), row.note.line.to_string(), text, row.result().to_owned(), time, why]
    });
    format_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// The output of `--json`.
#[derive(Serialize)]
struct WhyOutput<'a> {
    dockerfile: &'a str,
    context: &'a str,
    platform: &'a str,
    target: &'a str,
    steps: Vec<WhyOutputStep<'a>>,
}

#[derive(Serialize)]
struct WhyOutputStep<'a> {
    stage: &'a str,
    /// From 1.
    step: usize,
    of: usize,
    line: usize,
    instruction: &'a str,
    result: &'static str,
    /// True if the result is still there for the next build.
    kept: bool,
    /// The duration of the last execution.
    seconds: Option<f64>,
    /// The reason for the last execution, as a sentence here and by cause below.
    because: String,
    why: &'a CacheMiss,
}

/// The word for an outcome in `--json`. The journal on the disk has words of its own, which older journals share.
fn json_result(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Cached => "cached",
        StepOutcome::Shared => "shared",
        StepOutcome::Executed => "executed",
        StepOutcome::Failed => "failed",
        StepOutcome::Interrupted => "interrupted",
        StepOutcome::NotReached => "not-reached",
        StepOutcome::Meta => "meta",
    }
}

fn to_json(journal: &BuildJournal, rows: &[&StepRow<'_>]) -> String {
    let BuildJournal { dockerfile, context, platform, target, .. } = journal;
    let steps = rows.iter().map(|row| WhyOutputStep {
        stage: row.stage,
        step: row.step,
        of: row.of,
        line: row.note.line,
        instruction: &row.note.text,
        result: json_result(row.note.outcome),
        kept: row.kept,
        seconds: row.note.millis.map(|millis| std::time::Duration::from_millis(millis).as_secs_f64()),
        because: row.note.why.to_string(),
        why: &row.note.why,
    });
    let printed = WhyOutput { dockerfile, context, platform, target, steps: steps.collect() };
    format!("{}\n", serde_json::to_string_pretty(&printed).expect("plain data becomes JSON"))
}
