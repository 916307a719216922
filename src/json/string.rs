//! The inside of a JSON string, so that one that breaks off anywhere can be completed.
//!
//! Owns escapes, pairs of surrogates (RFC 8259 §7) and letters of several bytes (RFC 3629). Invariant: a run of plain
//! text costs one search for its end.

use memchr::memchr2;

/// The place within a string where the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StringPlace {
    Text,
    /// Within a letter, of which `missing` bytes are to come after `last`.
    Letter {
        last: u8,
        missing: u8,
    },
    Escape {
        follows_high: bool,
    },
    /// Within the digits after `\u`.
    Unicode {
        follows_high: bool,
        digits: u8,
        code: u16,
    },
    /// After the escape of the first half of a pair: the second must follow.
    AfterHigh,
}

impl StringPlace {
    /// Takes the next bytes, up to the closing quote. Returns its index; `None` where all is taken and the string goes
    /// on.
    pub fn read(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            *self = match *self {
                StringPlace::Text => {
                    let Some(found) = memchr2(b'"', b'\\', &text[at..]) else {
                        *self = end_of_text(&text[at..]);
                        return None;
                    };
                    at += found;
                    if text[at] == b'"' {
                        return Some(at);
                    }
                    StringPlace::Escape { follows_high: false }
                }
                StringPlace::Letter { missing: 0..=1, .. } if is_continuation(byte) => StringPlace::Text,
                StringPlace::Letter { missing, .. } if is_continuation(byte) => {
                    StringPlace::Letter { last: byte, missing: missing - 1 }
                }
                StringPlace::AfterHigh if byte == b'\\' => StringPlace::Escape { follows_high: true },
                StringPlace::Escape { follows_high } if byte == b'u' => {
                    StringPlace::Unicode { follows_high, digits: 0, code: 0 }
                }
                StringPlace::Escape { .. } => StringPlace::Text,
                StringPlace::Unicode { follows_high, digits, code } if byte.is_ascii_hexdigit() => {
                    after_digit(follows_high, digits, code << 4 | hex_value(byte))
                }
                // Not as the rules are: what follows is text as any other.
                StringPlace::Letter { .. } | StringPlace::AfterHigh | StringPlace::Unicode { .. } => {
                    *self = StringPlace::Text;
                    continue;
                }
            };
            at += 1;
        }
        None
    }

    /// Completes an escape, a pair or a letter, and adds the quote.
    pub fn completion(self) -> Vec<u8> {
        const LOW: &[u8] = b"\\udc00";
        let mut out = Vec::new();
        match self {
            StringPlace::Text => {}
            StringPlace::Letter { last, missing } => {
                // The byte after E0 or F0 may not be the least that continues a letter (RFC 3629 §4).
                out.push(match last {
                    0xE0 => 0xA0,
                    0xF0 => 0x90,
                    _ => 0x80,
                });
                out.resize(usize::from(missing), 0x80);
            }
            StringPlace::Escape { follows_high: false } => out.push(b'\\'),
            StringPlace::Escape { follows_high: true } => out.extend_from_slice(&LOW[1..]),
            StringPlace::Unicode { follows_high: true, digits, .. } => {
                out.extend_from_slice(&LOW[usize::from(digits) + 2..]);
            }
            StringPlace::Unicode { follows_high: false, digits, code } => {
                out.resize(4 - usize::from(digits), b'0');
                // Only the first two digits tell a half of a pair, and zeros follow what has come of them.
                if digits >= 2 && is_high(code << (4 * (4 - digits))) {
                    out.extend_from_slice(LOW);
                }
            }
            StringPlace::AfterHigh => out.extend_from_slice(LOW),
        }
        out.push(b'"');
        out
    }
}

fn after_digit(follows_high: bool, digits: u8, code: u16) -> StringPlace {
    match digits {
        3 if !follows_high && is_high(code) => StringPlace::AfterHigh,
        3 => StringPlace::Text,
        _ => StringPlace::Unicode { follows_high, digits: digits + 1, code },
    }
}

/// Returns whether this is the first half of a pair of surrogates.
fn is_high(code: u16) -> bool {
    (0xD800..0xDC00).contains(&code)
}

fn hex_value(digit: u8) -> u16 {
    let value = match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    };
    u16::from(value)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Tells whether plain text ends within a letter.
fn end_of_text(text: &[u8]) -> StringPlace {
    for (back, &byte) in text.iter().rev().take(3).enumerate() {
        if is_continuation(byte) {
            continue;
        }
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        if length > back + 1 {
            return StringPlace::Letter { last: text[text.len() - 1], missing: (length - back - 1) as u8 };
        }
        break;
    }
    StringPlace::Text
}
