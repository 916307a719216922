//! The dimensions that usage is added up by.

use super::moment;
use crate::usage::store::UsageRow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Month,
    Day,
    Hour,
    Key,
    Credential,
    Model,
}

impl Dimension {
    const ALL: [Dimension; 6] =
        [Dimension::Month, Dimension::Day, Dimension::Hour, Dimension::Key, Dimension::Credential, Dimension::Model];

    /// The word on the command line, and the name of its column. Users' scripts rely on it.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Month => "month",
            Dimension::Day => "day",
            Dimension::Hour => "hour",
            Dimension::Key => "key",
            Dimension::Credential => "credential",
            Dimension::Model => "model",
        }
    }

    /// Returns the text of a row's column. Times are in UTC.
    pub fn text(self, row: &UsageRow) -> String {
        match self {
            Dimension::Month => moment::month(row.hour),
            Dimension::Day => moment::day(row.hour),
            Dimension::Hour => moment::hour(row.hour),
            Dimension::Key => row.of.key.to_string(),
            Dimension::Credential => row.of.credential.to_string(),
            Dimension::Model => row.of.model.to_string(),
        }
    }
}

/// Parses words with commas between them, each at most once. Their order is that of the columns.
pub fn parse_list(text: &str) -> Option<Vec<Dimension>> {
    let mut list = Vec::new();
    for word in text.split(',') {
        let found = Dimension::ALL.into_iter().find(|dimension| dimension.name() == word.trim())?;
        if list.contains(&found) {
            return None;
        }
        list.push(found);
    }
    Some(list)
}
