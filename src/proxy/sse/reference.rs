//! For tests: event streams, and an independent reading of their grammar.

use proptest::prelude::*;

use crate::proxy::sse::tokenizer::BYTE_ORDER_MARK;

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

/// The event stream grammar of the WHATWG, on a whole stream: an independent reading of the same rules.
pub fn parse(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(stream);
    let mut text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    text.truncate(whole);
    let (mut events, mut name, mut data) = (Vec::new(), String::new(), None::<String>);
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            _ if line.is_empty() => {
                if let Some(data) = data.take() {
                    events.push(Event { name: name.clone(), data });
                }
                name.clear();
            }
            "event" => name = value.to_owned(),
            "data" => data = Some(data.map_or(value.to_owned(), |before| before + "\n" + value)),
            _ => {}
        }
    }
    events
}

pub fn streams() -> Vec<Vec<u8>> {
    let with_lf = [
        "data: {\"a\":1}\n\ndata: {\"b\":\n\ndata:[DONE]\n\n",
        ": hello\n\n\u{FEFF}data: x\n\nevent: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: ping\n\
         data: {\"type\": \"ping\"}\n\n: keep-alive\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        "event: message_start\ndata: {\"type\":\"message_start\",\ndata: \"message\":{\"content\":[]}\ndata:}\n\n\
         event: content_block_delta\nid: 1\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\u00e9\u{e9}\"}}\n\n",
        "\u{FEFF}event: response.completed\ndata: {}\n\n\n\n: bye\n\n",
        "data: {\"type\":\"response.incomplete\",\"response\":{\"type\":\"x\"}}\nid: 7\nretry: 10\n\nid: 8\n\n",
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"x\":[]}}\n\n\
         event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"\",\"sequence_number\":1}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\\n\\ud83d\\ude00\"}}]}\n\n: keep-alive\n\n\
         data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"a\u{1F600}\"}]},\"index\": 0}]}\n\n\
         data: {\"candidates\": [{\"finishReason\": \"STOP\"}],\"usageMetadata\": {\"a\": 1}}\n\ndata: {\"usageMetadata\": {}}\n\n",
        "data: first\ndata: second\ndata\n\ndatafield: x\n\nnonsense\n\nevent\ndata\n\n",
        "data: [DONE]\n\ndata: more\n\n",
        "data: {\"id\":1}\n\ndata: {\"id\":2}\nevent: message_start\n\ndata: {\"id\":3}\nevent: message_stop\n\n",
        "data: {\"id\":1}\n\ndata: {\"id\":2,\"sequence_number\":11}\n\ndata: {\"two\":{}\ndata: ,\"id\":3}\n\n\
         data: {\"id\":4}\nevent: ping\n\ndata: [DONE]\n\ndata: {\"id\":4}\nevent: ping\n\n\
         data: {\"id\":4}\ndata: \n\nevent: x\ndata: {\"id\":[{}]}\n\ndata: {\"type\":\"response.x\"}\n\n",
    ];
    let mut streams: Vec<Vec<u8>> = with_lf.iter().map(|stream| stream.as_bytes().to_vec()).collect();
    streams.extend(with_lf.iter().map(|stream| stream.replace('\n', "\r\n").into_bytes()));
    streams.extend(with_lf.iter().map(|stream| stream.replace('\n', "\r").into_bytes()));
    streams
}

/// Decodes a whole chunked body, and fails on anything else.
pub fn dechunked(mut raw: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let line = raw.windows(2).position(|pair| pair == b"\r\n").expect("a size line");
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).expect("a size");
        raw = &raw[line + 2..];
        data.extend_from_slice(&raw[..size]);
        assert_eq!(&raw[size..size + 2], b"\r\n");
        raw = &raw[size + 2..];
        if size == 0 {
            assert!(raw.is_empty(), "surplus");
            return data;
        }
    }
}

/// Streams of what the grammar knows, in any order.
pub fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        proptest::sample::select(vec![
            "data",
            "event",
            ":",
            ": ",
            " ",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "[DONE]",
            "message_stop",
            "{",
            "}",
            "\"type\":",
            "\"response.completed\"",
            ",",
            "\"",
            "\\",
            "id",
            "\u{FEFF}",
            "x",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(fragment, 0..40).prop_map(|fragments| fragments.concat())
}
