//! The length of a listener's queue: no more wait in it than the shard accepts in a moment.
//!
//! A queue of thousands is good for a burst, and bad for a shard that accepts some hundreds a second: most of those in it
//! have given up when it is their turn, and nobody is served in time. So while a queue does not empty, the kernel may
//! hold no more connections than the shard has accepted within [`WAIT_MAX`]. The others it leaves without an answer,
//! which costs the shard nothing, and their TCP asks again after a second. Invariant: what shortens a queue is the pace
//! of the shard alone, not a lack of places, nor a process that stood still, nor a burst that is accepted as soon as
//! that; one that empties has its full length within a second.
//!
//! A socket may be another gateway's too, during a take-over: who serves alone from then on gives all their full length.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::super::accept::{self, SparseWarning};
use super::super::listener::QUEUE_LEN_MAX;
use crate::io::pause;

/// The time that a connection waits in a queue that does not empty, and after which it is one: half of what is too long
/// for a request (`proxy::resources::overload`), since that waits in the shard too.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// The shortest time over which connections are counted. Of two in a row the better one counts.
const WINDOW: Duration = Duration::from_millis(40);

/// The connections that are counted at least, and after which the clock is read.
const COUNT_MIN: u32 = 8;

/// The length of the shortest queue, however slow the shard: for those that connect while it does something else.
const LEN_MIN: usize = 16;

/// The time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A listener with its queue.
pub struct ListenQueue {
    pub listener: Rc<monoio::net::TcpListener>,
    shard: usize,
    len: Cell<usize>,
    throughput: Cell<Throughput>,
    is_relaxing: Cell<bool>,
    warning: SparseWarning,
}

impl ListenQueue {
    pub fn new(listener: monoio::net::TcpListener, shard: usize) -> Self {
        let (throughput, is_relaxing) = Default::default();
        let (listener, len) = (Rc::new(listener), Cell::new(QUEUE_LEN_MAX));
        ListenQueue { listener, shard, len, throughput, is_relaxing, warning: SparseWarning::each(WARNING_INTERVAL) }
    }

    /// Notes that a connection was taken off the queue.
    pub fn note_accepted(self: &Rc<Self>) {
        let mut throughput = self.throughput.get();
        let fits = throughput.note_accepted(Instant::now);
        self.throughput.set(throughput);
        if let Some(fits) = fits {
            self.bound(fits);
        }
    }

    /// Notes that nobody waits, or that those who do wait for something else than the shard's time: a place, or a
    /// descriptor.
    pub fn note_free(&self) {
        self.throughput.set(Throughput::Unknown);
    }

    /// Returns whether more connect than are accepted, or did a moment ago.
    pub fn is_short(&self) -> bool {
        self.len.get() < QUEUE_LEN_MAX
    }

    /// Gives the queue its full length again.
    pub fn restore(&self) {
        self.set(QUEUE_LEN_MAX);
    }

    fn bound(self: &Rc<Self>, fits: usize) {
        let len = fits.clamp(LEN_MIN, QUEUE_LEN_MAX);
        if len == QUEUE_LEN_MAX && !self.is_short() {
            return;
        }
        self.set(len);
        if self.is_short() && !self.is_relaxing.replace(true) {
            self.warn(fits);
            monoio::spawn(relax(Rc::downgrade(self)));
        }
    }

    fn set(&self, len: usize) {
        self.len.set(len);
        accept::bound_queue(&self.listener, len);
    }

    fn warn(&self, fits: usize) {
        if self.warning.is_due() {
            tracing::warn!(
                shard = self.shard,
                accepted_per_second = fits as u128 * 1000 / WAIT_MAX.as_millis(),
                "more clients connect than can be accepted: the others connect again after a second"
            );
        }
    }
}

/// Lengthens a queue as it empties, until it has its full length or is emptied for the last time.
async fn relax(queue: Weak<ListenQueue>) {
    loop {
        pause(WINDOW).await;
        let Some(queue) = queue.upgrade() else { return };
        if matches!(queue.throughput.get(), Throughput::Unknown) && queue.is_short() {
            queue.set((queue.len.get() * 2).min(QUEUE_LEN_MAX));
        }
        if !queue.is_short() {
            return queue.is_relaxing.set(false);
        }
    }
}

/// The number of connections that a shard accepts while others wait.
#[derive(Debug, Clone, Copy, Default)]
enum Throughput {
    /// Nobody has waited when the shard last looked, or its pace was not what kept them waiting.
    #[default]
    Unknown,
    Counted {
        /// The time since which others wait.
        began: Instant,
        accepted: u32,
        since: Instant,
        /// The number that fits by the count before this one.
        before: Option<usize>,
    },
}

