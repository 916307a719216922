//! `GET /api/usage`: totals by what is asked for, as `flow-uring usage` prints them.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::costs::Costs;
use crate::config::percent_decoded;
use crate::server::admin::gateway_state::GatewayState;
use crate::server::admin::refusal::AdminRefusal;
use crate::server::admin::reply::{AdminReply, JSON};
use crate::usage::report::dimension::{self, Dimension};
use crate::usage::report::grouped::UsageReport;
use crate::usage::report::{machine, moment};
use crate::usage::store::UsageRow;
use crate::usage::totals::UnixHour;

/// A part of the time that an exchange may take.
const READ_LIMIT: Duration = Duration::from_secs(4);

const CSV: &str = "text/csv; charset=utf-8";

/// A question that was asked with valid words.
#[derive(Debug, PartialEq, Eq)]
pub struct TotalsQuestion {
    since: UnixHour,
    by: Vec<Dimension>,
}

impl TotalsQuestion {
    /// Reads the query of a target; `since` and `by` are as for the command.
    ///
    /// # Errors
    /// [`AdminRefusal::BadQuery`].
    pub fn of(query: &str, now: SystemTime) -> Result<Self, AdminRefusal> {
        let expected = AdminRefusal::BadQuery("expected since= and by=, each once");
        let (mut since, mut by) = (None, None);
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').ok_or(expected)?;
            let value = percent_decoded(&value.replace('+', " ")).ok_or(expected)?;
            let value = std::str::from_utf8(&value).map_err(|_| expected)?.to_owned();
            let place = match name {
                "since" => &mut since,
                "by" => &mut by,
                _ => return Err(expected),
            };
            if place.replace(value).is_some() {
                return Err(expected);
            }
        }
        let since = moment::parse(since.as_deref().unwrap_or("7d"), now).ok_or(AdminRefusal::BadQuery(
            "since= expects 24h, 7d, 12w, a date such as 2026-11-01, or a time as in RFC 3339",
        ))?;
        let by = dimension::parse_list(by.as_deref().unwrap_or("day,model")).ok_or(AdminRefusal::BadQuery(
            "by= expects some of month, day, hour, key, credential, model, each once, with commas",
        ))?;
        Ok(TotalsQuestion { since, by })
    }
}

/// Returns the totals. Without a file they are of the time since the start, and belong to the hour of now.
///
/// # Errors
/// [`AdminRefusal::UsageUnavailable`].
pub async fn answer(
    question: TotalsQuestion,
    gateway: &GatewayState,
    costs: &Costs,
    wants_csv: bool,
) -> Result<AdminReply, AdminRefusal> {
    let books = gateway.shared.usage.as_ref();
    let books =
        books.ok_or(AdminRefusal::UsageUnavailable("Usage is not counted: the gateway runs with --usage off."))?;
    let mut report = UsageReport::new(question.since, question.by);
    match costs.file() {
        Some(file) => {
            let unavailable = AdminRefusal::UsageUnavailable("The file of totals cannot be read now; try again.");
            let totals = file.read(question.since, READ_LIMIT).await.ok_or(unavailable)?;
            let pending = totals.unwritten.rows.iter().filter(|row| row.hour >= question.since);
            totals.rows.iter().chain(pending).for_each(|row| report.add(row));
        }
        None => {
            let hour = UnixHour::of(SystemTime::now());
            books.read(|row| report.add(&UsageRow { hour, of: row.key().clone(), sums: row.sums() }));
        }
    }
    let (content_type, text) = if wants_csv { (CSV, machine::csv(&report)) } else { (JSON, machine::json(&report)) };
    Ok(AdminReply::new(200, content_type, Cow::Owned(text.into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_the_words_of_the_command_each_once() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * 1_000);
        let of = |query| TotalsQuestion::of(query, now).map(|question| (question.since.0, question.by.len()));
        assert_eq!(of(""), Ok((1_000 - 7 * 24, 2)));
        assert_eq!(of("since=24h&by=key%2Cmodel,day"), Ok((976, 3)));
        for wrong in ["since", "since=x", "by=x", "by=day&by=day", "more=1", "by=%zz", "by=%ff", "since=1d&since=1d"] {
            assert!(matches!(of(wrong), Err(AdminRefusal::BadQuery(_))), "{wrong}");
        }
    }
}
