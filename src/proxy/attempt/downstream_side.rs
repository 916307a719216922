//! The downstream's side, as far as an answer needs it.

use std::time::{Duration, Instant};

use crate::io::{Buffer, Deadline, Lifecycle, Phase, WriteError};
use crate::proxy::downstream::Outgoing;
use crate::proxy::exchange::Progress;
use crate::proxy::reply_shape::ReplyShape;
use crate::proxy::request::plan::RequestTraits;
use crate::proxy::resources::Resources;

/// Time in which an exchange can end well after the drain has expired; the process waits somewhat longer.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(2);

/// The place where an answer goes, and the form that it is given.
#[derive(Clone, Copy)]
pub struct DownstreamSide<'a> {
    pub outgoing: Outgoing<'a>,
    pub reply: ReplyShape,
    /// A `Location` below the upstream's base URL is made to lead here: not for a client that named the upstream
    /// itself.
    pub rewrites_location: bool,
    pub progress: &'a Progress,
    pub resources: &'a Resources,
}

impl<'a> DownstreamSide<'a> {
    pub fn new(
        outgoing: Outgoing<'a>,
        reply: ReplyShape,
        traits: &RequestTraits,
        progress: &'a Progress,
        resources: &'a Resources,
    ) -> Self {
        DownstreamSide { outgoing, reply, rewrites_location: !traits.is_absolute_form, progress, resources }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The client has gone or takes nothing more.
    pub fn write(&self, bytes: Buffer) -> impl Future<Output = Result<(), WriteError>> + use<'a> {
        self.outgoing.write(bytes, self.resources.timeouts.downstream_write)
    }
}

/// Resolves when the drain has expired and the exchange, whose client takes nothing more, has still not ended.
pub async fn cut_off(lifecycle: &Lifecycle) {
    lifecycle.reached(Phase::Expired).await;
    Deadline::default().reached(Instant::now() + CUT_OFF_LIMIT).await;
}
