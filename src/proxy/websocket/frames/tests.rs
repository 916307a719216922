use super::*;

/// Notes what is told of a direction.
#[derive(Debug, Default, PartialEq, Eq)]
struct Noted {
    messages: Vec<(MessageKind, Vec<u8>)>,
    open: Vec<u8>,
}

impl FrameObserver for Noted {
    fn data(&mut self, _kind: MessageKind, part: &[u8], mask: Mask) {
        self.open.extend(part.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    fn message_ended(&mut self, kind: MessageKind) {
        let message = std::mem::take(&mut self.open);
        self.messages.push((kind, message));
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Reads `bytes` in such parts, and returns what was noted and the end.
fn read(bytes: &[u8], part: usize) -> (Noted, FrameReader) {
    let (mut noted, mut reader) = (Noted::default(), FrameReader::new(Sender::Server));
    for part in bytes.chunks(part) {
        reader.read(part, &mut noted);
    }
    (noted, reader)
}

#[test]
fn messages_are_told_whole_however_they_are_split_and_fragmented() {
    let long = vec![b'x'; 70_000];
    let middle = vec![b'y'; 300];
    let bytes = [
        frame(0x81, b"one"),
        frame(0x82, b""),
        frame(0x01, b"a"),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x8A, b""),
        frame(0x80, b"bc"),
        frame(0x02, &middle),
        frame(0x80, &long),
    ]
    .concat();
    let expected = vec![
        (MessageKind::Text, b"one".to_vec()),
        (MessageKind::Binary, Vec::new()),
        (MessageKind::Text, b"abc".to_vec()),
        (MessageKind::Binary, [middle, long].concat()),
    ];
    for part in [1, 2, 3, 7, 1000, usize::MAX >> 1] {
        let (noted, reader) = read(&bytes, part);
        assert_eq!(noted, Noted { messages: expected.clone(), open: Vec::new() });
        assert!(reader.is_at_border() && !reader.has_closed() && !reader.is_broken());
    }
}

#[test]
fn the_last_border_of_each_read_is_told() {
    let (one, two) = (frame(0x81, b"one"), frame(0x89, b""));
    let bytes = [&one[..], &two, &frame(0x81, &[b'z'; 200])].concat();
    for cut in 0..=bytes.len() {
        let mut reader = FrameReader::new(Sender::Server);
        let borders = [0, one.len(), one.len() + two.len(), bytes.len()];
        let border = |from: usize, to: usize| {
            let last = borders.iter().copied().filter(|border| (from..=to).contains(border)).max();
            last.map(|last| last - from)
        };
        let (before, after) = bytes.split_at(cut);
        assert_eq!(reader.read(before, &mut Noted::default()), border(0, cut), "{cut}");
        assert_eq!(reader.is_at_border(), borders.contains(&cut), "{cut}");
        assert_eq!(reader.read(after, &mut Noted::default()), border(cut, bytes.len()), "{cut}");
    }
}

#[test]
fn after_a_close_nothing_is_read() {
    for close in [frame(0x88, b""), frame(0x88, &[0x03, 0xE8]), frame(0x88, &[3; 125])] {
        let (noted, reader) = read(&[close, frame(0x81, b"late")].concat(), 3);
        assert!(reader.has_closed() && !reader.is_at_border());
        assert_eq!(noted, Noted::default());
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_reading() {
    let mut long_in_eight = vec![0x81, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];
    long_in_eight.extend_from_slice(&[b'x'; 0xFFFF]);
    let cases: &[(&str, Vec<u8>)] = &[
        ("a reserved bit", frame(0xC1, b"x")),
        ("another", frame(0xA1, b"x")),
        ("the third", frame(0x91, b"x")),
        ("a reserved bit of a ping", frame(0xC9, b"x")),
        ("opcode 3", frame(0x83, b"x")),
        ("opcode 7", frame(0x87, b"x")),
        ("opcode 11", frame(0x8B, b"x")),
        ("opcode 15", frame(0x8F, b"x")),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("a message within another", [frame(0x01, b"x"), frame(0x81, b"x")].concat()),
        ("a fragmented ping", frame(0x09, b"x")),
        ("a fragmented close", frame(0x08, b"")),
        ("a long ping", frame(0x89, &[0; 126])),
        ("half a status", frame(0x88, b"x")),
        ("a mask of a server", vec![0x81, 0x81, 1, 2, 3, 4, b'x']),
        ("125 in two bytes", vec![0x81, 126, 0, 125]),
        ("65535 in eight bytes", long_in_eight),
        ("the highest bit of a length", vec![0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (what, bytes) in cases {
        for part in [1, 4, usize::MAX >> 1] {
            let (noted, reader) = read(&[&frame(0x81, b"ok"), bytes.as_slice(), &frame(0x81, b"late")].concat(), part);
            assert!(reader.is_broken(), "{what}");
            assert_eq!(noted.messages, [(MessageKind::Text, b"ok".to_vec())], "{what}");
        }
    }
    let mut client = FrameReader::new(Sender::Client);
    client.read(&frame(0x81, b"x"), &mut Noted::default());
    assert!(client.is_broken(), "a client without a mask");
}

#[test]
fn the_content_of_a_client_is_told_with_its_mask() {
    let bytes = [0x01, 0x85, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3, b'd' ^ 4, b'e' ^ 1];
    let bytes = [&bytes[..], &[0x8A, 0x80, 0, 0, 0, 0], &[0x80, 0x82, 9, 8, 7, 6, b'f' ^ 9, b'g' ^ 8]].concat();
    for part in 1..bytes.len() {
        let (mut noted, mut reader) = (Noted::default(), FrameReader::new(Sender::Client));
        for part in bytes.chunks(part) {
            reader.read(part, &mut noted);
        }
        assert_eq!(noted.messages, [(MessageKind::Text, b"abcdefg".to_vec())]);
        assert!(reader.is_at_border());
    }
}
