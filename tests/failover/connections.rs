//! Connections that fail: which requests are tried again, how often, and what the client receives when all attempts
//! failed.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{
    Client, GET, Gate, Gateway, HeldPort, OK, POST, Peer, Request, Response, Totals, Upstream, answer, check_at_once,
    lines_saying, repeat_until_undisturbed, secrets_json, value_of,
};
use crate::table::{Gets, Part, Row, Step, check, row, says, tried};

#[test]
fn a_fresh_connection_that_ends_before_the_head_is_followed_by_the_next_credential() {
    let mut rows = Vec::new();
    for step in [Step::Closes, Step::Resets, Step::ClosesInHead] {
        for is_tls in [false, true] {
            rows.push(Row {
                is_tls,
                steps: vec![step.clone(), says(200)],
                tried: "ab",
                gets: Gets::Answer(1),
                reasons: vec!["upstream_closed"],
                ..row(format!("{step:?}, 200, TLS {is_tls}"))
            });
        }
    }
    rows.push(Row {
        steps: vec![Step::Closes, Step::Resets, says(200)],
        tried: "abc",
        gets: Gets::Answer(2),
        reasons: vec!["upstream_closed"; 2],
        ..row("closed, reset, 200")
    });
    rows.push(Row {
        steps: vec![Step::Closes, Step::Closes, Step::Closes],
        tried: "abc",
        gets: Gets::Own(502, "upstream_closed"),
        reasons: vec!["upstream_closed"; 2],
        ..row("closed by all three")
    });
    rows.push(Row {
        secrets: secrets_json(&["a"]),
        steps: vec![Step::Resets, Step::Closes, says(200)],
        tried: "aaa",
        gets: Gets::Answer(2),
        reasons: vec!["upstream_closed"; 2],
        ..row("the only credential is used again")
    });
    check(&rows);
}

#[test]
fn an_answer_that_breaks_the_protocol_is_not_tried_again() {
    let broken = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx";
    check(&[Row {
        steps: vec![Step::Writes(vec![Part::Bytes(broken.into())])],
        gets: Gets::Own(502, "upstream_malformed"),
        ..row("two lengths")
    }]);
}

/// Returns the reasons in the `another attempt` lines.
fn reasons(log: &[String]) -> Vec<String> {
    let lines = lines_saying(log, "another attempt");
    lines.iter().map(|line| value_of(line, "reason").expect("a reason").to_owned()).collect()
}

/// Asks a gateway whose upstream is `url` once: three attempts that reach nobody, within the time that they may take.
fn assert_unreachable(url: &str, request: &str, code: &str) {
    let secrets = secrets_json(&["a", "b", "c"]);
    let gateway = Gateway::builder().shards(1).secrets(secrets).arg("--upstream", url);
    let mut gateway = gateway.arg("--connect-timeout", "600").arg("--retry-deadline", "600").start();
    let asked = Instant::now();
    let response = Client::connect(gateway.port()).ask(request);
    let took = asked.elapsed();
    assert_eq!((response.status, response.error_code()), (502, Some(code)), "{url}: {response:?}");
    assert!(took >= Duration::from_millis(100), "{url}: without a pause: {took:?}");
    let totals = Totals::at_the_end_of(&mut gateway);
    let log = gateway.log();
    assert_eq!(reasons(&log), ["unreachable"; 2], "{url}");
    for line in lines_saying(&log, "another attempt") {
        let pause: u64 = value_of(&line, "pause_ms").and_then(|pause| pause.parse().ok()).expect("milliseconds");
        assert!((50..=250).contains(&pause), "{line}");
    }
    let counts = ["requests", "attempts", "unreachable", "cooldowns"].map(|name| totals.of(name));
    assert_eq!(counts, [1, 3, 2, 0], "{url}: {totals:?}");
}

#[test]
fn an_upstream_that_cannot_be_reached_gets_three_attempts() {
    let refusing = HeldPort::reserve();
    let plain = Upstream::plain(|peer: &mut Peer| {
        peer.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let patch = "PATCH /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let batch = "POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    // Before its first byte was sent, every method may be tried again.
    let refused = [GET, POST, patch, batch].map(|request| (refusing.url(), request, "upstream_connect_failed"));
    let others = [
        ("https://nowhere.invalid/base".to_owned(), GET, "upstream_resolve_failed"),
        (format!("https://{}", plain.authority()), POST, "upstream_tls_failed"),
    ];
    check_at_once(refused.into_iter().chain(others), |(url, request, code)| assert_unreachable(&url, request, code));
}

#[test]
fn a_certificate_that_is_refused_is_final() {
    let upstream = Upstream::tls(answer(OK));
    let url = format!("https://{}/base", upstream.authority());
    let secrets = secrets_json(&["a", "b"]);
    let mut gateway = Gateway::builder().shards(1).secrets(secrets).arg("--upstream", url).start();
    let response = Client::connect(gateway.port()).ask(POST);
    assert_eq!((response.status, response.error_code()), (502, Some("upstream_certificate_refused")));
    assert!(response.text().contains("--upstream-ca"), "{}", response.text());
    let totals = Totals::at_the_end_of(&mut gateway);
    assert_eq!((totals.of("attempts"), upstream.connections()), (1, 1), "{totals:?}");
    assert!(reasons(&gateway.log()).is_empty());
}

/// Serves one request a connection, and gives up under the next.
fn stale_after_one(give_up: fn(&mut Peer), then: &'static str) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        if peer.read_request().is_some() {
            peer.write(if peer.number() == 0 { OK } else { then });
            if peer.read_request().is_some() {
                give_up(peer);
            }
        }
    }
}

