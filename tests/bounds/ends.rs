//! What an end waits for: a drain for open answers, and the close of a connection for what its client still sends.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, EVENT, EVENT_STREAM, Ended, GET, OK, Peer, Upstream, answer, check_at_once,
    repeat_until_undisturbed,
};
use crate::{DRIVERS, LIMIT, MIB, Pace, builder, check_both};

/// The time for which a connection whose client may still send is read from before its close, and that in a drain.
pub const LINGER: Duration = Duration::from_secs(5);
pub const LINGER_IN_A_DRAIN: Duration = Duration::from_secs(1);

/// What is read from it at most.
pub const LINGER_BYTES: usize = 256 * MIB;

/// The most that the sockets between a client and the gateway hold.
const IN_SOCKETS: usize = 32 * MIB;

/// The beginning of a request whose body is too large, and that does not come.
const TOO_LARGE: &str = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n";

#[test]
fn an_answer_that_ends_within_the_drain_is_whole_and_one_that_does_not_is_cut() {
    check_at_once(DRIVERS, |driver| {
        repeat_until_undisturbed(|| {
            let pace = Pace::default();
            let late = pace.clone();
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                let Some(request) = peer.read_request() else { return };
                peer.write([EVENT_STREAM, EVENT].concat());
                if request.path().ends_with("/within") {
                    late.act(|| peer.write("0\r\n\r\n"));
                }
                peer.wait_for_close();
            });
            let mut gateway = builder(driver, &upstream).arg("--drain-timeout", "1").start();
            let [mut within, mut beyond] = ["within", "beyond"].map(|name| {
                let mut client = Client::connect(gateway.port());
                client.send(format!("GET /v1/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                client
            });
            upstream.wait_for_requests(2);
            let begun = Instant::now();
            gateway.terminate();
            let (response, cut) = (within.read_response(), beyond.read_response());
            let took = begun.elapsed();
            assert!(gateway.wait().success(), "{driver}");
            assert!(took >= LIMIT && !cut.is_whole, "{driver}: after {took:?}: {cut:?}");
            assert!(!pace.was_kept() || response.is_whole, "{driver}: {response:?}");
            let line = gateway.wait_for_log("the drain limit has passed");
            assert!(!pace.was_kept() || line.contains("open_exchanges=1"), "{line}");
            assert!(!pace.was_kept() || gateway.count_log("end=shutdown") == 1, "{driver}");
            pace.was_kept()
        });
    });
}

/// A client whose request was refused, and that has not closed.
fn refused(port: u16) -> Client {
    let mut client = Client::connect_unrecorded(port);
    let refusal = client.ask(TOO_LARGE);
    assert_eq!((refusal.status, refusal.field("connection")), (413, Some("close")));
    assert_eq!(client.read_to_end(), (Vec::new(), Ended::Eof), "its end follows at once");
    client
}

/// Sends a byte now and then until it is answered by a reset, and returns how long that took.
fn read_from_for(mut client: Client, begun: Instant) -> Duration {
    while client.try_send("x").is_ok() {
        assert!(begun.elapsed() < DEADLINE, "it is read from for ever");
        thread::sleep(Duration::from_millis(50));
    }
    begun.elapsed()
}

#[test]
fn a_refused_client_may_go_on_sending_for_its_time() {
    let upstream = Upstream::plain(answer(OK));
    check_at_once(DRIVERS, |driver| {
        let serving = || {
            let gateway = builder(driver, &upstream).start();
            let begun = Instant::now();
            let took = read_from_for(refused(gateway.port()), begun);
            assert!(took >= LINGER, "{driver}: closed after {took:?}");
        };
        let draining = || {
            let mut gateway = builder(driver, &upstream).start();
            let client = refused(gateway.port());
            let begun = Instant::now();
            gateway.terminate();
            let took = read_from_for(client, begun);
            assert!(took >= LINGER_IN_A_DRAIN, "{driver}: closed after {took:?}");
            assert!(gateway.wait().success(), "{driver}");
        };
        check_both(serving, draining);
    });
}

#[test]
fn of_a_refused_client_no_more_is_read_than_a_body_may_have() {
    let upstream = Upstream::plain(answer(OK));
    let part = vec![b'x'; MIB];
    check_at_once(DRIVERS, |driver| {
        let gateway = builder(driver, &upstream).start();
        let begun = Instant::now();
        let mut client = refused(gateway.port());
        let mut sent = 0;
        while client.try_send(&part).is_ok() {
            sent += part.len();
            assert!(sent <= LINGER_BYTES + IN_SOCKETS, "{driver}: it is read from for ever");
        }
        // A slow machine meets the other limit first.
        assert!(sent >= LINGER_BYTES || begun.elapsed() >= LINGER, "{driver}: {sent} bytes in {:?}", begun.elapsed());
        assert_eq!(Client::connect(gateway.port()).ask(GET).text(), "ok", "{driver}: it goes on");
    });
}
