//! A large upload that is refused early: the sender sees the answer, not a reset, though it may go on sending for a
//! while (RFC 9112 §9.6). So too when it is the upstream that answers early and closes.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Client, Ended, Gateway, Peer, Response, Running, Upstream, command, repeat_until_undisturbed, skip_but_not_on_ci,
};

/// Far more than the socket buffers between client and gateway take.
const UPLOAD_BYTES: usize = 20 * 1000 * 1000;

/// The answer of an upstream that refuses before it has read the body.
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 39\r\n\
                            Connection: close\r\n\r\n{\"error\":{\"message\":\"no such account\"}}";
const UNAUTHORIZED_BODY: &str = "{\"error\":{\"message\":\"no such account\"}}";

/// The least that the gateway reads and discards of a refused upload.
const DISCARDED_BYTES: usize = 8 * 1024 * 1024;

const PART_BYTES: usize = 64 * 1024;

/// The time for which the gateway does so: a client that has not sent all by then may be reset.
const DISCARDED_FOR: Duration = Duration::from_secs(5);

/// Returns the head of an upload of about `length` bytes, and its body as it is sent.
fn upload(length: usize, is_chunked: bool, expects: bool) -> (String, Vec<u8>) {
    let expect = if expects { "Expect: 100-continue\r\n" } else { "" };
    let framing =
        if is_chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") };
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{expect}{framing}\r\n\r\n");
    let body = if is_chunked {
        let chunk = [b"8000\r\n".as_slice(), &[b'x'; 0x8000], b"\r\n"].concat();
        [chunk.repeat(length / 0x8000), b"0\r\n\r\n".to_vec()].concat()
    } else {
        vec![b'x'; length]
    };
    (head, body)
}

/// The ways in which a client sends.
#[derive(Debug, Clone, Copy)]
enum Sender {
    /// Sends all before it reads, or until it can send no more.
    Stubborn,
    /// As `Stubborn`, with no more than the gateway discards: it may not even notice that the rest is not wanted.
    StubbornWithinLimit,
    /// Stops when an answer comes. Until then, sending must not fail.
    Attentive,
}

/// Sends an upload and reads its answer, which must come whichever way the client sends.
fn refused(gateway: &Gateway, sender: Sender, is_chunked: bool, expects: bool) -> Response {
    let mut response = None;
    repeat_until_undisturbed(|| {
        response = refused_in_time(gateway, sender, is_chunked, expects);
        response.is_some()
    });
    response.expect("a round was undisturbed")
}

/// As `refused`; `None` where this side was so slow that it may be reset.
fn refused_in_time(gateway: &Gateway, sender: Sender, is_chunked: bool, expects: bool) -> Option<Response> {
    let length = if matches!(sender, Sender::StubbornWithinLimit) { DISCARDED_BYTES / 2 } else { UPLOAD_BYTES };
    let (head, body) = upload(length, is_chunked, expects);
    let began = Instant::now();
    let mut client = Client::connect_unrecorded(gateway.port());
    client.send(head);
    for part in body.chunks(PART_BYTES) {
        if matches!(sender, Sender::Attentive) && !client.is_quiet_for(Duration::from_millis(1)) {
            break;
        }
        if let Err(error) = client.try_send(part) {
            let may_fail = matches!(sender, Sender::Stubborn);
            if !may_fail && began.elapsed() >= DISCARDED_FOR {
                return None;
            }
            assert!(may_fail, "{sender:?}: {error}");
            break;
        }
    }
    let response = client.read_response();
    if response.field("connection") != Some("close") {
        // The whole request was faster than the answer, and the connection goes on.
        return Some(response);
    }
    let ended = client.expect_close();
    if ended != Ended::Eof && began.elapsed() >= DISCARDED_FOR {
        return None;
    }
    // Whoever sends more than is discarded may be reset, but only after the answer.
    assert!(ended == Ended::Eof || matches!(sender, Sender::Stubborn), "a reset follows the answer");
    Some(response)
}

/// All ways to send: the sender, whether in chunks, and whether with an expectation.
const WAYS: [(Sender, bool, bool); 10] = [
    (Sender::Stubborn, false, false),
    (Sender::Stubborn, false, true),
    (Sender::Stubborn, true, false),
    (Sender::Stubborn, true, true),
    (Sender::StubbornWithinLimit, false, false),
    (Sender::StubbornWithinLimit, false, true),
    (Sender::StubbornWithinLimit, true, false),
    (Sender::StubbornWithinLimit, true, true),
    // Without an expectation: the 100 that it may bring is not what this one stops at.
    (Sender::Attentive, false, false),
    (Sender::Attentive, true, false),
];

fn refusing_upstream() -> Upstream {
    Upstream::plain(|peer: &mut Peer| {
        // What is refused here may have begun to arrive there.
        peer.read_to_end();
    })
}

#[test]
fn an_upload_over_the_limit_sees_the_413() {
    let upstream = refusing_upstream();
    let gateway = Gateway::builder().upstream(&upstream).arg("--body-max", "1").start();
    for (sender, is_chunked, expects) in WAYS {
        let response = refused(&gateway, sender, is_chunked, expects);
        let what = format!("{sender:?}, chunked: {is_chunked}, Expect: {expects}");
        assert_eq!((response.status, response.error_code()), (413, Some("body_too_large")), "{what}");
        assert_eq!(response.field("connection"), Some("close"), "{what}");
        assert!(response.json()["error"]["message"].as_str().is_some_and(|text| text.contains("--body-max")));
    }
}

#[test]
fn an_upload_that_asks_first_is_told_before_it_sends_anything() {
    let upstream = refusing_upstream();
    let gateway = Gateway::builder().upstream(&upstream).arg("--body-max", "1").start();
    let mut client = Client::connect(gateway.port());
    let response = client.ask(upload(UPLOAD_BYTES, false, true).0);
    assert_eq!(response.status, 413);
    assert!(response.interim.is_empty(), "it was told to go on: {response:?}");
    assert_eq!(upstream.connections(), 0);
}

/// Runs curl, which most people have; `None` where it is not installed.
fn curl(gateway: &Gateway, arguments: &[&str]) -> Option<(String, String)> {
    let mut seen = None;
    repeat_until_undisturbed(|| {
        let began = Instant::now();
        let Some(output) = curl_once(gateway, arguments) else { return true };
        // One that was so slow may have been reset.
        if !output.status.success() && began.elapsed() >= DISCARDED_FOR {
            return false;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "curl {arguments:?}: {}{}", text(&output.stderr), text(&output.stdout));
        let shown = text(&output.stdout);
        let (body, status) = shown.rsplit_once('\n').expect("a status line");
        seen = Some((status.to_owned(), body.to_owned()));
        true
    });
    seen
}

fn curl_once(gateway: &Gateway, arguments: &[&str]) -> Option<Output> {
    let mut command = command("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "120", "--output", "-", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .args(["--data-binary", "@-", &format!("http://127.0.0.1:{}/v1/chat/completions", gateway.port())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut curl = Running::start(command).ok()?;
    // curl may have its answer before it has read all of it.
    let _ = curl.stdin.take().expect("piped").write_all(&vec![b'x'; UPLOAD_BYTES]);
    Some(curl.output())
}

#[test]
fn curl_sees_the_413_however_it_uploads() {
    let upstream = refusing_upstream();
    let gateway = Gateway::builder().upstream(&upstream).arg("--body-max", "1").start();
    for arguments in [
        &["-H", "Expect:"][..],
        &["-H", "Expect: 100-continue"],
        &["-H", "Expect:", "-H", "Transfer-Encoding: chunked"],
        &["-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"],
    ] {
        let Some((status, body)) = curl(&gateway, arguments) else {
            return skip_but_not_on_ci("a 413 as curl sees it: curl is missing (apt install curl)");
        };
        assert_eq!(status, "413", "{arguments:?}: {body}");
        assert!(body.contains("body_too_large"), "{arguments:?}: {body}");
    }
}

/// An upstream that has read the head alone when it answers and closes; the unread body makes its close a reset.
fn answers_early(peer: &mut Peer) {
    if peer.read_head().is_some() {
        peer.write(UNAUTHORIZED);
        peer.close();
    }
}

/// As [`answers_early`], but reads on for a while, as a careful upstream does.
fn answers_early_and_lingers(peer: &mut Peer) {
    if peer.read_head().is_some() {
        peer.write(UNAUTHORIZED);
        peer.wait_for_close();
    }
}

#[test]
fn an_early_answer_of_the_upstream_is_passed_on_whole() {
    type Script = fn(&mut Peer);
    for (how, script) in [("lingers", answers_early_and_lingers as Script), ("closes", answers_early)] {
        for upstream in [Upstream::plain(script), Upstream::tls(script)] {
            let gateway = Gateway::before(&upstream);
            for (sender, is_chunked, expects) in WAYS {
                let response = refused(&gateway, sender, is_chunked, expects);
                let tls = upstream.is_tls();
                let what = format!("{how}, tls: {tls}, {sender:?}, chunked: {is_chunked}, Expect: {expects}");
                assert_eq!(response.status, 401, "{what}: {response:?}");
                assert_eq!(response.text(), UNAUTHORIZED_BODY, "{what}");
                assert!(response.is_whole, "{what}");
            }
        }
    }
}

#[test]
fn curl_sees_the_upstreams_early_answer() {
    let upstream = Upstream::tls(answers_early_and_lingers);
    let gateway = Gateway::before(&upstream);
    for arguments in [&["-H", "Expect:"][..], &["-H", "Expect:", "-H", "Transfer-Encoding: chunked"]] {
        let Some((status, body)) = curl(&gateway, arguments) else {
            return skip_but_not_on_ci("a 413 as curl sees it: curl is missing (apt install curl)");
        };
        assert_eq!((status.as_str(), body.as_str()), ("401", UNAUTHORIZED_BODY), "{arguments:?}");
    }
}
