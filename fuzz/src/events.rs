//! Event streams, by the WHATWG HTML Living Standard §9.2.6: a whole stream at once, in bytes.

use crate::json::Json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
}

impl Event {
    /// Its data, if that is a JSON object.
    pub fn json(&self) -> Option<Json> {
        Json::read(&self.data).filter(|json| matches!(json, Json::Object(_)))
    }
}

/// The whole events of a stream.
pub fn whole(stream: &[u8]) -> Vec<Event> {
    Reading::of(stream).events
}

/// A stream that was read to its end.
#[derive(Debug, Default)]
pub struct Reading {
    pub events: Vec<Event>,
    /// The data of the event whose blank line has not come, with the line that has not ended; else with the line end
    /// before the next line of data.
    pub half: Option<Vec<u8>>,
    /// Nothing is half written.
    pub is_between_events: bool,
}

/// Tells whether data goes on after a line that looks like a whole object. The program does not read such lines, and no
/// server was seen to break one there.
fn goes_on_after_object(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    first.starts_with(b"{") && first.ends_with(b"}") && lines.next().is_some()
}

impl Reading {
    pub fn of(stream: &[u8]) -> Self {
        let mut reading = Reading { is_between_events: true, ..Reading::default() };
        let (mut name, mut data) = (Vec::new(), None);
        let bytes = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
        let lines = lines(bytes);
        let (last, ended) = lines.split_last().expect("the line after the last line end");
        for line in ended {
            if line.is_empty() {
                if let Some(data) = data.take() {
                    reading.events.push(Event { name: name.clone(), data });
                }
                name.clear();
                reading.is_between_events = true;
            } else {
                take_line(line, &mut name, &mut data);
                reading.is_between_events &= line.starts_with(b":");
            }
        }
        if !last.is_empty() {
            take_line(last, &mut name, &mut data);
            reading.is_between_events = false;
        }
        // After the mark alone the first line has begun.
        reading.is_between_events &= !bytes.is_empty() || stream.is_empty();
        if !last.starts_with(b"data:")
            && let Some(data) = &mut data
        {
            data.push(b'\n');
        }
        reading.half = data;
        reading
    }

    /// Tells whether every event is written so that readers cannot see different things in it: a name is not given
    /// twice in an object, and no line that looks like an object is only the beginning of one.
    pub fn is_plain(&self) -> bool {
        let all = self.events.iter().map(|event| &event.data).chain(&self.half);
        all.clone().all(|data| !goes_on_after_object(data))
            && !self.events.iter().filter_map(Event::json).any(|json| json.is_ambiguous())
    }

    /// Tells whether every event is a JSON object.
    pub fn is_json(&self) -> bool {
        self.events.iter().all(|event| event.json().is_some())
    }
}

fn take_line(line: &[u8], name: &mut Vec<u8>, data: &mut Option<Vec<u8>>) {
    let (field, value) = match line.iter().position(|byte| *byte == b':') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &b""[..]),
    };
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match field {
        b"event" => *name = value.to_vec(),
        b"data" => {
            *data = Some(match data.take() {
                Some(before) => [&before[..], b"\n", value].concat(),
                None => value.to_vec(),
            });
        }
        _ => {}
    }
}

/// The lines, each ended by CRLF, LF or CR, and what follows the last of them.
fn lines(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = stream.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        lines.push(&stream[..end]);
        stream = stream[end..].strip_prefix(b"\r\n").unwrap_or(&stream[end + 1..]);
    }
    lines.push(stream);
    lines
}
