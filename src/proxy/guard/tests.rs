use super::*;
use crate::http1::head::with_request;
use crate::proxy::request;

fn rules(hosts: Option<&[&str]>) -> AccessRules {
    let origins = ["https://app.example.com", "http://localhost:3000"];
    AccessRules {
        allow_origins: origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect(),
        hosts: hosts.map(|names| Hosts {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usual: ["127.0.0.1:8899".into(), "localhost:8899".into()],
            takes_addresses: false,
        }),
    }
}

fn admit(rules: &AccessRules, field_lines: &str) -> Result<Admitted, GatewayError> {
    let request = format!("OPTIONS /v1 HTTP/1.1\r\n{field_lines}\r\n");
    with_request(request.as_bytes(), |head| {
        let mut caller = Caller::default();
        request::head::examine(head, &mut caller).expect("valid");
        rules.admit(head, &caller)
    })
    .unwrap()
}

#[test]
fn the_gateway_answers_to_its_own_names_on_any_port() {
    let rules = rules(Some(&["gateway", "fd00::7", "flow.example.com", "Office.Example."]));
    for host in [
        "localhost",
        "LOCALHOST:1",
        "api.localhost",
        "localhost.",
        "API.LOCALHOST.:8899",
        "127.0.0.1.",
        "127.0.0.1:8899",
        "127.1.2.3",
        "[::1]:8899",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "gateway",
        "Gateway:80",
        "gateway.:80",
        "[fd00::7]:8899",
        "flow.example.com",
        "office.example",
        "OFFICE.example.:8899",
    ] {
        assert!(admit(&rules, &format!("Host: {host}\r\n")).is_ok(), "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "gateway.evil.example",
        "10.0.0.1",
        "[fd00::8]",
        "0.0.0.0",
        "flow.example.com.evil.example",
        "%6cocalhost",
        "localhost..",
        "office.example..",
    ] {
        assert_eq!(admit(&rules, &format!("Host: {host}\r\n")), Err(GatewayError::HostNotAllowed), "{host}");
    }
    assert!(admit(&super::tests::rules(None), "Host: evil.example\r\n").is_ok(), "no names are known");
}

#[test]
fn pages_are_admitted_by_their_origin_alone() {
    let rules = rules(None);
    let found = |field_lines: &str| admit(&rules, &format!("Host: a\r\n{field_lines}")).map(|found| found.origin);
    let (first, second) = (Some(AllowedOrigin(0)), Some(AllowedOrigin(1)));
    let refused = Err(GatewayError::OriginNotAllowed);
    for (field_lines, expected) in [
        ("", Ok(None)),
        ("Origin: https://app.example.com\r\n", Ok(first)),
        ("Origin: http://localhost:3000\r\nSec-Fetch-Site: same-site\r\n", Ok(second)),
        ("Origin: https://app.example.com\r\nSec-Fetch-Site: cross-site\r\n", Ok(first)),
        ("Origin: http://localhost:3001\r\n", refused.clone()),
        ("Origin: http://localhost\r\n", refused.clone()),
        ("Origin: https://app.example.com.evil.example\r\n", refused.clone()),
        ("Origin: null\r\n", refused.clone()),
        ("Origin:\r\n", refused.clone()),
        ("Origin: https://app.example.com\r\nOrigin: https://app.example.com\r\n", refused.clone()),
        ("Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n", refused.clone()),
        ("Sec-Fetch-Site: cross-site\r\n", refused.clone()),
        ("Sec-Fetch-Site: same-site\r\n", refused.clone()),
        ("Sec-Fetch-Site: Cross-Site\r\n", refused.clone()),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n", refused),
        ("Sec-Fetch-Site: same-origin\r\n", Ok(None)),
        ("Sec-Fetch-Site: none\r\n", Ok(None)),
    ] {
        assert_eq!(found(field_lines), expected, "{field_lines:?}");
    }
}

#[test]
fn only_a_page_that_is_allowed_has_preflights() {
    let rules = rules(None);
    let is_preflight =
        |field_lines: &str| admit(&rules, &format!("Host: a\r\n{field_lines}")).map(|found| found.is_preflight);
    let asks = "access-control-request-method: POST\r\n";
    let origin = "Origin: https://app.example.com\r\n";
    assert_eq!(is_preflight(&format!("{origin}{asks}")), Ok(true));
    assert_eq!(is_preflight(origin), Ok(false));
    assert_eq!(is_preflight(asks), Ok(false));
    assert!(is_preflight(&format!("Origin: https://evil.example\r\n{asks}")).is_err());
}
