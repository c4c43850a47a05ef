//! The helper's program, as a sealed file in memory.
//!
//! Process 1 of a jail runs the helper's program, so `/proc/1/exe` inside leads to that program's inode. Were it a file of
//! the host, a command in the jail could change its mode or owner there (the class of CVE-2019-5736). A copy in memory
//! has an inode of its own, and its content is sealed.

use crate::error::SandboxError;
use crate::small_files::write_all;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The program, which the build script has built: static, without the standard library, for this architecture.
pub(crate) const HELPER_PROGRAM: &[u8] = include_bytes!(env!("JAIL_HELPER"));

/// The flag that allows execution where `vm.memfd_noexec` is 1; kernels before 6.3 do not know it.
const MFD_EXEC: u32 = 0x10;

/// The copy that this process made. All helpers share it.
static COPY: Mutex<Option<Arc<SealedHelper>>> = Mutex::new(None);

/// The helper's program in a sealed memory file.
#[derive(Debug)]
pub(crate) struct SealedHelper {
    file: OwnedFd,
    mode: u32,
    owner: (u32, u32),
}

impl SealedHelper {
    /// Returns the program. It is written once in each process, and again when a command changed its mode or owner.
    ///
    /// # Errors
    /// Fails when the kernel refuses memory files.
    pub(crate) fn shared() -> Result<Arc<SealedHelper>, SandboxError> {
        let mut copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(helper) = &*copy
            && helper.is_unchanged()
        {
            return Ok(Arc::clone(helper));
        }
        let helper =
            Arc::new(SealedHelper::write().map_err(|error| SandboxError::HelperStart { source: error.into() })?);
        *copy = Some(Arc::clone(&helper));
        Ok(helper)
    }

    fn write() -> Result<SealedHelper, Errno> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = match memfd_create(c"dram-jail", flags | MemfdFlags::from_bits_retain(MFD_EXEC)) {
            Err(Errno::INVAL) => memfd_create(c"dram-jail", flags)?,
            made => made?,
        };
        write_all(file.as_fd(), HELPER_PROGRAM)?;
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
    use std::fs::File;

    #[test]
    fn the_copy_is_shared_sealed_and_made_again_after_a_change_of_its_mode() {
        let first = SealedHelper::shared().unwrap();
        assert!(Arc::ptr_eq(&first, &SealedHelper::shared().unwrap()));
        assert_eq!(std::fs::read(first.path()).unwrap(), HELPER_PROGRAM);
        let written = File::options().write(true).open(first.path()).and_then(|file| file.set_len(0));
        assert!(written.is_err());
        fchmod(&first.file, Mode::from_raw_mode(0o4777)).unwrap();
        let second = SealedHelper::shared().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(second.is_unchanged());
    }

    /// The number of a field of the ELF header or a program header.
    fn number(at: usize, size: usize) -> usize {
        HELPER_PROGRAM[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    #[test]
    fn the_program_is_small_and_its_own_loader() {
        assert!(HELPER_PROGRAM.starts_with(b"\x7fELF\x02\x01"));
        assert!(HELPER_PROGRAM.len() < 400_000, "{} bytes", HELPER_PROGRAM.len());
        // `ET_EXEC`: it lies at a fixed address, so that nothing has to relocate it.
        assert_eq!(number(16, 2), 2);
        let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        let kinds: Vec<usize> = (0..count).map(|index| number(table + index * size, 4)).collect();
        // Neither `PT_DYNAMIC` nor `PT_INTERP` nor `PT_TLS`: without a C library there is nobody to look at them.
        assert!(kinds.contains(&1) && ![2, 3, 7].iter().any(|kind| kinds.contains(kind)), "{kinds:?}");
        assert!(!HELPER_PROGRAM.windows(5).any(|word| word == b"GLIBC" || word == b"glibc"), "a C library is linked");
    }
}
