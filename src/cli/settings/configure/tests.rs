use std::env::VarError;
use std::path::PathBuf;
use std::time::Duration;

use super::super::table::gateway::resolve_listen_host;
use super::super::testing::{DESCRIPTORS, Pair, config, errors, run};
use super::*;
use crate::config::{
    self, Filter, IoDriver, ListenerTls, LogConfig, LogFileLocation, LogFormat, LogLevel, LogRetention, Origin,
    PriceSource, Pumping, Timeouts, Trust, UsageOptions,
};

#[test]
fn the_admin_pages_are_on_loopback_whatever_the_gateway_listens_on_or_where_they_are_told_to_be() {
    for (words, environment, admin) in [
        (&[][..], &[][..], Some("127.0.0.1:8900")),
        (&["--host", "0.0.0.0"], &[], Some("127.0.0.1:8900")),
        (&["--admin", "off"], &[("FLOW_PROXY_ADMIN", "127.0.0.1:1")], None),
        (&[], &[("FLOW_PROXY_ADMIN", "[::1]:1")], Some("[::1]:1")),
        (&["--admin", "0.0.0.0:8899"], &[("FLOW_PROXY_PORT", "1")], Some("0.0.0.0:8899")),
        (&["--admin", "127.0.0.1:0", "--port", "0"], &[], Some("127.0.0.1:0")),
    ] {
        let config = run(words, environment, "").expect("valid").config;
        let admin: Option<SocketAddr> = admin.map(|admin| admin.parse().expect("an address"));
        assert_eq!(config.admin, admin, "{words:?}");
        let is_exposed = admin.is_some_and(|admin| admin.ip().is_unspecified());
        assert_eq!(config.notices.iter().any(|notice| notice.starts_with("--admin ")), is_exposed, "{words:?}");
    }
    let form = "--admin: expected off, or an IP address or localhost with a port, such as 127.0.0.1:8900 or [::1]:8900";
    assert_eq!(errors(&["--admin", "hunter2"], &[], ""), [form]);
    let rule = "the admin pages (--admin) cannot have the port of the gateway itself: choose another, or off";
    assert_eq!(errors(&["--port", "8900"], &[], ""), [format!("default: {rule}")]);
    assert_eq!(errors(&["--host", "0.0.0.0", "--admin", "[::1]:8899"], &[], ""), [format!("--admin: {rule}")]);
    assert!(run(&["--host", "10.0.0.1", "--admin", "127.0.0.1:8899"], &[], "").is_ok());
}

#[test]
fn the_runtime_directory_is_the_services_or_else_the_sessions() {
    let found = |environment: &[(&str, &str)]| {
        run(&["--take-over"], environment, "XDG_RUNTIME_DIR=/dotenv").expect("valid").config.runtime_directory
    };
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[("XDG_RUNTIME_DIR", "/run/user/1")]), path("/run/user/1"));
    assert_eq!(found(&[("XDG_RUNTIME_DIR", "relative"), ("RUNTIME_DIRECTORY", "")]), None);
    let both = [("XDG_RUNTIME_DIR", "/run/user/1"), ("RUNTIME_DIRECTORY", "/run/a:/run/b")];
    assert_eq!(found(&both), path("/run/a"));
}

