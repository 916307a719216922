//! Answers made from a seed go through four gateways, on both drivers and with the pump and without: what the client
//! gets and what the log says is the same, byte for byte, but where two ends race.
//!
//! `PUMP_SEED` makes the same answers again, and `PUMP_CASES` more of them.

use std::env;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cases::{Case, Conduct, End, Framing, Way};
use super::{DRIVERS, ListenerFiles, client_tls};
use crate::support::{
    Client, Ended, Event, Gate, Gateway, LIVENESS, Peer, Upstream, is_error_event, parse_events, shown, value_of,
};

/// Answers of one run: some 15 ms each.
const CASES: u64 = 60;

/// The pause of a client that stops to read.
const STOP: Duration = Duration::from_millis(15);

/// The most that one write takes: what one read brought.
const WRITE_BYTES_MAX: usize = 36 * 1024;

/// Gateways that all answers go through.
const GATEWAYS: usize = 4;

/// All that can be seen of one exchange.
#[derive(Debug, PartialEq)]
struct Seen {
    head: String,
    body: Vec<u8>,
    ended: Option<Ended>,
    /// Of its line in the log.
    status: String,
    end: String,
    bytes: usize,
}

impl Seen {
    fn without_body(&self) -> (&str, Option<Ended>, &str, &str, usize) {
        (&self.head, self.ended, &self.status, &self.end, self.bytes)
    }
}

#[test]
fn what_comes_from_a_plain_upstream_is_the_same_with_the_pump_and_without() {
    assert_same(false, false);
}

#[test]
fn what_comes_from_an_upstream_over_tls_is_the_same_with_the_pump_and_without() {
    assert_same(true, false);
}

#[test]
fn what_goes_to_a_client_over_tls_is_the_same_with_the_pump_and_without() {
    assert_same(false, true);
}

