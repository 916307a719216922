//! Evidence before blame: a refusal can be about the credential, its quota, the model, one object, or the request, and
//! only a good answer to another identity for the same request tells which.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::cooldowns::{cooldowns, limited};
use crate::support::{Client, Gateway, OK, Peer, Request, Totals, Upstream, lines_saying, secrets_json, value_of};
use crate::table::{Gets, Row, Step, check, is_check, row, says, tried};

const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";

/// Returns an answer with this status and JSON body.
fn json(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn error(status: u16, kind: &str) -> String {
    json(status, &format!(r#"{{"error":{{"message":"a message","type":"{kind}","param":null,"code":"{status}"}}}}"#))
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn chat(model: &str) -> String {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"\"model\":\"x\""}}],"model":"{model}"}}"#);
    post("/v1/chat/completions", &body)
}

fn model_of(request: &Request) -> String {
    let body = String::from_utf8_lossy(&request.body);
    body.rsplit_once(r#""model":""#).map_or(String::new(), |(_, rest)| rest.trim_end_matches("\"}").to_owned())
}

/// An upstream that answers each request as `reply` says by its credential and its model, and checks by `-`.
fn by_model(reply: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Upstream {
    Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let model = if is_check(&request) { "-".to_owned() } else { model_of(&request) };
            peer.write(reply(&request.credential(), &model));
        }
    })
}

fn gateway(upstream: &Upstream, names: &[&str], shards: usize) -> Gateway {
    Gateway::builder().shards(shards).secrets(secrets_json(names)).upstream(upstream).start()
}

/// Sends the requests that `make` makes of the numbers below `count`, from `at_once` clients, and returns the statuses.
fn ask_all(gateway: &Gateway, at_once: usize, count: usize, make: impl Fn(usize) -> String + Sync) -> Vec<u16> {
    let (next, statuses) = (Mutex::new(0..count), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let mut client = Client::connect_unrecorded(gateway.port());
                loop {
                    let Some(number) = next.lock().expect("nobody panics with it").next() else { return };
                    let status = client.ask(make(number)).status;
                    statuses.lock().expect("nobody panics with it").push(status);
                }
            });
        }
    });
    statuses.into_inner().expect("nobody panics with it")
}

/// Waits for `awaited` rests, and returns credential, scope and name of each that the log tells.
fn rests(gateway: &Gateway, awaited: usize) -> Vec<(String, String, String)> {
    gateway.wait_for_log_count("credential cools down", awaited);
    let text = |line: &str, name| value_of(line, name).unwrap_or_default().to_owned();
    let lines = lines_saying(&gateway.log(), "credential cools down");
    lines.iter().map(|line| (text(line, "credential"), text(line, "scope"), text(line, "of"))).collect()
}

fn rest(credential: &str, scope: &str, of: &str) -> (String, String, String) {
    (credential.to_owned(), scope.to_owned(), of.to_owned())
}

#[test]
fn a_credential_that_may_not_use_one_model_serves_the_others() {
    const COUNT: usize = 3000;
    let forbidden = |name: &str, model: &str| name == "b" && model == "m0";
    let upstream = by_model(move |name, model| if forbidden(name, model) { FORBIDDEN.into() } else { OK.into() });
    let gateway = gateway(&upstream, &["a", "b", "c"], 2);
    let statuses = ask_all(&gateway, 20, COUNT, |number| chat(&format!("m{}", number % 3)));
    assert!(statuses.len() == COUNT && statuses.iter().all(|status| *status == 200));
    let requests: Vec<_> = upstream.requests().into_iter().filter(|request| !is_check(request)).collect();
    let refused = requests.iter().filter(|request| forbidden(&request.credential(), &model_of(request))).count();
    println!("{refused} of {} attempts went to the forbidden pair", requests.len());
    assert!(refused > 0 && refused - 1 <= requests.len() / 100, "{refused} of {}", requests.len());
    gateway.wait_for_log("credential cools down");
    assert_eq!(rests(&gateway, 1), [rest("b", "model", "m0")]);
    for name in ["a", "b", "c"] {
        let share = tried(&requests).matches(name).count();
        assert!((COUNT / 5..COUNT / 2).contains(&share), "{name}: {share}");
    }
}

