//! The copy of what a shard shows: asked for by the admin thread, published by the shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;

use super::past::PastExchange;
use crate::observability::exchange::ExchangeId;

/// Open answers of a shard that are shown: as many as are shown of all shards together.
pub const STREAMS_MAX: usize = 100;

/// An answer that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenStream {
    pub id: ExchangeId,
    pub began: Instant,
    pub model: Option<String>,
    pub key: Option<String>,
    pub credential: Option<String>,
    /// Without the query.
    pub path: String,
    /// The bytes of text that have come, or of the body where its text is not read.
    pub text_bytes: u64,
}

/// The copy that a shard has published.
#[derive(Debug, Default)]
pub struct ShardView {
    /// The newest first.
    pub past: Vec<PastExchange>,
    /// The longest first.
    pub streams: Vec<OpenStream>,
}

/// The place where a shard publishes its view.
#[derive(Debug, Default)]
pub struct ShardViewCell {
    is_wanted: AtomicBool,
    view: ArcSwapOption<ShardView>,
}

impl ShardViewCell {
    /// Lets the shard publish with its next answer to a question (see `observability::pulse`).
    pub fn ask(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    /// Publishes what `make` returns, if it was asked for. Only for the shard.
    pub fn answer(&self, make: impl FnOnce() -> ShardView) {
        if self.is_wanted.swap(false, Ordering::AcqRel) {
            self.view.store(Some(Arc::new(make())));
        }
    }

    /// Returns what was published last.
    pub fn latest(&self) -> Option<Arc<ShardView>> {
        self.view.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_made_only_when_it_is_asked_for() {
        let cell = ShardViewCell::default();
        cell.answer(|| panic!("nobody has asked"));
        assert!(cell.latest().is_none());
        cell.ask();
        cell.answer(ShardView::default);
        assert!(cell.latest().is_some());
        cell.answer(|| panic!("it was answered"));
    }
}
