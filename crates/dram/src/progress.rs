//! Shows the progress of a build on standard error.

mod rawjson;
mod transfer_display;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dram_build::{BuildEvent, StepPosition};
use dram_plan::Plan;

pub(crate) use self::transfer_display::{TransferDisplay, TransferLines};
use crate::ambient;
use crate::cli;
use crate::failure::SourceDiagnostics;
use crate::format::{self, escape_control, format_output};
use crate::report;

/// The interval at which lines are printed that a command overwrites.
const OVERWRITTEN_LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Shows the events of a build. All threads of the build share it.
pub(crate) struct BuildDisplay {
    style: BuildDisplayStyle,
    labels: BTreeMap<StepPosition, String>,
    state: Mutex<BuildDisplayState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BuildDisplayStyle {
    Tty,
    Plain,
    Raw,
    Quiet,
}

#[derive(Default)]
struct BuildDisplayState {
    /// Running steps: the start, and the last line of each.
    running: BTreeMap<StepPosition, (Option<Instant>, String)>,
    /// The reasons for which steps are executed: on a terminal they are shown when the step is done.
    reasons: BTreeMap<StepPosition, String>,
    /// For each step, the time at which a line was printed that the command overwrites.
    overwritten: BTreeMap<StepPosition, Instant>,
    /// The number of lines in the region that is redrawn.
    drawn_lines: usize,
    /// The state of `--progress=rawjson`.
    vertexes: rawjson::SolveStatusWriter,
}

impl BuildDisplayState {
    /// Returns whether another line of this step is printed that its command overwrites. A progress bar may write
    /// hundreds of them in a second.
    fn takes_overwritten_line(&mut self, at: StepPosition) -> bool {
        let last = self.overwritten.get(&at);
        let takes = last.is_none_or(|last| last.elapsed() >= OVERWRITTEN_LINE_INTERVAL);
        if takes {
            self.overwritten.insert(at, Instant::now());
        }
        takes
    }
}

impl BuildDisplay {
    /// A display in the requested style; for `auto`, standard error decides.
    pub(crate) fn new(asked: cli::ProgressMode, plan: &Plan) -> BuildDisplay {
        let dumb = ambient::has_dumb_terminal();
        let style = match asked {
            cli::ProgressMode::Auto if std::io::stderr().is_terminal() && !dumb => BuildDisplayStyle::Tty,
            cli::ProgressMode::Auto | cli::ProgressMode::Plain => BuildDisplayStyle::Plain,
            cli::ProgressMode::Tty => BuildDisplayStyle::Tty,
            cli::ProgressMode::Rawjson => BuildDisplayStyle::Raw,
            cli::ProgressMode::Quiet => BuildDisplayStyle::Quiet,
        };
        let labels = step_labels(plan);
        let state = BuildDisplayState {
            vertexes: rawjson::SolveStatusWriter::new(plan, &labels),
            ..BuildDisplayState::default()
        };
        BuildDisplay { style, labels, state: Mutex::new(state) }
    }

    /// Shows `event`.
    pub(crate) fn show_event(&self, event: BuildEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.style {
            BuildDisplayStyle::Quiet => {}
            BuildDisplayStyle::Plain => write_stderr(&self.format_event(&mut state, event)),
            BuildDisplayStyle::Raw => {
                write_stderr(&state.vertexes.event_line(&event));
            }
            BuildDisplayStyle::Tty => {
                let line = self.format_event_for_terminal(&mut state, event);
                self.redraw(&mut state, &line);
            }
        }
    }

    /// Ends the display: clears the region that is redrawn, or ends the vertexes that still run.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.clear();
        match self.style {
            BuildDisplayStyle::Tty => self.redraw(&mut state, ""),
            BuildDisplayStyle::Raw => write_stderr(&state.vertexes.end_line()),
            BuildDisplayStyle::Plain | BuildDisplayStyle::Quiet => {}
        }
    }

    /// Shows a complete line as it is.
    pub(crate) fn print_line(&self, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.style {
            BuildDisplayStyle::Tty => self.redraw(&mut state, line),
            BuildDisplayStyle::Plain => write_stderr(line),
            BuildDisplayStyle::Raw | BuildDisplayStyle::Quiet => {}
        }
    }

    /// Returns true if people read this display; programs read the other styles.
    pub(crate) fn prints_notes(&self) -> bool {
        match self.style {
            BuildDisplayStyle::Tty | BuildDisplayStyle::Plain => true,
            BuildDisplayStyle::Raw | BuildDisplayStyle::Quiet => false,
        }
    }

    /// Returns true if the output of commands stays on the screen.
    pub(crate) fn shows_output(&self) -> bool {
        self.style == BuildDisplayStyle::Plain
    }

    fn label(&self, at: StepPosition) -> &str {
        self.labels.get(&at).map_or("", String::as_str)
    }