#[test]
fn a_model_that_is_limited_for_everybody_costs_one_attempt_a_request_and_others_nothing() {
    const COUNT: usize = 1000;
    let upstream = by_model(|_, model| if model == "busy" { limited(45) } else { OK.into() });
    let mut gateway = gateway(&upstream, &["a", "b", "c"], 2);
    let statuses = ask_all(&gateway, 20, COUNT, |_| chat("busy"));
    assert!(statuses.len() == COUNT && statuses.iter().all(|status| *status == 429));
    let attempts = upstream.requests().len();
    println!("{attempts} attempts for {COUNT} requests");
    assert!(attempts <= COUNT + 10, "{attempts} attempts for {COUNT} requests");
    let mut client = Client::connect(gateway.port());
    for _ in 0..30 {
        assert_eq!(client.ask(chat("free")).status, 200);
    }
    let order = tried(&upstream.requests()[attempts..]);
    assert_eq!(["a", "b", "c"].map(|name| order.matches(name).count()), [10; 3], "{order}");
    assert!(gateway.count_log("limited for all credentials") >= 1);
    assert_eq!(Totals::at_the_end_of(&mut gateway).of("cooldowns"), 0);
}

#[test]
fn no_limit_reaches_a_client_while_one_credential_is_left() {
    const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let upstream = by_model(|name, _| if name < "h" { limited(45) } else { OK.into() });
    let gateway = gateway(&upstream, &NAMES, 2);
    let statuses = ask_all(&gateway, 20, 600, |_| chat("m"));
    assert!(statuses.len() == 600 && statuses.iter().all(|status| *status == 200));
    let mut resting = rests(&gateway, 7);
    resting.sort();
    let expected: Vec<_> = NAMES[..7].iter().map(|name| rest(name, "model", "m")).collect();
    assert_eq!(resting, expected);
}

#[test]
fn a_model_whose_limit_comes_in_turns_is_that_of_everybody() {
    // `a` rests for it when `b` is limited too: nobody is left who has not said so.
    let first = Mutex::new(true);
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let is_first_of_b = request.credential() == "b" && std::mem::take(&mut *first.lock().expect("no panic"));
            peer.write(if is_first_of_b { OK.to_owned() } else { limited(45) });
        }
    });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(chat("m")).status, 200);
    assert_eq!(rests(&gateway, 1), [rest("a", "model", "m")]);
    for _ in 0..5 {
        assert_eq!(client.ask(chat("m")).status, 429);
    }
    assert_eq!(tried(&upstream.requests()), "abbbbbb");
    gateway.wait_for_log("limited for all credentials");
    assert_eq!((rests(&gateway, 1).len(), gateway.count_log("limited for all credentials")), (1, 1));
}

#[test]
fn a_model_is_limited_for_everybody_only_where_everybody_said_so() {
    let upstream = by_model(|name, _| if name == "a" { FORBIDDEN.to_owned() } else { limited(45) });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(chat("m")).status, 429);
    client.ask(chat("m"));
    assert_eq!(tried(&upstream.requests()), "abba", "nothing is known of `a`");
    assert_eq!(gateway.count_log("limited for all credentials"), 0);
}

#[test]
fn a_good_answer_ends_a_limit_for_everybody() {
    // From its second attempt on, `a` is served.
    let attempts_of_a = Mutex::new(0);
    let upstream = by_model(move |name, _| {
        let mut attempts = attempts_of_a.lock().expect("no panic");
        *attempts += usize::from(name == "a");
        if name == "a" && *attempts > 1 { OK.to_owned() } else { limited(45) }
    });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    let statuses: Vec<u16> = (0..4).map(|_| client.ask(chat("m")).status).collect();
    assert_eq!(statuses, [429, 429, 200, 200]);
    assert_eq!(tried(&upstream.requests()), "abbaba");
    gateway.wait_for_log("no longer limited for all credentials");
}

