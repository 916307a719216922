//! The bytes that are allocated in this process, by Rust code.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, counted.
pub struct CountingAllocator;

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size as isize - layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Returns the bytes that are in use.
pub fn live_bytes() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// Of so many scripts one is played several times.
const SAMPLE_INTERVAL: usize = 64;

/// The scripts of one window, of which only the smallest value counts: what is held for a moment or on other threads is
/// not in it.
const WINDOW_SCRIPTS: usize = 128;
/// Windows that are not compared: buffers that are kept and tables of bounded size are filled in them.
const FIRST_WINDOWS: usize = 8;
/// So many windows after each other have to grow.
const GROWING_WINDOWS: usize = 6;
/// By so many bytes each: 16 for a script. Tables that fill up do not add that in every one of 768 scripts.
const GROWTH_BYTES: isize = 2048;

/// Looks whether what is allocated grows without end.
#[derive(Default)]
pub struct MemoryWatch {
    count: usize,
    smallest: Option<isize>,
    windows: Vec<isize>,
}

impl MemoryWatch {
    /// Tells whether the memory of this script alone is looked at.
    pub fn is_sample(&self) -> bool {
        self.count % SAMPLE_INTERVAL == 1
    }

    /// # Errors
    /// It does.
    pub fn look(&mut self) -> Result<(), String> {
        let live = live_bytes();
        self.smallest = Some(self.smallest.map_or(live, |smallest| smallest.min(live)));
        self.count += 1;
        if !self.count.is_multiple_of(WINDOW_SCRIPTS) {
            return Ok(());
        }
        self.windows.extend(self.smallest.take());
        let compared = self.windows.get(FIRST_WINDOWS..).unwrap_or_default();
        let last = &compared[compared.len().saturating_sub(GROWING_WINDOWS + 1)..];
        if last.len() > GROWING_WINDOWS && last.windows(2).all(|pair| pair[1] >= pair[0] + GROWTH_BYTES) {
            return Err(format!("memory grows: {last:?} bytes after each {WINDOW_SCRIPTS} scripts"));
        }
        Ok(())
    }
}
