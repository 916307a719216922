//! The usage and what it cost, over spans of time and by model, key and credential.
//!
//! The file of totals is read again only when the gateway has written it, after a minute, or in another hour; what is
//! not written yet is added each time. Without a file, or while it cannot be read, the figures are of the time since
//! the start.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::file_totals::FileTotals;
use crate::server::admin::gateway_state::GatewayState;
use crate::usage::totals::{UnixHour, UsageKey, UsageSums};

/// Names that are listed, at most; the largest costs come first.
const NAMES_MAX: usize = 50;

/// The time after which the file is read again, for what other gateways write; and after which it is tried again.
const FILE_AGE_MAX: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// The wait of a page for the file: what is known is shown where it takes longer.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// The usage of many answers together. What was estimated is never in what was reported.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CostView {
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    reported_usd: f64,
    estimated_usd: f64,
    /// Requests whose answers told no usage.
    without_usage: u64,
}

impl From<UsageSums> for CostView {
    fn from(sums: UsageSums) -> Self {
        CostView {
            requests: sums.requests,
            input_tokens: sums.tokens.input,
            output_tokens: sums.tokens.output,
            cache_read_tokens: sums.tokens.cache_read,
            reported_usd: sums.reported_cost.as_dollars(),
            estimated_usd: sums.estimated_cost.as_dollars(),
            without_usage: sums.without_usage,
        }
    }
}

/// The usage of today (UTC), of the last 7 and of the last 30 days.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CostSpans {
    today: CostView,
    days_7: CostView,
    days_30: CostView,
}

/// The usage of one name.
#[derive(Debug, Clone, Serialize)]
struct NamedCost {
    name: String,
    #[serde(flatten)]
    cost: CostView,
}

/// The usage of the last 7 days by what it can be seen by.
#[derive(Debug, Clone, Serialize)]
pub struct UsageBy {
    model: Vec<NamedCost>,
    key: Vec<NamedCost>,
    credential: Vec<NamedCost>,
}

/// The sums of the spans and of each name.
#[derive(Debug, Clone)]
pub struct SpanSums {
    /// The begins of today, and of 7 and 30 days.
    begins: [UnixHour; 3],
    sums: [UsageSums; 3],
    /// By model, key and credential.
    names: [BTreeMap<Arc<str>, UsageSums>; 3],
}

impl SpanSums {
    fn at(hour: UnixHour) -> Self {
        let midnight = UnixHour(hour.0 - hour.0 % 24);
        SpanSums {
            begins: [midnight, hour.days_before(7), hour.days_before(30)],
            sums: Default::default(),
            names: Default::default(),
        }
    }

    fn add(&mut self, hour: UnixHour, of: &UsageKey, sums: UsageSums) {
        for (begin, sum) in self.begins.iter().zip(&mut self.sums) {
            if hour >= *begin {
                *sum += sums;
            }
        }
        if hour >= self.begins[1] {
            for (map, name) in self.names.iter_mut().zip([&of.model, &of.key, &of.credential]) {
                *map.entry(name.clone()).or_default() += sums;
            }
        }
    }

    pub fn spans(&self) -> CostSpans {
        let [today, days_7, days_30] = self.sums.map(CostView::from);
        CostSpans { today, days_7, days_30 }
    }

    pub fn by_name(&self) -> UsageBy {
        let [model, key, credential] = [0, 1, 2].map(|place| largest(&self.names[place]));
        UsageBy { model, key, credential }
    }
}

/// Lists the names with the largest costs; those without a cost by their tokens.
fn largest(sums: &BTreeMap<Arc<str>, UsageSums>) -> Vec<NamedCost> {
    let weight = |sums: &UsageSums| {
        let cost = sums.reported_cost.units().saturating_add(sums.estimated_cost.units());
        (cost, sums.tokens.input.saturating_add(sums.tokens.output), sums.requests)
    };
    let mut listed: Vec<_> = sums.iter().filter(|(_, sums)| !sums.is_zero()).collect();
    listed.sort_by_key(|(_, sums)| Reverse(weight(sums)));
    listed.truncate(NAMES_MAX);
    listed.into_iter().map(|(name, sums)| NamedCost { name: name.to_string(), cost: (*sums).into() }).collect()
}

/// The costs, with what was read of the file.
#[derive(Debug)]
pub struct Costs {
    file: Option<FileTotals>,
    read: RefCell<FileRead>,
}

