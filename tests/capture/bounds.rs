//! The bounds of captures: of each file, of the directory, and of what they may cost.

use std::fs;

use crate::support::{Client, EVENT_STREAM, Gateway, Peer, Upstream, json, wait_until};
use crate::{builder, files, post, wait_for};

#[test]
fn the_newest_200_are_kept_also_of_earlier_runs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let upstream = Upstream::plain(json(404, "{}"));
    let mut newest = String::new();
    for run in 0..2 {
        let mut gateway = builder(&upstream, directory.path()).shards(1).start();
        let mut client = Client::connect(gateway.port());
        for index in 0..125 {
            newest = format!("{run}-{index}");
            client.ask(post("/v1/x", &format!("x-request-id: {newest}\r\n"), ""));
            // The queue has room for 64.
            if index % 50 == 49 {
                wait_for(directory.path(), (run * 125 + index + 1).min(200));
            }
        }
        gateway.terminate();
        assert!(gateway.wait().success());
    }
    let captures = wait_for(directory.path(), 200);
    assert_eq!(files(directory.path()).len(), 200);
    assert_eq!(captures.last().expect("one")["request_id"], newest.as_str());
    assert_eq!(captures[0]["request_id"], "0-50");
    let others = fs::read_dir(directory.path()).expect("listed").count();
    assert_eq!(others, 200, "nothing but captures");
}

#[test]
fn of_long_bodies_16_kib_are_kept() {
    const BYTES: usize = 10 * 1024 * 1024;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while peer.read_request().is_some() {
            peer.write(format!("HTTP/1.1 500 No\r\nContent-Length: {BYTES}\r\n\r\n"));
            peer.write("y".repeat(BYTES));
        }
    });
    let gateway = builder(&upstream, directory.path()).start();
    Client::connect(gateway.port()).ask(post("/v1/x", "", &"x".repeat(BYTES)));
    let capture = &wait_for(directory.path(), 1)[0];
    for (message, letter) in [("request", "x"), ("answer", "y")] {
        let body = &capture[message]["body"];
        assert_eq!(body["bytes"], BYTES, "{message}");
        assert_eq!(body["text"].as_str().expect("text"), letter.repeat(16 * 1024), "{message}");
    }
    assert!(fs::metadata(&files(directory.path())[0]).expect("there").len() < 100_000);
}

#[test]
fn a_connection_keeps_nothing_of_its_last_exchange() {
    const CONNECTIONS: u64 = 400;
    const BYTES: usize = 20_000;
    for pump in ["never", "always"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let upstream = Upstream::plain(|peer: &mut Peer| {
            while peer.read_request().is_some() {
                peer.write(EVENT_STREAM);
                let event = format!("data: {}\n\n", "y".repeat(BYTES));
                peer.write(format!("{:x}\r\n{event}\r\n", event.len()));
                peer.write("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
            }
        });
        let gateway = builder(&upstream, directory.path()).env("FLOW_PROXY_PUMP", pump).patient().shards(1).start();
        let serve = |count: u64| -> Vec<Client> {
            let one = |_| {
                let mut client = Client::connect(gateway.port());
                // With the beginning of another request, so that its task stays.
                client.send(post("/v1/chat/completions", "", &"x".repeat(BYTES)) + "P");
                assert_eq!(client.read_response().status, 200);
                client
            };
            (0..count).map(one).collect()
        };
        let _first = serve(20);
        let before = gateway.rss_kib();
        let _idle = serve(CONNECTIONS);
        let each = gateway.rss_kib().saturating_sub(before) / CONNECTIONS;
        // Some 32 KiB for its task and the room to read into; the notes of such an exchange are 34 KiB more.
        assert!(each < 48, "{each} KiB for each connection, pump: {pump}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_costs_one_warning_and_no_exchange() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let in_the_way = directory.path().join("file");
    fs::write(&in_the_way, "").expect("written");
    let upstream = Upstream::plain(json(404, "{}"));
    let gateway = builder(&upstream, &in_the_way).arg("--admin", "127.0.0.1:0").shards(1).start();
    let mut client = Client::connect(gateway.port());
    for _ in 0..20 {
        assert_eq!(client.ask(post("/v1/x", "", "")).status, 404);
    }
    wait_until("all are lost", || metric(&gateway, "flow_uring_captures_lost_total") == 20.0);
    gateway.expect_log_count("failed exchanges cannot be kept", 1);
    assert_eq!(metric(&gateway, "flow_uring_captures_total"), 0.0);
}

#[test]
fn a_full_disk_costs_captures_and_no_exchange_and_leaves_nothing_half_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let upstream = Upstream::plain(json(404, "{}"));
    let gateway = builder(&upstream, directory.path()).arg("--admin", "127.0.0.1:0").file_bytes_max(100).start();
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(post("/v1/x", "", "")).status, 404);
    wait_until("it is lost", || metric(&gateway, "flow_uring_captures_lost_total") == 1.0);
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0);
    gateway.unlimit_files();
    assert_eq!(client.ask(post("/v1/x", "", "")).status, 404);
    wait_for(directory.path(), 1);
}

fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = gateway.metrics();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {page}"))
}
