//! The settings of an exchange: its time limits, its sizes and what is changed on the way.

use std::time::Duration;

use crate::cli::settings::form::{Mebibytes, Seconds, SecondsOrOff, SizeLimit, WholeNumber, Word};
use crate::cli::settings::setting::{Setting, SettingRank};
use crate::config::{MEBIBYTE, WARM_CONNECTIONS_MAX};

/// The finest wait that a timer of the program can keep.
const SECONDS_MIN: Duration = Duration::from_millis(1);
/// Comments that come more often would be traffic of their own.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// A terabyte, which is to say any body.
const BODY_MEBIBYTES_MAX: u64 = 1024 * 1024;
/// More than Linux lets one process open (`fs.nr_open`'s default is 2^20).
const CONNECTIONS_MAX: u64 = 1 << 20;

pub const ROWS: &[Setting] = &[
    Setting {
        flag: "--io-driver",
        variable: Some("FLOW_PROXY_IO_DRIVER"),
        help: "auto, uring or epoll",
        default: "auto",
        form: Some(&Word(|draft| &mut draft.config.io_driver)),
        ..Setting::ROW
    },
    Setting {
        flag: "--pump",
        variable: Some("FLOW_PROXY_PUMP"),
        help: "open answers that one loop a shard relays, without a task each: auto (of unknown length), always or never",
        default: "auto",
        form: Some(&Word(|draft| &mut draft.config.pumping)),
        ..Setting::ROW
    },
    Setting {
        flag: "--client-timeout",
        variable: Some("FLOW_PROXY_CLIENT_TIMEOUT"),
        help: "seconds to wait for an answer's head, and for each next piece of its body, 1 to 86400",
        default: "600",
        rank: SettingRank::Basic,
        form: Some(&Seconds { least: Duration::from_secs(1), field: |draft| &mut draft.config.timeouts.client }),
        ..Setting::ROW
    },
    Setting {
        flag: "--head-timeout",
        variable: Some("FLOW_PROXY_HEAD_TIMEOUT"),
        help: "seconds for a request head, first byte to last",
        default: "10",
        form: Some(&Seconds { least: SECONDS_MIN, field: |draft| &mut draft.config.timeouts.head }),
        ..Setting::ROW
    },
    Setting {
        flag: "--keepalive-timeout",
        variable: Some("FLOW_PROXY_KEEPALIVE_TIMEOUT"),
        help: "seconds a client's connection may idle between requests",
        default: "75",
        form: Some(&Seconds { least: SECONDS_MIN, field: |draft| &mut draft.config.timeouts.keepalive }),
        ..Setting::ROW
    },
    Setting {
        flag: "--body-timeout",
        variable: Some("FLOW_PROXY_BODY_TIMEOUT"),
        help: "seconds to wait for each next piece of a request body",
        default: "60",
        form: Some(&Seconds { least: SECONDS_MIN, field: |draft| &mut draft.config.timeouts.body }),
        ..Setting::ROW
    },
    Setting {
        flag: "--connect-timeout",
        variable: Some("FLOW_PROXY_CONNECT_TIMEOUT"),
        help: "seconds for one attempt's name lookup, connect and TLS handshake",
        default: "10",
        form: Some(&Seconds { least: SECONDS_MIN, field: |draft| &mut draft.config.timeouts.connect }),
        ..Setting::ROW
    },
    Setting {
        flag: "--upstream-idle-timeout",
        variable: Some("FLOW_PROXY_UPSTREAM_IDLE_TIMEOUT"),
        help: "seconds an unused upstream connection is kept",
        default: "10",
        form: Some(&Seconds { least: SECONDS_MIN, field: |draft| &mut draft.config.timeouts.upstream_idle }),
        ..Setting::ROW
    },
    Setting {
        flag: "--warm-connections",
        variable: Some("FLOW_PROXY_WARM_CONNECTIONS"),
        help: "upstream connections that each thread keeps ready for 5 minutes after a request, 0 to 16, 0 = none",
        default: "1",
        form: Some(&WholeNumber {
            kind: "a whole number",
            least: 0,
            most: WARM_CONNECTIONS_MAX,
            unit: "",
            field: |draft| &mut draft.config.limits.warm_connections,
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--body-max",
        variable: Some("FLOW_PROXY_BODY_MAX"),
        help: "largest request body in MiB, 0 = no limit",
        default: "256",
        form: Some(&SizeLimit {
            kind: "a whole number of MiB",
            unit: "MiB",
            unit_bytes: MEBIBYTE,
            most: BODY_MEBIBYTES_MAX,
            field: |draft| &mut draft.config.limits.body_bytes_max,
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--max-connections",
        variable: Some("FLOW_PROXY_MAX_CONNECTIONS"),
        help: "client connections open at a time",
        default: "40 % of the file descriptors this process may open",
        example: Some("400"),
        form: Some(&WholeNumber {
            kind: "a whole number",
            least: 1,
            most: CONNECTIONS_MAX,
            unit: "",
            field: |draft| &mut draft.config.limits.connections_max,
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--drain-timeout",
        variable: Some("FLOW_PROXY_DRAIN_TIMEOUT"),
        help: "seconds that open requests may take to finish after a stop signal",
        default: "600",
        // 0: stop at once.
        form: Some(&Seconds { least: Duration::ZERO, field: |draft| &mut draft.config.timeouts.drain }),
        ..Setting::ROW
    },
    Setting {
        flag: "--retry-deadline",
        variable: Some("FLOW_PROXY_RETRY_DEADLINE"),
        help: "how many seconds after its request began another attempt may start, 0 = none",
        default: "60",
        // 0: the first attempt is the only one.
        form: Some(&Seconds { least: Duration::ZERO, field: |draft| &mut draft.config.timeouts.retry }),
        ..Setting::ROW
    },
    Setting {
        flag: "--replay-max",
        variable: Some("FLOW_PROXY_REPLAY_MAX"),
        help: "largest request kept in memory for a second attempt, in MiB, 0 to 128",
        default: "16",
        form: Some(&Mebibytes {
            // A single copy larger than all of them together could never be kept.
            bytes_max: |draft| draft.config.limits.replay_total_bytes_max,
            field: |draft| &mut draft.config.limits.replay_bytes_max,
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--sse-heartbeat",
        variable: Some("FLOW_PROXY_SSE_HEARTBEAT"),
        help: "seconds that an event stream may be silent before the client gets a comment, 0.1 to 86400",
        default: "off",
        example: Some("0"),
        form: Some(&SecondsOrOff { least: HEARTBEAT_MIN, field: |draft| &mut draft.config.timeouts.heartbeat }),
        ..Setting::ROW
    },
    Setting {
        flag: "--filter",
        variable: Some("FLOW_PROXY_FILTER"),
        help: "none or anthropic-compat: takes anthropic-beta and context_management out of requests to /v1/messages",
        default: "none",
        form: Some(&Word(|draft| &mut draft.config.filter)),
        ..Setting::ROW
    },
];
