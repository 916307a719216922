//! The key of a caller: the fields that may hold it, and the comparison with the keys of the gateway.

use std::mem;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::credentials::{ApiKeyId, ApiKeys};
use crate::http1::fields::{self, Known};
use crate::http1::head::RequestHead;
use crate::proxy::error::GatewayError;

/// Finds the key of a request among `keys`. The first field of each kind counts, so a head made of nothing but keys
/// costs no more than [`KeyField::COUNT`] searches.
///
/// # Errors
/// [`GatewayError::ApiKeyMissing`] if it has none, [`GatewayError::ApiKeyUnknown`] if none of its keys is one of
/// `keys`.
pub fn check_key(head: &RequestHead<'_>, keys: &ApiKeys) -> Result<ApiKeyId, GatewayError> {
    let mut refusal = GatewayError::ApiKeyMissing;
    let mut has_come = [false; KeyField::COUNT];
    for field in head.fields {
        let Some(kind) = KeyField::of(field.name) else { continue };
        if mem::replace(&mut has_come[kind as usize], true) {
            continue;
        }
        let found = match kind {
            KeyField::Authorization => bearer(field.value).map(|key| keys.find(key)),
            KeyField::ProxyAuthorization => bearer(field.value)
                .map(|key| keys.find(key))
                .or_else(|| basic(field.value).map(|pair| find_in_pair(keys, &pair))),
            KeyField::XApiKey | KeyField::ApiKey => Some(keys.find(field.value)),
            KeyField::WebSocketProtocol => key_protocol(field.value).map(|key| keys.find(key)),
        };
        match found {
            Some(Some(id)) => return Ok(id),
            Some(None) => refusal = GatewayError::ApiKeyUnknown,
            None => {}
        }
    }
    Err(refusal)
}

/// A field in which clients put the key of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyField {
    Authorization,
    ProxyAuthorization,
    XApiKey,
    ApiKey,
    /// For browsers, which can set no other field of an upgrade to WebSocket.
    WebSocketProtocol,
}

impl KeyField {
    const COUNT: usize = 5;

    /// Returns the kind of the field of that name.
    fn of(name: &str) -> Option<Self> {
        match fields::known(name)? {
            Known::Authorization => Some(KeyField::Authorization),
            Known::ProxyAuthorization => Some(KeyField::ProxyAuthorization),
            Known::DownstreamKey if name.eq_ignore_ascii_case("x-api-key") => Some(KeyField::XApiKey),
            Known::DownstreamKey if name.eq_ignore_ascii_case("api-key") => Some(KeyField::ApiKey),
            Known::WebSocketProtocol => Some(KeyField::WebSocketProtocol),
            _ => None,
        }
    }
}

/// Stands before the key among the subprotocols of a WebSocket, as OpenAI has it.
const KEY_PROTOCOL: &[u8] = b"openai-insecure-api-key.";

/// Tells whether a subprotocol is the key of a caller.
pub fn is_key_protocol(protocol: &[u8]) -> bool {
    protocol.starts_with(KEY_PROTOCOL)
}

/// Returns the key in a list of subprotocols.
fn key_protocol(protocols: &[u8]) -> Option<&[u8]> {
    fields::list_members(protocols).find_map(|protocol| protocol.strip_prefix(KEY_PROTOCOL))
}

/// Returns the token of the scheme `Bearer` (RFC 6750 §2.1).
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    credentials_of(value, b"bearer")
}

/// Decodes the pair of the scheme `Basic` (RFC 7617 §2), which clients make of the `user:password@` in a proxy's URL.
fn basic(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    BASE64_STANDARD.decode(credentials_of(value, b"basic")?).ok().map(Zeroizing::new)
}

/// Returns the credentials after a scheme in any case and a space (RFC 9110 §11.4).
fn credentials_of<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (written, rest) = value.split_at_checked(scheme.len())?;
    (written.eq_ignore_ascii_case(scheme) && rest.starts_with(b" ")).then(|| fields::trim_whitespace(rest))
}

/// Finds the password, or if it is empty the user.
fn find_in_pair(keys: &ApiKeys, pair: &[u8]) -> Option<ApiKeyId> {
    let (user, password) = pair.split_at(memchr::memchr(b':', pair)?);
    keys.find(if password == b":" { user } else { &password[1..] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_request;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn a_key_is_found_wherever_clients_put_it() {
        let keys = ApiKeys::from_list(&format!("team:{KEY}")).unwrap().keys;
        let basic = |pair: &str| format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair));
        let found = |field_lines: &str| {
            let request = format!("OPTIONS /v1 HTTP/1.1\r\n{field_lines}\r\n");
            with_request(request.as_bytes(), |head| check_key(head, &keys).map(|id| keys.name(id).to_owned())).unwrap()
        };
        for field_lines in [
            format!("Authorization: Bearer {KEY}\r\n"),
            format!("authorization: bearer   {KEY} \r\n"),
            format!("X-API-Key: {KEY}\r\n"),
            format!("api-key: {KEY}\r\n"),
            format!("Proxy-Authorization: Bearer {KEY}\r\n"),
            basic(&format!("anyone:{KEY}")),
            basic(&format!("{KEY}:")),
            format!("Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{KEY}, v1\r\n"),
            format!("Authorization: Bearer other\r\nx-api-key: {KEY}\r\n"),
            format!(
                "Authorization: Basic eDp5\r\nX-Api-Key: other\r\nAPI-Key: other\r\nProxy-Authorization: Bearer {KEY}\r\n"
            ),
        ] {
            assert_eq!(found(&field_lines).as_deref(), Ok("team"), "{field_lines}");
        }
        for (field_lines, error) in [
            (String::new(), GatewayError::ApiKeyMissing),
            (format!("Authorization: {KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("Authorization: Bearer{KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("X-Goog-Api-Key: {KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("Sec-WebSocket-Protocol: {KEY}, x\r\n"), GatewayError::ApiKeyMissing),
            ("Sec-WebSocket-Protocol: openai-insecure-api-key.x\r\n".to_owned(), GatewayError::ApiKeyUnknown),
            (format!("Sec_WebSocket_Protocol: openai-insecure-api-key.{KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("Cookie: {KEY}\r\n"), GatewayError::ApiKeyMissing),
            ("Proxy-Authorization: Basic !\r\n".to_owned(), GatewayError::ApiKeyMissing),
            ("Authorization: Bearer\r\n".to_owned(), GatewayError::ApiKeyMissing),
            ("Authorization: Bearer other\r\n".to_owned(), GatewayError::ApiKeyUnknown),
            (basic(&format!("{KEY}:wrong")), GatewayError::ApiKeyUnknown),
            (basic(KEY), GatewayError::ApiKeyUnknown),
            ("x-api-key:\r\n".to_owned(), GatewayError::ApiKeyUnknown),
            (format!("X_Api_Key: {KEY}\r\nproxy.authorization: Bearer {KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("Authorization: Basic x\r\nAuthorization: Bearer {KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("Authorization: Bearer x\r\nauthorization: Bearer {KEY}\r\n"), GatewayError::ApiKeyUnknown),
            (format!("x-api-key: x\r\nX-API-KEY: {KEY}\r\n"), GatewayError::ApiKeyUnknown),
            (format!("api-key: x\r\napi-key: {KEY}\r\n"), GatewayError::ApiKeyUnknown),
            (format!("{}Proxy-Authorization: Bearer {KEY}\r\n", basic("x:y")), GatewayError::ApiKeyUnknown),
        ] {
            assert_eq!(found(&field_lines), Err(error), "{field_lines}");
        }
    }
}
