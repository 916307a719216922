//! The dialects of event streams: the event that ends a broken one in each of them.
//!
//! Not here: how one is told by the events of a stream (`events`).

use crate::proxy::error::{Dialect, append_json_string};

/// The code of the errors in which OpenAI's clients look for one.
const CODE: &str = "upstream_disconnected";

/// The API whose events a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventDialect {
    Anthropic,
    /// OpenAI's Responses.
    Responses,
    /// OpenAI's chat and text completions.
    Chat,
    Gemini,
}

/// The number of events of no known dialect after which none is expected any more: they are not looked into.
const UNKNOWN_EVENTS_MAX: u8 = 32;

/// The dialect of the whole events so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownDialect {
    NoEvent,
    /// So many events told none, or [`UNKNOWN_EVENTS_MAX`].
    Unknown {
        events_count: u8,
    },
    /// There was nothing but `ping`, which other dialects have borrowed.
    Ping,
    Known(EventDialect),
}

impl KnownDialect {
    /// Returns what is known after a whole event that told no dialect.
    pub fn after_unknown(self) -> Self {
        let before = match self {
            KnownDialect::Unknown { events_count } => events_count,
            _ => 0,
        };
        KnownDialect::Unknown { events_count: (before + 1).min(UNKNOWN_EVENTS_MAX) }
    }

    /// Returns whether an event without a telling name may still tell one.
    pub fn is_expected(self) -> bool {
        self != KnownDialect::Unknown { events_count: UNKNOWN_EVENTS_MAX }
    }
}

impl EventDialect {
    /// Returns the dialect in which `path` (without its query) is answered; `None` where that is not known.
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        let last = path.rsplit('/').next().unwrap_or_default();
        let has_segment = |name: &str| path.split('/').any(|segment| segment == name);
        if last.ends_with("enerateContent") {
            return Some(EventDialect::Gemini);
        }
        if Dialect::of_path(path) == Dialect::Anthropic || last == "messages" {
            return Some(EventDialect::Anthropic);
        }
        if last.ends_with("awPredict") {
            // Vertex AI passes other makers' own APIs through.
            let of_maker = |name: &str, dialect| has_segment(name).then_some(dialect);
            return of_maker("anthropic", EventDialect::Anthropic)
                .or_else(|| of_maker("mistralai", EventDialect::Chat));
        }
        if has_segment("responses") {
            return Some(EventDialect::Responses);
        }
        (last == "completions").then_some(EventDialect::Chat)
    }

    /// The name of the error events; none of the others has one.
    pub fn error_name(self) -> Option<&'static [u8]> {
        match self {
            EventDialect::Anthropic | EventDialect::Responses => Some(b"event: error"),
            EventDialect::Chat | EventDialect::Gemini => None,
        }
    }

    /// The members of the error's JSON object. `sequence` is its number among the events, where they have one.
    pub fn error_members(self, message: &str, sequence: u64) -> String {
        let mut text = Vec::new();
        append_json_string(&mut text, message);
        let text = String::from_utf8_lossy(&text);
        match self {
            EventDialect::Anthropic => format!(r#""type":"error","error":{{"type":"api_error","message":{text}}}"#),
            EventDialect::Responses => {
                let error = format!(r#"{{"message":{text},"type":"upstream_error","code":"{CODE}"}}"#);
                let names = format!(r#""type":"error","sequence_number":{sequence},"code":"{CODE}""#);
                format!(r#"{names},"message":{text},"param":null,"error":{error}"#)
            }
            EventDialect::Chat => format!(r#""error":{{"message":{text},"type":"upstream_error","code":"{CODE}"}}"#),
            EventDialect::Gemini => format!(r#""error":{{"code":502,"message":{text},"status":"UNAVAILABLE"}}"#),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_the_dialect_where_it_can() {
        use EventDialect::{Anthropic, Chat, Gemini, Responses};
        let cases = [
            ("/v1/messages", Some(Anthropic)),
            ("/anthropic/v1/messages", Some(Anthropic)),
            ("/flow-llm-proxy/v1/messages/", Some(Anthropic)),
            ("/messages", Some(Anthropic)),
            (
                "/vertex_ai/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict",
                Some(Anthropic),
            ),
            ("/vertex_ai/v1/projects/p/locations/l/publishers/mistralai/models/m:streamRawPredict", Some(Chat)),
            ("/vertex_ai/v1/projects/p/locations/l/publishers/other/models/m:streamRawPredict", None),
            ("/vertex_ai/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent", Some(Gemini)),
            ("/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent", Some(Gemini)),
            ("/v1beta/models/g%3AstreamGenerateContent", Some(Gemini)),
            ("/v1/responses", Some(Responses)),
            ("/openai/v1/responses/resp_1", Some(Responses)),
            ("/responses", Some(Responses)),
            ("/v1/chat/completions", Some(Chat)),
            ("/openai/deployments/d/chat/completions", Some(Chat)),
            ("/v1/completions", Some(Chat)),
            ("/v1/responses_of", None),
            ("/mcp/", None),
            ("/v1/x", None),
            ("/", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(EventDialect::of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn the_members_are_json_whatever_the_message() {
        for dialect in [EventDialect::Anthropic, EventDialect::Responses, EventDialect::Chat, EventDialect::Gemini] {
            let text = format!("{{{}}}", dialect.error_members("a \"b\"\n", 7));
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(json["error"]["message"], "a \"b\"\n", "{text}");
            assert_eq!(json["sequence_number"] == 7, dialect == EventDialect::Responses, "{text}");
        }
    }
}