fn number_of(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn assert_same(upstream_is_tls: bool, client_is_tls: bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let seed = number_of("PUMP_SEED").unwrap_or(now);
    println!("PUMP_SEED={seed}");
    let count = number_of("PUMP_CASES").unwrap_or(CASES);
    let cases: Arc<Vec<Case>> = Arc::new((0..count).map(|number| Case::make(seed.wrapping_add(number))).collect());
    let gates_of = |_| (0..count).map(|_| Gate::new()).collect();
    let gates: Arc<Vec<Vec<Gate>>> = Arc::new((0..GATEWAYS).map(gates_of).collect());
    let script = script(Arc::clone(&cases), Arc::clone(&gates));
    let upstream = if upstream_is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
    let files = ListenerFiles::new();
    let gateways = DRIVERS.into_iter().flat_map(|driver| [(driver, "never"), (driver, "always")]);
    let seen: Vec<Vec<Seen>> = thread::scope(|scope| {
        let runs: Vec<_> = gateways
            .enumerate()
            .map(|(index, (driver, pump))| {
                let (upstream, files, cases, gates) = (&upstream, &files, &cases, &gates[index]);
                scope.spawn(move || {
                    let builder = Gateway::builder().shards(1).upstream(upstream).patient();
                    let builder = builder.arg("--pump", pump).arg("--io-driver", driver);
                    let builder = if client_is_tls { files.named_for(builder) } else { builder };
                    let gateway = builder.start();
                    let run = |(number, case)| run(&gateway, index, number, case, &gates[number], client_is_tls);
                    cases.iter().enumerate().map(run).collect()
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().expect("each case has an end")).collect()
    });
    for (number, case) in cases.iter().enumerate() {
        let [reference, others @ ..] = [0, 1, 2, 3].map(|gateway: usize| &seen[gateway][number]);
        println!("{number}: {case:?}");
        for seen in others.into_iter().chain([reference]) {
            assert_possible(case, seen);
            if !case.is_a_race() {
                assert_eq!(shown(&seen.body), shown(&reference.body));
                assert_eq!(seen.without_body(), reference.without_body());
                assert!(seen.body == reference.body, "{} bytes, not {}", seen.body.len(), reference.body.len());
            }
        }
    }
}

/// Sends the case that a request asks for.
fn script(cases: Arc<Vec<Case>>, gates: Arc<Vec<Vec<Gate>>>) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        while let Some(request) = peer.read_request() {
            let number = |name: &str| {
                let (_, value) = request.path().split_once(name).expect("a number");
                value.split('&').next().and_then(|value| value.parse::<usize>().ok()).expect("a number")
            };
            let (case, gate) = (&cases[number("case=")], &gates[number("gateway=")][number("case=")]);
            let mut pieces = case.pieces();
            let (first, rest) = case.wire.split_at(case.first);
            let first = [case.head.as_bytes(), first].concat();
            peer.write_in_pieces(case.parts(&first).into_iter(), &mut pieces);
            gate.pass();
            if !peer.write_in_pieces(case.parts(rest).into_iter(), &mut pieces) {
                return;
            }
            match case.end {
                End::Whole if case.framing != Framing::Close => {}
                End::Whole | End::Close => return peer.close(),
                End::Truncation => return peer.close_abruptly(),
                End::Reset => {
                    gate.pass();
                    return peer.reset();
                }
                End::ResetAtOnce => return peer.reset(),
                End::Silence => return peer.wait_for_close(),
            }
        }
    }
}

/// Lets a client have one case of a gateway.
fn run(gateway: &Gateway, index: usize, number: usize, case: &Case, gate: &Gate, is_tls: bool) -> Seen {
    let (path, tls) = (case.path, client_tls());
    let tls = is_tls.then_some(&tls);
    let mut client = match case.conduct {
        Conduct::ReadsSlowly | Conduct::LeavesMeanwhile(_) => Client::connect_narrow(gateway.port(), tls),
        Conduct::Reads | Conduct::Leaves(_) => {
            Client::over(TcpStream::connect(("127.0.0.1", gateway.port())).expect("the gateway listens"), tls)
        }
    };
    let last = "Connection: close\r\nX-Request-Id: same\r\n\r\n";
    let end_of_head = if case.has_second { "X-Request-Id: same\r\n\r\n" } else { last };
    client.send(format!(
        "POST {path}?gateway={index}&case={number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n{end_of_head}{{}}"
    ));
    let head = client.read_head().lines_without(&[]).join("\n");
    let mut body = Vec::new();
    assert_eq!(client.read_at_least(case.first, &mut body), None, "{number}: {case:?}");
    if case.has_second {
        client.send(LIVENESS.replace("\r\n\r\n", &format!("\r\n{last}")));
    }
    gate.open();
    let ended = follow(client, case, gate, &mut body);
    // The requests that the gateway answers itself have another path.
    gateway.wait_for_log_count(" path=/v1", number + 1);
    let log = gateway.log();
    let line = log.iter().filter(|line| line.contains(" path=/v1")).nth(number).expect("as many lines");
    let value = |name| value_of(line, name).unwrap_or_default().to_owned();
    let bytes = value("bytes_out").parse().expect("a number");
    Seen { head, body, ended, status: value("status"), end: value("end"), bytes }
}

/// Reads as the case says, and returns how it ended; `None` where the client left.
fn follow(mut client: Client, case: &Case, gate: &Gate, body: &mut Vec<u8>) -> Option<Ended> {
    match case.conduct {
        Conduct::Reads => {}
        Conduct::ReadsSlowly => {
            for stop in 0..3 {
                thread::sleep(STOP);
                let some = body.len() + case.wire.len().saturating_sub(body.len()) / (4 - stop);
                if let Some(ended) = client.read_at_least(some, body) {
                    return Some(ended);
                }
            }
        }
        Conduct::Leaves(way) => {
            assert_eq!(client.read_at_least(case.wire.len(), body), None, "{case:?}");
            leave(client, way, body);
            return None;
        }
        Conduct::LeavesMeanwhile(way) => {
            if let Some(ended) = client.read_at_least(case.first + case.wire.len() / 3, body) {
                return Some(ended);
            }
            leave(client, way, body);
            return None;
        }
    }
    if case.end == End::Reset {
        assert_eq!(client.read_at_least(case.wire.len(), body), None, "{case:?}");
        gate.open();
    }
    client.read_at_least(usize::MAX, body)
}

/// Leaves. Who still reads gets a close or a reset, by whether the gateway has read all of the goodbye.
fn leave(mut client: Client, way: Way, body: &mut Vec<u8>) {
    match way {
        Way::Close => drop(client),
        Way::Reset => {
            client.reset();
        }
        Way::HalfClose | Way::Goodbye => {
            client.say_goodbye();
            if way == Way::HalfClose || !client.is_tls() {
                client.half_close();
            }
            client.read_at_least(usize::MAX, body);
        }
    }
}

/// Checks what holds whoever is faster.
fn assert_possible(case: &Case, seen: &Seen) {
    let Seen { head, body, ended, status, end, bytes } = seen;
    let shown = format!("{end} {ended:?} {bytes} {}", shown(body));
    assert!(head.contains("Content-Type: "), "{head}");
    assert_eq!(status, "200", "{shown}");
    assert!(*bytes <= case.content.len(), "{shown}");
    let is_departure = matches!(case.conduct, Conduct::Leaves(_) | Conduct::LeavesMeanwhile(_));
    let common = body.iter().zip(&case.wire).take_while(|(seen, sent)| seen == sent).count();
    if case.end == End::Whole && !is_departure {
        assert_eq!((common, end.as_str(), *bytes), (case.wire.len(), "ok", case.content.len()), "{shown}");
        assert_eq!(body[common..].starts_with(b"HTTP/1.1 200 OK\r\n"), case.has_second, "{shown}");
        assert_eq!(*ended, Some(Ended::Eof), "{shown}");
        return;
    }
    let ends = match (is_departure, case.end) {
        (true, _) => &["ok", "client_disconnected"][..],
        // A turn that is complete ends well whatever follows.
        (false, End::Silence) => &["ok", "upstream_invalid"],
        (false, _) => &["ok", "upstream_closed"],
    };
    assert!(ends.contains(&end.as_str()), "{shown}");
    assert!(common >= case.first, "{shown}");
    if is_departure {
        assert_eq!(common, body.len(), "more than was sent {shown}");
        // All is counted but for the write that is under way.
        assert!(bytes + WRITE_BYTES_MAX >= body.len() * 9 / 10, "{shown}");
    } else if case.has_events && case.framing != Framing::Known && end != "upstream_invalid" {
        assert_ends_well(case, seen, &shown);
    }
}

/// The client reads events that were sent, in their order, and then at most one that was half sent and an error event.
fn assert_ends_well(case: &Case, seen: &Seen, shown: &str) {
    let body = if case.framing == Framing::Chunked { decoded(&seen.body, shown) } else { seen.body.clone() };
    let (sent, read) = (parse_events(&case.content), parse_events(&body));
    let common = read.iter().zip(&sent).take_while(|(read, sent)| read == sent).count();
    let after: &[Event] = &read[common..];
    let has_error = after.last().is_some_and(|last| is_error_event(last, case.path));
    assert!(after.len() <= 2 && (has_error || seen.end == "ok" || common == sent.len()), "{shown}");
    assert_eq!(seen.ended, Some(Ended::Eof), "{shown}");
}

/// Decodes a chunked body, which must be whole.
fn decoded(raw: &[u8], shown: &str) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::new(), raw);
    loop {
        let line_end = memchr::memmem::find(rest, b"\r\n").unwrap_or_else(|| panic!("no size line: {shown}"));
        let line = String::from_utf8_lossy(&rest[..line_end]);
        let digits = line.split(';').next().expect("one part");
        let length = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no size {line:?}: {shown}"));
        rest = &rest[line_end + 2..];
        if length == 0 {
            assert!(rest.ends_with(b"\r\n"), "no end: {shown}");
            return decoded;
        }
        assert!(rest.len() >= length + 2 && &rest[length..length + 2] == b"\r\n", "no whole chunk: {shown}");
        decoded.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
}
