//! A client that sends and shows raw bytes.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::wire::{Body, Transport, Wire};
use super::{DEADLINE, Ended, Head, observed, shown};

/// The segment size that a narrow client asks for: it bounds the sender's buffer too, which loopback's would make
/// megabytes.
const NARROW_PACKET_BYTES: u32 = 1000;

/// The room that a narrow client has for what it has not read.
const NARROW_ROOM_BYTES: usize = 8 * 1024;

pub struct Client {
    wire: Wire,
    deadline: Duration,
}

/// A response as far as it was received.
#[derive(Clone)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    /// The heads of the 1xx responses before it.
    pub interim: Vec<Head>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The body as it was framed.
    pub raw_body: Vec<u8>,
    pub trailers: Vec<String>,
    /// The reason why reading ended: `KeepAlive` where the message's own framing said so.
    pub ended: Ended,
    /// Set where the framing says that the message is whole, as every client must find out.
    pub is_whole: bool,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ({:?}, whole: {})", shown(&self.head.raw), shown(&self.raw_body), self.ended, self.is_whole)
    }
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", shown(&self.body)))
    }

    /// Returns the gateway's error code where the answer is the gateway's own.
    pub fn error_code(&self) -> Option<&str> {
        self.field("x-flow-uring-error")
    }
}

impl Client {
    pub fn connect(port: u16) -> Self {
        Self::observed_by(port, observed::record)
    }

    /// Connects without recording, for bulk that would only make the search for secrets slow.
    pub fn connect_unrecorded(port: u16) -> Self {
        Self::observed_by(port, |_| {})
    }

    /// Connects with TLS as `config` says.
    pub fn connect_tls(port: u16, config: Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(config, name).expect("a usable configuration");
        let transport = Transport::TlsClient(Box::new(StreamOwned::new(session, socket)));
        Self { wire: Wire::new(transport, observed::record), deadline: DEADLINE }
    }

    /// Connects and asks for small packets and little room: a client that stops to read is soon sent no more. Unrecorded.
    pub fn connect_narrow(port: u16, tls: Option<&Arc<ClientConfig>>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_tcp_mss(NARROW_PACKET_BYTES).expect("before it is connected");
        socket.set_recv_buffer_size(NARROW_ROOM_BYTES).expect("before it is connected");
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("the gateway listens");
        Self::over(socket.into(), tls)
    }

    /// Takes a connection, with TLS as `tls` says. Unrecorded.
    pub fn over(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Self {
        let transport = match tls {
            None => Transport::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a name");
                let session = ClientConnection::new(Arc::clone(config), name).expect("a usable configuration");
                Transport::TlsClient(Box::new(StreamOwned::new(session, socket)))
            }
        };
        Self { wire: Wire::new(transport, |_| {}), deadline: DEADLINE }
    }

    fn observed_by(port: u16, observe: impl Fn(&[u8]) + Send + 'static) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
        Self { wire: Wire::new(Transport::Plain(socket), observe), deadline: DEADLINE }
    }

