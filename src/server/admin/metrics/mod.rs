//! The metrics page: what the shards counted, summed when it is asked for, in Prometheus' text format.
//!
//! Invariant: the shards are read from, and never waited for; a sum that is read while they go on is of some moment of
//! each. Names follow Prometheus' conventions: seconds and bytes, `_total` for what only grows.

mod exposition;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, UNIX_EPOCH};

use self::exposition::{Exposition, Sample, plain};
use super::pages::Pages;
use crate::observability::log::lost_lines;
use crate::observability::{Activity, Count, Ending, Histogram, Spread, StatusClass};
use crate::proxy::error::CODES;
use crate::server::shard::driver::Driver;

/// Writes all of them; `alive` is how many shards answer.
///
/// # Errors
/// When a family is not one; a test of the page sees to it.
pub fn text(pages: &Pages, alive: usize) -> prometheus::Result<Vec<u8>> {
    let mut page = Exposition::default();
    this_build(&mut page, pages, alive);
    requests(&mut page, pages);
    attempts(&mut page, pages);
    credentials(&mut page, pages);
    connections(&mut page, pages);
    times(&mut page, pages);
    logs(&mut page);
    process::write(&mut page, pages.started.duration_since(UNIX_EPOCH).unwrap_or_default());
    page.encode()
}

fn this_build(page: &mut Exposition, pages: &Pages, alive: usize) {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauge("flow_uring_build_info", "Always 1; the label says which version runs.", [(version, 1.0)]);
    let (driver, detail) = match &pages.driver {
        Driver::Uring(step) => ("io_uring", (*step).to_owned()),
        Driver::Epoll => ("epoll", "asked for".to_owned()),
        Driver::EpollFallback(why) => ("epoll", format!("io_uring was refused: {why}")),
    };
    let driver = vec![("driver", driver.to_owned()), ("detail", detail)];
    page.gauge(
        "flow_uring_io_driver_info",
        "Always 1; the labels say which I/O driver the shards run on, and on which step of its ladder or why.",
        [(driver, 1.0)],
    );
    let shards = pages.shared.config.shards.get();
    page.gauge("flow_uring_shards", "Threads that serve requests.", plain(shards as f64));
    page.gauge("flow_uring_shards_answering", "Shards that answered within a second.", plain(alive as f64));
}

fn requests(page: &mut Exposition, pages: &Pages) {
    let credentials = pages.shared.credentials.load();
    let current: BTreeSet<&str> = credentials.names().collect();
    // By name, since two accounts could have one: then they are told as one.
    let mut sums: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for account in pages.shared.ledger.accounts() {
        // Of a credential that is not there any more it is worth telling only what it has done.
        if account.is_empty() && !account.name().is_empty() && !current.contains(account.name()) {
            continue;
        }
        for class in StatusClass::ALL {
            *sums.entry((account.name().to_owned(), class.as_str())).or_default() += account.total(class);
        }
    }
    let sample = |((credential, class), sum): ((String, &str), u64)| -> Sample {
        (vec![("class", class.to_owned()), ("credential", credential)], sum as f64)
    };
    page.counter(
        "flow_uring_requests_total",
        "Requests that are over, by the class of their status and the credential of their last attempt; class none had no \
         answer begun, and an empty credential is an answer made here.",
        sums.into_iter().map(sample),
    );
    let ending = |ending: Ending| {
        let sum = total(pages, |activity| activity.tally.endings(ending));
        (vec![("end", ending.as_str().to_owned())], sum)
    };
    page.counter(
        "flow_uring_exchanges_ended_total",
        "Requests that are over, by how they ended, as the log says it.",
        Ending::ALL.map(ending),
    );
    let error = |(place, code): (usize, &&str)| {
        (vec![("code", (*code).to_owned())], total(pages, |activity| activity.tally.errors(place)))
    };
    page.counter(
        "flow_uring_errors_total",
        "Errors that were made here and sent to clients, by the code in X-Flow-Uring-Error.",
        CODES.iter().enumerate().map(error),
    );
    let open = total(pages, |activity| activity.open_exchanges() as u64);
    page.gauge("flow_uring_exchanges_in_flight", "Requests that are being served now.", plain(open));
    page.counter(
        "flow_uring_request_body_bytes_total",
        "Body bytes received from clients, of forwarded requests that are over.",
        plain(total(pages, |activity| activity.tally.request_bytes())),
    );
    page.counter(
        "flow_uring_response_body_bytes_total",
        "Body bytes sent to clients, of forwarded requests that are over.",
        plain(total(pages, |activity| activity.tally.response_bytes())),
    );
}

