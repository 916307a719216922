//! The made-up credentials, and the lines that a newcomer reads and pastes.
//!
//! Invariant: the credentials and the `secrets.json` are of the same people. Nothing here is secret or real.

use serde_json::json;

use super::flow::{BASE_PATH, DemoCredential, UPSTREAM_HOST};

/// Name and client id of the three made-up credentials. The id begins with the name, so that an answer shows which
/// credential it was made with.
const PEOPLE: [(&str, &str); 3] = [("alice", "alice-demo"), ("bob", "bob-demo"), ("carol", "carol-demo")];
const TENANT: &str = "demo-tenant";

/// The made-up credentials that [`credentials_json`] holds, in its order.
pub fn credentials() -> Vec<DemoCredential> {
    PEOPLE
        .iter()
        .map(|(name, client_id)| DemoCredential {
            client_id: (*client_id).to_owned(),
            client_secret: made_up_secret(name),
            tenant: TENANT.to_owned(),
        })
        .collect()
}

/// The text of a `secrets.json` with the made-up credentials.
pub fn credentials_json() -> String {
    let entries: Vec<_> = PEOPLE
        .iter()
        .map(|(name, client_id)| {
            json!({"name": name, "clientId": client_id, "clientSecret": made_up_secret(name), "tenant": TENANT})
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(entries))
}

/// HS256 asks for keys of at least 32 bytes (RFC 7518 §3.2).
fn made_up_secret(name: &str) -> String {
    format!("made-up-secret-of-{name}-for-the-demo-only-not-a-real-one")
}

/// Returns lines to paste into a shell, for the gateway at `base_url`, for example `http://127.0.0.1:8899`, and the
/// address of its live `page`, if it has one.
pub fn instructions(base_url: &str, page: Option<&str>) -> String {
    let base_url = base_url.trim_end_matches('/');
    let page = page.map_or(String::new(), |page| {
        format!(
            "Open {page} in a browser: usage, cost, credentials and open answers, live. While a page is open, the\n\
             demo sends requests of its own.\n\n"
        )
    });
    format!(
        r#"{page}Paste into another terminal. Every request goes through the gateway, which adds a made-up credential; the
answers say which one (alice, bob, carol, alice, ...).

  # the models
  curl -s {base_url}/v1/models

  # OpenAI chat, streamed
  curl -sN {base_url}/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{{"model":"gpt-4o-mini","stream":true,"messages":[{{"role":"user","content":"Hello there"}}]}}'

  # OpenAI responses
  curl -s {base_url}/v1/responses -H 'Content-Type: application/json' \
    -d '{{"model":"gpt-4o-mini","input":"Hello there"}}'

  # Anthropic messages, streamed
  curl -sN {base_url}/v1/messages -H 'Content-Type: application/json' -H 'anthropic-version: 2023-06-01' \
    -d '{{"model":"claude-sonnet-4","max_tokens":256,"stream":true,"messages":[{{"role":"user","content":"Hello there"}}]}}'

  # the same gateway as an HTTP proxy
  curl -s -x {base_url} http://{UPSTREAM_HOST}{BASE_PATH}/v1/models

  # tools and SDKs: the two lines above, and any key; the gateway replaces it
  export OPENAI_API_KEY=any ANTHROPIC_AUTH_TOKEN=any

No request leaves this machine. Ctrl-C ends the demo.
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_file_holds_the_credentials_in_the_same_order() {
        let entries: Vec<serde_json::Value> = serde_json::from_str(&credentials_json()).unwrap();
        let credentials = credentials();
        assert_eq!(entries.len(), 3);
        for (entry, credential) in entries.iter().zip(&credentials) {
            assert_eq!(entry["clientId"], credential.client_id);
            assert_eq!(entry["clientSecret"], credential.client_secret);
            assert_eq!(entry["tenant"], credential.tenant);
            assert!(credential.client_secret.len() >= 32);
        }
        assert_eq!(
            entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect::<Vec<_>>(),
            ["alice", "bob", "carol"]
        );
    }

    #[test]
    fn every_line_to_paste_names_the_gateway_and_holds_valid_json() {
        let text = instructions("http://127.0.0.1:4242/", Some("http://127.0.0.1:4243"));
        assert!(text.starts_with("Open http://127.0.0.1:4243 in a browser: "), "{text}");
        assert!(!text.contains("4242//"), "{text}");
        assert_eq!(text.matches("curl ").count(), text.matches("127.0.0.1:4242").count(), "{text}");
        let bodies: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_prefix("-d '")?.strip_suffix('\'')).collect();
        assert_eq!(bodies.len(), 3);
        for body in bodies {
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
    }

    #[test]
    fn without_a_page_none_is_named() {
        assert!(instructions("http://127.0.0.1:4242", None).starts_with("Paste "));
    }
}
