//! Until the switch an upgrade fails over as any request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::{ACCEPT, echo_bytes, switching, upgrade};
use crate::support::{Client, Gateway, Peer, Request, Upstream, secrets_json};

/// Answers the first attempt with this, and switches with the next.
fn failing_once(first: &'static str) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let attempts = AtomicUsize::new(0);
    move |peer| {
        while let Some(head) = peer.read_head() {
            if head.field("upgrade").is_none() {
                // A refused credential is checked in the background, which is another request.
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
                continue;
            }
            if attempts.fetch_add(1, Ordering::SeqCst) > 0 {
                peer.write(switching(&head, ""));
                return echo_bytes(peer);
            }
            if first.is_empty() || !peer.write(first) {
                return peer.reset();
            }
        }
    }
}

#[test]
fn another_credential_or_another_attempt_opens_the_socket() {
    for first in [
        "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Wait\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 529 Busy\r\nContent-Length: 0\r\n\r\n",
        "",
    ] {
        let upstream = Upstream::plain(failing_once(first));
        let gateway = Gateway::builder().secrets(secrets_json(&["alpha", "beta"])).upstream(&upstream).start();
        let mut client = Client::connect(gateway.port());
        assert_eq!(client.ask(upgrade("/v1/x", "")).status, 101, "{first:?}");
        client.send("through");
        assert_eq!(client.read_until("through"), b"through");
        let is_upgrade = |request: &Request| request.head.field("upgrade").is_some();
        let requests: Vec<Request> = upstream.requests().into_iter().filter(is_upgrade).collect();
        assert_eq!(requests.len(), 2, "{first:?}");
        assert_ne!(requests[0].connection, requests[1].connection, "{first:?}: each on a connection of its own");
        assert_ne!(requests[0].credential(), requests[1].credential(), "{first:?}");
        let keys = requests.iter().map(|request| request.head.field("sec-websocket-key").map(str::to_owned));
        assert!(keys.into_iter().all(|key| key.as_deref() == Some(super::KEY)));
    }
}

#[test]
fn with_one_credential_a_refusal_is_passed_on() {
    for status in [400, 401, 403, 429] {
        let upstream = Upstream::plain(crate::support::json(status, "{\"error\":1}"));
        let gateway = Gateway::before(&upstream);
        let response = Client::connect(gateway.port()).ask(upgrade("/v1/x", ""));
        assert_eq!((response.status, response.text().as_str()), (status, "{\"error\":1}"));
        assert_eq!(response.error_code(), None);
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502() {
    let upstream = Upstream::plain(|_| {});
    let url = upstream.url();
    drop(upstream);
    let gateway = Gateway::builder().arg("--upstream", url).start();
    let response = Client::connect(gateway.port()).ask(upgrade("/v1/x", ""));
    assert_eq!((response.status, response.error_code()), (502, Some("upstream_connect_failed")));
}

#[test]
fn an_upstream_that_switches_and_takes_no_more_of_the_head_is_given_up() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // The other side's buffer grows by packets that are taken, a power of two of bytes for each: with small ones, and few
    // of them, both buffers together take half of the head, and with packets of 536 bytes all of it.
    socket.set_tcp_mss(340).expect("before it listens");
    socket.set_recv_buffer_size(1).expect("the least that the kernel has");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(8).expect("it listens");
    let listener = TcpListener::from(socket);
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let gateway = Gateway::builder().arg("--upstream", url).start();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.expect("a connection");
            let mut begin = [0; 600];
            if peer.read_exact(&mut begin).is_ok() {
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
                );
                peer.write_all(answer.as_bytes()).expect("it is read");
                thread::sleep(std::time::Duration::from_millis(50));
            }
            // What it has not read makes a reset of its close.
        }
    });
    let long = "X-Long: ".to_owned() + &"a".repeat(60_000) + "\r\n";
    let response = Client::connect(gateway.port()).ask(upgrade("/v1/x", &long));
    assert_eq!((response.status, response.error_code()), (502, Some("upstream_closed")));
}
