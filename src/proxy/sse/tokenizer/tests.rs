use proptest::prelude::*;

use super::*;
use crate::proxy::sse::reference::{Event, fragments, parse, streams};

/// Collects whole events.
#[derive(Default)]
struct Collector {
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    events: Vec<Event>,
}

impl EventConsumer for Collector {
    fn begin_value(&mut self, field: EventField) {
        match (field, &mut self.data) {
            (EventField::Event, _) => self.name.clear(),
            (EventField::Data, Some(lines)) => lines.push(b'\n'),
            (EventField::Data, None) => self.data = Some(Vec::new()),
        }
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        assert!(!part.is_empty(), "nothing is appended");
        self.end_value(field, part);
    }

    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        match field {
            EventField::Event => &mut self.name,
            EventField::Data => self.data.as_mut().expect("a value that has begun"),
        }
        .extend_from_slice(rest);
    }

    fn end_event(&mut self) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Some(data) = self.data.take() {
            self.events.push(Event { name: text(&self.name), data: text(&data) });
        }
        self.name.clear();
    }
}

fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Tokenizer) {
    let (mut tokenizer, mut collector) = (Tokenizer::new(), Collector::default());
    parts.into_iter().for_each(|part| tokenizer.read(part, &mut collector));
    (collector.events, tokenizer)
}

/// Checks that every split of the stream in two, and the single bytes, give what the whole gives.
fn assert_splits_make_no_difference(stream: &[u8]) -> Vec<Event> {
    let whole = read([stream]);
    for at in 0..=stream.len() {
        let (before, after) = stream.split_at(at);
        assert_eq!(read([before, after]), whole, "{} at {at}", stream.escape_ascii());
    }
    assert_eq!(read(stream.chunks(1)), whole, "{}", stream.escape_ascii());
    whole.0
}

#[test]
fn the_events_are_those_of_the_grammar() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("\n\n\n", &[]),
        ("data: a\n\n", &[("", "a")]),
        ("data: a\n", &[]),
        ("data: a", &[]),
        ("event: x\ndata: a\n\ndata: b\n\n", &[("x", "a"), ("", "b")]),
        ("data: a\nevent: x\nevent: y\n\n", &[("y", "a")]),
        ("event: x\nevent\ndata\n\n", &[("", "")]),
        ("event: x\n\ndata: a\n\n", &[("", "a")]),
        ("data:a\n\ndata:  a \n\ndata: :a: b\n\n", &[("", "a"), ("", " a "), ("", ":a: b")]),
        ("data: a\ndata\ndata:\ndata: b\n\n", &[("", "a\n\n\nb")]),
        (": data: a\n:\n:data: b\n\n", &[]),
        ("data: a\n: comment\nid: 7\nretry: 1\nnonsense\ndata: b\n\n", &[("", "a\nb")]),
        ("dat: a\ndatum: b\ndataa: c\nevents: d\neven: e\n data: f\nDATA: g\n\n", &[]),
        ("dat\ndatum\ndataa\nevents\n\u{FEFF}data: a\n\n", &[]),
        ("\u{FEFF}data: a\n\n\u{FEFF}data: b\n\n", &[("", "a")]),
        ("\u{FEFF}\u{FEFF}data: a\n\n", &[]),
        ("\u{FEFF}: comment\ndata: a\n\n", &[("", "a")]),
        ("\u{FEFF}\n\ndata: a\n\n", &[("", "a")]),
        ("\u{FEFF}event\u{FEFF}: x\ndata: \u{FEFF}\n\n", &[("", "\u{FEFF}")]),
        ("\u{FEFE}data: a\n\n", &[]),
    ];
    for (stream, expected) in cases {
        for line_end in ["\n", "\r\n", "\r"] {
            let stream = stream.replace('\n', line_end);
            // Values of several lines are joined by LF, whatever the stream's line end is.
            let expected: Vec<Event> =
                expected.iter().map(|(name, data)| Event { name: (*name).into(), data: (*data).into() }).collect();
            assert_eq!(assert_splits_make_no_difference(stream.as_bytes()), expected, "{stream:?}");
        }
    }
}

#[test]
fn line_ends_may_be_mixed() {
    let stream = b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\n\rdata: e\n\n";
    let expected = [("", "a\nb\nc"), ("", "d"), ("", "e")];
    let expected = expected.map(|(name, data)| Event { name: name.into(), data: data.into() });
    assert_eq!(assert_splits_make_no_difference(stream), expected);
}

#[test]
fn known_streams_are_read_as_by_the_reference() {
    for stream in streams() {
        assert_eq!(assert_splits_make_no_difference(&stream), parse(&stream), "{}", stream.escape_ascii());
    }
}

#[test]
fn reading_stops_after_the_blank_line() {
    let cases: &[(&str, Option<&str>)] = &[
        ("", None),
        ("data: a\n", None),
        ("\ndata", Some("data")),
        ("data: a\n\n", Some("")),
        ("data: a\n\ndata: b\n\n", Some("data: b\n\n")),
        ("data: a\r\n\r\ndata", Some("data")),
        ("data: a\r\rdata", Some("data")),
        ("data: a\r\n\r", Some("")),
        (": comment\n\n\n", Some("\n")),
    ];
    for (stream, expected) in cases {
        let rest = Tokenizer::new().read_event(stream.as_bytes(), &mut Collector::default());
        assert_eq!(rest, expected.map(str::as_bytes), "{stream:?}");
    }
}

#[test]
fn a_pair_of_consumers_gets_what_each_alone_gets() {
    for stream in streams() {
        let (mut first, mut second) = (Collector::default(), Collector::default());
        let mut tokenizer = Tokenizer::new();
        stream.chunks(5).for_each(|part| tokenizer.read(part, &mut (&mut first, &mut second)));
        let alone = read([stream.as_slice()]).0;
        assert_eq!((&first.events, &second.events), (&alone, &alone), "{}", stream.escape_ascii());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_by_the_reference_however_they_are_split(stream in fragments()) {
        prop_assert_eq!(assert_splits_make_no_difference(&stream), parse(&stream));
    }
}
