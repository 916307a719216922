//! Fields that would pass for others: the client's under names that servers take for those of keys and framing, and the
//! upstream's that would make its answer look like an error of the gateway's own.

use crate::support::{Client, GET, Gateway, Upstream, answer, json, secrets_json, shown};

#[test]
fn what_a_server_would_take_for_a_key_or_for_framing_does_not_go_upstream() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let names = [
        "X-Api-Key",
        "Api-Key",
        "X-Litellm-Api-Key",
        "X-Goog-Api-Key",
        "Ocp-Apim-Subscription-Key",
        "Proxy-Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Keep-Alive",
        "Proxy-Connection",
    ];
    let lines: String = names
        .iter()
        .flat_map(|name| [name.replace('-', "_"), name.replace('-', "."), name.to_lowercase().replacen('-', "_", 1)])
        .map(|alias| format!("{alias}: 5\r\n"))
        .collect();
    let mut client = Client::connect(gateway.port());
    for framing in ["Content-Length: 2\r\n\r\nok", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        let request = format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nX_Kept.too: 1\r\n{lines}Last: 2\r\n{framing}");
        assert_eq!(client.ask(request).status, 200);
        let sent = upstream.requests().pop().expect("a request");
        assert_eq!(sent.body, b"ok");
        let others = ["host", "authorization", "content-length", "transfer-encoding", "x-request-id"];
        assert_eq!(sent.head.lines_without(&others), ["X_Kept.too: 1", "Last: 2"], "{:?}", sent.head);
        assert_eq!(sent.head.all("content-length").len() + sent.head.all("transfer-encoding").len(), 1);
    }
}

#[test]
fn trailers_of_a_request_carry_none_of_them_either() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let request = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                   X_Api_Key: k\r\nX-Sum: 1\r\nContent.Length: 7\r\ntransfer_encoding: chunked\r\n\r\n";
    assert_eq!(Client::connect(gateway.port()).ask(request).status, 200);
    assert_eq!(upstream.request().trailers, ["X-Sum: 1"]);
}

#[test]
fn the_mark_of_the_gateways_own_errors_is_removed_from_what_the_upstream_sends() {
    let marks = "X-Flow-Uring-Error: draining\r\nx_flow_uring_error: draining\r\nX.Flow.Uring-Error: draining\r\n";
    for status in ["200 OK", "404 Not Found", "503 Service Unavailable"] {
        let upstream = Upstream::plain(answer(format!(
            "HTTP/1.1 103 Early Hints\r\n{marks}Link: </x>\r\n\r\nHTTP/1.1 {status}\r\n{marks}X-One: 1\r\n\
             Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{marks}X-Sum: 1\r\nSet_Cookie: a\r\n\r\n"
        )));
        let gateway = Gateway::builder().upstream(&upstream).secrets(secrets_json(&["alpha"])).start();
        let response = Client::connect(gateway.port()).ask(GET);
        assert!(status.starts_with(&response.status.to_string()), "{response:?}");
        assert_eq!((response.text().as_str(), response.field("x-one")), ("ok", Some("1")), "{response:?}");
        assert_eq!(response.trailers, ["X-Sum: 1"]);
        let hints = response.interim.iter().map(|head| shown(&head.raw));
        for head in hints.chain([shown(&response.head.raw), shown(&response.raw_body)]) {
            assert!(!head.to_lowercase().contains("uring"), "{head}");
        }
        assert_eq!(response.interim.last().and_then(|head| head.field("link")), Some("</x>"));
    }
}
