//! The protocols that an upstream offers by ALPN (RFC 7301), for `check --online`: one handshake for each, that offers it
//! alone.
//!
//! Invariant: it ends in bounded time, sends no request, and tells nothing that the upstream wrote.

use std::fmt;
use std::time::Duration;

use crate::io::Deadline;
use crate::upstream::{ConnectError, Connector, Route};

/// The limit for sending close_notify to an upstream that does not read.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The result of a handshake that offers one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AlpnReply {
    Chosen,
    /// The handshake succeeded without a choice.
    Ignored,
    Refused,
    /// There was no handshake, for another reason.
    None,
}

/// The replies of an upstream to the protocols that it could offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlpnOffer {
    http2: AlpnReply,
    http11: AlpnReply,
}

impl AlpnOffer {
    /// Asks the upstream; `None` if it is spoken to without TLS, or cannot be reached. `connect_limit` is for each
    /// handshake; both are made at once.
    pub async fn of(route: &Route, connect_limit: Duration) -> Option<Self> {
        let http2 = monoio::spawn(ask(route.offering("h2")?, connect_limit));
        let http11 = monoio::spawn(ask(route.offering("http/1.1")?, connect_limit));
        let offer = AlpnOffer { http2: http2.await, http11: http11.await };
        let is_reached = offer.http2 != AlpnReply::None || offer.http11 != AlpnReply::None;
        is_reached.then_some(offer)
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
            (_, Chosen) => "the upstream offers http/1.1 by ALPN, and not h2",
            (Chosen, Refused) => "the upstream offers h2 alone by ALPN, and the gateway speaks HTTP/1.1",
            (Chosen, _) => "the upstream offers h2 by ALPN; the gateway speaks HTTP/1.1 without",
            (_, Refused) => "the upstream offers neither h2 nor http/1.1 by ALPN, and the gateway speaks HTTP/1.1",
            (Ignored, _) | (_, Ignored) => "the upstream offers nothing by ALPN; the gateway speaks HTTP/1.1 without",
            (_, AlpnReply::None) => "the upstream does not offer h2 by ALPN",
        })
    }
}

async fn ask(route: Route, connect_limit: Duration) -> AlpnReply {
    let connector = Connector::new(route, 1);
    match Deadline::default().within(connect_limit, connector.connect()).await {
        Ok(Ok(connection)) => {
            let reply = if connection.has_chosen_protocol() { AlpnReply::Chosen } else { AlpnReply::Ignored };
            connection.close(CLOSE_LIMIT).await;
            reply
        }
        Ok(Err(ConnectError::NoCommonProtocol)) => AlpnReply::Refused,
        Ok(Err(_)) => AlpnReply::None,
        Err(_) => {
            connector.distrust_addresses();
            AlpnReply::None
        }
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
            (None, Chosen, "offers http/1.1 by ALPN, and not h2", true),
            (Chosen, Ignored, "offers h2 by ALPN; ", true),
            (Chosen, Refused, "offers h2 alone", false),
            (Refused, Refused, "offers neither", false),
            (Ignored, Ignored, "offers nothing by ALPN; ", true),
            (Ignored, None, "offers nothing by ALPN; ", true),
            (Refused, None, "does not offer h2", true),
        ] {
            let offer = AlpnOffer { http2, http11 };
            let text = offer.to_string();
            assert!(text.starts_with(&format!("the upstream {told}")), "{offer:?}: {text}");
            assert_eq!(offer.is_usable(), is_usable, "{offer:?}");
        }
    }
}
