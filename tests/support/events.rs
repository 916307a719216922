//! Event streams as a client reads them: the WHATWG's grammar on a whole stream, independent of the gateway's parser.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

/// Returns the whole events of a stream; an event without the blank line at its end is dropped, as clients do.
pub fn parse_events(stream: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    let (mut events, mut name, mut data) = (Vec::new(), String::new(), None::<String>);
    for line in text[..whole].lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            _ if line.is_empty() => {
                events.extend(data.take().map(|data| Event { name: name.clone(), data }));
                name.clear();
            }
            "event" => value.clone_into(&mut name),
            "data" => data = Some(data.map_or_else(|| value.to_owned(), |before| before + "\n" + value)),
            _ => {}
        }
    }
    events
}

/// Returns whether this is the gateway's event for a stream that broke, in the dialect of the API of `path`.
pub fn is_error_event(event: &Event, path: &str) -> bool {
    let Ok(data) = serde_json::from_str::<Value>(&event.data) else { return false };
    let error = &data["error"];
    let is_of_openai = error["type"] == "upstream_error" && error["code"] == "upstream_disconnected";
    let is_ours = if path.starts_with("/v1/messages") {
        event.name == "error" && data["type"] == "error" && error["type"] == "api_error"
    } else if path.starts_with("/v1/responses") {
        let is_numbered = data["sequence_number"].is_u64() && data["message"] == error["message"];
        event.name == "error" && data["type"] == "error" && is_numbered && is_of_openai
    } else if path.contains(":streamGenerateContent") {
        event.name.is_empty() && error["code"] == 502 && error["status"] == "UNAVAILABLE"
    } else {
        event.name.is_empty() && is_of_openai
    };
    is_ours && error["message"].as_str().is_some_and(|message| !message.is_empty())
}
