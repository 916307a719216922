//! An upstream that dies anywhere in a streamed answer leaves the client with a whole answer or an unmistakable end,
//! and never with a hang.
//!
//! The upstream dies at every byte in turn; what the client then reads is held to what was sent up to there. An orderly
//! end of a close-delimited answer is its normal end between events of an API whose last event is not sure to come;
//! with TLS only a close_notify makes it orderly.

use std::time::{Duration, Instant};

use crate::support::{
    Client, Ended, Event, Gate, Gateway, Peer, Response, Upstream, chunk, is_error_event, parse_events, shown,
};

const ANTHROPIC: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const GEMINI: &str = "/v1beta/models/g:streamGenerateContent";
/// A path that tells no dialect.
const UNKNOWN: &str = "/v1/x";

/// Returns an event stream of the API of `path`, up to its last event.
fn stream_of(path: &str, line_end: &str) -> String {
    let stream = match path {
        ANTHROPIC => {
            ": hi\n\nevent: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\ndata: \"delta\":{\"text\":\"\u{e9}\"}}\n\n\
             : keep-alive\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        }
        RESPONSES => {
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"a\":[]}}\n\n\
             data: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"\u{e9}\",\"sequence_number\":1}\n\n\
             data: {\"type\":\"response.completed\",\"response\":{\"type\":\"x\"},\"sequence_number\":2}\n\n"
        }
        GEMINI => {
            "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"a\\n\"}]}},{\"index\": 1}]}\n\n\
             data: {\"candidates\": [{\"finishReason\": \"STOP\",\"index\": 1}]}\n\n\
             data: {\"candidates\": [{\"finishReason\": \"STOP\"}],\"usageMetadata\": {\"totalTokenCount\": 1}}\n\n\
             data: {\"usageMetadata\": {}}\n\n"
        }
        _ => {
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n: keep-alive\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata:[DONE]\n\n"
        }
    };
    stream.replace('\n', line_end)
}

/// A body as it is on the wire, and how much of the stream each of its prefixes carries.
#[derive(Clone)]
struct Wired {
    raw: Vec<u8>,
    decoded_length: Vec<usize>,
}

impl Wired {
    fn close_delimited(stream: &str) -> Self {
        Self { raw: stream.as_bytes().to_vec(), decoded_length: (0..=stream.len()).collect() }
    }

    /// Chunks of various sizes, which begin and end anywhere in events.
    fn chunked(stream: &str) -> Self {
        let mut wired = Self { raw: Vec::new(), decoded_length: vec![0] };
        let (mut rest, mut sent) = (stream.as_bytes(), 0);
        for (size, extension) in [(40, ""), (1, ""), (17, ";a=b"), (64, ""), (7, "")].into_iter().cycle() {
            let (part, after) = rest.split_at(rest.len().min(size));
            if part.is_empty() {
                break;
            }
            wired.push(format!("{:x}{extension}\r\n", part.len()).as_bytes(), sent, 0);
            wired.push(part, sent, 1);
            sent += part.len();
            wired.push(b"\r\n", sent, 0);
            rest = after;
        }
        wired.push(b"0\r\nX-Trailer: 1\r\n\r\n", sent, 0);
        wired
    }

    fn push(&mut self, bytes: &[u8], sent: usize, step: usize) {
        self.raw.extend_from_slice(bytes);
        self.decoded_length.extend((1..=bytes.len()).map(|count| sent + count * step));
    }
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{fields}\r\n")
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// The ways in which an upstream ends a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Death {
    Close,
    /// Without close_notify.
    Truncation,
    Reset,
}

/// Reads a request, sends `head` and as much of `body` as the request's `?cut=` says, and dies. A reset waits for
/// `received`, since it would overtake what was sent.
fn dying(head: String, body: Vec<u8>, death: Death, received: Gate) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        let Some(request) = peer.read_request() else { return };
        let cut: usize = request.path().split_once("cut=").expect("a cut").1.parse().expect("a number");
        peer.write([head.as_bytes(), &body[..cut]].concat());
        match death {
            Death::Close => peer.close(),
            Death::Truncation => peer.close_abruptly(),
            Death::Reset => {
                received.pass();
                peer.reset();
            }
        }
    }
}

fn request(path: &str, cut: usize) -> String {
    format!("POST {path}?cut={cut} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}")
}

