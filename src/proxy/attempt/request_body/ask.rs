//! The interim answer that asks the client for its body.

use crate::http1::body::BodyReader;
use crate::io::Buffer;
use crate::proxy::downstream::Downstream;
use crate::proxy::local_answer::write::write_continue;
use crate::proxy::outcome::Outcome;
use crate::proxy::request::head::RequestFacts;
use crate::proxy::resources::Resources;

/// Answers `Expect: 100-continue` now that the body is wanted (RFC 9110 §10.1.1), unless it has begun to come. Returns
/// whether it did.
///
/// # Errors
/// The end of the exchange, if the client has gone.
pub async fn ask_for_body(
    resources: &Resources,
    downstream: &Downstream,
    body: &BodyReader,
    facts: &RequestFacts,
) -> Result<bool, Outcome> {
    let is_awaited =
        facts.expects_continue && body.data_bytes() == 0 && downstream.input.is_empty() && !body.is_complete();
    if is_awaited {
        let mut out = Buffer::take();
        write_continue(out.tail());
        let written = downstream.write(out, resources.timeouts.downstream_write).await;
        written.map_err(|_| Outcome::CLIENT_GONE)?;
    }
    Ok(is_awaited)
}
