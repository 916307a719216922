//! Sockets and connections during a take-over: all are served, and those of the old gateway end in order.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Instant;

use crate::support::{Client, DEADLINE, Ended, GET, Gateway, TcpSocket, Upstream, json, repeat_until_undisturbed};
use crate::{HELLO, Place, SURELY_WITHIN_GRACE};

#[test]
fn with_more_and_with_fewer_shards_every_socket_goes_on_being_served() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().shards(4).start();
    for (shards, sockets) in [(1, 4), (6, 6), (2, 6)] {
        let successor = place.start(|| place.successor_of(&running).shards(shards));
        assert_eq!(running.wait().code(), Some(0));
        let listening = listening_sockets(&successor);
        // Once for the shard and once to lend.
        assert_eq!(listening, 2 * sockets, "{shards} shards");
        // The kernel spreads them over all sockets: one that nobody serves would keep its clients waiting.
        let answered = (0..100).filter(|_| Client::connect(successor.port()).ask(GET).status == 200).count();
        assert_eq!(answered, 100);
        running = successor;
    }
}

#[test]
fn an_open_websocket_stays_with_the_old_one_until_it_ends() {
    // The key of RFC 6455 §1.3, and the answer to it.
    const UPGRADE: &str = "GET /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    /// A whole text message of a server, so that a Close frame may follow it.
    const MESSAGE: &[u8] = b"\x81\x05hello";
    for (before, after) in [("auto", "epoll"), ("epoll", "auto")] {
        let place = Place::before(Upstream::plain(|peer| {
            if peer.read_head().is_some() {
                peer.write(SWITCHED);
                while let Some(bytes) = peer.read_some() {
                    peer.write(bytes);
                }
            }
        }));
        let mut running = place.builder().arg("--io-driver", before).start();
        let mut client = Client::connect(running.port());
        assert_eq!(client.ask(UPGRADE).status, 101);
        let successor = place.start(|| place.successor_of(&running).arg("--io-driver", after));
        running.wait_for_log("stopping");
        for _ in 0..2 {
            client.send(MESSAGE);
            assert_eq!(client.read_until(MESSAGE), MESSAGE);
        }
        assert_eq!(Client::connect(successor.port()).ask(UPGRADE).status, 101);
        client.half_close();
        assert_eq!(client.read_to_end().0, b"", "nothing was said by the gateway");
        assert_eq!(running.wait().code(), Some(0));
        assert!(running.wait_for_log("status=101").contains("bytes_in=14 bytes_out=14"));
    }
}

/// Returns the number of descriptors of the gateway that are sockets which listen on its port.
fn listening_sockets(gateway: &Gateway) -> usize {
    let sockets = TcpSocket::all();
    let listening = sockets.iter().filter(|socket| socket.local_port == gateway.port() && socket.is_listening());
    let listening: Vec<String> = listening.map(|socket| format!("socket:[{}]", socket.inode)).collect();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("it runs");
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| listening.iter().any(|socket| Path::new(socket) == target)).count()
}

#[test]
fn connections_of_the_old_one_end_in_order_and_a_first_request_is_still_answered() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    repeat_until_undisturbed(|| {
        let mut running = place.builder().shards(1).start();
        let mut idle = Client::connect(running.port());
        assert_eq!(idle.ask(GET).status, 200);
        // A successor that is quick about it.
        let mut successor = UnixStream::connect(place.socket(&running)).expect("it listens");
        successor.write_all(HELLO).expect("taken");
        running.wait_for_log("has the listening sockets too");
        let descriptors = running.open_descriptors();
        let connected = Instant::now();
        let mut just_connected = Client::connect(running.port());
        while running.open_descriptors() == descriptors && connected.elapsed() < DEADLINE {
            thread::yield_now();
        }
        successor.write_all(b"R").expect("the gateway waits for it");
        // The shard drains once an answer says so.
        let mut response = idle.ask(GET);
        while response.field("connection") != Some("close") && connected.elapsed() < DEADLINE {
            response = idle.ask(GET);
        }
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        assert_eq!(idle.expect_close(), Ended::Eof);
        let sent = just_connected.try_send(GET);
        let is_undisturbed = connected.elapsed() < SURELY_WITHIN_GRACE;
        if is_undisturbed {
            sent.expect("the gateway waits for it");
            let response = just_connected.read_response();
            assert_eq!((response.status, response.field("connection")), (200, Some("close")));
            assert_eq!(running.wait().code(), Some(0));
        }
        is_undisturbed
    });
}
