//! Credentials that were replaced are not in memory any more when the last exchange that used them has ended, neither
//! the secrets nor the tokens that were made of them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::support::{
    Client, Credential, DEADLINE, GET, Gate, Gateway, Peer, Upstream, check_at_once, secrets_json, traces_of,
    wait_until,
};

const PAGE: usize = 4096;

/// What a request can do to the head that holds the token: it is one write or several, kept or not, edited, or made
/// again with another token.
fn requests() -> Vec<String> {
    let post = |path: &str, fields: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
    };
    let large_head = format!("X-Large: {}\r\n", "x".repeat(12 * 1024)).repeat(4);
    vec![
        GET.to_owned(),
        post("/v1/chat/completions", "", r#"{"model":"m"}"#),
        post("/v1/chat/completions", &large_head, r#"{"model":"m"}"#),
        // Longer than what is kept for another attempt.
        post("/v1/responses", "", &"x".repeat(3 * 1024 * 1024)),
        post("/gemini/v1beta/models/m:generateContent", "", "{}"),
        post("/v1/messages", "anthropic-beta: a\r\nContent-Type: application/json\r\n", r#"{"context_management":{}}"#),
    ]
}

#[test]
fn replaced_secrets_and_their_tokens_are_erased_when_their_last_exchange_has_ended() {
    check_at_once([("auto", true), ("epoll", true), ("auto", false), ("epoll", false)], |(driver, is_tls)| {
        let gate = Gate::new();
        let held = gate.clone();
        // The first credential is at its limit, so that the head is written again with the token of the second.
        let answers = move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                let limited = request.credential() == "alpha" && request.path().ends_with("/completions");
                if request.path().ends_with("/held") {
                    held.pass();
                }
                let status = if limited { "429 Too Many Requests" } else { "200 OK" };
                if !peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}")) {
                    return;
                }
            }
        };
        let upstream = if is_tls { Upstream::tls(answers) } else { Upstream::plain(answers) };
        let names = ["alpha", "a-much-longer-name-than-that"];
        // Written with an escape, which a parser puts together in memory of its own.
        let secrets = secrets_json(&names).replace("the-secret", "\\u0074he-secret");
        let mut gateway = Gateway::builder()
            .upstream(&upstream)
            .secrets(secrets)
            .arg("--io-driver", driver)
            .arg("--filter", "anthropic-compat")
            .arg("--replay-max", "1")
            .arg("--log-level", "INFO")
            // So that this process may look, also where it is not root's.
            .env("FLOW_URING_ALLOW_CORE", "1")
            .start();
        let traces = traces_of(&names.map(Credential::named), &[]);
        for request in (0..4).flat_map(|_| requests()) {
            assert_eq!(Client::connect(gateway.port()).ask(request).status, 200);
        }
        let mut client = Client::connect(gateway.port());
        client.send("GET /v1/held HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let is_held = || upstream.requests().iter().any(|request| request.path().ends_with("/held"));
        wait_until("the last request is on its way", is_held);

        // A file with mistakes is not used, and no secret of it stays.
        let mistaken = Credential::named("mistaken");
        let text =
            format!(r#"[{{"clientId":"x","client_secret":"{}","tenant":{{"a":"{0}"}}}}]"#, mistaken.client_secret);
        gateway.note_password(&mistaken.client_secret);
        fs::write(gateway.secrets_path(), text).expect("written");
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log("the credentials loaded before stay in use");
        gateway.replace_secrets(&secrets_json(&["successor"]));
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log("the secrets file was loaded anew");
        let found = found_in_memory(&gateway, &traces).expect("its memory");
        assert!(!found.is_empty(), "an exchange still uses them");
        gate.open();
        assert_eq!(client.read_response().status, 200);
        let traces = [traces, traces_of(&[mistaken], &[])].concat();
        let until = Instant::now() + DEADLINE;
        loop {
            let found = found_in_memory(&gateway, &traces).expect("its memory");
            if found.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "{driver}, TLS {is_tls}: still there:\n{}", found.join("\n"));
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

#[test]
fn the_secrets_and_flow_tokens_of_questions_about_quotas_are_erased_with_their_credentials() {
    check_at_once([("auto", true), ("epoll", true), ("auto", false), ("epoll", false)], |(driver, is_tls)| {
        let flow_token = |name: &str| format!("flow-token-{name}-{}", "0123456789abcdef".repeat(4));
        let answers = move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                let name = if request.body.windows(5).any(|part| part == b"alpha") { "alpha" } else { "beta" };
                let body = match request.path() {
                    "/auth-engine-api/v2/api-key/token" => format!(r#"{{"access_token":"{}"}}"#, flow_token(name)),
                    _ => r#"{"used":1,"limit":2}"#.to_owned(),
                };
                peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            }
        };
        let upstream = if is_tls { Upstream::tls(answers) } else { Upstream::plain(answers) };
        let names = ["alpha", "beta"];
        let mut gateway = Gateway::builder()
            .upstream(&upstream)
            .secrets(secrets_json(&names))
            .arg("--io-driver", driver)
            .arg("--quota", "flow")
            .env("FLOW_URING_ALLOW_CORE", "1")
            .start();
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
        // Two tokens, two quotas for each, and the request.
        upstream.wait_for_requests(7);
        let tokens = names.map(flow_token).to_vec();
        // The TLS library keeps no record, and wipes none that it has decrypted.
        let tokens = if is_tls { Vec::new() } else { tokens };
        let traces = [traces_of(&names.map(Credential::named), &[]), tokens].concat();
        wait_until("they are in use", || !found_in_memory(&gateway, &traces).expect("its memory").is_empty());
        gateway.replace_secrets(&secrets_json(&["successor"]));
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log("the secrets file was loaded anew");
        let until = Instant::now() + DEADLINE;
        loop {
            let found = found_in_memory(&gateway, &traces).expect("its memory");
            if found.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "{driver}, TLS {is_tls}: still there:\n{}", found.join("\n"));
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

/// Looks for `traces` in all memory that the gateway can write.
fn found_in_memory(gateway: &Gateway, traces: &[String]) -> io::Result<Vec<String>> {
    let memory = File::open(format!("/proc/{}/mem", gateway.pid()))?;
    let mut found = Vec::new();
    for line in fs::read_to_string(format!("/proc/{}/maps", gateway.pid()))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        if !rights.starts_with("rw") {
            continue;
        }
        let name = words.nth(3).unwrap_or("anonymous memory");
        let (from, to) = range.split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        // Pages that were never written are not looked at; a text may go on from one page to the next.
        let mut written = Vec::new();
        let mut page = [0; PAGE];
        for at in (number(from)..number(to)).step_by(PAGE) {
            // The kernel's own pages cannot be read.
            let is_written = memory.read_exact_at(&mut page, at).is_ok() && page != [0; PAGE];
            if is_written {
                written.extend_from_slice(&page);
            } else {
                search(&written, traces, name, &mut found);
                written.clear();
            }
        }
        search(&written, traces, name, &mut found);
    }
    Ok(found)
}

fn search(bytes: &[u8], traces: &[String], name: &str, found: &mut Vec<String>) {
    for (index, trace) in traces.iter().enumerate() {
        if let Some(at) = memchr::memmem::find(bytes, trace.as_bytes()) {
            let around = &bytes[at.saturating_sub(32)..(at + trace.len() + 16).min(bytes.len())];
            found.push(format!("trace {index} in {name}: {}", around.escape_ascii()));
        }
    }
}
