//! Shows the transfer of an image on standard error: a line for each blob, and the rate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dram_build::transfer::TransferProgress;
use dram_image::Digest;

use crate::ambient;
use crate::cli;
use crate::format::format_size;
use crate::progress::write_stderr;

/// The interval between lines about a running blob, without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between redraws on a terminal.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Shows the transfer progress of one image. The threads of the transfer share it.
pub(crate) struct TransferDisplay {
    style: TransferDisplayStyle,
    state: Mutex<TransferDisplayState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransferDisplayStyle {
    Tty,
    Plain,
    Quiet,
}

/// Formats transfer progress as lines, for another display.
#[derive(Default)]
pub(crate) struct TransferLines(Mutex<TransferDisplayState>);

impl TransferLines {
    /// The line for `motion`; empty if there is nothing to show.
    pub(crate) fn format_progress(&self, motion: TransferProgress) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).format_progress(motion).text().to_owned()
    }
}

struct TransferDisplayState {
    started: Instant,
    /// The number and the size of each blob.
    blobs: BTreeMap<Digest, (usize, u64)>,
    running: BTreeMap<Digest, BlobInTransfer>,
    drawn_lines: usize,
    last_redraw: Option<Instant>,
    moved_bytes: u64,
    existing: usize,
    mounted: usize,
}

struct BlobInTransfer {
    started: Instant,
    last_line: Instant,
    bytes: u64,
}

impl TransferDisplay {
    /// A display in the requested style; for `auto`, standard error decides.
    pub(crate) fn new(asked: cli::ProgressMode) -> TransferDisplay {
        let dumb = ambient::has_dumb_terminal();
        let style = match asked {
            cli::ProgressMode::Auto if std::io::stderr().is_terminal() && !dumb => TransferDisplayStyle::Tty,
            cli::ProgressMode::Auto | cli::ProgressMode::Plain => TransferDisplayStyle::Plain,
            cli::ProgressMode::Tty => TransferDisplayStyle::Tty,
            cli::ProgressMode::Rawjson | cli::ProgressMode::Quiet => TransferDisplayStyle::Quiet,
        };
        TransferDisplay { style, state: Mutex::default() }
    }

    /// Shows `motion`.
    pub(crate) fn show_progress(&self, motion: TransferProgress) {
        if self.style == TransferDisplayStyle::Quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = state.format_progress(motion);
        match self.style {
            TransferDisplayStyle::Plain => write_stderr(line.text()),
            TransferDisplayStyle::Tty => state.redraw(&line),
            TransferDisplayStyle::Quiet => {}
        }
    }

    /// Clears the region that is redrawn, and returns a summary.
    pub(crate) fn finish(&self) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.clear();
        if self.style == TransferDisplayStyle::Tty {
            state.last_redraw = None;
            state.redraw(&ProgressLine::None);
        }
        state.summary()
    }

    /// Returns true if people read this display.
    pub(crate) fn prints_notes(&self) -> bool {
        self.style != TransferDisplayStyle::Quiet
    }
}

impl Default for TransferDisplayState {
    fn default() -> TransferDisplayState {
        TransferDisplayState {
            started: Instant::now(),
            blobs: BTreeMap::new(),
            running: BTreeMap::new(),
            drawn_lines: 0,
            last_redraw: None,
            moved_bytes: 0,
            existing: 0,
            mounted: 0,
        }
    }
}

/// The line that a [`TransferProgress`] is shown as.
#[derive(Debug, PartialEq, Eq)]
enum ProgressLine {
    /// The last line about a blob.
    Final(String),
    /// A line about a blob of which more is to come.
    Interim(String),
    /// Nothing is shown.
    None,
}

impl ProgressLine {
    fn text(&self) -> &str {
        match self {
            ProgressLine::Final(text) | ProgressLine::Interim(text) => text,
            ProgressLine::None => "",
        }
    }
}

impl TransferDisplayState {
    /// The line for `motion`.
    fn format_progress(&mut self, motion: TransferProgress) -> ProgressLine {
        match motion {
            TransferProgress::Planned(all) => {
                let numbered = all.into_iter().enumerate();
                self.blobs.extend(numbered.map(|(at, blob)| (blob.digest, (at + 1, blob.size))));
                ProgressLine::None
            }
            TransferProgress::AlreadyPresent(digest) => {
                self.existing += 1;
                ProgressLine::Final(format!("{} already exists\n", self.label(&digest)))
            }
            TransferProgress::Mounted(digest) => {
                self.mounted += 1;
                ProgressLine::Final(format!("{} is mounted from another repository\n", self.label(&digest)))
            }
            TransferProgress::Started(blob) => {
                let now = Instant::now();
                self.running.insert(blob.digest, BlobInTransfer { started: now, last_line: now, bytes: 0 });
                ProgressLine::None
            }
            TransferProgress::Bytes(digest, more) => self.add_bytes(&digest, more),
            TransferProgress::Done(digest) => {
                let Some(running) = self.running.remove(&digest) else { return ProgressLine::None };
                self.moved_bytes += running.bytes;
                let took = running.started.elapsed().as_secs_f64();
                let rate = format_rate(running.bytes, took);
                ProgressLine::Final(format!("{} done in {took:.2}s{rate}\n", self.label(&digest)))
            }
        }
    }

