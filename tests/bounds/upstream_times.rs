//! Limits on the time that the upstream takes: to connect, for the head of its answer, for each part of the body, and how
//! long its connections rest.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::{
    Client, EVENT, EVENT_STREAM, Ended, GET, OK, Peer, Upstream, answer, check_at_once, repeat_until_undisturbed, shown,
};
use crate::{DRIVERS, LIMIT, Pace, builder, check_both, read_up_to};

const SECONDS: &str = "1";

/// Listens before an upstream, and counts who connects. Lasts as long as the test's process.
fn listen_before(take: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let (take, count) = (Arc::new(take), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            counted.fetch_add(1, Ordering::SeqCst);
            let take = Arc::clone(&take);
            thread::spawn(move || take(socket));
        }
    });
    (address, count)
}

/// Passes all bytes on in both directions.
fn join(socket: &TcpStream, port: u16) {
    let Ok(onward) = TcpStream::connect(("127.0.0.1", port)) else { return };
    thread::scope(|scope| {
        scope.spawn(|| io::copy(&mut &*socket, &mut &onward));
        scope.spawn(|| io::copy(&mut &onward, &mut &*socket));
    });
}

#[test]
fn a_connect_has_its_time_and_is_tried_three_times() {
    check_at_once(DRIVERS, |driver| {
        let upstream = Upstream::tls(answer(OK));
        let port = upstream.port();
        let begin = |address: String| {
            let gateway = builder(driver, &upstream).arg("--upstream-addr", address);
            gateway.arg("--connect-timeout", SECONDS).arg("--retry-deadline", "600").start()
        };
        let within = || {
            repeat_until_undisturbed(|| {
                let pace = Pace::default();
                let late = pace.clone();
                let (address, count) = listen_before(move |socket| {
                    late.act(|| ());
                    join(&socket, port);
                });
                let response = Client::connect(begin(address).port()).ask(GET);
                let seen = (response.status, count.load(Ordering::SeqCst));
                assert!(!pace.was_kept() || seen == (200, 1), "{driver}: {seen:?}");
                pace.was_kept()
            })
        };

        let beyond = || {
            let (address, count) = listen_before(|mut socket| drop(socket.read_to_end(&mut Vec::new())));
            let gateway = begin(address);
            let (begun, mut client) = (Instant::now(), Client::connect(gateway.port()));
            let response = client.ask(GET);
            assert!(begun.elapsed() >= 3 * LIMIT, "{driver}: after {:?}", begun.elapsed());
            assert_eq!((response.status, response.error_code()), (504, Some("upstream_connect_timeout")), "{driver}");
            assert_eq!(count.load(Ordering::SeqCst), 3, "{driver}");
            let line = gateway.wait_for_log("code=upstream_connect_timeout");
            assert!(line.contains(" attempts=3 ") && line.contains(" end=timeout "), "{line}");
            assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200, "{driver}: it goes on");
        };
        check_both(within, beyond);
    });
}

#[test]
fn the_head_of_an_answer_has_its_time_from_the_last_byte_of_the_request_on() {
    check_at_once(DRIVERS, |driver| {
        let within = || {
            repeat_until_undisturbed(|| {
                let pace = Pace::default();
                let thinking = pace.clone();
                let upstream = Upstream::plain(move |peer: &mut Peer| {
                    if peer.read_request().is_some() {
                        thinking.act(|| peer.write(OK));
                        peer.wait_for_close();
                    }
                });
                let gateway = builder(driver, &upstream).arg("--client-timeout", SECONDS).start();
                let mut client = Client::connect(gateway.port());
                client.send("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nx");
                for _ in 0..4 {
                    let _ = pace.act(|| client.try_send("x"));
                }
                let (received, ended) = read_up_to(&mut client, "ok");
                assert!(!pace.was_kept() || ended.is_none(), "{driver}: {}", shown(&received));
                pace.was_kept()
            })
        };

        let beyond = || {
            // Interim answers are no answer: they lengthen nothing.
            let upstream = Upstream::plain(|peer: &mut Peer| {
                peer.read_request();
                for _ in 0..14 {
                    peer.write("HTTP/1.1 103 Early Hints\r\n\r\n");
                    peer.sleep(LIMIT / 2);
                }
                peer.wait_for_close();
            });
            let gateway = builder(driver, &upstream).arg("--client-timeout", SECONDS).start();
            let (begun, mut client) = (Instant::now(), Client::connect(gateway.port()));
            let response = client.ask(GET);
            assert!(begun.elapsed() >= LIMIT, "{driver}: after {:?}", begun.elapsed());
            assert_eq!((response.status, response.error_code()), (504, Some("upstream_timeout")), "{driver}");
            assert!((1..14).contains(&response.interim.len()), "{driver}: they kept it waiting: {response:?}");
            let line = gateway.wait_for_log("code=upstream_timeout");
            assert!(line.contains(" attempts=1 ") && line.contains(" end=timeout "), "{line}");
            assert_eq!(upstream.connections(), 1, "{driver}");
        };
        check_both(within, beyond);
    });
}

