//! The words and figures of the page, one line a thing, and the page as plain text.

use std::fmt::Write;

use super::state::{CredentialReport, ExchangeReport, GatewayReport, StreamReport};

/// Stands for a figure that is not known.
const UNKNOWN: &str = "-";
/// Lines of each list in the plain text.
const LINES_MAX: usize = 20;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

pub const CREDENTIALS_HEAD: &str = "CREDENTIAL        STATE     REQUESTS  ERRORS  SHARE  RESTS, QUOTA";
pub const STREAMS_HEAD: &str = "   AGE    TOKENS  MODEL                 CREDENTIAL    PATH";
pub const EXCHANGES_HEAD: &str =
    "TIME      STATUS     FIRST     TOTAL  CREDENTIAL    END                MODEL                 REQUEST";

/// Returns one frame.
pub fn of(report: &GatewayReport) -> String {
    let mut text = format!("{}\n{}\n", title(report), figures(report));
    let lists: [(&str, Vec<String>); 3] = [
        (CREDENTIALS_HEAD, report.credentials.iter().map(credential).collect()),
        (STREAMS_HEAD, report.streams.iter().map(stream).collect()),
        (EXCHANGES_HEAD, report.exchanges.iter().map(exchange).collect()),
    ];
    for (head, lines) in lists {
        let _ = write!(text, "\n{head}\n");
        lines.iter().take(LINES_MAX).for_each(|line| {
            let _ = writeln!(text, "{}", line.trim_end());
        });
    }
    text
}

pub fn title(report: &GatewayReport) -> String {
    let GatewayReport { version, base_url, upstream, stage, shards, .. } = report;
    let up = duration((report.now - report.started).max(0.0));
    let answering = if shards.answering < shards.count {
        format!(", only {} of {} shards answer", shards.answering, shards.count)
    } else {
        String::new()
    };
    plain(&format!("flow-uring {version}  {stage} for {up}{answering}  {base_url} -> {upstream}"))
}

pub fn figures(report: &GatewayReport) -> String {
    let now = &report.now_figures;
    let today = &report.cost.today;
    let cost = match (today.reported_usd, today.estimated_usd) {
        (None, None) => UNKNOWN.to_owned(),
        (reported, estimated) => {
            let sign = if estimated.is_some_and(|estimated| estimated > 0.0) { "~" } else { "" };
            format!("{sign}${:.2}", reported.unwrap_or(0.0) + estimated.unwrap_or(0.0))
        }
    };
    format!(
        "{} req/s  {} err/s  first byte {} / {} s  {} streams  {} open  {} tok/s  {cost} today  {} requests",
        figure(now.requests_per_second, 1),
        figure(now.errors_per_second, 1),
        figure(now.time_to_first_byte_p50, 2),
        figure(now.time_to_first_byte_p95, 2),
        count(now.open_streams),
        count(now.open_exchanges),
        figure(now.output_tokens_per_second, 0),
        report.totals.requests,
    )
}

pub fn credential(credential: &CredentialReport) -> String {
    let CredentialReport { name, state, rests, requests, errors, share, quota_share } = credential;
    let share = share.map_or(UNKNOWN.to_owned(), |share| format!("{:.0}%", 100.0 * share));
    let rests = rests.iter().map(|rest| {
        let what = rest.what.as_deref().unwrap_or("all");
        format!("{what} {} ({})", duration(rest.ends_in), rest.reason)
    });
    let quota = quota_share.map(|share| format!("quota {:.0}%", 100.0 * share));
    let rests: Vec<String> = rests.chain(quota).collect();
    plain(&format!("{name:16}  {state:8}  {requests:8}  {errors:6}  {share:>5}  {}", rests.join(", ")))
}

pub fn stream(stream: &StreamReport) -> String {
    let StreamReport { age, model, credential, path, tokens_so_far } = stream;
    let (age, tokens) = (duration(*age), count(*tokens_so_far));
    let (model, credential) = (known(model), known(credential));
    plain(&format!("{age:>6}  {tokens:>8}  {model:20}  {credential:12}  {path}"))
}

