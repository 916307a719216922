//! What the messages of a client ask for.
//!
//! A message asks for an answer unless its type is one of Realtime's that ask for none. Invariant: nothing is changed or
//! held, memory is bounded, and nothing depends on how a message was split. What cannot be read asks for an answer: no
//! way of writing a message makes it cost less.

use crate::json::text::{Bracket, JsonObserver, JsonScalar, JsonText};
use crate::proxy::websocket::frames::{FrameObserver, FrameReader, Mask, MessageKind, Sender};

/// The beginnings of the types that ask for no answer: they set, add and take back. Where audio alone asks for one (by the
/// upstream's detection of speech) the upstream says that it begins.
const ASK_FOR_NOTHING: [&[u8]; 6] = [
    b"session.",
    b"transcription_session.",
    b"input_audio_buffer.",
    b"output_audio_buffer.",
    b"conversation.",
    b"response.cancel",
];

/// Its content is audio, which is counted by its duration and not by its length.
const AUDIO: &[u8] = b"input_audio_buffer.append";

/// The client's messages since the last answer.
pub struct AskedContent {
    frames: FrameReader,
    messages: Messages,
}

struct Messages {
    json: JsonText,
    kind: MessageType,
    /// The bytes of content that count, of whole messages.
    bytes: u64,
    /// Those of the present message.
    present_bytes: u64,
    /// A message asked for an answer.
    ask: bool,
}

impl AskedContent {
    pub fn new() -> Self {
        let messages =
            Messages { json: JsonText::new(), kind: MessageType::default(), bytes: 0, present_bytes: 0, ask: false };
        AskedContent { frames: FrameReader::new(Sender::Client), messages }
    }

    /// Takes the next bytes of the client.
    pub fn read(&mut self, bytes: &[u8]) {
        self.frames.read(bytes, &mut self.messages);
        if self.frames.is_broken() {
            self.messages.bytes += bytes.len() as u64;
            self.messages.ask = true;
        }
    }

    /// Returns the bytes of content that count, since the last answer.
    pub fn bytes(&self) -> u64 {
        self.messages.bytes + self.messages.counted_of_present()
    }

    /// Tells whether an answer was asked for of which nothing came yet.
    pub fn is_awaited(&self) -> bool {
        self.messages.ask
    }

    /// The upstream has said something.
    pub fn is_heard(&mut self) {
        self.messages.ask = false;
    }

    /// An answer has told what it was asked.
    pub fn is_answered(&mut self) {
        self.messages.bytes = 0;
    }
}

impl Messages {
    fn counted_of_present(&self) -> u64 {
        if self.kind.is_audio() { 0 } else { self.present_bytes }
    }
}

impl FrameObserver for Messages {
    fn data(&mut self, kind: MessageKind, part: &[u8], mask: Mask) {
        self.present_bytes += part.len() as u64;
        if kind == MessageKind::Text {
            // A multiple of the mask's length.
            let mut plain = [0; 256];
            for part in part.chunks(plain.len()) {
                let plain = &mut plain[..part.len()];
                for (index, byte) in part.iter().enumerate() {
                    plain[index] = byte ^ mask[index % mask.len()];
                }
                self.json.read(plain, &mut self.kind);
            }
        }
    }

    fn message_ended(&mut self, kind: MessageKind) {
        let is_read = kind == MessageKind::Text && self.json.is_whole();
        if !is_read {
            self.kind = MessageType::default();
        }
        self.bytes += self.counted_of_present();
        self.ask |= self.kind.asks();
        (self.present_bytes, self.kind) = (0, MessageType::default());
        self.json.clear();
    }
}

/// The type of a message, which must be its only one.
#[derive(Debug, Default)]
struct MessageType {
    is_next: bool,
    found: Option<FoundType>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoundType {
    Audio,
    AsksForNothing,
    /// Any other, or several.
    Asks,
}

impl MessageType {
    fn is_audio(&self) -> bool {
        self.found == Some(FoundType::Audio)
    }

    fn asks(&self) -> bool {
        !matches!(self.found, Some(FoundType::Audio | FoundType::AsksForNothing))
    }

    fn find(&mut self, kind: FoundType) {
        self.is_next = false;
        self.found = Some(if self.found.is_none() { kind } else { FoundType::Asks });
    }
}

impl JsonObserver for MessageType {
    fn wants(&self, depth: usize) -> bool {
        depth == 1
    }

