//! The messages of a client, and whether they ask for an answer.
//!
//! A message asks for one unless its type is one of Realtime's that ask for none. Invariant: nothing is changed or
//! held, memory is bounded, and nothing depends on how a message was split. A message that cannot be read asks for an
//! answer, and so does one that names its type twice: no way of writing it makes it cost less.

use crate::json::text::{Bracket, JsonObserver, JsonScalar, JsonText};
use crate::proxy::websocket::frames::{FrameObserver, FrameReader, Mask, MessageKind, Sender};
use crate::usage::tokens::AUDIO_BYTES_PER_TEXT_BYTE;

/// The beginnings of the types that ask for no answer: they set, add and take back. Where audio alone asks for one,
/// since the upstream detects speech, the upstream says that it begins.
const ASK_FOR_NOTHING: [&[u8]; 6] = [
    b"session.",
    b"transcription_session.",
    b"input_audio_buffer.",
    b"output_audio_buffer.",
    b"conversation.",
    b"response.cancel",
];

/// The type of a message whose content is audio.
const AUDIO: &[u8] = b"input_audio_buffer.append";

/// The client's messages since the last answer.
pub struct AskedContent {
    frames: FrameReader,
    messages: ClientMessages,
}

struct ClientMessages {
    json: JsonText,
    kind: MessageType,
    /// The bytes of whole messages without audio, and of those with it.
    text_bytes: u64,
    audio_bytes: u64,
    /// Those of the present message.
    present_bytes: u64,
    /// A message asked for an answer of which nothing came yet.
    is_awaited: bool,
}

impl AskedContent {
    pub fn new() -> Self {
        let messages = ClientMessages {
            json: JsonText::new(),
            kind: MessageType::default(),
            text_bytes: 0,
            audio_bytes: 0,
            present_bytes: 0,
            is_awaited: false,
        };
        AskedContent { frames: FrameReader::new(Sender::Client), messages }
    }

    /// Takes the next bytes of the client.
    pub fn read(&mut self, bytes: &[u8]) {
        self.frames.read(bytes, &mut self.messages);
        if self.frames.is_broken() {
            self.messages.text_bytes += bytes.len() as u64;
            self.messages.is_awaited = true;
        }
    }

    /// Returns the bytes of content since the last answer, audio in the measure of text.
    pub fn bytes(&self) -> u64 {
        let (text, audio) = self.messages.with_present();
        text + audio / AUDIO_BYTES_PER_TEXT_BYTE
    }

    /// Tells whether an answer was asked for of which nothing came yet.
    pub fn is_awaited(&self) -> bool {
        self.messages.is_awaited
    }

    /// Notes that a message of the upstream has come.
    pub fn note_message(&mut self) {
        self.messages.is_awaited = false;
    }

    /// Notes that what was asked is charged.
    pub fn note_answer(&mut self) {
        (self.messages.text_bytes, self.messages.audio_bytes) = (0, 0);
    }
}

impl ClientMessages {
    /// Returns the bytes of text and of audio, with those of the present message.
    fn with_present(&self) -> (u64, u64) {
        let present = self.present_bytes;
        if self.kind.is_audio() {
            (self.text_bytes, self.audio_bytes + present)
        } else {
            (self.text_bytes + present, self.audio_bytes)
        }
    }
}

impl FrameObserver for ClientMessages {
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
        (self.text_bytes, self.audio_bytes) = self.with_present();
        self.is_awaited |= self.kind.asks();
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
        // It may be the same name to the upstream: with escapes, or where that folds case.
        if name.contains(&b'\\') || !self.is_next && name.eq_ignore_ascii_case(b"type") {
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
            let expected = length(commit) + 2 * length(audio) / 128;
            assert_eq!(asked(&[text(audio), text(commit), text(audio)], part), (expected, false));
            // No way of writing one makes it cost less.
            for kind in [
                format!("{audio},\"type\":\"response.create\""),
                format!("\"response.create\",\"type\":{audio}"),
                format!("{audio},\"ty\\u0070e\":\"response.create\""),
                format!("{audio},\"type\":{{}}"),
                format!("{audio},\"Type\":\"response.create\""),
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
        asked.note_message();
        assert!(!asked.is_awaited() && asked.bytes() > 0);
        asked.note_answer();
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