/// The last read of the file.
#[derive(Debug, Default)]
struct FileRead {
    /// The sums of the file alone, the hour that they are of, and how often the file had been written.
    sums: Option<(SpanSums, UnixHour, u64)>,
    tried: Option<Instant>,
    /// The last try has brought nothing.
    has_failed: bool,
}

impl FileRead {
    /// Tells whether the file is to be read.
    fn is_due(&self, hour: UnixHour, writes: u64) -> bool {
        let Some(age) = self.tried.map(|tried| tried.elapsed()) else { return true };
        if self.has_failed {
            return age >= RETRY_PAUSE;
        }
        // One more: it is being written.
        let is_of_now = |(_, of, known): &(SpanSums, UnixHour, u64)| *of == hour && writes.saturating_sub(*known) <= 1;
        age >= FILE_AGE_MAX || !self.sums.as_ref().is_some_and(is_of_now)
    }
}

impl Costs {
    /// `None` of a file: all is kept in memory alone.
    pub fn new(file: Option<FileTotals>) -> Self {
        Costs { file, read: RefCell::default() }
    }

    pub fn file(&self) -> Option<&FileTotals> {
        self.file.as_ref()
    }

    /// Returns the sums of now.
    pub async fn sums(&self, gateway: &GatewayState) -> SpanSums {
        let hour = UnixHour::of(SystemTime::now());
        let Some(file) = &self.file else { return since_start(gateway, hour) };
        let is_due = self.read.borrow().is_due(hour, file.unwritten().writes);
        if is_due {
            self.read.borrow_mut().tried = Some(Instant::now());
            let mut sums = SpanSums::at(hour);
            let totals = file.read(sums.begins[2], READ_LIMIT).await;
            self.read.borrow_mut().has_failed = totals.is_none();
            if let Some(totals) = totals {
                totals.rows.iter().for_each(|row| sums.add(row.hour, &row.of, row.sums));
                self.read.borrow_mut().sums = Some((sums, hour, totals.unwritten.writes));
            }
        }
        let Some((mut sums, _, writes)) = self.read.borrow().sums.clone() else { return since_start(gateway, hour) };
        let unwritten = file.unwritten();
        // While it is written it is not known where the rows are: they are in memory still, and not in what was read.
        if unwritten.writes.saturating_sub(writes) <= 1 {
            unwritten.rows.iter().for_each(|row| sums.add(row.hour, &row.of, row.sums));
        }
        sums
    }
}

fn since_start(gateway: &GatewayState, hour: UnixHour) -> SpanSums {
    let mut sums = SpanSums::at(hour);
    if let Some(books) = &gateway.shared.usage {
        books.read(|row| sums.add(hour, row.key(), row.sums()));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(requests: u64) -> UsageSums {
        UsageSums { requests, ..UsageSums::default() }
    }

    #[test]
    fn spans_begin_at_midnight_and_so_many_days_ago() {
        let hour = UnixHour(24 * 1000 + 5);
        let mut sums = SpanSums::at(hour);
        let of = |model: &str| UsageKey { model: model.into(), ..UsageKey::none() };
        for (hour, model, requests) in [
            (hour.0, "a", 1),
            (24 * 1000, "a", 10),
            (24 * 1000 - 1, "b", 100),
            (hour.0 - 7 * 24, "b", 1_000),
            (hour.0 - 7 * 24 - 1, "c", 10_000),
            (hour.0 - 30 * 24 - 1, "d", 100_000),
        ] {
            sums.add(UnixHour(hour), &of(model), spent(requests));
        }
        let spans = sums.spans();
        assert_eq!([spans.today, spans.days_7, spans.days_30].map(|span| span.requests), [11, 1_111, 11_111]);
        let named: Vec<_> = sums.by_name().model.into_iter().map(|named| (named.name, named.cost.requests)).collect();
        assert_eq!(named, [("b".to_owned(), 1_100), ("a".to_owned(), 11)]);
    }

    #[test]
    fn names_are_few_and_the_largest_costs_come_first() {
        let mut sums = SpanSums::at(UnixHour(1_000));
        for number in 0..200 {
            let of = UsageKey { model: format!("m-{number}").into(), ..UsageKey::none() };
            sums.add(UnixHour(1_000), &of, spent(number + 1));
        }
        let models = sums.by_name().model;
        assert_eq!((models.len(), models[0].name.as_str()), (NAMES_MAX, "m-199"));
    }
}
