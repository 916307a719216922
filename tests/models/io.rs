//! What the checked files name of `crate::io`.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::sync::AtomicBool;

pub mod deadline {
    pub async fn next_turn() {}
}

pub mod epoll {
    pub struct Events;
}

/// The order in which connections at rest give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivesWay {
    Early,
    Late,
}

/// The wake-up of a shard: a counter in the kernel, of which every write is seen by a read after it.
#[derive(Clone)]
pub struct Wakeup(Arc<AtomicBool>);

/// Those that were opened since they were taken last.
static OPENED: Mutex<Vec<Wakeup>> = Mutex::new(Vec::new());

impl Wakeup {
    pub fn open() -> io::Result<Self> {
        let wakeup = Wakeup(Arc::new(AtomicBool::new(false)));
        OPENED.lock().unwrap().push(wakeup.clone());
        Ok(wakeup)
    }

    /// Takes those that were opened, for a model that looks at them.
    pub fn opened() -> Vec<Wakeup> {
        std::mem::take(&mut OPENED.lock().unwrap())
    }

    pub fn events(&self) -> io::Result<epoll::Events> {
        unreachable!("no model waits for a socket")
    }

    pub fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Returns whether it was woken since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}
