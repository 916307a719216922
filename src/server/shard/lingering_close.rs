//! The close of a downstream connection whose client may still be sending (RFC 9112 §9.6).

use std::time::{Duration, Instant};

use crate::io::{Buffer, Turns};
use crate::proxy::downstream::Downstream;

/// Bytes that are read and discarded before the close, at most. As many as a request body may have by default: SDKs
/// send all of a body before they read the response, and an asyncio client that is reset meanwhile never sees it. On
/// most networks the time limit ends it first.
const LINGER_BYTES_MAX: usize = 256 * 1024 * 1024;
const LINGER_LIMIT: Duration = Duration::from_secs(5);

/// Closes so that the client sees the response: the end of the stream is sent, and what the client still sends is read
/// and discarded, since a close over unread bytes would reset the connection, and the client could lose the response.
pub async fn linger(connection: &Downstream) {
    connection.stream.shutdown_write();
    let due = Instant::now() + LINGER_LIMIT;
    let mut discarded = 0;
    let turns = Turns::default();
    while discarded < LINGER_BYTES_MAX && Instant::now() < due {
        let mut scrap = Buffer::take();
        match connection.stream.read_now(&mut scrap) {
            Ok(Some(0)) | Err(_) => return,
            Ok(Some(count)) => {
                discarded += count;
                turns.take().await;
            }
            Ok(None) => {
                drop(scrap);
                if !matches!(connection.deadline.before(due, connection.stream.readable()).await, Ok(Ok(()))) {
                    return;
                }
                turns.begin();
            }
        }
    }
}