fn ask(gateway: &Gateway, path: &str, cut: usize) -> Response {
    let mut client = Client::connect(gateway.port());
    let response = client.ask(request(path, cut));
    // Leaves no port in TIME_WAIT: there are thousands of these.
    client.reset();
    response
}

/// Returns whether the events of a stream of `path` complete its turn.
fn is_complete(whole: &[Event], path: &str) -> bool {
    if path == GEMINI {
        return whole.len() >= 3;
    }
    whole.last().is_some_and(|event| {
        event.data == "[DONE]"
            || event.name == "message_stop"
            || event.data.starts_with("{\"type\":\"response.completed\"")
    })
}

/// The client reads all whole events that were sent, at most one that was half sent, and then an error event of the API
/// of `path`; or none where the turn was complete. Half a JSON object parses, and says that it is an error.
fn assert_ends_well(response: &Response, path: &str, sent: &[u8]) {
    let shown = format!("after {}\nthe client reads {}", shown(sent), shown(&response.body));
    assert_eq!(response.status, 200, "{shown}");
    assert!(response.is_whole, "{:?} {shown}", response.ended);
    assert!(response.body.starts_with(sent), "{shown}");
    let (whole, read) = (parse_events(sent), parse_events(&response.body));
    assert_eq!(read[..whole.len()], whole, "{shown}");
    let after = &read[whole.len()..];
    let json = |event: &Event| serde_json::from_str::<serde_json::Value>(&event.data);
    if is_complete(&whole, path) {
        // Google's clients read lines: one that broke off is made to parse.
        let parses = |event: &Event| event.data.is_empty() || json(event).is_ok_and(|json| json["error"].is_null());
        let is_harmless = |event: &Event| path == GEMINI && parses(event);
        assert!(after.iter().all(is_harmless), "{shown}");
        return;
    }
    let (last, half) = after.split_last().unwrap_or_else(|| panic!("no error event {shown}"));
    assert!(is_error_event(last, path), "{shown}");
    assert!(half.len() <= 1, "{shown}");
    let line = sent.rsplit(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    if line.starts_with(b"data:") && !line.ends_with(b"}") {
        let says_so = |event: &Event| {
            event.data == "[DONE]"
                || json(event).is_ok_and(|json| json["error"]["message"] == json_of(last)["error"]["message"])
        };
        assert!(half.iter().all(says_so), "{shown}");
    }
    if path == RESPONSES {
        let number = |event: &Event| json_of(event)["sequence_number"].as_u64();
        let (errors, before): (Vec<_>, Vec<_>) = read.iter().partition(|event| is_error_event(event, path));
        let mut numbers: Vec<_> = before.into_iter().filter_map(number).collect();
        // A half event that became an error may have told its own.
        let line = String::from_utf8_lossy(line);
        let has_own = line.split_once("\"sequence_number\":").is_some_and(|(_, own)| !own.is_empty());
        if errors.len() == 2 && has_own {
            numbers.push(numbers.len() as u64);
        }
        let next = numbers.len() as u64;
        assert!(numbers.into_iter().eq(0..next), "{shown}");
        assert!(errors.into_iter().all(|error| number(error) == Some(next)), "not {next} {shown}");
    }
}

fn json_of(event: &Event) -> serde_json::Value {
    serde_json::from_str(&event.data).unwrap_or_default()
}

/// Dies at every `step`th byte of a chunked stream.
fn assert_chunked_streams_end_well(is_tls: bool, death: Death, paths: &[&str], step: usize) {
    for line_end in ["\n", "\r\n"] {
        for path in paths {
            let stream = stream_of(path, line_end);
            let wired = Wired::chunked(&stream);
            let script = dying(head(CHUNKED), wired.raw.clone(), death, Gate::new());
            let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
            let gateway = Gateway::before(&upstream);
            for cut in (0..=wired.raw.len()).step_by(step) {
                let took = || {
                    let started = Instant::now();
                    let response = ask(&gateway, path, cut);
                    assert_ends_well(&response, path, &stream.as_bytes()[..wired.decoded_length[cut]]);
                    started.elapsed()
                };
                // A time limit that has to pass at this byte passes each time; a busy machine is not busy each time.
                assert!((0..5).any(|_| took() < Duration::from_secs(2)), "byte {cut} always takes 2 s");
            }
        }
    }
}

#[test]
fn a_chunked_messages_stream_that_breaks_at_any_byte_ends_well() {
    assert_chunked_streams_end_well(false, Death::Close, &[ANTHROPIC], 1);
}

#[test]
fn a_chunked_chat_stream_that_breaks_at_any_byte_ends_well() {
    assert_chunked_streams_end_well(false, Death::Close, &[CHAT, RESPONSES], 1);
}

#[test]
fn a_chunked_gemini_stream_that_breaks_at_any_byte_ends_well() {
    assert_chunked_streams_end_well(false, Death::Close, &[GEMINI], 1);
}

#[test]
fn a_stream_ends_in_its_own_language_whatever_the_path() {
    let pairs = [
        (ANTHROPIC, "/vertex_ai/v1/projects/p/locations/l/publishers/anthropic/models/m:streamRawPredict"),
        (ANTHROPIC, CHAT),
        (RESPONSES, ANTHROPIC),
        (CHAT, RESPONSES),
        (GEMINI, "/gemini/v1beta/models/g:streamGenerateContent"),
        (GEMINI, CHAT),
    ];
    for (api, path) in pairs {
        let stream = stream_of(api, "\n");
        let wired = Wired::chunked(&stream);
        let upstream = Upstream::plain(dying(head(CHUNKED), wired.raw.clone(), Death::Close, Gate::new()));
        let gateway = Gateway::before(&upstream);
        // From the end of the first event on.
        let first = stream.find("}\n\n").expect("an event") + 3;
        let begin = wired.decoded_length.iter().position(|length| *length >= first).expect("so much of it");
        for cut in (begin..=wired.raw.len()).step_by(7) {
            let response = ask(&gateway, path, cut);
            assert_ends_well(&response, api, &stream.as_bytes()[..wired.decoded_length[cut]]);
        }
    }
}

#[test]
fn before_the_first_event_the_path_decides_and_an_unknown_one_is_cut() {
    let upstream = Upstream::plain(dying(head(CHUNKED), chunk(": hi\n\n").into_bytes(), Death::Close, Gate::new()));
    let gateway = Gateway::before(&upstream);
    for cut in [0, 11] {
        for path in [ANTHROPIC, CHAT, RESPONSES, GEMINI] {
            let sent = if cut == 0 { "" } else { ": hi\n\n" };
            assert_ends_well(&ask(&gateway, path, cut), path, sent.as_bytes());
        }
        let response = ask(&gateway, UNKNOWN, cut);
        assert!(!response.is_whole, "{response:?}");
    }
}

#[test]
fn a_stream_of_an_unknown_language_is_cut() {
    let events = [
        "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"choices\":[]}}\n\n",
        "data: {\"type\":\"thing\"}\n\n",
        "data: plain text\n\n",
    ];
    for event in events {
        for framing in [CHUNKED, ""] {
            let body = if framing.is_empty() { event.to_owned() } else { chunk(event) };
            let death = if framing.is_empty() { Death::Truncation } else { Death::Close };
            let upstream = Upstream::tls(dying(head(framing), body.clone().into_bytes(), death, Gate::new()));
            let gateway = Gateway::before(&upstream);
            let response = ask(&gateway, CHAT, body.len());
            assert!(!response.is_whole, "{event}: {response:?}");
            assert_eq!(shown(&response.body), shown(event.as_bytes()));
        }
    }
}

#[test]
fn an_event_of_any_size_is_closed_well() {
    let begun = format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{}", "x".repeat(300_000));
    let body = format!("{:x}\r\n{begun}", begun.len());
    let upstream = Upstream::plain(dying(head(CHUNKED), body.clone().into_bytes(), Death::Close, Gate::new()));
    let gateway = Gateway::before(&upstream);
    assert_ends_well(&ask(&gateway, CHAT, body.len()), GEMINI, begun.as_bytes());
}

#[test]
fn a_chunked_stream_over_tls_that_breaks_ends_well() {
    assert_chunked_streams_end_well(true, Death::Close, &[ANTHROPIC], 23);
    assert_chunked_streams_end_well(true, Death::Truncation, &[CHAT], 19);
}

#[test]
fn an_orderly_close_ends_a_close_delimited_stream_between_its_events() {
    for (is_tls, step) in [(false, 1), (true, 31)] {
        let stream = stream_of(CHAT, "\n");
        let script = dying(head(""), stream.clone().into_bytes(), Death::Close, Gate::new());
        let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
        let gateway = Gateway::before(&upstream);
        for cut in (0..=stream.len()).step_by(step) {
            let response = ask(&gateway, CHAT, cut);
            let sent = &stream.as_bytes()[..cut];
            if has_open_data(sent) {
                assert_ends_well(&response, CHAT, sent);
            } else {
                assert!(response.is_whole, "{response:?}");
                assert_eq!(shown(&response.body), shown(sent));
            }
        }
    }
}

/// Returns whether the last event of a stream has a line of data, or the beginning of one, and no end.
fn has_open_data(sent: &[u8]) -> bool {
    let text = String::from_utf8_lossy(sent);
    let (lines, line) = text.rsplit_once('\n').unwrap_or_default();
    let line = if text.contains('\n') { line } else { &text };
    let event = lines.rsplit("\n\n").next().unwrap_or_default();
    let ended = lines.ends_with('\n');
    !line.is_empty() && (line.starts_with("data:") || "data:".starts_with(line)) || !ended && event.contains("data:")
}

#[test]
fn an_orderly_close_breaks_a_close_delimited_stream_whose_last_event_always_comes() {
    for (is_tls, step) in [(false, 1), (true, 31)] {
        for path in [ANTHROPIC, RESPONSES] {
            let stream = stream_of(path, "\n");
            let script = dying(head(""), stream.clone().into_bytes(), Death::Close, Gate::new());
            let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
            let gateway = Gateway::before(&upstream);
            for cut in (0..=stream.len()).step_by(step).chain([stream.len()]) {
                assert_ends_well(&ask(&gateway, path, cut), path, &stream.as_bytes()[..cut]);
            }
        }
    }
}

#[test]
fn a_close_delimited_stream_over_tls_without_close_notify_is_broken() {
    for line_end in ["\n", "\r\n"] {
        for path in [ANTHROPIC, CHAT] {
            let stream = stream_of(path, line_end);
            let wired = Wired::close_delimited(&stream);
            let upstream = Upstream::tls(dying(head(""), wired.raw, Death::Truncation, Gate::new()));
            let gateway = Gateway::before(&upstream);
            for cut in (0..=stream.len()).step_by(13).chain([stream.len() - 1, stream.len()]) {
                assert_ends_well(&ask(&gateway, path, cut), path, &stream.as_bytes()[..cut]);
            }
        }
    }
}

#[test]
fn a_close_delimited_stream_that_is_reset_is_broken() {
    let stream = stream_of(CHAT, "\n");
    let received = Gate::new();
    let upstream = Upstream::plain(dying(head(""), stream.clone().into_bytes(), Death::Reset, received.clone()));
    let gateway = Gateway::before(&upstream);
    for cut in (1..stream.len()).step_by(9).chain([stream.len()]) {
        let mut client = Client::connect(gateway.port());
        client.send(request(CHAT, cut));
        let response = client.read_response_after(&stream.as_bytes()[..cut], || received.open());
        assert_ends_well(&response, CHAT, &stream.as_bytes()[..cut]);
    }
}

#[test]
fn an_old_client_gets_the_error_event_and_then_the_close() {
    let stream = stream_of(CHAT, "\n");
    let wired = Wired::chunked(&stream);
    let upstream = Upstream::plain(dying(head(CHUNKED), wired.raw.clone(), Death::Close, Gate::new()));
    let gateway = Gateway::before(&upstream);
    for cut in (0..=wired.raw.len()).step_by(17) {
        let mut client = Client::connect(gateway.port());
        let response = client.ask(format!("GET {CHAT}?cut={cut} HTTP/1.0\r\n\r\n"));
        assert_eq!((response.field("transfer-encoding"), response.ended), (None, Ended::Eof));
        assert_ends_well(&response, CHAT, &stream.as_bytes()[..wired.decoded_length[cut]]);
    }
}

#[test]
fn every_other_answer_that_breaks_is_cut_so_that_it_shows() {
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let sse = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    let chunked = "a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n";
    let sized = "0123456789";
    let table = [
        (format!("{json}Transfer-Encoding: chunked\r\n\r\n"), chunked),
        (format!("{json}Content-Length: 10\r\n\r\n"), sized),
        (format!("{sse}Content-Length: 10\r\n\r\n"), sized),
        (format!("{sse}Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"), chunked),
    ];
    for (head, body) in table {
        for (is_tls, death) in [(false, Death::Close), (true, Death::Truncation), (true, Death::Close)] {
            let script = dying(head.clone(), body.as_bytes().to_vec(), death, Gate::new());
            let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
            let gateway = Gateway::before(&upstream);
            for cut in (0..body.len()).step_by(if is_tls { 5 } else { 1 }) {
                let mut client = Client::connect(gateway.port());
                let response = client.ask(request(CHAT, cut));
                assert!(!response.is_whole, "byte {cut} of {body:?} below {head}: {}", shown(&response.raw_body));
            }
            assert!(ask(&gateway, CHAT, body.len()).is_whole);
        }
    }
}

#[test]
fn a_truncated_close_delimited_answer_that_is_no_event_stream_shows_it() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    let upstream = Upstream::tls(dying(head.to_owned(), b"{\"a\":1}".to_vec(), Death::Truncation, Gate::new()));
    let gateway = Gateway::before(&upstream);
    for cut in [0, 1, 6, 7] {
        let response = ask(&gateway, CHAT, cut);
        assert!(!response.is_whole, "byte {cut}: {response:?}");
    }
}

