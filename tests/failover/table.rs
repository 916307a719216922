//! A row of the table and how it is checked: one request through a gateway and an upstream of its own.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, Gateway, POST, Peer, Request, Response, Totals, Upstream, lines_saying, repeat_until_undisturbed,
    secrets_json, shown, value_of,
};

/// The pause before an attempt that follows a failure which may pass by itself.
const BACK_OFF: std::ops::RangeInclusive<f64> = 50.0..=250.0;
/// The delay that a round may have: after 15 seconds a failure is no longer one that passes by itself.
const PATIENCE: Duration = Duration::from_secs(14);

/// Rows checked at once: most of a row's time is back-off.
const ROWS_AT_ONCE: usize = 8;

/// The behaviour of the upstream on one attempt.
#[derive(Debug, Clone)]
pub enum Step {
    /// Takes the request whole, and answers with this status and these field lines.
    Says(u16, String),
    /// Takes the request whole, and writes this.
    Writes(Vec<Part>),
    /// Answers with this status and closes, so that the next attempt has a fresh connection.
    SaysAndCloses(u16),
    /// Takes the request whole, and closes.
    Closes,
    /// Takes the request whole, and resets.
    Resets,
    /// Begins an answer's head, and closes.
    ClosesInHead,
    /// Answers with this status and refuses all connections from then on.
    SaysAndGoes(u16),
    /// Does the other step after a while.
    Later(Duration, Box<Step>),
}

#[derive(Debug, Clone)]
pub enum Part {
    Bytes(String),
    Pause(Duration),
}

/// Returns a step that answers with this status.
pub fn says(status: u16) -> Step {
    Step::Says(status, String::new())
}

/// Returns a step that answers with this status and a field.
pub fn says_with(status: u16, field: &str) -> Step {
    Step::Says(status, format!("{field}\r\n"))
}

pub fn later(time: Duration, step: Step) -> Step {
    Step::Later(time, Box::new(step))
}

impl Step {
    /// The answer of attempt number `index`, told from all others by its head and its body.
    fn answer(&self, index: usize) -> (String, String) {
        match self {
            Self::Says(status, fields) => {
                let body = format!("{{\"attempt\": {index}, \"text\": \"caf\u{e9}\"}}");
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} Told So\r\nX-Attempt: {index}\r\n{fields}Content-Type: application/json\r\n\
                     Content-Length: {length}\r\n\r\n"
                );
                (head, body)
            }
            Self::SaysAndCloses(status) | Self::SaysAndGoes(status) => says(*status).answer(index),
            Self::Later(_, step) => step.answer(index),
            Self::Writes(parts) => {
                let bytes = parts.iter().filter_map(|part| match part {
                    Part::Bytes(bytes) => Some(bytes.as_str()),
                    Part::Pause(_) => None,
                });
                let whole: String = bytes.collect();
                let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
                (format!("{head}\r\n\r\n"), body.to_owned())
            }
            other => panic!("{other:?} is no answer"),
        }
    }

    /// Takes the step, and returns whether the connection goes on.
    fn act(&self, index: usize, request: &Request, peer: &mut Peer) -> bool {
        match self {
            Self::Says(..) => {
                let (head, body) = self.answer(index);
                let has_body = !request.line().starts_with("HEAD ") && !head.starts_with("HTTP/1.1 304");
                peer.write(if has_body { head + &body } else { head })
            }
            Self::Writes(parts) => parts.iter().all(|part| match part {
                Part::Bytes(bytes) => peer.write(bytes),
                Part::Pause(time) => {
                    peer.sleep(*time);
                    true
                }
            }),
            Self::Closes => false,
            Self::Resets => {
                peer.reset();
                false
            }
            Self::ClosesInHead => {
                peer.write("HTTP/1.1 200 OK\r\nConte");
                false
            }
            Self::SaysAndCloses(status) | Self::SaysAndGoes(status) => {
                if matches!(self, Self::SaysAndGoes(_)) {
                    peer.refuse_connections();
                }
                let (head, body) = says(*status).answer(index);
                let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                peer.write(head + &body);
                false
            }
            Self::Later(time, step) => {
                peer.sleep(*time);
                step.act(index, request, peer)
            }
        }
    }
}

