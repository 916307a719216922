//! Who has the admin address: asked over that very address, by a process that wants it.
//!
//! Plain blocking HTTP with one deadline on the whole, on the main thread before there are shards.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::observability::reachable;

/// A gateway says at once what it does. A successor has 5 s in all to begin to serve.
const PATIENCE: Duration = Duration::from_secs(1);

/// More than the page of a gateway with hundreds of credentials that cool down.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A gateway that has the address.
#[derive(Debug, PartialEq, Eq)]
pub struct Holder {
    pub process: i32,
    pub is_draining: bool,
}

impl Holder {
    /// Whether it is the process of this number, where 0 stands for one of another namespace.
    pub fn is(&self, process: i32) -> bool {
        process == 0 || process == self.process
    }
}

/// `None` for what is not a gateway, or says nothing in time.
pub fn ask(address: SocketAddr) -> Option<Holder> {
    let answer = converse(reachable(address)).ok()?;
    let body = &answer[memchr::memmem::find(&answer, b"\r\n\r\n")? + 4..];
    let page: Page = serde_json::from_slice(body).ok()?;
    (page.name == "flow-uring").then(|| Holder { process: page.process, is_draining: page.status == "draining" })
}

#[derive(Deserialize)]
struct Page {
    name: String,
    process: i32,
    status: String,
}

#[expect(clippy::disallowed_methods, reason = "runs on the main thread before there are shards")]
fn converse(address: SocketAddr) -> io::Result<Vec<u8>> {
    let due = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    while filled < ANSWER_BYTES_MAX {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut answer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    answer.truncate(filled);
    Ok(answer)
}