/// Bodies of an answer: the head, a part, and what makes them whole.
const BODIES: [(&str, &str, &str); 4] = [
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "x", ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "0\r\n\r\n"),
    (EVENT_STREAM, EVENT, "0\r\n\r\n"),
    ("HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\n", "x", ""),
];

/// The number of parts of each.
const PARTS: usize = 5;

#[test]
fn each_part_of_an_answers_body_has_its_time() {
    let cases = DRIVERS.into_iter().flat_map(|driver| BODIES.map(|body| (driver, body)));
    check_at_once(cases, |(driver, (head, part, end))| {
        let within = || {
            repeat_until_undisturbed(|| {
                let pace = Pace::default();
                let slow = pace.clone();
                let upstream = Upstream::plain(move |peer: &mut Peer| {
                    peer.read_request();
                    peer.write([head, part].concat());
                    for _ in 1..PARTS {
                        slow.act(|| peer.write(part));
                    }
                    peer.write(end);
                    peer.wait_for_close();
                });
                let gateway = builder(driver, &upstream).arg("--client-timeout", SECONDS).start();
                let response = Client::connect(gateway.port()).ask(GET);
                assert!(!pace.was_kept() || response.is_whole, "{driver}: {response:?}");
                pace.was_kept()
            })
        };
        let beyond = || {
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                peer.read_request();
                peer.write([head, part].concat());
                peer.wait_for_close();
            });
            let gateway = builder(driver, &upstream).arg("--client-timeout", SECONDS).start();
            let (begun, mut client) = (Instant::now(), Client::connect(gateway.port()));
            let response = client.ask(GET);
            assert!(begun.elapsed() >= LIMIT, "{driver}: after {:?}", begun.elapsed());
            assert!(!response.is_whole && response.ended == Ended::Eof, "{driver}: {response:?}");
            assert_eq!(response.raw_body, part.as_bytes(), "{driver}");
            upstream.wait_for_close(0);
            gateway.wait_for_log("end=timeout");
        };
        check_both(within, beyond);
    });
}

#[test]
fn an_upstream_connection_may_rest_up_to_its_limit_before_each_request() {
    let requests = 4;
    check_at_once(DRIVERS, |driver| {
        repeat_until_undisturbed(|| {
            let (upstream, pace) = (Upstream::plain(answer(OK)), Pace::default());
            let gateway = builder(driver, &upstream).arg("--upstream-idle-timeout", SECONDS).start();
            for _ in 0..requests {
                assert_eq!(pace.act(|| Client::connect(gateway.port()).ask(GET)).text(), "ok", "{driver}");
            }
            assert!(!pace.was_kept() || upstream.connections() == 1, "{driver}: {}", upstream.connections());
            if !pace.was_kept() {
                return false;
            }
            let age = upstream.wait_for_close(0) - upstream.requests()[requests - 1].at;
            assert!(age >= LIMIT, "{driver}: closed after {age:?}");
            assert_eq!(Client::connect(gateway.port()).ask(GET).text(), "ok", "{driver}");
            assert_eq!(upstream.connections(), 2, "{driver}");
            true
        });
    });
}
