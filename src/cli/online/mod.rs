//! `flow-uring check --online`: makes one request with each credential, to see which of them work, and asks which
//! protocols the upstream offers (`alpn`), and where it is asked for, what its users may still spend (`quota`).
//!
//! Goes the way of real requests, through `upstream` and `http1`, on a runtime of its own on the main thread.
//! Invariant: it ends in bounded time, asks once with each credential, and no line holds a secret, a token or a text
//! that the upstream sent, but the id of a user.

mod quota;

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use monoio::{LegacyDriver, RuntimeBuilder};
use zeroize::Zeroizing;

use self::quota::QuotaLines;
use crate::cli::alpn::{AlpnOffer, AlpnReply};
use crate::cli::check::CheckReport;
use crate::config::{Config, QuotaSource};
use crate::credentials::{self, Credential, Credentials, TokenError};
use crate::http1::head::{HeadError, HeadLimits, HeadScanner, ResponseHead, with_response};
use crate::http1::interim::InterimAllowance;
use crate::http1::retry_after::retry_after;
use crate::io::buffer::PLAINTEXT_MAX;
use crate::io::{Buffer, Deadline, Timer, deadline};
use crate::server::{self, RunError};
use crate::upstream::{ConnectError, Connection, Connector, Received, TransportError};

/// The limit of a response. A list of models needs no model: a server that works sends it at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The number of credentials that are tried, or asked for their quotas, at once: enough that a hundred of them are through within minutes when the
/// upstream is silent, few enough not to look like an attack.
const AT_ONCE_MAX: usize = 8;

/// The limit for sending close_notify to an upstream that does not read.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Tries every credential and adds a line for each to the report, after one about what the upstream offers.
pub fn try_each(config: &Config, credentials: &Rc<Credentials>, report: &mut CheckReport) {
    let Tried { outcomes, alpn, quota } = match tried(config, credentials) {
        Ok(tried) => tried,
        Err(error) => return report.problems.push(error.to_string()),
    };
    if let Some(alpn) = alpn {
        if alpn.is_usable() { &mut report.found } else { &mut report.problems }.push(alpn.to_string());
    }
    report.found.push(format!("GET {}/v1/models with each credential:", config.upstream.url()));
    for ((id, entry), outcome) in credentials.entries().zip(outcomes) {
        let line = format!("[{}] {}: {outcome}", id.index(), entry.name);
        match outcome.verdict() {
            TrialVerdict::Works => report.found.push(format!("  {line}")),
            TrialVerdict::Warning => report.warnings.push(line),
            TrialVerdict::Problem => report.problems.push(line),
        }
    }
    quota.into_iter().for_each(|quota| quota.add_to(report));
}

/// Everything that was asked.
struct Tried {
    /// Of each credential.
    outcomes: Vec<TrialOutcome>,
    /// `None`: it is not known.
    alpn: Option<AlpnOffer>,
    /// `None`: nobody is to be asked.
    quota: Option<QuotaLines>,
}

fn tried(config: &Config, credentials: &Rc<Credentials>) -> Result<Tried, RunError> {
    let route = server::route(&config.upstream)?;
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().build().map_err(RunError::Driver)?;
    let trial = Rc::new(Trial {
        connector: Rc::new(Connector::new(route.clone(), config.limits.pending_connects_max)),
        connect_limit: config.timeouts.connect,
        http11: Cell::new(AlpnReply::None),
        request: format!(
            "GET {}/v1/models HTTP/1.1\r\nHost: {}\r\nUser-Agent: flow-uring/{}\r\nAccept: application/json\r\n\
             Connection: close\r\nAuthorization: Bearer ",
            config.upstream.base_path,
            config.upstream.authority,
            env!("CARGO_PKG_VERSION"),
        ),
    });
    let entries: Vec<&Credential> = credentials.entries().map(|(_, entry)| entry).collect();
    runtime.block_on(async {
        // Deadlines pass by this timer alone.
        let timer = Timer::open().map_err(RunError::Driver)?;
        monoio::spawn(deadline::sweep(timer));
        let mut outcomes = Vec::with_capacity(entries.len());
        for batch in entries.chunks(AT_ONCE_MAX) {
            let begin = |entry: &&Credential| {
                let (trial, request) = (trial.clone(), trial.request(entry));
                monoio::spawn(async move { trial.run(request).await })
            };
            let running: Vec<_> = batch.iter().map(begin).collect();
            for outcome in running {
                outcomes.push(outcome.await);
            }
        }
        let alpn = AlpnOffer::of(&route, trial.http11.get(), config.timeouts.connect).await;
        let quota = match config.quota {
            QuotaSource::Off => None,
            QuotaSource::Flow => {
                Some(QuotaLines::ask(&trial.connector, &config.upstream.authority, credentials, AT_ONCE_MAX).await)
            }
        };
        Ok(Tried { outcomes, alpn, quota })
    })
}

