//! The requests that are refused because their shard has more to do than it can. The decision is made by `overload` of
//! the shard's resources.

use crate::http1::body::BodyReader;
use crate::http1::framing::BodyLength;
use crate::io::Delivery;
use crate::observability::Ending;
use crate::proxy::attempt::request_body::upload::discard;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Exchange;
use crate::proxy::local_answer;
use crate::proxy::outcome::Disposition;
use crate::proxy::resources::Resources;
use crate::proxy::resources::overload::{Arrived, Look};

/// Looks at how long a request has waited, if that is to be known.
pub fn look(resources: &Resources, exchange: &Exchange, downstream: &Downstream) -> Look {
    let overload = &resources.overload;
    if !overload.is_due(exchange.began) {
        return Look::Serve;
    }
    // Of a kernel that does not tell nothing is known.
    let delivery = Delivery::of(&downstream.stream).unwrap_or(Delivery::NOW);
    // Whoever finds a connection does not wait for one.
    let needs_connect = resources.pool.idle_count() == 0;
    let stands_since = if needs_connect { resources.connector.stands_since() } else { None };
    let served_until = downstream.served_until;
    overload.look(exchange.began, Arrived { delivery, served_until, stands_since })
}

/// Refuses a request that has waited too long, after its body, so that its connection lives on.
pub async fn turn_away(
    resources: &Resources,
    exchange: &mut Exchange,
    downstream: &mut Downstream,
    body: Option<BodyLength>,
    look: Look,
) -> Disposition {
    if look == Look::Drop {
        exchange.ending = Ending::ClientDisconnected;
        return Disposition::Cut;
    }
    resources.overload.note_refused();
    let request_is_whole = match body {
        Some(length) => discard(&mut downstream.split(&mut BodyReader::new(length)).0, length).await,
        None => false,
    };
    local_answer::refuse(resources, exchange, downstream, request_is_whole, &GatewayError::Overloaded).await
}
