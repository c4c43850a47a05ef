//! The allocator: free lists of blocks whose sizes are powers of two, and pages of the kernel for large blocks.
#![allow(unsafe_code)] // An allocator is unsafe by its trait.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, null_mut};

use super::raw;

/// The smallest block has 16 bytes; the largest in a free list 64 KiB.
const MIN_BLOCK_BITS: usize = 4;
const SIZE_CLASSES: usize = 13;
/// Small blocks are cut from chunks of this size.
const CHUNK_SIZE: usize = 1 << 18;

struct StartHeapLists {
    free: [*mut u8; SIZE_CLASSES],
    next: *mut u8,
    left: usize,
}

struct StartHeap(UnsafeCell<StartHeapLists>);

// SAFETY: the program has one thread and no signal handlers.
unsafe impl Sync for StartHeap {}

#[global_allocator]
static HEAP: StartHeap =
    StartHeap(UnsafeCell::new(StartHeapLists { free: [null_mut(); SIZE_CLASSES], next: null_mut(), left: 0 }));

/// The size class of a layout, if its blocks are kept in a free list.
fn size_class(layout: Layout) -> Option<usize> {
    let bits = layout.size().max(layout.align()).max(1 << MIN_BLOCK_BITS).next_power_of_two().trailing_zeros() as usize;
    Some(bits - MIN_BLOCK_BITS).filter(|class| *class < SIZE_CLASSES)
}

// SAFETY: blocks are as large as their class, lie at multiples of their size below a page's, and are handed out once.
unsafe impl GlobalAlloc for StartHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = size_class(layout) else { return raw::map_pages(layout.size()) };
        // SAFETY: one thread, so nobody else holds a reference.
        let lists = unsafe { &mut *self.0.get() };
        let block = lists.free[class];
        if !block.is_null() {
            // SAFETY: a free block begins with the address of the next.
            lists.free[class] = unsafe { ptr::read(block.cast::<*mut u8>()) };
            return block;
        }
        let size = 1 << (class + MIN_BLOCK_BITS);
        let skip = lists.next.addr().wrapping_neg() & (size.min(4096) - 1);
        if lists.left < size + skip {
            lists.next = raw::map_pages(CHUNK_SIZE);
            lists.left = if lists.next.is_null() { return null_mut() } else { CHUNK_SIZE };
        } else {
            lists.next = lists.next.wrapping_add(skip);
            lists.left -= skip;
        }
        let block = lists.next;
        lists.next = block.wrapping_add(size);
        lists.left -= size;
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = size_class(layout) else { return raw::unmap_pages(block, layout.size()) };
        // SAFETY: one thread; the block is ours again and holds at least 16 bytes.
        unsafe {
            let lists = &mut *self.0.get();
            ptr::write(block.cast::<*mut u8>(), lists.free[class]);
            lists.free[class] = block;
        }
    }
}
