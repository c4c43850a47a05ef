//! Pages of memory.
#![allow(unsafe_code)] // An allocator hands out raw memory.

use core::ptr::null_mut;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Maps new memory; null if there is none.
pub(super) fn map_pages(size: usize) -> *mut u8 {
    // SAFETY: a new mapping touches nothing that exists.
    let pages = unsafe { mmap_anonymous(null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
    pages.map_or(null_mut(), <*mut core::ffi::c_void>::cast)
}

/// Unmaps memory of [`map_pages`].
pub(super) fn unmap_pages(block: *mut u8, size: usize) {
    // SAFETY: the allocator's caller no longer uses the block, which was mapped with this size.
    let _ = unsafe { munmap(block.cast(), size) };
}
