//! Shows the progress of a build on standard error.

mod moving;
mod raw;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dram_build::{Event, StepAt};
use dram_dockerfile::Plan;

pub(crate) use self::moving::{Lines, Moving};
use crate::cli;
use crate::failure::Remarks;
use crate::format::{self, plain};
use crate::report;

/// Shows the events of a build. All threads of the build share it.
pub(crate) struct Progress {
    style: Style,
    labels: BTreeMap<StepAt, String>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Tty,
    Plain,
    Raw,
    Quiet,
}

#[derive(Default)]
struct State {
    /// Running steps: the start, and the last line of each.
    running: BTreeMap<StepAt, (Option<Instant>, String)>,
    /// The reasons for which steps are executed: on a terminal they are shown when the step is done.
    why: BTreeMap<StepAt, String>,
    /// The number of lines in the region that is redrawn.
    drawn: usize,
    /// The results of finished steps.
    over: BTreeMap<StepAt, Over>,
    /// The state of `--progress=rawjson`.
    vertexes: raw::Vertexes,
}

/// The result of a finished step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Remembered,
    Shared,
    Done,
}

/// The numbers of cached and executed steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Steps with a cache hit.
    pub(crate) remembered: usize,
    /// Of these, steps with a cache hit in a shared cache and not in the store.
    pub(crate) shared: usize,
    /// Executed steps.
    pub(crate) done: usize,
}

impl Progress {
    /// A display in the requested style; for `auto`, standard error decides.
    pub(crate) fn new(asked: cli::Progress, plan: &Plan) -> Progress {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let style = match asked {
            cli::Progress::Auto if std::io::stderr().is_terminal() && !dumb => Style::Tty,
            cli::Progress::Auto | cli::Progress::Plain => Style::Plain,
            cli::Progress::Tty => Style::Tty,
            cli::Progress::Rawjson => Style::Raw,
            cli::Progress::Quiet => Style::Quiet,
        };
        let labels = labels(plan);
        let state = State { vertexes: raw::Vertexes::new(plan, &labels), ..State::default() };
        Progress { style, labels, state: Mutex::new(state) }
    }

    /// Shows `event`.
    pub(crate) fn tell(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.style {
            Style::Quiet => {}
            Style::Plain => write(&self.plain(&mut state, event)),
            Style::Raw => {
                write(&state.vertexes.line(&event));
                // The step counts are updated too.
                self.plain(&mut state, event);
            }
            Style::Tty => {
                let line = self.plain_unless_log(&mut state, event);
                self.redraw(&mut state, &line);
            }
        }
    }

