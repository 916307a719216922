//! The answers that are made here: errors, liveness, `OPTIONS *` and CORS preflights. `write` has their bytes, and
//! `go_away` those for a client that speaks HTTP/2.

mod go_away;
pub mod write;

use self::write::ReplyHead;
use crate::http1::framing::BodyLength;
use crate::io::Buffer;
use crate::observability::Ending;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Exchange;
use crate::proxy::outcome::{Disposition, keeps_alive};
use crate::proxy::reply_shape::ReplyShape;
use crate::proxy::request::plan::LocalAnswer;
use crate::proxy::resources::Resources;

/// Answers with an error made here. `request_is_whole`: nothing of its body is still to come.
pub async fn refuse(
    resources: &Resources,
    exchange: &mut Exchange,
    downstream: &Downstream,
    request_is_whole: bool,
    error: &GatewayError,
) -> Disposition {
    let row = error.row();
    let shape = &exchange.reply;
    let keep_alive = keeps_alive(shape, request_is_whole, !row.closes, &resources.lifecycle);
    let mut out = Buffer::take();
    if *error == GatewayError::Http2NotSupported {
        go_away::write_go_away(out.tail(), &error.message());
    } else {
        write::write_error(out.tail(), error, shape.dialect, &reply(resources, downstream, shape, keep_alive));
    }
    // What follows a refused request on the wire may be its body, so it is read before the connection ends.
    let after = if keep_alive { Disposition::KeepAlive } else { Disposition::Linger };
    exchange.ending = row.ending;
    exchange.error = Some(row);
    resources.activity.tally.error(row.place);
    send(resources, exchange, downstream, MadeAnswer { status: row.status, out, after }).await
}

/// Gives an answer that is no error. A body that came with the request is not read: the connection ends with the
/// answer.
pub async fn answer(
    resources: &Resources,
    exchange: &mut Exchange,
    downstream: &Downstream,
    answer: &LocalAnswer,
    body: BodyLength,
) -> Disposition {
    let shape = &exchange.reply;
    let request_is_whole = body.is_empty();
    let keep_alive = keeps_alive(shape, request_is_whole, true, &resources.lifecycle);
    let reply = reply(resources, downstream, shape, keep_alive);
    let mut out = Buffer::take();
    let status = match answer {
        LocalAnswer::Liveness => {
            write::write_liveness(out.tail(), &reply);
            200
        }
        LocalAnswer::Options => {
            write::write_options(out.tail(), &reply);
            204
        }
        LocalAnswer::Preflight { fields } => {
            write::write_preflight(out.tail(), fields, &reply);
            204
        }
    };
    let after = Disposition::after_answer(keep_alive, request_is_whole);
    send(resources, exchange, downstream, MadeAnswer { status, out, after }).await
}

fn reply<'a>(
    resources: &'a Resources,
    downstream: &'a Downstream,
    shape: &ReplyShape,
    keep_alive: bool,
) -> ReplyHead<'a> {
    let origin = shape.origin.map(|origin| resources.rules.access.origin_text(origin));
    ReplyHead {
        is_head: shape.is_head,
        keep_alive,
        is_http10: shape.is_http10(),
        origin,
        request_id: downstream.trail.ids.request_id(),
    }
}

/// An answer as it goes out, and what becomes of the connection after it.
struct MadeAnswer {
    status: u16,
    out: Buffer,
    after: Disposition,
}

async fn send(
    resources: &Resources,
    exchange: &mut Exchange,
    downstream: &Downstream,
    answer: MadeAnswer,
) -> Disposition {
    let MadeAnswer { status, out, after } = answer;
    exchange.progress.answer_begins(status);
    downstream.trail.note_answer(out.filled());
    if downstream.write(out, resources.timeouts.downstream_write).await.is_err() {
        exchange.ending = Ending::ClientDisconnected;
        return Disposition::Cut;
    }
    after
}
