//! Wakes a task of a shard from another shard's thread: wakers of the runtime are for its own thread alone.
//!
//! Nothing on the path of a request that does not wait uses it. What it needs is opened with the shard: a wait is not
//! refused for a lack of descriptors. Invariant: nobody waits for the other side, and a wake-up for a wait that has
//! ended wakes nobody.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
#[expect(clippy::disallowed_types, reason = "taken only where a request waits, for some instructions")]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};

use super::Wakeup;
use crate::io::epoll::{Events, Token, TokenTable};

/// The waits of a shard that other shards end.
pub struct RemoteWaits {
    inbox: Arc<Inbox>,
    entries: RefCell<TokenTable<RemoteEntry>>,
}

#[derive(Default)]
struct RemoteEntry {
    is_woken: bool,
    waker: Option<Waker>,
}

/// The wake-ups that a shard has not taken yet.
struct Inbox {
    wakeup: Wakeup,
    #[expect(clippy::disallowed_types, reason = "see there")]
    woken: Mutex<Vec<Token>>,
}

/// A wait of a task of this shard.
pub struct RemoteWait {
    waits: Rc<RemoteWaits>,
    token: Token,
}

/// Wakes a [`RemoteWait`], from any thread.
#[derive(Clone)]
pub struct ShardWaker {
    inbox: Arc<Inbox>,
    token: Token,
}

impl RemoteWaits {
    /// Opens those of a shard; [`RemoteWaits::follow`] then has to be run.
    ///
    /// # Errors
    /// Those of [`Wakeup::open`].
    pub fn open() -> io::Result<Rc<Self>> {
        let inbox = Arc::new(Inbox { wakeup: Wakeup::open()?, woken: Default::default() });
        Ok(Rc::new(RemoteWaits { inbox, entries: RefCell::new(TokenTable::new()) }))
    }

    /// Opens the stream that becomes readable when a wait has been ended. To be called on the thread of the shard.
    ///
    /// # Errors
    /// Those of [`Wakeup::events`].
    pub fn wakeups(&self) -> io::Result<Events> {
        self.inbox.wakeup.events()
    }

    /// Begins a wait, and returns what ends it.
    pub fn begin(self: &Rc<Self>) -> (RemoteWait, ShardWaker) {
        let Ok(token) = self.entries.borrow_mut().insert_with(|_| Ok::<_, Infallible>(RemoteEntry::default()));
        (RemoteWait { waits: self.clone(), token }, ShardWaker { inbox: self.inbox.clone(), token })
    }

    /// Ends the waits that other shards end. Every shard runs exactly one.
    pub async fn follow(self: Rc<Self>, wakeups: Events) {
        loop {
            if let Err(error) = wakeups.happened().await {
                // Whoever waits has a time limit.
                return tracing::error!(%error, "waits are no longer ended by other shards");
            }
            self.inbox.wakeup.take();
            self.deliver();
        }
    }

    fn deliver(&self) {
        let woken = std::mem::take(&mut *self.inbox.woken.lock().unwrap_or_else(PoisonError::into_inner));
        for token in woken {
            if let Some(entry) = self.entries.borrow_mut().get_mut(token) {
                entry.is_woken = true;
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl RemoteWait {
    /// Resolves when it was woken.
    pub async fn woken(&self) {
        poll_fn(|context| {
            let mut entries = self.waits.entries.borrow_mut();
            // It is there for as long as its wait is.
            let Some(entry) = entries.get_mut(self.token).filter(|entry| !entry.is_woken) else {
                return Poll::Ready(());
            };
            if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                entry.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for RemoteWait {
    fn drop(&mut self) {
        let entry = self.waits.entries.borrow_mut().remove(self.token);
        // After the borrow: with a waker may go the memory of a task.
        drop(entry);
    }
}

impl ShardWaker {
    pub fn wake(&self) {
        self.inbox.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.token);
        self.inbox.wakeup.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::io::Deadline;
    use crate::io::deadline::on_a_shard;

    #[test]
    fn other_threads_end_the_waits_that_they_mean_and_no_others() {
        on_a_shard(async {
            let waits = RemoteWaits::open().expect("a descriptor");
            monoio::spawn(waits.clone().follow(waits.wakeups().expect("a descriptor")));
            let (first, wakes_first) = waits.begin();
            let (second, wakes_second) = waits.begin();
            let limit = Deadline::default();
            thread::spawn(move || wakes_second.wake()).join().expect("no panic");
            second.woken().await;
            assert!(limit.within(Duration::from_millis(30), first.woken()).await.is_err());
            let again = wakes_first.clone();
            let other = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                again.wake();
            });
            first.woken().await;
            other.join().expect("no panic");
            // The place of a wait that has ended is another one's.
            drop(first);
            let (third, _wakes_third) = waits.begin();
            wakes_first.wake();
            assert!(limit.within(Duration::from_millis(30), third.woken()).await.is_err());
        });
    }
}
