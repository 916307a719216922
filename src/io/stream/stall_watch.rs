//! The patience with a peer for which a write waits: it is given up when it has taken nothing for the whole limit.
//!
//! A socket is writable again only when about a third of its buffer is free (Linux: `sk_stream_is_writeable`, which
//! epoll and io_uring both wait for), and that may be more than a megabyte: a write hears nothing for minutes of a peer
//! that takes bytes slowly, but all the time. So the bytes are counted that the peer has not acknowledged.
//! Invariant: a write that does not wait for long costs no system call.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Looks at a peer in the time of one limit, each a system call and a wake of who waits. A peer is never given up early,
/// and late by the time between two of them: 7.5 s of a minute.
const LOOKS_IN_A_LIMIT: u32 = 8;

/// The watch on the peer of one write that waits, during which nothing else is written.
#[derive(Debug)]
pub struct StallWatch {
    /// The last time at which the peer may have taken something.
    moved: Instant,
    looked: Instant,
    /// The bytes that it had not acknowledged at the last look.
    unacknowledged_bytes: Option<libc::c_int>,
}

impl StallWatch {
    /// Watches a write that waits since `began`.
    pub fn new(began: Instant) -> Self {
        StallWatch { moved: began, looked: began, unacknowledged_bytes: None }
    }

    /// Returns when the peer is to be looked at, if the write still waits then.
    pub fn next_look(&self, limit: Duration) -> Instant {
        (self.looked + limit / LOOKS_IN_A_LIMIT).min(self.moved + limit)
    }

    /// Looks at the peer of `socket`. Returns whether it has taken nothing for `limit`.
    pub fn has_stalled(&mut self, socket: &impl AsRawFd, limit: Duration, now: Instant) -> bool {
        self.looked = now;
        if let Some(count) = unacknowledged_bytes(socket) {
            let before = self.unacknowledged_bytes.replace(count);
            // It is not known what there was when the wait began: to ask then would be a system call for each write.
            if before.is_none_or(|before| count < before) {
                self.moved = now;
            }
        }
        now >= self.moved + limit
    }
}

/// Returns the bytes that were written and that the peer has not acknowledged, sent or not; `None` of a socket that
/// cannot tell.
fn unacknowledged_bytes(socket: &impl AsRawFd) -> Option<libc::c_int> {
    let mut count = 0;
    // SAFETY: `SIOCOUTQ`, which is the same as `TIOCOUTQ`, writes one int, and `count` outlives the call; a descriptor
    // that is not open is refused.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    (result == 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const PART_BYTES: usize = 1024;

    /// A socket with parts that its peer has not taken; of this kind it tells at once what was.
    fn written(parts_count: usize) -> (UnixStream, UnixStream) {
        let (mut ours, peer) = UnixStream::pair().unwrap();
        (0..parts_count).for_each(|_| ours.write_all(&[0; PART_BYTES]).unwrap());
        (ours, peer)
    }

    /// Looks whenever it is time, after `between`. Returns the time and the number of the look that gives up.
    fn looked(socket: &impl AsRawFd, mut between: impl FnMut(usize)) -> (Duration, usize) {
        let began = Instant::now();
        let mut watch = StallWatch::new(began);
        for number in 1.. {
            let look = watch.next_look(LIMIT);
            between(number);
            if watch.has_stalled(socket, LIMIT, look) {
                return (look - began, number);
            }
        }
        unreachable!("it looks again and again")
    }

    #[test]
    fn a_peer_that_takes_nothing_has_stalled_one_look_after_the_limit() {
        let (ours, _peer) = written(3);
        assert_eq!(looked(&ours, |_| {}), (LIMIT * 9 / 8, 9));
    }

    #[test]
    fn a_peer_is_waited_for_as_long_as_it_takes_something_within_each_limit() {
        const TAKEN: usize = 5;
        let (ours, mut peer) = written(8);
        let take = |number: usize| {
            if number.is_multiple_of(8) && number <= 8 * TAKEN {
                peer.read_exact(&mut [0; PART_BYTES]).unwrap();
            }
        };
        assert_eq!(looked(&ours, take), (LIMIT * (TAKEN as u32 + 1), 8 * (TAKEN + 1)));
    }

    #[test]
    fn a_socket_that_cannot_tell_has_stalled_at_the_limit() {
        assert_eq!(looked(&TcpListener::bind("127.0.0.1:0").unwrap(), |_| {}), (LIMIT, 8));
    }
}
