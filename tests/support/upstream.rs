//! An upstream that runs a test's closure for each connection, on a thread of its own, and keeps what it was sent.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::CERTIFICATES;
use super::wire::{Body, Transport, Wire};
use super::{BASE_PATH, Credential, DEADLINE, EVENT_STREAM, Ended, Head, HeldPort, observed, shown};

pub struct Upstream {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
    /// Kept so that no other process takes the port when the listener has been closed.
    _port: HeldPort,
}

/// A request as it came over the wire.
#[derive(Clone)]
pub struct Request {
    /// The number of the connection that brought it, from 0.
    pub connection: usize,
    /// Its place among all requests, from 0, in the order in which their heads were whole.
    pub number: usize,
    /// The time at which its head was whole.
    pub at: Instant,
    pub head: Head,
    pub body: Vec<u8>,
    pub raw_body: Vec<u8>,
    pub trailers: Vec<String>,
}

impl fmt::Debug for Request {
    /// Leaves out what carries the token: the message of a failed test must not show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.head.lines_without(&["Authorization", "X-Goog-Api-Key"]);
        write!(f, "#{} {} {lines:?} {}", self.connection, self.line(), shown(&self.raw_body))
    }
}

impl Request {
    pub fn line(&self) -> &str {
        &self.head.start_line
    }

    pub fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    pub fn authorization(&self) -> &str {
        self.head.field("authorization").expect("an Authorization field")
    }

    /// Checks the signature of its token, and returns whose it is by the name of `secrets_json`.
    pub fn credential(&self) -> String {
        Credential::of_authorization(self.authorization()).client_id.trim_end_matches("-client-id").to_owned()
    }
}

struct Shared {
    address: SocketAddr,
    seen: Mutex<Seen>,
    changed: Condvar,
    is_stopped: AtomicBool,
    connections: AtomicUsize,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    closes: Vec<(usize, Instant)>,
    bytes_received: usize,
    handshake_failures: usize,
    panics: Vec<String>,
}

impl Shared {
    /// Locks, poisoned or not: a test that failed elsewhere does not make wrong what was seen.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn update(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }

