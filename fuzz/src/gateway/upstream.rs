//! The upstream: it plays what the script says, one thread a connection, and notes what it got and what it sent.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::answer::{AnswerBytes, Asked, write};
use super::pieces::Pieces;
use super::script::{End, Opening, Play, Script};
use super::tag::Tag;
use crate::body::{self, Chunked};
use crate::message::{Announced, Head};

/// One attempt of the gateway, as the upstream saw it.
#[derive(Debug)]
pub struct Attempt {
    /// The number of its connection.
    pub connection: u64,
    /// Of the script; `None` for a request without a known id.
    pub exchange: Option<usize>,
    pub tag: Tag,
    pub play: Play,
    /// The head of the request.
    pub head: Vec<u8>,
    pub content: Vec<u8>,
    pub body_end: BodyEnd,
    pub answer: AnswerBytes,
    /// The bytes of the answer that were given to the kernel.
    pub sent: usize,
    pub is_head: bool,
    pub authorization: String,
    /// Bytes after the switch of protocols.
    pub tunnelled: Vec<u8>,
    /// The connection was closed or reset by this side after the answer, or before it.
    pub has_left: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    Whole,
    Missing,
    Broken,
    /// It was not read.
    Unread,
}

/// A listener and its connections.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    round: Mutex<Round>,
    ended: Condvar,
}

#[derive(Default)]
struct Round {
    /// `None` between two scripts: connections are closed at once.
    script: Option<Arc<Script>>,
    run: u64,
    attempts: Vec<Attempt>,
    /// Attempts of each exchange so far.
    counts: HashMap<Option<usize>, usize>,
    open: HashMap<u64, Arc<TcpStream>>,
    number: u64,
    threads: usize,
    faults: Vec<String>,
    /// The port of a connection of this process that shows that all before it were taken off the queue.
    marker: Option<u16>,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let upstream = Upstream { address, shared: shared.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                Connection::start(&shared, stream);
            }
        });
        upstream
    }

    pub fn begin(&self, script: Arc<Script>, run: u64) {
        self.empty_queue();
        let mut round = self.shared.round.lock().unwrap();
        assert_eq!((round.threads, round.attempts.len()), (0, 0), "connections of the script before");
        (round.script, round.run) = (Some(script), run);
        round.counts.clear();
    }

    /// Closes what is still in the queue of the listener: it is of the script before.
    fn empty_queue(&self) {
        let mut round = self.shared.round.lock().unwrap();
        let marker = TcpStream::connect(self.address).expect("the listener's queue has room");
        round.marker = Some(marker.local_addr().expect("an address").port());
        while round.marker.is_some() {
            round = self.shared.ended.wait(round).unwrap();
        }
    }

    /// Closes all connections, and returns what they saw.
    pub fn end(&self, limit: Duration) -> (Vec<Attempt>, Vec<String>) {
        let due = Instant::now() + limit;
        let mut round = self.shared.round.lock().unwrap();
        round.script = None;
        while round.threads > 0 {
            for stream in round.open.values() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            assert!(Instant::now() < due, "the upstream's own threads hang");
            round = self.shared.ended.wait_timeout(round, Duration::from_millis(5)).unwrap().0;
        }
        (std::mem::take(&mut round.attempts), std::mem::take(&mut round.faults))
    }
}

/// One connection of the gateway.
struct Connection {
    shared: Arc<Shared>,
    stream: Arc<TcpStream>,
    number: u64,
    script: Arc<Script>,
    run: u64,
    input: Vec<u8>,
}

/// Its other side has ended it.
struct Gone;

impl Connection {
    fn start(shared: &Arc<Shared>, stream: TcpStream) {
        let stream = Arc::new(stream);
        let port = stream.peer_addr().map(|peer| peer.port());
        let mut round = shared.round.lock().unwrap();
        if round.marker.is_some() && round.marker == port.ok() {
            round.marker = None;
            return shared.ended.notify_all();
        }
        let Some(script) = round.script.clone() else { return };
        round.number += 1;
        round.threads += 1;
        let (number, run) = (round.number, round.run);
        round.open.insert(number, stream.clone());
        drop(round);
        let mut connection = Connection { shared: shared.clone(), stream, number, script, run, input: Vec::new() };
        thread::spawn(move || {
            let _ = connection.stream.set_nodelay(true);
            while let Ok(true) = connection.serve() {}
            connection.leave();
            let Connection { shared, stream, .. } = connection;
            drop(stream);
            shared.round.lock().unwrap().threads -= 1;
            shared.ended.notify_all();
        });
    }

    fn leave(&self) {
        self.shared.round.lock().unwrap().open.remove(&self.number);
    }

    /// Serves one request. Returns whether another may follow.
    fn serve(&mut self) -> Result<bool, Gone> {
        let head = self.read_head()?;
        let mut attempt = self.note(&head);
        let play = attempt.play;
        let goes_on = self.play(&mut attempt, &play);
        attempt.has_left = !matches!(goes_on, Ok(true));
        self.shared.round.lock().unwrap().attempts.push(attempt);
        goes_on
    }