/// The response that the client receives.
#[derive(Debug, Clone, Copy)]
pub enum Gets {
    /// The answer of the attempt of this number, from 0, byte for byte.
    Answer(usize),
    /// The gateway's own answer.
    Own(u16, &'static str),
}

/// One request, what becomes of its attempts, and all that must be seen of it.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    /// A secrets file; by default of `a`, `b` and `c`.
    pub secrets: String,
    pub flags: Vec<(&'static str, String)>,
    pub request: Vec<u8>,
    /// The step for each attempt, in order; a further attempt is a failure.
    pub steps: Vec<Step>,
    /// The credentials whose tokens arrived, in order.
    pub tried: &'static str,
    pub gets: Gets,
    /// The reason of each further attempt.
    pub reasons: Vec<&'static str>,
    /// The credentials that cool down, each with the reason and the seconds.
    pub cools: Vec<(&'static str, &'static str, f64)>,
    /// The time at which a date that the upstream names was made: what is left until then has become less.
    pub dated: Option<Instant>,
    /// The delay that the round may have, by the test's own clock, without being another row of the table.
    pub patience: Duration,
    /// The number of attempts, where it is not that of the requests that arrived.
    pub attempts: Option<u64>,
    pub copies_dropped: u64,
    /// The credentials that the upstream does not know when it is asked for its models, which steps are not for.
    pub unknown: &'static str,
    pub is_tls: bool,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            name: String::new(),
            secrets: secrets_json(&["a", "b", "c"]),
            flags: Vec::new(),
            request: POST.into(),
            steps: Vec::new(),
            tried: "a",
            gets: Gets::Answer(0),
            reasons: Vec::new(),
            cools: Vec::new(),
            dated: None,
            patience: PATIENCE,
            attempts: None,
            copies_dropped: 0,
            unknown: "",
            is_tls: false,
        }
    }
}

/// A row that is like all others but for its name.
pub fn row(name: impl Into<String>) -> Row {
    Row { name: name.into(), ..Row::default() }
}

/// An upstream that meets each request with the next step.
pub fn scripted(steps: Vec<Step>, unknown: &'static str, is_tls: bool) -> Upstream {
    let next = Arc::new(AtomicUsize::new(0));
    let script = move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if is_check(&request) {
                let status = if unknown.contains(&request.credential()) { 403 } else { 200 };
                peer.write(format!("HTTP/1.1 {status} Checked\r\nContent-Length: 2\r\n\r\n{{}}"));
                continue;
            }
            let index = next.fetch_add(1, Ordering::SeqCst);
            let step = steps.get(index).unwrap_or_else(|| panic!("there is no step for attempt {index}: {request:?}"));
            if !step.act(index, &request, peer) {
                return;
            }
        }
    };
    if is_tls { Upstream::tls(script) } else { Upstream::plain(script) }
}

/// Returns whether the gateway asks by itself if a credential is still known.
pub fn is_check(request: &Request) -> bool {
    let closes = request.head.field("connection").is_some_and(|value| value == "close");
    closes && request.line().starts_with("GET ") && request.path().ends_with("/v1/models")
}

/// Returns whose tokens came with the requests of clients.
pub fn tried(requests: &[Request]) -> String {
    requests.iter().filter(|request| !is_check(request)).map(Request::credential).collect()
}

