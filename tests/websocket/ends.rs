//! The ends of a tunnel: half-closes, closes, resets, silence and sides that take nothing.

use std::thread;
use std::time::{Duration, Instant};

use super::frame::{Frame, asked, text};
use super::{counting, echo_bytes, open, sample, switched};
use crate::support::{CERTIFICATES, Client, Gate, Gateway, Upstream, check_at_once, secrets_json, wait_until};

/// The limit of the contract, with an order of magnitude to spare on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn each_side_may_end_its_direction_and_still_receive() {
    for driver in ["auto", "epoll"] {
        for is_tls in [false, true] {
            let script = switched(|peer| {
                // The client ends first; more is said to it.
                assert_eq!(peer.read_to_end(), b"bye");
                peer.write("not yet");
            });
            let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
            let gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
            let mut client = Client::connect(gateway.port());
            open(&mut client, "/v1/x");
            client.send("bye").half_close();
            assert_eq!(client.read_to_end().0, b"not yet", "{driver} {is_tls}");

            let upstream = Upstream::plain(switched(|peer| {
                peer.write("bye");
                peer.half_close();
                assert_eq!(peer.read_until("and you").as_deref(), Some(&b"and you"[..]));
            }));
            let gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
            let mut client = Client::connect(gateway.port());
            open(&mut client, "/v1/x");
            assert_eq!(client.read_to_end().0, b"bye");
            client.send("and you").half_close();
            gateway.wait_for_log("bytes_in=7 bytes_out=3");
        }
    }
}

#[test]
fn a_client_that_leaves_frees_the_upstream_at_once() {
    for driver in ["auto", "epoll"] {
        for resets in [false, true] {
            let upstream = Upstream::plain(switched(|peer| peer.wait_for_close()));
            let gateway = counting(&upstream).arg("--io-driver", driver).start();
            let mut client = Client::connect(gateway.port());
            open(&mut client, "/v1/x");
            let left = if resets { client.reset() } else { client.close() };
            let closed = upstream.wait_for_close(0);
            assert!(closed.saturating_duration_since(left) < AT_ONCE, "{driver} {resets}");
            let line = gateway.wait_for_log("status=101");
            assert!(line.contains("end=client_disconnected"), "{line}");
            wait_until("no socket is open", || sample(&gateway, "flow_uring_websockets_open") == 0.0);
        }
    }
}

#[test]
fn a_client_that_resets_while_the_upstream_takes_nothing_frees_it_at_once() {
    check_at_once(["auto", "epoll"], |driver| {
        let (gate, held) = (Gate::new(), Gate::new());
        let waits = (gate.clone(), held.clone());
        let upstream = Upstream::plain(switched(move |peer| {
            // Nothing is read meanwhile.
            waits.0.pass();
            peer.read_to_end();
            waits.1.open();
        }));
        let gateway = counting(&upstream).arg("--io-driver", driver).start();
        let mut client = Client::connect_unrecorded(gateway.port());
        open(&mut client, "/v1/x");
        let sending = thread::spawn(move || {
            let block = vec![b'x'; 64 * 1024];
            // Until nothing more is taken.
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until && client.try_send_within(&block, Duration::from_millis(300)) {}
            client.reset();
        });
        sending.join().expect("sent");
        let line = gateway.wait_for_log("status=101");
        assert!(line.contains("end=client_disconnected"), "{line}");
        gate.open();
        held.pass();
    });
}

#[test]
fn an_upstream_that_leaves_frees_the_client_at_once() {
    for driver in ["auto", "epoll"] {
        for resets in [false, true] {
            let gate = Gate::new();
            let waits = gate.clone();
            let upstream = Upstream::plain(switched(move |peer| {
                waits.pass();
                if resets {
                    peer.reset();
                }
            }));
            let gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
            let mut client = Client::connect(gateway.port());
            open(&mut client, "/v1/x");
            let left = Instant::now();
            gate.open();
            client.expect_close();
            assert!(left.elapsed() < AT_ONCE, "{driver} {resets}");
            drop(client);
            let line = gateway.wait_for_log("status=101");
            assert!(line.contains("end=upstream_closed"), "{line}");
        }
    }
}

#[test]
fn what_an_upstream_said_before_it_was_lost_is_brought() {
    let upstream = Upstream::plain(switched(|peer| {
        peer.write([text("last"), Frame::close(1011, "gone").plain()].concat());
        peer.reset();
    }));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    open(&mut client, "/v1/x");
    let (bytes, _) = client.read_to_end();
    assert_eq!(bytes, [text("last"), Frame::close(1011, "gone").plain()].concat());
    drop(client);
    let line = gateway.wait_for_log("status=101");
    assert!(line.contains("end=ok"), "{line}");
}

#[test]
fn a_socket_that_both_sides_close_ends_well() {
    let upstream = Upstream::plain(switched(|peer| {
        let close = Frame::close(1000, "");
        peer.read_until(close.masked());
        peer.write(close.plain());
    }));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    open(&mut client, "/v1/x");
    client.send(Frame::close(1000, "").masked());
    client.read_until(Frame::close(1000, "").plain());
    client.expect_close();
    drop(client);
    let line = gateway.wait_for_log("status=101");
    assert!(line.contains("end=ok"), "{line}");
}

