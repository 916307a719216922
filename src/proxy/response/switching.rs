//! The upstream's 101 to an upgrade: the proof that it means this upgrade (RFC 6455 §4.1), and the head that goes
//! downstream for it.
//!
//! Pure. Invariant: nothing is tunnelled that both sides have not agreed on.

use crate::http1::fields::{self, ConnectionOptions, Known, NamedFields};
use crate::http1::head::ResponseHead;
use crate::proxy::error::GatewayError;
use crate::proxy::guard::cors;
use crate::proxy::request::ids::REQUEST_ID;
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::response::head::{Recipient, is_forwarded, push_status_line};

/// Checks a 101.
///
/// # Errors
/// It is not the answer to this upgrade.
pub fn check(head: &ResponseHead<'_>, upgrade: &Upgrade) -> Result<(), GatewayError> {
    let mut connection = ConnectionOptions::default();
    let (mut protocol, mut accept, mut upgraded) = (None, None, None);
    for field in head.fields {
        let place = match fields::known(field.name) {
            Some(Known::Connection) => {
                connection.add(field.value);
                continue;
            }
            Some(Known::Upgrade) => &mut upgraded,
            Some(Known::WebSocketAccept) => &mut accept,
            Some(Known::WebSocketProtocol) => &mut protocol,
            Some(Known::WebSocketExtensions) => return malformed("its 101 has an extension that was not offered"),
            // RFC 9110 §8.6, RFC 9112 §6.1: whoever reads them takes what follows for a body.
            Some(Known::ContentLength | Known::TransferEncoding | Known::HopAlias) => {
                return malformed("its 101 announces a body");
            }
            _ => continue,
        };
        if place.replace(field.value).is_some() {
            return malformed("its 101 has a field twice that may be there once");
        }
    }
    if !upgraded.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) || !connection.lists_upgrade() {
        return Err(GatewayError::UpstreamSwitchedProtocols);
    }
    if accept != Some(upgrade.accept.as_bytes()) {
        return malformed("its 101 has not the Sec-WebSocket-Accept of the request's key");
    }
    match protocol {
        Some(chosen) if !upgrade.protocols.iter().any(|offered| **offered == *chosen) => {
            malformed("its 101 has a subprotocol that was not offered")
        }
        _ => Ok(()),
    }
}

fn malformed(what: &'static str) -> Result<(), GatewayError> {
    Err(GatewayError::UpstreamMalformed(what))
}

/// Appends the head that goes downstream, and returns the length of `out` with all that is the upstream's in it.
pub fn write(out: &mut Vec<u8>, head: &ResponseHead<'_>, recipient: &Recipient<'_>) -> usize {
    push_status_line(out, head);
    // They are few, and none of their other fields is read.
    let named = NamedFields::gather(head.fields);
    let mut has_request_id = false;
    for field in head.fields {
        match fields::known(field.name) {
            Some(known) if known.is_of_websocket() => {}
            known if !is_forwarded(known, field.name, &named) => continue,
            Some(Known::RequestId) => has_request_id = true,
            None if recipient.origin.is_some() && cors::is_page_field(field.name) => continue,
            _ => {}
        }
        fields::push_field(out, field.name, field.value);
    }
    let upstream_bytes = out.len();
    if !has_request_id {
        fields::push_field(out, REQUEST_ID, recipient.request_id.as_bytes());
    }
    if let Some(origin) = recipient.origin {
        cors::push_page_fields(out, origin);
    }
    out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    upstream_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{Version, with_response};

    fn upgrade() -> Upgrade {
        let protocols = vec![Box::from(&b"realtime"[..]), Box::from(&b"v1"[..])];
        Upgrade { accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into(), protocols, path: "/".into(), model: None }
    }

    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    const SWITCHED: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n";

    fn checked(lines: &[&str]) -> Result<(), GatewayError> {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n", lines.concat());
        with_response(head.as_bytes(), |head| check(head, &upgrade())).expect("a head")
    }

    #[test]
    fn the_answer_to_this_upgrade_passes() {
        assert_eq!(checked(&[SWITCHED, ACCEPT]), Ok(()));
        assert_eq!(checked(&[SWITCHED, ACCEPT, "sec-websocket-protocol: v1\r\n"]), Ok(()));
    }

    #[test]
    fn anything_else_does_not() {
        for lines in [
            &["Connection: upgrade\r\n", ACCEPT][..],
            &["Upgrade: h2c\r\nConnection: upgrade\r\n", ACCEPT],
            &["Upgrade: websocket, h2c\r\nConnection: upgrade\r\n", ACCEPT],
            &["Upgrade: websocket\r\nConnection: close\r\n", ACCEPT],
        ] {
            assert_eq!(checked(lines), Err(GatewayError::UpstreamSwitchedProtocols), "{lines:?}");
        }
        for lines in [
            &[SWITCHED][..],
            &[SWITCHED, ACCEPT, ACCEPT],
            &[SWITCHED, SWITCHED, ACCEPT],
            &[SWITCHED, "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"],
            &[SWITCHED, ACCEPT, "Sec-WebSocket-Protocol: other\r\n"],
            &[SWITCHED, ACCEPT, "Sec-WebSocket-Protocol: realtime, v1\r\n"],
            &[SWITCHED, ACCEPT, "Sec-WebSocket-Protocol: v1\r\nSec-WebSocket-Protocol: v1\r\n"],
            &[SWITCHED, ACCEPT, "Sec-WebSocket-Extensions: permessage-deflate\r\n"],
            &[SWITCHED, ACCEPT, "Content-Length: 5\r\n"],
            &[SWITCHED, ACCEPT, "Transfer-Encoding: chunked\r\n"],
        ] {
            assert!(matches!(checked(lines), Err(GatewayError::UpstreamMalformed(_))), "{lines:?}");
        }
    }

    #[test]
    fn the_head_goes_on_without_what_was_for_this_hop() {
        let head = "HTTP/1.1 101 Hi\r\nupgrade: websocket\r\nConnection: upgrade, x-hop, sec-websocket-accept\r\n\
            X-Hop: 1\r\nSec-WebSocket-Accept: a\r\nSet-Cookie: a=b\r\nX-Kept: 2\r\nAccess-Control-Allow-Origin: *\r\n\r\n";
        let recipient = Recipient { version: Version::Http11, keep_alive: false, origin: None, request_id: "id-1" };
        let mut out = Vec::new();
        with_response(head.as_bytes(), |head| write(&mut out, head, &recipient)).expect("a head");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "HTTP/1.1 101 Hi\r\nSec-WebSocket-Accept: a\r\nX-Kept: 2\r\nAccess-Control-Allow-Origin: *\r\n\
             x-request-id: id-1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
    }
}
