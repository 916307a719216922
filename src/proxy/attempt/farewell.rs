//! A client that leaves, and what it may leave undone.
//!
//! Many clients close their connection at the event that ends the turn, before the end of the body. Invariant: such an
//! exchange is whole, and its upstream gets [`FAREWELL_LIMIT`] to end the body, so that the connection can be kept;
//! for a client that leaves before, nothing more is done.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::io::pause;
use crate::proxy::downstream::Outgoing;
use crate::proxy::exchange::Progress;
use crate::proxy::outcome::Outcome;

/// Time that an upstream has to end its body. Servers send its end with the last event, or a moment later.
pub const FAREWELL_LIMIT: Duration = Duration::from_millis(100);

/// Resolves when the exchange is to be given up, since its client has left.
pub async fn departure(outgoing: Outgoing<'_>, progress: &Progress) -> Outcome {
    {
        let mut departed = pin!(outgoing.departed());
        let mut goodbye = pin!(outgoing.stream.goodbye());
        poll_fn(|context| {
            // Until the request is whole, it is the upload that reads and sees the client's goodbye.
            let has_left = departed.as_mut().poll(context).is_ready()
                || progress.request_is_whole() && goodbye.as_mut().poll(context).is_ready();
            if has_left { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    farewell(progress).await
}

/// Lets the answer go on for as long as it may now that the client has left.
pub async fn farewell(progress: &Progress) -> Outcome {
    if progress.turn_was_written() {
        pause(FAREWELL_LIMIT).await;
    }
    Outcome::after_departure(progress)
}
