use super::*;

#[test]
fn an_authority_is_divided_into_host_and_port() {
    for (text, host, port, number) in [
        ("h", "h", None, None),
        ("h:", "h", Some(""), None),
        ("h:80", "h", Some("80"), Some(80)),
        ("h:080", "h", Some("080"), Some(80)),
        ("h:0", "h", Some("0"), None),
        ("h:65535", "h", Some("65535"), Some(65_535)),
        ("h:65536", "h", Some("65536"), None),
        ("h:+80", "h", Some("+80"), None),
        ("h:1:2", "h", Some("1:2"), None),
        (":80", "", Some("80"), Some(80)),
        ("::1", "", Some(":1"), None),
        ("[::1]", "::1", None, None),
        ("[::1]:", "::1", Some(""), None),
        ("[::1]:80", "::1", Some("80"), Some(80)),
        ("", "", None, None),
    ] {
        let authority = Authority::split(text).expect(text);
        assert_eq!((authority.host, authority.port, authority.port_number()), (host, port, number), "{text}");
    }
    for text in ["[::1", "[::1]80", "[", "[::1]]:80"] {
        assert_eq!(Authority::split(text), None, "{text}");
    }
}

#[test]
fn the_normal_form_of_a_host_is_in_lower_case_and_an_address_at_its_shortest() {
    for (text, host) in [
        ("Flow.Example.COM:443", Some("flow.example.com")),
        ("h.", Some("h.")),
        ("10.0.0.7", Some("10.0.0.7")),
        ("[FD00:0:0::1]:1", Some("fd00::1")),
        ("[h]", None),
        ("[10.0.0.7]", None),
        ("", None),
        (".", None),
        ("a..b", None),
        ("a b", None),
        ("é.com", None),
    ] {
        let found = Authority::split(text).expect(text).normal_host();
        assert_eq!(found.as_deref(), host, "{text}");
    }
}

#[test]
fn case_and_a_final_dot_make_no_other_host() {
    for (one, other, expected) in [
        ("gateway", "gateway", true),
        ("Gateway", "gateWAY", true),
        ("gateway.", "gateway", true),
        ("gateway", "gateway.", true),
        ("GATEWAY.", "gateway.", true),
        ("gateway..", "gateway", false),
        (".gateway", "gateway", false),
        ("gateway.example", "gateway", false),
        ("fd00::1", "FD00::1", true),
    ] {
        assert_eq!(is_same_host(one, other), expected, "{one} {other}");
    }
}

#[test]
fn loopback_is_told_in_any_case_and_with_a_final_dot() {
    for host in [
        "localhost",
        "LOCALHOST",
        "LocalHost.",
        "localhost.",
        "api.localhost",
        "Api.LocalHost.",
        "a.b.localhost",
        "127.0.0.1",
        "127.0.0.1.",
        "127.255.255.254",
        "::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
        "::FFFF:7f00:1",
    ] {
        assert!(is_loopback(host), "{host}");
    }
    for host in [
        "",
        ".",
        "localhost..",
        "localhos",
        "evil-localhost",
        "evillocalhost",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1..",
        "128.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "127.1",
        "0127.0.0.1",
        "2130706433",
        "::",
        "::2",
        "::ffff:10.0.0.1",
        "[::1]",
        "éocalhost",
    ] {
        assert!(!is_loopback(host), "{host}");
    }
}

#[test]
fn a_host_is_an_address_or_a_name() {
    for (text, host) in [("0.0.0.0", "0.0.0.0"), ("::", "::"), ("[::1]", "::1"), ("Gateway-1.lan.", "Gateway-1.lan.")] {
        assert_eq!(parse_host(text).as_deref(), Ok(host));
    }
    for text in ["", ".", "a..b", "a b", "127.0.0.1:80", "[::1]:80", "a/b", &"a".repeat(64)] {
        let expected = parse_host(text).expect_err(text);
        assert_eq!(expected.to_string(), "expected an IP address or a host name, without port");
    }
}

#[test]
fn the_admin_address_is_an_address_with_a_port_or_off() {
    for (text, address) in [
        ("127.0.0.1:8900", Some("127.0.0.1:8900")),
        ("[::1]:0", Some("[::1]:0")),
        ("0.0.0.0:1", Some("0.0.0.0:1")),
        ("LocalHost:8900", Some("127.0.0.1:8900")),
        ("localhost.:8900", Some("127.0.0.1:8900")),
        ("localhost:0", Some("127.0.0.1:0")),
        ("off", None),
        ("OFF", None),
    ] {
        assert_eq!(parse_admin(text), Ok(address.map(|address| address.parse().expect("an address"))), "{text}");
    }
    for text in ["", "on", "8900", ":8900", "127.0.0.1", "localhost", "localhost:", "localhost:x", "gateway:1", "::1:1"]
    {
        let expected = parse_admin(text).expect_err(text);
        assert!(expected.to_string().starts_with("expected off, or an IP address or localhost with a port, "));
    }
}

#[test]
fn an_authority_has_a_host_and_a_port() {
    assert_eq!(parse_authority("10.0.0.7:443"), Ok(("10.0.0.7".into(), 443)));
    assert_eq!(parse_authority("Edge.example.com:8443"), Ok(("edge.example.com".into(), 8443)));
    assert_eq!(parse_authority("[::1]:8443"), Ok(("::1".into(), 8443)));
    for text in ["10.0.0.7:443", "edge.example.com:8443", "[::1]:8443"] {
        let (host, port) = parse_authority(text).expect(text);
        assert_eq!(join_authority(&host, port), text);
    }
    for text in ["", "host", "host:", ":1", "::1:80", "host:0", "host:65536", "host:+1", "a b:1", "[::1:1", "a..b:1"] {
        let expected = parse_authority(text).expect_err(text);
        assert_eq!(expected.to_string(), "expected host:port, such as 10.0.0.7:443 or [::1]:8443");
    }
}