    fn play(&mut self, attempt: &mut Attempt, play: &Play) -> Result<bool, Gone> {
        match play.opening {
            Opening::Reads => self.read_body(attempt)?,
            Opening::ReadsSlowly => {
                thread::sleep(Duration::from_millis(2));
                self.read_body(attempt)?;
            }
            Opening::AnswersEarly | Opening::IgnoresBody => {}
            Opening::Stalls => {
                self.read_body(attempt)?;
                self.read_to_end();
                return Ok(false);
            }
            Opening::LeavesAtHead => return Ok(self.end(play.end)),
            Opening::LeavesAtEnd => {
                self.read_body(attempt)?;
                return Ok(self.end(play.end));
            }
        }
        self.answer(attempt)?;
        if attempt.answer.switches && attempt.sent == attempt.answer.wire.len() {
            return Ok(self.tunnel(attempt, play));
        }
        if play.cut.is_some() || play.end != End::Keeps {
            return Ok(self.end(play.end));
        }
        match play.opening {
            Opening::AnswersEarly => self.read_body(attempt)?,
            Opening::IgnoresBody if attempt.body_end == BodyEnd::Unread => {
                self.read_to_end();
                return Ok(false);
            }
            _ => {}
        }
        Ok(attempt.body_end == BodyEnd::Whole)
    }

    /// Reads the bytes of a tunnel until its other side ends it, and ends this one.
    fn tunnel(&mut self, attempt: &mut Attempt, play: &Play) -> bool {
        if play.end == End::Keeps || play.end == End::HalfCloses {
            if play.end == End::HalfCloses {
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            self.read_to_end();
        }
        attempt.tunnelled = std::mem::take(&mut self.input);
        self.end(play.end)
    }

    fn end(&mut self, end: End) -> bool {
        match end {
            End::Resets => {
                let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
            }
            End::HalfCloses => {
                let _ = self.stream.shutdown(Shutdown::Write);
                self.read_to_end();
            }
            End::Keeps | End::Closes | End::SaysAndCloses => {}
        }
        false
    }

    /// Finds the play of a request by the id that it carries.
    fn note(&mut self, head: &[u8]) -> Attempt {
        let read = Head::read(head);
        let value = |name| read.as_ref().and_then(|head| head.values(name).first().map(|value| value.to_vec()));
        let id = value("x-request-id").unwrap_or_default();
        let exchange = Tag::exchange_of(self.run, &id);
        let mut exchanges = self.script.clients.iter().flat_map(|client| &client.exchanges);
        let plays = exchange.and_then(|exchange| exchanges.nth(exchange)).map(|exchange| &exchange.plays[..]);
        let mut round = self.shared.round.lock().unwrap();
        let count = round.counts.entry(exchange).or_default();
        let number = *count;
        *count += 1;
        if read.is_none() {
            round.faults.push(format!("the upstream got a malformed head: {}", String::from_utf8_lossy(head)));
        }
        drop(round);
        let play = plays.map_or_else(Play::default, |plays| plays[number.min(plays.len() - 1)]);
        let tag = Tag { run: self.run, exchange: exchange.unwrap_or(999), attempt: Some(number) };
        let authorization = String::from_utf8_lossy(&value("authorization").unwrap_or_default()).into_owned();
        let is_head = head.starts_with(b"HEAD ");
        let is_upgrade = value("upgrade").is_some();
        let answer = write(&play, tag, Asked { is_head, is_upgrade, authorization: &authorization });
        Attempt {
            connection: self.number,
            exchange,
            tag,
            play,
            head: head.to_vec(),
            content: Vec::new(),
            body_end: BodyEnd::Unread,
            answer,
            sent: 0,
            is_head,
            authorization,
            tunnelled: Vec::new(),
            has_left: false,
        }
    }

    fn answer(&mut self, attempt: &mut Attempt) -> Result<(), Gone> {
        let bytes = &attempt.answer.wire[..attempt.answer.length];
        for piece in Pieces::of(bytes, &attempt.play.split) {
            piece.pause();
            (&*self.stream).write_all(piece.bytes).map_err(|_| Gone)?;
            attempt.sent += piece.bytes.len();
        }
        Ok(())
    }

    fn read_head(&mut self) -> Result<Vec<u8>, Gone> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.input, b"\r\n\r\n") {
                return Ok(self.input.drain(..at + 4).collect());
            }
            self.read_more()?;
        }
    }

    fn read_body(&mut self, attempt: &mut Attempt) -> Result<(), Gone> {
        if attempt.body_end != BodyEnd::Unread {
            return Ok(());
        }
        let announced = Head::read(&attempt.head).map_or(Announced::Unclear, |head| head.announced(false));
        loop {
            let length = match announced {
                Announced::Nothing => Some(0),
                Announced::Length(length) => {
                    attempt.content = self.input[..self.input.len().min(length as usize)].to_vec();
                    (attempt.content.len() as u64 == length).then_some(length as usize)
                }
                Announced::Chunked => {
                    let Chunked { content, end } = Chunked::read(&self.input);
                    attempt.content = content;
                    match end {
                        body::End::Whole { body_bytes, .. } => Some(body_bytes),
                        body::End::Missing => None,
                        body::End::Broken => {
                            attempt.body_end = BodyEnd::Broken;
                            return Err(Gone);
                        }
                    }
                }
                Announced::Unclear => {
                    attempt.body_end = BodyEnd::Broken;
                    return Err(Gone);
                }
            };
            if let Some(length) = length {
                self.input.drain(..length);
                attempt.body_end = BodyEnd::Whole;
                return Ok(());
            }
            attempt.body_end = BodyEnd::Missing;
            self.read_more()?;
        }
    }

    fn read_to_end(&mut self) {
        while self.read_more().is_ok() {}
    }

    fn read_more(&mut self) -> Result<(), Gone> {
        let mut room = [0; 16 * 1024];
        loop {
            match (&*self.stream).read(&mut room) {
                Ok(0) => return Err(Gone),
                Ok(count) => {
                    self.input.extend_from_slice(&room[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
    }
}
