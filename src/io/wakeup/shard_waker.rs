//! Wakes a task of a shard from another shard's thread: wakers of the runtime are for its own thread alone.
//!
//! Nothing on the path of a request that does not wait uses it: a shard opens its inbox, a descriptor that it polls,
//! with the first wait. Invariant: nobody waits for the other side, and a wake-up for a wait that has ended wakes
//! nobody.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
#[expect(clippy::disallowed_types, reason = "taken only where a request waits, for some instructions")]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};

use super::Wakeup;
use crate::io::epoll::{Token, TokenTable};

thread_local! {
    static WAITS: RefCell<Waits> = const { RefCell::new(Waits { inbox: None, entries: TokenTable::new() }) };
}

struct Waits {
    inbox: Option<Arc<Inbox>>,
    entries: TokenTable<RemoteEntry>,
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
    token: Token,
}

/// Wakes a [`RemoteWait`], from any thread.
#[derive(Clone)]
pub struct ShardWaker {
    inbox: Arc<Inbox>,
    token: Token,
}

impl RemoteWait {
    /// Begins a wait, and returns what ends it.
    ///
    /// # Errors
    /// The first one of a shard needs a descriptor.
    pub fn begin() -> io::Result<(Self, ShardWaker)> {
        WAITS.with(|waits| {
            let mut waits = waits.borrow_mut();
            let inbox = match &waits.inbox {
                Some(inbox) => inbox.clone(),
                None => waits.inbox.insert(Inbox::open()?).clone(),
            };
            let token = waits.entries.insert_with(|_| io::Result::Ok(RemoteEntry::default()))?;
            Ok((RemoteWait { token }, ShardWaker { inbox, token }))
        })
    }

    /// Resolves when it was woken.
    pub async fn woken(&self) {
        poll_fn(|context| {
            WAITS.with(|waits| {
                let mut waits = waits.borrow_mut();
                // It is there for as long as its wait is.
                let Some(entry) = waits.entries.get_mut(self.token).filter(|entry| !entry.is_woken) else {
                    return Poll::Ready(());
                };
                if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    entry.waker = Some(context.waker().clone());
                }
                Poll::Pending
            })
        })
        .await;
    }
}

impl Drop for RemoteWait {
    fn drop(&mut self) {
        let entry = WAITS.try_with(|waits| waits.borrow_mut().entries.remove(self.token));
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

impl Inbox {
    /// Opens that of this shard, and starts the task that takes what comes.
    fn open() -> io::Result<Arc<Self>> {
        let wakeup = Wakeup::open()?;
        let events = wakeup.events()?;
        let inbox = Arc::new(Inbox { wakeup, woken: Default::default() });
        let taken = inbox.clone();
        monoio::spawn(async move {
            loop {
                if let Err(error) = events.happened().await {
                    // Whoever waits has a time limit.
                    return tracing::error!(%error, "waits are no longer ended by other shards");
                }
                taken.wakeup.take();
                taken.deliver();
            }
        });
        Ok(inbox)
    }

    fn deliver(&self) {
        let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        WAITS.with(|waits| {
            for token in woken {
                if let Some(entry) = waits.borrow_mut().entries.get_mut(token) {
                    entry.is_woken = true;
                    if let Some(waker) = entry.waker.take() {
                        waker.wake();
                    }
                }
            }
        });
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
            let (first, wakes_first) = RemoteWait::begin().expect("a descriptor");
            let (second, wakes_second) = RemoteWait::begin().expect("there");
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
            let (third, _wakes_third) = RemoteWait::begin().expect("there");
            wakes_first.wake();
            assert!(limit.within(Duration::from_millis(30), third.woken()).await.is_err());
        });
    }
}
