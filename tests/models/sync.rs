//! `crate::sync` of the program, made of loom's primitives.
//!
//! A cell of arc_swap is a lock around its pointer: each of its operations is one step, and what was stored with it is
//! seen with it, as arc_swap promises. Loom takes a sequentially consistent step for one that acquires and releases, but
//! knows fences: such a step stands between two of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use std::sync::atomic::Ordering;

use loom::sync::atomic::fence;

pub use loom::sync::{Mutex, MutexGuard};

pub mod mpsc;

/// Makes an atomic of the program of one of loom's.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub struct $name(loom::sync::atomic::$name);

        impl $name {
            pub fn new(value: $value) -> Self {
                $name(loom::sync::atomic::$name::new(value))
            }

            pub fn load(&self, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.load(ordering))
            }

            pub fn store(&self, value: $value, ordering: Ordering) {
                ordered(ordering, || self.0.store(value, ordering))
            }

            pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.swap(value, ordering))
            }

            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                ordered(success, || self.0.compare_exchange(current, new, success, failure))
            }
        }
    };
}

/// Adds what changes a number in one step.
macro_rules! number {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        impl $name {
            pub fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_add(value, ordering))
            }

            pub fn fetch_sub(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_sub(value, ordering))
            }

            pub fn fetch_or(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_or(value, ordering))
            }

            pub fn fetch_and(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_and(value, ordering))
            }

            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                ordered(success, || self.0.fetch_update(success, failure, change))
            }
        }
    };
}

atomic!(AtomicBool, bool);
number!(AtomicU8, u8);
number!(AtomicU32, u32);
number!(AtomicU64, u64);
number!(AtomicUsize, usize);

fn ordered<T>(ordering: Ordering, step: impl FnOnce() -> T) -> T {
    let is_consistent = ordering == Ordering::SeqCst;
    if is_consistent {
        fence(Ordering::SeqCst);
    }
    let result = step();
    if is_consistent {
        fence(Ordering::SeqCst);
    }
    result
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded<T>(T);

impl<T> Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub fn empty() -> Self {
        ArcSwapOption(Mutex::new(None))
    }

    pub fn load(&self) -> Loaded<Option<Arc<T>>> {
        Loaded(self.0.lock().unwrap().clone())
    }

    pub fn compare_and_swap(&self, current: &Loaded<Option<Arc<T>>>, new: Option<Arc<T>>) -> Loaded<Option<Arc<T>>> {
        let mut cell = self.0.lock().unwrap();
        let before = cell.clone();
        if before.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr) {
            *cell = new;
        }
        Loaded(before)
    }
}

pub struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    pub fn load(&self) -> Loaded<Arc<T>> {
        Loaded(self.0.lock().unwrap().clone())
    }

    pub fn store(&self, new: Arc<T>) {
        *self.0.lock().unwrap() = new;
    }

    /// Replaces the value by what `change` makes of it, as often as another thread was faster, and returns the one
    /// before.
    pub fn rcu<R: Into<Arc<T>>>(&self, change: impl Fn(&Arc<T>) -> R) -> Arc<T> {
        loop {
            let before = self.load();
            let next = change(&before).into();
            let mut cell = self.0.lock().unwrap();
            if Arc::ptr_eq(&cell, &before) {
                *cell = next;
                return before.0;
            }
        }
    }
}

impl<T: Default> Default for ArcSwap<T> {
    fn default() -> Self {
        ArcSwap(Mutex::new(Arc::default()))
    }
}

impl<T> fmt::Debug for ArcSwapOption<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ArcSwapOption")
    }
}

impl<T> fmt::Debug for ArcSwap<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ArcSwap")
    }
}
