//! Memory is bounded by what is open, not by what flows through: many streams, bodies of any size, readers of any
//! speed.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use support::{
    CERTIFICATES, Client, DEADLINE, EVENT, EVENT_STREAM, Gate, Gateway, GatewayBuilder, LIVENESS, Peer, Upstream,
    check_at_once,
};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;
const PART: usize = 64 * 1024;

/// One mebibyte in the unit of RSS figures.
const KIB_OF_MIB: u64 = 1024;

/// The replay copy of one request is at most 16 MiB; the rest is what the exchange itself may hold.
const UPLOAD_GROWTH_MAX: u64 = 20 * KIB_OF_MIB;
const DOWNLOAD_GROWTH_MAX: u64 = 4 * KIB_OF_MIB;

/// The growth of RSS at its peak since `begin`, in KiB.
struct Peak<'a> {
    gateway: &'a Gateway,
    base: u64,
}

impl<'a> Peak<'a> {
    fn begin(gateway: &'a Gateway) -> Self {
        // "5" makes the peak start from the present value (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{}/clear_refs", gateway.pid()), "5").expect("a child of this process");
        Self { gateway, base: gateway.rss_kib() }
    }

    fn growth(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway.pid())).expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a VmHWM line");
        let peak: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        peak.saturating_sub(self.base)
    }
}

fn quiet(upstream: &Upstream) -> Gateway {
    Gateway::builder().upstream(upstream).patient().arg("--body-max", "0").arg("--log-level", "WARNING").start()
}

fn upload_head(length: usize) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

fn download_head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n")
}

/// Takes every body, and sends as much as the request's `X-Size` says.
fn bulk(peer: &mut Peer) {
    let part = vec![b'x'; PART];
    while let Some(head) = peer.read_head() {
        let length = head.content_length().unwrap_or(0);
        if !peer.discard(length) {
            return;
        }
        let size = head.field("x-size").map_or(0, |size| size.parse().expect("a number"));
        if !peer.write(download_head(size)) || !(0..size / PART).all(|_| peer.write(&part)) {
            return;
        }
    }
}

fn assert_upload_is_streamed(upstream: &Upstream, length: usize) {
    let gateway = quiet(upstream);
    let mut client = Client::connect_unrecorded(gateway.port()).with_deadline(4 * DEADLINE);
    client.ask(upload_head(0));
    let peak = Peak::begin(&gateway);
    let began = Instant::now();
    let part = vec![b'x'; PART];
    client.send(upload_head(length));
    for _ in 0..length / PART {
        client.send(&part);
    }
    assert_eq!(client.read_response().status, 200);
    let growth = peak.growth();
    println!("upload of {} MiB, tls {}: {growth} KiB more, {:?}", length / MIB, upstream.is_tls(), began.elapsed());
    assert!(growth < UPLOAD_GROWTH_MAX, "{growth} KiB");
}

fn assert_download_is_streamed(upstream: &Upstream, length: usize) {
    let gateway = quiet(upstream);
    let mut client = Client::connect_unrecorded(gateway.port());
    let request = |length| format!("GET /v1/files HTTP/1.1\r\nHost: localhost\r\nX-Size: {length}\r\n\r\n");
    client.ask(request(PART));
    let peak = Peak::begin(&gateway);
    let began = Instant::now();
    client.send(request(length));
    assert_eq!(client.read_head().content_length(), Some(length));
    client.discard(length);
    let growth = peak.growth();
    println!("download of {} MiB, tls {}: {growth} KiB more, {:?}", length / MIB, upstream.is_tls(), began.elapsed());
    assert!(growth < DOWNLOAD_GROWTH_MAX, "{growth} KiB");
}

#[test]
fn a_large_upload_takes_no_more_than_its_replay_copy() {
    assert_upload_is_streamed(&Upstream::plain(bulk), 1024 * MIB);
    assert_upload_is_streamed(&Upstream::tls(bulk), 256 * MIB);
}

#[test]
fn a_large_download_takes_next_to_nothing() {
    assert_download_is_streamed(&Upstream::plain(bulk), 1024 * MIB);
    assert_download_is_streamed(&Upstream::tls(bulk), 256 * MIB);
}

