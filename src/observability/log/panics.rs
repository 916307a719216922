//! Panics in the log, so that all of its outputs say why a thread is gone, and a blocked stderr does not keep it from going.
//!
//! What a panic says is chosen by this program and its libraries; a part of what they work on may be in it, as it was in
//! what the standard library prints.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

use tracing::field;

use crate::observability::shortened::Shortened;

/// From here on panics are told in the log, and nowhere else.
pub fn install() {
    panic::set_hook(Box::new(tell));
}

/// From here on they are printed to stderr again: the log ends.
pub fn uninstall() {
    // A thread that panics may not, and none but the one that ends the log is left to tell anything of.
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
