//! HTTP/1.1 on a blocking stream: one growing buffer, one deadline a step. Shared by the client and the upstream of the
//! kit, and independent of the gateway's parser.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, ServerConnection, StreamOwned};

use super::{DEADLINE, shown};

/// The reason why no more bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The message was whole, and the connection is open as far as is known.
    KeepAlive,
    /// An orderly end: FIN, and with TLS a close_notify before it.
    Eof,
    /// A TLS connection's FIN without a close_notify.
    EofWithoutCloseNotify,
    Reset,
    /// Nothing came until the deadline.
    Timeout,
}

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    /// TLS on the side of a client.
    TlsClient(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Transport {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
            Self::TlsClient(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::TlsClient(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Self::TlsClient(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// A stream, and the bytes that were read from it but not yet taken.
pub struct Wire {
    pub transport: Transport,
    buffer: Vec<u8>,
    ended: Option<Ended>,
    /// Called with every byte read.
    observe: Observer,
}

type Observer = Box<dyn Fn(&[u8]) + Send>;

impl Wire {
    pub fn new(transport: Transport, observe: impl Fn(&[u8]) + Send + 'static) -> Self {
        let socket = transport.socket();
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_write_timeout(Some(DEADLINE)).expect("not zero");
        Self { transport, buffer: Vec::new(), ended: None, observe: Box::new(observe) }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transport.write_all(bytes)
    }

    /// Ends this side's direction, with a close_notify first.
    pub fn half_close(&mut self) {
        self.end_tls();
        let _ = self.transport.socket().shutdown(Shutdown::Write);
    }

    /// Sends a close_notify alone.
    pub fn end_tls(&mut self) {
        match &mut self.transport {
            Transport::Plain(_) => {}
            Transport::Tls(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            Transport::TlsClient(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    }

    /// Sends `bytes` and a close_notify in one write.
    pub fn write_and_end_tls(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Transport::TlsClient(stream) = &mut self.transport else { panic!("only a client that speaks TLS can") };
        stream.conn.complete_io(&mut stream.sock)?;
        stream.conn.writer().write_all(bytes)?;
        stream.conn.send_close_notify();
        let mut records = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut records)?;
        }
        stream.sock.write_all(&records)
    }

    /// Returns `bytes` as they go over the wire: with TLS, each of `parts` in records of its own.
    pub fn sealed<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::new();
        for part in parts {
            match &mut self.transport {
                Transport::Plain(_) => sealed.extend_from_slice(part),
                Transport::Tls(stream) => {
                    stream.conn.writer().write_all(part)?;
                    while stream.conn.wants_write() {
                        stream.conn.write_tls(&mut sealed)?;
                    }
                }
                Transport::TlsClient(_) => panic!("only an upstream does so"),
            }
        }
        Ok(sealed)
    }

    /// Makes the coming close a reset.
    pub fn reset_on_close(&self) {
        let socket = socket2::SockRef::from(self.transport.socket());
        socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    /// Returns the bytes that are there and not yet taken.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    pub fn take(&mut self, length: usize) -> Vec<u8> {
        self.buffer.drain(..length).collect()
    }

    /// Reads once; `Err` says why nothing came.
    pub fn fill(&mut self, deadline: Instant) -> Result<(), Ended> {
        if let Some(ended) = self.ended {
            return Err(ended);
        }
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Ended::Timeout);
            }
            self.transport.socket().set_read_timeout(Some(left)).expect("not zero");
            let ended = match self.transport.read(&mut chunk) {
                Ok(0) => Ended::Eof,
                Ok(count) => {
                    (self.observe)(&chunk[..count]);
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(Ended::Timeout),
                    ErrorKind::UnexpectedEof => Ended::EofWithoutCloseNotify,
                    _ => Ended::Reset,
                },
            };
            self.ended = Some(ended);
            return Err(ended);
        }
    }

    /// Waits until `pattern` is there, and returns where it ends.
    pub fn find(&mut self, pattern: &[u8], deadline: Instant) -> Result<usize, Ended> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer[searched..], pattern) {
                return Ok(searched + at + pattern.len());
            }
            searched = self.buffer.len().saturating_sub(pattern.len() - 1);
            self.fill(deadline)?;
        }
    }

    pub fn take_exact(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, Ended> {
        while self.buffer.len() < length {
            self.fill(deadline)?;
        }
        Ok(self.take(length))
    }

    /// Takes `length` bytes and keeps none of them; each read may take `patience`.
    pub fn discard(&mut self, mut length: usize, patience: Duration) -> Result<(), Ended> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.fill(Instant::now() + patience)?;
            }
            let count = length.min(self.buffer.len());
            self.buffer.drain(..count);
            length -= count;
        }
        Ok(())
    }

    pub fn take_head(&mut self, deadline: Instant) -> Result<Head, Ended> {
        let end = self.find(b"\r\n\r\n", deadline)?;
        Ok(Head::parse(&self.take(end)))
    }

    /// Takes what is left until the stream ends, and returns how it ended.
    pub fn take_to_end(&mut self, deadline: Instant) -> (Vec<u8>, Ended) {
        loop {
            if let Err(ended) = self.fill(deadline) {
                return (std::mem::take(&mut self.buffer), ended);
            }
        }
    }

    /// Takes a chunked body. Where the stream ends before the body does, `body` holds what was there.
    pub fn take_chunked(&mut self, body: &mut Body, deadline: Instant) -> Result<(), Ended> {
        loop {
            let line = self.take_line(body, deadline)?;
            let digits = line.split(';').next().unwrap_or_default().trim_end();
            let Ok(mut missing) = usize::from_str_radix(digits, 16) else {
                panic!("not a chunk size: {line:?} after {}", shown(&body.raw));
            };
            if missing == 0 {
                break;
            }
            while missing > 0 {
                if self.buffer.is_empty() {
                    self.fill(deadline)?;
                }
                let part = self.take(missing.min(self.buffer.len()));
                missing -= part.len();
                body.raw.extend_from_slice(&part);
                body.decoded.extend_from_slice(&part);
            }
            let end = self.take_line(body, deadline)?;
            assert!(end.is_empty(), "a chunk is followed by {end:?}, not by a line end: {}", shown(&body.raw));
        }
        loop {
            let line = self.take_line(body, deadline)?;
            if line.is_empty() {
                return Ok(());
            }
            body.trailers.push(line);
        }
    }

    fn take_line(&mut self, body: &mut Body, deadline: Instant) -> Result<String, Ended> {
        let end = self.find(b"\r\n", deadline)?;
        let line = self.take(end);
        body.raw.extend_from_slice(&line);
        Ok(latin1(&line[..end - 2]))
    }
}

