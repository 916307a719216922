//! Waits for the upstream, which end with what they wait for, with their limit, or with the drain.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::io::{Lifecycle, Phase};
use crate::upstream::TransportError;

/// Reasons why a wait for the upstream was given up.
pub enum Interruption {
    /// It took longer than its limit.
    Overdue,
    /// The drain has expired.
    Expired,
}

/// Reasons why no more of a body comes.
pub enum NoMore {
    Broken(TransportError),
    Interrupted(Interruption),
    /// The client takes not even a comment.
    ClientGone,
}

pin_project! {
    /// A read from the upstream that is given up when it is overdue or the drain has expired.
    struct Guarded<R, O, E> {
        #[pin]
        read: R,
        #[pin]
        overdue: O,
        #[pin]
        expired: E,
    }
}

/// Waits for `read` until `overdue` resolves or the drain has expired.
///
/// # Cancel safety
/// As `read`.
pub fn guarded<'a, R: Future + 'a>(
    read: R,
    overdue: impl Future<Output = ()> + 'a,
    lifecycle: &'a Lifecycle,
) -> impl Future<Output = Result<R::Output, Interruption>> + 'a {
    Guarded { read, overdue, expired: lifecycle.reached(Phase::Expired) }
}

impl<R: Future, O: Future<Output = ()>, E: Future<Output = ()>> Future for Guarded<R, O, E> {
    type Output = Result<R::Output, Interruption>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let guarded = self.project();
        if let Poll::Ready(output) = guarded.read.poll(context) {
            return Poll::Ready(Ok(output));
        }
        if guarded.overdue.poll(context).is_ready() {
            return Poll::Ready(Err(Interruption::Overdue));
        }
        guarded.expired.poll(context).map(|()| Err(Interruption::Expired))
    }
}
