//! Failover over time: the limits after which nothing is tried again, and the growth of cooldowns. The long tests wait
//! together.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, GET, Gateway, Peer, Request, Totals, Upstream, lines_saying, secrets_json, value_of,
};
use crate::table::{Gets, Row, Step, check, later, row, says, tried};

#[test]
fn no_attempt_starts_after_the_retry_deadline() {
    let flags = vec![("--retry-deadline", "1".to_owned())];
    let slow = Duration::from_millis(1100);
    check(&[
        Row { flags: flags.clone(), steps: vec![later(slow, says(503))], ..row("503 after it") },
        Row { flags: flags.clone(), steps: vec![later(slow, says(401))], ..row("401 after it") },
        Row { flags: flags.clone(), steps: vec![later(slow, says(429))], ..row("429 after it") },
        Row {
            flags,
            steps: vec![later(slow, Step::Closes)],
            gets: Gets::Own(502, "upstream_closed"),
            ..row("closed after it")
        },
        Row {
            flags: vec![("--retry-deadline", "60".to_owned())],
            steps: vec![says(401), says(503), says(200)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["refused", "unavailable"],
            cools: vec![("a", "refused", 300.0)],
            ..row("all within it")
        },
    ]);
}

#[test]
fn what_takes_long() {
    const HALF: Duration = Duration::from_millis(8100);
    let long = [
        // Fifteen seconds after the attempt's start, a failure is no longer one that passes by itself.
        Row { steps: vec![later(Duration::from_secs(16), says(504))], ..row("504 after 16 s") },
        Row {
            steps: vec![later(Duration::from_secs(16), Step::Closes)],
            gets: Gets::Own(502, "upstream_closed"),
            ..row("closed after 16 s")
        },
        Row {
            steps: vec![later(Duration::from_secs(8), says(503)), says(200)],
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["unavailable"],
            patience: Duration::from_secs(6),
            ..row("503 after 8 s")
        },
        // Neither answer comes after the deadline of its own attempt, but the second after that of both.
        Row {
            flags: vec![("--retry-deadline", "16".to_owned())],
            steps: vec![later(HALF, says(503)), later(HALF, says(502))],
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["unavailable"],
            patience: Duration::from_secs(6),
            ..row("the second answer comes after the retry deadline")
        },
        // A refused credential is followed by another one all the same.
        Row {
            steps: vec![later(Duration::from_secs(16), says(401)), says(200)],
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["refused"],
            cools: vec![("a", "refused", 300.0)],
            ..row("401 after 16 s")
        },
    ];
    thread::scope(|scope| {
        for row in &long {
            scope.spawn(|| row.check());
        }
        scope.spawn(assert_cooldown_doubles);
        scope.spawn(assert_late_loss_is_an_attempt);
    });
}

/// A kept-alive connection that is lost more than two seconds after the request has not just been stale.
fn assert_late_loss_is_an_attempt() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream = Upstream::plain(|peer: &mut Peer| {
        if peer.read_request().is_some() && peer.write(OK) && peer.read_request().is_some() {
            peer.sleep(Duration::from_millis(2500));
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream);
    let mut gateway = gateway.arg("--upstream-idle-timeout", "600").start();
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(GET).status, 200);
    assert_eq!(client.ask(GET).status, 200);
    assert_eq!(tried(&upstream.requests()), "abc");
    let totals = Totals::at_the_end_of(&mut gateway);
    let counts = ["attempts", "stale", "upstream_closed"].map(|name| totals.of(name));
    assert_eq!(counts, [3, 0, 1], "{totals:?}");
}

/// A credential that is rate limited without being told for how long cools down for 30 s, then for 60.
fn assert_cooldown_doubles() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let status = if request.credential() == "a" { "429 Too Many" } else { "200 OK" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let began = Instant::now();
    let with_a = || upstream.requests().iter().filter(|request| request.credential() == "a").count();
    let ask = || assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    ask();
    assert_eq!(tried(&upstream.requests()), "ab");
    while with_a() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30) + DEADLINE, "the cooldown does not end");
        thread::sleep(Duration::from_millis(250));
        ask();
    }
    let of_a = |request: &Request| (request.credential() == "a").then_some(request.at);
    let probed = upstream.requests().iter().filter_map(of_a).next_back().expect("two") - began;
    assert!(probed >= Duration::from_secs(30), "probed after {probed:?}");
    gateway.wait_for_log("credential is probed");
    gateway.wait_for_log("seconds=60");
    let lines = lines_saying(&gateway.log(), "credential cools down");
    let seconds: Vec<_> = lines.iter().map(|line| value_of(line, "seconds").expect("seconds")).collect();
    assert_eq!(seconds, ["30", "60"]);
    let log = gateway.log();
    assert!(lines_saying(&log, "credential works again").is_empty());
    // It cools down again: the turns are the other's.
    for _ in 0..4 {
        ask();
    }
    assert_eq!(with_a(), 2);
}
