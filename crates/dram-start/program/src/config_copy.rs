//! A copy of the configuration in `RELEASE_TMP`, with what is only known at a start. It may hold secrets, so it is
//! removed when the emulator that reads it ends. Until then a restart inside of the emulator reads it again.
//!
//! The emulator holds a lock of the copy's directory. A copy without a lock was left by a crash, and the next start
//! removes it.

use alloc::format;
use alloc::vec::Vec;

use dram_start::byte_string::{ByteString, concat, file_name, parent_path};
use dram_start::error::{StartError, printable};
use dram_start::release::StartSettings;

use crate::errno::StartErrno;
use crate::sys::StartFd;
use crate::{files, process, sys};

const SUFFIX: &[u8] = b".runtime";

/// A copy, and the lock of its directory.
pub(crate) struct ConfigCopy {
    dir: ByteString,
    lock: StartFd,
}

fn not_writable_error(path: &[u8], errno: StartErrno) -> StartError {
    let what = format!("cannot write `{}`: {errno}", printable(path));
    StartError::new(what, "set RELEASE_TMP to a directory that this user may write")
}

impl ConfigCopy {
    /// Writes a copy of the configuration `from` with the content `text`, and of the files beside it that it may include.
    pub(crate) fn write(release: &StartSettings, from: &[u8], text: &[u8]) -> Result<Self, StartError> {
        remove_abandoned(release);
        let name = concat(&[&release.name, b"-", &release.home.vsn, b"-", &files::random_name(), SUFFIX]);
        // The process that removes it leaves the working directory.
        let tmp = files::absolute_path(&release.tmp);
        let dir = concat(&[&tmp, b"/", &name]);
        let wrong = |errno| not_writable_error(&dir, errno);
        files::make_directories(&release.tmp).map_err(wrong)?;
        // It has its name only when it is locked: another start would take it for one that was left behind.
        let unlocked = concat(&[&tmp, b"/.", &name]);
        sys::make_directory(&unlocked, 0o700).map_err(wrong)?;
        let lock = open_directory(&unlocked)
            .and_then(|lock| sys::try_lock(&lock).and_then(|()| sys::rename(&unlocked, &dir)).map(|()| lock));
        let lock = lock.inspect_err(|_| remove_files(&unlocked)).map_err(wrong)?;
        let copy = Self { dir, lock };
        copy.write_files(from, text).inspect_err(|_| copy.remove())?;
        Ok(copy)
    }

    fn write_files(&self, from: &[u8], text: &[u8]) -> Result<(), StartError> {
        let beside = parent_path(from);
        for name in files::list_directory(beside).unwrap_or_default() {
            if name.ends_with(b".config") && name != file_name(from) && name != b"sys.config" {
                let text = files::read_required(&concat(&[beside, b"/", &name]))?;
                let copy = concat(&[&self.dir, b"/", &name]);
                files::write_private(&copy, &text).map_err(|errno| not_writable_error(&copy, errno))?;
            }
        }
        let copy = concat(&[&self.stem(), b".config"]);
        files::write_private(&copy, text).map_err(|errno| not_writable_error(&copy, errno))
    }

    /// The path of the copy, without `.config`.
    pub(crate) fn stem(&self) -> ByteString {
        // Only a file with this name may include others.
        concat(&[&self.dir, b"/sys"])
    }

    /// Removes the copy now.
    pub(crate) fn remove(&self) {
        remove_files(&self.dir);
    }

    /// Leaves a background process that removes the copy when the program that is executed in this process ends.
    pub(crate) fn remove_when_this_process_ends(&self) -> Result<(), StartError> {
        process::spawn_detached(|| {
            // A key at the terminal, or the end of a session, is for the emulator; this process ends with it.
            sys::block_signals(u64::MAX);
            // The lock that it inherited must not be the one it waits for.
            process::close_inherited_files();
            if let Ok(null) = sys::open(b"/dev/null", sys::RDWR | sys::CLOEXEC, 0) {
                for fd in 0..3 {
                    let _ = sys::duplicate(&null, fd);
                }
            }
            let Ok(lock) = open_directory(&self.dir) else { return };
            let _ = sys::change_directory(b"/");
            if sys::wait_for_lock(&lock).is_ok() {
                self.remove();
            }
        })?;
        sys::clear_close_on_exec(&self.lock).map_err(|errno| not_writable_error(&self.dir, errno))
    }
}

fn open_directory(path: &[u8]) -> Result<StartFd, StartErrno> {
    sys::open(path, sys::RDONLY | sys::NOFOLLOW | sys::NONBLOCK | sys::CLOEXEC, 0)
}

fn remove_files(dir: &[u8]) {
    for name in files::list_directory(dir).unwrap_or_default() {
        let _ = sys::unlink(&concat(&[dir, b"/", &name]));
    }
    let _ = sys::remove_directory(dir);
}

/// Removes the copies of this user that no emulator has locked.
fn remove_abandoned(release: &StartSettings) {
    let start = concat(&[&release.name, b"-"]);
    let names: Vec<ByteString> = files::list_directory(&release.tmp).unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with(&start) && name.ends_with(SUFFIX)) {
        let dir = concat(&[&release.tmp, b"/", name]);
        let Ok(lock) = open_directory(&dir) else { continue };
        if files::is_own_open_directory(&lock) && sys::try_lock(&lock).is_ok() {
            remove_files(&dir);
        }
    }
}
