//! One open answer: what has come of it, and what its client has taken.

use std::io;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::open_exchange::{LeftPump, LeftStream, OpenExchange, Pumped};
use crate::io::epoll::Token;
use crate::io::prefetch::prefetch;
use crate::io::{Buffer, PlainSender, StallWatch};
use crate::proxy::attempt::interrupt::NoMore;
use crate::proxy::downstream::{Downstream, RestingDownstream};
use crate::proxy::sse::dialect::EventDialect;
use crate::upstream::Received;

/// An entry of the table: what each event needs of a stream before and after it was followed, within one cache line.
pub struct StreamEntry<T> {
    flow: Flow,
    /// It waits for its turn to be received from.
    pub is_queued: bool,
    /// It leaves in this turn or soon, whatever happens.
    pub is_leaving: bool,
    /// The upstream sends nothing more: what it has sent is read to its end.
    pub upstream_has_ended: bool,
    /// Something has come from the upstream while the client took nothing.
    has_more: bool,
    /// The place to which the body has come.
    followed: BodyMark,
    /// The place to which it had come when all that had was written.
    written: BodyMark,
    /// Of a client that speaks no TLS.
    sender: Option<PlainSender>,
    /// The last time that something came from the upstream, or went out to a client that had not taken it.
    moved: Instant,
    stream: Box<Streaming<T>>,
}

/// A place in a body: the number of bytes of content before it, and in the lowest bit whether its turn is complete there.
#[derive(Debug, Clone, Copy)]
struct BodyMark(u64);

impl BodyMark {
    fn new(data_bytes: u64, turn_is_complete: bool) -> Self {
        BodyMark(data_bytes << 1 | u64::from(turn_is_complete))
    }

    fn data_bytes(self) -> u64 {
        self.0 >> 1
    }

    fn turn_is_complete(self) -> bool {
        self.0 & 1 != 0
    }
}

/// The direction in which a stream moves.
enum Flow {
    /// All that comes is passed on.
    Open,
    /// The client has not taken all of what came: nothing more is received until it has.
    Blocked(Box<Backlog>),
}

/// The bytes that a client has not taken.
struct Backlog {
    /// As it is to go over the wire.
    unsent: Buffer,
    stall: StallWatch,
}

/// All that there is of a stream.
// As `OpenExchange`.
#[repr(C)]
pub struct Streaming<T> {
    pub open: OpenExchange,
    pub downstream: RestingDownstream,
    pub owner: T,
    /// The time of the last heartbeat.
    last_heartbeat: Option<Instant>,
}

/// The result of one look at the upstream.
pub enum Taken {
    /// The stream goes on; more may be there already.
    GoesOn { may_have_more: bool },
    /// It leaves once what came was sent.
    Leaves(LeftPump),
}

/// The result of passing bytes to a client.
pub enum Passed {
    All,
    /// The rest waits for the client.
    Blocked,
    /// The client takes nothing more.
    Lost,
}

impl<T> StreamEntry<T> {
    pub fn new(stream: Box<Streaming<T>>, now: Instant) -> Self {
        let progress = &stream.open.exchange.progress;
        let written = BodyMark::new(progress.response_bytes.get(), progress.turn_was_written());
        StreamEntry {
            flow: Flow::Open,
            is_queued: false,
            is_leaving: false,
            upstream_has_ended: false,
            has_more: false,
            followed: written,
            written,
            sender: stream.downstream.stream.plain_sender(),
            moved: now,
            stream,
        }
    }

    pub fn stream(&self) -> &Streaming<T> {
        &self.stream
    }

    /// Lets the processor fetch what [`StreamEntry::take`] needs, while it is busy with another entry.
    pub fn prefetch(&self) {
        const HOT_BYTES: usize = 640;
        prefetch(&*self.stream, HOT_BYTES);
    }

    /// Returns whether its upstream is to be received from, now that something has come.
    pub fn wants_more(&mut self) -> bool {
        let is_open = matches!(self.flow, Flow::Open);
        self.has_more |= !is_open;
        is_open
    }

    /// Receives once, and follows what came into `batch`.
    pub fn take(&mut self, token: Token, batch: &mut Batch, now: Instant) -> Taken {
        let OpenExchange { connection, answer, .. } = &mut self.stream.open;
        let body = &mut answer.body;
        let start = batch.out.len();
        std::mem::swap(&mut body.out, &mut batch.out);
        let read = connection.read_through(&mut batch.scratch, |bytes| body.push(bytes));
        std::mem::swap(&mut body.out, &mut batch.out);
        batch.add(token, start);
        self.followed = BodyMark::new(body.reader.data_bytes(), body.turn_is_complete());
        match read {
            Ok((Some(end @ Received::End { .. }), _)) => Taken::Leaves(LeftPump::NoMore(Ok(end))),
            Ok((Some(Received::Data), may_have_more)) => {
                self.moved = now;
                if body.reader.is_complete() || body.error.is_some() {
                    return Taken::Leaves(LeftPump::Settled);
                }
                let may_have_more = may_have_more || self.upstream_has_ended || connection.has_known_end();
                Taken::GoesOn { may_have_more }
            }
            Ok((None, may_have_more)) => Taken::GoesOn { may_have_more: may_have_more || self.upstream_has_ended },
            Err(error) => Taken::Leaves(LeftPump::NoMore(Err(NoMore::Broken(error)))),
        }
    }

