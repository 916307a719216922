//! More requests than a shard can do: those that have waited too long are refused at once, those that were let in go on,
//! and a pause of the whole process refuses nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{
    Client, EVENT, EVENT_STREAM, Gate, Gateway, LIVENESS, OK, POST, Peer, Upstream, check_at_once, json, value_of,
};

const BEGINS: &str = "overloaded: for a second all requests have waited longer than 500 ms";
const ENDS: &str = "no longer overloaded";

/// Longer than the wait that is too long where it lasts.
const TOO_LONG: Duration = Duration::from_millis(700);
/// Longer than the time after which it lasts.
const LASTING: Duration = Duration::from_millis(1_300);

/// An answer to this request lasts until the test lets it end.
const STREAM: &str = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{\"stream\":true}";

/// Clients that connect and ask at the same time: several times as many as a shard accepts in one turn. More are tried
/// if it has come to all of them before it could be stopped.
const CLIENT_COUNTS: [usize; 3] = [400, 800, 1_600];

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

/// A request that takes more than one read, and fits into a socket of a gateway that is stopped.
fn long_post() -> String {
    const LENGTH: usize = 40_000;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
    format!("{head}Content-Length: {LENGTH}\r\n\r\n{}", " ".repeat(LENGTH))
}

/// Asks by `count` new connections of a gateway that does a part of its work, and the next part more than a second
/// later: none of them has waited for less than what is too long.
fn ask_more_than_it_can_do(gateway: &Gateway, upstream: &Upstream, count: usize) -> Vec<Client> {
    gateway.freeze();
    let clients = (0..count).map(|number| {
        let mut client = Client::connect(gateway.port());
        // Some bodies do not come with their heads.
        client.send(if number % 10 == 0 { long_post() } else { POST.into() });
        client
    });
    let clients = clients.collect();
    thread::sleep(TOO_LONG);
    let served_before = upstream.requests().len();
    gateway.signal(libc::SIGCONT);
    upstream.wait_for_requests(served_before + 1);
    gateway.freeze();
    thread::sleep(LASTING);
    gateway.signal(libc::SIGCONT);
    clients
}

/// Reads the answers of all. Returns those that were refused, and the number of those that were served.
fn refused_of(clients: Vec<Client>) -> (Vec<Client>, usize) {
    let (mut refused, mut served) = (Vec::new(), 0);
    for mut client in clients {
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
    (refused, served)
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

        let mut overloads = CLIENT_COUNTS.iter().map(|count| {
            let (refused, served) = refused_of(ask_more_than_it_can_do(&gateway, &upstream, *count));
            println!("{driver}: {served} served, {} refused", refused.len());
            assert!(served > 0);
            refused
        });
        let mut refused = overloads.find(|refused| !refused.is_empty()).expect("some are refused");
        let ended = gateway.wait_for_log(ENDS);
        assert_eq!(value_of(&ended, "refused"), Some(refused.len().to_string().as_str()), "{ended}");
        let counted = format!("flow_uring_errors_total{{code=\"overloaded\"}} {}\n", refused.len());
        assert!(gateway.metrics().contains(&counted), "no {counted}");

        // Whoever tries again is served, on the same connection too.
        for client in &mut refused {
            assert_eq!(client.ask(POST).status, 200);
        }
        assert_eq!(Client::connect(gateway.port()).ask(POST).status, 200);
        ends_streams.store(true, Ordering::SeqCst);
        assert!(stream.read_until("0\r\n\r\n").ends_with(b"data: 1\n\n\r\n0\r\n\r\n"), "a stream that was open");
        assert_eq!(gateway.count_log(BEGINS), 1);
    });
}

#[test]
fn what_a_stopped_process_finds_when_it_goes_on_is_served() {
    const STOPS: usize = 3;
    // Few: their work takes much less than a second, also on a machine that has little time.
    const CLIENTS: usize = 20;
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
            thread::sleep(LASTING);
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
        thread::sleep(TOO_LONG);
        gate.open();
        assert_eq!(client.read_response().status, 200);
    }
    assert_eq!(client.ask(LIVENESS).status, 200);
    assert_eq!(gateway.count_log(BEGINS), 0);
}