#[test]
fn three_models_that_are_limited_within_a_minute_are_the_credential() {
    let upstream = by_model(|name, _| if name == "a" { limited(600) } else { OK.into() });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    for number in 0..6 {
        assert_eq!(client.ask(chat(&format!("m{number}"))).status, 200);
    }
    let models = (0..3).map(|number| rest("a", "model", &format!("m{}", 2 * number)));
    let expected: Vec<_> = models.chain([rest("a", "credential", "")]).collect();
    // The turns of `a` are the first, the third and the fifth.
    assert_eq!(rests(&gateway, 4), expected);
    assert_eq!(client.ask(chat("new")).status, 200);
    assert_eq!(tried(&upstream.requests()).matches('a').count(), 3);
}

#[test]
fn a_limit_without_a_model_is_that_of_the_kind_of_request() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let is_limited = request.credential() == "a" && request.path().contains("/files");
            peer.write(if is_limited { limited(600) } else { OK.to_owned() });
        }
    });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    for _ in 0..4 {
        assert_eq!(client.ask("GET /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    }
    assert_eq!(tried(&upstream.requests()), "abbbb");
    for _ in 0..4 {
        assert_eq!(client.ask(chat("m")).status, 200);
    }
    assert_eq!(tried(&upstream.requests()[5..]), "abab");
    assert_eq!(rests(&gateway, 1), [rest("a", "path_family", "files")]);
}

#[test]
fn a_403_is_looked_into_in_the_background() {
    let request = |text: &str| text.to_owned().into_bytes();
    let found = "GET /v1/responses/resp_1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let forbidden = |name: &str, request: Vec<u8>, unknown, cools| Row {
        request,
        unknown,
        steps: vec![says(403), says(200)],
        tried: "ab",
        gets: Gets::Answer(1),
        reasons: vec!["refused"],
        cools,
        ..row(name)
    };
    check(&[
        forbidden("not known", request(&chat("m")), "a", vec![("a", "refused", 300.0)]),
        forbidden("not known, no model", request(&chat("")), "a", vec![("a", "refused", 300.0)]),
        forbidden("known: it is about the model", request(&chat("m")), "", vec![("a", "forbidden", 600.0)]),
        forbidden("known, no model", request(&chat("")), "", vec![]),
        forbidden("models are for nobody", request(&chat("m")), "abc", vec![("a", "forbidden", 600.0)]),
        forbidden("an object in the path", request(found), "a", vec![]),
        forbidden(
            "an object in the body",
            request(&post("/v1/responses", r#"{"previous_response_id":"resp_1","model":"m"}"#)),
            "a",
            vec![],
        ),
        Row {
            steps: vec![
                Step::Writes(vec![crate::table::Part::Bytes(error(401, "key_model_access_denied"))]),
                says(200),
            ],
            request: request(&chat("m")),
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["refused"],
            cools: vec![("a", "forbidden", 600.0)],
            ..row("a 401 that says that it is about the model")
        },
    ]);
}

#[test]
fn one_identity_is_checked_once_a_minute() {
    let upstream = by_model(|name, model| if name == "a" && model != "-" { FORBIDDEN.into() } else { OK.into() });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    for number in 0..8 {
        assert_eq!(client.ask(chat(&format!("m{number}"))).status, 200);
    }
    gateway.wait_for_log_count("credential cools down", 4);
    let checks = upstream.requests().iter().filter(|request| is_check(request)).count();
    // Its answer was good, so nobody had to be asked whether anybody's is.
    assert_eq!(checks, 1);
    let rests = rests(&gateway, 4);
    assert!(rests.iter().all(|(name, scope, _)| name == "a" && scope == "model"), "{rests:?}");
}

#[test]
fn a_revoked_credential_rests_as_a_whole_and_for_no_model() {
    let upstream = by_model(|name, model| {
        if name == "b" && model == "-" {
            // Others are refused meanwhile.
            thread::sleep(Duration::from_millis(200));
        }
        if name == "b" { FORBIDDEN.into() } else { OK.into() }
    });
    let mut gateway = gateway(&upstream, &["a", "b", "c"], 2);
    assert_eq!(ask_all(&gateway, 4, 60, |number| chat(&format!("m{number}"))), [200; 60]);
    assert_eq!(rests(&gateway, 1), [rest("b", "credential", "")]);
    let before = upstream.requests().len();
    assert_eq!(ask_all(&gateway, 4, 60, |number| chat(&format!("m{number}"))), [200; 60]);
    assert_eq!(tried(&upstream.requests()[before..]).matches('b').count(), 0);
    assert_eq!(Totals::at_the_end_of(&mut gateway).of("cooldowns"), 1);
}

#[test]
fn a_quota_that_is_used_up_is_followed_by_the_next_credential() {
    let used_up = |name: &str, answer: String, gets| Row {
        request: chat("m").into_bytes(),
        steps: vec![Step::Writes(vec![crate::table::Part::Bytes(answer)]), says(200)],
        tried: "ab",
        gets: Gets::Answer(gets),
        reasons: vec!["quota_used_up"],
        cools: vec![("a", "quota_used_up", 900.0)],
        ..row(name)
    };
    let mut rows = vec![used_up("402", json(402, "{}"), 1)];
    for status in [400, 403, 429] {
        for kind in ["budget_exceeded", "insufficient_quota", "billing_error", "billing_hard_limit_reached"] {
            rows.push(used_up(&format!("{status} {kind}"), error(status, kind), 1));
        }
    }
    for kind in ["invalid_request_error", "billing_address_invalid"] {
        rows.push(Row {
            request: chat("m").into_bytes(),
            steps: vec![Step::Writes(vec![crate::table::Part::Bytes(error(400, kind))])],
            ..row("400 for another reason")
        });
    }
    rows.push(Row {
        request: chat("m").into_bytes(),
        steps: vec![says(402), says(402), says(402)],
        tried: "abc",
        gets: Gets::Answer(2),
        reasons: vec!["quota_used_up"; 2],
        ..row("402 for all")
    });
    check(&rows);
}

#[test]
fn a_second_model_without_a_quota_is_the_credential() {
    let upstream = by_model(|name, _| if name == "a" { error(400, "budget_exceeded") } else { OK.into() });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    for number in 0..6 {
        assert_eq!(client.ask(chat(&format!("m{number}"))).status, 200);
    }
    let expected = [rest("a", "model", "m0"), rest("a", "model", "m2"), rest("a", "credential", "")];
    assert_eq!(rests(&gateway, 3), expected);
    assert_eq!(cooldowns(&gateway, 3).last(), Some(&("a".to_owned(), 900.0)));
    assert_eq!(tried(&upstream.requests()).matches('a').count(), 2);
}

#[test]
fn sixteen_credentials_are_asked_and_no_more() {
    let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for answer in [limited(45), json(402, "{}")] {
        let upstream = by_model(move |_, _| answer.clone());
        let gateway = gateway(&upstream, &names, 1);
        Client::connect(gateway.port()).ask(chat("m"));
        assert_eq!(upstream.requests().len(), 16);
    }
}

#[test]
fn a_body_that_comes_after_its_head_is_waited_for_where_somebody_rests_for_a_model() {
    let upstream = by_model(|name, model| if name == "a" && model == "m" { limited(600) } else { OK.into() });
    let gateway = gateway(&upstream, &["a", "b"], 1);
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(chat("m")).status, 200);
    for (model, expects) in [("m", false), ("m", false), ("m", true), ("n", false), ("m", true), ("n", true)] {
        let request = chat(model);
        let (head, body) = request.split_once("\r\n\r\n").expect("a head");
        if expects {
            client.send(format!("{head}\r\nExpect: 100-continue\r\n\r\n")).read_until("100 Continue\r\n\r\n");
        } else {
            client.send(format!("{head}\r\n\r\n"));
            thread::sleep(Duration::from_millis(20));
        }
        client.send(body);
        assert_eq!(client.read_response().status, 200);
    }
    let requests = upstream.requests();
    assert_eq!(requests.iter().filter(|request| request.credential() == "a" && model_of(request) == "m").count(), 1);
}
