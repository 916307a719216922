//! The parts that the demo's own requests ask the upstream to play: slow streams, and a credential that fails.
//!
//! Asked for in fields that no API has, so that the requests of others are answered as ever.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// Asks for this time between two streamed tokens, in milliseconds.
pub const PACE_FIELD: &str = "x-demo-pace";

/// Asks for a refusal if the request comes with a credential: its client id and the status, `bob-demo 429`.
pub const REFUSE_FIELD: &str = "x-demo-refuse";

/// The time for which a limited credential is to be left alone: long enough to be seen, and to be seen to come back.
pub const RETRY_AFTER_SECONDS: u64 = 20;

/// The slowest pace: a stream is one of some 40 tokens.
const PACE_MAX: Duration = Duration::from_secs(2);

/// The wishes of one request.
#[derive(Debug, Default)]
pub struct Scene<'a> {
    pub pace: Option<Duration>,
    refused: Option<(&'a str, StatusCode)>,
}

impl<'a> Scene<'a> {
    /// Reads the fields of a request; what is not understood is no wish.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let pace = text(PACE_FIELD).and_then(|pace| pace.parse().ok()).map(Duration::from_millis);
        let refused = text(REFUSE_FIELD).and_then(|wish| {
            let (credential, status) = wish.split_once(' ')?;
            let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
            matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS).then_some((credential, status))
        });
        Scene { pace: pace.map(|pace| pace.min(PACE_MAX)), refused }
    }

    /// Returns the status with which a request of this credential is refused.
    pub fn refusal(&self, credential: &str) -> Option<StatusCode> {
        self.refused.filter(|(refused, _)| *refused == credential).map(|(_, status)| status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_played_as_its_fields_ask_and_else_as_ever() {
        let limited = Some(StatusCode::TOO_MANY_REQUESTS);
        for (name, value, pace, refusal) in [
            ("x-other", "1", None, None),
            (PACE_FIELD, "800", Some(Duration::from_millis(800)), None),
            (PACE_FIELD, "999999999999", Some(PACE_MAX), None),
            (PACE_FIELD, "-1", None, None),
            (REFUSE_FIELD, "bob-demo 429", None, limited),
            (REFUSE_FIELD, "bob-demo 401", None, Some(StatusCode::UNAUTHORIZED)),
            (REFUSE_FIELD, "carol-demo 429", None, None),
            (REFUSE_FIELD, "bob-demo 200", None, None),
            (REFUSE_FIELD, "bob-demo", None, None),
        ] {
            let headers: HeaderMap = [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect();
            let scene = Scene::of(&headers);
            assert_eq!((scene.pace, scene.refusal("bob-demo")), (pace, refusal), "{name}: {value}");
        }
    }
}
