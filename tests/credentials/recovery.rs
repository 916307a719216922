//! Credentials that fail under load: every client is answered, those that fail are left alone, and one that works again
//! takes its turns again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, Gateway, Peer, Request, Totals, Upstream, lines_saying, repeat_until_undisturbed, secrets_json,
    value_of,
};

const REQUESTS: usize = 1000;
const AT_ONCE: usize = 50;

/// The time for which the second credential is rate limited.
const LIMITED_FOR: Duration = Duration::from_secs(1);
/// The time that a good answer takes: the run must last longer than the cooldown.
const THINKING: Duration = Duration::from_millis(100);

/// The time for which a refused credential is left alone while it is not known whose fault that was.
const SUSPICION_LIMIT: Duration = Duration::from_secs(1);

/// One attempt, as the upstream saw it.
#[derive(Debug, Clone)]
struct Attempt {
    at: Instant,
    answered: Instant,
    credential: String,
    /// The request's own number, whichever attempt it is.
    number: usize,
    status: u16,
}

#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<Vec<Attempt>>>);

impl Attempts {
    fn all(&self) -> Vec<Attempt> {
        let mut all = self.0.lock().expect("nobody panics with it").clone();
        all.sort_by_key(|attempt| attempt.at);
        all
    }

    /// An upstream that answers with the status that `status` gives, and notes it.
    fn upstream(&self, status: impl Fn(&Request) -> (u16, Duration) + Send + Sync + 'static) -> Upstream {
        let noted = self.clone();
        Upstream::plain(move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                let (status, after) = status(&request);
                peer.sleep(after);
                let field = if status == 429 { "Retry-After: 1\r\n" } else { "" };
                let number = request.head.field("x-number").and_then(|number| number.parse().ok()).expect("a number");
                let (at, credential) = (request.at, request.credential());
                let answered = Instant::now();
                noted.0.lock().expect("nobody panics with it").push(Attempt {
                    at,
                    answered,
                    credential,
                    number,
                    status,
                });
                peer.write(format!("HTTP/1.1 {status} Told\r\n{field}Content-Length: 2\r\n\r\nok"));
            }
        })
    }
}

fn post(path: &str, number: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Number: {number}\r\nContent-Length: 2\r\n\r\n{{}}")
}

/// A request of a client, and the status it got.
#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Instant,
    status: u16,
}

/// Asks for all numbers below `count`, `AT_ONCE` at a time, and returns the outcomes by number.
fn ask_all(gateway: &Gateway, count: usize, path: impl Fn(usize) -> &'static str + Sync) -> Vec<Asked> {
    let next = Mutex::new(0..count);
    let answered = Mutex::new(vec![None; count]);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut client = Client::connect_unrecorded(gateway.port()).with_deadline(4 * DEADLINE);
                loop {
                    let Some(number) = next.lock().expect("nobody panics with it").next() else { return };
                    let at = Instant::now();
                    let status = client.ask(post(path(number), number)).status;
                    answered.lock().expect("nobody panics with it")[number] = Some(Asked { at, status });
                }
            });
        }
    });
    answered
        .into_inner()
        .expect("nobody panics with it")
        .into_iter()
        .map(|asked| asked.expect("all were asked"))
        .collect()
}

/// Returns the attempts with this credential that were decided on at `from` or later: not before the client asked, and
/// not before the previous attempt was answered. Their arrival says less, as they may have been under way for long.
fn decided_from<'a>(all: &'a [Attempt], asked: &[Asked], credential: &str, from: Instant) -> Vec<&'a Attempt> {
    let is_later = |attempt: &&Attempt| {
        let earlier = all.iter().filter(|other| other.number == attempt.number && other.at < attempt.at);
        let decided = earlier.map(|other| other.answered).max().unwrap_or(asked[attempt.number].at);
        attempt.credential == credential && decided >= from
    };
    all.iter().filter(is_later).collect()
}

fn split(attempts: &[Attempt], name: &str) -> usize {
    attempts.iter().filter(|attempt| attempt.credential == name).count()
}

