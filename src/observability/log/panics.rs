//! Panics in the log, so that all of its outputs say why a thread has ended, and a blocked stderr does not keep it
//! from ending.
//!
//! The message of a panic is chosen by this program and its libraries; it may hold a part of the data they work on, as
//! the standard library's output does.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

use tracing::field;

use crate::observability::shortened::Shortened;

/// Logs panics from here on, and prints them nowhere else.
pub fn install() {
    panic::set_hook(Box::new(tell));
}

/// Prints panics to stderr again, since the log ends.
pub fn uninstall() {
    // Not allowed on a thread that panics; and only the thread that ends the log is left then.
    if !thread::panicking() {
        drop(panic::take_hook());
    }
}

fn tell(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it does not say why");
    let thread = thread::current();
    // Taken where RUST_BACKTRACE or RUST_LIB_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    tracing::error!(
        thread = thread.name().unwrap_or("without a name"),
        at = panic.location().map(field::display),
        reason = field::display(Shortened(text)),
        backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| field::display(&backtrace)),
        "a thread has panicked"
    );
}

#[cfg(test)]
mod tests;
