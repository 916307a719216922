//! One HTTP GET over a blocking socket, for the main thread before there are shards.
//!
//! Invariant: it ends within its patience, the connect included, and keeps a bounded part of the response.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A request without a body.
#[derive(Debug, Clone, Copy)]
pub struct BlockingGet<'a> {
    pub path: &'a str,
    pub user_agent: &'a str,
    /// The limit for the connect, and then for the response as a whole.
    pub patience: Duration,
    /// The response is read to its end, or until so much of it is there.
    pub response_bytes_max: usize,
}

/// A reason why there is no response.
#[derive(Debug)]
pub enum GetError {
    Connect(io::Error),
    Exchange(io::Error),
}

impl BlockingGet<'_> {
    /// Sends the request and returns the beginning of the response, head and body as they came.
    ///
    /// # Errors
    /// When nothing listens at the address, or the connection fails or is overdue.
    #[expect(clippy::disallowed_methods, reason = "runs on the main thread before there are shards")]
    pub fn send(&self, address: SocketAddr) -> Result<Vec<u8>, GetError> {
        let mut stream = TcpStream::connect_timeout(&address, self.patience).map_err(GetError::Connect)?;
        self.exchange(&mut stream, address).map_err(GetError::Exchange)
    }

    fn exchange(&self, stream: &mut TcpStream, address: SocketAddr) -> io::Result<Vec<u8>> {
        let due = Instant::now() + self.patience;
        let BlockingGet { path, user_agent, patience, response_bytes_max } = *self;
        stream.set_write_timeout(Some(patience))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {user_agent}\r\nConnection: close\r\n\r\n");
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
