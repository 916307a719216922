//! The one combinator of the relay: of two futures, the first that is ready wins.
//!
//! `monoio::select!` polls in random order; here the first one is favoured, so that data that has arrived is never
//! thrown away because a deadline passed in the same turn. Written by hand, since an `async fn` would hold each future
//! twice, as its argument and pinned: nested a few times, that would make up most of a connection's memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// The output of the future that was ready first.
#[derive(Debug)]
pub enum Either<A, B> {
    First(A),
    Second(B),
}

pin_project! {
    /// See [`race`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Race<A, B> {
        #[pin]
        first: A,
        #[pin]
        second: B,
    }
}

/// Waits for the first of two futures; when both are ready, `first` wins.
///
/// # Cancel safety
/// The loser is dropped. A socket read that loses may have taken bytes with it: such a connection can only be closed.
pub fn race<A: Future, B: Future>(first: A, second: B) -> Race<A, B> {
    Race { first, second }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let race = self.project();
        if let Poll::Ready(output) = race.first.poll(context) {
            return Poll::Ready(Either::First(output));
        }
        race.second.poll(context).map(Either::Second)
    }
}
