use super::*;
use crate::credentials::from_json;

const SECRETS: &str = r#"[{"clientId": "a", "clientSecret": "s-a", "tenant": "t"}]"#;

/// Taps a body that comes in pieces of so many bytes and goes downstream as one of them has come; returns which of the
/// ids are known then, and none of which was before.
fn known(body: &str, piece: usize, has_new_id: bool, is_event_stream: bool) -> Vec<&'static str> {
    let credentials = from_json(SECRETS).expect("valid").credentials;
    let owner = credentials.owner_key(credentials.entries().next().expect("an entry").0);
    let owners = Arc::new(Owners::default());
    let made =
        MadeObjects { owners: owners.clone(), owner, shelf: Shelf::Responses, has_new_id, held: Some(Vec::new()) };
    let mut tap = BodyTap::of_made(made, is_event_stream);
    let (first, rest) = body.as_bytes().split_at(piece.min(body.len()));
    tap.observe(first);
    assert!(!owners.has_entries(), "{body:.80} in {piece} before it goes downstream");
    tap.confirm();
    rest.chunks(piece).for_each(|piece| tap.observe(piece));
    let is_known = |id: &str| {
        let shelf = if id.starts_with("resp") { Shelf::Responses } else { Shelf::Others };
        owners.find(shelf, ObjectKey::of(id.as_bytes()), Instant::now()) == Some(owner)
    };
    ["resp_1", "resp_2", "file-1", "thread_1"].into_iter().filter(|id| is_known(id)).collect()
}

#[test]
fn the_id_of_a_new_object_is_kept_from_json_and_from_the_first_event() {
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
    let later = "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_2\"}}\n\n";
    let both = format!(": hello\n\n{created}{later}");
    let long = format!(r#"{{"a":"{}","id":"resp_1"}}"#, "x".repeat(TAPPED_BYTES_MAX));
    let cases: [(&str, bool, bool, &[&str]); 9] = [
        (r#"{"id":"resp_1","output":[{"id":"resp_2"}]}"#, true, false, &["resp_1"]),
        (r#"{"object":"response","id":"resp_1"}"#, true, false, &["resp_1"]),
        (r#"{"id":"resp_1"}"#, false, false, &[]),
        (&both, true, true, &["resp_1"]),
        (later, true, true, &["resp_2"]),
        ("data: [DONE]\n\n", true, true, &[]),
        (&long, true, false, &[]),
        ("not JSON", true, false, &[]),
        (r#"{"output_file_id":"file-1"}"#, false, false, &["file-1"]),
    ];
    for (body, has_new_id, is_event_stream, expected) in cases {
        for piece in [1, 5, body.len()] {
            assert_eq!(known(body, piece, has_new_id, is_event_stream), expected, "{body:.80} in {piece}");
        }
    }
}

#[test]
fn the_code_of_an_error_tells_that_there_is_no_such_object() {
    for (body, expected) in [
        (r#"{"error":{"message":"no","code":"previous_response_not_found"}}"#, true),
        (r#"{"error":{"code":"NotFound"}}"#, true),
        (r#"{"error":{"code":"404"}}"#, true),
        (r#"{"code":"not_found"}"#, true),
        (r#"{"error":{"message":"previous_response_not_found","code":"403"}}"#, false),
        (r#"{"error":{"type":"not_found"}}"#, false),
        (r#"{"detail":{"code":"not_found"}}"#, false),
        (r#"{"error":{"code":404}}"#, false),
        (r#"{"error":{"message":"m","code":"model_not_found"}}"#, false),
        (r#"{"error":{"code":"Model Not Found"}}"#, false),
        (r#"{"error":{"code":"ModelNotFoundException"}}"#, false),
        (r#"{"error":{"code":"model_not_found"},"code":"404"}"#, true),
        ("", false),
    ] {
        for piece in [1, 1000] {
            let mut tap = BodyTap::of_error();
            body.as_bytes().chunks(piece).for_each(|piece| tap.observe(piece));
            assert_eq!(tap.says_not_found(), expected, "{body}");
            assert_eq!(tap.wants_more(), body.is_empty(), "{body}");
        }
    }
}
