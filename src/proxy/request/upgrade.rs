//! The opening handshake of a WebSocket (RFC 6455 §4), as far as the request makes it.
//!
//! Pure. Invariant: an upgrade goes upstream only if it is whole and has no body, so that both sides agree on where the
//! head ends; the key of a caller among its subprotocols stays here. Not here: the answer (`response::switching`).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::http1::fields::{self, Known};
use crate::http1::head::RequestHead;
use crate::proxy::error::GatewayError;
use crate::proxy::guard::key::is_key_protocol;
use crate::proxy::request::head::{Method, RequestFacts};
use crate::proxy::request::model::asked::AskedModels;
use crate::proxy::request::model::named::is_name;
use crate::proxy::request::path::UpstreamPath;

/// The only version there is (RFC 6455 §4.1).
const VERSION: &[u8] = b"13";

/// The bytes that a key stands for, and the length of its base64 (RFC 6455 §4.1).
const KEY_BYTES: usize = 16;
const KEY_TEXT_BYTES: usize = 24;

/// Follows the key in what is hashed for the answer (RFC 6455 §1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An upgrade that goes upstream, as far as its answer is checked against it.
#[derive(Debug)]
pub struct Upgrade {
    /// The value of `Sec-WebSocket-Accept` that proves that the upstream means this upgrade.
    pub accept: String,
    /// The subprotocols that the upstream may choose from.
    pub protocols: Vec<Box<[u8]>>,
    /// The path without the base path and the query.
    pub path: Box<str>,
    /// The model that path or query name.
    pub model: Option<String>,
}

/// Checks a request that asks for a WebSocket.
///
/// # Errors
/// It is no valid upgrade.
pub fn check(head: &RequestHead<'_>, facts: &RequestFacts) -> Result<(), GatewayError> {
    let (mut key, mut version) = (None, None);
    for field in head.fields {
        let place = match fields::known(field.name) {
            Some(Known::WebSocketKey) => &mut key,
            Some(Known::WebSocketVersion) => &mut version,
            _ => continue,
        };
        if place.replace(field.value).is_some() {
            return Err(GatewayError::BadUpgrade("a Sec-WebSocket field is repeated"));
        }
    }
    // RFC 6455 §4.4: whoever speaks another version is told this one, whatever else its handshake has.
    if version.is_some_and(|version| version != VERSION) {
        return Err(GatewayError::WebsocketVersionNotSupported);
    }
    let fault = if facts.method != Method::Get {
        "its method is not GET"
    } else if !facts.lists_upgrade() {
        "its Connection field does not list upgrade"
    } else if version.is_none() {
        "it has no Sec-WebSocket-Version"
    } else if !key.is_some_and(is_valid_key) {
        "its Sec-WebSocket-Key is not the base64 of 16 bytes"
    } else if !facts.body.is_empty() {
        "it has a body"
    } else {
        return Ok(());
    };
    Err(GatewayError::BadUpgrade(fault))
}

