//! Shows the events of a build.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dram_build::request::{BuildNote, RequestEvent};
use dram_build::shared_cache::ExportedCache;
use dram_build::transfer::TransferProgress;

use super::dockerfile_source::DockerfileSource;
use crate::cli::ProgressMode;
use crate::failure::SourceDiagnostics;
use crate::format::{escape_control, format_count, format_size};
use crate::progress::{self, BuildDisplay, TransferLines};
use crate::report;

/// Shows the events of a build, once its plan is known on a [`BuildDisplay`].
pub(super) struct BuildScreen {
    mode: ProgressMode,
    /// The name and the text of the Dockerfile.
    source: (String, String),
    /// Notes about options without effect.
    option_notes: Vec<String>,
    display: OnceLock<BuildDisplay>,
    /// The lines of the transfer that is under way.
    lines: Mutex<Arc<TransferLines>>,
    /// Notes about written caches, which are printed after the summary.
    cache_notes: Mutex<Vec<String>>,
}

impl BuildScreen {
    pub(super) fn new(mode: ProgressMode, source: &DockerfileSource, option_notes: Vec<String>) -> BuildScreen {
        BuildScreen {
            mode,
            source: (source.name.clone(), source.text.clone()),
            option_notes,
            display: OnceLock::new(),
            lines: Mutex::default(),
            cache_notes: Mutex::default(),
        }
    }

    /// The Dockerfile, without diagnostics.
    pub(super) fn source(&self) -> SourceDiagnostics {
        let (name, text) = self.source.clone();
        SourceDiagnostics { name, text, diagnostics: Vec::new() }
    }

    /// Shows `event`.
    pub(super) fn show(&self, event: RequestEvent<'_>) {
        match event {
            RequestEvent::Warnings(warnings) => {
                let diagnostics = warnings.to_vec();
                progress::show_warnings(self.mode, &SourceDiagnostics { diagnostics, ..self.source() });
            }
            RequestEvent::Planned(plan) => {
                self.display.get_or_init(|| BuildDisplay::new(self.mode, plan));
                self.option_notes.iter().for_each(|note| self.print_note(&format!("note: {note}")));
            }
            RequestEvent::Step(event) => {
                if let Some(display) = self.display.get() {
                    display.show_event(event);
                }
            }
            RequestEvent::TransferStarted => *lock(&self.lines) = Arc::default(),
            RequestEvent::Transfer(progress) => {
                let lines = lock(&self.lines).clone();
                self.print_transfer(&lines, progress);
            }
            RequestEvent::Note(note) => self.show_note(note),
            RequestEvent::OutputsEnded => self.finish(),
        }
    }

    /// Returns a callback that shows the progress of lazy pulls.
    pub(super) fn pull_listener(self: Arc<BuildScreen>) -> Box<dyn Fn(TransferProgress) + Send + Sync> {
        let lines = TransferLines::default();
        Box::new(move |progress| {
            if self.display.get().is_some() {
                self.print_transfer(&lines, progress);
            }
        })
    }

    fn print_transfer(&self, lines: &TransferLines, progress: TransferProgress) {
        let line = lines.format_progress(progress);
        if let Some(display) = self.display.get().filter(|_| !line.is_empty()) {
            display.print_line(&line);
        }
    }

    fn show_note(&self, note: BuildNote) {
        match note {
            BuildNote::CacheNotImported { cache, causes } => {
                let why = causes.join(": ");
                self.print_note(&format!("note: `--cache-from {cache}`: {why}; it is not used"));
            }
            BuildNote::CacheFailed(warning) => self.print_note(&format!("note: {warning}")),
            BuildNote::CacheExported { cache, exported: ExportedCache { steps, layers, size, .. } } => {
                let (steps, layers) = (format_count(steps, "step"), format_count(layers, "layer"));
                lock(&self.cache_notes).push(format!("cached in {cache}: {steps}, {layers} of {}", format_size(size)));
            }
            BuildNote::CacheNotExported { cache, causes } => {
                lock(&self.cache_notes).push(format!("note: `--cache-to {cache}`: {}", causes.join(": ")));
            }
        }
    }

    fn print_note(&self, note: &str) {
        if self.prints_notes() {
            report::print_note(&escape_control(note));
        }
    }

    /// Prints the notes about written caches.
    pub(super) fn print_cache_notes(&self) {
        lock(&self.cache_notes).iter().for_each(|note| self.print_note(note));
    }

    /// Ends the display.
    pub(super) fn finish(&self) {
        if let Some(display) = self.display.get() {
            display.finish();
        }
    }

    /// Returns true if people read the display; programs read the other styles.
    pub(super) fn prints_notes(&self) -> bool {
        self.display.get().is_some_and(BuildDisplay::prints_notes)
    }

    /// Returns true if the output of commands stays on the screen.
    pub(super) fn shows_output(&self) -> bool {
        self.display.get().is_some_and(BuildDisplay::shows_output)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