#[test]
fn a_thousand_streams_take_less_than_24_mib_beside_the_program() {
    const STREAMS: usize = 1000;
    const TOTAL_MAX: u64 = 24 * KIB_OF_MIB;
    let upstream = Upstream::tls(|peer: &mut Peer| {
        if peer.read_request().is_some() {
            peer.write(EVENT_STREAM);
            while peer.write(EVENT) {
                peer.sleep(Duration::from_secs(1));
            }
        }
    });
    let gateway = quiet(&upstream);
    let request = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let mut clients: Vec<Client> = (0..STREAMS)
        .map(|_| {
            let mut client = Client::connect_unrecorded(gateway.port()).with_deadline(4 * DEADLINE);
            client.send(request);
            client
        })
        .collect();
    for client in &mut clients {
        client.read_until(EVENT);
    }
    let peak = Peak::begin(&gateway);
    for client in &mut clients {
        client.read_until(EVENT);
        client.read_until(EVENT);
    }
    let total = (peak.base + peak.growth()).saturating_sub(gateway.program_kib());
    println!("{STREAMS} streams: {total} KiB");
    assert!(total < TOTAL_MAX, "{total} KiB");
}

/// More than all sockets on the way can hold.
const STALLED_BYTES: usize = 128 * MIB;
/// The most that the sockets on the way can hold, in the system's default settings.
const IN_SOCKETS_MAX: usize = 40 * MIB;

/// Waits until `moved` has not changed for a while, and returns it.
fn wait_for_standstill(moved: &AtomicUsize) -> usize {
    let until = Instant::now() + DEADLINE;
    let mut last = 0;
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = moved.load(Ordering::SeqCst);
        if now == last && now > 0 {
            return now;
        }
        assert!(Instant::now() < until, "it goes on and on: {now} bytes");
        last = now;
    }
}

#[test]
fn a_client_that_stops_reading_stops_the_upstream() {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        let part = vec![b'x'; PART];
        if peer.read_request().is_some() && peer.write(download_head(STALLED_BYTES)) {
            while counted.load(Ordering::SeqCst) < STALLED_BYTES && peer.write(&part) {
                counted.fetch_add(PART, Ordering::SeqCst);
            }
        }
    });
    let gateway = quiet(&upstream);
    let mut client = Client::connect_unrecorded(gateway.port());
    let peak = Peak::begin(&gateway);
    client.send("GET /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.read_head();
    let stopped_at = wait_for_standstill(&written);
    let growth = peak.growth();
    println!("a stopped reader: the upstream stopped after {} KiB, {growth} KiB more", stopped_at / 1024);
    assert!(stopped_at < IN_SOCKETS_MAX, "{stopped_at} bytes");
    assert!(growth < DOWNLOAD_GROWTH_MAX, "{growth} KiB");
    client.discard(STALLED_BYTES);
}

#[test]
fn an_upstream_that_stops_reading_stops_the_client() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        if peer.read_head().is_some() {
            passing.pass();
            peer.discard(STALLED_BYTES);
            peer.write(download_head(0));
        }
    });
    let gateway = quiet(&upstream);
    let mut client = Client::connect_unrecorded(gateway.port());
    let peak = Peak::begin(&gateway);
    client.send(upload_head(STALLED_BYTES));
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let sending = thread::spawn(move || {
        let part = vec![b'x'; PART];
        for _ in 0..STALLED_BYTES / PART {
            client.send(&part);
            counted.fetch_add(PART, Ordering::SeqCst);
        }
        client.read_response()
    });
    let stopped_at = wait_for_standstill(&sent);
    let growth = peak.growth();
    println!("a stopped upstream: the client stopped after {} KiB, {growth} KiB more", stopped_at / 1024);
    assert!(stopped_at < IN_SOCKETS_MAX, "{stopped_at} bytes");
    assert!(growth < UPLOAD_GROWTH_MAX, "{growth} KiB");
    gate.open();
    assert_eq!(sending.join().expect("all was sent").status, 200);
}

/// The state that connections are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Idle,
    IdleOverTls,
    HalfHead,
    HalfHello,
    SlowUpload,
    SlowReader,
    EventStream,
}

/// The KiB that a connection takes in each state, as docs/operations.md and its translation say it in the rows of these
/// names.
const STATED: [(Held, f64, &str, &str); 7] = [
    (Held::Idle, 1.0, "idle between two requests", "两次请求之间空闲"),
    (Held::IdleOverTls, 9.0, "the same over TLS", "同上，经由 TLS"),
    (Held::HalfHead, 25.0, "half of a request's head has come", "请求头只到了一半"),
    (Held::HalfHello, 6.5, "half of a TLS client's first message has come", "TLS 客户端的第一条消息只到了一半"),
    (Held::SlowUpload, 60.0, "a request's body trickles in", "请求体断断续续地到达"),
    (Held::SlowReader, 78.0, "a large answer is read slowly", "读取很大的应答，但读得很慢"),
    (Held::EventStream, 10.0, "an open event stream", "打开的事件流"),
];

/// The connections that are held at a time: with those to the upstream and both ends in one process fewer than any
/// machine allows.
const HELD: usize = 200;

