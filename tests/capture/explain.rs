//! `flow-uring explain`: finds a capture by any of its names and tells what became of the exchange.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{Client, Peer, Upstream, command, output_of, secrets_json};
use crate::{builder, files, post, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_flow-uring");

/// Runs the command in `directory`, with nothing in its environment but these.
fn explain(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut explain = command(PROGRAM);
    explain.arg("explain").args(arguments).current_dir(directory).env_clear().envs(environment.iter().copied());
    let Output { status, stdout, stderr } = output_of(explain);
    (status.code(), String::from_utf8(stdout).expect("text"), String::from_utf8(stderr).expect("text"))
}

#[test]
fn a_failed_exchange_is_found_by_any_of_its_names_and_explained() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let captures = directory.path().join("captures");
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(asked) = peer.read_request() {
            let status = if asked.path().ends_with("/missing") { 404 } else { 429 };
            peer.write(format!("HTTP/1.1 {status} No\r\nContent-Length: 12\r\n\r\n\x1b[31mevil\r\n!"));
        }
    });
    let gateway = builder(&upstream, &captures).secrets(secrets_json(&["a", "bb"])).shards(1).start();
    for (path, id) in [("/v1/limited", "req-limited"), ("/v1/missing", "req-same"), ("/v1/missing?x", "req-same")] {
        let line = format!("x-request-id: {id}\r\n");
        Client::connect(gateway.port()).ask(post(path, &line, "{\"model\":\"m\"}"));
    }
    Client::connect(gateway.port()).ask(post("/a/../b", "x-request-id: req-own\r\n", ""));
    wait_for(&captures, 4);
    let dir = ["--capture-dir", captures.to_str().expect("readable")];
    let told = |id: &str| explain(directory.path(), &[], &[id, dir[0], dir[1]]);
    let path = files(&captures)[0].to_str().expect("readable").to_owned();
    for id in ["0-1", "req-limited", "req-lim", &path] {
        let (code, out, err) = told(id);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{id}");
        for part in [
            "Exchange 0-1, request id req-limited",
            "The client got 429 after ",
            "  1. by a, begun after ",
            "answered 429, over after ",
            "; another attempt was made\n",
            "  2. by bb, begun after ",
            "  | {\"model\":\"m\"}\n",
            "\\u{1b}[31mevil",
            "A limit of requests or tokens is reached",
        ] {
            assert!(out.contains(part), "{id}: {part}\n{out}");
        }
        assert!(!out.contains('\x1b'), "{out:?}");
    }
    let (_, out, _) = told("req-same");
    assert!(out.contains("Exchange 0-3"), "the newest: {out}");
    let (_, out, _) = told("req-own");
    assert!(out.contains("(bad_path): The request path has a dot segment"), "{out}");
    let (code, _, err) = told("req-");
    assert!(code == Some(1) && err.contains("several failed exchanges begin so"), "{err}");
    let (code, _, err) = told("nope");
    assert!(code == Some(1) && err.contains("no failed exchange of that id"), "{err}");
    let (code, out, _) = explain(directory.path(), &[("FLOW_PROXY_CAPTURE_DIR", dir[1])], &["--list"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 4));
    assert!(lines[0].contains("POST /a/../b: 400, refused") && lines[3].contains("POST /v1/limited: 429, ok"), "{out}");
    fs::write(directory.path().join(".env"), "FLOW_PROXY_CAPTURE_DIR=captures\n").expect("written");
    assert_eq!(explain(directory.path(), &[], &["0-1"]).0, Some(0));
}

#[test]
fn without_a_directory_or_an_id_it_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("other.json"), "{}").expect("written");
    for (arguments, code, words) in [
        (&[][..], 64, "explain needs the id"),
        (&["--list", "0-1"], 64, "explain needs the id"),
        (&["0-1"], 64, "start the gateway with --capture-dir DIR (or FLOW_PROXY_CAPTURE_DIR)"),
        (&["--list", "--capture-dir", "none"], 1, "cannot be listed"),
        (&["other.json"], 1, "is no capture"),
    ] {
        let (found, out, err) = explain(directory.path(), &[], arguments);
        assert_eq!((found, out.as_str()), (Some(code), ""), "{arguments:?}");
        assert!(err.contains(words), "{err}");
    }
    let (code, out, _) = explain(directory.path(), &[], &["--list", "--capture-dir", "."]);
    assert_eq!((code, out.as_str()), (Some(0), "No failed exchange is kept.\n"));
}
