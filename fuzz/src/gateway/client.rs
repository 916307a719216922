//! The clients: each plays its part of the script on one connection, and keeps all that it gets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::pieces::Pieces;
use super::request::{RequestBytes, frame, write};
use super::script::{Client, Departure, Kind, Leaves, Reading, Split};
use super::tag::Tag;
use super::wire::whole_answers;

/// The time for which a client waits for `100 Continue` before it sends its body.
const CONTINUE_LIMIT: Duration = Duration::from_millis(15);
/// The silence after which a client leaves that does not know how many answers to expect.
const SILENCE_LIMIT: Duration = Duration::from_millis(25);

/// A client's view of its connection.
#[derive(Debug)]
pub struct Seen {
    pub requests: Vec<RequestBytes>,
    /// Requests of which all bytes were given to the kernel.
    pub sent_count: usize,
    pub received: Vec<u8>,
    pub ended: Ended,
    /// It left, or sent no more, before it had all answers.
    pub has_left: bool,
    /// It could not send: the kernel has told it of a reset, and tells no reader of it any more.
    pub was_refused: bool,
    /// The content of the WebSocket frame that it sent.
    pub tunnelled: Vec<u8>,
}

/// The end of what a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Eof,
    Reset,
    /// By the client.
    Left,
    /// The limit of the script came first.
    Overdue,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Default)]
struct InboxState {
    received: Vec<u8>,
    ended: Option<Ended>,
    answers: usize,
    /// Bytes of those answers.
    answered_bytes: usize,
    last: Option<Instant>,
}

/// Plays a client. `first` is the number of its first exchange in the script.
pub fn play(client: &Client, address: SocketAddr, run: u64, first: usize, due: Instant) -> Seen {
    let requests: Vec<RequestBytes> = (client.exchanges.iter().enumerate())
        .map(|(place, exchange)| write(&exchange.request, Tag { run, exchange: first + place, attempt: None }))
        .collect();
    let (stream, inbox) = (Arc::new(connect(client.reading, address)), Inbox::default());
    let are_for_head: Vec<bool> = requests.iter().map(|request| request.is_head).collect();
    let read_max = match client.leaves {
        Leaves::InAnswer(_, at) => usize::from(at) * usize::from(at),
        _ => usize::MAX,
    };
    let mut seen = thread::scope(|scope| {
        let reading = Incoming { client, stream: &stream, inbox: &inbox, are_for_head: &are_for_head, read_max, due };
        scope.spawn(move || reading.read());
        let speaker = Speaker { client, stream: &stream, inbox: &inbox, requests: &requests, due };
        speaker.speak(first)
    });
    drop(stream);
    let state = inbox.state.into_inner().unwrap();
    (seen.received, seen.requests) = (state.received, requests);
    seen.ended = match state.ended.unwrap_or(Ended::Left) {
        Ended::Eof if seen.was_refused => Ended::Reset,
        ended => ended,
    };
    seen
}

fn connect(reading: Reading, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if reading == Reading::Slowly {
        socket.set_recv_buffer_size(4096).expect("a small buffer");
    }
    socket.connect(&address.into()).expect("the gateway accepts");
    socket.set_tcp_nodelay(true).expect("an option of TCP");
    socket.into()
}

/// The reading side of a client.
struct Incoming<'a> {
    client: &'a Client,
    stream: &'a TcpStream,
    inbox: &'a Inbox,
    are_for_head: &'a [bool],
    read_max: usize,
    due: Instant,
}

impl Incoming<'_> {
    fn read(self) {
        if self.client.reading == Reading::Late {
            thread::sleep(Duration::from_millis(4));
        }
        let mut room = vec![0; if self.client.reading == Reading::Slowly { 1500 } else { 64 * 1024 }];
        let mut count_of_reads = 0;
        let (mut length, mut ended) = (0, None);
        while ended.is_none() && length < self.read_max {
            if self.client.reading == Reading::Slowly && count_of_reads < 40 {
                thread::sleep(Duration::from_micros(150));
            }
            count_of_reads += 1;
            let limit = self.due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(limit)).expect("an option of the socket");
            let room_max = room.len().min(self.read_max - length);
            let read = self.stream.take_some(&mut room[..room_max]);
            let mut state = self.inbox.state.lock().unwrap();
            match read {
                Ok(0) => ended = Some(Ended::Eof),
                Ok(count) => {
                    length += count;
                    state.received.extend_from_slice(&room[..count]);
                    state.last = Some(Instant::now());
                    let (answers, bytes) = whole_answers(
                        &state.received[state.answered_bytes..],
                        &self.are_for_head[state.answers.min(self.are_for_head.len())..],
                    );
                    state.answers += answers;
                    state.answered_bytes += bytes;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    ended = Some(Ended::Overdue);
                }
                Err(_) => ended = Some(Ended::Reset),
            }
            drop(state);
            self.inbox.changed.notify_all();
        }
        self.inbox.state.lock().unwrap().ended.get_or_insert(ended.unwrap_or(Ended::Left));
        self.inbox.changed.notify_all();
    }
}

trait TakeSome {
    fn take_some(&self, room: &mut [u8]) -> std::io::Result<usize>;
}

