//! A WebSocket after its 101: bytes both ways, untouched.
//!
//! One task relays both directions (`tunnel`), follows the frames of the upstream (`frames`) for the usage that their
//! messages tell of (`answers`) and for their borders, and ends the socket (`ending`). Invariant: a byte that one side
//! has sent is on its way to the other before the next one is read; a socket on which nothing moves holds no buffer.

mod answers;
mod ending;
pub mod frames;
mod tunnel;

use std::mem;

use self::answers::TunnelAnswers;
use self::tunnel::SocketRelay;
use crate::io::Buffer;
use crate::observability::Count;
use crate::proxy::attempt::Switched;
use crate::proxy::attempt::relayed::SwitchingAnswer;
use crate::proxy::downstream::Downstream;
use crate::proxy::exchange::Exchange;
use crate::proxy::outcome::Outcome;
use crate::proxy::resources::Resources;
use crate::upstream::Connection;

const SWITCHING_PROTOCOLS: u16 = 101;

/// Tells the client that the upstream has switched, and relays until the socket ends.
///
/// # Cancel safety
/// Not cancel safe: both connections can only be closed.
pub async fn relay(
    resources: &Resources,
    exchange: &mut Exchange,
    downstream: &mut Downstream,
    switched: Box<Switched>,
) -> Outcome {
    downstream.replay.get_mut().release(&resources.budget);
    // What the client has sent since its head waits here.
    let early = mem::take(&mut downstream.input);
    let Switched { answer: SwitchingAnswer { head, received }, connection } = *switched;
    exchange.progress.answer_begins(SWITCHING_PROTOCOLS);
    downstream.trail.note_answer(head.filled());
    if downstream.write(head, resources.timeouts.downstream_write).await.is_err() {
        return Outcome::CLIENT_GONE;
    }
    let open = OpenTunnel::begin(resources);
    let came = Came { early, received };
    let (outcome, request_bytes) = relay_both(resources, exchange, downstream, &connection, came).await;
    exchange.request_bytes = request_bytes;
    drop(open);
    outcome
}

/// The bytes that had come of either side by the 101.
struct Came {
    early: Buffer,
    received: Buffer,
}

async fn relay_both(
    resources: &Resources,
    exchange: &Exchange,
    downstream: &Downstream,
    connection: &Connection,
    came: Came,
) -> (Outcome, u64) {
    let answers = TunnelAnswers::new(resources, exchange);
    let tunnel = SocketRelay::new(resources, exchange, downstream, connection, &answers);
    let outcome = tunnel.run(came.early, came.received).await;
    let request_bytes = tunnel.request_bytes();
    answers.end();
    (outcome, request_bytes)
}

/// Counts the open sockets.
struct OpenTunnel<'a> {
    resources: &'a Resources,
}

impl<'a> OpenTunnel<'a> {
    fn begin(resources: &'a Resources) -> Self {
        resources.activity.counters.add(Count::Tunnels);
        resources.activity.tunnel_begins();
        OpenTunnel { resources }
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.resources.activity.tunnel_ends();
    }
}
