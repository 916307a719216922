//! The gateway that runs already with these settings, found by two requests that it answers itself.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::ExecError;
use super::gateway::ChosenGateway;
use super::listener_owner::is_trusted;
use crate::config::Config;
use crate::credentials::{ApiKeys, Secret};
use crate::io::BlockingRequest;
use crate::observability::reachable;
use crate::whole_file::FileKinds;

/// The limit of each request: a gateway on this machine answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Room for the whole answer to `GET /`.
const RESPONSE_BYTES_MAX: usize = 4096;
/// The beginning of the body of the answer to `GET /`, by which a gateway is known.
const NAME: &str = "\"name\":\"flow-uring\"";
/// The variable with the keys that callers must show.
const API_KEYS_VARIABLE: &str = "FLOW_PROXY_API_KEYS";

/// The keys that a gateway with these settings accepts.
#[derive(Debug)]
pub struct AcceptedKeys {
    /// One that this user can read; `None`: all of them are written as hashes.
    first: Option<Secret>,
}

impl AcceptedKeys {
    /// Finds the first key in the text that `keys` was read from: of them it holds digests alone.
    ///
    /// # Errors
    /// The file cannot be read any more, as where it is a pipe.
    pub fn of(keys: &ApiKeys, file: Option<&Path>) -> Result<Self, ExecError> {
        let first = match file {
            Some(file) => keys.first_plain_of(file, FileKinds::Regular).map_err(ExecError::KeysFile)?,
            None => keys.first_plain(&Zeroizing::new(std::env::var(API_KEYS_VARIABLE).unwrap_or_default())),
        };
        Ok(AcceptedKeys { first })
    }

    /// Returns the key that the command shows, if there is one.
    pub fn into_first(self) -> Option<Secret> {
        self.first
    }
}

/// Finds the gateway that listens where these settings say; `None` where there is none, or one that speaks TLS, whose
/// certificate the command's clients may not trust, or another person's.
///
/// # Errors
/// It asks for a key, and does not accept that of these settings, or there is none.
pub fn find(config: &Config, keys: Option<&AcceptedKeys>) -> Result<Option<ChosenGateway>, ExecError> {
    // Any free port is one that cannot be known.
    if config.listener_tls.is_some() || config.listen.port() == 0 {
        return Ok(None);
    }
    let address = reachable(config.listen);
    if !is_trusted(address.port()) {
        return Ok(None);
    }
    let named = ask(address, "GET", "/", None);
    if !named.is_some_and(|response| status(&response) == Some(200) && is_ours(&response)) {
        return Ok(None);
    }
    // Answered by the gateway itself too, and the first thing for which it wants a key.
    let is_accepted = |key: Option<&Secret>| {
        let response = ask(address, "OPTIONS", "*", key.map(Secret::expose));
        response.and_then(|response| status(&response)).is_some_and(|status| status != 401)
    };
    if is_accepted(None) {
        return Ok(Some(ChosenGateway { address, key: None }));
    }
    let Some(keys) = keys else { return Err(ExecError::KeyWanted { address }) };
    let Some(first) = &keys.first else { return Err(ExecError::HashedKeys { address }) };
    if !is_accepted(Some(first)) {
        return Err(ExecError::KeyRefused { address });
    }
    Ok(Some(ChosenGateway { address, key: Some(Secret::new(first.expose().to_owned())) }))
}

/// Returns the answer; `None` where there is none.
fn ask(address: SocketAddr, method: &str, target: &str, bearer: Option<&str>) -> Option<Vec<u8>> {
    let request = BlockingRequest {
        method,
        target,
        bearer,
        user_agent: "flow-uring-exec",
        patience: PATIENCE,
        response_bytes_max: RESPONSE_BYTES_MAX,
    };
    request.send(address).ok()
}

fn status(response: &[u8]) -> Option<u16> {
    let line = response.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn is_ours(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response);
    text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.replace(": ", ":").contains(NAME))
}