    fn add_bytes(&mut self, digest: &Digest, more: u64) -> ProgressLine {
        let whole = self.blobs.get(digest).map_or(0, |(_, size)| *size);
        let label = self.label(digest);
        let Some(running) = self.running.get_mut(digest) else { return ProgressLine::None };
        running.bytes += more;
        if running.last_line.elapsed() < LINE_INTERVAL || running.bytes == whole {
            return ProgressLine::None;
        }
        running.last_line = Instant::now();
        let took = running.started.elapsed().as_secs_f64();
        let (percent, rate) = (format_percent(running.bytes, whole), format_rate(running.bytes, took));
        ProgressLine::Interim(format!("{label} {percent}{rate}\n"))
    }

    /// The label of a blob, as `[2/5] 3f786850e387 12.3 MB`.
    fn label(&self, digest: &Digest) -> String {
        let (at, bytes) = self.blobs.get(digest).copied().unwrap_or_default();
        format!("[{at}/{}] {} {}", self.blobs.len(), &digest.hex()[..12], format_size(bytes))
    }

    fn redraw(&mut self, above: &ProgressLine) {
        if matches!(above, ProgressLine::None) && self.last_redraw.is_some_and(|last| last.elapsed() < REDRAW_INTERVAL)
        {
            return;
        }
        self.last_redraw = Some(Instant::now());
        let mut out = if self.drawn_lines > 0 { format!("\x1b[{}A\x1b[J", self.drawn_lines) } else { String::new() };
        // Running blobs are redrawn below all the time, so only lines about finished ones are printed.
        out.push_str(match above {
            ProgressLine::Final(text) => text,
            ProgressLine::Interim(_) | ProgressLine::None => "",
        });
        self.drawn_lines = self.running.len();
        for (digest, running) in &self.running {
            let whole = self.blobs.get(digest).map_or(0, |(_, size)| *size);
            let rate = format_rate(running.bytes, running.started.elapsed().as_secs_f64());
            let _ = writeln!(out, "{} {}{rate}", self.label(digest), format_percent(running.bytes, whole));
        }
        write_stderr(&out);
    }

    /// The summary, as `12.3 MB in 0.52s, 23.6 MB/s; 4 of 7 blobs already existed`.
    fn summary(&self) -> String {
        let took = self.started.elapsed().as_secs_f64();
        let mut text =
            format!("{} in {took:.2}s{}", format_size(self.moved_bytes), format_rate(self.moved_bytes, took));
        if self.existing > 0 {
            let _ = write!(text, "; {} of {} blobs already existed", self.existing, self.blobs.len());
        }
        if self.mounted > 0 {
            let _ =
                write!(text, "; {} of {} blobs were mounted from other repositories", self.mounted, self.blobs.len());
        }
        text
    }
}

fn format_percent(bytes: u64, whole: u64) -> String {
    let percent = u128::from(bytes) * 100 / u128::from(whole.max(1));
    format!("{percent}%")
}

/// The rate, as `, 23.6 MB/s`; empty below 1 MB, which is too quick to be measured.
fn format_rate(bytes: u64, seconds: f64) -> String {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // three digits
    let rate = (bytes as f64 / seconds.max(1e-3)) as u64;
    if bytes < 1_000_000 { String::new() } else { format!(", {}/s", format_size(rate)) }
}

#[cfg(test)]
mod tests {
    use dram_image::Descriptor;

    use super::*;

    #[test]
    fn every_blob_has_a_line_and_counts_in_the_summary() {
        let moving = TransferDisplay::new(cli::ProgressMode::Plain);
        let mut state = moving.state.lock().unwrap();
        let blobs: Vec<Descriptor> =
            [&b"a"[..], b"b", b"c"].iter().map(|bytes| Descriptor::new("", Digest::of(bytes), 1500)).collect();
        assert_eq!(state.format_progress(TransferProgress::Planned(blobs.clone())), ProgressLine::None);
        let mut last_line = |motion| match state.format_progress(motion) {
            ProgressLine::Final(text) => text,
            other @ (ProgressLine::Interim(_) | ProgressLine::None) => panic!("{other:?} is no last line"),
        };
        let present = last_line(TransferProgress::AlreadyPresent(blobs[0].digest));
        assert!(present.starts_with("[1/3] ca978112ca1b 1.50 kB already exists"), "{present}");
        assert!(last_line(TransferProgress::Mounted(blobs[1].digest)).contains("[2/3]"));
        assert_eq!(state.format_progress(TransferProgress::Started(blobs[2].clone())), ProgressLine::None);
        state.running.get_mut(&blobs[2].digest).unwrap().last_line -= LINE_INTERVAL;
        let interim = state.format_progress(TransferProgress::Bytes(blobs[2].digest, 500));
        assert_eq!(interim, ProgressLine::Interim("[3/3] 2e7d2c03a950 1.50 kB 33%\n".to_owned()));
        assert_eq!(state.format_progress(TransferProgress::Bytes(blobs[2].digest, 1000)), ProgressLine::None);
        let done = state.format_progress(TransferProgress::Done(blobs[2].digest));
        assert!(matches!(&done, ProgressLine::Final(text) if text.starts_with("[3/3] 2e7d2c03a950 1.50 kB done in ")));
        let summary = state.summary();
        assert!(summary.starts_with("1.50 kB in ") && summary.contains("1 of 3 blobs already existed"), "{summary}");
        assert_eq!(format_percent(1, 3), "33%");
        assert_eq!(format_rate(2_000_000, 2.0), ", 1.00 MB/s");
    }
}