fn is_valid_key(key: &[u8]) -> bool {
    key.len() == KEY_TEXT_BYTES && BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

impl Upgrade {
    /// Notes what the answer to a valid upgrade is checked against.
    pub fn of(head: &RequestHead<'_>, path: UpstreamPath<'_>) -> Self {
        let values = |wanted| {
            let fields = head.fields.iter().filter(move |field| fields::known(field.name) == Some(wanted));
            fields.map(|field| field.value)
        };
        let key = values(Known::WebSocketKey).next().unwrap_or_default();
        let protocols = values(Known::WebSocketProtocol).flat_map(fields::list_members);
        let target = path.path_and_query.get(path.base_bytes..).unwrap_or_default();
        Upgrade {
            accept: accept_of(key),
            protocols: protocols.filter(|protocol| !is_key_protocol(protocol)).map(Box::from).collect(),
            path: path.path().into(),
            model: AskedModels::of_target(target)
                .ok()
                .and_then(|asked| asked.names.into_iter().find(|name| is_name(name))),
        }
    }
}

/// Returns the value of `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
fn accept_of(key: &[u8]) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, ACCEPT_SUFFIX].concat());
    debug_assert_eq!(hash.as_ref().len(), SHA1_OUTPUT_LEN);
    BASE64_STANDARD.encode(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_request;
    use crate::proxy::guard::origin::Caller;
    use crate::proxy::request::head::examine;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const REST: &str = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n";

    fn checked(line: &str, lines: &str) -> Result<(), GatewayError> {
        let head = format!("{line} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        with_request(head.as_bytes(), |head| {
            let facts = examine(head, &mut Caller::default()).expect("a head");
            assert!(facts.wants_websocket);
            check(head, &facts)
        })
        .expect("a head")
    }

    #[test]
    fn the_answer_to_the_key_of_the_rfc_is_that_of_the_rfc() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_whole_handshake_passes_however_it_is_spelt() {
        assert_eq!(checked("GET /", &[REST, KEY].concat()), Ok(()));
        let other = "upgrade: h2c, WebSocket\r\nCONNECTION: keep-alive, UPGRADE\r\nsec-websocket-version:13\r\n";
        assert_eq!(checked("GET /", &[other, KEY, "Content-Length: 0\r\n"].concat()), Ok(()));
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let of = |lines: &[&str]| checked("GET /", &lines.concat());
        let short = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n";
        let no_base64 = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==\r\n";
        let without_upgrade = "Upgrade: websocket\r\nConnection: keep-alive\r\nSec-WebSocket-Version: 13\r\n";
        let without_version = "Upgrade: websocket\r\nConnection: upgrade\r\n";
        for refused in [
            of(&[REST]),
            of(&[REST, KEY, KEY]),
            of(&[REST, short]),
            of(&[REST, no_base64]),
            of(&[REST, KEY, "Sec-WebSocket-Version: 13\r\n"]),
            of(&[without_upgrade, KEY]),
            of(&[without_version, KEY]),
            of(&[REST, KEY, "Content-Length: 1\r\n"]),
            of(&[REST, KEY, "Transfer-Encoding: chunked\r\n"]),
            checked("POST /", &[REST, KEY].concat()),
            checked("HEAD /", &[REST, KEY].concat()),
        ] {
            assert!(matches!(refused, Err(GatewayError::BadUpgrade(_))), "{refused:?}");
        }
        for version in ["8", "13, 8", "", "130"] {
            let line = format!("{without_version}Sec-WebSocket-Version: {version}\r\n");
            assert_eq!(of(&[&line]), Err(GatewayError::WebsocketVersionNotSupported), "{version}");
        }
    }

    #[test]
    fn the_key_of_a_caller_is_no_protocol_that_the_upstream_may_choose() {
        let lines = "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-1,\r\nsec-websocket-protocol: v1\r\n";
        let head = format!("GET /base/v1/realtime?model=gpt%2D4o HTTP/1.1\r\nHost: h\r\n{KEY}{lines}\r\n");
        let upgrade = with_request(head.as_bytes(), |head| {
            let path = UpstreamPath { needs_base: false, path_and_query: head.target, base_bytes: 5 };
            Upgrade::of(head, path)
        });
        let Upgrade { protocols, path, model, .. } = upgrade.expect("a head");
        assert_eq!(protocols.iter().map(|protocol| &**protocol).collect::<Vec<_>>(), [&b"realtime"[..], b"v1"]);
        assert_eq!((&*path, model.as_deref()), ("/v1/realtime", Some("gpt-4o")));
    }

    #[test]
    fn a_model_that_can_be_no_name_is_none() {
        let long = format!("/v1/realtime?model={}", "a".repeat(129));
        for target in ["/v1/realtime", "/v1/realtime?model=", "/v1/realtime?model=a%0ab", &long] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{KEY}\r\n");
            let model = with_request(head.as_bytes(), |head| {
                let path = UpstreamPath { needs_base: false, path_and_query: head.target, base_bytes: 0 };
                Upgrade::of(head, path).model
            });
            assert_eq!(model.expect("a head"), None, "{target}");
        }
    }
}
