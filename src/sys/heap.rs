//! The system's allocator with a count of what is allocated, for the benches: how many blocks of
//! which size are in use, and how many were asked for. No part of the daemon.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// An allocator that counts.
#[derive(Debug)]
pub struct Counting {
    /// Blocks in use, by their length in units of [`STEP`], rounded up; the last has all that are
    /// longer.
    live: [AtomicI64; CLASSES],
    /// Bytes in use, as they were asked for.
    bytes: AtomicI64,
    /// Blocks asked for so far, one made longer or shorter included.
    calls: AtomicU64,
}

impl Default for Counting {
    fn default() -> Self {
        Self::new()
    }
}

impl Counting {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self {
            live: [const { AtomicI64::new(0) }; CLASSES],
            bytes: AtomicI64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// Blocks in use by size: the greatest length of the class in bytes (`None`: longer than all
    /// others), and how many.
    pub fn live(&self) -> Vec<(Option<usize>, i64)> {
        let classes = self.live.iter().enumerate().map(|(class, count)| {
            let most = (class + 1 < CLASSES).then_some(class * STEP);
            (most, count.load(Ordering::Relaxed))
        });
        classes.collect()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Blocks asked for so far, one made longer or shorter included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn note(&self, length: usize, change: i64) {
        self.calls
            .fetch_add(u64::from(change > 0), Ordering::Relaxed);
        let class = length.div_ceil(STEP).min(CLASSES - 1);
        if let Some(count) = self.live.get(class) {
            count.fetch_add(change, Ordering::Relaxed);
        }
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.bytes
            .fetch_add(length.saturating_mul(change), Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size(), 1);
        // SAFETY: the caller keeps the rules of this same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.note(layout.size(), -1);
        // SAFETY: as above; the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, length: usize) -> *mut u8 {
        self.note(layout.size(), -1);
        self.note(length, 1);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, length) }
    }
}

/// Classes of lengths are so many bytes wide: what glibc rounds up to.
const STEP: usize = 16;
/// Classes; the last begins behind 4 KiB.
const CLASSES: usize = 258;