/// Two requests of one client, of which the second meets a connection that gives up under it.
struct SecondRequest {
    requests: Vec<Request>,
    response: Response,
    log: Vec<String>,
    totals: Totals,
}

impl SecondRequest {
    /// Asks twice a gateway before an upstream of this script. Only a connection that fails within two seconds was
    /// stale: this is repeated until the request came once more within them.
    fn ask<S: Fn(&mut Peer) + Send + Sync + 'static>(script: impl Fn() -> S) -> Self {
        const STALE_LIMIT: Duration = Duration::from_secs(2);
        let mut asked = None;
        repeat_until_undisturbed(|| {
            let upstream = Upstream::plain(script());
            let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream);
            let mut gateway = gateway.arg("--upstream-idle-timeout", "600").start();
            let mut client = Client::connect(gateway.port());
            assert_eq!(client.ask(POST).text(), "ok");
            let began = Instant::now();
            let response = client.ask(POST);
            let answered = Instant::now();
            let requests = upstream.requests();
            let replayed = requests.get(2).map_or(answered, |request| request.at);
            let totals = Totals::at_the_end_of(&mut gateway);
            asked = Some(Self { requests, response, log: gateway.log(), totals });
            replayed - began < STALE_LIMIT
        });
        asked.expect("it was asked")
    }

    fn counts<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        names.map(|name| self.totals.of(name))
    }
}

#[test]
fn a_kept_alive_connection_that_fails_is_replaced_once_silently_by_the_same_credential() {
    for give_up in [Peer::close as fn(&mut Peer), Peer::close_abruptly, Peer::reset] {
        let second = SecondRequest::ask(|| stale_after_one(give_up, OK));
        assert_eq!(second.response.text(), "ok");
        assert_eq!(tried(&second.requests), "abb");
        assert!(reasons(&second.log).is_empty(), "it is no attempt");
        assert_eq!(second.counts(["requests", "attempts", "stale", "upstream_closed"]), [2, 2, 1, 0]);
    }
}

#[test]
fn a_kept_alive_connection_that_fails_within_the_head_was_not_stale() {
    let begin_and_close = |peer: &mut Peer| {
        peer.write("HTTP/1.1 200 OK\r\nConte");
    };
    let second = SecondRequest::ask(|| stale_after_one(begin_and_close, OK));
    assert_eq!(second.response.text(), "ok");
    assert_eq!(tried(&second.requests), "abc");
    assert_eq!(reasons(&second.log), ["upstream_closed"]);
    assert_eq!(second.counts(["attempts", "stale"]), [3, 0]);
}

#[test]
fn a_408_on_a_kept_alive_connection_says_that_it_was_closed_before_the_request_came() {
    const TIMEOUT: &str = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate";
    let give_up = |peer: &mut Peer| {
        peer.write(TIMEOUT);
    };
    let second = SecondRequest::ask(|| stale_after_one(give_up, TIMEOUT));
    // The fresh connection's is about the request itself.
    let response = &second.response;
    assert_eq!((response.status, response.text().as_str()), (408, "late"), "{response:?}");
    assert_eq!(tried(&second.requests), "abb");
    assert_eq!(second.counts(["attempts", "stale"]), [2, 1]);
}

/// The first connection turns stale, the second gives up under its only request, all others serve.
fn stale_and_then(give_up: fn(&mut Peer)) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| match peer.number() {
        0 => {
            peer.read_request();
            peer.write(OK);
            peer.read_request();
        }
        1 => {
            peer.read_request();
            give_up(peer);
        }
        _ => while peer.read_request().is_some() && peer.write(OK) {},
    }
}

