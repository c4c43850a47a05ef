//! The helper's program, as a sealed file in memory.
//!
//! Process 1 of a jail runs the helper's program, so `/proc/1/exe` inside leads to that program's inode. Were it dram's own
//! file, a command in the jail could change its mode or owner on the host (the class of CVE-2019-5736). A copy in memory
//! has an inode of its own, and its content is sealed.

use crate::error::SandboxError;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The flag that allows execution where `vm.memfd_noexec` is 1; kernels before 6.3 do not know it.
const MFD_EXEC: u32 = 0x10;

/// The copy that this process made, and the file that it was made of. All helpers share it.
static COPY: Mutex<Option<(PathBuf, Arc<SealedHelper>)>> = Mutex::new(None);

/// A program in a sealed memory file.
#[derive(Debug)]
pub(crate) struct SealedHelper {
    file: OwnedFd,
    mode: u32,
    owner: (u32, u32),
}

impl SealedHelper {
    /// Returns a copy of `program`. It is made once in each process, and again when a command changed its mode or owner.
    ///
    /// # Errors
    /// Fails when the program cannot be read, or the kernel refuses memory files.
    pub(crate) fn of(program: &Path) -> Result<Arc<SealedHelper>, SandboxError> {
        let mut copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, helper)) = &*copy
            && path == program
            && helper.is_unchanged()
        {
            return Ok(Arc::clone(helper));
        }
        let helper = SealedHelper::copy(program)
            .map_err(|source| SandboxError::HelperStart { path: program.display().to_string(), source })?;
        let helper = Arc::new(helper);
        *copy = Some((program.to_owned(), Arc::clone(&helper)));
        Ok(helper)
    }

    fn copy(program: &Path) -> io::Result<SealedHelper> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let made = match memfd_create(c"dram-jail", flags | MemfdFlags::from_bits_retain(MFD_EXEC)) {
            Err(Errno::INVAL) => memfd_create(c"dram-jail", flags),
            made => made,
        };
        let mut file = File::from(made?);
        io::copy(&mut File::open(program)?, &mut file)?;
        let file = OwnedFd::from(file);
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        let status = fstat(&file)?;
        Ok(SealedHelper { file, mode: status.st_mode, owner: (status.st_uid, status.st_gid) })
    }

    fn is_unchanged(&self) -> bool {
        fstat(&self.file).is_ok_and(|now| now.st_mode == self.mode && (now.st_uid, now.st_gid) == self.owner)
    }

    /// Returns the path by which this process executes the copy.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, fchmod};

    #[test]
    fn the_copy_is_shared_sealed_and_made_again_after_a_change_of_its_mode() {
        let program = Path::new("/proc/self/exe");
        let first = SealedHelper::of(program).unwrap();
        assert!(Arc::ptr_eq(&first, &SealedHelper::of(program).unwrap()));
        assert_eq!(std::fs::read(first.path()).unwrap(), std::fs::read(program).unwrap());
        let written = File::options().write(true).open(first.path()).and_then(|file| file.set_len(0));
        assert!(written.is_err());
        fchmod(&first.file, Mode::from_raw_mode(0o4777)).unwrap();
        let second = SealedHelper::of(program).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(second.is_unchanged());
    }
}
