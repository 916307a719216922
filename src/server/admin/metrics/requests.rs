//! The metrics of requests and of their attempts.

use std::collections::{BTreeMap, BTreeSet};

use super::exposition::{Distribution, Exposition, Sample, plain};
use crate::observability::{Activity, Count, Ending, Histogram, RetryReason, Spread, StatusClass};
use crate::proxy::error::table::CODES;
use crate::server::admin::gateway_state::GatewayState;

/// Writes the requests by status and by end, and their bytes.
pub fn requests(page: &mut Exposition, gateway: &GatewayState) {
    by_class(page, gateway);
    by_ending(page, gateway);
    let open = gateway.total(|activity| activity.open_exchanges() as u64);
    page.gauge("flow_uring_exchanges_in_flight", "Requests that are being served now.", plain(open));
    let tunnels = gateway.total(|activity| activity.open_tunnels() as u64);
    page.gauge("flow_uring_websockets_open", "WebSockets that are open now.", plain(tunnels));
    page.counter(
        "flow_uring_request_body_bytes_total",
        "Body bytes received from clients, of forwarded requests that are over.",
        plain(gateway.total(|activity| activity.tally.request_bytes())),
    );
    page.counter(
        "flow_uring_response_body_bytes_total",
        "Body bytes sent to clients, of forwarded requests that are over.",
        plain(gateway.total(|activity| activity.tally.response_bytes())),
    );
}

fn by_class(page: &mut Exposition, gateway: &GatewayState) {
    let credentials = gateway.shared.credentials.load();
    let current: BTreeSet<&str> = credentials.names().collect();
    // By name, since two accounts could have the same: then they are one sample.
    let mut sums: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for account in gateway.shared.ledger.accounts() {
        // A credential that has been removed is listed only if it has served anything.
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
}

fn by_ending(page: &mut Exposition, gateway: &GatewayState) {
    let ending = |ending: Ending| {
        let sum = gateway.total(|activity| activity.tally.endings(ending));
        (vec![("end", ending.as_str().to_owned())], sum)
    };
    page.counter(
        "flow_uring_exchanges_ended_total",
        "Requests that are over, by how they ended, as the log says it.",
        Ending::ALL.map(ending),
    );
    let error = |(row, code): (usize, &&str)| {
        (vec![("code", (*code).to_owned())], gateway.total(|activity| activity.tally.errors(row)))
    };
    page.counter(
        "flow_uring_errors_total",
        "Errors that were made here and sent to clients, by the code in X-Flow-Uring-Error.",
        CODES.iter().enumerate().map(error),
    );
}

/// Writes the attempts, and the reasons of retries.
pub fn attempts(page: &mut Exposition, gateway: &GatewayState) {
    let mut counter = |name, help, count| page.counter(name, help, plain(gateway.counted(count)));
    counter("flow_uring_forwarded_requests_total", "Requests that were forwarded to the upstream.", Count::Requests);
    counter(
        "flow_uring_attempts_total",
        "Attempts of forwarded requests; one without trouble has one.",
        Count::Attempts,
    );
    let retries = |reason: RetryReason| {
        let sum = gateway.total(|activity| activity.counters.retries(reason));
        (vec![("reason", reason.as_str().to_owned())], sum)
    };
    page.counter(
        "flow_uring_retries_total",
        "Further attempts, by why the one before was not enough.",
        RetryReason::ALL.map(retries),
    );
    let mut counter = |name, help, count| page.counter(name, help, plain(gateway.counted(count)));
    counter(
        "flow_uring_retries_suppressed_total",
        "Further attempts that were not made because retries had used up their share of all requests.",
        Count::ShareExhausted,
    );
    counter(
        "flow_uring_streams_pumped_total",
        "Answers whose rest was relayed by the one loop of a shard, without a task of their own; see --pump.",
        Count::StreamsPumped,
    );
    counter(
        "flow_uring_websockets_total",
        "WebSockets that were opened: upgrades that the upstream has accepted.",
        Count::Tunnels,
    );
    counter(
        "flow_uring_websockets_refused_total",
        "Upgrades to WebSocket that were refused without a question to the upstream, which has said lately that it has none \
         on that path.",
        Count::UpgradesRefused,
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
    counter(
        "flow_uring_token_echoes_total",
        "Requests in whose answer the upstream sent the gateway's token back; none of it reached the client.",
        Count::TokensSeen,
    );
    counter(
        "flow_uring_unsearched_errors_total",
        "Errors of the upstream that could not be searched for the token: too long, broken or of an unknown content coding.",
        Count::Unsearched,
    );
}

/// Writes the times to the first byte and to the end.
pub fn times(page: &mut Exposition, gateway: &GatewayState) {
    let spread = |of: fn(&Activity) -> &Histogram| Spread::of(gateway.liveness_probe.activities().map(of));
    page.histogram(
        "flow_uring_time_to_first_byte_seconds",
        "Time from the end of a forwarded request's head to the first byte sent to its client.",
        Distribution::from(&spread(|activity| activity.tally.first_byte())),
    );
    page.histogram(
        "flow_uring_request_duration_seconds",
        "Time from the end of a forwarded request's head to its end, the whole answer included.",
        Distribution::from(&spread(|activity| activity.tally.duration())),
    );
}