    /// Sets the deadline of each step, for steps that are meant to take longer than usual.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.wire.write(bytes).unwrap_or_else(|error| panic!("{error} while sending {}", shown(bytes)));
        self
    }

    /// Sends where the gateway may have refused already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.write(bytes.as_ref())
    }

    /// Sends, at most for so long; false where not all was taken.
    pub fn try_send_within(&mut self, bytes: impl AsRef<[u8]>, limit: Duration) -> bool {
        let socket = self.wire.transport.socket();
        socket.set_write_timeout(Some(limit)).expect("not zero");
        self.wire.write(bytes.as_ref()).is_ok()
    }

    /// Sends each byte in a packet of its own.
    pub fn send_slowly(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        for byte in bytes.as_ref().chunks(1) {
            self.send(byte);
            thread::sleep(Duration::from_micros(200));
        }
        self
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let is_head = request.as_ref().starts_with(b"HEAD ");
        self.send(request);
        if is_head { self.read_response_to_head() } else { self.read_response() }
    }

    pub fn read_response(&mut self) -> Response {
        self.read_answer(false)
    }

    /// Reads the answer to a `HEAD`, which has no body whatever its fields say.
    pub fn read_response_to_head(&mut self) -> Response {
        self.read_answer(true)
    }

    /// Reads the answer to its end, and calls `then` once its body so far ends in `part`.
    pub fn read_response_after(&mut self, part: &[u8], then: impl FnOnce()) -> Response {
        let until = Instant::now() + self.deadline;
        while !self.wire.pending().ends_with(part) {
            self.wire.fill(until).unwrap_or_else(|ended| self.fail(&shown(part), ended));
        }
        then();
        self.read_response()
    }

    /// Reads up to the end of one head, interim ones too.
    pub fn read_head(&mut self) -> Head {
        let until = Instant::now() + self.deadline;
        self.wire.take_head(until).unwrap_or_else(|ended| self.fail("a head", ended))
    }

    /// Reads until `pattern` has come, and takes all up to its end.
    pub fn read_until(&mut self, pattern: impl AsRef<[u8]>) -> Vec<u8> {
        let (pattern, until) = (pattern.as_ref(), Instant::now() + self.deadline);
        let end = self.wire.find(pattern, until).unwrap_or_else(|ended| self.fail(&shown(pattern), ended));
        self.wire.take(end)
    }

    /// Reads `length` bytes and keeps none of them.
    pub fn discard(&mut self, length: usize) -> &mut Self {
        self.wire.discard(length, self.deadline).unwrap_or_else(|ended| self.fail("all of it", ended));
        self
    }

    /// Reads what is there or comes next, at most `length` bytes.
    pub fn read_up_to(&mut self, length: usize) -> Vec<u8> {
        if self.wire.pending().is_empty() {
            self.wire.fill(Instant::now() + self.deadline).unwrap_or_else(|ended| self.fail("more", ended));
        }
        self.wire.take(self.wire.pending().len().min(length))
    }

    /// Reads all that comes until the connection ends.
    pub fn read_to_end(&mut self) -> (Vec<u8>, Ended) {
        let (bytes, ended) = self.wire.take_to_end(Instant::now() + self.deadline);
        assert_ne!(ended, Ended::Timeout, "the connection did not end; received {}", shown(&bytes));
        (bytes, ended)
    }

    /// Reads all that comes until it is at least `count` bytes or the connection ends; `None`: it goes on.
    pub fn read_at_least(&mut self, count: usize, into: &mut Vec<u8>) -> Option<Ended> {
        let until = Instant::now() + self.deadline;
        loop {
            into.append(&mut self.wire.take(self.wire.pending().len()));
            if into.len() >= count {
                return None;
            }
            match self.wire.fill(until) {
                Ok(()) => {}
                Err(Ended::Timeout) => self.fail(&format!("{count} bytes after {}", into.len()), Ended::Timeout),
                Err(ended) => return Some(ended),
            }
        }
    }

    /// Fails unless the gateway sends nothing more and closes.
    pub fn expect_close(&mut self) -> Ended {
        let (bytes, ended) = self.read_to_end();
        assert!(bytes.is_empty(), "surplus bytes: {}", shown(&bytes));
        ended
    }

    /// Returns whether nothing at all comes for this long.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.wire.pending().is_empty() && self.wire.fill(Instant::now() + time) == Err(Ended::Timeout)
    }

    pub fn is_tls(&self) -> bool {
        matches!(self.wire.transport, Transport::TlsClient(_))
    }

    /// Sends TLS's close_notify; the socket stays open, and reading goes on.
    pub fn say_goodbye(&mut self) {
        self.wire.end_tls();
    }

    /// Sends `bytes` and a close_notify in one packet.
    pub fn send_and_say_goodbye(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write_and_end_tls(bytes.as_ref()).expect("the gateway takes it");
    }

    /// Sends bytes that are no part of the TLS session.
    pub fn send_beside_tls(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.transport.socket().write_all(bytes)
    }

    /// Sends FIN; reading goes on.
    pub fn half_close(&mut self) {
        self.wire.half_close();
    }

    /// Sends RST, and returns when.
    pub fn reset(self) -> Instant {
        self.wire.reset_on_close();
        let at = Instant::now();
        drop(self);
        at
    }

    /// Closes in good order, and returns when.
    pub fn close(self) -> Instant {
        let at = Instant::now();
        drop(self);
        at
    }

    fn read_answer(&mut self, to_head: bool) -> Response {
        let mut interim = Vec::new();
        let (head, status) = loop {
            let head = self.read_head();
            let status: u16 = head.start_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            assert!(head.start_line.starts_with("HTTP/1.1 ") && status >= 100, "not an answer: {}", shown(&head.raw));
            if status >= 200 || status == 101 {
                break (head, status);
            }
            interim.push(head);
        };
        let until = Instant::now() + self.deadline;
        let mut body = Body::default();
        let read = if to_head || status < 200 || status == 204 || status == 304 {
            Ok(())
        } else if head.is_chunked() {
            self.wire.take_chunked(&mut body, until)
        } else if let Some(length) = head.content_length() {
            let read = self.wire.take_exact(length, until).map(|whole| body.decoded = whole);
            if read.is_err() {
                body.decoded = self.wire.take(self.wire.pending().len());
            }
            read
        } else {
            let (all, ended) = self.wire.take_to_end(until);
            body.decoded = all;
            Err(ended)
        };
        if body.raw.is_empty() {
            body.raw.clone_from(&body.decoded);
        }
        let ended = read.err().unwrap_or(Ended::KeepAlive);
        assert_ne!(ended, Ended::Timeout, "the answer did not end: {}{}", shown(&head.raw), shown(&body.raw));
        let is_framed = head.is_chunked() || head.content_length().is_some();
        let is_whole = ended == Ended::KeepAlive || (!is_framed && ended == Ended::Eof);
        let Body { raw: raw_body, decoded, trailers } = body;
        Response { status, head, interim, body: decoded, raw_body, trailers, ended, is_whole }
    }

    fn fail(&self, wanted: &str, ended: Ended) -> ! {
        panic!("{ended:?} instead of {wanted}; received {}", shown(self.wire.pending()));
    }
}