    /// Ends the display: clears the region that is redrawn, or ends the vertexes that still run.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.clear();
        match self.style {
            Style::Tty => self.redraw(&mut state, ""),
            Style::Raw => write(&state.vertexes.end()),
            Style::Plain | Style::Quiet => {}
        }
    }

    /// Shows a complete line as it is.
    pub(crate) fn line(&self, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.style {
            Style::Tty => self.redraw(&mut state, line),
            Style::Plain => write(line),
            Style::Raw | Style::Quiet => {}
        }
    }

    /// Returns true if people read this display; programs read the other styles.
    pub(crate) fn speaks(&self) -> bool {
        match self.style {
            Style::Tty | Style::Plain => true,
            Style::Raw | Style::Quiet => false,
        }
    }

    /// Returns true if the output of commands stays on the screen.
    pub(crate) fn shows_output(&self) -> bool {
        self.style == Style::Plain
    }

    /// The numbers of cached and executed steps.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |over| state.over.values().filter(|one| **one == over).count();
        let (shared, done) = (count(Over::Shared), count(Over::Done));
        Counts { remembered: count(Over::Remembered) + shared, shared, done }
    }

    fn label(&self, at: StepAt) -> &str {
        self.labels.get(&at).map_or("", String::as_str)
    }

    fn plain(&self, state: &mut State, event: Event) -> String {
        match event {
            Event::Log(at, line) => {
                let since = state.running.get(&at).and_then(|(started, _)| *started);
                let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
                format!("{} {seconds:.2}s | {}\n", place(self.label(at)), plain(&String::from_utf8_lossy(&line)))
            }
            Event::Started(at, why) => {
                state.running.insert(at, (Some(Instant::now()), String::new()));
                format!("{}: {}\n", self.label(at), plain(&why.to_string()))
            }
            Event::Waiting(at) => {
                format!("{}: another build is at this step; waiting for its result\n", self.label(at))
            }
            Event::WaitingForCache(at, id) => {
                format!("{}: somebody else has the cache `{}`; waiting for it\n", self.label(at), plain(&id))
            }
            Event::Remembered(at) => {
                state.running.remove(&at);
                state.over.insert(at, Over::Remembered);
                format!("{}: CACHED\n", self.label(at))
            }
            Event::Shared(at) => {
                state.running.remove(&at);
                state.over.insert(at, Over::Shared);
                format!("{}: CACHED (shared)\n", self.label(at))
            }
            Event::Done(at) => {
                state.over.insert(at, Over::Done);
                let since = state.running.remove(&at).and_then(|(started, _)| started);
                let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
                format!("{} done in {seconds:.2}s\n", place(self.label(at)))
            }
            // Shown at the end of the build, with the line of the Dockerfile.
            Event::Remark(_) => String::new(),
            Event::Unpacking { image } => format!("unpacking `{}`\n", plain(&image)),
            Event::Fetching { from, size } => {
                format!("fetching {} from the cache {}\n", format::size(size), plain(&from))
            }
            Event::Packing { ready, of } => format!("packing layer {} of {of}\n", ready + 1),
        }
    }

    /// Formats an event for a terminal: a running step is one line that changes, and a finished one scrolls away above
    /// it.
    fn plain_unless_log(&self, state: &mut State, event: Event) -> String {
        match event {
            Event::Log(at, line) => {
                if let Some((_, last)) = state.running.get_mut(&at) {
                    *last = plain(&String::from_utf8_lossy(&line));
                }
                String::new()
            }
            Event::Started(at, why) => {
                let why = plain(&why.to_string());
                state.running.insert(at, (Some(Instant::now()), why.clone()));
                state.why.insert(at, why);
                String::new()
            }
            Event::Waiting(at) => {
                state.running.insert(at, (None, "waiting for another build's result".to_owned()));
                String::new()
            }
            Event::WaitingForCache(at, id) => {
                state.running.insert(at, (None, format!("waiting for the cache `{}`", plain(&id))));
                String::new()
            }
            Event::Done(at) => {
                let line = self.plain(state, Event::Done(at));
                let seconds = line.rsplit(' ').next().unwrap_or_default().trim().to_owned();
                let why = state.why.remove(&at).unwrap_or_default();
                format!("{} {seconds}: {why}\n", self.label(at))
            }
            event @ (Event::Remembered(_)
            | Event::Shared(_)
            | Event::Remark(_)
            | Event::Unpacking { .. }
            | Event::Fetching { .. }
            | Event::Packing { .. }) => self.plain(state, event),
        }
    }

    fn redraw(&self, state: &mut State, above: &str) {
        let width =
            rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20);
        let mut out = String::new();
        if state.drawn > 0 {
            out.push_str(&format!("\x1b[{}A\x1b[J", state.drawn));
        }
        out.push_str(above);
        state.drawn = 0;
        for (at, (_, last)) in &state.running {
            let line = format!("{}  {last}", self.label(*at));
            out.extend(line.chars().take(width - 1));
            out.push('\n');
            state.drawn += 1;
        }
        write(&out);
    }
}

/// Shows warnings about a text in the requested style.
pub(crate) fn warnings(asked: cli::Progress, remarks: &Remarks) {
    match asked {
        cli::Progress::Quiet => {}
        cli::Progress::Rawjson => write(&raw::warnings(remarks)),
        cli::Progress::Auto | cli::Progress::Tty | cli::Progress::Plain => report::warnings(remarks),
    }
}

fn write(text: &str) {
    // A build goes on if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The label of each step, as `[builder 3/6] RUN make`.
fn labels(plan: &Plan) -> BTreeMap<StepAt, String> {
    let mut labels = BTreeMap::new();
    for (stage, planned) in plan.stages.iter().enumerate() {
        for (step, one) in planned.steps.iter().enumerate() {
            let label = format!("[{} {}/{}] {}", plain(&planned.name), step + 1, planned.steps.len(), plain(&one.text));
            labels.insert(StepAt { stage, step }, label);
        }
    }
    labels
}

/// The part of a label in brackets.
fn place(label: &str) -> &str {
    label.find(']').map_or(label, |end| &label[..=end])
}
