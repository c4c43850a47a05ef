//! Shows the transfer of an image on standard error: a line for each blob, and the rate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dram_build::transfer::Motion;
use dram_image::Digest;

use crate::cli;
use crate::format::size;
use crate::progress::write;

/// The interval between lines about a running blob, without a terminal.
const EVERY: Duration = Duration::from_secs(5);
/// The interval between redraws on a terminal.
const REDRAW: Duration = Duration::from_millis(100);

/// Shows the transfer progress of one image. The threads of the transfer share it.
pub(crate) struct Moving {
    style: Style,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Tty,
    Plain,
    Quiet,
}

/// Formats transfer progress as lines, for another display.
#[derive(Default)]
pub(crate) struct Lines(Mutex<State>);

impl Lines {
    /// The line for `motion`; empty if there is nothing to show.
    pub(crate) fn line(&self, motion: Motion) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).line(motion)
    }
}

struct State {
    began: Instant,
    /// The number and the size of each blob.
    blobs: BTreeMap<Digest, (usize, u64)>,
    running: BTreeMap<Digest, Running>,
    drawn: usize,
    redrawn: Option<Instant>,
    moved: u64,
    here: usize,
    mounted: usize,
}

struct Running {
    began: Instant,
    told: Instant,
    bytes: u64,
}

impl Moving {
    /// A display in the requested style; for `auto`, standard error decides.
    pub(crate) fn new(asked: cli::Progress) -> Moving {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let style = match asked {
            cli::Progress::Auto if std::io::stderr().is_terminal() && !dumb => Style::Tty,
            cli::Progress::Auto | cli::Progress::Plain => Style::Plain,
            cli::Progress::Tty => Style::Tty,
            cli::Progress::Rawjson | cli::Progress::Quiet => Style::Quiet,
        };
        Moving { style, state: Mutex::default() }
    }

    /// Shows `motion`.
    pub(crate) fn tell(&self, motion: Motion) {
        if self.style == Style::Quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = state.line(motion);
        match self.style {
            Style::Plain if !line.is_empty() => write(&line),
            Style::Tty => state.redraw(&line),
            Style::Plain | Style::Quiet => {}
        }
    }

    /// Clears the region that is redrawn, and returns a summary.
    pub(crate) fn end(&self) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.clear();
        if self.style == Style::Tty {
            state.redrawn = None;
            state.redraw("");
        }
        state.summary()
    }

    /// Returns true if people read this display.
    pub(crate) fn speaks(&self) -> bool {
        self.style != Style::Quiet
    }
}

impl Default for State {
    fn default() -> State {
        State {
            began: Instant::now(),
            blobs: BTreeMap::new(),
            running: BTreeMap::new(),
            drawn: 0,
            redrawn: None,
            moved: 0,
            here: 0,
            mounted: 0,
        }
    }
}

impl State {
    /// The line for `motion` that stays on the screen; empty if there is none.
    fn line(&mut self, motion: Motion) -> String {
        match motion {
            Motion::Needs(all) => {
                let numbered = all.into_iter().enumerate();
                self.blobs.extend(numbered.map(|(at, blob)| (blob.digest, (at + 1, blob.size))));
                String::new()
            }
            Motion::Here(digest) => {
                self.here += 1;
                format!("{} is there\n", self.label(&digest))
            }
            Motion::Mounted(digest) => {
                self.mounted += 1;
                format!("{} is taken from another repository there\n", self.label(&digest))
            }
            Motion::Began(blob) => {
                let now = Instant::now();
                self.running.insert(blob.digest, Running { began: now, told: now, bytes: 0 });
                String::new()
            }
            Motion::Bytes(digest, more) => self.more(&digest, more),
            Motion::Done(digest) => {
                let Some(running) = self.running.remove(&digest) else { return String::new() };
                self.moved += running.bytes;
                let took = running.began.elapsed().as_secs_f64();
                format!("{} done in {took:.2}s{}\n", self.label(&digest), rate(running.bytes, took))
            }
        }
    }