/// As often they come and go: what is not given back adds up.
const ROUNDS: usize = 5;

/// Returns the first half of what a TLS client sends first.
fn half_hello() -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(Arc::clone(&CERTIFICATES.client), name).expect("a usable configuration");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a vector takes all");
    hello.truncate(hello.len() / 2);
    hello
}

/// Brings each of its connections into the state that the request's path names.
fn holding(peer: &mut Peer) {
    let Some(head) = peer.read_head() else { return };
    if head.start_line.contains("/download ") {
        let part = [b'x'; PART];
        peer.write(download_head(STALLED_BYTES));
        while peer.write(part) {}
    } else if head.start_line.contains("/events ") {
        peer.write([EVENT_STREAM, EVENT].concat());
        peer.wait_for_close();
    } else {
        peer.read_to_end();
    }
}

/// Connects and gets into the state.
fn hold(held: Held, port: u16) -> Client {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = match held {
        Held::IdleOverTls => Client::connect_tls(port, Arc::clone(&CERTIFICATES.client)),
        Held::SlowReader => Client::connect_narrow(port, None),
        _ => Client::connect_unrecorded(port),
    };
    match held {
        Held::Idle | Held::IdleOverTls => drop(client.ask(LIVENESS)),
        Held::HalfHead => drop(client.send(&LIVENESS[..LIVENESS.len() / 2])),
        Held::HalfHello => drop(client.send(half_hello())),
        Held::SlowUpload => drop(client.send(upload_head(PART)).send("x".repeat(1024))),
        Held::SlowReader => drop(client.send(get("/v1/download")).read_head()),
        Held::EventStream => drop(client.send(get("/v1/events")).read_until(EVENT)),
    }
    client
}

/// A gateway whose limits are met by none of them; over TLS where clients come with it.
fn holder(held: Held, upstream: &Upstream, files: &TempDir) -> GatewayBuilder {
    let builder = Gateway::builder().upstream(upstream).shards(1).patient().arg("--log-level", "WARNING");
    if !matches!(held, Held::HalfHello | Held::IdleOverTls) {
        return builder;
    }
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).expect("a file in the temporary directory");
        path.to_str().expect("a readable path").to_owned()
    };
    let certificate = write("certificate.pem", &CERTIFICATES.server_pem);
    builder.arg("--tls-cert", certificate).arg("--tls-key", write("key.pem", &CERTIFICATES.server_key_pem))
}

/// Returns the memory that is no file's, in KiB, once it changes no more.
fn settled_kib(gateway: &Gateway) -> u64 {
    let until = Instant::now() + DEADLINE;
    let mut last = gateway.anonymous_kib();
    loop {
        thread::sleep(Duration::from_millis(400));
        let now = gateway.anonymous_kib();
        if now.abs_diff(last) <= 8 || Instant::now() > until {
            return now;
        }
        last = now;
    }
}

/// Holds connections in a state as often as [`ROUNDS`], and returns the KiB that each took in the end: more than in the
/// beginning, since of a buffer other pages are used by its next owner.
fn measured(held: Held, driver: &str) -> f64 {
    let (upstream, files) = (Upstream::tls(holding), tempfile::tempdir().expect("a temporary directory"));
    let gateway = holder(held, &upstream, &files).arg("--io-driver", driver).start();
    let descriptors = gateway.open_descriptors();
    let base = settled_kib(&gateway);
    let mut each = Vec::new();
    for _ in 0..ROUNDS {
        let clients: Vec<Client> = (0..HELD).map(|_| hold(held, gateway.port())).collect();
        each.push(settled_kib(&gateway).saturating_sub(base) as f64 / HELD as f64);
        drop(clients);
        gateway.wait_for_descriptors(descriptors);
    }
    println!("{driver}, {held:?}: {each:.2?} KiB each");
    each[ROUNDS - 1]
}

#[test]
fn in_each_state_a_connection_takes_what_is_told_and_gives_it_back() {
    for driver in ["auto", "epoll"] {
        check_at_once(STATED, |(held, stated, ..)| {
            let each = measured(held, driver);
            assert!(each < stated * 1.35, "{driver}, {held:?}: {each:.2} KiB each, and {stated} are told");
        });
    }
}

#[test]
fn the_pages_tell_what_a_connection_takes() {
    for (page, is_translated) in [("docs/operations.md", false), ("docs/operations.zh-CN.md", true)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = fs::read_to_string(path).expect("a page");
        for (_, stated, name, translated) in STATED {
            let row = format!("| {} | {stated} KiB |", if is_translated { translated } else { name });
            assert!(text.contains(&row), "{page} has no row {row}");
        }
    }
}
