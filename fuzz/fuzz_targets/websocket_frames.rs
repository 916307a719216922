//! One direction of a WebSocket, in whatever reads it comes: its messages, its borders and its end are those of a second
//! reading of RFC 6455, of all bytes at once.

#![no_main]

use flow_uring::fuzz::websocket::{FrameObserver, FrameReader, Mask, MessageKind, MessageUsage, Sender};
use flow_uring_fuzz::input::{expanded, ways_to_split};
use libfuzzer_sys::fuzz_target;

/// What a direction is found to be.
#[derive(Debug, PartialEq, Eq)]
struct Direction {
    messages: Vec<(MessageKind, Vec<u8>)>,
    /// Of the message that is not over.
    open: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Border,
    WithinFrame,
    Closed,
    Broken,
}

impl FrameObserver for Direction {
    fn data(&mut self, _kind: MessageKind, part: &[u8], mask: Mask) {
        self.open.extend(part.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    fn message_ended(&mut self, kind: MessageKind) {
        let message = std::mem::take(&mut self.open);
        self.messages.push((kind, message));
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = expanded(data);
    for (sender, is_masked) in [(Sender::Server, false), (Sender::Client, true)] {
        let (expected, borders) = second_reading(&bytes, is_masked);
        check(sender, &[&bytes], &expected, &borders);
        for parts in ways_to_split(&bytes) {
            check(sender, &parts, &expected, &borders);
        }
        for (_, message) in &expected.messages {
            check_usage(message);
        }
    }
});

fn check(sender: Sender, parts: &[&[u8]], expected: &Direction, borders: &[usize]) {
    let mut found = Direction { messages: Vec::new(), open: Vec::new(), end: End::Border };
    let mut reader = FrameReader::new(sender);
    let mut before = 0;
    for part in parts {
        let border = reader.read(part, &mut found);
        let after = before + part.len();
        if !reader.is_broken() && !reader.has_closed() {
            // They are in order.
            let last = borders[..borders.partition_point(|border| *border <= after)].last();
            let last = last.filter(|last| **last >= before).map(|last| last - before);
            assert_eq!(border, last, "the last border of a read");
        } else {
            assert_eq!(border, None, "nothing is known any more");
        }
        before = after;
    }
    found.end = match (reader.is_broken(), reader.has_closed(), reader.is_at_border()) {
        (true, _, _) => End::Broken,
        (_, true, _) => End::Closed,
        (_, _, true) => End::Border,
        _ => End::WithinFrame,
    };
    assert_eq!(found, *expected);
}

/// Reads all at once, as the RFC describes a frame, and returns its borders too.
fn second_reading(mut bytes: &[u8], is_masked: bool) -> (Direction, Vec<usize>) {
    let length = bytes.len();
    let mut direction = Direction { messages: Vec::new(), open: Vec::new(), end: End::WithinFrame };
    let mut borders = vec![0];
    let mut kind = None;
    loop {
        let end = match bytes {
            [] => Some(End::Border),
            [_] => Some(End::WithinFrame),
            [first, second, ..] if is_broken(*first, *second, is_masked, kind.is_some()) => Some(End::Broken),
            _ => None,
        };
        if let Some(end) = end {
            direction.end = end;
            return (direction, borders);
        }
        let (first, second) = (bytes[0], bytes[1] & 0x7F);
        let extended = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let head = 2 + extended + if is_masked { 4 } else { 0 };
        if bytes.len() < head {
            return (direction, borders);
        }
        let payload = match second {
            126 => u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
            127 => u64::from_be_bytes(bytes[2..10].try_into().expect("eight")),
            short => u64::from(short),
        };
        let least =
            [(126, 126), (127, 65_536)].into_iter().find(|(mark, _)| *mark == second).map_or(0, |(_, least)| least);
        if payload < least || payload >> 63 != 0 {
            direction.end = End::Broken;
            return (direction, borders);
        }
        let is_whole = (bytes.len() - head) as u64 >= payload;
        let content = &bytes[head..][..(payload.min((bytes.len() - head) as u64)) as usize];
        match first & 0x0F {
            opcode @ 0..=2 => {
                let mask = if is_masked { &bytes[head - 4..head] } else { &[0; 4] };
                direction.open.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
                let of = kind.unwrap_or(if opcode == 1 { MessageKind::Text } else { MessageKind::Binary });
                kind = Some(of);
                if is_whole && first & 0x80 != 0 {
                    let message = std::mem::take(&mut direction.open);
                    direction.messages.push((of, message));
                    kind = None;
                }
            }
            8 if is_whole => {
                direction.end = End::Closed;
                return (direction, borders);
            }
            _ => {}
        }
        if !is_whole {
            return (direction, borders);
        }
        bytes = &bytes[head + payload as usize..];
        borders.push(length - bytes.len());
    }
}

/// Tells whether the first two bytes of a frame break the protocol (RFC 6455 §5.2, §5.4, §5.5).
fn is_broken(first: u8, second: u8, is_masked: bool, is_fragmented: bool) -> bool {
    let (is_final, opcode, short) = (first & 0x80 != 0, first & 0x0F, second & 0x7F);
    let is_known = matches!(opcode, 0..=2 | 8..=10);
    let is_control = opcode >= 8;
    first & 0x70 != 0
        || !is_known
        || (second & 0x80 != 0) != is_masked
        || is_control && (!is_final || short > 125)
        || opcode == 8 && short == 1
        || !is_control && (opcode == 0) != is_fragmented
}

/// A message tells the same usage however it was split.
fn check_usage(message: &[u8]) {
    let told = |parts: &[&[u8]]| {
        let mut usage = MessageUsage::default();
        parts.iter().for_each(|part| usage.read(part));
        (usage.end_message(), usage.has_open_answer(), usage.open_text_bytes())
    };
    let whole = told(&[message]);
    for parts in ways_to_split(message) {
        assert_eq!(told(&parts), whole, "however it is split");
    }
}
