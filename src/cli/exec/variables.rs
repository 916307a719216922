//! The environment of the command: where its clients find the gateway, and nothing that would lead them elsewhere.

use super::gateway::ChosenGateway;

/// The key for a gateway that asks for none: the SDKs refuse to start without one.
const ANY_KEY: &str = "flow-uring";
/// Variables that make Claude Code use something else than `ANTHROPIC_BASE_URL` with `ANTHROPIC_AUTH_TOKEN`: a key of
/// the user's own, which it would send beside ours or ask about, and other providers.
const MISLEADING: [&str; 4] =
    ["ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"];
/// Variables with a proxy through which clients would send `http://` requests, loopback ones too.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// Clients differ in the one that they read.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A variable of the command; without a value it is removed.
#[derive(PartialEq, Eq)]
pub struct Change {
    pub name: &'static str,
    pub value: Option<String>,
}

/// Returns the variables that differ from those of this process.
pub fn changes(gateway: &ChosenGateway, environment: &dyn Fn(&str) -> Option<String>) -> Vec<Change> {
    let base_url = format!("http://{}", gateway.address);
    let key = gateway.key.as_ref().map_or(ANY_KEY, |key| key.expose());
    let set = |name, value: &str| Change { name, value: Some(value.to_owned()) };
    let mut changes = vec![
        set("ANTHROPIC_BASE_URL", &base_url),
        set("ANTHROPIC_AUTH_TOKEN", key),
        set("OPENAI_BASE_URL", &format!("{base_url}/v1")),
        set("OPENAI_API_KEY", key),
    ];
    changes.extend(MISLEADING.map(|name| Change { name, value: None }));
    if PROXIES.iter().any(|name| environment(name).is_some_and(|proxy| !proxy.is_empty())) {
        let hosts = exceptions(gateway, environment);
        changes.extend(EXCEPTIONS.map(|name| set(name, &hosts)));
    }
    changes
}

/// The hosts that are reached without a proxy: those that the user named, and that of the gateway.
fn exceptions(gateway: &ChosenGateway, environment: &dyn Fn(&str) -> Option<String>) -> String {
    let mut hosts: Vec<String> = Vec::new();
    let written = EXCEPTIONS.iter().filter_map(|name| environment(name));
    let written: Vec<String> =
        written.flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    for host in written.into_iter().chain(["localhost".to_owned(), gateway.address.ip().to_string()]) {
        let host = host.trim();
        if !host.is_empty() && !hosts.iter().any(|other| other == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn changed(key: Option<&str>, environment: &[(&str, &str)]) -> Vec<(&'static str, Option<String>)> {
        let key = key.map(|key| Secret::new(key.to_owned()));
        let gateway = ChosenGateway { address: "127.0.0.1:8899".parse().expect("an address"), key };
        let read =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        changes(&gateway, &read).into_iter().map(|change| (change.name, change.value)).collect()
    }

    fn value(changes: &[(&str, Option<String>)], name: &str) -> Option<String> {
        changes.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone())
    }

    #[test]
    fn both_dialects_find_the_gateway_and_its_key() {
        for (key, shown) in [(Some("0123456789abcdef"), "0123456789abcdef"), (None, "flow-uring")] {
            let changes = changed(key, &[]);
            for (name, expected) in [
                ("ANTHROPIC_BASE_URL", "http://127.0.0.1:8899"),
                ("OPENAI_BASE_URL", "http://127.0.0.1:8899/v1"),
                ("ANTHROPIC_AUTH_TOKEN", shown),
                ("OPENAI_API_KEY", shown),
            ] {
                assert_eq!(value(&changes, name).as_deref(), Some(expected), "{name}");
            }
        }
    }

    #[test]
    fn what_would_lead_clients_elsewhere_is_removed() {
        let changes = changed(None, &[("ANTHROPIC_API_KEY", "hunter2")]);
        for name in MISLEADING {
            assert!(changes.contains(&(name, None)), "{name}");
        }
    }

    #[test]
    fn the_gateway_is_reached_without_the_proxy_of_the_environment() {
        for (environment, expected) in [
            (&[][..], None),
            (&[("NO_PROXY", "example.com")], None),
            (&[("http_proxy", "")], None),
            (&[("http_proxy", "http://p:1")], Some("localhost,127.0.0.1")),
            (&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "a, b,")], Some("a,b,localhost,127.0.0.1")),
            (
                &[("HTTP_PROXY", "http://p:1"), ("NO_PROXY", "a"), ("no_proxy", "b,localhost")],
                Some("a,b,localhost,127.0.0.1"),
            ),
        ] {
            let changes = changed(None, environment);
            for name in EXCEPTIONS {
                assert_eq!(value(&changes, name).as_deref(), expected, "{name} of {environment:?}");
            }
        }
    }
}
