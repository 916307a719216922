use proptest::prelude::*;

use super::*;

const NAMES: [(&str, Known); 25] = [
    ("TE", Known::Te),
    ("Host", Known::Host),
    ("Cookie", Known::DownstreamKey),
    ("Expect", Known::Expect),
    ("Origin", Known::Origin),
    ("Api-Key", Known::DownstreamKey),
    ("Trailer", Known::Trailer),
    ("Upgrade", Known::Upgrade),
    ("Location", Known::Location),
    ("X-Api-Key", Known::DownstreamKey),
    ("Connection", Known::Connection),
    ("Keep-Alive", Known::KeepAlive),
    ("Set-Cookie", Known::SetCookie),
    ("Content-Type", Known::ContentType),
    ("Authorization", Known::Authorization),
    ("Content-Length", Known::ContentLength),
    ("Sec-Fetch-Site", Known::SecFetchSite),
    ("X-Goog-Api-Key", Known::DownstreamKey),
    ("Content-Encoding", Known::ContentEncoding),
    ("Transfer-Encoding", Known::TransferEncoding),
    ("X-Litellm-Api-Key", Known::DownstreamKey),
    ("X-Accel-Buffering", Known::XAccelBuffering),
    ("X-Flow-Uring-Error", Known::FlowUringError),
    ("Proxy-Authorization", Known::ProxyAuthorization),
    ("Ocp-Apim-Subscription-Key", Known::DownstreamKey),
];

#[test]
fn every_known_name_is_found_in_any_case() {
    for (name, expected) in NAMES.into_iter().chain([("Proxy-Connection", Known::ProxyConnection)]) {
        for spelling in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
            assert_eq!(known(&spelling), Some(expected), "{spelling}");
        }
    }
}

#[test]
fn a_name_that_differs_in_one_byte_is_not_known() {
    for (name, _) in NAMES {
        for at in 0..name.len() {
            let mut other = name.to_owned().into_bytes();
            other[at] = b'~';
            assert_eq!(known(std::str::from_utf8(&other).unwrap()), None, "{name} at {at}");
        }
        assert_eq!(known(&format!("{name}s")), None, "{name}s");
    }
    assert_eq!(known(""), None);
}

#[test]
fn what_servers_take_for_a_removed_field_is_known_as_one_that_is_removed_and_not_read() {
    let rows = [
        ("X-Api-Key", Some(Known::DownstreamKey)),
        ("Api-Key", Some(Known::DownstreamKey)),
        ("X-Litellm-Api-Key", Some(Known::DownstreamKey)),
        ("X-Goog-Api-Key", Some(Known::DownstreamKey)),
        ("Ocp-Apim-Subscription-Key", Some(Known::DownstreamKey)),
        ("Proxy-Authorization", Some(Known::DownstreamKey)),
        ("Content-Length", Some(Known::HopAlias)),
        ("Transfer-Encoding", Some(Known::HopAlias)),
        ("Keep-Alive", Some(Known::HopAlias)),
        ("Proxy-Connection", Some(Known::HopAlias)),
        ("Set-Cookie", Some(Known::SetCookie)),
        ("X-Flow-Uring-Error", Some(Known::FlowUringError)),
        ("Content-Type", None),
        ("Content-Encoding", None),
        ("Sec-Fetch-Site", None),
        ("X-Accel-Buffering", None),
    ];
    for (name, expected) in rows {
        let aliases = [name.replace('-', "_"), name.replace('-', "."), name.replacen('-', "_", 1)];
        for alias in aliases.into_iter().flat_map(|alias| [alias.to_ascii_lowercase(), alias.to_ascii_uppercase()]) {
            assert_eq!(known(&alias), expected, "{alias}");
        }
        assert_eq!(known(&name.replace('-', "~")), None, "{name}");
    }
    for other in ["X_Api_Kez", "_x-api-key", "x_api_key_", "xapi_key", "proxy__authorization", "_", "."] {
        assert_eq!(known(other), None, "{other}");
    }
}

#[test]
fn content_length_is_digits_alone() {
    let rows: [(&[u8], Option<u64>); 18] = [
        (b"0", Some(0)),
        (b"42", Some(42)),
        (b"007", Some(7)),
        (b"9223372036854775807", Some(LENGTH_MAX)),
        (b"9223372036854775808", None),
        (b"18446744073709551615", None),
        (b"18446744073709551616", None),
        (b"99999999999999999999999999", None),
        (b"", None),
        (b"+1", None),
        (b"-1", None),
        (b"0x10", None),
        (b"1f", None),
        (b"1 ", None),
        (b"1,1", None),
        (b"1, 1", None),
        (b"1.0", None),
        ("\u{0661}".as_bytes(), None),
    ];
    for (value, expected) in rows {
        assert_eq!(parse_content_length(value), expected, "{}", value.escape_ascii());
    }
}

