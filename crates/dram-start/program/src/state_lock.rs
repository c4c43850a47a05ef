//! The state file, which names the process of the release. Only that process holds the lock of the file.

use alloc::format;

use dram_start::byte_string::{ByteString, concat};
use dram_start::environment::EnvironmentVariables;
use dram_start::error::printable;
use dram_start::release::StartSettings;
use dram_start::state_file::{StartState, parse_start_time};

use crate::errno::StartErrno;
use crate::files::OwnFileError;
use crate::sys::StartFd;
use crate::{files, sys};

pub(crate) fn state_file_path(release: &StartSettings) -> ByteString {
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
    let path = state_file_path(release);
    let file = match files::open_own(&path, sys::RDWR | sys::CREAT, 0o600) {
        Ok(file) => file,
        // A read-only file system is a usual one.
        Err(OwnFileError::Errno(_)) => return UNLOCKED,
        Err(why) => {
            let note = format!(
                "cannot use `{}`: {why}; without it `ping`, `pid` and `stop` need a node name: set RELEASE_TMP to a \
                 directory of your own\n",
                printable(&path)
            );
            let _ = sys::write_all(2, note.as_bytes());
            return UNLOCKED;
        }
    };
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
    pub(crate) fn write_state(&self, process: i32, env: &EnvironmentVariables) {
        if let Some(path) = env.get_non_empty("PIDFILE")
            && let Err(why) = write_pid_file(path, process)
        {
            let note = format!("cannot write PIDFILE `{}`: {why}\n", printable(path));
            let _ = sys::write_all(2, note.as_bytes());
        }
        if let Some(file) = &self.file {
            let started = read_process_stat(process).as_deref().and_then(parse_start_time).unwrap_or_default();
            let text = StartState { pid: process, start_time: started }.to_text();
            let _ = sys::truncate(file).and_then(|()| sys::write_all(file.0, &text));
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

fn write_pid_file(path: &[u8], process: i32) -> Result<(), OwnFileError> {
    let file = files::open_own(path, sys::WRONLY | sys::CREAT, 0o644)?;
    let written = sys::truncate(&file).and_then(|()| sys::write_all(file.0, format!("{process}\n").as_bytes()));
    written.map_err(OwnFileError::Errno)
}

fn read_process_stat(process: i32) -> Option<ByteString> {
    files::read(format!("/proc/{process}/stat").as_bytes()).ok()
}

/// Returns true if the process does not exist, or has ended and its parent does not know it yet.
pub(crate) fn has_ended(process: i32) -> bool {
    let is_zombie = |stat: &[u8]| {
        // The state is behind the name, which may contain spaces and parentheses.
        let end = stat.iter().rposition(|byte| *byte == b')');
        end.and_then(|end| stat.get(end + 2)).is_some_and(|state| b"ZX".contains(state))
    };
    matches!(sys::kill(process, 0), Err(StartErrno::NOPROCESS))
        || read_process_stat(process).as_deref().is_some_and(is_zombie)
}

/// The state of the release, as far as it is known.
#[derive(Debug)]
pub(crate) enum ReleaseStatus {
    /// It runs in this process.
    Running(StartState),
    /// It runs in another container: its pid means another process here.
    OtherContainer,
    /// The state file is not used, for this reason.
    Unusable(OwnFileError),
    /// It does not run, as far as this user can know.
    NotRunning,
}

/// Checks the lock of the state file, and the process that it names.
pub(crate) fn release_status(release: &StartSettings) -> ReleaseStatus {
    let file = match files::open_own(&state_file_path(release), sys::RDONLY, 0) {
        Ok(file) => file,
        Err(OwnFileError::Errno(StartErrno::NOENT)) => return ReleaseStatus::NotRunning,
        Err(why) => return ReleaseStatus::Unusable(why),
    };
    if !matches!(sys::try_lock(&file), Err(StartErrno::AGAIN)) {
        return ReleaseStatus::NotRunning;
    }
    let Some(state) = files::read_open_file(&file).ok().and_then(|text| StartState::parse(&text)) else {
        return ReleaseStatus::NotRunning;
    };
    let exists = !matches!(sys::kill(state.pid, 0), Err(StartErrno::NOPROCESS));
    match exists && state.matches_process(read_process_stat(state.pid).as_deref()) {
        true => ReleaseStatus::Running(state),
        false => ReleaseStatus::OtherContainer,
    }
}
