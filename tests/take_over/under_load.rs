//! Take-overs while clients connect all the time: none of them is refused, reset or left without an answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Client, DEADLINE, EVENT, EVENT_STREAM, Gateway, Peer, Upstream, shown};
use crate::{Place, SURELY_WITHIN_GRACE, answers};

/// Clients that ask over a new connection each time, at a steady pace, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<io::Result<()>>>>,
    began: Instant,
}

impl Load {
    const CLIENTS: u32 = 16;
    const RATE: u32 = 2000;

    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: u32| {
            let stop = stop.clone();
            thread::spawn(move || {
                let interval = Duration::from_secs(1) * Self::CLIENTS / Self::RATE;
                let mut due = Instant::now() + interval * number / Self::CLIENTS;
                let mut outcomes = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    // A machine that cannot keep up is not asked to catch up.
                    due = (due + interval).max(Instant::now());
                    // Every other client does not send at once, so that there are always connections without a request.
                    let pause = Duration::from_millis(if number.is_multiple_of(2) { 0 } else { 3 });
                    let text = format!("{number}-{}", outcomes.len());
                    outcomes.push(ask_over_new_connection(port, pause, &text));
                }
                outcomes
            })
        };
        let clients = (0..Self::CLIENTS).map(client).collect();
        Load { stop, clients, began: Instant::now() }
    }

    /// Returns the number of requests that were answered, and how many a second.
    fn finish(self) -> (usize, f64) {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        let outcomes: Vec<_> = self.clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(
            failed.is_empty(),
            "{} of {} requests failed: {:?}",
            failed.len(),
            outcomes.len(),
            &failed[..failed.len().min(5)]
        );
        (outcomes.len(), outcomes.len() as f64 / took.as_secs_f64())
    }
}

/// Sends `text` and makes sure that just it comes back. A client that sends too late may be closed without an answer.
fn ask_over_new_connection(port: u16, pause: Duration, text: &str) -> io::Result<()> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    thread::sleep(pause);
    stream.set_read_timeout(Some(4 * DEADLINE))?;
    let length = text.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let sent = stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{text}").as_bytes());
    let is_late = began.elapsed() >= SURELY_WITHIN_GRACE;
    let mut answer = String::new();
    let read = sent.and_then(|()| stream.read_to_string(&mut answer));
    if is_late && answer.is_empty() {
        return Ok(());
    }
    read?;
    let is_right = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{text}"));
    if is_right { Ok(()) } else { Err(io::Error::other(format!("{text}: {answer:?}"))) }
}

const EVENTS: usize = 10;

/// Streams some events over a second where that is asked for, and gives all others their own body.
fn stream_or_echo(peer: &mut Peer) {
    while let Some(request) = peer.read_request() {
        if !request.path().ends_with("/messages") {
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
            peer.write(&request.body);
            continue;
        }
        peer.write(EVENT_STREAM);
        for _ in 0..EVENTS {
            peer.write(EVENT);
            peer.sleep(Duration::from_millis(100));
        }
        peer.write("0\r\n\r\n");
    }
}

fn take_over_under_load(place: &Place, first: Gateway, successors: impl Iterator<Item = (usize, &'static str)>) {
    let port = first.port();
    let load = Load::start(port);
    let mut gateways = vec![first];
    let mut streams = Vec::new();
    for (shards, driver) in successors {
        let mut stream = Client::connect(port);
        stream.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
        stream.read_until("data: 1\n\n\r\n");
        streams.push(stream);
        // Some requests for each gateway alone.
        thread::sleep(Duration::from_millis(100));
        let predecessor = gateways.last().expect("the first at least");
        let build = || place.successor_of(predecessor).shards(shards).arg("--io-driver", driver);
        let successor = place.start(|| build().arg("--log-level", "INFO"));
        gateways.push(successor);
    }
    for mut stream in streams {
        // What was read already is the first event.
        let (rest, _) = stream.read_to_end();
        assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "{}", shown(&rest));
        assert_eq!(memchr::memmem::find_iter(&rest, "data: 1\n\n").count(), EVENTS - 1);
    }
    let (answered, rate) = load.finish();
    let last = gateways.pop().expect("the last");
    println!("{} take-overs, {answered} requests over new connections, {rate:.0} a second", gateways.len());
    for mut gateway in gateways {
        assert_eq!(gateway.wait().code(), Some(0));
        assert!(gateway.wait_for_log("another gateway has taken over").contains("process="));
    }
    last.wait_for_log("took over from the gateway");
}

#[test]
fn twenty_take_overs_under_load_refuse_reset_and_lose_nothing() {
    let place = Place::before(Upstream::plain(stream_or_echo));
    let first = place.builder().arg("--log-level", "INFO").start();
    let successors = [(2, "auto"), (3, "auto"), (1, "auto"), (2, "auto")];
    take_over_under_load(&place, first, successors.into_iter().cycle().take(20));
}

#[test]
fn gateways_of_either_driver_take_over_from_each_other_under_load() {
    let place = Place::before(Upstream::plain(stream_or_echo));
    let first = place.builder().arg("--log-level", "INFO").arg("--io-driver", "epoll").start();
    let successors = [(2, "auto"), (2, "epoll"), (2, "epoll"), (2, "auto")];
    take_over_under_load(&place, first, successors.into_iter());
}

#[test]
fn one_that_fails_before_it_serves_leaves_the_old_one_serving() {
    let place = Place::before(Upstream::tls(stream_or_echo));
    let mut running = place.builder().shards(1).start();
    let (code, log) = place.successor_of(&running).arg("--upstream-ca", "none.pem").run_to_end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("none.pem") && !log.contains("taking over"), "found before the sockets were taken: {log}");
    let load = Load::start(running.port());
    for round in 1..=10 {
        thread::sleep(Duration::from_millis(50));
        // It has as many shards as it has room for only half of, which it finds when it has the sockets.
        let (code, log) = place.successor_of(&running).shards(40).open_files_max(250).run_to_end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("taking over from the gateway that runs here"), "{log}");
        running.wait_for_log_count("this gateway goes on", round);
    }
    let (answered, rate) = load.finish();
    println!("ten that failed, {answered} requests over new connections, {rate:.0} a second");
    assert!(answers(&running));
    let successor = place.start_successor_of(&running);
    assert_eq!(running.wait().code(), Some(0));
    assert!(answers(&successor));
}
