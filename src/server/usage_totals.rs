//! The totals of usage, from what the shards count to the file: the start and the end of their keeper.

use std::sync::Arc;
use std::time::Duration;

use super::error::RunError;
use super::shard::shared::Shared;
use crate::usage::books::UsageBooks;
use crate::usage::keeper::{UsageKeeper, UsageSource};

/// The longest wait for the last write, after the drain or at a second signal. It takes milliseconds, and as long as
/// another gateway writes.
const LAST_WRITE_LIMIT: Duration = Duration::from_secs(3);

/// Starts the keeper, unless totals are not to be written.
///
/// # Errors
/// Its thread cannot be started.
pub fn start(shared: &Arc<Shared>) -> Result<Option<UsageKeeper>, RunError> {
    let (Some(file), Some(books)) = (shared.config.usage.written_file(), shared.usage.clone()) else { return Ok(None) };
    let keeper = UsageKeeper::start(file.clone(), source(books), shared.unwritten.clone());
    keeper.map(Some).map_err(RunError::Thread)
}

/// Has the last counts written.
pub fn finish(keeper: Option<UsageKeeper>) {
    keeper.into_iter().for_each(|keeper| keeper.finish(LAST_WRITE_LIMIT));
}

/// Reads what all shards have counted.
fn source(books: Arc<UsageBooks>) -> UsageSource {
    Box::new(move |entries| books.read(|row| entries.push((row.key().clone(), row.sums()))))
}
