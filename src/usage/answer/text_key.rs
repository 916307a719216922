//! The members of events that hold what a model says, and the lengths of their strings.

/// The beginning of the `type` of events of Responses. In them only a `delta` is a text: others repeat it.
pub const RESPONSES_TYPE: &[u8] = b"response.";

/// A member whose strings are parts of what a model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKey {
    /// Of chat completions.
    Content,
    /// Of text completions, messages and Gemini.
    Text,
    /// Of the arguments of a tool in messages.
    PartialJson,
    Thinking,
    /// Of the arguments of a tool in chat completions.
    Arguments,
    ReasoningContent,
    Reasoning,
    Refusal,
    /// Of Responses.
    Delta,
}

impl TextKey {
    pub const ALL: [TextKey; 9] = [
        TextKey::Content,
        TextKey::Text,
        TextKey::PartialJson,
        TextKey::Thinking,
        TextKey::Arguments,
        TextKey::ReasoningContent,
        TextKey::Reasoning,
        TextKey::Refusal,
        TextKey::Delta,
    ];

    /// Its name between quotes.
    pub fn quoted(self) -> &'static [u8] {
        match self {
            TextKey::Content => b"\"content\"",
            TextKey::Text => b"\"text\"",
            TextKey::PartialJson => b"\"partial_json\"",
            TextKey::Thinking => b"\"thinking\"",
            TextKey::Arguments => b"\"arguments\"",
            TextKey::ReasoningContent => b"\"reasoning_content\"",
            TextKey::Reasoning => b"\"reasoning\"",
            TextKey::Refusal => b"\"refusal\"",
            TextKey::Delta => b"\"delta\"",
        }
    }

    pub fn named(name: &[u8], is_responses: bool) -> Option<Self> {
        let key = match name {
            b"delta" => return Some(TextKey::Delta),
            b"content" => TextKey::Content,
            b"text" => TextKey::Text,
            b"partial_json" => TextKey::PartialJson,
            b"thinking" => TextKey::Thinking,
            b"arguments" => TextKey::Arguments,
            b"reasoning_content" => TextKey::ReasoningContent,
            b"reasoning" => TextKey::Reasoning,
            b"refusal" => TextKey::Refusal,
            _ => return None,
        };
        (!is_responses).then_some(key)
    }
}

/// The bytes of a stream's texts, as they stand between their quotes.
///
/// Of an event the texts of one key count where it has some, which is the one that last had some: nearly all events of
/// a stream have the same, so that mostly no other has to be looked for, and some servers send a text by two names.
#[derive(Debug, Clone, Copy)]
pub struct TextBytes {
    /// Of the events so far.
    total: u64,
    usual: TextKey,
    /// The first other key that has texts in the present event.
    other: Option<TextKey>,
    /// Of the usual key in the present event, and of all others.
    by_usual: u64,
    by_others: u64,
}

impl TextBytes {
    pub const fn new() -> Self {
        TextBytes { total: 0, usual: TextKey::Content, other: None, by_usual: 0, by_others: 0 }
    }

    /// The key whose texts last counted.
    pub fn usual(&self) -> TextKey {
        self.usual
    }

    /// Adds a whole event, of which a text of the usual key counts.
    pub fn add_event(&mut self, bytes: usize) {
        self.total = self.total.saturating_add(bytes as u64);
    }

    /// Adds bytes of a text of the present event.
    pub fn add(&mut self, key: TextKey, bytes: usize) {
        if bytes == 0 {
        } else if key == self.usual {
            self.by_usual += bytes as u64;
        } else {
            self.by_others += bytes as u64;
            // Whichever comes first in the order of `ALL`, wherever they stand.
            let first = self.other.map_or(key, |other| if (key as u8) < other as u8 { key } else { other });
            self.other = Some(first);
        }
    }

    pub fn end_event(&mut self) {
        self.total = self.total();
        if self.by_usual == 0
            && let Some(other) = self.other
        {
            self.usual = other;
        }
        (self.by_usual, self.by_others, self.other) = (0, 0, None);
    }

    /// The bytes that count, with those of the present event.
    pub fn total(&self) -> u64 {
        let of_event = if self.by_usual > 0 { self.by_usual } else { self.by_others };
        self.total.saturating_add(of_event)
    }
}
