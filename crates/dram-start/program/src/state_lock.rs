//! The state file, which names the process of the release. Only that process holds the lock of the file.

use alloc::format;

use dram_start::byte_string::{ByteString, concat};
use dram_start::environment::EnvironmentVariables;
use dram_start::release::StartSettings;
use dram_start::state_file::{StartState, parse_start_time};

use crate::errno::StartErrno;
use crate::sys::StartFd;
use crate::{files, sys};

fn state_file_path(release: &StartSettings) -> ByteString {
    concat(&[&release.tmp, b"/", &release.name, b".state"])
}

/// The locked state file, if this process has the lock.
pub(crate) struct StateFileLock {
    file: Option<StartFd>,
    is_held_by_another: bool,
}

/// No lock, because the file cannot be written.
const UNLOCKED: StateFileLock = StateFileLock { file: None, is_held_by_another: false };

/// Locks the state file. Returns without a lock if the file cannot be written, or another process holds the lock.
pub(crate) fn lock_state_file(release: &StartSettings, env: &EnvironmentVariables) -> StateFileLock {
    if env.is_true("RELEASE_READ_ONLY") || files::make_directories(&release.tmp).is_err() {
        return UNLOCKED;
    }
    let flags = sys::RDWR | sys::CREAT | sys::NOFOLLOW | sys::CLOEXEC;
    let Ok(file) = sys::open(&state_file_path(release), flags, 0o600) else { return UNLOCKED };
    // A command that only checks the lock holds it for a moment.
    for _ in 0..5 {
        if sys::try_lock(&file).is_ok() {
            return StateFileLock { file: Some(file), is_held_by_another: false };
        }
        sys::sleep(5);
    }
    StateFileLock { file: None, is_held_by_another: true }
}

impl StateFileLock {
    /// Returns true if another process has the lock.
    pub(crate) fn is_held_by_another(&self) -> bool {
        self.is_held_by_another
    }

    /// Writes the pid to the state file and to `PIDFILE`.
    pub(crate) fn write_state(&self, release: &StartSettings, process: i32, env: &EnvironmentVariables) {
        if let Some(path) = env.get_non_empty("PIDFILE") {
            let file = sys::open(path, sys::WRONLY | sys::CREAT | sys::TRUNC | sys::CLOEXEC, 0o644);
            let _ = file.and_then(|file| sys::write_all(file.0, format!("{process}\n").as_bytes()));
        }
        if self.file.is_some() {
            let started = read_process_stat(process).as_deref().and_then(parse_start_time).unwrap_or_default();
            let again =
                sys::open(&state_file_path(release), sys::WRONLY | sys::TRUNC | sys::NOFOLLOW | sys::CLOEXEC, 0);
            let _ = again
                .and_then(|file| sys::write_all(file.0, &StartState { pid: process, start_time: started }.to_text()));
        }
    }

    /// Leaves the locked file open for the program that is executed in this process.
    pub(crate) fn keep_across_exec(self) {
        if let Some(file) = self.file
            && sys::clear_close_on_exec(&file).is_ok()
        {
            file.leave_open();
        }
    }
}

fn read_process_stat(process: i32) -> Option<ByteString> {
    files::read(format!("/proc/{process}/stat").as_bytes()).ok()
}

/// The state of the release, as far as it is known.
#[derive(Debug)]
pub(crate) enum ReleaseStatus {
    /// It runs in this process.
    Running(StartState),
    /// It runs in another container: its pid means another process here.
    OtherContainer,
    /// It does not run, as far as this user can know.
    NotRunning,
}

/// Checks the lock of the state file, and the process that it names.
pub(crate) fn release_status(release: &StartSettings) -> ReleaseStatus {
    let Ok(file) = sys::open(&state_file_path(release), sys::RDONLY | sys::CLOEXEC, 0) else {
        return ReleaseStatus::NotRunning;
    };
    if !matches!(sys::try_lock(&file), Err(StartErrno::AGAIN)) {
        return ReleaseStatus::NotRunning;
    }
    let Some(state) = files::read(&state_file_path(release)).ok().and_then(|text| StartState::parse(&text)) else {
        return ReleaseStatus::NotRunning;
    };
    let exists = !matches!(sys::kill(state.pid, 0), Err(StartErrno::NOPROCESS));
    match exists && state.matches_process(read_process_stat(state.pid).as_deref()) {
        true => ReleaseStatus::Running(state),
        false => ReleaseStatus::OtherContainer,
    }
}
