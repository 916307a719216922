//! Answers that are refusals or failures: those that are tried again with another credential, those that are passed on,
//! and the credential that is blamed.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::{Client, Gateway, POST, Peer, Upstream, secrets_json};
use crate::table::{Gets, Part, Row, Step, check, row, says, says_with, tried};

#[test]
fn a_refused_credential_is_followed_by_the_next_and_blamed_where_that_one_gets_a_good_answer() {
    let mut rows = Vec::new();
    for last in [200, 201, 204] {
        rows.push(Row {
            steps: vec![says(401), says(403), plain(last)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["refused"; 2],
            cools: vec![("a", "refused", 300.0)],
            ..row(format!("401, 403, {last}"))
        });
    }
    for last in [302, 400, 404, 500] {
        rows.push(Row {
            steps: vec![says(401), says(403), says(last)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["refused"; 2],
            ..row(format!("no good answer, no evidence: 401, 403, {last}"))
        });
    }
    rows.push(Row {
        steps: vec![says(401), says(503), says(200)],
        tried: "abc",
        gets: Gets::Answer(2),
        reasons: vec!["refused", "unavailable"],
        cools: vec![("a", "refused", 300.0)],
        ..row("401, 503, 200")
    });
    check(&rows);
}

#[test]
fn a_request_that_all_refuse_gets_the_first_answer_and_nobody_is_blamed() {
    let refused_by_all = |name: &str, names: &[&str], statuses: &[u16], tried| Row {
        secrets: secrets_json(names),
        steps: statuses.iter().map(|status| says(*status)).collect(),
        tried,
        gets: Gets::Answer(0),
        reasons: vec!["refused"; tried.len() - 1],
        ..row(name)
    };
    check(&[
        refused_by_all("three of three", &["a", "b", "c"], &[401, 401, 401], "abc"),
        refused_by_all("401 and 403 mixed", &["a", "b", "c"], &[403, 401, 403], "abc"),
        refused_by_all("two of two", &["a", "b"], &[401, 403], "ab"),
        refused_by_all("three of five, and no more", &["a", "b", "c", "d", "e"], &[401, 401, 401], "abc"),
        refused_by_all("repeated entries are one identity", &["a", "a", "b"], &[401, 401], "ab"),
        refused_by_all("repeated entries are one credential", &["a", "a", "a"], &[401], "a"),
        refused_by_all("the only credential, 401", &["a"], &[401], "a"),
        refused_by_all("the only credential, 403", &["a"], &[403], "a"),
    ]);
}

#[test]
fn a_rate_limited_credential_is_followed_by_the_next_and_cools_down_for_as_long_as_was_said() {
    let dated = Some(Instant::now());
    let told = |field: &str, seconds| Row {
        dated: dated.filter(|_| field.ends_with("GMT")),
        steps: vec![says_with(429, field), says(200)],
        tried: "ab",
        gets: Gets::Answer(1),
        reasons: vec!["rate_limited"],
        cools: vec![("a", "rate_limited", seconds)],
        ..row(field)
    };
    check(&[
        told("Retry-After: 200", 200.0),
        told("retry-after: 200", 200.0),
        told(&format!("Retry-After: {}", http_date_in(Duration::from_secs(1000))), 1000.0),
        told("retry-after-ms: 120000", 120.0),
        told("Retry-After-Ms: 2500", 2.5),
        told("Retry-After: 86400", 3600.0),
        told("retry-after-ms: 7200000", 3600.0),
        told(&format!("Retry-After: {}", http_date_in(Duration::from_secs(100_000))), 3600.0),
        told("Retry-After: 99999999999999999999999999", 3600.0),
        told("X-Nothing: said", 30.0),
        told("Retry-After: soon", 30.0),
        told("Retry-After: -5", 30.0),
        told("Retry-After:", 30.0),
    ]);
}

#[test]
fn where_all_are_rate_limited_the_last_answer_is_passed_on() {
    check(&[
        Row {
            steps: vec![says(429), says(429), says(429)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["rate_limited"; 2],
            ..row("nobody says how long, nobody is blamed")
        },
        Row {
            steps: vec![
                says_with(429, "Retry-After: 90"),
                says_with(429, "Retry-After: 80"),
                says_with(429, "Retry-After: 70"),
            ],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["rate_limited"; 2],
            ..row("all say how long: it is the model's limit")
        },
        Row {
            steps: vec![says_with(429, "Retry-After: 90"), says(429), says(429)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["rate_limited"; 2],
            ..row("one says how long")
        },
        Row {
            steps: vec![says(429), says(429), says(200)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["rate_limited"; 2],
            cools: vec![("a", "rate_limited", 30.0), ("b", "rate_limited", 30.0)],
            ..row("the last one is not limited")
        },
        Row {
            secrets: secrets_json(&["a"]),
            steps: vec![says_with(429, "Retry-After: 90")],
            cools: vec![("a", "rate_limited", 90.0)],
            ..row("the only credential: passed on at once, and its cooldown shows")
        },
        Row {
            secrets: secrets_json(&["a"]),
            steps: vec![says(429)],
            ..row("the only credential, and nobody says how long")
        },
        Row {
            secrets: secrets_json(&["a", "a"]),
            steps: vec![says(429)],
            ..row("the only identity, twice in the file")
        },
    ]);
}

#[test]
fn refused_and_rate_limited_in_one_request() {
    check(&[
        Row {
            steps: vec![says_with(429, "Retry-After: 90"), says(401), says(200)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["rate_limited", "refused"],
            cools: vec![("a", "rate_limited", 90.0), ("b", "refused", 300.0)],
            ..row("429, 401, 200")
        },
        Row {
            steps: vec![says(401), says_with(429, "Retry-After: 90"), says(200)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["refused", "rate_limited"],
            cools: vec![("a", "refused", 300.0), ("b", "rate_limited", 90.0)],
            ..row("401, 429, 200")
        },
    ]);
}

#[test]
fn an_upstream_that_is_unavailable_is_no_evidence_against_a_credential() {
    check(&[
        Row {
            steps: vec![says(401), says(503), says(502), says(504)],
            tried: "abcb",
            gets: Gets::Answer(3),
            reasons: vec!["refused", "unavailable", "unavailable"],
            ..row("401, and then nothing but 5xx")
        },
        Row {
            steps: vec![says(429), says(503), says(503), says(503)],
            tried: "abcb",
            gets: Gets::Answer(3),
            reasons: vec!["rate_limited", "unavailable", "unavailable"],
            ..row("429, and then nothing but 503")
        },
        Row {
            steps: vec![Step::SaysAndCloses(401), Step::Closes, Step::SaysAndCloses(503), Step::Closes],
            tried: "abcb",
            gets: Gets::Answer(2),
            reasons: vec!["refused", "upstream_closed", "unavailable"],
            ..row("401, and then closed connections and a 503")
        },
        Row {
            steps: vec![says(401), says(503), says(401), says(403)],
            tried: "abcb",
            gets: Gets::Answer(3),
            reasons: vec!["refused", "unavailable", "refused"],
            ..row("not all are refusals, so the last of them is passed on")
        },
    ]);
}

#[test]
fn an_upstream_that_is_unavailable_is_asked_again_by_the_next_credential_and_nobody_is_blamed() {
    let mut rows = Vec::new();
    for status in [502, 503, 504, 529] {
        rows.push(Row {
            steps: vec![says(status), says(200)],
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["unavailable"],
            ..row(format!("{status}, 200"))
        });
    }
    let unavailable = |name: &str, names: &[&str], steps: &[u16], tried, gets| Row {
        secrets: secrets_json(names),
        steps: steps.iter().map(|status| says(*status)).collect(),
        tried,
        gets: Gets::Answer(gets),
        reasons: vec!["unavailable"; tried.len() - 1],
        ..row(name)
    };
    rows.extend([
        unavailable("two more attempts", &["a", "b", "c"], &[503, 502, 200], "abc", 2),
        unavailable("and no more: the last answer", &["a", "b", "c", "d"], &[503, 529, 504], "abc", 2),
        unavailable("two credentials take turns", &["a", "b"], &[503, 503, 503], "aba", 2),
        unavailable("one credential is used again", &["a"], &[503, 503, 200], "aaa", 2),
        unavailable("one credential, all in vain", &["a"], &[502, 503, 504], "aaa", 2),
        unavailable("one identity twice in the file is used again", &["a", "a"], &[503, 200], "aa", 1),
        unavailable("another status ends it", &["a", "b", "c"], &[503, 500], "ab", 1),
    ]);
    // A 503's Retry-After is for clients: it makes no cooldown and no longer pause.
    rows.push(Row {
        steps: vec![says_with(503, "Retry-After: 60"), says(200)],
        tried: "ab",
        gets: Gets::Answer(1),
        reasons: vec!["unavailable"],
        ..row("503 with Retry-After, 200")
    });
    check(&rows);
}

#[test]
fn the_last_answer_is_passed_on_where_a_later_attempt_got_none() {
    check(&[
        Row {
            steps: vec![Step::SaysAndCloses(503), Step::Closes, Step::Resets],
            tried: "abc",
            gets: Gets::Answer(0),
            reasons: vec!["unavailable", "upstream_closed"],
            ..row("503, closed, reset")
        },
        Row {
            steps: vec![Step::Closes, Step::SaysAndCloses(504), Step::Closes],
            tried: "abc",
            gets: Gets::Answer(1),
            reasons: vec!["upstream_closed", "unavailable"],
            ..row("closed, 504, closed")
        },
        Row {
            steps: vec![Step::SaysAndGoes(503)],
            tried: "a",
            gets: Gets::Answer(0),
            reasons: vec!["unavailable", "unreachable"],
            attempts: Some(3),
            ..row("503, then nobody listens")
        },
    ]);
}

#[test]
fn any_other_status_is_passed_on() {
    let statuses = [200, 201, 204, 304, 400, 404, 405, 408, 409, 413, 422, 425, 500, 501, 505, 507, 520];
    let mut rows: Vec<Row> =
        statuses.iter().map(|&status| Row { steps: vec![plain(status)], ..row(format!("{status}")) }).collect();
    rows.push(Row { steps: vec![says_with(302, "Location: https://elsewhere.example/v1/x")], ..row("302") });
    // A Retry-After is for the client where the status is none that is tried again.
    rows.push(Row { steps: vec![says_with(500, "Retry-After: 100")], ..row("500 with Retry-After") });
    check(&rows);
}

/// 204 and 304 have no body, and 204 no length either.
fn plain(status: u16) -> Step {
    match status {
        204 => Step::Writes(vec![Part::Bytes("HTTP/1.1 204 No Content\r\nX-Attempt: 0\r\n\r\n".into())]),
        status => says(status),
    }
}

#[test]
fn the_next_credential_is_another_one_whatever_the_weights() {
    let mut entries: Value = serde_json::from_str(&secrets_json(&["a", "b"])).expect("JSON");
    entries[0]["weight"] = 5.into();
    check(&[
        Row {
            secrets: entries.to_string(),
            steps: vec![says(401), says(200)],
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["refused"],
            cools: vec![("a", "refused", 300.0)],
            ..row("401 with weights")
        },
        Row {
            secrets: entries.to_string(),
            steps: vec![says(503), says(503), says(200)],
            tried: "aba",
            gets: Gets::Answer(2),
            reasons: vec!["unavailable"; 2],
            ..row("503 with weights")
        },
    ]);
}

#[test]
fn the_rows_hold_over_tls_too() {
    check(&[
        Row {
            is_tls: true,
            steps: vec![says(401), says(200)],
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["refused"],
            cools: vec![("a", "refused", 300.0)],
            ..row("401, 200 over TLS")
        },
        Row {
            is_tls: true,
            steps: vec![Step::SaysAndCloses(503), Step::Resets, says(200)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["unavailable", "upstream_closed"],
            ..row("503, reset, 200 over TLS")
        },
    ]);
}

#[test]
fn interim_answers_do_not_count_as_an_answer() {
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            peer.write("HTTP/1.1 100 Continue\r\n\r\n");
            peer.write(HINTS);
            let status = if request.credential() == "a" { 503 } else { 200 };
            peer.write(format!("HTTP/1.1 {status} Told\r\nContent-Length: 2\r\n\r\nok"));
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let response = Client::connect(gateway.port()).ask(POST);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{response:?}");
    assert!(response.interim.iter().all(|head| head.start_line.contains(" 103 ")), "{:?}", response.interim);
    assert_eq!(tried(&upstream.requests()), "ab");
}

#[test]
fn pipelined_requests_are_answered_in_their_order_though_the_first_is_tried_again() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let is_first_try = request.path().ends_with("/1") && request.credential() == "a";
            let status = if is_first_try { 503 } else { 200 };
            let body = request.path().rsplit('/').next().expect("a segment");
            peer.write(format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(
        (1..=3).map(|number| format!("GET /v1/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect::<String>(),
    );
    for number in ["1", "2", "3"] {
        let response = client.read_response();
        assert_eq!((response.status, response.text().as_str()), (200, number), "{response:?}");
    }
    assert_eq!(tried(&upstream.requests()), "abbc");
}

/// RFC 9110 §5.6.7's preferred form, by the civil calendar's own arithmetic.
fn http_date_in(time: Duration) -> String {
    let at = SystemTime::now() + time;
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= if is_leap(year) { 366 } else { 365 } {
        day -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }
    let months = [("Jan", 31), ("Feb", if is_leap(year) { 29 } else { 28 }), ("Mar", 31), ("Apr", 30), ("May", 31)];
    let months = months.into_iter().chain([("Jun", 30), ("Jul", 31), ("Aug", 31), ("Sep", 30), ("Oct", 31)]);
    let mut name = "";
    for (month, length) in months.chain([("Nov", 30), ("Dec", 31)]) {
        name = month;
        if day < length {
            break;
        }
        day -= length;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}
