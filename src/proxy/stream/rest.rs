//! The rest of an answer that has left the pump: what is not written yet, and its end.

use crate::io::Buffer;
use crate::proxy::attempt::downstream_side::DownstreamSide;
use crate::proxy::attempt::exchange::until_left;
use crate::proxy::attempt::relay::{RelayPart, after_lost_write, note_written, relay_body};
use crate::proxy::attempt::relayed::{BodyRelayed, Over};
use crate::proxy::counted::note_told;
use crate::proxy::downstream::Downstream;
use crate::proxy::outcome::Outcome;
use crate::proxy::resources::Resources;
use crate::proxy::stream::open_exchange::{LeftPump, OpenExchange};

/// Relays what is left of an answer, as a task does it.
///
/// # Cancel safety
/// Not cancel safe: both connections can only be closed.
pub async fn relay_rest(
    resources: &Resources,
    downstream: &Downstream,
    open: &mut OpenExchange,
    unsent: Buffer,
    left: LeftPump,
) -> Over {
    let OpenExchange { connection, answer, exchange } = open;
    let progress = &exchange.progress;
    let outgoing = downstream.outgoing();
    let side = DownstreamSide { outgoing, reply: exchange.reply, rewrites_location: false, progress, resources };
    answer.may_be_pumped = false;
    let has_left = matches!(left, LeftPump::ClientLeft);
    let departure = async {
        // Nothing tells it again: the record by which its TLS session broke was taken from the socket.
        if !has_left {
            outgoing.left().await;
        }
    };
    let relay = async {
        let mut is_lost = false;
        match left {
            LeftPump::NoMore(read) => answer.last_read = Some(read),
            LeftPump::NotTaken => is_lost = true,
            LeftPump::Settled | LeftPump::ClientLeft | LeftPump::Refused => {}
        }
        if !is_lost && !unsent.is_empty() {
            is_lost = outgoing.write_wire(unsent, resources.timeouts.downstream_write).await.is_err();
        }
        let farewell_until = if is_lost {
            match after_lost_write(progress) {
                Ok(farewell_until) => Some(farewell_until),
                Err(outcome) => return outcome.into(),
            }
        } else {
            note_written(resources, progress, &answer.body);
            None
        };
        relay_body(Some(connection), side, answer, RelayPart::Rest { farewell_until }).await
    };
    let relayed = until_left(side, departure, relay).await;
    note_told(resources, &progress.usage, &answer.body);
    match relayed {
        BodyRelayed::Over(over) => over,
        // It may not be pumped any more.
        BodyRelayed::Open => Outcome::CUT_OFF.into(),
    }
}