    fn wait_for<T>(&self, what: &str, mut found: impl FnMut(&Seen) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        let mut seen = self.seen();
        loop {
            if let Some(value) = found(&seen) {
                return value;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the upstream did not see {what} in time; requests: {:?}", seen.requests);
            seen = self.changed.wait_timeout(seen, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

impl Upstream {
    pub fn plain(handler: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start(None, handler)
    }

    pub fn tls(handler: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start(Some(Arc::clone(&CERTIFICATES.server)), handler)
    }

    /// Speaks TLS, and only with clients that offer one of these protocols by ALPN, or none.
    pub fn tls_offering(protocols: &[&str], handler: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let mut config = ServerConfig::clone(&CERTIFICATES.server);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self::start(Some(Arc::new(config)), handler)
    }

    fn start(tls: Option<Arc<ServerConfig>>, handler: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let port = HeldPort::reserve();
        let (listener, address) = (port.listen(), port.address());
        let shared = Arc::new(Shared {
            address,
            seen: Mutex::default(),
            changed: Condvar::new(),
            is_stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        let is_tls = tls.is_some();
        thread::spawn(move || accept_all(&listener, tls.as_ref(), &accepting, &Arc::new(handler)));
        Self { address, is_tls, shared, _port: port }
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns `host:port`, as it stands in the gateway's `Host` field.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Returns the value for `--upstream`.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{BASE_PATH}", self.authority())
    }

    /// Returns all requests whose head came whole, each with as much of its body as was read.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.seen().requests.clone()
    }

    /// Returns the only request that came.
    pub fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "one request is expected: {requests:?}");
        requests.remove(0)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn bytes_received(&self) -> usize {
        self.shared.seen().bytes_received
    }

    pub fn handshake_failures(&self) -> usize {
        self.shared.seen().handshake_failures
    }

    pub fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        let enough = |seen: &Seen| (seen.requests.len() >= count).then(|| seen.requests.clone());
        self.shared.wait_for(&format!("{count} requests"), enough)
    }

    /// Waits until the gateway closes connection number `connection`, and returns when that was seen.
    pub fn wait_for_close(&self, connection: usize) -> Instant {
        let close = |seen: &Seen| seen.closes.iter().find(|(number, _)| *number == connection).map(|(_, at)| *at);
        self.shared.wait_for(&format!("the end of connection {connection}"), close)
    }

    pub fn closes(&self) -> usize {
        self.shared.seen().closes.len()
    }

    /// Returns whether no further request comes for this long.
    pub fn is_left_alone_for(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut seen = self.shared.seen();
        let count = seen.requests.len();
        while seen.requests.len() == count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            seen = self.shared.changed.wait_timeout(seen, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        false
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        let panics = std::mem::take(&mut self.shared.seen().panics);
        if !thread::panicking() {
            assert!(panics.is_empty(), "the upstream's script failed: {panics:?}");
        }
    }
}

fn accept_all<H>(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, shared: &Arc<Shared>, handler: &Arc<H>)
where
    H: Fn(&mut Peer) + Send + Sync + 'static,
{
    while let Ok((socket, _)) = listener.accept() {
        if shared.is_stopped.load(Ordering::SeqCst) {
            return;
        }
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared, handler) = (tls.cloned(), Arc::clone(shared), Arc::clone(handler));
        thread::spawn(move || {
            let script = std::panic::AssertUnwindSafe(|| serve(socket, tls, number, &shared, &*handler));
            if let Err(panic) = std::panic::catch_unwind(script) {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                shared.update(|seen| seen.panics.push(text.unwrap_or_default()));
            }
        });
    }
}

fn serve(
    socket: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    number: usize,
    shared: &Arc<Shared>,
    handler: &dyn Fn(&mut Peer),
) {
    let transport = if let Some(config) = tls {
        let connection = ServerConnection::new(config).expect("a valid configuration");
        let mut stream = Box::new(StreamOwned::new(connection, socket));
        stream.sock.set_read_timeout(Some(DEADLINE)).expect("not zero");
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return shared.update(|seen| seen.handshake_failures += 1);
            }
        }
        Transport::Tls(stream)
    } else {
        Transport::Plain(socket)
    };
    let counted = Arc::clone(shared);
    let wire = Wire::new(transport, move |bytes| counted.update(|seen| seen.bytes_received += bytes.len()));
    let mut peer = Peer { wire, number, shared: Arc::clone(shared), request: None, is_closed: false };
    handler(&mut peer);
    peer.close();
}

/// The upstream's side of one connection, as a test's closure gets it. When that returns, the connection is closed in
/// good order.
pub struct Peer {
    wire: Wire,
    number: usize,
    shared: Arc<Shared>,
    /// The index of the request that is being read among those seen.
    request: Option<usize>,
    is_closed: bool,
}

impl Peer {
    /// Returns the number of this connection, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Reads the next request's head; `None` where the gateway closed instead. An idle connection may wait as long as
    /// the test lasts.
    pub fn read_head(&mut self) -> Option<Head> {
        loop {
            let head = match self.wire.take_head(Instant::now() + DEADLINE) {
                Ok(head) => head,
                Err(Ended::Timeout) if !self.shared.is_stopped.load(Ordering::SeqCst) => continue,
                Err(_) => {
                    self.note_close();
                    return None;
                }
            };
            head.all("authorization").into_iter().for_each(observed::note_authorization);
            self.shared.update(|seen| {
                let number = seen.requests.len();
                self.request = Some(number);
                seen.requests.push(Request {
                    connection: self.number,
                    number,
                    at: Instant::now(),
                    head: head.clone(),
                    body: Vec::new(),
                    raw_body: Vec::new(),
                    trailers: Vec::new(),
                });
            });
            return Some(head);
        }
    }

    /// Reads the next request, whole.
    pub fn read_request(&mut self) -> Option<Request> {
        let head = self.read_head()?;
        let is_whole = if head.is_chunked() {
            self.read_chunked().is_some()
        } else {
            self.read_body_exact(head.content_length().unwrap_or(0)).is_some()
        };
        let index = self.request.expect("a head was read");
        is_whole.then(|| self.shared.seen().requests[index].clone())
    }

    /// Reads `length` bytes of the body; `None` where the gateway closed before.
    pub fn read_body_exact(&mut self, length: usize) -> Option<Vec<u8>> {
        match self.wire.take_exact(length, Instant::now() + DEADLINE) {
            Ok(bytes) => {
                self.note_body(&Body { raw: bytes.clone(), decoded: bytes.clone(), trailers: Vec::new() });
                Some(bytes)
            }
            Err(ended) => self.note_short_body(ended),
        }
    }

    /// Reads `length` bytes and keeps none of them; false where the gateway closed before.
    pub fn discard(&mut self, length: usize) -> bool {
        match self.wire.discard(length, DEADLINE) {
            Ok(()) => true,
            Err(ended) => self.note_short_body::<()>(ended).is_some(),
        }
    }

    /// Waits until `pattern` has come, of head or body alike, and takes all up to its end.
    pub fn read_until(&mut self, pattern: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        match self.wire.find(pattern.as_ref(), Instant::now() + DEADLINE) {
            Ok(end) => Some(self.wire.take(end)),
            Err(ended) => self.note_short_body(ended),
        }
    }

    /// Reads a chunked body, and returns it decoded.
    pub fn read_chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Body::default();
        let read = self.wire.take_chunked(&mut body, Instant::now() + DEADLINE);
        self.note_body(&body);
        match read {
            Ok(()) => Some(body.decoded),
            Err(ended) => self.note_short_body(ended),
        }
    }

    /// Reads what is there or comes next, of head or body alike; `None` where the gateway has closed.
    pub fn read_some(&mut self) -> Option<Vec<u8>> {
        if self.wire.pending().is_empty()
            && let Err(ended) = self.wire.fill(Instant::now() + DEADLINE)
        {
            return self.note_short_body(ended);
        }
        Some(self.wire.take(self.wire.pending().len()))
    }

    /// Ends this side's direction; reading goes on.
    pub fn half_close(&mut self) {
        self.wire.half_close();
    }

    /// Closes the listener for good: connects are refused from now on.
    pub fn refuse_connections(&self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        let until = Instant::now() + DEADLINE;
        // The first one wakes the accept.
        while TcpStream::connect(self.shared.address).is_ok() {
            assert!(Instant::now() < until, "the listener is still there");
            thread::yield_now();
        }
    }

    /// Reads until the gateway closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let (bytes, ended) = self.wire.take_to_end(Instant::now() + DEADLINE);
        assert_ne!(ended, Ended::Timeout, "the gateway did not close; received {}", shown(&bytes));
        self.note_close();
        bytes
    }

