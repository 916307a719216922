//! The second that a drain leaves to clients which are about to send a request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::drain::{SURELY_WITHIN_GRACE, streaming_until, wait_for_refused_connections};
use crate::support::{Client, Ended, GET, Gateway, LIVENESS, POST, Upstream, json, repeat_until_undisturbed};

#[test]
fn a_client_between_two_requests_or_before_its_first_has_a_second_for_the_next() {
    for driver in ["auto", "epoll"] {
        repeat_until_undisturbed(|| {
            let upstream = Upstream::plain(json(200, "{}"));
            let builder = Gateway::builder().shards(1).upstream(&upstream).arg("--io-driver", driver);
            // Nothing but the second ends a wait within the time limit of the clients.
            let mut gateway = builder.arg("--keepalive-timeout", "600").arg("--drain-timeout", "600").start();
            let clients = || {
                let new = Client::connect(gateway.port());
                // They are accepted after it, so it is accepted now.
                let mut rested = Client::connect(gateway.port());
                rested.ask(LIVENESS);
                let mut brisk = Client::connect(gateway.port());
                (0..3).for_each(|_| _ = brisk.ask(LIVENESS));
                [("new", new), ("rested", rested), ("brisk", brisk)]
            };
            let (asking, silent) = (clients(), clients());
            let asked_to_stop = Instant::now();
            gateway.terminate();
            wait_for_refused_connections(&gateway);
            // Longer than a read is kept pending between two requests.
            thread::sleep(Duration::from_millis(300));
            for (what, mut client) in asking {
                let sent = client.try_send(GET);
                if asked_to_stop.elapsed() >= SURELY_WITHIN_GRACE {
                    return false;
                }
                sent.expect("the gateway waits for it");
                let response = client.read_response();
                assert_eq!((response.status, response.field("connection")), (200, Some("close")), "{driver} {what}");
            }
            for (what, mut client) in silent {
                assert_eq!(client.expect_close(), Ended::Eof, "{driver} {what}");
                let closed_after = asked_to_stop.elapsed();
                assert!(closed_after > SURELY_WITHIN_GRACE, "{driver} {what}: closed after {closed_after:?}");
            }
            assert_eq!(gateway.wait().code(), Some(0));
            true
        });
    }
}

#[test]
fn a_client_whose_answer_began_before_the_drain_has_a_second_for_its_next_request() {
    for driver in ["auto", "epoll"] {
        repeat_until_undisturbed(|| {
            let is_over = Arc::default();
            let upstream = Upstream::tls(streaming_until(&is_over));
            let builder = Gateway::builder().shards(1).upstream(&upstream).patient().arg("--io-driver", driver);
            let mut gateway = builder.start();
            let mut client = Client::connect(gateway.port());
            client.send(POST);
            let response = client.read_response_after(b"}\n\n\r\n", || {
                gateway.terminate();
                wait_for_refused_connections(&gateway);
                // The grace of those that were idle is over.
                thread::sleep(Duration::from_millis(1200));
                is_over.store(true, Ordering::SeqCst);
            });
            assert!(response.is_whole, "{driver}: {response:?}");
            let ended = Instant::now();
            thread::sleep(Duration::from_millis(300));
            let sent = client.try_send(LIVENESS);
            if ended.elapsed() >= SURELY_WITHIN_GRACE {
                return false;
            }
            sent.expect("the answer has promised that the connection goes on");
            let response = client.read_response();
            assert_eq!((response.status, response.field("connection")), (200, Some("close")), "{driver}");
            assert_eq!(client.expect_close(), Ended::Eof, "{driver}");
            assert_eq!(gateway.wait().code(), Some(0));
            true
        });
    }
}