    /// Sends what came for the client.
    pub fn pass(&mut self, bytes: &[u8], now: Instant) -> Passed {
        debug_assert!(matches!(self.flow, Flow::Open), "bytes would overtake those before them");
        let sent = match self.sender {
            // Without a look at the stream, whose memory is far away.
            Some(sender) => sender.send(bytes),
            None => return self.seal_and_pass(bytes, now),
        };
        match sent {
            Ok(sent) if sent == bytes.len() => {
                self.note_written();
                Passed::All
            }
            Ok(sent) => {
                let mut unsent = Buffer::take();
                unsent.append(&bytes[sent..]);
                self.block(unsent, now)
            }
            Err(_) => Passed::Lost,
        }
    }

    fn seal_and_pass(&mut self, bytes: &[u8], now: Instant) -> Passed {
        match self.stream.downstream.stream.write_now(bytes) {
            Ok(unsent) if unsent.is_empty() => {
                self.note_written();
                Passed::All
            }
            Ok(unsent) => self.block(unsent, now),
            Err(_) => Passed::Lost,
        }
    }

    fn block(&mut self, unsent: Buffer, now: Instant) -> Passed {
        self.flow = Flow::Blocked(Box::new(Backlog { unsent, stall: StallWatch::new(now) }));
        Passed::Blocked
    }

    /// Sends what the client had not taken, now that it takes more. Returns whether its upstream may be received from
    /// and something has come.
    pub fn pass_rest(&mut self, now: Instant) -> io::Result<bool> {
        let Flow::Blocked(backlog) = &mut self.flow else { return Ok(false) };
        let Backlog { unsent, stall } = &mut **backlog;
        let before = unsent.len();
        self.stream.downstream.stream.flush_now(unsent)?;
        if unsent.len() < before {
            *stall = StallWatch::new(now);
        }
        if !unsent.is_empty() {
            return Ok(false);
        }
        self.flow = Flow::Open;
        self.moved = now;
        self.note_written();
        Ok(std::mem::take(&mut self.has_more))
    }

    fn note_written(&mut self) {
        // The end of a turn that was written stays so, whatever follows.
        self.written.0 = self.followed.0 | u64::from(self.written.turn_is_complete());
    }

    /// Returns whether something waits for the client, which has not taken it.
    pub fn is_blocked(&self) -> bool {
        matches!(self.flow, Flow::Blocked(_))
    }

    /// Returns when the client is to be looked at, which may take nothing for `limit`; `None` where nothing waits for
    /// it.
    pub fn next_look(&self, limit: Duration) -> Option<Instant> {
        match &self.flow {
            Flow::Blocked(backlog) => Some(backlog.stall.next_look(limit)),
            Flow::Open => None,
        }
    }

    /// Looks at a client for which something waits. Returns whether it has taken nothing for `limit`.
    pub fn has_stalled(&mut self, limit: Duration, now: Instant) -> bool {
        match &mut self.flow {
            Flow::Blocked(backlog) => backlog.stall.has_stalled(&self.stream.downstream.stream, limit, now),
            Flow::Open => false,
        }
    }

    /// The last time that something came from the upstream, or went out to a client that had not taken it.
    pub fn moved(&self) -> Instant {
        self.moved
    }

    /// The last time that something came or went.
    pub fn silent_since(&self) -> Instant {
        self.stream.last_heartbeat.map_or(self.moved, |last| last.max(self.moved))
    }

    /// Sends a comment, where one may stand.
    pub fn send_heartbeat(&mut self, now: Instant) -> Passed {
        self.stream.last_heartbeat = Some(now);
        let by_path = EventDialect::of_path(&self.stream.downstream.path);
        match self.stream.open.answer.body.heartbeat(by_path) {
            Some(comment) => self.pass(comment.filled(), now),
            None => Passed::All,
        }
    }

    /// Ends its time in the pump.
    pub fn leave(self, left: LeftPump) -> LeftStream<T> {
        let StreamEntry { flow, written, stream, .. } = self;
        let Streaming { open: OpenExchange { answer, exchange, .. }, .. } = &*stream;
        let progress = &exchange.progress;
        progress.response_bytes.set(written.data_bytes());
        progress.note_turn(written.turn_is_complete());
        progress.note_token_seen(answer.body.has_masked);
        progress.usage.text.set(answer.body.streamed_text());
        let unsent = match flow {
            Flow::Open => Buffer::none(),
            Flow::Blocked(backlog) => backlog.unsent,
        };
        stream.leave(unsent, left)
    }
}

impl<T> Streaming<T> {
    pub fn new(open: OpenExchange, downstream: Downstream, owner: T) -> Self {
        Streaming { open, downstream: downstream.rest(), owner, last_heartbeat: None }
    }

    pub fn leave(self, unsent: Buffer, left: LeftPump) -> LeftStream<T> {
        let Streaming { open, downstream, owner, .. } = self;
        LeftStream { downstream: downstream.resume(), owner, pumped: Pumped { open: Box::new(open), unsent, left } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event touches the whole of it.
    #[test]
    fn an_entry_fits_into_a_cache_line() {
        let bytes = size_of::<StreamEntry<()>>();
        assert!(bytes <= 64, "{bytes} bytes");
    }

    /// Every open answer costs it, and what rustls keeps.
    #[test]
    fn a_stream_stays_small() {
        let bytes = size_of::<Streaming<()>>();
        assert!(bytes <= 1_700, "{bytes} bytes");
    }
}
