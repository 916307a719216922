//! The use of keys today and this month before this process counted it, from the file of totals.
//!
//! Read before the first request, when the file of keys has changed, and every [`PERIOD`]: by then what a predecessor
//! added while it drained is in the file too. Invariant: a count only becomes more by it, and a file that cannot be read
//! changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::shard::shared::Shared;
use crate::proxy::key_accounts::{Spending, UtcDate};
use crate::usage::store::{StoreError, UsageStore};
use crate::usage::totals::{UnixHour, UsageSums};

const PERIOD: Duration = Duration::from_secs(300);

/// Reads the file, and starts the thread that reads it again.
///
/// # Errors
/// The thread cannot be started.
pub fn start(shared: &Arc<Shared>) -> io::Result<()> {
    if shared.config.usage.written_file().is_none() {
        return Ok(());
    }
    refresh(shared);
    let shared = shared.clone();
    #[expect(clippy::disallowed_methods, reason = "a thread of its own, and no shard")]
    let again = move || {
        loop {
            thread::sleep(PERIOD);
            refresh(&shared);
        }
    };
    // It ends with the process.
    thread::Builder::new().name("flow-limits".into()).spawn(again)?;
    Ok(())
}

/// Reads the file, if a limit of a day or a month depends on it.
pub fn refresh(shared: &Shared) {
    let Some(path) = shared.config.usage.written_file().filter(|path| path.exists()) else { return };
    if !shared.key_accounts.have_long_limits() {
        return;
    }
    let date = UtcDate::now();
    let read = || {
        let store = UsageStore::open_existing(path)?;
        let of_day = store.sums_by_key(UnixHour(date.day * 24))?;
        let of_month = store.sums_by_key(UnixHour(date.first_day_of_month() * 24))?;
        Ok::<_, StoreError>((of_day, of_month))
    };
    match read() {
        Ok((of_day, of_month)) => shared.key_accounts.read(|name, account| {
            account.raise_to(date, spent(&of_day, name), spent(&of_month, name));
        }),
        Err(error) => {
            tracing::warn!("limits of days and months count from the start of this process on: {error}");
        }
    }
}

fn spent(sums: &BTreeMap<Arc<str>, UsageSums>, name: &str) -> Spending {
    sums.get(name).map(Spending::of).unwrap_or_default()
}