/// The parts that all requests share.
struct Trial {
    connector: Rc<Connector>,
    connect_limit: Duration,
    /// The upstream's reply to the protocol of the gateway, as the last connect has brought one.
    http11: Cell<AlpnReply>,
    /// The head up to the token.
    request: String,
}

impl Trial {
    fn request(&self, credential: &Credential) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        const END: &[u8] = b"\r\n\r\n";
        let token = credentials::mint(credential)?;
        // Room for everything at once: a vector that grows would leave copies of the token that are not zeroed.
        let mut request = Vec::with_capacity(self.request.len() + token.expose().len() + END.len());
        for part in [self.request.as_bytes(), token.expose().as_bytes(), END] {
            request.extend_from_slice(part);
        }
        Ok(Zeroizing::new(request))
    }

    async fn run(&self, request: Result<Zeroizing<Vec<u8>>, TokenError>) -> TrialOutcome {
        let request = match request {
            Ok(request) => request,
            Err(error) => return TrialOutcome::NoToken(error),
        };
        let limit = Deadline::default();
        let connected = limit.within(self.connect_limit, self.connector.connect()).await;
        if let Ok(connected) = &connected {
            let reply = AlpnReply::of(connected.as_ref());
            self.http11.set(if reply == AlpnReply::None { self.http11.get() } else { reply });
        }
        let connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return TrialOutcome::Unreachable(error),
            Err(_) => {
                self.connector.distrust_addresses();
                return TrialOutcome::ConnectOverdue(self.connect_limit);
            }
        };
        match limit.within(ANSWER_LIMIT, ask(&connection, &request)).await {
            Ok(Ok(answer)) => {
                connection.close(CLOSE_LIMIT).await;
                TrialOutcome::Answered(answer)
            }
            Ok(Err(fault)) => TrialOutcome::NoAnswer(fault),
            Err(_) => TrialOutcome::NoAnswer(AnswerError::Overdue),
        }
    }
}

/// The parts of a response that are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TrialAnswer {
    status: u16,
    /// The wait that the upstream asks for.
    retry_after: Option<Duration>,
}

async fn ask(connection: &Connection, request: &[u8]) -> Result<TrialAnswer, AnswerError> {
    for part in request.chunks(PLAINTEXT_MAX) {
        let sealed = connection.seal(part, part.len()).map_err(AnswerError::Transport)?;
        connection.send(sealed, ANSWER_LIMIT).await.map_err(AnswerError::Transport)?;
    }
    let mut received = Buffer::none();
    let mut scanner = HeadScanner::default();
    let mut interim = InterimAllowance::default();
    loop {
        let scanned = scanner.scan(received.filled(), &HeadLimits::RESPONSE).map_err(AnswerError::Malformed)?;
        if let Some(span) = scanned {
            let head = &received.filled()[span.start..span.end];
            let answer = with_response(head, |parsed| match parsed.status {
                // RFC 9110 §15.2: an interim response precedes the final one. 101 would be one, and was not asked for.
                100 | 102..=199 => interim.admit(parsed, head.len()).map(|()| None),
                _ => Ok(Some(answer_of(parsed, SystemTime::now()))),
            });
            let answer = answer.and_then(|answer| answer).map_err(AnswerError::Malformed)?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            received.consume(span.end);
            scanner = HeadScanner::default();
            continue;
        }
        match connection.read(|bytes| received.append(bytes)).await.map_err(AnswerError::Transport)? {
            Received::Data => {}
            Received::End { .. } => return Err(AnswerError::Closed),
        }
    }
}

fn answer_of(head: &ResponseHead<'_>, now: SystemTime) -> TrialAnswer {
    TrialAnswer { status: head.status, retry_after: retry_after(head, now) }
}

/// The reason why there is no answer.
#[derive(Debug)]
enum AnswerError {
    Transport(TransportError),
    Malformed(HeadError),
    Closed,
    Overdue,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerError::Transport(error) => error.fmt(formatter),
            AnswerError::Malformed(error) => error.fmt(formatter),
            AnswerError::Closed => formatter.write_str("the connection was closed"),
            AnswerError::Overdue => write!(formatter, "nothing within {} s", ANSWER_LIMIT.as_secs()),
        }
    }
}