    fn more(&mut self, digest: &Digest, more: u64) -> String {
        let whole = self.blobs.get(digest).map_or(0, |(_, size)| *size);
        let label = self.label(digest);
        let Some(running) = self.running.get_mut(digest) else { return String::new() };
        running.bytes += more;
        if running.told.elapsed() < EVERY || running.bytes == whole {
            return String::new();
        }
        running.told = Instant::now();
        let took = running.began.elapsed().as_secs_f64();
        format!("{label} {}{}\n", percent(running.bytes, whole), rate(running.bytes, took))
    }

    /// The label of a blob, as `[2/5] 3f786850e387 12.3 MB`.
    fn label(&self, digest: &Digest) -> String {
        let (at, bytes) = self.blobs.get(digest).copied().unwrap_or_default();
        format!("[{at}/{}] {} {}", self.blobs.len(), &digest.hex()[..12], size(bytes))
    }

    fn redraw(&mut self, above: &str) {
        if above.is_empty() && self.redrawn.is_some_and(|last| last.elapsed() < REDRAW) {
            return;
        }
        self.redrawn = Some(Instant::now());
        let mut out = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
        // Running blobs are redrawn below all the time, so only lines about finished ones are printed.
        out.push_str(if above.contains(" done in ") || above.contains(" is ") { above } else { "" });
        self.drawn = self.running.len();
        for (digest, running) in &self.running {
            let whole = self.blobs.get(digest).map_or(0, |(_, size)| *size);
            let rate = rate(running.bytes, running.began.elapsed().as_secs_f64());
            let _ = writeln!(out, "{} {}{rate}", self.label(digest), percent(running.bytes, whole));
        }
        write(&out);
    }

    /// The summary, as `12.3 MB in 0.52s, 23.6 MB/s; 4 of 7 blobs were there`.
    fn summary(&self) -> String {
        let took = self.began.elapsed().as_secs_f64();
        let mut text = format!("{} in {took:.2}s{}", size(self.moved), rate(self.moved, took));
        if self.here > 0 {
            let _ = write!(text, "; {} of {} blobs were there", self.here, self.blobs.len());
        }
        if self.mounted > 0 {
            let _ = write!(text, "; {} of {} blobs were taken from other repositories", self.mounted, self.blobs.len());
        }
        text
    }
}

fn percent(bytes: u64, whole: u64) -> String {
    let percent = u128::from(bytes) * 100 / u128::from(whole.max(1));
    format!("{percent}%")
}

/// The rate, as `, 23.6 MB/s`; empty below 1 MB, which is too quick to be measured.
fn rate(bytes: u64, seconds: f64) -> String {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // three digits
    let rate = (bytes as f64 / seconds.max(1e-3)) as u64;
    if bytes < 1_000_000 { String::new() } else { format!(", {}/s", size(rate)) }
}

#[cfg(test)]
mod tests {
    use dram_image::Descriptor;

    use super::*;

    #[test]
    fn every_blob_has_a_line_and_counts_in_the_summary() {
        let moving = Moving::new(cli::Progress::Plain);
        let mut state = moving.state.lock().unwrap();
        let blobs: Vec<Descriptor> =
            [&b"a"[..], b"b", b"c"].iter().map(|bytes| Descriptor::new("", Digest::of(bytes), 1500)).collect();
        assert_eq!(state.line(Motion::Needs(blobs.clone())), "");
        assert!(state.line(Motion::Here(blobs[0].digest)).starts_with("[1/3] ca978112ca1b 1.50 kB is there"));
        assert!(state.line(Motion::Mounted(blobs[1].digest)).contains("[2/3]"));
        assert_eq!(state.line(Motion::Began(blobs[2].clone())), "");
        assert_eq!(state.line(Motion::Bytes(blobs[2].digest, 1500)), "");
        assert!(state.line(Motion::Done(blobs[2].digest)).starts_with("[3/3] 2e7d2c03a950 1.50 kB done in "));
        let summary = state.summary();
        assert!(summary.starts_with("1.50 kB in ") && summary.contains("1 of 3 blobs were there"), "{summary}");
        assert_eq!(percent(1, 3), "33%");
        assert_eq!(rate(2_000_000, 2.0), ", 1.00 MB/s");
    }
}
