//! Limits on the time that a client takes: for a head, between two requests, and for each part of a body.

use std::thread;
use std::time::Instant;

use crate::support::{Client, Ended, LIVENESS, OK, Upstream, answer, check_at_once, repeat_until_undisturbed, shown};
use crate::{DRIVERS, LIMIT, Pace, builder, check_both, read_up_to};

const SECONDS: &str = "1";

/// The end of the gateway's own answer to [`LIVENESS`].
const LIVENESS_END: &str = "}";

/// Sends the parts of requests for [`LIVENESS`], each at half of the limit after the one before; true where all were
/// answered, in a round that proves something.
fn is_served_in_parts(client: &mut Client, parts: &[&str], count: usize) -> Option<bool> {
    let pace = Pace::default();
    let seen: Vec<_> = (0..count)
        .map(|_| {
            for part in parts {
                let _ = pace.act(|| client.try_send(part));
            }
            read_up_to(client, LIVENESS_END)
        })
        .collect();
    pace.was_kept()
        .then(|| seen.iter().all(|(received, ended)| received.starts_with(b"HTTP/1.1 200") && ended.is_none()))
}

#[test]
fn each_head_has_its_time_from_its_first_byte_on() {
    let upstream = Upstream::plain(answer(OK));
    let (start, end) = LIVENESS.split_at(LIVENESS.len() / 2);
    check_at_once(DRIVERS, |driver| {
        let gateway = builder(driver, &upstream).arg("--head-timeout", SECONDS).start();
        let within = || {
            repeat_until_undisturbed(|| {
                // Before its first byte there is no head; after it, each byte takes from the same time.
                let mut client = Client::connect(gateway.port());
                assert!(client.is_quiet_for(LIMIT * 5 / 4), "{driver}");
                client.send(&LIVENESS[..1]);
                let is_served = is_served_in_parts(&mut client, &[&LIVENESS[1..]], 1);
                let goes_on = is_served_in_parts(&mut client, &[LIVENESS], 2);
                assert!(is_served != Some(false) && goes_on != Some(false), "{driver}");
                is_served.is_some() && goes_on.is_some()
            });
        };
        let beyond = || {
            let mut client = Client::connect(gateway.port());
            assert_eq!(client.ask(LIVENESS).status, 200);
            let begun = Instant::now();
            client.send(start);
            thread::sleep(LIMIT * 3 / 4);
            let _ = client.try_send(&end[..1]);
            let refusal = client.read_response();
            assert!(begun.elapsed() >= LIMIT, "{driver}: after {:?}", begun.elapsed());
            assert_eq!((refusal.status, refusal.error_code()), (408, Some("head_timeout")), "{driver}");
            assert_eq!(client.expect_close(), Ended::Eof, "{driver}");
            gateway.wait_for_log("end=timeout code=head_timeout");
        };
        check_both(within, beyond);
    });
}

#[test]
fn a_connection_may_rest_up_to_its_limit_before_each_request() {
    let upstream = Upstream::plain(answer(OK));
    check_at_once(DRIVERS, |driver| {
        let gateway = builder(driver, &upstream).arg("--keepalive-timeout", SECONDS).start();
        let within = || {
            repeat_until_undisturbed(|| {
                let is_served = is_served_in_parts(&mut Client::connect(gateway.port()), &[LIVENESS], 4);
                assert_ne!(is_served, Some(false), "{driver}");
                is_served.is_some()
            });
        };
        let beyond = || {
            // One that has sent a request, and one that has sent none.
            let begun = Instant::now();
            let (mut served, mut silent) = (Client::connect(gateway.port()), Client::connect(gateway.port()));
            assert_eq!(served.ask(LIVENESS).status, 200);
            for client in [&mut silent, &mut served] {
                assert_eq!(client.expect_close(), Ended::Eof, "{driver}");
                assert!(begun.elapsed() >= LIMIT, "{driver}: after {:?}", begun.elapsed());
            }
        };
        check_both(within, beyond);
    });
}

#[test]
fn each_part_of_a_body_has_its_time() {
    const PARTS: usize = 5;
    let framings = ["Content-Length: 6\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n6\r\nx"];
    let cases = DRIVERS.into_iter().flat_map(|driver| framings.map(|framing| (driver, framing)));
    check_at_once(cases, |(driver, framing)| {
        let request = format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\n{framing}");
        let end = if framing.contains("chunked") { "\r\n0\r\n\r\n" } else { "" };
        let within = || {
            let upstream = Upstream::plain(answer(OK));
            let gateway = builder(driver, &upstream).arg("--body-timeout", SECONDS).start();
            repeat_until_undisturbed(|| {
                let (mut client, pace) = (Client::connect(gateway.port()), Pace::default());
                client.send(&request);
                for _ in 0..PARTS {
                    let _ = pace.act(|| client.try_send("x"));
                }
                let _ = client.try_send(end);
                let (received, ended) = read_up_to(&mut client, "ok");
                assert!(!pace.was_kept() || ended.is_none(), "{driver}, {framing}: {}", shown(&received));
                pace.was_kept()
            });
            assert_eq!(upstream.requests().last().map(|request| request.body.clone()), Some(b"xxxxxx".to_vec()));
        };
        let beyond = || {
            let upstream = Upstream::plain(answer(OK));
            let gateway = builder(driver, &upstream).arg("--body-timeout", SECONDS).start();
            let mut client = Client::connect(gateway.port());
            let begun = Instant::now();
            client.send(&request);
            let refusal = client.read_response();
            assert!(begun.elapsed() >= LIMIT, "{driver}: after {:?}", begun.elapsed());
            assert_eq!((refusal.status, refusal.error_code()), (408, Some("body_timeout")), "{driver}, {framing}");
            assert_eq!(client.expect_close(), Ended::Eof, "{driver}, {framing}");
            gateway.wait_for_log("end=timeout code=body_timeout");
            upstream.wait_for_close(0);
            assert!(!upstream.request().raw_body.ends_with(b"0\r\n\r\n"), "{driver}: its end was made up");
        };
        check_both(within, beyond);
    });
}
