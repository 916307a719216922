//! Messages that most tests send, byte for byte.

/// A request without a body.
pub const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A request with a body.
pub const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";

/// A request that the gateway answers itself.
pub const LIVENESS: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An answer that keeps the connection.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The head of an event stream.
pub const EVENT_STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// An event of a stream, as a chunk of its own.
pub const EVENT: &str = "9\r\ndata: 1\n\n\r\n";

/// Returns `data` as one chunk of a body.
pub fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}