impl Throughput {
    /// Counts a connection. Returns how many are accepted within [`WAIT_MAX`], where that is known anew.
    fn note_accepted(&mut self, now: impl Fn() -> Instant) -> Option<usize> {
        let Throughput::Counted { began, accepted, since, before } = self else {
            let now = now();
            *self = Throughput::Counted { began: now, accepted: 0, since: now, before: None };
            return None;
        };
        *accepted += 1;
        if !accepted.is_multiple_of(COUNT_MIN) {
            return None;
        }
        let now = now();
        let took = now.saturating_duration_since(*since);
        if took < WINDOW {
            return None;
        }
        let fits = (u128::from(*accepted) * WAIT_MAX.as_nanos() / took.as_nanos()) as usize;
        let better =
            before.map(|before| before.max(fits)).filter(|_| now.saturating_duration_since(*began) >= WAIT_MAX);
        *self = Throughput::Counted { began: *began, accepted: 0, since: now, before: Some(fits) };
        better
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::io::deadline::on_both_drivers;

    /// Counts so many connections, one each `step`. Returns what was said to fit.
    fn counted(throughput: &mut Throughput, now: &mut Instant, count: usize, step: Duration) -> Vec<usize> {
        (0..count)
            .filter_map(|_| {
                *now += step;
                throughput.note_accepted(|| *now)
            })
            .collect()
    }

    #[test]
    fn as_many_fit_as_are_accepted_in_a_quarter_of_a_second() {
        for (step, fits) in [(Duration::from_millis(10), 25), (Duration::from_micros(500), 500)] {
            let said = counted(&mut Throughput::default(), &mut Instant::now(), 2000, step);
            assert!(said.len() > 5 && said.iter().all(|said| *said == fits), "{said:?}, not {fits}");
        }
    }

    #[test]
    fn a_process_that_stood_still_says_nothing_of_its_throughput() {
        let (mut throughput, mut now) = (Throughput::default(), Instant::now());
        let step = Duration::from_micros(50);
        let mut said = counted(&mut throughput, &mut now, 5000, step);
        now += Duration::from_secs(5);
        said.extend(counted(&mut throughput, &mut now, 5000, step));
        assert!(said.len() > 5 && said.iter().all(|said| *said >= QUEUE_LEN_MAX), "{said:?}");
    }

    #[test]
    fn a_burst_that_is_accepted_in_time_says_nothing_and_neither_do_many_in_a_row() {
        let (mut throughput, mut now) = (Throughput::default(), Instant::now());
        let slow = Duration::from_millis(10);
        let burst = (WAIT_MAX.as_millis() / slow.as_millis()) as usize;
        for _ in 0..20 {
            assert!(counted(&mut throughput, &mut now, burst, slow).is_empty());
            throughput = Throughput::Unknown;
        }
        assert!(!counted(&mut throughput, &mut now, 2 * burst, slow).is_empty());
    }

    /// Connects so many clients at the same time.
    fn connect(address: SocketAddr, count: usize) -> Vec<Socket> {
        let connect = |_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address.into());
            client
        };
        (0..count).map(connect).collect()
    }

    /// The number of those that the kernel has answered.
    fn answered_count(clients: &[Socket]) -> usize {
        clients.iter().filter(|client| client.peer_addr().is_ok()).count()
    }

    async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < until, "not within 30 s: {what}");
            pause(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn the_queue_of_a_shard_that_accepts_slowly_is_short_until_it_has_been_empty() {
        on_both_drivers(|| async {
            const STEP: Duration = Duration::from_millis(20);
            const CLIENTS: usize = 200;
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let queue = Rc::new(ListenQueue::new(accept::listening(listener).unwrap(), 0));
            accept::bound_queue(&queue.listener, QUEUE_LEN_MAX);
            let clients = connect(address, CLIENTS);
            wait_until("all are in the queue", || answered_count(&clients) == CLIENTS).await;
            for _ in 0..3 * COUNT_MIN {
                assert!(accept::accept(&queue.listener, true).unwrap().is_some());
                queue.note_accepted();
                pause(STEP).await;
            }
            assert_eq!(queue.len.get(), LEN_MIN);
            // More wait than there is room for, however long it takes.
            let others = connect(address, CLIENTS);
            pause(STEP).await;
            assert_eq!(answered_count(&others), 0, "more in a queue that is too long");
            drop(others);
            while accept::accept(&queue.listener, true).unwrap().is_some() {
                queue.note_accepted();
            }
            queue.note_free();
            wait_until("it has its full length", || !queue.is_short()).await;
            let clients = connect(address, CLIENTS);
            wait_until("all are in the queue", || answered_count(&clients) == CLIENTS).await;
        });
    }

    #[test]
    fn a_listener_is_closed_though_its_queue_is_short() {
        on_both_drivers(|| async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let queue = Rc::new(ListenQueue::new(accept::listening(listener).unwrap(), 0));
            queue.bound(LEN_MIN);
            // It has been looked after meanwhile.
            pause(2 * WINDOW).await;
            drop(queue);
            // A ring closes it in one of its next turns.
            wait_until("it is closed", || {
                let refused = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
                refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
            })
            .await;
            // And whoever looks after it has seen that it is gone.
            pause(2 * WINDOW).await;
        });
    }
}
