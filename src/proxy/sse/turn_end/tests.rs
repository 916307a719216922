use crate::proxy::sse::tracker::EventTracker;

#[test]
fn the_last_whole_event_tells_whether_the_turn_is_complete() {
    let long = format!("data: {{\"x\":\"{}\",\"type\":\"text\"}}\n\n", "y".repeat(4096));
    let cases: &[(&str, bool)] = &[
        ("", false),
        ("data: [DONE]\n", false),
        ("data: [DONE]\n\n", true),
        ("data:[DONE]\r\n\r\n", true),
        ("data:[DONE]\r\r", true),
        ("data: [DONE] \n\n", true),
        ("data: [DONE]\n\n: keep-alive\n\n\n\n", true),
        ("data: [DONE]\n\ndata: hal", true),
        ("data: [DONE]\n\ndata: more\n\n", false),
        ("data: [DONE]\ndata: more\n\n", false),
        ("data: [DONE]!\n\n", false),
        ("event: message_stop\ndata: {}\n\n", true),
        ("event: message_stop\n\n", false),
        ("event: message_stopped\ndata: {}\n\n", false),
        ("event: response.incomplete_\ndata: {}\n\n", false),
        ("event: response.incomplete\ndata: {}\n\n", true),
        ("data: { \"type\" : \"response.failed\", \"a\": 1 }\n\n", true),
        ("data: {\"sequence_number\":7,\"type\":\"response.completed\",\"response\":{\n\n", true),
        ("data: {\ndata: \"type\":\ndata: \"message_stop\"}\n\n", true),
        ("data: {\"delta\":{\"type\":\"message_stop\"}}\n\n", false),
        ("data: {\"text\":\"\\\"type\\\":\\\"message_stop\\\"\"}\n\n", false),
        ("data: {\"text\":\"type\",\"b\":\"message_stop\"}\n\n", false),
        ("data: {\"a\":\"\\", false),
        ("data: {\"type\":\"message_stop\n\n", false),
        ("data: message_stop\n\n", false),
        ("data: \"type\":\"message_stop\"\n\n", false),
        (&long, false),
    ];
    for (stream, is_complete) in cases {
        assert_eq!(observed(stream).turn_is_complete(), *is_complete, "{stream:?}");
    }
}

fn observed(stream: &str) -> EventTracker {
    let mut tracker = EventTracker::new();
    tracker.observe(stream.as_bytes());
    tracker
}