#[test]
fn an_open_chunk_is_filled_up_to_64_kib_and_cut_beyond() {
    for (size, is_filled) in [(1000_u64, true), (60_000, true), (100_000, false), (1 << 40, false)] {
        let begun = format!("{size:x}\r\ndata: {{\"choices\":1}}\n\ndata: ");
        let upstream = Upstream::plain(dying(head(CHUNKED), begun.clone().into_bytes(), Death::Close, Gate::new()));
        let gateway = Gateway::before(&upstream);
        let response = ask(&gateway, CHAT, begun.len());
        if is_filled {
            let (_, sent) = begun.split_once("\r\n").expect("a size line");
            assert_ends_well(&response, CHAT, sent.as_bytes());
        } else {
            assert!(!response.is_whole, "{size} bytes");
        }
    }
}

#[test]
fn an_upstream_that_dies_in_its_head_is_a_502() {
    let head = head(CHUNKED);
    let upstream = Upstream::plain(dying(String::new(), head.clone().into_bytes(), Death::Close, Gate::new()));
    let gateway = Gateway::before(&upstream);
    for cut in [0, 1, 8, 12, 17, 30, head.len() - 3, head.len() - 1] {
        let response = ask(&gateway, CHAT, cut);
        assert_eq!(response.status, 502, "byte {cut}: {response:?}");
        assert!(response.error_code().is_some() && response.is_whole, "byte {cut}: {response:?}");
    }
}

