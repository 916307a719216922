//! One HTTP request over a blocking socket, for the main thread of a program that has no shards, or none yet.
//!
//! Invariant: it ends within its patience, the connect included, and keeps a bounded part of the response.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// A request without a body.
#[derive(Debug, Clone, Copy)]
pub struct BlockingRequest<'a> {
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The request target (RFC 9112 §3.2).
    pub target: &'a str,
    /// The credential of an `Authorization: Bearer` field, where one is sent.
    pub bearer: Option<&'a str>,
    pub user_agent: &'a str,
    /// The limit for the connect, and then for the response as a whole.
    pub patience: Duration,
    /// The response is read to its end, or until so much of it is there.
    pub response_bytes_max: usize,
}

/// A reason why there is no response.
#[derive(Debug)]
pub enum RequestFailure {
    Connect(io::Error),
    Exchange(io::Error),
}

impl BlockingRequest<'_> {
    /// Sends the request and returns the beginning of the response, head and body as they came.
    ///
    /// # Errors
    /// When nothing listens at the address, or the connection fails or is overdue.
    #[expect(clippy::disallowed_methods, reason = "runs on the main thread before there are shards")]
    pub fn send(&self, address: SocketAddr) -> Result<Vec<u8>, RequestFailure> {
        let mut stream = TcpStream::connect_timeout(&address, self.patience).map_err(RequestFailure::Connect)?;
        self.exchange(&mut stream, address).map_err(RequestFailure::Exchange)
    }

    fn exchange(&self, stream: &mut TcpStream, address: SocketAddr) -> io::Result<Vec<u8>> {
        let due = Instant::now() + self.patience;
        let BlockingRequest { method, target, bearer, user_agent, patience, response_bytes_max } = *self;
        stream.set_write_timeout(Some(patience))?;
        // It may hold a secret: it is erased when it was sent.
        let authorization =
            Zeroizing::new(bearer.map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n")));
        // A POST without a body says so (RFC 9110 §8.6).
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let request = Zeroizing::new(format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {user_agent}\r\n{}{length}Connection: close\r\n\r\n",
            *authorization
        ));
        stream.write_all(request.as_bytes())?;
        let mut response = vec![0; response_bytes_max];
        let mut filled = 0;
        while filled < response.len() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(overdue());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut response[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Linux reports a socket's timeout as EAGAIN (socket(7), SO_RCVTIMEO).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(overdue()),
                Err(error) => return Err(error),
            }
        }
        response.truncate(filled);
        Ok(response)
    }
}

fn overdue() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timed out")
}