pub fn exchange(exchange: &ExchangeReport) -> String {
    let ExchangeReport { at, method, path, status, end, code, credential, model, .. } = exchange;
    let status = status.map_or(UNKNOWN.to_owned(), |status| status.to_string());
    let (first, total) = (milliseconds(exchange.ttfb_ms), milliseconds(exchange.duration_ms));
    let (model, credential, at) = (known(model), known(credential), time_of_day(*at));
    let end = code.as_deref().unwrap_or(end);
    plain(&format!("{at}  {status:>6}  {first:>8}  {total:>8}  {credential:12}  {end:17}  {model:20}  {method} {path}"))
}

/// Replaces what could move a cursor: names and paths come from others.
fn plain(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() { '?' } else { sign }).collect()
}

fn known(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or(UNKNOWN)
}

fn figure(value: Option<f64>, decimals: usize) -> String {
    value.map_or(UNKNOWN.to_owned(), |value| format!("{value:.decimals$}"))
}

fn count(value: Option<u64>) -> String {
    value.map_or(UNKNOWN.to_owned(), |value| value.to_string())
}

fn milliseconds(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.to_owned(),
        Some(value) if value < 1000.0 => format!("{value:.0} ms"),
        Some(value) => format!("{:.1} s", value / 1000.0),
    }
}

/// Writes seconds in at most two units.
fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
        _ => format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
    }
}

/// Writes the time of day in UTC, as the log does.
fn time_of_day(at: f64) -> String {
    let seconds = at.max(0.0) as u64 % (24 * HOUR);
    format!("{:02}:{:02}:{:02}", seconds / HOUR, seconds % HOUR / MINUTE, seconds % MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"version":"0.1.0","started":100.0,"now":3825.5,"base_url":"http://127.0.0.1:8899","stage":"serving",
        "upstream":"https://flow.example","shards":{"count":2,"answering":1},
        "now_figures":{"requests_per_second":1.52,"time_to_first_byte_p50":0.4,"open_streams":1},
        "cost":{"today":{"reported_usd":1.0,"estimated_usd":0.24}},"totals":{"requests":7},
        "credentials":[{"name":"a","state":"resting","rests":[{"what":"gpt-4o","reason":"rate_limited","ends_in":75.2}],
        "requests":5,"errors":1,"share":0.5}],"quota":{"users":[{"credentials":["b"],"budget":{"used":1,"limit":1}},
        {"credentials":["a"],"budget":{"used":1,"limit":null},"requests":{"used":9,"limit":10}}]},"streams":[{"age":3.2,"path":"/v1/x\u001b[2J","tokens_so_far":12}],
        "exchanges":[{"at":86399.9,"method":"POST","path":"/v1/messages","status":200,"end":"ok","ttfb_ms":12.4,
        "duration_ms":1501.0},{"status":null,"end":"timeout","code":"timed_out"}]}"#;

    #[test]
    fn a_frame_names_all_that_is_known_and_no_control_character() {
        let text = of(&GatewayReport::parse(STATE.as_bytes()).expect("a state"));
        for part in [
            "flow-uring 0.1.0  serving for 1h02m, only 1 of 2 shards answer  http://127.0.0.1:8899 -> https://flow.example\n",
            "1.5 req/s  - err/s  first byte 0.40 / - s  1 streams  - open  - tok/s  ~$1.24 today  7 requests\n",
            "a                 resting          5       1    50%  gpt-4o 1m15s (rate_limited), quota 90%\n",
            "    3s        12  -                     -             /v1/x?[2J\n",
            "23:59:59     200     12 ms     1.5 s  -             ok                 -                     POST /v1/messages\n",
            "timed_out",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_state_of_another_version_is_shown_as_far_as_it_is_known() {
        let report = GatewayReport::parse(br#"{"new":1}"#).expect("an object");
        assert!(of(&report).starts_with("flow-uring "));
        for other in [&b""[..], b"[]x", b"<html>", b"{\"credentials\":1}"] {
            assert!(GatewayReport::parse(other).is_none());
        }
    }
}