/// The outcome of one credential's request.
#[derive(Debug)]
enum TrialOutcome {
    Answered(TrialAnswer),
    NoToken(TokenError),
    Unreachable(ConnectError),
    /// No connection within the limit.
    ConnectOverdue(Duration),
    NoAnswer(AnswerError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrialVerdict {
    Works,
    /// The credential is good, and not of use at this moment.
    Warning,
    Problem,
}

impl TrialOutcome {
    fn verdict(&self) -> TrialVerdict {
        match self {
            TrialOutcome::Answered(TrialAnswer { status: 200..=299, .. }) => TrialVerdict::Works,
            TrialOutcome::Answered(TrialAnswer { status: 429, .. }) => TrialVerdict::Warning,
            TrialOutcome::Answered(_)
            | TrialOutcome::NoToken(_)
            | TrialOutcome::Unreachable(_)
            | TrialOutcome::ConnectOverdue(_)
            | TrialOutcome::NoAnswer(_) => TrialVerdict::Problem,
        }
    }
}

impl fmt::Display for TrialOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrialOutcome::Answered(answer) => answer.fmt(formatter),
            TrialOutcome::NoToken(error) => error.fmt(formatter),
            TrialOutcome::Unreachable(error) => write!(formatter, "the upstream cannot be reached: {error}"),
            TrialOutcome::ConnectOverdue(limit) => write!(
                formatter,
                "the upstream cannot be reached: no connection within {} s (--connect-timeout)",
                limit.as_secs_f64()
            ),
            TrialOutcome::NoAnswer(fault) => write!(formatter, "the upstream gave no answer: {fault}"),
        }
    }
}

impl fmt::Display for TrialAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status;
        // A moment that has passed, or one that nobody can wait for, says nothing.
        let wait = self.retry_after.filter(|wait| !wait.is_zero() && *wait < Duration::MAX);
        match (status, wait) {
            (200..=299, _) => write!(formatter, "works ({status})"),
            (401 | 403, _) => write!(
                formatter,
                "refused ({status}): its clientId, clientSecret or tenant is wrong, or it has no access"
            ),
            (429, Some(wait)) => {
                write!(formatter, "rate limited ({status}), retry after {} s", wait.as_secs_f64().ceil())
            }
            (429, None) => write!(formatter, "rate limited ({status})"),
            (500..=599, _) => write!(formatter, "the upstream answered {status}"),
            _ => write!(
                formatter,
                "the upstream answered {status}, which says nothing of the credential; check the path of --upstream"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(head: &str) -> (String, TrialVerdict) {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let outcome =
            TrialOutcome::Answered(with_response(head.as_bytes(), |head| answer_of(head, now)).expect("a head"));
        (outcome.to_string(), outcome.verdict())
    }

    #[test]
    fn an_answer_is_told_by_its_status() {
        for (status, text, verdict) in [
            (200, "works (200)", TrialVerdict::Works),
            (204, "works (204)", TrialVerdict::Works),
            (302, "the upstream answered 302, which says nothing", TrialVerdict::Problem),
            (401, "refused (401): its clientId, ", TrialVerdict::Problem),
            (403, "refused (403): its clientId, ", TrialVerdict::Problem),
            (404, "the upstream answered 404, which says nothing", TrialVerdict::Problem),
            (429, "rate limited (429)", TrialVerdict::Warning),
            (503, "the upstream answered 503", TrialVerdict::Problem),
            (999, "the upstream answered 999, ", TrialVerdict::Problem),
        ] {
            let (told, found) = told(&format!("HTTP/1.1 {status} HUNTER2\r\nX: HUNTER2\r\n\r\n"));
            assert!(told.starts_with(text) && found == verdict && !told.contains("HUNTER2"), "{status}: {told}");
        }
    }

    #[test]
    fn what_the_upstream_says_of_the_wait_is_told_as_a_number_or_not_at_all() {
        for (fields, text) in [
            ("Retry-After: 7\r\n", "rate limited (429), retry after 7 s"),
            ("retry-after-ms: 1500\r\nRetry-After: 7\r\n", "rate limited (429), retry after 2 s"),
            ("retry-after-ms: soon\r\nRetry-After: 7\r\n", "rate limited (429), retry after 7 s"),
            ("Retry-After: 1.5\r\n", "rate limited (429), retry after 2 s"),
            ("Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n", "rate limited (429), retry after 60 s"),
            ("Retry-After: Sun, 06 Nov 1994 08:49:07 GMT\r\n", "rate limited (429)"),
            ("Retry-After: -1\r\n", "rate limited (429)"),
            ("Retry-After: 99999999999999999999999\r\n", "rate limited (429)"),
        ] {
            assert_eq!(told(&format!("HTTP/1.1 429 Slow\r\n{fields}\r\n")).0, text, "{fields:?}");
        }
    }
}
