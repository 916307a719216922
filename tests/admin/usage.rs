//! `GET /api/usage`, and costs over spans of time: from the file of totals and what is not written yet.

use serde_json::{Value, json};

use crate::before;
use crate::state::{chat, wait_for_state};
use crate::support::{Client, Gateway, Response, Upstream, json as answer};

/// A chat answer that tells what it used and what it cost.
const ANSWER: &str =
    r#"{"model":"m-1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42,"cost":0.25}}"#;

fn usage(gateway: &Gateway, query: &str, fields: &str) -> Response {
    let request = format!("GET /api/usage{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    Client::connect(gateway.admin_port()).ask(request)
}

#[test]
fn totals_are_those_of_the_command_as_json_or_csv_from_memory_and_from_the_file() {
    let upstream = Upstream::plain(answer(200, ANSWER));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("usage.sqlite");
    for place in ["off", file.to_str().expect("text")] {
        let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", place).start();
        assert_eq!([chat(&gateway, "m-1"), chat(&gateway, "m-1")], [200, 200]);
        let state = wait_for_state(&gateway, |state| state["cost"]["today"]["requests"] == 2);
        assert_eq!(state["cost"]["days_30"]["reported_usd"], 0.5, "{place}");
        assert_eq!(state["usage"]["has_file"], json!(place != "off"));
        let told = usage(&gateway, "?since=24h&by=model,credential", "");
        assert_eq!((told.status, told.field("content-type")), (200, Some("application/json")), "{place}");
        let told: Value = told.json();
        assert_eq!((&told["by"], &told["total"]["requests"]), (&json!(["model", "credential"]), &json!(2)));
        let csv = usage(&gateway, "?by=model", "Accept: text/csv\r\n");
        assert_eq!(csv.field("content-type"), Some("text/csv; charset=utf-8"));
        let lines: Vec<String> = csv.text().lines().map(str::to_owned).collect();
        assert_eq!((lines.len(), lines[1].starts_with("m-1,2,0,60,0,0,24,")), (2, true), "{lines:?}");
        let refused = usage(&gateway, "?by=year", "");
        assert_eq!((refused.status, refused.error_code()), (400, Some("bad_query")));
    }
}

#[test]
fn usage_that_is_not_counted_is_not_told() {
    let upstream = Upstream::plain(answer(200, ANSWER));
    let gateway = before(&upstream).arg("--usage", "off").start();
    let refused = usage(&gateway, "", "");
    assert_eq!((refused.status, refused.error_code()), (503, Some("usage_unavailable")));
}
