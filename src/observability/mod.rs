//! The view of operators: the log, the line of each exchange, the start banner, the counts.
//!
//! Invariant: nothing here blocks a shard, and no text from outside can fake a line.

mod activity;
mod banner;
mod counters;
mod distribution;
mod exchange;
mod ledger;
#[cfg(test)]
mod listening;
pub mod log;
mod name_list;
mod pulse;
mod reasons;
mod shortened;
mod shown;
mod tally;

pub use activity::Activity;
pub use banner::{Banner, base_url, reachable};
pub use counters::{Count, log_totals};
pub use distribution::histogram::{BOUNDS, Histogram, Spread};
pub use distribution::pace::{RATE_BOUNDS, RateSpread, StreamPace};
pub use exchange::{CostRecord, Ending, ExchangeId, ExchangeRecord, TokensRecord, UsageRecord};
pub use ledger::{Account, Ledger, StatusClass};
pub use name_list::list_names;
pub use reasons::RetryReason;
pub use shortened::Shortened;
pub use shown::past::{PAST_MAX, PastExchange, PastExchanges};
pub use shown::view::{OpenStream, STREAMS_MAX, ShardView};
pub use tally::{ERROR_CODES_MAX, Tally};