    fn key(&mut self, _depth: usize, name: &[u8]) {
        self.is_next = name == b"type";
        // It may be the same name in other letters.
        if name.contains(&b'\\') {
            self.find(FoundType::Asks);
        }
    }

    fn value(&mut self, _depth: usize, value: JsonScalar<'_>) {
        if self.is_next {
            self.find(match value {
                JsonScalar::String(AUDIO) => FoundType::Audio,
                JsonScalar::String(name) if ASK_FOR_NOTHING.iter().any(|kind| name.starts_with(kind)) => {
                    FoundType::AsksForNothing
                }
                _ => FoundType::Asks,
            });
        }
    }

    fn open(&mut self, _depth: usize, _bracket: Bracket) {
        if self.is_next {
            self.find(FoundType::Asks);
        }
    }

    fn close(&mut self, _depth: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole message of a client, in one frame.
    fn message(first: u8, text: &str) -> Vec<u8> {
        let mask = [0x11, 0x22, 0x33, 0x44];
        let mut frame = vec![first, 0x80 | 126];
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        frame.extend_from_slice(&mask);
        frame.extend(text.bytes().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        frame
    }

    fn of_type(kind: &str) -> String {
        format!(r#"{{"event_id":"e","type":{kind},"more":{{"type":"response.create"}},"audio":"{}"}}"#, "A".repeat(400))
    }

    /// Returns the bytes that count, and whether an answer is awaited.
    fn asked(messages: &[(u8, String)], part: usize) -> (u64, bool) {
        let mut asked = AskedContent::new();
        let bytes: Vec<u8> = messages.iter().flat_map(|(first, text)| message(*first, text)).collect();
        bytes.chunks(part).for_each(|part| asked.read(part));
        (asked.bytes(), asked.is_awaited())
    }

    #[test]
    fn a_message_asks_unless_its_only_type_says_that_it_does_not() {
        let text = |kind: &str| (0x81, of_type(kind));
        let length = |kind: &str| of_type(kind).len() as u64;
        for part in [1, 3, 100, 4096] {
            for kind in ["\"session.update\"", "\"conversation.item.create\"", "\"response.cancel\""] {
                assert_eq!(asked(&[text(kind)], part), (length(kind), false), "{kind}");
            }
            for kind in ["\"response.create\"", "\"other\"", "null", "[]", "{}", "\"session.update\",\"type\":\"x\""] {
                assert_eq!(asked(&[text(kind)], part), (length(kind), true), "{kind}");
            }
            let (audio, commit) = ("\"input_audio_buffer.append\"", "\"input_audio_buffer.commit\"");
            assert_eq!(asked(&[text(audio), text(commit), text(audio)], part), (length(commit), false));
            // No way of writing one makes it cost less.
            for kind in [
                format!("{audio},\"type\":\"response.create\""),
                format!("\"response.create\",\"type\":{audio}"),
                format!("{audio},\"ty\\u0070e\":\"response.create\""),
                format!("{audio},\"type\":{{}}"),
            ] {
                assert_eq!(asked(&[text(&kind)], part), (length(&kind), true), "{kind}");
            }
            let cut = of_type(audio).trim_end_matches('}').to_owned();
            assert_eq!(asked(&[(0x81, cut.clone())], part), (cut.len() as u64, true), "no object");
            assert_eq!(asked(&[(0x82, of_type(audio))], part), (length(audio), true), "binary");
        }
    }

    #[test]
    fn what_is_heard_and_answered_is_over() {
        let mut asked = AskedContent::new();
        asked.read(&message(0x81, &of_type("\"response.create\"")));
        asked.is_heard();
        assert!(!asked.is_awaited() && asked.bytes() > 0);
        asked.is_answered();
        assert_eq!(asked.bytes(), 0);
        asked.read(&message(0x81, &of_type("\"response.create\""))[..50]);
        assert_eq!((asked.bytes(), asked.is_awaited()), (42, false), "a message that has not ended");
    }

    #[test]
    fn what_cannot_be_followed_counts_whole() {
        let mut asked = AskedContent::new();
        asked.read(b"\x81\x01unmasked");
        assert_eq!((asked.bytes(), asked.is_awaited()), (10, true));
    }
}
