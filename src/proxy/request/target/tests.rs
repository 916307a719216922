use proptest::prelude::*;

use super::*;

fn rules() -> TargetRules {
    TargetRules {
        upstream_host: "flow.ciandt.com".to_owned(),
        upstream_port: 8443,
        base_path: "/flow-llm-proxy".to_owned(),
        listener_port: 8899,
        listener_hosts: vec!["gateway.example".to_owned(), "[fd00::1]".to_owned()],
    }
}

/// Returns the target that goes upstream, and the path without the base that errors and logs show.
fn forwarded(method: &str, target: &str, rules: &TargetRules) -> Result<(String, String), String> {
    match route(method, target, rules) {
        Ok(Destination::Forward(path)) => {
            let mut out = Vec::new();
            path.push_to(&mut out, &rules.base_path);
            Ok((String::from_utf8(out).unwrap(), path.path().to_owned()))
        }
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn targets_go_upstream_below_the_base_path() {
    let rows = [
        ("/v1/models?x=1", "/flow-llm-proxy/v1/models?x=1", "/v1/models"),
        ("/flow-llm-proxy/v1/models?x=1", "/flow-llm-proxy/v1/models?x=1", "/v1/models"),
        ("/flow-llm-proxy", "/flow-llm-proxy", "/"),
        ("/flow-llm-proxy/", "/flow-llm-proxy/", "/"),
        ("/flow-llm-proxy?x=/..", "/flow-llm-proxy?x=/..", "/"),
        ("/flow-llm-proxyX/v1", "/flow-llm-proxy/flow-llm-proxyX/v1", "/flow-llm-proxyX/v1"),
        ("/Flow-llm-proxy/v1", "/flow-llm-proxy/Flow-llm-proxy/v1", "/Flow-llm-proxy/v1"),
        ("//evil.example/v1", "/flow-llm-proxy//evil.example/v1", "//evil.example/v1"),
        ("/v1/models/a%2Fb%20c", "/flow-llm-proxy/v1/models/a%2Fb%20c", "/v1/models/a%2Fb%20c"),
        ("/v1?a=b?c&d=..%00\\", "/flow-llm-proxy/v1?a=b?c&d=..%00\\", "/v1"),
        ("/?x", "/flow-llm-proxy/?x", "/"),
        ("http://flow.ciandt.com/flow-llm-proxy/v1?x", "/flow-llm-proxy/v1?x", "/v1"),
        ("HTTPS://FLOW.CIANDT.COM:443/flow-llm-proxy/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://flow.ciandt.com:80/flow-llm-proxy", "/flow-llm-proxy", "/"),
        ("http://flow.ciandt.com:8443/flow-llm-proxy/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://localhost:8899/v1/models", "/flow-llm-proxy/v1/models", "/v1/models"),
        ("http://localhost:8899/flow-llm-proxy/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://x.LOCALHOST:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://LocalHost.:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://127.0.0.1:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://127.0.0.1.:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://127.1.2.3:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://[::1]:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://[::ffff:127.0.0.1]:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://Gateway.example:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://gateway.EXAMPLE.:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://[fd00::1]:8899/v1", "/flow-llm-proxy/v1", "/v1"),
        ("http://localhost:8899?x=http://evil/", "/flow-llm-proxy/?x=http://evil/", "/"),
        ("http://localhost:8899", "/flow-llm-proxy/", "/"),
    ];
    for (target, expected, path) in rows {
        assert_eq!(forwarded("POST", target, &rules()), Ok((expected.to_owned(), path.to_owned())), "{target}");
    }
}

#[test]
fn an_upstream_without_a_base_path_takes_any_path() {
    let rules = TargetRules { base_path: String::new(), ..rules() };
    let rows = [
        ("/v1?x", "/v1?x", "/v1"),
        ("http://flow.ciandt.com/v1", "/v1", "/v1"),
        ("http://flow.ciandt.com", "/", "/"),
        ("http://flow.ciandt.com?x", "/?x", "/"),
    ];
    for (target, expected, path) in rows {
        assert_eq!(forwarded("POST", target, &rules), Ok((expected.to_owned(), path.to_owned())), "{target}");
    }
}

#[test]
fn an_upstream_on_this_machine_is_not_taken_for_the_listener() {
    let rules = TargetRules { upstream_host: "127.0.0.1".to_owned(), upstream_port: 9000, ..rules() };
    assert!(forwarded("POST", "http://127.0.0.1:9000/flow-llm-proxy/v1", &rules).is_ok());
    assert!(forwarded("POST", "http://127.0.0.1:8899/v1", &rules).is_ok());
    assert_eq!(route("POST", "http://127.0.0.1:9000/v1", &rules), Err(TargetError::NotAnOpenProxy));
    let on_port_80 = TargetRules { listener_port: 80, ..rules };
    assert!(forwarded("POST", "http://127.0.0.1/v1", &on_port_80).is_ok());
}

#[test]
fn this_is_not_an_open_proxy() {
    let targets = [
        "http://evil.example/flow-llm-proxy/v1",
        "http://evil.example/",
        "http://flow.ciandt.com.evil.example/flow-llm-proxy/v1",
        "http://evilflow.ciandt.com/flow-llm-proxy/v1",
        "http://flow.ciandt.com./flow-llm-proxy/v1",
        "http://flow.ciandt.com:81/flow-llm-proxy/v1",
        "http://flow.ciandt.com:8899/flow-llm-proxy/v1",
        "http://user@flow.ciandt.com/flow-llm-proxy/v1",
        "http://user:pass@flow.ciandt.com/flow-llm-proxy/v1",
        "http://flow.ciandt.com@evil.example/flow-llm-proxy/v1",
        "http://flow.ciandt.com\\@evil.example/flow-llm-proxy/v1",
        "http://flow.ciandt.com\\.evil.example/flow-llm-proxy/v1",
        "http://localhost@evil.example:8899/",
        "http://flow.ciandt.com/",
        "http://flow.ciandt.com",
        "http://flow.ciandt.com/v1",
        "http://flow.ciandt.com/flow-llm-proxyX/v1",
        "http://flow.ciandt.com/FLOW-LLM-PROXY/v1",
        "http://flow.ciandt.com/%66low-llm-proxy/v1",
        "http://localhost/v1",
        "http://localhost:8900/v1",
        "https://localhost/v1",
        "http://evillocalhost:8899/v1",
        "http://localhost..:8899/v1",
        "http://localhost.evil.example:8899/v1",
        "http://127.0.0.1.evil.example:8899/v1",
        "http://128.0.0.1:8899/v1",
        "http://[::2]:8899/v1",
        "http://0.0.0.0:8899/v1",
        "ftp://flow.ciandt.com/flow-llm-proxy/v1",
        "ws+unix://flow.ciandt.com/flow-llm-proxy/v1",
    ];
    for target in targets {
        assert_eq!(route("POST", target, &rules()), Err(TargetError::NotAnOpenProxy), "{target}");
    }
}

#[test]
fn some_requests_are_answered_here() {
    let rows = [
        ("OPTIONS", "*", Destination::AnswerOptions),
        ("OPTIONS", "http://localhost:8899", Destination::AnswerOptions),
        ("GET", "/", Destination::AnswerLiveness),
        ("HEAD", "/", Destination::AnswerLiveness),
        ("GET", "/?probe=1", Destination::AnswerLiveness),
        ("GET", "/api/hello", Destination::AnswerLiveness),
        ("HEAD", "/api/hello?x", Destination::AnswerLiveness),
        ("GET", "http://localhost:8899", Destination::AnswerLiveness),
        ("GET", "http://localhost:8899?x", Destination::AnswerLiveness),
        ("HEAD", "http://127.0.0.1:8899/api/hello", Destination::AnswerLiveness),
    ];
    for (method, target, expected) in rows {
        assert_eq!(route(method, target, &rules()), Ok(expected), "{method} {target}");
    }
    for (method, target) in [
        ("POST", "/"),
        ("get", "/"),
        ("OPTIONS", "/"),
        ("GET", "//"),
        ("GET", "/api/hello/"),
        ("GET", "/api/hellox"),
        ("GET", "/flow-llm-proxy/"),
    ] {
        assert!(forwarded(method, target, &rules()).is_ok(), "{method} {target}");
    }
}

#[test]
fn methods_that_are_not_forwarded_are_told_apart() {
    let rows = [
        ("CONNECT", "flow.ciandt.com:443", TargetError::ConnectNotSupported),
        ("CONNECT", "/", TargetError::ConnectNotSupported),
        ("TRACE", "/", TargetError::MethodNotAllowed),
        ("TRACE", "http://evil.example/", TargetError::MethodNotAllowed),
        ("connect", "flow.ciandt.com:443", TargetError::ConnectNotSupported),
        ("CONNEcT", "/", TargetError::ConnectNotSupported),
        ("Trace", "/v1", TargetError::MethodNotAllowed),
        ("head", "/", TargetError::Malformed("the method HEAD is written in capital letters")),
        ("HEAd", "/v1", TargetError::Malformed("the method HEAD is written in capital letters")),
    ];
    for (method, target, expected) in rows {
        assert_eq!(route(method, target, &rules()), Err(expected), "{method} {target}");
    }
}

#[test]
fn paths_that_could_leave_the_base_path_are_bad() {
    let paths = [
        "/.",
        "/..",
        "/./",
        "/../",
        "/v1/..",
        "/v1/../x",
        "/v1/./x",
        "/v1/..?x",
        "/%2e",
        "/%2E%2e",
        "/.%2e/x",
        "/%2e.",
        "/v1%2f..%2fx",
        "/v1%2F%2E%2E",
        "/..%2fx",
        "/x%5c..",
        "/x%5C..%5cy",
        "/..%5cx",
        "/..;/x",
        "/..;a=b",
        "/.;x",
        "/x/%2e%2e;y",
        "/..%3ba=b",
        "/x/%2e%2e%3By",
        "/x;y/..",
        "/a\\b",
        "/\\",
        "/x%00",
        "/%00/x",
        "/x\x01",
        "/\x7f",
        "/a b",
        "/flow-llm-proxy/../admin",
        "/flow-llm-proxy/%2e%2e/admin",
    ];
    for path in paths {
        assert_eq!(route("GET", path, &rules()), Err(TargetError::BadPath), "{path}");
        let absolute = format!("http://localhost:8899{path}");
        assert_eq!(route("GET", &absolute, &rules()), Err(TargetError::BadPath), "{absolute}");
        let absolute = format!("http://flow.ciandt.com/flow-llm-proxy{path}");
        assert_eq!(route("GET", &absolute, &rules()), Err(TargetError::BadPath), "{absolute}");
    }
}

#[test]
fn paths_that_merely_look_odd_are_kept() {
    let paths = [
        "/...",
        "/.../x",
        "/..a",
        "/a..",
        "/.a",
        "/a.",
        "/.well-known/x",
        "/gpt-4.1",
        "/a..b",
        "/a;..",
        "/;../x",
        "/%2e%2e%2e",
        "/%2ea",
        "/a%2e",
        "/%252e%252e",
        "/%",
        "/%2",
        "/%zz",
        "/%%2e",
        "/x%2fy",
        "/x%5cy",
        "/%2e%%2e",
        "/~x",
        "/a|b",
        "/{x}",
        "/%0d%0a",
        "/x//y",
        "/x;a=b/y",
        "/x%3ba=b/y",
        "/x:y@z",
    ];
    for path in paths {
        let expected = (format!("/flow-llm-proxy{path}"), path.to_owned());
        assert_eq!(forwarded("GET", path, &rules()), Ok(expected), "{path}");
    }
}

#[test]
fn malformed_targets_are_refused() {
    let rows = [
        ("GET", "*"),
        ("GET", ""),
        ("GET", "v1/models"),
        ("GET", "flow.ciandt.com:443"),
        ("GET", "http:/flow.ciandt.com/"),
        ("GET", "http:///v1"),
        ("GET", "http://:8899/v1"),
        ("GET", "http://localhost:/v1"),
        ("GET", "http://localhost:08899/v1"),
        ("GET", "http://localhost:+8899/v1"),
        ("GET", "http://localhost:65536/v1"),
        ("GET", "http://localhost:8899:8899/v1"),
        ("GET", "http://[::1/v1"),
        ("GET", "http://[::1]8899/v1"),
        ("GET", "/v1#x"),
        ("GET", "http://localhost:8899#/../x"),
        ("GET", "x?u=http://localhost:8899/"),
        ("OPTIONS", "**"),
    ];
    for (method, target) in rows {
        let routed = route(method, target, &rules());
        assert!(matches!(routed, Err(TargetError::Malformed(_))), "{method} {target}: {routed:?}");
    }
}

/// Returns whether a lenient upstream could leave its root: it decodes once, takes back slashes for slashes and drops
/// parameters.
fn leaves_its_root(path: &str) -> bool {
    let decoded =
        path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%5c", "\\").replace("%3b", ";");
    decoded.split(['/', '\\']).any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_path_with_a_dot_segment_is_forwarded(parts in prop::collection::vec(prop::sample::select(vec!["/", "\\", ".", "%2e", "%2E", "%2f", "%5c", ";", "%3b", "a", "%", "2e", "//", "?"]), 0..10)) {
        let path = format!("/{}", parts.concat());
        let is_forwarded = forwarded("POST", &path, &rules()).is_ok();
        let path = split_query(&path).0;
        prop_assert_eq!(is_forwarded, !leaves_its_root(path) && !path.contains('\\'), "{}", path);
    }

    #[test]
    fn no_target_makes_it_panic_or_changes_on_its_way(method in "[A-Z]{0,7}", target in "(http://(localhost|flow.ciandt.com|[^/]{0,6})(:8899)?)?.{0,20}") {
        if let Ok((sent, path)) = forwarded(&method, &target, &rules()) {
            prop_assert!(sent.starts_with("/flow-llm-proxy"));
            prop_assert!(path.starts_with('/'));
            let suffix = sent.strip_prefix("/flow-llm-proxy").unwrap();
            prop_assert!(target.ends_with(suffix.trim_start_matches('/')), "{} from {}", sent, target);
        }
    }
}