    fn format_event(&self, state: &mut BuildDisplayState, event: BuildEvent) -> String {
        match event {
            BuildEvent::Log(at, line) => {
                if line.ends_with(b"\r") && !state.takes_overwritten_line(at) {
                    return String::new();
                }
                let since = state.running.get(&at).and_then(|(started, _)| *started);
                let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
                let text = format_output(&output_text(&line), std::io::stderr().is_terminal());
                format!("{} {seconds:.2}s | {text}\n", label_prefix(self.label(at)))
            }
            BuildEvent::Started(at, why) => {
                state.running.insert(at, (Some(Instant::now()), String::new()));
                format!("{}: {}\n", self.label(at), escape_control(&why.to_string()))
            }
            BuildEvent::WaitingForStep(at) => {
                format!("{}: another build executes this step; waiting for its result\n", self.label(at))
            }
            BuildEvent::WaitingForCache(at, id) => {
                format!(
                    "{}: another process uses the cache `{}`; waiting for it\n",
                    self.label(at),
                    escape_control(&id)
                )
            }
            BuildEvent::Cached(at) => {
                state.running.remove(&at);
                format!("{}: CACHED\n", self.label(at))
            }
            BuildEvent::SharedCacheHit(at) => {
                state.running.remove(&at);
                format!("{}: CACHED (shared)\n", self.label(at))
            }
            BuildEvent::Executed(at, _) => {
                let since = state.running.remove(&at).and_then(|(started, _)| started);
                let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
                format!("{} done in {seconds:.2}s\n", label_prefix(self.label(at)))
            }
            // Shown at the end of the build, with the line of the Dockerfile.
            BuildEvent::Remark(_) => String::new(),
            BuildEvent::Unpacking { image } => format!("unpacking `{}`\n", escape_control(&image)),
            BuildEvent::Fetching { from, size } => {
                format!("fetching {} from the cache {}\n", format::format_size(size), escape_control(&from))
            }
            BuildEvent::Packing { ready, total: of } => format!("packing layer {} of {of}\n", ready + 1),
        }
    }

    /// Formats an event for a terminal: a running step is one line that changes, and a finished one scrolls away above
    /// it.
    fn format_event_for_terminal(&self, state: &mut BuildDisplayState, event: BuildEvent) -> String {
        match event {
            BuildEvent::Log(at, line) => {
                if let Some((_, last)) = state.running.get_mut(&at) {
                    // Its colours would have to be counted where the line is cut.
                    *last = format_output(&output_text(&line), false);
                }
                String::new()
            }
            BuildEvent::Started(at, why) => {
                let why = escape_control(&why.to_string());
                state.running.insert(at, (Some(Instant::now()), why.clone()));
                state.reasons.insert(at, why);
                String::new()
            }
            BuildEvent::WaitingForStep(at) => {
                state.running.insert(at, (None, "waiting for another build's result".to_owned()));
                String::new()
            }
            BuildEvent::WaitingForCache(at, id) => {
                state.running.insert(at, (None, format!("waiting for the cache `{}`", escape_control(&id))));
                String::new()
            }
            BuildEvent::Executed(at, usage) => {
                let line = self.format_event(state, BuildEvent::Executed(at, usage));
                let seconds = line.rsplit(' ').next().unwrap_or_default().trim().to_owned();
                let why = state.reasons.remove(&at).unwrap_or_default();
                format!("{} {seconds}: {why}\n", self.label(at))
            }
            event @ (BuildEvent::Cached(_)
            | BuildEvent::SharedCacheHit(_)
            | BuildEvent::Remark(_)
            | BuildEvent::Unpacking { .. }
            | BuildEvent::Fetching { .. }
            | BuildEvent::Packing { .. }) => self.format_event(state, event),
        }
    }

    fn redraw(&self, state: &mut BuildDisplayState, above: &str) {
        let width =
            rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20);
        let mut out = String::new();
        if state.drawn_lines > 0 {
            out.push_str(&format!("\x1b[{}A\x1b[J", state.drawn_lines));
        }
        out.push_str(above);
        state.drawn_lines = 0;
        for (at, (_, last)) in &state.running {
            let line = format!("{}  {last}", self.label(*at));
            out.extend(line.chars().take(width - 1));
            out.push('\n');
            state.drawn_lines += 1;
        }
        write_stderr(&out);
    }
}

/// Shows warnings about a text in the requested style.
pub(crate) fn show_warnings(asked: cli::ProgressMode, remarks: &SourceDiagnostics) {
    match asked {
        cli::ProgressMode::Quiet => {}
        cli::ProgressMode::Rawjson => write_stderr(&rawjson::warnings_line(remarks)),
        cli::ProgressMode::Auto | cli::ProgressMode::Tty | cli::ProgressMode::Plain => report::print_warnings(remarks),
    }
}

/// Returns a line of output as text, without the carriage return of a line that is overwritten.
fn output_text(line: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line))
}

fn write_stderr(text: &str) {
    // A build goes on if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The label of each step, as `[builder 3/6] RUN make`.
fn step_labels(plan: &Plan) -> BTreeMap<StepPosition, String> {
    let mut labels = BTreeMap::new();
    for (stage, planned) in plan.stages.iter().enumerate() {
        for (step, one) in planned.steps.iter().enumerate() {
            let label = format!(
                "[{} {}/{}] {}",
                escape_control(&planned.name),
                step + 1,
                planned.steps.len(),
                escape_control(&one.text)
            );
            labels.insert(StepPosition { stage, step }, label);
        }
    }
    labels
}

/// The part of a label in brackets.
fn label_prefix(label: &str) -> &str {
    label.find(']').map_or(label, |end| &label[..=end])
}
