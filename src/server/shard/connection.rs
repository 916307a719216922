//! One downstream connection, from its first request to its close.
//!
//! Reads heads, hands each exchange to the proxy, and ends the connection as its [`Disposition`] says. This is the one
//! place that owns a downstream connection's life; `keep_alive` waits for its next request, `lingering_close` closes
//! it. Invariant: every wait has a limit.

use std::rc::Rc;

use super::draining;
use super::keep_alive::{IdleConnection, KeepAlive, Waited};
use super::lingering_close::linger;
use crate::http1::head::{HeadLimits, HeadScanner, HeadSpan};
use crate::io::clock;
use crate::io::{Buffer, Either, Stream, race};
use crate::proxy::Proxy;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::outcome::Disposition;
use crate::proxy::stream::open_exchange::{Handled, OpenExchange, Pumped};

/// The room for one read of a head.
const READ_ROOM: usize = 16 * 1024;

/// A connection that is to be served.
pub enum Arrival {
    /// It has just been accepted.
    Accepted(Stream),
    /// Something has arrived while it was idle.
    Resumed(IdleConnection),
    /// The pump has relayed an answer on it. Boxed, since others would need its room too.
    Pumped(Box<PumpedConnection>),
}

/// A connection whose answer has left the pump.
pub struct PumpedConnection {
    pub downstream: Downstream,
    pub keep_alive: KeepAlive,
    pub pumped: Pumped,
}

/// A connection whose answer only has to be relayed.
pub struct OpenConnection {
    pub downstream: Downstream,
    pub keep_alive: KeepAlive,
    pub open: Box<OpenExchange>,
}

/// The end of a connection, or of the task that serves it.
pub enum Served {
    Ended,
    Idle(IdleConnection),
    Open(Box<OpenConnection>),
}

/// Serves a connection until it ends, becomes idle, or only has to relay an answer.
// Inlined, so that the future is made where it stays: else all its room would be copied once.
#[inline(always)]
pub fn serve(arrival: Arrival, proxy: Rc<Proxy>) -> impl Future<Output = Served> {
    // Not within the future, which would keep room for the arrival all its life.
    let (mut begun, pumped) = match arrival {
        Arrival::Accepted(stream) => (Some((Downstream::new(stream, None), KeepAlive::of_accepted())), None),
        Arrival::Resumed(idle) => (idle.resume(), None),
        Arrival::Pumped(left) => {
            let PumpedConnection { downstream, keep_alive, pumped } = *left;
            (Some((downstream, keep_alive)), Some(Box::new(pumped)))
        }
    };
    async move {
        let Some((connection, keep_alive)) = &mut begun else { return Served::Ended };
        let end = serve_on(connection, keep_alive, pumped, &proxy).await;
        let Some((downstream, keep_alive)) = begun else { return Served::Ended };
        match end {
            TaskEnd::Ended => Served::Ended,
            TaskEnd::Idle => Served::Idle(keep_alive.into_idle(downstream)),
            TaskEnd::Open(open) => {
                if let Some(departure) = &downstream.departure {
                    departure.forget_waiter();
                }
                Served::Open(Box::new(OpenConnection { downstream, keep_alive, open }))
            }
        }
    }
}

/// Reasons why a connection is served no more, by this task at least.
enum TaskEnd {
    Ended,
    Idle,
    Open(Box<OpenExchange>),
}

/// Serves requests, after the end of the one that was `pumped`.
async fn serve_on(
    connection: &mut Downstream,
    keep_alive: &mut KeepAlive,
    mut pumped: Option<Box<Pumped>>,
    proxy: &Proxy,
) -> TaskEnd {
    loop {
        let handled = match pumped.take() {
            // Boxed: the task of a connection that relays by itself would keep room for it all its life.
            Some(pumped) => Handled::Over(Box::pin(proxy.end_pumped(connection, pumped)).await),
            None => match read_head(connection, keep_alive, proxy).await {
                HeadRead::Head(span) => proxy.handle(connection, span).await,
                HeadRead::Refused(error) => Handled::Over(proxy.refuse_unread(connection, error).await),
                HeadRead::Idle => return TaskEnd::Idle,
                HeadRead::Ended => return TaskEnd::Ended,
            },
        };
        let disposition = match handled {
            Handled::Over(disposition) => disposition,
            Handled::Open(open) => return TaskEnd::Open(open),
        };
        connection.served_until = Some(clock::now());
        match disposition {
            Disposition::KeepAlive => {}
            // The client sends nothing: a lingering close would hold up a drain for nothing.
            Disposition::Close if connection.input.is_empty() && connection.stream.is_quiet() => {
                return TaskEnd::Ended;
            }
            Disposition::Close | Disposition::Linger => {
                race(linger(connection), draining::grace_over(proxy, &connection.upstream_deadline)).await;
                return TaskEnd::Ended;
            }
            Disposition::Reset => {
                connection.stream.reset_on_close();
                return TaskEnd::Ended;
            }
            Disposition::Cut => {
                connection.stream.cut();
                return TaskEnd::Ended;
            }
        }
    }
}

/// Sends an error to a client that is not served, and closes the connection.
pub async fn refuse(stream: Stream, error: GatewayError, proxy: &Proxy) {
    let mut connection = Downstream::new(stream, None);
    proxy.refuse_unread(&mut connection, error).await;
    race(linger(&connection), draining::grace_over(proxy, &connection.upstream_deadline)).await;
}

/// The result of reading a request head.
enum HeadRead {
    Head(HeadSpan),
    Refused(GatewayError),
    /// No request has come.
    Idle,
    /// The client has closed, or the drain ends the connection.
    Ended,
}

async fn read_head(connection: &mut Downstream, keep_alive: &mut KeepAlive, proxy: &Proxy) -> HeadRead {
    if connection.input.is_empty() {
        connection.input = Buffer::none();
        match keep_alive.wait(connection, proxy).await {
            Waited::Read(Ok(input)) => connection.input = input,
            Waited::TimedOut => return HeadRead::Idle,
            Waited::Read(Err(_)) | Waited::Draining => return HeadRead::Ended,
        }
    }
    let due = clock::now() + proxy.resources.timeouts.head;
    let mut scanner = HeadScanner::default();
    loop {
        match scanner.scan(connection.input.filled(), &HeadLimits::REQUEST) {
            Ok(Some(span)) => return HeadRead::Head(span),
            Ok(None) => {}
            Err(error) => return HeadRead::Refused(error.into()),
        }
        let mut input = std::mem::take(&mut connection.input);
        input.reserve(READ_ROOM);
        let read = race(connection.stream.read(input), draining::grace_over(proxy, &connection.upstream_deadline));
        match connection.deadline.before(due, read).await {
            Ok(Either::First((Ok(0) | Err(_), _)) | Either::Second(())) => return HeadRead::Ended,
            Ok(Either::First((Ok(_), input))) => connection.input = input,
            Err(_) => return HeadRead::Refused(GatewayError::HeadTimeout),
        }
    }
}
