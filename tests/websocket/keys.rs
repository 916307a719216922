//! Keys of callers: where an upgrade may carry one, and what their limits mean for it.

use std::time::Duration;

use super::frame::{asked, text};
use super::{counting, echo_bytes, sample, switched, upgrade};
use crate::support::{Client, Gateway, Upstream};

const SECRET: &str = "made-up-key-of-a-caller-0123456789";

/// Returns a gateway with one key that has these limits and permissions.
fn with_key(upstream: &Upstream, rest: &str) -> (Gateway, tempfile::TempDir) {
    let files = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let keys = write("keys.json", &format!(r#"[{{"name":"team","key":"{SECRET}"{rest}}}]"#));
    let prices = write("prices.json", r#"{"m": {"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}}"#);
    let builder = counting(upstream).env("FLOW_PROXY_API_KEYS_FILE", keys).env("FLOW_PROXY_PRICES", prices);
    (builder.start(), files)
}

fn ask(gateway: &Gateway, path: &str) -> (u16, Option<String>) {
    let lines = format!("Authorization: Bearer {SECRET}\r\n");
    let response = Client::connect(gateway.port()).ask(upgrade(path, &lines));
    (response.status, response.error_code().map(str::to_owned))
}

#[test]
fn a_key_may_be_among_the_subprotocols_and_stays_here() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let (gateway, _files) = with_key(&upstream, "");
    for (protocols, status) in [
        (format!("realtime, openai-insecure-api-key.{SECRET}, openai-beta.realtime-v1"), 101),
        (format!("openai-insecure-api-key.{SECRET}"), 101),
        ("openai-insecure-api-key.another-key".to_owned(), 401),
        ("realtime".to_owned(), 401),
        (SECRET.to_owned(), 401),
    ] {
        let lines = format!("Sec-WebSocket-Protocol: {protocols}\r\n");
        assert_eq!(Client::connect(gateway.port()).ask(upgrade("/v1/realtime", &lines)).status, status, "{protocols}");
    }
    let requests = upstream.requests();
    let offered = requests.iter().map(|request| request.head.field("sec-websocket-protocol")).collect::<Vec<_>>();
    assert_eq!(offered, [Some("realtime, openai-beta.realtime-v1"), None]);
    assert!(requests.iter().all(|request| !String::from_utf8_lossy(&request.head.raw).contains(SECRET)));
    let is_told = gateway.log().iter().any(|line| line.contains(SECRET));
    assert!(!is_told);
    gateway.wait_for_log("key=\"team\"");
}

#[test]
fn a_socket_holds_its_place_for_as_long_as_it_lives() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let (gateway, _files) = with_key(&upstream, r#","limits":{"parallel":1}"#);
    let lines = format!("Authorization: Bearer {SECRET}\r\n");
    let mut first = Client::connect(gateway.port());
    assert_eq!(first.ask(upgrade("/v1/x", &lines)).status, 101);
    let mut second = Client::connect(gateway.port());
    second.send(upgrade("/v1/x", &lines));
    assert!(second.is_quiet_for(Duration::from_millis(300)), "it waits");
    assert_eq!(upstream.requests().len(), 1);
    drop(first);
    assert_eq!(second.read_response().status, 101);
}

#[test]
fn a_key_for_some_models_is_for_sockets_that_can_have_no_other() {
    let upstream = Upstream::plain(switched(echo_bytes));
    for rest in [r#","models":["m"]"#, r#","limits":{"usd_per_day":1}"#] {
        let (gateway, _files) = with_key(&upstream, rest);
        let refused = |code: &str| (403, Some(code.to_owned()));
        let other = if rest.contains("models") { "model_not_allowed" } else { "model_without_price" };
        assert_eq!(ask(&gateway, "/v1/realtime?model=m"), (101, None), "{rest}");
        assert_eq!(ask(&gateway, "/v1/realtime?model=other"), refused(other), "{rest}");
        assert_eq!(ask(&gateway, "/v1/realtime"), refused("model_not_allowed"), "{rest}");
        // Each message there may name another one.
        assert_eq!(ask(&gateway, "/v1/responses?model=m"), refused("model_not_allowed"), "{rest}");
    }
}

#[test]
fn a_socket_ends_with_the_answer_that_reaches_a_limit_of_its_key() {
    const COMPLETED: &str = r#"{"type":"response.completed","response":{"usage":{"input_tokens":40,"output_tokens":20,"total_tokens":60}}}"#;
    for (limit, answers) in [(r#""tokens_per_day":100"#, 2), (r#""tokens_per_minute":60"#, 1)] {
        let upstream = Upstream::plain(switched(|peer| {
            while peer.read_some().is_some() {
                // What follows the answer in the same write is not begun downstream unless it is whole.
                peer.write([text(COMPLETED), text("more"), text("half")[..3].to_vec()].concat());
                peer.write(&text("half")[3..]);
            }
        }));
        let (gateway, _files) = with_key(&upstream, &format!(r#","limits":{{{limit}}}"#));
        let mut client = Client::connect(gateway.port());
        let lines = format!("Authorization: Bearer {SECRET}\r\n");
        assert_eq!(client.ask(upgrade("/v1/responses", &lines)).status, 101);
        assert_eq!(ask(&gateway, "/v1/responses"), (101, None), "nothing was used yet");
        for _ in 1..answers {
            client.send(asked("go"));
            client.read_until(text("half"));
        }
        client.send(asked("go"));
        let (bytes, _) = client.read_to_end();
        let rest = bytes.strip_prefix(&text(COMPLETED)[..]).expect("the answer, whole");
        let rest = rest.strip_prefix(&text("more")[..]).unwrap_or(rest);
        let close = rest.strip_prefix(&text("half")[..]).unwrap_or(rest);
        let name = limit.split('"').nth(1).expect("a name");
        let reason = format!("This API key has reached its limit {name} (again in ");
        assert_eq!((close[0], usize::from(close[1])), (0x88, close.len() - 2), "a Close frame and nothing else");
        assert_eq!(close[2..4], 1008_u16.to_be_bytes());
        assert!(close[4..].starts_with(reason.as_bytes()), "{}", String::from_utf8_lossy(close));
        assert!(gateway.wait_for_log("end=refused").contains("status=101"));
        assert_eq!(ask(&gateway, "/v1/responses").0, 429, "the next one is refused");
    }
}

#[test]
fn a_running_answer_is_not_cut_for_what_is_charged_beside_it() {
    const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"abc"}"#;
    const TRANSCRIBED: &str = r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"input_tokens":90,"output_tokens":20,"total_tokens":110}}"#;
    const DONE: &str =
        r#"{"type":"response.done","response":{"usage":{"total_tokens":3,"input_tokens":2,"output_tokens":1}}}"#;
    let upstream = Upstream::plain(switched(|peer| {
        peer.read_some();
        for message in [DELTA, TRANSCRIBED, DELTA, DONE] {
            peer.write(text(message));
            peer.read_some();
        }
        peer.read_to_end();
    }));
    let (gateway, _files) = with_key(&upstream, r#","limits":{"tokens_per_day":100}"#);
    let mut client = Client::connect(gateway.port());
    let lines = format!("Authorization: Bearer {SECRET}\r\n");
    assert_eq!(client.ask(upgrade("/v1/realtime", &lines)).status, 101);
    for message in [DELTA, TRANSCRIBED, DELTA] {
        client.send(asked("go"));
        assert_eq!(client.read_until(text(message)), text(message));
    }
    client.send(asked("go"));
    let (bytes, _) = client.read_to_end();
    let close = bytes.strip_prefix(&text(DONE)[..]).expect("its end");
    assert_eq!((close[0], &close[2..4]), (0x88, &1008_u16.to_be_bytes()[..]));
}

#[test]
fn requests_a_minute_count_upgrades() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let (gateway, _files) = with_key(&upstream, r#","limits":{"requests_per_minute":2}"#);
    let statuses: Vec<u16> = (0..3).map(|_| ask(&gateway, "/v1/x").0).collect();
    assert_eq!(statuses, [101, 101, 429]);
    assert_eq!(sample(&gateway, "flow_uring_websockets_total"), 2.0);
}

#[test]
fn without_keys_of_its_own_a_callers_key_among_the_protocols_stays_here_too() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let gateway = Gateway::before(&upstream);
    for (protocols, expected) in [
        (None, None),
        (Some("realtime, y"), Some("realtime, y")),
        (Some("realtime, openai-insecure-api-key.abc, y"), Some("realtime, y")),
        (Some("openai-insecure-api-key.abc"), None),
    ] {
        let line = protocols.map(|protocols| format!("Sec-WebSocket-Protocol: {protocols}\r\n"));
        let mut client = Client::connect(gateway.port());
        assert_eq!(client.ask(upgrade("/v1/x", line.as_deref().unwrap_or_default())).status, 101);
        let requests = upstream.requests();
        let last = requests.last().expect("a request");
        assert_eq!(last.head.field("sec-websocket-protocol"), expected);
    }
}
