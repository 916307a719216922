//! The take-over: whatever the main thread, the thread that lends the sockets, the successor and their clocks do, one of
//! the two gateways accepts in the end, but for one that was stopped before it lent.
//!
//! The state (`lending`) and the grant (`successor`) are the program's; the steps around them are written here as
//! `take_over::hand_over` and `server::supervisor` have them, without the sockets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::thread;

use crate::Model;
use crate::sync::AtomicU8;
use crate::sync::mpsc::{RecvTimeoutError, Sender, channel, let_time_pass};
use crate::take_over::lending::Lending;
use crate::take_over::successor::Successor;

pub const MODELS: &[Model] = &[
    Model::most("a take-over leaves one gateway that accepts", undisturbed),
    Model::most("a take-over while a stop signal comes leaves one that accepts", stopped),
    Model::most("a take-over in which a clock runs out leaves one that accepts", late),
];

/// The word of the predecessor that the successor gets.
const NOTHING: u8 = 0;
const FAREWELL: u8 = 1;
const REFUSAL: u8 = 2;

/// The end of the predecessor's main thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It goes on.
    Accepts,
    /// It has closed the listening sockets for all who have them.
    Closed,
    /// It accepts no more, and has left the sockets.
    Left,
}

struct TakeOver {
    lending: Lending,
    word: AtomicU8,
}

impl TakeOver {
    /// The thread that lends (`hand_over`): the successor is ready as soon as it has the sockets.
    fn lend(&self, events: &Sender<Successor>) {
        let word = self.converse(events);
        self.word.store(word, Ordering::Release);
        self.lending.end();
    }

    fn converse(&self, events: &Sender<Successor>) -> u8 {
        if !self.lending.begin() {
            return REFUSAL;
        }
        let (successor, grant) = Successor::new(7);
        let _ = events.send(successor);
        match grant.wait() {
            Ok(()) => {
                self.word.store(FAREWELL, Ordering::Release);
                grant.finish();
                FAREWELL
            }
            Err(RecvTimeoutError::Timeout) => REFUSAL,
            // The successor sees the end of the stream, and that the sockets still listen.
            Err(RecvTimeoutError::Disconnected) => NOTHING,
        }
    }

    /// Tells whether the successor accepts: it was sent the farewell, or the predecessor has gone and the sockets listen.
    fn successor_accepts(&self, end: End) -> bool {
        match self.word.load(Ordering::Acquire) {
            FAREWELL => end != End::Closed,
            REFUSAL => false,
            _ => end == End::Left,
        }
    }
}

fn run(is_stopped: bool, time_passes: bool) {
    let_time_pass(time_passes);
    let take_over = Arc::new(TakeOver { lending: Lending::default(), word: AtomicU8::new(NOTHING) });
    let (events, incoming) = channel();
    let lender = {
        let take_over = take_over.clone();
        thread::spawn(move || take_over.lend(&events))
    };
    let mut end = End::Accepts;
    if is_stopped {
        end = if take_over.lending.withdraw() { End::Closed } else { End::Left };
    }
    // In the drain an event is still answered, where the sockets were left.
    if end != End::Closed
        && let Ok(successor) = incoming.recv()
        && successor.grant()
    {
        end = End::Left;
    }
    drop(incoming);
    lender.join().unwrap();
    let successor_accepts = take_over.successor_accepts(end);
    assert!(end != End::Left || successor_accepts, "the sockets were left to a successor that does not serve");
    assert!(end != End::Closed || !successor_accepts, "it serves on sockets that were closed");
}

fn undisturbed() {
    run(false, false);
}

fn stopped() {
    run(true, false);
}

fn late() {
    run(false, true);
}
