//! The report before it has a form.

use std::collections::BTreeMap;

use super::dimension::Dimension;
use crate::usage::store::UsageRow;
use crate::usage::totals::{UnixHour, UsageSums};

/// The sums of a span of time, by what was asked for and all together.
#[derive(Debug)]
pub struct UsageReport {
    pub since: UnixHour,
    pub by: Vec<Dimension>,
    /// By the texts of `by`, in that order.
    pub groups: BTreeMap<Vec<String>, UsageSums>,
    pub total: UsageSums,
}

impl UsageReport {
    pub fn new(since: UnixHour, by: Vec<Dimension>) -> Self {
        UsageReport { since, by, groups: BTreeMap::new(), total: UsageSums::default() }
    }

    /// Adds a row to its group.
    pub fn add(&mut self, row: &UsageRow) {
        let group = self.by.iter().map(|dimension| dimension.text(row)).collect();
        *self.groups.entry(group).or_default() += row.sums;
        self.total += row.sums;
    }
}
