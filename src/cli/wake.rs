//! `flow-uring wake`: ends the rests of a credential of the gateway that runs.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::credentials::Secret;
use crate::io::{BlockingRequest, RequestFailure};
use crate::observability::reachable;

/// A gateway does it at once; one whose token is another lets wait a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer to this.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The answer of the gateway.
#[derive(Deserialize)]
struct WakeAnswer {
    woken: bool,
}

/// The gateway's error.
#[derive(Deserialize)]
struct RefusedAnswer {
    error: RefusedMessage,
}

#[derive(Deserialize)]
struct RefusedMessage {
    message: String,
}

/// Asks the gateway with the admin pages at `admin`. Returns whether the credential rested.
///
/// # Errors
/// The gateway cannot be asked, or does not do it.
pub fn wake(admin: SocketAddr, name: &str, token: Option<&Secret>) -> Result<bool, WakeError> {
    let address = reachable(admin);
    let request = BlockingRequest {
        method: "POST",
        target: &format!("/api/credentials/{}/wake", percent_encoded(name)),
        bearer: token.map(Secret::expose),
        user_agent: "flow-uring",
        patience: PATIENCE,
        response_bytes_max: ANSWER_BYTES_MAX,
    };
    let answer = request.send(address).map_err(|error| match error {
        RequestFailure::Connect(error) | RequestFailure::Exchange(error) => WakeError::Unreachable { address, error },
    })?;
    let body = memchr::memmem::find(&answer, b"\r\n\r\n").map_or(&[][..], |end| &answer[end + 4..]);
    match serde_json::from_slice::<WakeAnswer>(body) {
        Ok(WakeAnswer { woken }) => Ok(woken),
        Err(_) => {
            let refused = serde_json::from_slice::<RefusedAnswer>(body);
            Err(WakeError::Refused { address, message: refused.ok().map(|refused| refused.error.message) })
        }
    }
}

/// Encodes a name as one segment of a path (RFC 3986 §3.3). A dot too: a segment of dots alone leads elsewhere.
pub fn percent_encoded(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    let encoded = |byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encoded).collect()
}

/// The reason why a credential was not woken.
#[derive(Debug)]
pub enum WakeError {
    /// There are no admin pages, by the settings.
    Off,
    Unreachable {
        address: SocketAddr,
        error: io::Error,
    },
    Refused {
        address: SocketAddr,
        /// `None`: the answer is not a gateway's.
        message: Option<String>,
    },
}

impl fmt::Display for WakeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WakeError::Off => formatter.write_str("the admin pages are off; give --admin with those of the gateway"),
            WakeError::Unreachable { address, error } => {
                write!(formatter, "no gateway answers at {address}: {error}; give --admin with its admin address")
            }
            WakeError::Refused { address, message: Some(message) } => {
                write!(formatter, "{address} answered: {message}")
            }
            WakeError::Refused { address, message: None } => {
                write!(formatter, "what listens at {address} is no gateway; give --admin with its admin address")
            }
        }
    }
}

impl std::error::Error for WakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WakeError::Unreachable { error, .. } => Some(error),
            WakeError::Off | WakeError::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_whatever_is_in_it() {
        assert_eq!(percent_encoded("team-a_1~"), "team-a_1~");
        assert_eq!(percent_encoded("a b/../é?"), "a%20b%2F%2E%2E%2F%C3%A9%3F");
    }
}
