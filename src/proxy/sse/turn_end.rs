//! The event that says that the turn is over.

/// Room for `response.incomplete`, the longest event name that matters, and one byte to tell a longer one.
const NAME_BYTES_MAX: usize = 20;

/// Where `type` is the first or second member of an event's data, as all known servers write it, it is within this.
const DATA_BYTES_MAX: usize = 192;

/// The first bytes of an event.
pub struct EventPrefix {
    pub name: Prefix<NAME_BYTES_MAX>,
    pub data: Prefix<DATA_BYTES_MAX>,
    pub has_data: bool,
}

impl EventPrefix {
    pub const fn new() -> Self {
        EventPrefix { name: Prefix::new(), data: Prefix::new(), has_data: false }
    }

    pub fn clear(&mut self) {
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }

    pub fn ends_turn(&self) -> bool {
        is_last_type(self.name.kept())
            || self.data.kept().trim_ascii() == b"[DONE]"
            || top_level_type(self.data.kept()).is_some_and(is_last_type)
    }
}

/// The first `N` bytes of something longer.
pub struct Prefix<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Prefix<N> {
    pub const fn new() -> Self {
        Prefix { bytes: [0; N], length: 0 }
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }

    pub fn append(&mut self, part: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let taken = part.len().min(room.len());
        room[..taken].copy_from_slice(&part[..taken]);
        self.length += taken;
    }

    pub fn kept(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The types of the last event of a turn: Anthropic's, and those of OpenAI's Responses.
fn is_last_type(name: &[u8]) -> bool {
    matches!(name, b"message_stop" | b"response.completed" | b"response.failed" | b"response.incomplete")
}

/// The value of the member `type` of the JSON object that `json` begins with, where it is a string without escapes and
/// within what was kept. A `type` of an object inside it does not count.
fn top_level_type(json: &[u8]) -> Option<&[u8]> {
    let mut rest = json.trim_ascii_start().strip_prefix(b"{")?;
    let mut depth = 0_u32;
    let mut previous: Option<&[u8]> = None;
    let mut is_value_of_type = false;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => {
                let (text, after) = string_end(rest)?;
                if depth == 0 && is_value_of_type {
                    return Some(text);
                }
                previous = Some(text);
                rest = after;
            }
            b':' => is_value_of_type = depth == 0 && previous == Some(b"type"),
            b',' => is_value_of_type = false,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// Splits what follows an opening quote into the string, as written, and what is behind its closing quote.
fn string_end(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &text[at.min(text.len())..])?;
        if text[at] == b'"' {
            return Some((&text[..at], &text[at + 1..]));
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests;