#[test]
fn the_gateway_serves_on_after_broken_streams() {
    let stream = stream_of(CHAT, "\n");
    let wired = Wired::chunked(&stream);
    let upstream = Upstream::plain(dying(head(CHUNKED), wired.raw.clone(), Death::Close, Gate::new()));
    let gateway = Gateway::before(&upstream);
    ask(&gateway, CHAT, wired.raw.len());
    std::thread::sleep(Duration::from_millis(50));
    let before = gateway.open_descriptors();
    for cut in 0..50 {
        ask(&gateway, CHAT, cut);
    }
    gateway.wait_for_descriptors(before);
    assert_ends_well(&ask(&gateway, CHAT, wired.raw.len()), CHAT, stream.as_bytes());
}

#[test]
fn framing_that_breaks_after_a_complete_turn_takes_nothing_from_it() {
    let stream = stream_of(CHAT, "\n");
    let answer = head(CHUNKED) + &chunk(&stream);
    let received = Gate::new();
    let receiving = received.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        let Some(request) = peer.read_request() else { return };
        if request.path().ends_with("cut=0") {
            peer.write(format!("{answer}x\r\n"));
        } else {
            peer.write(&answer);
            receiving.pass();
            peer.write("x\r\n");
        }
        peer.close();
    });
    let gateway = Gateway::before(&upstream);
    // In the read that brings the head, and in a later one.
    assert_ends_well(&ask(&gateway, CHAT, 0), CHAT, stream.as_bytes());
    let mut client = Client::connect(gateway.port());
    client.send(request(CHAT, 1));
    let response = client.read_response_after(chunk(&stream).as_bytes(), || received.open());
    assert_ends_well(&response, CHAT, stream.as_bytes());
}