#[test]
fn the_usage_file_is_the_one_named_or_in_the_services_directory_or_the_users() {
    let found = |words: &[&str], environment: &[(&str, &str)]| {
        let config = run(words, environment, "XDG_STATE_HOME=/dotenv").expect("valid").config;
        let is_warned = config.notices.iter().any(|notice| notice.starts_with("totals of usage end with this process"));
        assert!(!is_warned || config.usage.file.is_none());
        (config.usage.file.map(|file| file.display().to_string()), is_warned)
    };
    let path = |text: &str| (Some(text.to_owned()), false);
    let of_session = [("XDG_STATE_HOME", "/state"), ("STATE_DIRECTORY", "")];
    let of_service = [("XDG_STATE_HOME", "/state"), ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")];
    assert_eq!(found(&[], &[]), path("/home/user/.local/state/flow-uring/usage.sqlite"));
    assert_eq!(found(&[], &of_session), path("/state/flow-uring/usage.sqlite"));
    assert_eq!(found(&[], &of_service), path("/var/lib/a/usage.sqlite"));
    assert_eq!(
        found(&[], &[("XDG_STATE_HOME", "relative"), ("HOME", "/h")]),
        path("/h/.local/state/flow-uring/usage.sqlite")
    );
    assert_eq!(found(&["--usage-db", "u"], &of_service), path("u"));
    assert_eq!(found(&["--usage-db", "OFF"], &of_service), (None, false));
    assert_eq!(found(&[], &[("HOME", "")]), (None, true));
    assert_eq!(found(&["--usage", "off"], &[("HOME", "")]), (None, false));
    #[cfg(feature = "demo")]
    {
        assert_eq!(found(&["demo"], &of_service), (None, false));
        assert_eq!(found(&["demo", "--usage-db", "u"], &of_service), path("u"));
    }
}

#[test]
fn the_usage_file_of_the_command_depends_on_no_other_setting() {
    let args = crate::cli::args::parse(["usage", "--port", "x"].map(Into::into)).expect("parsed");
    let file = |value: &'static str| {
        let environment = |name: &str| match name {
            "HOME" => Ok("/h".into()),
            "FLOW_PROXY_USAGE_DB" => Ok(value.into()),
            "FLOW_PROXY_LOG_LEVEL" => Ok("hunter2".into()),
            _ => Err(VarError::NotPresent),
        };
        usage_file(&args.flags, &environment).expect("found")
    };
    assert_eq!(file(""), Some("/h/.local/state/flow-uring/usage.sqlite".into()));
    assert_eq!((file("/u"), file("off")), (Some("/u".into()), None));
}

#[test]
fn a_take_over_needs_a_port() {
    assert!(config(&["--take-over"]).take_over && !config(&[]).take_over);
    let errors = errors(&["--take-over", "--port", "0"], &[], "");
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("--take-over: name the --port"), "{errors:?}");
}

#[test]
fn nothing_said_gives_the_documented_defaults() {
    let config = config(&[]);
    assert_eq!((config.listen.to_string().as_str(), config.listen_host.as_str()), ("127.0.0.1:8899", "127.0.0.1"));
    assert_eq!(config.shards, config::default_shards());
    assert_eq!(config.secrets_file, PathBuf::from("secrets.json"));
    assert_eq!(config.upstream.url(), "https://flow.ciandt.com/flow-llm-proxy");
    assert_eq!(config.upstream.source, "default");
    assert_eq!((config.upstream.connect_to, config.upstream.trust), (None, Trust::System));
    assert_eq!(config.io_driver, IoDriver::Auto);
    assert_eq!(config.filter, Filter::None);
    let retention = LogRetention {
        days: 7,
        bytes_max: Some(100_000_000),
        is_cleaned_up: true,
        cleanup_interval: Duration::from_secs(86_400),
    };
    assert_eq!(config.log, LogConfig { level: LogLevel::Info, format: LogFormat::Text, file: None, retention });
    assert!(config.notices.is_empty());
    let seconds = Duration::from_secs;
    assert_eq!(
        config.timeouts,
        Timeouts {
            head: seconds(10),
            keepalive: seconds(75),
            body: seconds(60),
            handshake: seconds(10),
            connect: seconds(10),
            client: seconds(600),
            upstream_write: seconds(60),
            downstream_write: seconds(60),
            upstream_idle: seconds(10),
            drain: seconds(600),
            retry: seconds(60),
            heartbeat: None,
        }
    );
    assert_eq!(
        config.limits,
        Limits {
            body_bytes_max: Some(256 << 20),
            replay_bytes_max: 16 << 20,
            replay_total_bytes_max: 128 << 20,
            idle_upstream_max: (2_000 / config.shards).min(256),
            warm_connections: 1,
            pending_connects_max: 256,
            connections_max: 8000,
        }
    );
}

