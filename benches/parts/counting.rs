//! An allocator that counts what threads of the proxy allocate.
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one passes everything on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

pub struct Counting;

/// Sizes are told apart to so many bytes.
pub const STEP: usize = 16;
const SIZES: usize = 8192;

static MADE: [AtomicI64; SIZES] = [const { AtomicI64::new(0) }; SIZES];
static LIVE: [AtomicI64; SIZES] = [const { AtomicI64::new(0) }; SIZES];

thread_local! {
    static OF_PROXY: Cell<bool> = const { Cell::new(false) };
}

/// Says whether this thread is one of the proxy's.
pub fn of_proxy(is: bool) {
    OF_PROXY.set(is);
}

/// Blocks made so far, by size in steps.
pub fn made() -> Vec<i64> {
    MADE.iter().map(|count| count.load(Relaxed)).collect()
}

/// Blocks held now, by size in steps.
pub fn live() -> Vec<i64> {
    LIVE.iter().map(|count| count.load(Relaxed)).collect()
}

fn note(size: usize, change: i64) {
    // A thread that is ending has no flag any more.
    if !OF_PROXY.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    let at = size.div_ceil(STEP).min(SIZES - 1);
    LIVE[at].fetch_add(change, Relaxed);
    if change > 0 {
        MADE[at].fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(layout.size(), -1);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(layout.size(), -1);
        note(size, 1);
        unsafe { System.realloc(at, layout, size) }
    }
}