/// Checks all rows, some at once.
pub fn check(rows: &[Row]) {
    let next = AtomicUsize::new(0);
    let failed: Vec<_> = thread::scope(|scope| {
        let workers = (0..ROWS_AT_ONCE).map(|_| {
            scope.spawn(|| {
                let mut failed = Vec::new();
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if std::panic::catch_unwind(|| row.check()).is_err() {
                        failed.push(row.name.as_str());
                    }
                }
                failed
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("failures are caught")).collect()
    });
    assert!(failed.is_empty(), "{} of {} rows failed: {failed:#?}", failed.len(), rows.len());
}

impl Row {
    /// Checks rounds until one is right; one that is wrong counts unless it was late.
    pub fn check(&self) {
        repeat_until_undisturbed(|| {
            let (asked, late_by) = (Instant::now(), Cell::new(None));
            let Err(failure) = catch_unwind(AssertUnwindSafe(|| self.check_round(&late_by))) else { return true };
            let late_by = late_by.get().unwrap_or_else(|| asked.elapsed());
            if late_by < self.patience {
                resume_unwind(failure);
            }
            println!("{}: a round that was late by {late_by:?} says nothing", self.name);
            false
        });
    }

    fn check_round(&self, late_by: &Cell<Option<Duration>>) {
        println!("row: {}", self.name);
        let upstream = scripted(self.steps.clone(), self.unknown, self.is_tls);
        let mut builder = Gateway::builder().shards(1).secrets(&*self.secrets).upstream(&upstream);
        for (flag, value) in &self.flags {
            builder = builder.arg(flag, value);
        }
        let mut gateway = builder.start();
        let mut client = Client::connect(gateway.port()).with_deadline(self.delay() + DEADLINE);
        let asked = Instant::now();
        let response = client.ask(&self.request);
        let took = asked.elapsed();
        // A check may still be under way.
        gateway.wait_for_log_count("credential cools down", self.cools.len());
        let totals = Totals::at_the_end_of(&mut gateway);
        let log = gateway.log();
        late_by.set(Some(took.saturating_sub(self.delay() + pauses(&log))));
        let name = &self.name;
        println!("{name}: {}", lines_saying(&log, "another attempt").join("\n"));
        assert_eq!(tried(&upstream.requests()), self.tried, "{name}: the credentials in their order");
        self.check_answer(&response);
        let requests = upstream.requests().into_iter().filter(|request| !is_check(request));
        self.check_attempts(&log, &requests.collect::<Vec<_>>());
        self.check_cooldowns(&log);
        self.check_exchange(&log);
        self.check_totals(&totals);
    }

    /// Returns the time that its steps take by themselves.
    pub fn delay(&self) -> Duration {
        self.steps.iter().map(Step::delay).sum()
    }

    fn attempts(&self) -> u64 {
        self.attempts.unwrap_or(self.tried.len() as u64)
    }

    fn check_answer(&self, response: &Response) {
        let name = &self.name;
        match self.gets {
            Gets::Answer(index) => {
                let (head, body) = self.steps[index].answer(index);
                let is_to_head = self.request.starts_with(b"HEAD ") || response.status == 304;
                let body = if is_to_head { "" } else { &body };
                if response.head.is_chunked() {
                    let line = head.split("\r\n").next().expect("a status line");
                    assert_eq!(response.head.start_line, line, "{name}");
                } else {
                    // The gateway gives an answer without an id that of the request.
                    let id = response.field("x-request-id").expect("an id");
                    let raw =
                        String::from_utf8_lossy(&response.head.raw).replace(&format!("x-request-id: {id}\r\n"), "");
                    assert_eq!(shown(raw.as_bytes()), shown(head.as_bytes()), "{name}: the head");
                }
                assert_eq!(shown(&response.raw_body), shown(body.as_bytes()), "{name}: the body");
            }
            Gets::Own(status, code) => {
                assert_eq!((response.status, response.error_code()), (status, Some(code)), "{name}: {response:?}");
            }
        }
    }

    fn check_attempts(&self, log: &[String], requests: &[Request]) {
        let name = &self.name;
        let lines = lines_saying(log, "another attempt");
        let reasons: Vec<_> = lines.iter().map(|line| value_of(line, "reason").expect("a reason")).collect();
        assert_eq!(reasons, self.reasons, "{name}: the reasons");
        for (index, line) in lines.iter().enumerate() {
            assert!(line.contains(" WARN "), "{name}: {line}");
            assert_eq!(value_of(line, "attempt"), Some(&*(index + 2).to_string()), "{name}: {line}");
            let pause: f64 = value_of(line, "pause_ms").and_then(|pause| pause.parse().ok()).expect("a pause");
            let is_switch = matches!(self.reasons[index], "refused" | "rate_limited" | "quota_used_up");
            let is_right = if is_switch { pause == 0.0 } else { BACK_OFF.contains(&pause) };
            assert!(is_right, "{name}: a pause of {pause} ms");
        }
        // Where a connect failed, requests and reasons do not go in pairs.
        if lines.len() + 1 == requests.len() {
            self.check_credentials_and_pauses(&lines, requests);
        }
    }

    fn check_credentials_and_pauses(&self, lines: &[String], requests: &[Request]) {
        let name = &self.name;
        for (pair, line) in requests.windows(2).zip(lines) {
            // The log distinguishes a second entry of the same name.
            let said =
                |field| value_of(line, field).unwrap_or_default().split('#').next().unwrap_or_default().to_owned();
            assert_eq!(said("credential"), pair[0].credential(), "{name}: {line}");
            assert_eq!(said("next"), pair[1].credential(), "{name}: {line}");
            // Longer pauses than were said make the round late, in all rounds. The first is seen before it is answered.
            let pause = pair[1].at - pair[0].at;
            if value_of(line, "pause_ms") != Some("0") {
                assert!(pause >= Duration::from_millis(50), "{name}: the next attempt came {pause:?} after");
            }
            assert_eq!(pair[0].line(), pair[1].line(), "{name}");
            assert_eq!(fields(&pair[0]), fields(&pair[1]), "{name}: the same fields in the same order");
            assert!(pair[0].raw_body == pair[1].raw_body, "{name}: the body changed");
        }
    }

    fn check_cooldowns(&self, log: &[String]) {
        let name = &self.name;
        let lines = lines_saying(log, "credential cools down");
        let text = |line: &'_ String, field| value_of(line, field).unwrap_or_default().to_owned();
        let seen: Vec<_> = lines.iter().map(|line| (text(line, "credential"), text(line, "reason"))).collect();
        let wanted = self.cools.iter().map(|(credential, reason, _)| ((*credential).to_owned(), (*reason).to_owned()));
        assert_eq!(seen, wanted.collect::<Vec<_>>(), "{name}: who cools down");
        for (line, (.., seconds)) in lines.iter().zip(&self.cools) {
            assert!(line.contains(" WARN "), "{name}: {line}");
            let said: f64 = text(line, "seconds").parse().expect("a number");
            // Full seconds are logged, and a date has no fractions either.
            let passed = self.dated.map_or(0.0, |dated| dated.elapsed().as_secs_f64() + 1.0);
            assert!(
                (seconds - passed..=seconds.ceil()).contains(&said) && said > 0.0,
                "{name}: {said} s, not {seconds}"
            );
        }
    }

    fn check_exchange(&self, log: &[String]) {
        let name = &self.name;
        let lines: Vec<_> = log.iter().filter(|line| line.contains(" exchange id=")).collect();
        let [line] = lines[..] else { panic!("{name}: not one exchange: {lines:?}") };
        assert_eq!(value_of(line, "attempts"), Some(&*self.attempts().to_string()), "{name}: {line}");
        if let Gets::Answer(_) = self.gets {
            assert_eq!(value_of(line, "end"), Some("ok"), "{name}: {line}");
        }
        if self.reasons.len() + 1 == self.tried.len() {
            let said = value_of(line, "credential").unwrap_or_default().split('#').next();
            assert_eq!(said, self.tried.get(self.tried.len() - 1..), "{name}: {line}");
        }
    }

    fn check_totals(&self, totals: &Totals) {
        let name = &self.name;
        let mut wanted = vec![
            ("requests", 1),
            ("attempts", self.attempts()),
            ("stale", 0),
            ("share_exhausted", 0),
            ("copies_dropped", self.copies_dropped),
            ("cooldowns", self.cools.len() as u64),
            ("recoveries", 0),
        ];
        let reasons = ["unreachable", "upstream_closed", "write_stalled", "unavailable", "refused", "rate_limited"];
        for reason in reasons.into_iter().chain(["quota_used_up"]) {
            wanted.push((reason, self.reasons.iter().filter(|made| **made == reason).count() as u64));
        }
        for (what, count) in wanted {
            assert_eq!(totals.of(what), count, "{name}: {what} in {totals:?}");
        }
    }
}

impl Step {
    fn delay(&self) -> Duration {
        match self {
            Self::Later(time, _) => *time,
            Self::Writes(parts) => {
                let pauses = parts.iter().map(|part| if let Part::Pause(time) = part { *time } else { Duration::ZERO });
                pauses.sum()
            }
            _ => Duration::ZERO,
        }
    }
}

/// Returns the pauses that the gateway logged.
fn pauses(log: &[String]) -> Duration {
    let lines = lines_saying(log, "another attempt");
    let pauses = lines.iter().filter_map(|line| value_of(line, "pause_ms")?.parse().ok());
    pauses.map(Duration::from_millis).sum()
}

/// Returns all fields except the token's.
fn fields(request: &Request) -> Vec<String> {
    request.head.lines_without(&["Authorization", "X-Goog-Api-Key"])
}
