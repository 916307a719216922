//! `std::sync::mpsc` as far as the program uses it. Where a model lets time pass, a wait for a message that is not there
//! ends by its limit, and goes on, as two of the orders that are tried.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError};

/// Limits on time may pass.
static TIME_PASSES: AtomicBool = AtomicBool::new(false);

/// Tells whether limits on time may pass in this model.
pub fn let_time_pass(passes: bool) {
    TIME_PASSES.store(passes, Ordering::Relaxed);
}

/// Returns both, each in orders of its own.
fn either() -> bool {
    let flag = Arc::new(loom::sync::atomic::AtomicBool::new(false));
    let other = {
        let flag = flag.clone();
        thread::spawn(move || flag.store(true, Ordering::Relaxed))
    };
    let is_set = flag.load(Ordering::Relaxed);
    other.join().unwrap();
    is_set
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    messages: VecDeque<T>,
    /// Messages that the receiver has taken.
    taken: usize,
    senders: usize,
    has_receiver: bool,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        let state = State { messages: VecDeque::new(), taken: 0, senders: 1, has_receiver: true };
        Shared { state: Mutex::new(state), changed: Condvar::new() }
    }
}

pub struct Sender<T>(Arc<Shared<T>>);
pub struct SyncSender<T>(Arc<Shared<T>>);
pub struct Receiver<T>(Arc<Shared<T>>);

pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared::default());
    (Sender(shared.clone()), Receiver(shared))
}

/// Only a channel without a buffer.
pub fn sync_channel<T>(buffer: usize) -> (SyncSender<T>, Receiver<T>) {
    assert_eq!(buffer, 0);
    let shared = Arc::new(Shared::default());
    (SyncSender(shared.clone()), Receiver(shared))
}

impl<T> Shared<T> {
    fn change(&self, change: impl FnOnce(&mut State<T>)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

impl<T> Sender<T> {
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut state = self.0.state.lock().unwrap();
        if !state.has_receiver {
            return Err(SendError(message));
        }
        state.messages.push_back(message);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> SyncSender<T> {
    /// Returns once the message is taken, or the receiver has gone.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut state = self.0.state.lock().unwrap();
        if !state.has_receiver {
            return Err(SendError(message));
        }
        state.messages.push_back(message);
        self.0.changed.notify_all();
        let due = state.taken + state.messages.len();
        loop {
            if state.taken >= due {
                return Ok(());
            }
            if !state.has_receiver {
                return Err(SendError(state.messages.pop_back().expect("it was not taken")));
            }
            state = self.0.changed.wait(state).unwrap();
        }
    }
}

impl<T> Receiver<T> {
    pub fn recv_timeout(&self, _limit: Duration) -> Result<T, RecvTimeoutError> {
        let is_late = TIME_PASSES.load(Ordering::Relaxed) && either();
        self.wait(is_late)
    }

    fn wait(&self, is_late: bool) -> Result<T, RecvTimeoutError> {
        let mut state = self.0.state.lock().unwrap();
        loop {
            if let Some(message) = state.messages.pop_front() {
                state.taken += 1;
                drop(state);
                self.0.changed.notify_all();
                return Ok(message);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            if is_late {
                return Err(RecvTimeoutError::Timeout);
            }
            state = self.0.changed.wait(state).unwrap();
        }
    }

    pub fn recv(&self) -> Result<T, RecvError> {
        self.wait(false).map_err(|_| RecvError)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.change(|state| state.senders -= 1);
    }
}

impl<T> Drop for SyncSender<T> {
    fn drop(&mut self) {
        self.0.change(|state| state.senders -= 1);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.change(|state| state.has_receiver = false);
    }
}

impl<T> std::fmt::Debug for SyncSender<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SyncSender")
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Receiver")
    }
}
