//! Finds out who has the admin address: asked over that very address, by a process that wants it.
//!
//! Plain blocking HTTP with one deadline on the response, on the main thread before there are shards.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::io::BlockingRequest;
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
    /// Tells whether it is the process of this number, where 0 stands for one of another namespace.
    pub fn is(&self, process: i32) -> bool {
        process == 0 || process == self.process
    }
}

/// `None` for what is not a gateway, or says nothing in time.
pub fn ask(address: SocketAddr) -> Option<Holder> {
    let request = BlockingRequest {
        method: "GET",
        bearer: None,
        target: "/readyz",
        user_agent: "flow-uring",
        patience: PATIENCE,
        response_bytes_max: ANSWER_BYTES_MAX,
    };
    let answer = request.send(reachable(address)).ok()?;
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
