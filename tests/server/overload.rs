//! More requests than a shard can do: those that have waited too long are refused at once, those that were let in go on,
//! and a pause of the whole process refuses nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, EVENT, EVENT_STREAM, Gate, Gateway, LIVENESS, OK, POST, Peer, Upstream, check_at_once, json,
};

const BEGINS: &str = "overloaded: for a second all requests have waited longer than 100 ms";
const ENDS: &str = "no longer overloaded";

/// An answer to this request lasts until the test lets it end.
const STREAM: &str = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{\"stream\":true}";

/// Clients that ask at the same time. Their requests take a tenth of a second of a core at the least, and the gateway
/// has a twentieth of one.
const CLIENTS: usize = 2_500;

fn upstream(ends_streams: &Arc<AtomicBool>) -> Upstream {
    let ends_streams = ends_streams.clone();
    Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.path().ends_with("/messages") {
                peer.write(format!("{EVENT_STREAM}{EVENT}"));
                while !ends_streams.load(Ordering::SeqCst) {
                    peer.sleep(Duration::from_millis(10));
                }
                peer.write(format!("{EVENT}0\r\n\r\n"));
            } else {
                peer.write(OK);
            }
        }
    })
}

/// A request that takes more than one read.
fn long_post() -> String {
    const LENGTH: usize = 100_000;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
    format!("{head}Content-Length: {LENGTH}\r\n\r\n{}", " ".repeat(LENGTH))
}

/// Lets the gateway run for a part of the time only, as a container whose quota is small, until `is_over`.
fn throttle(gateway: &Gateway, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        gateway.freeze();
        thread::sleep(Duration::from_millis(20));
        gateway.signal(libc::SIGCONT);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Asks by new connections until the gateway says that it has more to do than it can.
fn overload(gateway: &Gateway) -> Vec<Client> {
    let (is_over, until) = (AtomicBool::new(false), Instant::now() + 2 * DEADLINE);
    thread::scope(|scope| {
        scope.spawn(|| throttle(gateway, &is_over));
        let mut clients = Vec::new();
        while gateway.count_log(BEGINS) == 0 && Instant::now() < until {
            if clients.len() < CLIENTS {
                clients.extend((0..50).map(|number| {
                    let mut client = Client::connect(gateway.port());
                    // Some bodies do not come with their heads.
                    client.send(if number % 10 == 0 { long_post() } else { POST.into() });
                    client
                }));
            } else {
                thread::sleep(Duration::from_millis(5));
            }
        }
        is_over.store(true, Ordering::SeqCst);
        clients
    })
}

#[test]
fn under_more_load_than_it_can_take_a_shard_refuses_what_has_waited_and_goes_on_with_the_rest() {
    check_at_once(["auto", "epoll"], |driver| {
        let ends_streams = Arc::new(AtomicBool::new(false));
        let upstream = upstream(&ends_streams);
        let builder = Gateway::builder().shards(1).upstream(&upstream).arg("--io-driver", driver);
        let gateway = builder.arg("--admin", "127.0.0.1:0").start();
        let mut stream = Client::connect(gateway.port());
        stream.send(STREAM);
        stream.read_until("data: 1");
        let mut clients = overload(&gateway);
        gateway.wait_for_log(BEGINS);

        let mut refused = Vec::new();
        let mut served = 0;
        for mut client in clients.drain(..) {
            let answer = client.read_response();
            if answer.status == 200 {
                served += 1;
                continue;
            }
            assert_eq!((answer.status, answer.error_code()), (503, Some("overloaded")), "{answer:?}");
            assert_eq!(answer.field("retry-after"), Some("1"));
            assert_eq!(answer.field("connection"), None, "the connection lives on");
            assert_eq!(answer.json()["error"]["code"], "overloaded");
            refused.push(client);
        }
        println!("{driver}: {served} served, {} refused", refused.len());
        assert!(!refused.is_empty() && served > 0, "{served} served, {} refused", refused.len());

        // Whoever tries again is served, on the same connection too.
        for client in &mut refused {
            assert_eq!(client.ask(POST).status, 200);
        }
        assert_eq!(Client::connect(gateway.port()).ask(POST).status, 200);
        ends_streams.store(true, Ordering::SeqCst);
        assert!(stream.read_until("0\r\n\r\n").ends_with(b"data: 1\n\n\r\n0\r\n\r\n"), "a stream that was open");
        let end = gateway.wait_for_log(ENDS);
        assert!(end.contains(&format!("refused={}", refused.len())), "{end}");
        let counted = format!("flow_uring_errors_total{{code=\"overloaded\"}} {}", refused.len());
        assert!(gateway.metrics().contains(&counted), "no {counted}");
        assert_eq!(gateway.count_log(BEGINS), 1);
    });
}

#[test]
fn what_a_stopped_process_finds_when_it_goes_on_is_served() {
    const STOPS: usize = 3;
    const CLIENTS: usize = 100;
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once(["auto", "epoll"], |driver| {
        let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--io-driver", driver).start();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(gateway.port())).collect();
        for _ in 0..STOPS {
            gateway.freeze();
            for client in &mut clients {
                client.send(POST);
            }
            let mut new = Client::connect(gateway.port());
            new.send(POST);
            // Longer than the interval after which a queue is one that stands.
            thread::sleep(Duration::from_millis(1_300));
            gateway.signal(libc::SIGCONT);
            for client in clients.iter_mut().chain([&mut new]) {
                assert_eq!(client.read_response().status, 200, "{driver}");
            }
        }
        assert_eq!(gateway.count_log(BEGINS), 0);
    });
}

#[test]
fn requests_that_come_before_the_answer_to_the_last_one_have_not_waited_for_the_shard() {
    let gate = Gate::new();
    let passed = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            passed.pass();
            peer.write(OK);
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(POST.repeat(4));
    // Each is answered long after the next one has come.
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(700));
        gate.open();
        assert_eq!(client.read_response().status, 200);
    }
    assert_eq!(client.ask(LIVENESS).status, 200);
    assert_eq!(gateway.count_log(BEGINS), 0);
}