/// Every setting that has a variable: flag, variable, and two values with the texts that `check` shows.
const SETTINGS: &[(&str, &str, [Pair<'_>; 2])] = &[
    ("--host", "FLOW_PROXY_HOST", [("0.0.0.0", "0.0.0.0"), ("[::1]", "::1")]),
    ("--port", "FLOW_PROXY_PORT", [("0", "0"), ("65535", "65535")]),
    ("--shards", "FLOW_PROXY_NUM_WORKERS", [("1", "1"), ("1024", "1024")]),
    ("--secrets-file", "FLOW_PROXY_SECRETS_FILE", [("/a b.json", "/a b.json"), ("c", "c")]),
    ("--api-keys-file", "FLOW_PROXY_API_KEYS_FILE", [("/a b", "/a b"), ("c", "c")]),
    ("--admin-token-file", "FLOW_PROXY_ADMIN_TOKEN_FILE", [("/a b", "/a b"), ("c", "c")]),
    (
        "--allow-origin",
        "FLOW_PROXY_ALLOW_ORIGIN",
        [("https://A/", "https://a"), ("http://a:1,,b://c", "http://a:1, b://c")],
    ),
    ("--allow-host", "FLOW_PROXY_ALLOW_HOST", [("A.example", "a.example"), ("a, [::1]", "a, ::1")]),
    ("--upstream", "FLOW_PROXY_TARGET_URL", [("https://A/b/", "https://a/b"), ("http://[::1]:1", "http://[::1]:1")]),
    ("--upstream-ca", "FLOW_PROXY_UPSTREAM_CA", [("/ca.pem", "/ca.pem"), ("x", "x")]),
    ("--upstream-addr", "FLOW_PROXY_UPSTREAM_ADDR", [("h:1", "h port 1"), ("[::1]:2", "::1 port 2")]),
    ("--upstream-proxy", "HTTPS_PROXY", [("u:p@h:1", "http://h:1"), ("http://[::1]:2", "http://[::1]:2")]),
    ("--io-driver", "FLOW_PROXY_IO_DRIVER", [("URING", "uring"), ("epoll", "epoll")]),
    ("--pump", "FLOW_PROXY_PUMP", [("ALWAYS", "always"), ("never", "never")]),
    ("--filter", "FLOW_PROXY_FILTER", [("Anthropic-Compat", "anthropic-compat"), ("none", "none")]),
    ("--client-timeout", "FLOW_PROXY_CLIENT_TIMEOUT", [("1", "1 s"), ("1.5", "1.5 s")]),
    ("--usage", "FLOW_PROXY_USAGE", [("OFF", "off"), ("on", "on")]),
    ("--usage-db", "FLOW_PROXY_USAGE_DB", [("/a b", "/a b"), ("Off", "off")]),
    ("--prices", "FLOW_PROXY_PRICES", [("/a b.json", "/a b.json"), ("OFF", "off")]),
    ("--log-level", "FLOW_PROXY_LOG_LEVEL", [("debug", "DEBUG"), ("Warning", "WARNING")]),
    ("--log-format", "FLOW_PROXY_LOG_FORMAT", [("json", "json"), ("TEXT", "text")]),
    ("--log-file", "FLOW_PROXY_LOG_FILE", [("/a b.log", "/a b.log"), ("c", "c")]),
    ("--log-dir", "FLOW_PROXY_LOG_DIR", [("/a b", "/a b"), ("c", "c")]),
    ("--capture-dir", "FLOW_PROXY_CAPTURE_DIR", [("/a b", "/a b"), ("c", "c")]),
    ("--head-timeout", "FLOW_PROXY_HEAD_TIMEOUT", [("0.2", "0.2 s"), ("3", "3 s")]),
    ("--keepalive-timeout", "FLOW_PROXY_KEEPALIVE_TIMEOUT", [("0.2", "0.2 s"), ("3", "3 s")]),
    ("--body-timeout", "FLOW_PROXY_BODY_TIMEOUT", [("0.2", "0.2 s"), ("3", "3 s")]),
    ("--connect-timeout", "FLOW_PROXY_CONNECT_TIMEOUT", [("0.2", "0.2 s"), ("3", "3 s")]),
    ("--upstream-idle-timeout", "FLOW_PROXY_UPSTREAM_IDLE_TIMEOUT", [("0.2", "0.2 s"), ("3", "3 s")]),
    ("--drain-timeout", "FLOW_PROXY_DRAIN_TIMEOUT", [("0", "0 s"), ("3", "3 s")]),
    ("--retry-deadline", "FLOW_PROXY_RETRY_DEADLINE", [("0", "0 s"), ("86400", "86400 s")]),
    ("--sse-heartbeat", "FLOW_PROXY_SSE_HEARTBEAT", [("0.0", "off"), ("0.1", "0.1 s")]),
    ("--warm-connections", "FLOW_PROXY_WARM_CONNECTIONS", [("0", "0"), ("16", "16")]),
    ("--body-max", "FLOW_PROXY_BODY_MAX", [("0", "no limit"), ("3", "3 MiB")]),
    ("--replay-max", "FLOW_PROXY_REPLAY_MAX", [("0", "0 MiB"), ("128", "128 MiB")]),
    ("--max-connections", "FLOW_PROXY_MAX_CONNECTIONS", [("1", "1"), ("10000", "10000")]),
];

#[test]
fn the_flag_wins_over_the_environment_which_wins_over_dotenv_which_wins_over_the_default() {
    for &(flag, variable, [(a, shown_a), (b, shown_b)]) in SETTINGS {
        let in_dotenv = |value: &str| format!("# c\nexport {variable} = '{value}' # inline\n");
        let from_dotenv = format!(".env line 2: {variable}");
        let from_environment = format!("environment {variable}");
        let blank_environment = [(variable, " \t")];
        let (dotenv_a, dotenv_b, padded) = (in_dotenv(a), in_dotenv(b), format!("  {a} "));
        let table: [(&[&str], &[Pair<'_>], &str, Pair<'_>); 7] = [
            (&[flag, a], &[(variable, b)], &dotenv_b, (shown_a, flag)),
            (&[], &[(variable, a)], &dotenv_b, (shown_a, &from_environment)),
            (&[], &[], &dotenv_a, (shown_a, &from_dotenv)),
            (&[flag, " "], &[(variable, b)], "", (shown_b, &from_environment)),
            (&[flag, ""], &blank_environment, &dotenv_b, (shown_b, &from_dotenv)),
            (&[flag, &padded], &[], "", (shown_a, flag)),
            (&[], &[(variable, &padded)], "", (shown_a, &from_environment)),
        ];
        for (words, environment, dotenv, expected) in table {
            let configured = run(words, environment, dotenv).unwrap_or_else(|errors| panic!("{flag}: {errors}"));
            let finding = configured.effective.iter().find(|finding| finding.flag == flag).expect(flag);
            assert_eq!((finding.value.as_str(), finding.source.to_string().as_str()), expected, "{flag}");
        }
        let blank = format!("{variable}=\n");
        let configured = run(&[], &[(variable, "")], &blank).expect("defaults");
        let finding = configured.effective.iter().find(|finding| finding.flag == flag).expect(flag);
        assert_eq!(finding.source, ValueSource::Default, "{flag}: empty counts as unset");
    }
}

#[test]
fn every_setting_reaches_its_field() {
    let words = "--host ::1 --port 1 --shards 3 --secrets-file s --upstream https://h/b --upstream-ca ca --upstream-addr \
                 a:2 --io-driver epoll --client-timeout 4 --log-level error --log-format json --head-timeout 5 \
                 --keepalive-timeout 6 --body-timeout 7 --connect-timeout 8.5 --upstream-idle-timeout 9 --body-max 10 \
                 --max-connections 11 --drain-timeout 12 --replay-max 13 --retry-deadline 14 --sse-heartbeat 15 \
                 --pump never --filter anthropic-compat --log-file l --usage off --usage-db u --prices p --otel-names";
    let config = config(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!((config.listen.to_string().as_str(), config.listen_host.as_str()), ("[::1]:1", "::1"));
    assert_eq!((config.shards.get(), config.secrets_file, config.io_driver), (3, "s".into(), IoDriver::Epoll));
    assert_eq!((config.pumping, config.filter), (Pumping::Never, Filter::AnthropicCompat));
    assert_eq!(config.upstream.url(), "https://h/b");
    assert_eq!(config.upstream.source, "--upstream");
    assert_eq!(config.upstream.connect_to, Some(("a".into(), 2)));
    assert_eq!(config.upstream.trust, Trust::File("ca".into()));
    let (file, retention) = (Some(LogFileLocation::At("l".into())), LogRetention::default());
    assert_eq!(config.log, LogConfig { level: LogLevel::Error, format: LogFormat::Json, file, retention });
    let Timeouts { head, keepalive, body, connect, client, upstream_idle, drain, retry, heartbeat, .. } =
        config.timeouts;
    let millis =
        [head, keepalive, body, connect, client, upstream_idle, drain, retry].map(|duration| duration.as_millis());
    assert_eq!(millis, [5000, 6000, 7000, 8500, 4000, 9000, 12_000, 14_000]);
    assert_eq!(heartbeat, Some(Duration::from_secs(15)));
    let (file, prices) = (Some("u".into()), PriceSource::File("p".into()));
    assert_eq!(config.usage, UsageOptions { is_counted: false, file, prices, has_otel_names: true });
    let Limits { body_bytes_max, replay_bytes_max, connections_max, .. } = config.limits;
    assert_eq!((body_bytes_max, replay_bytes_max, connections_max), (Some(10 << 20), 13 << 20, 11));
}

/// Settings without a flag: variable, a value with the text that `check` shows, and a wrong value with the form that
/// the error names.
const WITHOUT_FLAG: [(&str, Pair<'_>, Pair<'_>); 5] = [
    ("FLOW_PROXY_LOG_RETENTION_DAYS", ("3", "3 days"), ("0", "a whole number of days from 1 to 3660")),
    ("FLOW_PROXY_LOG_MAX_SIZE_MB", ("0", "no limit"), ("x", "a whole number of MB (0 = no limit) from 0 to 1000000")),
    ("FLOW_PROXY_LOG_MAX_SIZE_MB", ("5", "5 MB"), ("-1", "a whole number of MB (0 = no limit) from 0 to 1000000")),
    ("FLOW_PROXY_LOG_CLEANUP_ENABLED", ("No", "false"), ("hunter2", "true or false")),
    ("FLOW_PROXY_LOG_CLEANUP_INTERVAL_HOURS", ("2", "2 h"), ("0.5", "a whole number of hours from 1 to 8784")),
];

#[test]
fn retention_is_set_by_variables_alone() {
    for (variable, (value, shown), (wrong, form)) in WITHOUT_FLAG {
        let found = |environment: &[(&str, &str)], dotenv: &str| {
            let findings = run(&[], environment, dotenv).expect("valid").effective;
            let is_it = |finding: &EffectiveSetting| finding.source != ValueSource::Default;
            findings.into_iter().find(is_it).map(|finding| (finding.value, finding.source.to_string()))
        };
        let dotenv = format!("{variable}={value}");
        assert_eq!(found(&[(variable, value)], ""), Some((shown.into(), format!("environment {variable}"))));
        assert_eq!(found(&[(variable, "")], &dotenv), Some((shown.into(), format!(".env line 1: {variable}"))));
        let told = format!("environment {variable}: expected {form}");
        assert_eq!(errors(&[], &[(variable, wrong)], ""), [told]);
    }
    // The later of two rows of one variable counts.
    let environment = WITHOUT_FLAG.map(|(variable, (value, _), _)| (variable, value));
    let retention = run(&[], &environment, "").expect("valid").config.log.retention;
    let cleanup_interval = Duration::from_secs(7200);
    assert_eq!(retention, LogRetention { days: 3, bytes_max: Some(5_000_000), is_cleaned_up: false, cleanup_interval });
}

#[test]
fn a_log_directory_stands_for_a_file_in_it_and_excludes_another() {
    assert_eq!(config(&["--log-dir", "d"]).log.file, Some(LogFileLocation::In("d".into())));
    let found = errors(&["--log-file", "f"], &[("FLOW_PROXY_LOG_DIR", "d")], "");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("environment FLOW_PROXY_LOG_DIR: the log file is named already by --log-file"));
}

#[test]
fn a_flag_that_may_be_repeated_is_one_list() {
    let access = config(&["--allow-host", "a", "--allow-host=B,c", "--allow-origin", "https://a"]).access;
    assert_eq!(access.allow_hosts, ["a", "b", "c"]);
    assert_eq!(access.allow_origins, [Origin::parse("https://a").expect("an origin")]);
}

#[test]
fn api_keys_are_read_from_the_environment_and_only_their_names_are_shown() {
    let given = [("FLOW_PROXY_API_KEYS", "alice:hunter2-hunter2-hunter2")];
    let configured = run(&[], &given, "").expect("valid");
    assert_eq!(configured.api_keys.as_ref().expect("given").keys.names().collect::<Vec<_>>(), ["alice"]);
    assert!(!format!("{configured:?}").contains("hunter2"));
    let found = configured.effective.iter().find(|found| found.flag == "--api-keys").expect("found");
    assert_eq!(found.value, "alice");
    assert_eq!(
        errors(&[], &[("FLOW_PROXY_API_KEYS", "alice:hunter 2,bob")], ""),
        [
            "environment FLOW_PROXY_API_KEYS: entry 1: expected a key of 1 to 1024 visible ASCII characters without \
             spaces after the colon",
            "environment FLOW_PROXY_API_KEYS: entry 2: expected name:key, found no colon"
        ]
    );
    assert_eq!(
        errors(&["--api-keys-file", "f"], &given, ""),
        ["environment FLOW_PROXY_API_KEYS: there is a file of API keys too: give only one of them"]
    );
}

#[test]
fn a_certificate_and_its_key_go_together() {
    let both = config(&["--tls-cert", "c", "--tls-key", "k"]).listener_tls;
    assert_eq!(both, Some(ListenerTls { certificate: "c".into(), key: "k".into() }));
    assert_eq!(config(&[]).listener_tls, None);
    let environment = [("FLOW_PROXY_TLS_CERT", "c"), ("FLOW_PROXY_TLS_KEY", "k")];
    assert_eq!(run(&[], &environment, "").expect("valid").config.listener_tls, both);
    assert_eq!(errors(&["--tls-cert", "c"], &[], ""), ["--tls-cert: a certificate needs its key too: give --tls-key"]);
    assert_eq!(
        errors(&[], &environment[1..], ""),
        ["environment FLOW_PROXY_TLS_KEY: a key needs its certificate too: give --tls-cert"]
    );
}

#[test]
fn an_open_door_is_warned_of_unless_keys_are_asked_for() {
    let warns = |words: &[&str]| config(words).notices.iter().any(|notice| notice.contains("without API keys"));
    assert!(warns(&["--host", "0.0.0.0"]) && warns(&["--host", "::"]) && warns(&["--host", "10.0.0.1"]));
    assert!(!warns(&[]) && !warns(&["--host", "::1"]) && !warns(&["--host", "::ffff:127.0.0.1"]));
    assert!(!warns(&["--host", "0.0.0.0", "--api-keys-file", "f"]));
}

#[test]
fn a_wrong_value_names_its_source_and_the_form_and_not_itself() {
    const BAD: &str = "hunter2!";
    let seconds = "expected seconds, decimals allowed, from 0.001 to 86400 (such as 30 or 0.5)";
    for (flag, variable, form) in [
        ("--host", "FLOW_PROXY_HOST", "expected an IP address or a host name, without port"),
        ("--port", "FLOW_PROXY_PORT", "expected a port (0 = any free one) from 0 to 65535"),
        ("--shards", "FLOW_PROXY_NUM_WORKERS", "expected a whole number from 1 to 1024"),
        (
            "--upstream",
            "FLOW_PROXY_TARGET_URL",
            "expected a URL that begins with https:// (or http://), such as https://flow.ciandt.com/flow-llm-proxy",
        ),
        ("--upstream-addr", "FLOW_PROXY_UPSTREAM_ADDR", "expected host:port, such as 10.0.0.7:443 or [::1]:8443"),
        ("--io-driver", "FLOW_PROXY_IO_DRIVER", "expected auto, uring or epoll"),
        ("--pump", "FLOW_PROXY_PUMP", "expected auto, always or never"),
        ("--filter", "FLOW_PROXY_FILTER", "expected none or anthropic-compat"),
        (
            "--client-timeout",
            "FLOW_PROXY_CLIENT_TIMEOUT",
            "expected seconds, decimals allowed, from 1 to 86400 (such as 30 or 0.5)",
        ),
        ("--usage", "FLOW_PROXY_USAGE", "expected on or off"),
        ("--log-level", "FLOW_PROXY_LOG_LEVEL", "expected DEBUG, INFO, WARNING or ERROR"),
        ("--log-format", "FLOW_PROXY_LOG_FORMAT", "expected text or json"),
        ("--head-timeout", "FLOW_PROXY_HEAD_TIMEOUT", seconds),
        ("--keepalive-timeout", "FLOW_PROXY_KEEPALIVE_TIMEOUT", seconds),
        ("--body-timeout", "FLOW_PROXY_BODY_TIMEOUT", seconds),
        ("--connect-timeout", "FLOW_PROXY_CONNECT_TIMEOUT", seconds),
        ("--upstream-idle-timeout", "FLOW_PROXY_UPSTREAM_IDLE_TIMEOUT", seconds),
        ("--warm-connections", "FLOW_PROXY_WARM_CONNECTIONS", "expected a whole number from 0 to 16"),
        (
            "--drain-timeout",
            "FLOW_PROXY_DRAIN_TIMEOUT",
            "expected seconds, decimals allowed, from 0 to 86400 (such as 30 or 0.5)",
        ),
        (
            "--retry-deadline",
            "FLOW_PROXY_RETRY_DEADLINE",
            "expected seconds, decimals allowed, from 0 to 86400 (such as 30 or 0.5)",
        ),
        (
            "--sse-heartbeat",
            "FLOW_PROXY_SSE_HEARTBEAT",
            "expected 0 (off) or seconds, decimals allowed, from 0.1 to 86400 (such as 30 or 0.5)",
        ),
        ("--body-max", "FLOW_PROXY_BODY_MAX", "expected a whole number of MiB from 0 to 1048576"),
        ("--replay-max", "FLOW_PROXY_REPLAY_MAX", "expected a whole number of MiB from 0 to 128"),
        ("--max-connections", "FLOW_PROXY_MAX_CONNECTIONS", "expected a whole number from 1 to 1048576"),
    ] {
        assert_eq!(errors(&[flag, BAD], &[], ""), [format!("{flag}: {form}")]);
        assert_eq!(errors(&[], &[(variable, BAD)], ""), [format!("environment {variable}: {form}")]);
        let dotenv = format!("\n{variable}={BAD}");
        assert_eq!(errors(&[], &[], &dotenv), [format!(".env line 2: {variable}: {form}")]);
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (flag, value) in [
        ("--port", "65536"),
        ("--port", "+1"),
        ("--shards", "0"),
        ("--shards", "1025"),
        ("--client-timeout", "0.9"),
        ("--client-timeout", "86401"),
        ("--head-timeout", "0"),
        ("--replay-max", "129"),
        ("--retry-deadline", "86401"),
        ("--sse-heartbeat", "0.09"),
        ("--sse-heartbeat", "86401"),
        ("--max-connections", "0"),
        ("--host", "127.0.0.1:80"),
    ] {
        let found = errors(&[flag, value], &[], "");
        assert!(found.len() == 1 && found[0].starts_with(&format!("{flag}: expected ")), "{found:?}");
    }
}

#[test]
fn all_errors_are_reported_together() {
    let environment = [("FLOW_PROXY_LOG_LEVEL", "loud"), ("FLOW_PROXY_TARGET_URL", "https://u:p@h")];
    let found = errors(&["--port", "x"], &environment, "FLOW_PROXY_BODY_MAX=x\n");
    let sources: Vec<&str> = found.iter().filter_map(|line| line.split(": expected").next()).collect();
    assert_eq!(
        sources,
        [
            "--port",
            "environment FLOW_PROXY_TARGET_URL",
            ".env line 1: FLOW_PROXY_BODY_MAX",
            "environment FLOW_PROXY_LOG_LEVEL"
        ]
    );
    let broken_dotenv = errors(&["--port", "x"], &[], "A='");
    assert_eq!(broken_dotenv[0], ".env line 1: a quote is not closed");
    assert_eq!(broken_dotenv.len(), 2);
}

#[test]
fn a_variable_that_is_not_text_is_an_error() {
    let environment = |name: &str| match name {
        "FLOW_PROXY_PORT" => Err(VarError::NotUnicode("hunter2".into())),
        _ => Err(VarError::NotPresent),
    };
    let resolve = |_: &str, _: u16| Err(io::ErrorKind::NotFound.into());
    let surroundings = Surroundings {
        environment: &environment,
        dotenv: Ok(DotEnv::default()),
        descriptors_max: DESCRIPTORS,
        resolve: &resolve,
        is_demo: false,
    };
    let found = configure(&WrittenFlags::default(), surroundings).expect_err("refused");
    assert_eq!(
        found.to_string(),
        "the configuration has mistakes:\n  environment FLOW_PROXY_PORT: expected UTF-8 text"
    );
}

#[test]
fn a_plain_upstream_off_this_machine_needs_its_flag() {
    let url = "http://flow.example.com";
    let found = errors(&["--upstream", url], &[], "");
    assert!(found[0].starts_with("--upstream: an http:// upstream that is not on this machine"), "{found:?}");
    assert!(found[0].ends_with("or --allow-plain-upstream if the network is yours"), "{found:?}");
    let allowed = config(&["--upstream", url, "--allow-plain-upstream"]);
    assert_eq!(allowed.notices.len(), 1);
    assert!(allowed.notices[0].starts_with("--allow-plain-upstream: tokens"), "{:?}", allowed.notices);
    assert!(config(&["--upstream", "http://localhost:4000"]).notices.is_empty());
    assert!(run(&["--upstream", "http://localhost", "--upstream-addr", "10.0.0.1:80"], &[], "").is_err());
}

#[test]
fn the_listen_host_may_be_a_name() {
    let listen = |host: &str| config(&["--host", host]).listen.to_string();
    assert_eq!(listen("localhost"), "127.0.0.1:8899");
    assert_eq!(listen("LocalHost"), "127.0.0.1:8899");
    assert_eq!(listen("gateway"), "10.0.0.1:8899");
    let unknown = run(&["--host", "nowhere"], &[], "").expect_err("unknown");
    assert_eq!(unknown.to_string(), "the configuration has mistakes:\n  --host: the host has no address: unknown name");
    assert!(!unknown.is_usage(), "a failure at start, not of form");
    assert!(run(&["--host", "nowhere", "--port", "x"], &[], "").expect_err("unknown").is_usage());
}

#[test]
fn a_real_lookup_of_a_listen_name_prefers_ipv4() {
    assert_eq!(resolve_listen_host("localhost", 5).expect("found").to_string(), "127.0.0.1:5");
}

#[test]
fn the_old_name_of_shards_works_and_excludes_the_new_one() {
    assert_eq!(config(&["--num-workers", "3"]).shards.get(), 3);
    assert_eq!(
        errors(&["--num-workers", "3", "--shards", "4"], &[], ""),
        ["--num-workers: it is the old name of --shards: give only one of them"]
    );
    assert_eq!(errors(&["--num-workers", "x"], &[], ""), ["--num-workers: expected a whole number from 1 to 1024"]);
}

#[test]
fn no_threaded_gives_one_line_however_it_is_written() {
    let effect = "has no effect, there is always one thread a shard (see --shards)";
    assert_eq!(config(&["--no-threaded"]).notices, [format!("--no-threaded: {effect}")]);
    let notices = |environment: &[(&str, &str)], dotenv| run(&[], environment, dotenv).expect("valid").config.notices;
    assert_eq!(notices(&[("FLOW_PROXY_THREADED", "true")], ""), [format!("environment FLOW_PROXY_THREADED: {effect}")]);
    assert_eq!(notices(&[], "FLOW_PROXY_THREADED=1"), [format!(".env line 1: FLOW_PROXY_THREADED: {effect}")]);
    assert!(notices(&[("FLOW_PROXY_THREADED", "")], "FLOW_PROXY_THREADED=").is_empty());
}

#[test]
fn more_connections_than_descriptors_allow_get_a_notice() {
    let notices = config(&["--max-connections", "10001"]).notices;
    assert!(notices.len() == 1 && notices[0].contains("may open 20000 files"), "{notices:?}");
    assert!(config(&["--max-connections", "10000"]).notices.is_empty());
}
