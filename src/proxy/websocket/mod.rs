//! A WebSocket after its 101: bytes both ways, untouched.
//!
//! One task relays both directions (`tunnel`), follows the frames of both (`frames`) for their borders, for what the
//! client asks for (`asked`) and the usage that the upstream tells of (`answers`), and ends the socket (`ending`).
//! Invariant: a byte that one side has sent is on its way to the other before the next one is read; a socket on which
//! nothing moves holds no buffer.

mod answers;
mod asked;
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
    let Switched { answer, connection } = *switched;
    exchange.progress.answer_begins(SWITCHING_PROTOCOLS);
    downstream.trail.note_answer(answer.head.filled());
    let open = OpenTunnel::begin(resources);
    let (outcome, request_bytes) = relay_both(resources, exchange, downstream, &connection, early, answer).await;
    exchange.request_bytes = request_bytes;
    drop(open);
    outcome
}

async fn relay_both(
    resources: &Resources,
    exchange: &Exchange,
    downstream: &Downstream,
    connection: &Connection,
    early: Buffer,
    answer: SwitchingAnswer,
) -> (Outcome, u64) {
    let answers = TunnelAnswers::new(resources, exchange);
    let tunnel = SocketRelay::new(resources, exchange, downstream, connection, &answers);
    let outcome = tunnel.run(early, answer).await;
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
