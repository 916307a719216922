//! Sizes of heads, in both directions.

use crate::support::{Client, Ended, OK, Peer, Response, Upstream, answer, shown};
use crate::{
    DRIVERS, INTERIM_BYTES, INTERIM_HEADS, REQUEST_FIELDS, REQUEST_HEAD_BYTES, REQUEST_LINE_BYTES, RESPONSE_FIELDS,
    RESPONSE_HEAD_BYTES, builder,
};

/// The end of a request's line and its only field.
const REST: &str = "Host: localhost\r\n\r\n";

/// A head of `bytes` bytes that begins with `start`: its last field takes what is missing.
fn filled(start: &str, bytes: usize) -> String {
    const NAME: &str = "X-Filling: ";
    const END: &str = "\r\n\r\n";
    let head = format!("{start}{NAME}{}{END}", "x".repeat(bytes - start.len() - NAME.len() - END.len()));
    assert_eq!(head.len(), bytes);
    head
}

/// A request whose line, with its end, has so many bytes.
fn request_of_line(bytes: usize) -> String {
    let line = format!("GET /v1/{} HTTP/1.1\r\n", "x".repeat(bytes - "GET /v1/ HTTP/1.1\r\n".len()));
    assert_eq!(line.len(), bytes);
    line + REST
}

fn request_of_bytes(bytes: usize) -> String {
    filled("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n", bytes)
}

fn request_of_fields(count: usize) -> String {
    let others: String = (1..count).map(|number| format!("X-{number}: y\r\n")).collect();
    format!("GET /v1/x HTTP/1.1\r\n{others}{REST}")
}

#[test]
fn a_request_head_passes_up_to_its_last_byte_and_its_last_field() {
    let within =
        [request_of_line(REQUEST_LINE_BYTES), request_of_bytes(REQUEST_HEAD_BYTES), request_of_fields(REQUEST_FIELDS)];
    let beyond = [
        (request_of_line(REQUEST_LINE_BYTES + 1), 414, "request_line_too_long"),
        (request_of_bytes(REQUEST_HEAD_BYTES + 1), 431, "head_too_large"),
        (request_of_fields(REQUEST_FIELDS + 1), 431, "too_many_fields"),
    ];
    for driver in DRIVERS {
        let upstream = Upstream::plain(answer(OK));
        let gateway = builder(driver, &upstream).start();
        let mut client = Client::connect(gateway.port());
        for request in &within {
            assert_eq!(client.ask(request).text(), "ok", "{driver}: {}", shown(request.as_bytes()));
            // And where its last bytes come by themselves.
            let (start, end) = request.split_at(request.len() - 3);
            client.send(start).send_slowly(end);
            assert_eq!(client.read_response().text(), "ok", "{driver}: {}", shown(request.as_bytes()));
        }
        assert_eq!(upstream.requests().len(), 2 * within.len(), "{driver}");
        let before = upstream.bytes_received();
        for (request, status, code) in &beyond {
            let mut client = Client::connect(gateway.port());
            let refusal = client.ask(request);
            let expected = (*status, Some(*code));
            assert_eq!((refusal.status, refusal.error_code()), expected, "{driver}: {}", shown(request.as_bytes()));
            assert_eq!(client.expect_close(), Ended::Eof, "{driver}");
            gateway.wait_for_log(&format!("end=refused code={code}"));
        }
        assert_eq!(upstream.bytes_received(), before, "{driver}: something of them went upstream");
    }
}

/// An upstream that answers the requests for `/v1/0`, `/v1/1` and so on with these.
fn answering(answers: Vec<String>) -> Upstream {
    Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let number: usize = request.path().rsplit('/').next().and_then(|name| name.parse().ok()).expect("a number");
            if !peer.write(&answers[number]) {
                return;
            }
        }
    })
}

fn ask(port: u16, number: usize) -> Response {
    Client::connect(port).ask(format!("GET /v1/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

#[test]
fn an_answers_head_passes_up_to_its_last_byte_and_its_last_field() {
    const START: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
    let of_bytes = |bytes| filled(START, bytes) + "ok";
    let of_line = |bytes: usize| {
        let end = "Content-Length: 2\r\n\r\nok";
        format!("HTTP/1.1 200 {}\r\n{end}", "x".repeat(bytes + "ok".len() - "HTTP/1.1 200 \r\n".len() - end.len()))
    };
    let of_fields = |count: usize| format!("{START}{}\r\nok", "X-A: b\r\n".repeat(count - 1));
    let within = vec![of_bytes(RESPONSE_HEAD_BYTES), of_line(RESPONSE_HEAD_BYTES), of_fields(RESPONSE_FIELDS)];
    let beyond =
        vec![of_bytes(RESPONSE_HEAD_BYTES + 1), of_line(RESPONSE_HEAD_BYTES + 1), of_fields(RESPONSE_FIELDS + 1)];
    for driver in DRIVERS {
        let upstream = answering(within.clone());
        let gateway = builder(driver, &upstream).start();
        for number in 0..within.len() {
            let response = ask(gateway.port(), number);
            assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{driver}: {response:?}");
        }
        let sent = within[0].split("X-Filling: ").last().map(|end| end.len() - "\r\n\r\nok".len());
        assert_eq!(ask(gateway.port(), 0).field("x-filling").map(str::len), sent, "{driver}");
        assert_eq!(ask(gateway.port(), 2).head.all("x-a").len(), RESPONSE_FIELDS - 1, "{driver}");

        let upstream = answering(beyond.clone());
        let gateway = builder(driver, &upstream).start();
        for number in 0..beyond.len() {
            let response = ask(gateway.port(), number);
            assert_eq!((response.status, response.error_code()), (502, Some("upstream_malformed")), "{response:?}");
            upstream.wait_for_close(number);
        }
        gateway.wait_for_log_count("end=upstream_invalid code=upstream_malformed", beyond.len());
    }
}

#[test]
fn interim_answers_pass_up_to_their_last_byte() {
    const START: &str = "HTTP/1.1 103 Early Hints\r\n";
    let of_bytes = |bytes: usize| {
        let last = filled(START, bytes - (INTERIM_HEADS - 1) * 100);
        filled(START, 100).repeat(INTERIM_HEADS - 1) + &last + OK
    };
    for driver in DRIVERS {
        let upstream = answering(vec![of_bytes(INTERIM_BYTES), of_bytes(INTERIM_BYTES + 1)]);
        let gateway = builder(driver, &upstream).start();
        let response = ask(gateway.port(), 0);
        assert_eq!((response.text().as_str(), response.interim.len()), ("ok", INTERIM_HEADS), "{driver}");
        let response = ask(gateway.port(), 1);
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_malformed")), "{driver}");
        assert_eq!(response.interim.len(), INTERIM_HEADS - 1, "{driver}: those before it have gone on");
        gateway.wait_for_log("end=upstream_invalid code=upstream_malformed");
    }
}