/// A body as it was framed, and decoded.
#[derive(Debug, Clone, Default)]
pub struct Body {
    pub raw: Vec<u8>,
    pub decoded: Vec<u8>,
    pub trailers: Vec<String>,
}

/// The head of a request or an answer in its order, spelling and bytes (those above 0x7F as Latin-1).
#[derive(Clone, Default)]
pub struct Head {
    pub start_line: String,
    pub fields: Vec<(String, String)>,
    pub raw: Vec<u8>,
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.raw))
    }
}

impl Head {
    pub fn parse(raw: &[u8]) -> Self {
        let text = latin1(raw);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start_line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
            (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
        };
        Self { start_line, fields: lines.map(field).collect(), raw: raw.to_vec() }
    }

    /// Returns the value of the field of this name, in any case; fails where there are two.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} is repeated: {}", shown(&self.raw));
        values.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the `name: value` lines without those of `names`, in their order and spelling.
    pub fn lines_without(&self, names: &[&str]) -> Vec<String> {
        let others = self.fields.iter().filter(|(field, _)| !names.iter().any(|name| field.eq_ignore_ascii_case(name)));
        others.map(|(name, value)| format!("{name}: {value}")).collect()
    }

    pub fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    pub fn content_length(&self) -> Option<usize> {
        self.field("content-length").map(|value| value.parse().expect("a number"))
    }
}

/// Decodes bytes as Latin-1, so that none is lost.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
