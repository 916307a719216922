//! The address of the admin pages, as it is written on the command line.

use std::net::{SocketAddr, ToSocketAddrs};

use super::error::TopError;

/// The port of the admin pages where none is written.
const DEFAULT_PORT: u16 = crate::config::DEFAULT_ADMIN.port();

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPlace {
    pub address: SocketAddr,
}

impl AdminPlace {
    /// Parses `http://host:port/`, `host:port` or `host`.
    ///
    /// # Errors
    /// Another form, or a host without an address.
    pub fn parse(written: &str) -> Result<Self, TopError> {
        let rest = written.strip_prefix("http://").unwrap_or(written);
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '@', '?', '#', ' ']) {
            return Err(TopError::Url);
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let bare = authority.trim_start_matches('[').trim_end_matches(']');
        let resolved = if has_port { authority.to_socket_addrs() } else { (bare, DEFAULT_PORT).to_socket_addrs() };
        let address = resolved.map_err(|_| TopError::Url)?.next().ok_or(TopError::Url)?;
        Ok(AdminPlace { address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_written_as_a_url_or_without_its_port() {
        for (written, address) in [
            ("http://127.0.0.1:8900", "127.0.0.1:8900"),
            ("http://127.0.0.1:1/", "127.0.0.1:1"),
            ("127.0.0.1", "127.0.0.1:8900"),
            ("[::1]:2", "[::1]:2"),
            ("http://[::1]", "[::1]:8900"),
        ] {
            let place = AdminPlace::parse(written).expect("an address");
            assert_eq!(place.address.to_string(), address, "{written}");
        }
        for written in ["", "http://", "https://127.0.0.1:1", "http://u@127.0.0.1", "127.0.0.1:1/page", "127.0.0.1:x"] {
            assert!(AdminPlace::parse(written).is_err(), "{written}");
        }
    }
}