impl TakeSome for TcpStream {
    /// Reads, and once more where a signal came in between.
    fn take_some(&self, room: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match (&*self).read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// The writing side of a client, which also decides when it leaves.
struct Speaker<'a> {
    client: &'a Client,
    stream: &'a TcpStream,
    inbox: &'a Inbox,
    requests: &'a [RequestBytes],
    due: Instant,
}

impl Speaker<'_> {
    fn speak(&self, first: usize) -> Seen {
        let mut seen = Seen {
            requests: Vec::new(),
            sent_count: 0,
            received: Vec::new(),
            ended: Ended::Left,
            has_left: false,
            was_refused: false,
            tunnelled: Vec::new(),
        };
        let total: usize = self.requests.iter().map(|request| request.head.len() + request.body.len()).sum();
        let mut left = match self.client.leaves {
            Leaves::InRequest(_, at) => total * usize::from(at) / 256,
            _ => usize::MAX,
        };
        for (place, (request, exchange)) in self.requests.iter().zip(&self.client.exchanges).enumerate() {
            if !self.client.is_pipelined && !self.wait(|state| state.answers >= place || state.ended.is_some()) {
                break;
            }
            let (whole, split) = ([&request.head[..], &request.body].concat(), exchange.request.split);
            let waits = exchange.request.expects_continue && !request.body.is_empty() && !request.is_changed;
            let parts = if waits { whole.split_at(request.head.len()) } else { (&whole[..], &b""[..]) };
            let sent = self.send(parts.0, &split, &mut left) && {
                if waits && left > 0 {
                    self.wait_for_continue(place);
                }
                self.send(parts.1, &split, &mut left)
            };
            if !sent {
                seen.was_refused = left > 0;
                break;
            }
            seen.sent_count += 1;
            if exchange.request.kind == Kind::Upgrade && self.wait_for_switch(place) {
                let tag = Tag { run: 0, exchange: first + place, attempt: None };
                seen.tunnelled = tag.padding(exchange.request.size.bytes()).into_bytes();
                self.send(&frame(&seen.tunnelled, true), &split, &mut left);
                break;
            }
        }
        self.leave(&mut seen, left == 0);
        seen
    }

    /// Sends, up to where the client leaves; false where it does, or cannot send.
    fn send(&self, bytes: &[u8], split: &Split, left: &mut usize) -> bool {
        let is_last = *left <= bytes.len();
        let bytes = &bytes[..bytes.len().min(*left)];
        for piece in Pieces::of(bytes, split) {
            piece.pause();
            if (&*self.stream).write_all(piece.bytes).is_err() {
                return false;
            }
        }
        *left -= bytes.len();
        !is_last || *left > 0
    }

    fn wait_for_continue(&self, place: usize) {
        let until = Instant::now() + CONTINUE_LIMIT;
        let mut state = self.inbox.state.lock().unwrap();
        let begins = |state: &InboxState| {
            state.ended.is_some() || state.answers > place || state.received.len() > state.answered_bytes
        };
        while !begins(&state) && Instant::now() < until {
            state = self.inbox.changed.wait_timeout(state, CONTINUE_LIMIT).unwrap().0;
        }
    }

    /// Waits for the answer to an upgrade; false where it does not switch.
    fn wait_for_switch(&self, place: usize) -> bool {
        self.wait(|state| state.answers > place || state.ended.is_some());
        memchr::memmem::find(&self.inbox.state.lock().unwrap().received, b"HTTP/1.1 101 ").is_some()
    }

    fn wait(&self, is_over: impl Fn(&InboxState) -> bool) -> bool {
        let mut state = self.inbox.state.lock().unwrap();
        while !is_over(&state) {
            let limit = self.due.saturating_duration_since(Instant::now());
            if limit.is_zero() {
                return false;
            }
            state = self.inbox.changed.wait_timeout(state, limit).unwrap().0;
        }
        state.ended.is_none()
    }

    /// Waits for the answers as long as the client does, and leaves.
    fn leave(&self, seen: &mut Seen, leaves_now: bool) {
        let departure = match self.client.leaves {
            Leaves::InRequest(departure, _) if leaves_now => Some(departure),
            Leaves::InAnswer(departure, _) => {
                let state = self.wait_for_end(seen, true);
                state.ended.filter(|ended| *ended == Ended::Left).map(|_| departure)
            }
            _ => {
                drop(self.wait_for_end(seen, true));
                None
            }
        };
        let state = self.inbox.state.lock().unwrap();
        seen.has_left |=
            state.ended != Some(Ended::Eof) && state.ended != Some(Ended::Reset) && state.answers < self.requests.len();
        seen.has_left |= departure.is_some();
        drop(state);
        match departure {
            Some(Departure::HalfClose) => {
                let _ = self.stream.shutdown(Shutdown::Write);
                drop(self.wait_for_end(seen, false));
            }
            Some(Departure::Reset) => {
                let _ = SockRef::from(self.stream).set_linger(Some(Duration::ZERO));
            }
            Some(Departure::Close) | None => {}
        }
        let ended = if Instant::now() >= self.due { Ended::Overdue } else { Ended::Left };
        self.inbox.state.lock().unwrap().ended.get_or_insert(ended);
        // Wakes the reading side, and sends nothing.
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Waits until all answers have come or the connection has ended; where it is not known how many answers come, for
    /// a moment of silence.
    fn wait_for_end(&self, seen: &Seen, knows_count: bool) -> MutexGuard<'_, InboxState> {
        let is_sure = knows_count
            && self.requests.iter().all(|request| !request.is_changed)
            && seen.sent_count == self.requests.len()
            && seen.tunnelled.is_empty();
        let mut state = self.inbox.state.lock().unwrap();
        let begun = Instant::now();
        loop {
            let silence = state.last.unwrap_or(begun).max(begun).elapsed();
            let has_all = is_sure && state.answers >= self.requests.len();
            if state.ended.is_some() || has_all || Instant::now() >= self.due || !is_sure && silence >= SILENCE_LIMIT {
                return state;
            }
            let limit = if is_sure { self.due.saturating_duration_since(Instant::now()) } else { SILENCE_LIMIT };
            state = self.inbox.changed.wait_timeout(state, limit).unwrap().0;
        }
    }
}