fn attempts(page: &mut Exposition, pages: &Pages) {
    let mut counter = |name, help, count| page.counter(name, help, plain(counted(pages, count)));
    counter("flow_uring_forwarded_requests_total", "Requests that were forwarded to the upstream.", Count::Requests);
    counter(
        "flow_uring_attempts_total",
        "Attempts of forwarded requests; one without trouble has one.",
        Count::Attempts,
    );
    const REASONS: [Count; 6] = [
        Count::Unreachable,
        Count::UpstreamClosed,
        Count::WriteStalled,
        Count::Unavailable,
        Count::Refused,
        Count::RateLimited,
    ];
    page.counter(
        "flow_uring_retries_total",
        "Further attempts, by why the one before was not enough.",
        REASONS.map(|reason| (vec![("reason", reason.as_str().to_owned())], counted(pages, reason))),
    );
    let mut counter = |name, help, count| page.counter(name, help, plain(counted(pages, count)));
    counter(
        "flow_uring_retries_suppressed_total",
        "Further attempts that were not made because retries had used up their share of all requests.",
        Count::ShareExhausted,
    );
    counter(
        "flow_uring_request_copies_dropped_total",
        "Requests that were too large to be kept for a further attempt, by themselves or together with others.",
        Count::CopiesDropped,
    );
    counter(
        "flow_uring_unfiltered_requests_total",
        "Requests that --filter is for and that went on as they came: too large, with a content coding, or not JSON.",
        Count::Unfiltered,
    );
}

fn credentials(page: &mut Exposition, pages: &Pages) {
    let credentials = pages.shared.credentials.load();
    let now = Instant::now();
    let each = |value: fn(f64) -> f64| -> Vec<Sample> {
        let seconds = |id| credentials.cooling_for(id, now).unwrap_or_default().as_secs_f64();
        let sample = |(id, entry): (_, &crate::credentials::Credential)| {
            (vec![("credential", entry.name.clone())], value(seconds(id)))
        };
        credentials.entries().map(sample).collect()
    };
    page.gauge(
        "flow_uring_credential_up",
        "Whether the credential can be used (1) or is left alone for a while (0).",
        each(|seconds| if seconds > 0.0 { 0.0 } else { 1.0 }),
    );
    page.gauge(
        "flow_uring_credential_cooldown_seconds",
        "How long the credential is still left alone; 0 where it can be used.",
        each(|seconds| seconds),
    );
    let mut counter = |name, help, count| page.counter(name, help, plain(counted(pages, count)));
    counter(
        "flow_uring_credential_cooldowns_total",
        "Times that a credential began to be left alone, because the upstream refused or limited it.",
        Count::Cooldowns,
    );
    counter(
        "flow_uring_credential_recoveries_total",
        "Times that a credential was found to work again.",
        Count::Recoveries,
    );
}

fn connections(page: &mut Exposition, pages: &Pages) {
    let open = pages.shared.connections.load(std::sync::atomic::Ordering::Relaxed);
    page.gauge("flow_uring_downstream_connections", "Open connections of clients.", plain(open as f64));
    let mut counter = |name, help, count| page.counter(name, help, plain(counted(pages, count)));
    counter(
        "flow_uring_accept_errors_total",
        "Times that a connection of a client could not be accepted, as for want of file descriptors.",
        Count::AcceptErrors,
    );
    counter(
        "flow_uring_upstream_connections_opened_total",
        "Connections to the upstream that were opened for an attempt.",
        Count::UpstreamOpened,
    );
    counter(
        "flow_uring_upstream_connections_reused_total",
        "Attempts that went out on a connection to the upstream that had been used before.",
        Count::UpstreamReused,
    );
    counter(
        "flow_uring_upstream_connections_stale_total",
        "Connections to the upstream that had been closed there when they were used again; their requests were sent again.",
        Count::Stale,
    );
    page.gauge(
        "flow_uring_upstream_connections_idle",
        "Connections to the upstream that wait for their next request.",
        plain(total(pages, |activity| activity.idle_upstream() as u64)),
    );
}

fn times(page: &mut Exposition, pages: &Pages) {
    let spread = |of: fn(&Activity) -> &Histogram| Spread::of(pages.liveness_probe.activities().map(of));
    page.histogram(
        "flow_uring_time_to_first_byte_seconds",
        "Time from the end of a forwarded request's head to the first byte sent to its client.",
        &spread(|activity| activity.tally.first_byte()),
    );
    page.histogram(
        "flow_uring_request_duration_seconds",
        "Time from the end of a forwarded request's head to its end, the whole answer included.",
        &spread(|activity| activity.tally.duration()),
    );
}

fn logs(page: &mut Exposition) {
    page.counter(
        "flow_uring_log_lines_dropped_total",
        "Lines of the log that were lost because an output was too slow for them, or could not be written.",
        lost_lines().map(|(output, count)| (vec![("output", output.to_owned())], count as f64)),
    );
}

fn counted(pages: &Pages, count: Count) -> f64 {
    total(pages, |activity| activity.counters.value(count))
}

/// A number of all shards together.
fn total(pages: &Pages, of_shard: impl Fn(&Activity) -> u64) -> f64 {
    pages.liveness_probe.activities().map(of_shard).sum::<u64>() as f64
}
