//! Every case of RFC 6455 goes through a tunnel byte for byte as it goes without one, in both directions, however it is
//! split.

use std::sync::Arc;
use std::time::Duration;

use super::cases::{self, Case};
use super::{open, switching};
use crate::support::{CERTIFICATES, Client, Gateway, Peer, Upstream, shown};

/// A generator of numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    /// Returns a number below `limit`.
    fn roll(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    /// Divides into parts of any length.
    fn split<'b>(&mut self, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let longest = [1, 2, 3, 10, 1000, 50_000][self.roll(6)];
            let (part, rest) = bytes.split_at((1 + self.roll(longest)).min(bytes.len()));
            parts.push(part);
            bytes = rest;
            if parts.len() == 20 {
                parts.push(bytes);
                break;
            }
        }
        parts
    }
}

/// Plays the server's side of the case that the path names: it sends its bytes while it reads the client's.
fn play(cases: &[Case], peer: &mut Peer) {
    let Some(head) = peer.read_head() else { return };
    let number: usize = head
        .start_line
        .rsplit_once("/case/")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .expect("a case");
    let answer = switching(&head, "");
    peer.write(answer);
    let case = &cases[number];
    let server = case.of_server();
    for part in Dice(number as u64).split(&server) {
        peer.write(part);
        if part.len() % 7 == 0 {
            peer.sleep(Duration::from_millis(1));
        }
    }
    let expected = case.of_client();
    let mut came = Vec::new();
    while came.len() < expected.len() {
        let Some(bytes) = peer.read_some() else { break };
        came.extend_from_slice(&bytes);
    }
    assert!(came == expected, "{}: {} instead of {}", case.name, shown(&came), shown(&expected));
    // The end of the client's direction, while this one is still open.
    assert_eq!(peer.read_some(), None, "{}", case.name);
    peer.write(b"over");
}

/// Plays the client's side, and checks that what comes is what was sent.
fn check(case: &Case, number: usize, client: &mut Client, path: &str) {
    open(client, &format!("{path}/case/{number}"));
    let bytes = case.of_client();
    for part in Dice(7 * number as u64 + 1).split(&bytes) {
        client.send(part);
    }
    client.half_close();
    let (came, _) = client.read_to_end();
    let expected = [case.of_server(), b"over".to_vec()].concat();
    assert!(came == expected, "{}: {} instead of {}", case.name, shown(&came), shown(&expected));
}

fn check_all(driver: &str, tls_upstream: bool, tls_client: bool) {
    let cases = Arc::new(cases::all());
    let played = Arc::clone(&cases);
    let script = move |peer: &mut Peer| play(&played, peer);
    let upstream = if tls_upstream { Upstream::tls(script) } else { Upstream::plain(script) };
    let mut builder = Gateway::builder().upstream(&upstream).arg("--io-driver", driver);
    let files = tempfile::tempdir().expect("a temporary directory");
    if tls_client {
        let write = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.to_str().expect("text").to_owned()
        };
        let (certificate, key) = (&CERTIFICATES.server_pem, &CERTIFICATES.server_key_pem);
        builder = builder.arg("--tls-cert", write("cert.pem", certificate)).arg("--tls-key", write("key.pem", key));
    }
    let gateway = builder.start();
    for (number, case) in cases.iter().enumerate() {
        let mut client = if tls_client {
            Client::connect_tls(gateway.port(), Arc::clone(&CERTIFICATES.client))
        } else {
            Client::connect_unrecorded(gateway.port())
        };
        check(case, number, &mut client, "/v1");
    }
    gateway.wait_for_log_count("status=101", cases.len());
}

#[test]
fn without_a_gateway() {
    let cases = Arc::new(cases::all());
    let played = Arc::clone(&cases);
    let upstream = Upstream::plain(move |peer| play(&played, peer));
    for (number, case) in cases.iter().enumerate() {
        check(case, number, &mut Client::connect_unrecorded(upstream.port()), "/v1");
    }
}

#[test]
fn on_io_uring() {
    check_all("auto", false, false);
}

#[test]
fn on_epoll() {
    check_all("epoll", false, false);
}

#[test]
fn with_tls_on_both_sides_on_io_uring() {
    check_all("auto", true, true);
}

#[test]
fn with_tls_on_both_sides_on_epoll() {
    check_all("epoll", true, true);
}