#[test]
fn host_is_a_host_and_perhaps_a_port() {
    let valid = [
        "localhost",
        "127.0.0.1:8899",
        "flow.ciandt.com",
        "a_b.example:80",
        "[::1]",
        "[::1]:8899",
        "[2001:db8::1]:",
        "x:65535",
        "host.docker.internal:1",
        "ex%41mple",
        "xn--bcher-kva.example",
        "a,b",
    ];
    for host in valid {
        assert!(is_valid_host(host.as_bytes()), "{host}");
    }
    let invalid = [
        "",
        ":80",
        "a b",
        "a:b",
        "a:65536",
        "a:80:80",
        "user@host",
        "http://host",
        "host/",
        "host?",
        "host#",
        "[::1",
        "::1",
        "[]",
        "[:::1]",
        "[::1]x",
        "[::1]80",
        "[127.0.0.1]",
        "a%4",
        "a%zz",
        "a%z4",
        "a%4z",
        "a\\b",
        "\"a\"",
        "<a>",
        "h\u{e9}",
        "a:+1",
        "a:-1",
        "[v1.a]",
        "[fe80::1%25eth0]",
    ];
    for host in invalid {
        assert!(!is_valid_host(host.as_bytes()), "{host}");
    }
}

#[test]
fn a_list_is_read_without_its_empty_members() {
    let members: Vec<&[u8]> = list_members(b" ,a,\t b c ,, d").collect();
    assert_eq!(members, [&b"a"[..], b"b c", b"d"]);
    assert_eq!(list_members(b" ,\t,").count(), 0);
}

fn options_of(fields: &[Field<'_>]) -> ConnectionOptions {
    let mut options = ConnectionOptions::default();
    fields
        .iter()
        .filter(|field| known(field.name) == Some(Known::Connection))
        .for_each(|field| options.add(field.value));
    options
}

#[test]
fn a_connection_persists_as_rfc_9112_section_9_3_says() {
    let rows: [(Version, &[&str], bool); 9] = [
        (Version::Http11, &[], true),
        (Version::Http11, &["keep-alive"], true),
        (Version::Http11, &["Close"], false),
        (Version::Http11, &["upgrade, close"], false),
        (Version::Http11, &["keep-alive", "close"], false),
        (Version::Http11, &["closed, enclose"], true),
        (Version::Http10, &[], false),
        (Version::Http10, &["Keep-Alive"], true),
        (Version::Http10, &["keep-alive, close"], false),
    ];
    for (version, values, expected) in rows {
        let fields: Vec<Field<'_>> =
            values.iter().map(|value| Field { name: "Connection", value: value.as_bytes() }).collect();
        assert_eq!(options_of(&fields).keeps_alive(version), expected, "{version:?} {values:?}");
    }
}

#[test]
fn connection_options_beyond_the_bound_are_refused() {
    let list = |count: usize| vec!["x"; count].join(",");
    for (count, accepted) in [(CONNECTION_OPTIONS_MAX, true), (CONNECTION_OPTIONS_MAX + 1, false)] {
        let value = list(count) + ", close, close, keep-alive";
        let fields = [Field { name: "Connection", value: value.as_bytes() }];
        assert_eq!(options_of(&fields).check_count().is_ok(), accepted, "{count}");
    }
}

#[test]
fn connection_options_name_fields_in_any_case_and_over_several_lines() {
    let fields = [
        Field { name: "connection", value: b"close, X-One" },
        Field { name: "Other", value: b"x-three" },
        Field { name: "CONNECTION", value: b"x-two" },
    ];
    let named = options_of(&fields).named(&fields);
    assert!(named.contain("x-one") && named.contain("X-TWO"));
    assert!(!named.contain("x-three") && !named.contain("close") && !named.contain(""));
}

proptest! {
    #[test]
    fn numbers_are_written_as_they_are_read(number: u64) {
        let mut out = Vec::new();
        push_decimal(&mut out, number);
        prop_assert_eq!(String::from_utf8_lossy(&out), number.to_string());
        prop_assert_eq!(parse_content_length(&out), (number <= LENGTH_MAX).then_some(number));
    }

    #[test]
    fn trimming_removes_white_space_at_the_ends_alone(bytes: Vec<u8>) {
        let text: String = bytes.iter().map(|&byte| char::from(byte % 0x80)).collect();
        prop_assert_eq!(trim_whitespace(text.as_bytes()), text.trim_matches([' ', '\t']).as_bytes());
    }

    #[test]
    fn no_host_makes_it_panic(bytes: Vec<u8>) {
        is_valid_host(&bytes);
    }
}
