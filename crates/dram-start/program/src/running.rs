//! The state file, which names the process of the release. Only that process holds the lock of the file.

use alloc::format;

use dram_start::bytes::{Bytes, join};
use dram_start::environment::Environment;
use dram_start::release::Release;
use dram_start::state::{State, started};

use crate::errno::Errno;
use crate::sys::Fd;
use crate::{files, sys};

fn path(release: &Release) -> Bytes {
    join(&[&release.tmp, b"/", &release.name, b".state"])
}

/// The locked state file; `None` inside if this process has no lock.
pub(crate) struct Held(Option<Fd>);

/// Locks the state file. Returns without a lock if the file cannot be written, or another process holds the lock.
pub(crate) fn hold(release: &Release, env: &Environment) -> Held {
    if env.is_true("RELEASE_READ_ONLY") || files::make_directories(&release.tmp).is_err() {
        return Held(None);
    }
    let flags = sys::RDWR | sys::CREAT | sys::NOFOLLOW | sys::CLOEXEC;
    let Ok(file) = sys::open(&path(release), flags, 0o600) else { return Held(None) };
    // A command that only checks the lock holds it for a moment.
    for _ in 0..5 {
        if sys::lock(&file).is_ok() {
            return Held(Some(file));
        }
        sys::pause(5);
    }
    Held(None)
}

impl Held {
    /// Writes the pid to the state file and to `PIDFILE`.
    pub(crate) fn write(&self, release: &Release, process: i32, env: &Environment) {
        if let Some(path) = env.filled("PIDFILE") {
            let file = sys::open(path, sys::WRONLY | sys::CREAT | sys::TRUNC | sys::CLOEXEC, 0o644);
            let _ = file.and_then(|file| sys::write_all(file.0, format!("{process}\n").as_bytes()));
        }
        if self.0.is_some() {
            let started = stat(process).as_deref().and_then(started).unwrap_or_default();
            let again = sys::open(&path(release), sys::WRONLY | sys::TRUNC | sys::NOFOLLOW | sys::CLOEXEC, 0);
            let _ = again.and_then(|file| sys::write_all(file.0, &State { process, started }.text()));
        }
    }

    /// Leaves the locked file open for the program that is executed in this process.
    pub(crate) fn hand_over(self) {
        if let Some(file) = self.0
            && sys::keep_open(&file).is_ok()
        {
            file.leave_open();
        }
    }
}

fn stat(process: i32) -> Option<Bytes> {
    files::read(format!("/proc/{process}/stat").as_bytes()).ok()
}

/// The state of the release, as far as it is known.
#[derive(Debug)]
pub(crate) enum Running {
    /// It runs in this process.
    Yes(State),
    /// It runs in another container: its pid means another process here.
    Elsewhere,
    /// It does not run, as far as this user can know.
    No,
}

/// Checks the lock of the state file, and the process that it names.
pub(crate) fn look(release: &Release) -> Running {
    let Ok(file) = sys::open(&path(release), sys::RDONLY | sys::CLOEXEC, 0) else { return Running::No };
    if !matches!(sys::lock(&file), Err(Errno::AGAIN)) {
        return Running::No;
    }
    let Some(state) = files::read(&path(release)).ok().and_then(|text| State::read(&text)) else { return Running::No };
    let exists = !matches!(sys::kill(state.process, 0), Err(Errno(3)));
    match exists && state.is_still(stat(state.process).as_deref()) {
        true => Running::Yes(state),
        false => Running::Elsewhere,
    }
}