    /// Sends; false once the gateway has closed.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = self.wire.write(bytes.as_ref());
        if let Err(error) = &sent {
            assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "a write hung");
            self.note_close();
        }
        sent.is_ok()
    }

    /// Sends all of `parts`, with TLS each in records of its own, in pieces that end anywhere, also within a record: each
    /// as long as `next_piece` says (0: all the rest), after that pause. False once the gateway has closed.
    pub fn write_in_pieces<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a [u8]>,
        mut next_piece: impl FnMut() -> (usize, Duration),
    ) -> bool {
        let Ok(sealed) = self.wire.sealed(parts) else { return false };
        let mut rest = &sealed[..];
        while !rest.is_empty() {
            let (length, pause) = next_piece();
            let length = if length == 0 { rest.len() } else { length.min(rest.len()) };
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            if self.wire.transport.socket().write_all(&rest[..length]).is_err() {
                self.note_close();
                return false;
            }
            rest = &rest[length..];
        }
        true
    }

    pub fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Stalls until the gateway closes, and notes when.
    pub fn wait_for_close(&mut self) {
        self.read_to_end();
    }

    /// Closes in good order: with TLS, a close_notify comes first.
    pub fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            self.wire.half_close();
            let _ = self.wire.transport.socket().shutdown(std::net::Shutdown::Both);
        }
    }

    /// Sends FIN alone: with TLS, a truncation.
    pub fn close_abruptly(&mut self) {
        self.is_closed = true;
        let _ = self.wire.transport.socket().shutdown(std::net::Shutdown::Both);
    }

    /// Sends RST when the closure returns.
    pub fn reset(&mut self) {
        self.is_closed = true;
        self.wire.reset_on_close();
    }

    fn note_body(&self, body: &Body) {
        let Some(index) = self.request else { return };
        self.shared.update(|seen| {
            let request = &mut seen.requests[index];
            request.raw_body.extend_from_slice(&body.raw);
            request.body.extend_from_slice(&body.decoded);
            request.trailers.extend_from_slice(&body.trailers);
        });
    }

    fn note_short_body<T>(&mut self, ended: Ended) -> Option<T> {
        assert_ne!(ended, Ended::Timeout, "the rest of the request did not come: {}", shown(self.wire.pending()));
        self.note_close();
        None
    }

    fn note_close(&mut self) {
        let at = Instant::now();
        let number = self.number;
        self.shared.update(|seen| {
            if !seen.closes.iter().any(|(connection, _)| *connection == number) {
                seen.closes.push((number, at));
            }
        });
    }
}

/// A gate that a test opens, each time for one waiting script.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets one more waiter through.
    pub fn open(&self) {
        *self.passes() += 1;
        self.0.1.notify_all();
    }

    /// Waits to be let through.
    pub fn pass(&self) {
        let (passes, timeout) = self
            .0
            .1
            .wait_timeout_while(self.passes(), DEADLINE, |passes| *passes == 0)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(!timeout.timed_out(), "nobody opened the gate");
        let mut passes = passes;
        *passes -= 1;
    }

    fn passes(&self) -> MutexGuard<'_, usize> {
        self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Answers every request with these bytes.
pub fn answer(bytes: impl Into<Vec<u8>>) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let bytes = bytes.into();
    move |peer| while peer.read_request().is_some() && peer.write(&bytes) {}
}

/// Answers every request with this status and JSON body.
pub fn json(status: u16, body: &str) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let length = body.len();
    answer(format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

/// Answers every request with a chunked event stream, one event a chunk, at this interval.
pub fn sse(events: &[&str], interval: Duration) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let chunks: Vec<String> = events.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect();
    move |peer| {
        while peer.read_request().is_some() && peer.write(EVENT_STREAM) {
            for chunk in &chunks {
                peer.sleep(interval);
                peer.write(chunk);
            }
            peer.write("0\r\n\r\n");
        }
    }
}

/// Answers every request with its own body.
pub fn echo() -> impl Fn(&mut Peer) + Send + Sync + 'static {
    |peer| {
        while let Some(request) = peer.read_request() {
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
            peer.write(&request.body);
        }
    }
}
