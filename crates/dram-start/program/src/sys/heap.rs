//! The allocator: free lists of blocks whose sizes are powers of two, and pages of the kernel for large blocks.
#![allow(unsafe_code)] // An allocator is unsafe by its trait.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, null_mut};

use super::raw;

/// The smallest block has 16 bytes; the largest in a free list 64 KiB.
const SMALLEST: usize = 4;
const CLASSES: usize = 13;
/// Small blocks are cut from chunks of this size.
const PIECE: usize = 1 << 18;

struct Lists {
    free: [*mut u8; CLASSES],
    next: *mut u8,
    left: usize,
}

struct Heap(UnsafeCell<Lists>);

// SAFETY: the program has one thread and no signal handlers.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Lists { free: [null_mut(); CLASSES], next: null_mut(), left: 0 }));

/// The size class of a layout, if its blocks are kept in a free list.
fn class(layout: Layout) -> Option<usize> {
    let bits = layout.size().max(layout.align()).max(1 << SMALLEST).next_power_of_two().trailing_zeros() as usize;
    Some(bits - SMALLEST).filter(|class| *class < CLASSES)
}

// SAFETY: blocks are as large as their class, lie at multiples of their size below a page's, and are handed out once.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else { return raw::pages(layout.size()) };
        // SAFETY: one thread, so nobody else holds a reference.
        let lists = unsafe { &mut *self.0.get() };
        let block = lists.free[class];
        if !block.is_null() {
            // SAFETY: a free block begins with the address of the next.
            lists.free[class] = unsafe { ptr::read(block.cast::<*mut u8>()) };
            return block;
        }
        let size = 1 << (class + SMALLEST);
        let skip = lists.next.addr().wrapping_neg() & (size.min(4096) - 1);
        if lists.left < size + skip {
            lists.next = raw::pages(PIECE);
            lists.left = if lists.next.is_null() { return null_mut() } else { PIECE };
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
        let Some(class) = class(layout) else { return raw::free_pages(block, layout.size()) };
        // SAFETY: one thread; the block is ours again and holds at least 16 bytes.
        unsafe {
            let lists = &mut *self.0.get();
            ptr::write(block.cast::<*mut u8>(), lists.free[class]);
            lists.free[class] = block;
        }
    }
}
