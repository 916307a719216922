//! The primitives by which threads share what has a subtle order of steps: those of std and arc_swap.
//!
//! Only where that order is checked: `tests/models` compiles the same files on top of primitives that try every order
//! in which threads can take their steps, and every value that the memory model lets a load see.

pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
pub use std::sync::mpsc;
#[expect(clippy::disallowed_types, reason = "who takes it says why")]
pub use std::sync::{Mutex, MutexGuard};

pub use arc_swap::{ArcSwap, ArcSwapOption};
