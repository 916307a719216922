//! The list of all limits: what the contract says is what the program has by default, and what the pages say.
//!
//! The sizes that cannot be set are constants of this program of tests, whose other tests meet them to the byte; the pages
//! that tell them are compared here. The tables of settings are compared with the pages by tests/documentation.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use flow_uring::cli::settings;
use flow_uring::config::{Limits, MEBIBYTE, Timeouts};

use crate::ends::{LINGER, LINGER_BYTES, LINGER_IN_A_DRAIN};
use crate::{
    CHUNK_EXTENSION_BYTES, INTERIM_BYTES, INTERIM_HEADS, KIB, MIB, REQUEST_FIELDS, REQUEST_HEAD_BYTES,
    REQUEST_LINE_BYTES, RESPONSE_FIELDS, RESPONSE_HEAD_BYTES, TRAILER_BYTES,
};

/// The limits that can be set: the flag and the default, in the unit of the flag.
const SETTABLE: [(&str, &str); 13] = [
    ("--head-timeout", "10"),
    ("--keepalive-timeout", "75"),
    ("--body-timeout", "60"),
    ("--connect-timeout", "10"),
    ("--client-timeout", "600"),
    ("--upstream-idle-timeout", "10"),
    ("--warm-connections", "1"),
    ("--body-max", "256"),
    ("--max-connections", "40 % of the file descriptors this process may open"),
    ("--drain-timeout", "600"),
    ("--retry-deadline", "60"),
    ("--replay-max", "16"),
    ("--sse-heartbeat", "off"),
];