#[test]
fn failing_credentials_cost_no_request_and_a_recovered_one_takes_its_turns_again() {
    let attempts = Attempts::default();
    let limited_since = Mutex::new(None::<Instant>);
    let upstream = attempts.upstream(move |request| match &*request.credential() {
        "refused" => (401, Duration::ZERO),
        "limited" => {
            let mut since = limited_since.lock().expect("nobody panics with it");
            let is_limited = since.get_or_insert_with(Instant::now).elapsed() < LIMITED_FOR;
            if is_limited { (429, Duration::ZERO) } else { (200, THINKING) }
        }
        _ => (200, THINKING),
    });
    let names = ["refused", "limited", "good"];
    let mut gateway = Gateway::builder().secrets(secrets_json(&names)).upstream(&upstream).start();
    let (asked, news) = thread::scope(|scope| {
        let seen = |line: &'static str| {
            let gateway = &gateway;
            scope.spawn(move || {
                gateway.wait_for_log(line);
                Instant::now()
            })
        };
        let watching = [
            seen(" reason=refused credential=\"refused\" "),
            seen("credential cools down credential=\"refused\""),
            seen("credential cools down credential=\"limited\""),
        ];
        let asked = ask_all(&gateway, REQUESTS, |_| "/v1/chat/completions");
        let [refused, refused_cools, limited_cools] = watching.map(|seen| seen.join().expect("the log says so"));
        (asked, News { refused, refused_cools, limited_cools })
    });
    assert!(asked.iter().all(|asked| asked.status == 200), "{asked:?}");
    let all = attempts.all();
    assert_refused_is_left_alone(&all, &asked, &news);
    assert_limited_is_left_alone(&all, &asked, &news);

    // Mostly it has recovered already.
    let (until, mut more) = (Instant::now() + DEADLINE, 0);
    while gateway.count_log("credential works again") == 0 {
        assert!(Instant::now() < until, "it does not come back");
        more += ask_all(&gateway, 10, |_| "/v1/chat/completions").len();
    }
    let before = attempts.all().len();
    let asked = ask_all(&gateway, 300, |_| "/v1/chat/completions");
    assert!(asked.iter().all(|asked| asked.status == 200), "{asked:?}");
    let later = attempts.all().split_off(before);
    let (limited, good) = (split(&later, "limited"), split(&later, "good"));
    println!("after the recovery: {limited} and {good}, {more} asked meanwhile");
    assert_eq!((limited + good, later.len()), (300, 300), "one attempt each");
    assert!(limited.abs_diff(good) <= 30, "{limited} and {good} of 300");

    let totals = Totals::at_the_end_of(&mut gateway);
    println!("{totals:?}");
    let refused = all.iter().filter(|attempt| attempt.status == 401).count() as u64;
    let rate_limited = all.iter().filter(|attempt| attempt.status == 429).count() as u64;
    let counts = ["requests", "refused", "rate_limited", "recoveries"].map(|name| totals.of(name));
    assert_eq!(counts, [1300 + more as u64, refused, rate_limited, 1], "{totals:?}");
}

/// The times at which the test saw these lines in the gateway's log: whatever is decided later takes them into account.
struct News {
    /// The line that says that a credential was refused.
    refused: Instant,
    refused_cools: Instant,
    limited_cools: Instant,
}

/// Returns when the first answer of this status was sent: no consequence of it began earlier.
fn answered_first(all: &[Attempt], status: u16) -> Instant {
    all.iter().filter(|attempt| attempt.status == status).map(|attempt| attempt.answered).min().expect("one")
}

/// Already the first refusal casts a suspicion on it, long before a request that it was refused for gets another
/// answer.
fn assert_refused_is_left_alone(all: &[Attempt], asked: &[Asked], news: &News) {
    let suspected_until = answered_first(all, 401) + SUSPICION_LIMIT;
    let mut while_suspected = decided_from(all, asked, "refused", news.refused);
    while_suspected.retain(|attempt| attempt.at < suspected_until);
    assert!(while_suspected.is_empty(), "used after it was refused: {while_suspected:#?}");
    let while_cooling = decided_from(all, asked, "refused", news.refused_cools);
    assert!(while_cooling.is_empty(), "used after it was blamed: {while_cooling:#?}");
}

fn assert_limited_is_left_alone(all: &[Attempt], asked: &[Asked], news: &News) {
    let until = answered_first(all, 429) + LIMITED_FOR;
    let used = decided_from(all, asked, "limited", news.limited_cools);
    let (during, after): (Vec<_>, Vec<_>) = used.into_iter().partition(|attempt| attempt.at < until);
    println!("used {} times after its cooldown", after.len());
    assert!(during.is_empty(), "used while it cools down: {during:#?}");
}

