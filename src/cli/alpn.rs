//! The protocols that an upstream offers by ALPN (RFC 7301), for `check --online`: http/1.1 as the connections of the
//! check have it, and h2 by one more handshake, that offers it alone.
//!
//! Invariant: it ends in bounded time, asks no upstream that was not reached before (a proxy may count failures), sends
//! no request, and tells nothing that the upstream wrote.

use std::fmt;
use std::time::Duration;

use crate::io::Deadline;
use crate::upstream::{ConnectError, Connection, Connector, Route};

/// The limit for sending close_notify to an upstream that does not read.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The result of a handshake that offers one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlpnReply {
    Chosen,
    /// The handshake succeeded without a choice.
    Ignored,
    Refused,
    /// There was no handshake, for another reason.
    None,
}

impl AlpnReply {
    /// Reads the reply from what became of a connect.
    pub fn of(connected: Result<&Connection, &ConnectError>) -> Self {
        match connected {
            Ok(connection) if connection.has_chosen_protocol() => AlpnReply::Chosen,
            Ok(_) => AlpnReply::Ignored,
            Err(ConnectError::NoCommonProtocol) => AlpnReply::Refused,
            Err(_) => AlpnReply::None,
        }
    }
}

/// The replies of an upstream to the protocols that it could offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlpnOffer {
    http2: AlpnReply,
    http11: AlpnReply,
}

impl AlpnOffer {
    /// Asks for h2 an upstream that has replied to http/1.1; `None` if it has not, or is spoken to without TLS.
    pub async fn of(route: &Route, http11: AlpnReply, connect_limit: Duration) -> Option<Self> {
        if http11 == AlpnReply::None {
            return None;
        }
        let connector = Connector::new(route.offering("h2")?, 1);
        let http2 = match Deadline::default().within(connect_limit, connector.connect()).await {
            Ok(Ok(connection)) => {
                let reply = AlpnReply::of(Ok(&connection));
                connection.close(CLOSE_LIMIT).await;
                reply
            }
            Ok(Err(error)) => AlpnReply::of(Err(&error)),
            Err(_) => {
                connector.distrust_addresses();
                AlpnReply::None
            }
        };
        Some(AlpnOffer { http2, http11 })
    }

    /// Returns whether the gateway, which speaks HTTP/1.1, can speak with the upstream.
    pub fn is_usable(self) -> bool {
        self.http11 != AlpnReply::Refused
    }
}

impl fmt::Display for AlpnOffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AlpnReply::{Chosen, Ignored, Refused};
        formatter.write_str(match (self.http2, self.http11) {
            (Chosen, Chosen) => "the upstream offers h2 and http/1.1 by ALPN; the gateway uses http/1.1",
            (AlpnReply::None, Chosen) => {
                "the upstream offers http/1.1 by ALPN; whether it offers h2 could not be found out"
            }
            (AlpnReply::None, Refused) => {
                "the upstream does not offer http/1.1 by ALPN; whether it offers h2 could not be found out"
            }
            (AlpnReply::None, _) => {
                "the upstream ignores an offer of http/1.1 by ALPN; whether it offers h2 could not be found out"
            }
            (_, Chosen) => "the upstream offers http/1.1 by ALPN, and not h2",
            (Chosen, Refused) => "the upstream offers h2 alone by ALPN, and the gateway speaks HTTP/1.1",
            (Chosen, _) => "the upstream offers h2 by ALPN; the gateway speaks HTTP/1.1 without",
            (_, Refused) => "the upstream offers neither h2 nor http/1.1 by ALPN, and the gateway speaks HTTP/1.1",
            (_, Ignored | AlpnReply::None) => {
                "the upstream offers nothing by ALPN; the gateway speaks HTTP/1.1 without"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_of_use_unless_it_refuses_http_1_1() {
        use AlpnReply::{Chosen, Ignored, None, Refused};
        for (http2, http11, told, is_usable) in [
            (Chosen, Chosen, "offers h2 and http/1.1 by ALPN", true),
            (Refused, Chosen, "offers http/1.1 by ALPN, and not h2", true),
            (Ignored, Chosen, "offers http/1.1 by ALPN, and not h2", true),
            (None, Chosen, "offers http/1.1 by ALPN; whether it offers h2 could not be found out", true),
            (None, Refused, "does not offer http/1.1 by ALPN; whether it offers h2 could not be found out", false),
            (None, Ignored, "ignores an offer of http/1.1 by ALPN; whether it offers h2 could not be found out", true),
            (Chosen, Ignored, "offers h2 by ALPN; ", true),
            (Chosen, Refused, "offers h2 alone", false),
            (Refused, Refused, "offers neither", false),
            (Ignored, Ignored, "offers nothing by ALPN; ", true),
            (Refused, Ignored, "offers nothing by ALPN; ", true),
        ] {
            let offer = AlpnOffer { http2, http11 };
            let text = offer.to_string();
            assert!(text.starts_with(&format!("the upstream {told}")), "{offer:?}: {text}");
            assert_eq!(offer.is_usable(), is_usable, "{offer:?}");
        }
    }
}