#[test]
fn a_socket_on_which_nothing_moves_ends_after_the_limit_and_one_on_which_something_does_goes_on() {
    check_at_once(["auto", "epoll"], |driver| {
        let upstream = Upstream::plain(switched(echo_bytes));
        let builder = Gateway::builder().upstream(&upstream).arg("--io-driver", driver);
        let gateway = builder.arg("--client-timeout", "1").start();
        let mut client = Client::connect(gateway.port());
        open(&mut client, "/v1/x");
        let began = Instant::now();
        for _ in 0..6 {
            thread::sleep(Duration::from_millis(300));
            client.send("x");
            assert_eq!(client.read_up_to(1), b"x");
        }
        let moved = Instant::now();
        assert!(began.elapsed() > Duration::from_millis(1500));
        client.expect_close();
        assert!(moved.elapsed() >= Duration::from_millis(900));
        drop(client);
        assert!(gateway.wait_for_log("status=101").contains("end=timeout"));
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up_and_memory_stays_bounded() {
    let upstream = Upstream::plain(switched(|peer| {
        let block = vec![b'x'; 256 * 1024];
        while peer.write(&block) {}
    }));
    let gateway = Gateway::builder().upstream(&upstream).arg("--client-timeout", "1").start();
    let mut client = Client::connect_narrow(gateway.port(), None);
    open(&mut client, "/v1/x");
    let before = gateway.rss_kib();
    // It holds what it holds from the moment on from which nothing is taken, until the limit.
    wait_until("it is given up", || {
        assert!(gateway.rss_kib() < before + 4096);
        gateway.count_log("status=101") == 1
    });
    let line = gateway.wait_for_log("status=101");
    assert!(line.contains("end=timeout"), "{line}");
    upstream.wait_for_close(0);
}

#[test]
fn a_reload_leaves_open_sockets_as_they_are() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let mut gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    open(&mut client, "/v1/x");
    gateway.rewrite_secrets(&secrets_json(&["other"]));
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("removed alpha");
    client.send("still here");
    assert_eq!(client.read_until("still here"), b"still here");
    open(&mut Client::connect(gateway.port()), "/v1/x");
    client.half_close();
    client.read_to_end();
    assert!(gateway.wait_for_log("bytes_in=10").contains("credential=\"alpha\""));
    gateway.wait_for_log("credential=\"other\"");
}

#[test]
fn large_messages_go_both_ways_at_the_same_time() {
    const BYTES: usize = 8 * 1024 * 1024;
    check_at_once([(false, "auto"), (true, "auto"), (false, "epoll"), (true, "epoll")], |(is_tls, driver)| {
        let script = switched(echo_bytes);
        let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
        let gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
        let mut client = Client::connect_unrecorded(gateway.port());
        open(&mut client, "/v1/x");
        let block: Vec<u8> = (0..64 * 1024).map(|index| u8::try_from(index % 251).expect("small")).collect();
        let mut came = 0;
        for _ in 0..BYTES / block.len() {
            client.send(&block);
            let mut echoed = Vec::new();
            assert_eq!(client.read_at_least(block.len(), &mut echoed), None);
            assert!(echoed == block);
            came += echoed.len();
        }
        assert_eq!(came, BYTES);
        drop(client);
        assert!(gateway.wait_for_log("status=101").contains(&format!("bytes_in={BYTES} bytes_out={BYTES}")));
    });
}

#[test]
fn many_sockets_cost_little_and_leave_nothing() {
    const SOCKETS: usize = 200;
    let upstream = Upstream::plain(switched(echo_bytes));
    let gateway = counting(&upstream).shards(1).start();
    let descriptors = gateway.open_descriptors();
    let open_one = || {
        let mut client = Client::connect_unrecorded(gateway.port());
        open(&mut client, "/v1/x");
        client.send(asked("hello"));
        client.read_until(asked("hello"));
        client
    };
    drop((0..20).map(|_| open_one()).collect::<Vec<_>>());
    wait_until("all have ended", || sample(&gateway, "flow_uring_websockets_open") == 0.0);
    let before = gateway.rss_kib();
    let clients: Vec<Client> = (0..SOCKETS).map(|_| open_one()).collect();
    thread::sleep(Duration::from_millis(200));
    let each = (gateway.rss_kib().saturating_sub(before)) * 1024 / SOCKETS as u64;
    println!("{each} bytes each");
    assert!(each <= 16 * 1024, "{each} bytes");
    assert_eq!(sample(&gateway, "flow_uring_websockets_open"), SOCKETS as f64);
    assert_eq!(sample(&gateway, "flow_uring_websockets_total"), SOCKETS as f64 + 20.0);
    drop(clients);
    wait_until("all have ended", || sample(&gateway, "flow_uring_websockets_open") == 0.0);
    gateway.wait_for_descriptors(descriptors);
}

#[test]
fn a_client_with_tls_may_leave_by_its_goodbye_alone() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let (certificate, key) = (&CERTIFICATES.server_pem, &CERTIFICATES.server_key_pem);
    let upstream = Upstream::plain(switched(|peer| {
        assert_eq!(peer.read_to_end(), b"bye");
        peer.write("too");
    }));
    let builder = Gateway::builder().upstream(&upstream);
    let gateway = builder.arg("--tls-cert", write("c", certificate)).arg("--tls-key", write("k", key)).start();
    let mut client = Client::connect_tls(gateway.port(), CERTIFICATES.client.clone());
    open(&mut client, "/v1/x");
    client.send("bye").say_goodbye();
    assert_eq!(client.read_to_end().0, b"too");
}