#[test]
fn a_replay_on_a_fresh_connection_counts_as_any_attempt() {
    const UNAVAILABLE: &str = "HTTP/1.1 503 Later\r\nConnection: close\r\nContent-Length: 3\r\n\r\n503";
    let say_later = |peer: &mut Peer| {
        peer.write(UNAVAILABLE);
    };
    let second = SecondRequest::ask(|| stale_and_then(say_later));
    assert_eq!(second.response.text(), "ok");
    assert_eq!(tried(&second.requests), "abbc");
    assert_eq!(reasons(&second.log), ["unavailable"]);
    assert_eq!(second.counts(["requests", "attempts", "stale"]), [2, 3, 1]);
}

#[test]
fn a_replay_that_fails_too_is_followed_by_the_next_credential() {
    let second = SecondRequest::ask(|| stale_and_then(Peer::reset));
    assert_eq!(second.response.text(), "ok");
    assert_eq!(tried(&second.requests), "abbc");
    assert_eq!(reasons(&second.log), ["upstream_closed"]);
    assert_eq!(second.counts(["requests", "attempts", "stale"]), [2, 3, 1]);
}

#[test]
fn the_next_attempt_follows_the_turn_only_of_its_own_request() {
    // Retries do not tick: the exchange after one that was retried takes the next turn all the same.
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let is_first = request.path().ends_with("/first") && request.credential() == "a";
            peer.write(if is_first { "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n" } else { OK });
        }
    });
    let secrets = secrets_json(&["a", "b", "c"]);
    let gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask("GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    for _ in 0..4 {
        assert_eq!(client.ask(GET).status, 200);
    }
    assert_eq!(tried(&upstream.requests()), "abbcab");
}

/// Answers that have begun: what was sent on cannot be taken back.
#[test]
fn nothing_is_tried_again_once_an_answer_has_begun() {
    let sse = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
               1a\r\ndata: {\"delta\":\"a word\"}\n\n\r\n";
    let content = "data: {\"delta\":\"a word\"}\n\n\r\n";
    for (begun, part) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", "\r\n\r\nx"),
        (sse, content),
    ] {
        for give_up in [Peer::close_abruptly as fn(&mut Peer), Peer::reset] {
            let gone_downstream = Gate::new();
            let waiting = gone_downstream.clone();
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                if peer.read_request().is_some() {
                    peer.write(begun);
                    waiting.pass();
                    give_up(peer);
                }
            });
            let secrets = secrets_json(&["a", "b", "c"]);
            let mut gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).start();
            let mut client = Client::connect(gateway.port());
            let response = client.send(POST).read_response_after(part.as_bytes(), || gone_downstream.open());
            assert_eq!(response.status, 200, "{begun:?}");
            let totals = Totals::at_the_end_of(&mut gateway);
            assert_eq!((totals.of("attempts"), upstream.requests().len()), (1, 1), "{begun:?}: {totals:?}");
        }
    }
}

#[test]
fn another_address_of_the_same_name_is_no_further_attempt() {
    // `localhost` may be ::1 first, where nobody listens, and nobody else can.
    let hold = |port: u16| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, port)).into()).map(|()| socket)
    };
    // Without IPv6 there is nothing to hold.
    let is_free = |held: &io::Result<Socket>| !held.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    let upstreams = (0..10).map(|_| Upstream::plain(answer(OK)));
    let mut held = upstreams.map(|upstream| (hold(upstream.port()), upstream));
    let (_held, upstream) = held.find(|(held, _)| is_free(held)).expect("a port that nobody listens on");
    let url = format!("http://localhost:{}/flow-llm-proxy", upstream.port());
    let mut gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).arg("--upstream", url).start();
    assert_eq!(Client::connect(gateway.port()).ask(POST).text(), "ok");
    let totals = Totals::at_the_end_of(&mut gateway);
    assert_eq!(["attempts", "unreachable"].map(|name| totals.of(name)), [1, 0], "{totals:?}");
}

#[test]
fn after_a_failure_on_a_pooled_connection_the_request_goes_out_on_a_fresh_one() {
    // Each connection serves one request, and is lost 2.1 s after the next: too late to have been stale.
    const AT_ONCE: usize = 4;
    let all_have_come = std::sync::Barrier::new(AT_ONCE);
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.read_request().is_none() {
            return;
        }
        if peer.number() < AT_ONCE {
            all_have_come.wait();
        }
        if peer.write(OK) && peer.read_request().is_some() {
            peer.sleep(Duration::from_millis(2100));
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream);
    let mut gateway = gateway.arg("--upstream-idle-timeout", "600").start();
    check_at_once([POST; AT_ONCE], |request| assert_eq!(Client::connect(gateway.port()).ask(request).status, 200));
    assert_eq!(Client::connect(gateway.port()).ask(POST).status, 200);
    let totals = Totals::at_the_end_of(&mut gateway);
    let counts = ["attempts", "stale", "upstream_closed"].map(|name| totals.of(name));
    assert_eq!(counts, [AT_ONCE as u64 + 2, 0, 1], "{totals:?}");
}