#[test]
fn every_limit_that_can_be_set_has_a_flag_a_variable_and_its_default() {
    for (flag, default) in SETTABLE {
        let setting = settings().find(|setting| setting.flag == flag).unwrap_or_else(|| panic!("no {flag}"));
        let variable = format!("FLOW_PROXY_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
        assert_eq!((setting.default, setting.variable), (default, Some(variable.as_str())), "{flag}");
    }
    // None is forgotten here.
    let is_limit = |flag: &str| {
        ["-timeout", "-deadline", "-max", "-connections", "-heartbeat"].iter().any(|end| flag.ends_with(end))
    };
    let unlisted = settings().map(|setting| setting.flag).filter(|flag| is_limit(flag));
    let unlisted: Vec<_> = unlisted.filter(|flag| !SETTABLE.iter().any(|(listed, _)| listed == flag)).collect();
    assert!(unlisted.is_empty(), "limits that are not listed: {unlisted:?}");
}

#[test]
fn the_defaults_are_what_the_table_of_settings_says() {
    let seconds = |flag: &str| {
        let (_, default) = SETTABLE.iter().find(|(listed, _)| *listed == flag).expect("listed");
        Duration::from_secs(default.parse().expect("a number"))
    };
    let of_a_minute = Duration::from_secs(60);
    let defaults = Timeouts {
        head: seconds("--head-timeout"),
        keepalive: seconds("--keepalive-timeout"),
        body: seconds("--body-timeout"),
        handshake: Duration::from_secs(10),
        connect: seconds("--connect-timeout"),
        client: seconds("--client-timeout"),
        upstream_write: of_a_minute,
        downstream_write: of_a_minute,
        upstream_idle: seconds("--upstream-idle-timeout"),
        drain: seconds("--drain-timeout"),
        retry: seconds("--retry-deadline"),
        heartbeat: None,
    };
    assert_eq!(Timeouts::default(), defaults);
    let limits =
        |descriptors, shards| Limits::for_descriptors(descriptors, NonZeroUsize::new(shards).expect("not zero"));
    let large = limits(1_000_000, 2);
    assert_eq!((large.connections_max, large.idle_upstream_max), (400_000, 256));
    assert_eq!(limits(4_000, 4).idle_upstream_max, 100, "a tenth over all shards");
    assert_eq!((large.body_bytes_max, large.warm_connections), (Some(256 * MEBIBYTE), 1));
    assert_eq!(
        (large.replay_bytes_max, large.replay_total_bytes_max),
        ((16 * MEBIBYTE) as usize, (128 * MEBIBYTE) as usize)
    );
}

/// A page and its translation with what both say.
fn told() -> Vec<[(&'static str, String); 2]> {
    let (line, head) = (REQUEST_LINE_BYTES / KIB, REQUEST_HEAD_BYTES / KIB);
    let (fields, interim) = (REQUEST_FIELDS, INTERIM_BYTES / KIB);
    let Timeouts { handshake, upstream_write, downstream_write, .. } = Timeouts::default();
    assert_eq!(upstream_write, downstream_write, "the pages tell one");
    let (handshake, write) = (handshake.as_secs(), upstream_write.as_secs());
    let limits = Limits::for_descriptors(1 << 20, NonZeroUsize::MIN);
    let few = Limits::for_descriptors(4096, NonZeroUsize::MIN);
    let grouped = |count: usize| format!("{},{:03}", count / 1000, count % 1000);
    let (many, few) = (grouped(limits.connections_max), grouped(few.connections_max));
    let copies = limits.replay_total_bytes_max / (KIB * KIB);
    vec![
        [
            ("docs/settings.md", format!("a request line of {line} KiB and a head of {head} KiB and {fields} fields")),
            ("docs/settings.zh-CN.md", format!("请求行 {line} KiB，请求头 {head} KiB、{fields} 个字段")),
        ],
        [
            (
                "docs/settings.md",
                format!("Fixed at {handshake} s is a client's TLS handshake, at {write} s a write to either side"),
            ),
            (
                "docs/settings.zh-CN.md",
                format!("客户端的 TLS 握手 {handshake} 秒；向任何一方写入而对方完全不接收，{write} 秒"),
            ),
        ],
        [
            ("docs/settings.md", "has N less 1 s instead, at most 600".to_owned()),
            ("docs/settings.zh-CN.md", "改为 N 减 1 秒，最多 600".to_owned()),
        ],
        [
            ("docs/settings.md", format!("All copies of the process together take at most {copies} MiB")),
            ("docs/settings.zh-CN.md", format!("整个进程的副本合计最多 {copies} MiB")),
        ],
        [
            ("docs/user-guide.md", format!("more than {line} KiB in path and query")),
            ("docs/user-guide.zh-CN.md", format!("路径加查询字符串超过 {line} KiB")),
        ],
        [
            ("docs/user-guide.md", format!("more than {head} KiB or {fields} header fields")),
            ("docs/user-guide.zh-CN.md", format!("头部超过 {head} KiB 或 {fields} 个字段")),
        ],
        [
            ("docs/user-guide.md", format!("more than {INTERIM_HEADS} interim answers (1xx) or {interim} KiB of them")),
            ("docs/user-guide.zh-CN.md", format!("超过 {INTERIM_HEADS} 个、或合计超过 {interim} KiB 的临时响应")),
        ],
        [
            ("docs/operations.md", format!("a hard limit of 1,048,576 gives {many} of them, one of 4,096 gives {few}")),
            ("docs/operations.zh-CN.md", format!("硬上限 1,048,576 对应 {many} 个，4,096 对应 {few} 个")),
        ],
    ]
}

/// As [`told`], of answers, bodies and clients that were refused.
fn told_of_ends() -> Vec<[(&'static str, String); 2]> {
    assert_eq!(CHUNK_EXTENSION_BYTES, TRAILER_BYTES, "the pages tell one");
    let (head, each) = (RESPONSE_HEAD_BYTES / KIB, TRAILER_BYTES / KIB);
    let (bytes, time, in_a_drain) = (LINGER_BYTES / MIB, LINGER.as_secs(), LINGER_IN_A_DRAIN.as_secs());
    vec![
        [
            ("docs/settings.md", format!("An answer's head may have {head} KiB and {RESPONSE_FIELDS} fields")),
            ("docs/settings.zh-CN.md", format!("响应头最大 {head} KiB、{RESPONSE_FIELDS} 个字段")),
        ],
        [
            ("docs/settings.md", format!("the chunk extensions and the trailers of one body {each} KiB each")),
            ("docs/settings.zh-CN.md", format!("一个消息体的分块扩展和尾部字段各 {each} KiB")),
        ],
        [
            (
                "docs/settings.md",
                format!("up to {bytes} MiB are read and dropped, for {time} s at most, {in_a_drain} s in a drain"),
            ),
            ("docs/settings.zh-CN.md", format!("最多读取并丢弃 {bytes} MiB，最长 {time} 秒，排空期间 {in_a_drain} 秒")),
        ],
    ]
}

#[test]
fn the_pages_tell_the_limits_that_cannot_be_set() {
    // Lines are broken anywhere.
    let joined = |text: &str| text.split_whitespace().collect::<String>();
    let wrong: Vec<String> = told()
        .into_iter()
        .chain(told_of_ends())
        .flatten()
        .filter(|(page, text)| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
            !joined(&fs::read_to_string(path).expect("a page")).contains(&joined(text))
        })
        .map(|(page, text)| format!("{page}: {text}"))
        .collect();
    assert!(wrong.is_empty(), "the pages do not say:\n  {}", wrong.join("\n  "));
}