#[test]
fn a_request_that_all_refuse_ejects_nobody() {
    const WRONG: &str = "/v1/messages";
    let attempts = Attempts::default();
    let upstream =
        attempts.upstream(
            |request| if request.path().ends_with(WRONG) { (401, Duration::ZERO) } else { (200, Duration::ZERO) },
        );
    let names = ["a", "b", "c"];
    let mut gateway = Gateway::builder().secrets(secrets_json(&names)).upstream(&upstream).start();
    let is_wrong = |number: usize| number.is_multiple_of(5);
    let asked = ask_all(&gateway, REQUESTS, |number| if is_wrong(number) { WRONG } else { "/v1/chat/completions" });
    for (number, asked) in asked.into_iter().enumerate() {
        assert_eq!(asked.status, if is_wrong(number) { 401 } else { 200 }, "request {number}");
    }
    let all = attempts.all();
    for number in (0..REQUESTS).filter(|number| is_wrong(*number)) {
        let mut tried: Vec<&str> =
            all.iter().filter(|attempt| attempt.number == number).map(|attempt| &*attempt.credential).collect();
        tried.sort_unstable();
        assert_eq!(tried, names, "request {number}");
    }
    let totals = Totals::at_the_end_of(&mut gateway);
    let cooldowns = lines_saying(&gateway.log(), "credential cools down");
    assert!(
        cooldowns.is_empty(),
        "{:?}",
        cooldowns.iter().map(|line| value_of(line, "credential")).collect::<Vec<_>>()
    );
    let counts = ["requests", "attempts", "refused", "cooldowns"].map(|name| totals.of(name));
    assert_eq!(counts, [1000, 1400, 400, 0], "{totals:?}");
    // Every request takes one turn, so that the good ones are spread evenly, whatever becomes of the others.
    let good: Vec<Attempt> = all.iter().filter(|attempt| attempt.status == 200).cloned().collect();
    for name in names {
        assert!(split(&good, name).abs_diff(800 / 3) <= 40, "{name}: {} of 800", split(&good, name));
    }
}

#[test]
fn requests_that_all_refuse_do_not_hold_up_the_good_ones() {
    const WRONG: &str = "/v1/messages";
    const REFUSING_TAKES: Duration = Duration::from_millis(100);
    const WRONG_AT_ONCE: usize = 20;
    /// Less than a request waits for others, for a probe or a suspicion.
    const HELD_UP: Duration = Duration::from_millis(500);
    repeat_until_undisturbed(|| {
        let attempts = Attempts::default();
        let refusing = |request: &Request| {
            if request.path().ends_with(WRONG) { (401, REFUSING_TAKES) } else { (200, Duration::ZERO) }
        };
        let upstream = attempts.upstream(refusing);
        let mut gateway = Gateway::builder().secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream).start();
        let is_over = AtomicBool::new(false);
        let mut took: Vec<Duration> = thread::scope(|scope| {
            for number in 0..WRONG_AT_ONCE {
                let (gateway, is_over) = (&gateway, &is_over);
                scope.spawn(move || {
                    let mut client = Client::connect_unrecorded(gateway.port());
                    while !is_over.load(Ordering::SeqCst) {
                        assert_eq!(client.ask(post(WRONG, number)).status, 401);
                    }
                });
            }
            upstream.wait_for_requests(WRONG_AT_ONCE);
            let mut client = Client::connect_unrecorded(gateway.port());
            let mut ask = |number: usize| {
                let asked = Instant::now();
                let status = client.ask(post("/v1/chat/completions", number)).status;
                let took = asked.elapsed();
                // The bad ones may go round the credentials in step: the good ones meet them at each.
                thread::sleep(REFUSING_TAKES / 10);
                (status, took)
            };
            let seen: Vec<(u16, Duration)> = (1000..1100).map(&mut ask).collect();
            is_over.store(true, Ordering::SeqCst);
            assert!(seen.iter().all(|(status, _)| *status == 200), "{seen:?}");
            seen.into_iter().map(|(_, took)| took).collect()
        });
        let good: Vec<Attempt> = attempts.all().into_iter().filter(|attempt| attempt.status == 200).collect();
        assert_eq!(good.len(), 100, "one attempt each");
        for name in ["a", "b", "c"] {
            assert!(split(&good, name) >= 10, "{name}: {} of 100", split(&good, name));
        }
        assert_eq!(Totals::at_the_end_of(&mut gateway).of("cooldowns"), 0);
        assert_eq!(gateway.count_log("credential is probed"), 0, "others would wait for it");
        took.sort();
        println!("good requests among bad ones: {:?} in the middle, {:?} at most", took[50], took[99]);
        // A busy machine holds some of them up too.
        took[66] < HELD_UP
    });
}
