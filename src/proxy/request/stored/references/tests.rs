use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::proxy::replay::budget::ReplayBudget;

const HEAD: &[u8] = b"POST /v1/responses HTTP/1.1\r\nHost: h\r\n\r\n";

/// Searches a body that comes in pieces of so many bytes, each of them a chunk where it comes in chunks. Returns what
/// was found, and whether all of it was wanted.
fn search(shelf: Shelf, body: &[u8], piece: usize, is_chunked: bool) -> (Option<(Shelf, ObjectKey)>, usize) {
    let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(64 << 20)), 64 << 20, 1);
    let mut replay = ReplayBuffer::default();
    replay.begin(&budget).extend_from_slice(HEAD);
    let length = if is_chunked { BodyLength::Chunked } else { BodyLength::Known(body.len() as u64) };
    let mut search = ReferenceSearch::new(&replay, length, shelf, true);
    let mut found = None;
    let mut wanted_bytes = 0;
    for piece in body.chunks(piece) {
        wanted_bytes += piece.len();
        if is_chunked {
            replay.push(format!("{:x}\r\n", piece.len()).as_bytes(), 64 << 20, &budget);
        }
        replay.push(piece, 64 << 20, &budget);
        if is_chunked {
            replay.push(b"\r\n", 64 << 20, &budget);
        }
        let searched = search.advance(&replay, |shelf, object| {
            found = Some((shelf, object));
            true
        });
        if searched != Searched::GoesOn {
            assert_eq!(searched == Searched::Enough, found.is_some());
            break;
        }
    }
    replay.release(&budget);
    (found, wanted_bytes)
}

fn found(shelf: Shelf, body: &str) -> Option<(Shelf, ObjectKey)> {
    let results: Vec<_> = [1, 2, 7, 1000, body.len().max(1)]
        .into_iter()
        .flat_map(|piece| [false, true].map(|is_chunked| search(shelf, body.as_bytes(), piece, is_chunked).0))
        .collect();
    assert!(results.iter().all(|result| *result == results[0]), "{body}: {results:?}");
    results[0]
}

fn key(id: &str) -> ObjectKey {
    ObjectKey::of(id.as_bytes())
}

#[test]
fn a_response_names_the_one_before_it_or_its_conversation() {
    let text = "word \\\" \\u00e9 { } [ ] : , ".repeat(3000);
    let after_text = format!(r#"{{"input":"{text}","previous_response_id":"resp_1"}}"#);
    let nested_at_the_end = format!(r#"{{"input":"{text}","metadata":{{"previous_response_id":"resp_1"}}}}"#);
    let both_at_the_end =
        format!(r#"{{"input":"{text}","metadata":{{"previous_response_id":"a"}},"previous_response_id":"b"}}"#);
    let cases = [
        (r#"{"previous_response_id":"resp_1","input":"x"}"#, Some((Shelf::Responses, key("resp_1")))),
        (r#"{"previous_response_id" : "resp_1"}"#, Some((Shelf::Responses, key("resp_1")))),
        (&after_text, Some((Shelf::Responses, key("resp_1")))),
        (r#"{"conversation":"conv_1"}"#, Some((Shelf::Others, key("conv_1")))),
        (r#"{"conversation":{"id":"conv_1"}}"#, Some((Shelf::Others, key("conv_1")))),
        (r#"{"previous_response_id":null,"conversation":"conv_1"}"#, Some((Shelf::Others, key("conv_1")))),
        (r#"{"metadata":{"previous_response_id":"resp_1"}}"#, None),
        (r#"{"metadata":{"previous_response_id":"a"},"previous_response_id":"b"}"#, Some((Shelf::Responses, key("b")))),
        (r#"{"input":"\"previous_response_id\":\"resp_1\""}"#, None),
        (r#"{"input":[{"previous_response_id":"resp_1"}]}"#, None),
        (r#"{"input":"previous_response_id"}"#, None),
        (r#"{"model":"m"}"#, None),
        (r#"[{"previous_response_id":"resp_1"}]"#, None),
        ("previous_response_id\":\"resp_1\"", None),
        (&nested_at_the_end, None),
        (&both_at_the_end, Some((Shelf::Responses, key("b")))),
        (&format!(r#"{{"input":"{text}","previous_response_id":null}}"#), None),
        (&format!(r#"{{"input":"{text}","conversation": {{"id":"conv_1"}} }} "#), Some((Shelf::Others, key("conv_1")))),
        (&format!(r#"{{"input":"{text}","previous_response_id"}}"#), None),
        (&format!(r#"[{{"input":"{text}"}},"previous_response_id":"resp_1"]"#), None),
    ];
    for (body, expected) in cases {
        assert_eq!(found(Shelf::Responses, body), expected, "{body}");
    }
}

#[test]
fn others_name_files_too() {
    for (body, expected) in [
        (r#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#, Some("file-1")),
        (r#"{"file_id":"file-1"}"#, Some("file-1")),
        (r#"{"completion_window":"24h"}"#, None),
        (r#"{"tools":[{"file_id":"file-1"}]}"#, None),
    ] {
        assert_eq!(found(Shelf::Others, body), expected.map(|id| (Shelf::Others, key(id))), "{body}");
    }
}

#[test]
fn a_search_ends_where_something_is_found_and_where_it_is_too_far() {
    let long = "x".repeat(2 * SEARCHED_BYTES_MAX);
    let early = format!(r#"{{"previous_response_id":"resp_1","input":"{long}"}}"#);
    let (found, wanted_bytes) = search(Shelf::Responses, early.as_bytes(), 1000, false);
    assert_eq!((found, wanted_bytes), (Some((Shelf::Responses, key("resp_1"))), 1000));
    for body in [
        format!(r#"{{"input":"{long}","previous_response_id":"resp_1"}}"#),
        format!(r#"{{"previous_response_id":null,"input":"{long}","conversation":"conv_1"}}"#),
    ] {
        let (found, wanted_bytes) = search(Shelf::Responses, body.as_bytes(), 1000, false);
        assert_eq!(found, None);
        assert!(wanted_bytes <= SEARCHED_BYTES_MAX + 1000, "{wanted_bytes}");
    }
}

#[test]
fn few_objects_of_one_body_are_looked_up() {
    let names = r#""file_id":"file-1","input_file_id":"file-2","#.repeat(100);
    let body = format!(r#"{{{names}"a":"b"}}"#);
    let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(1 << 20)), 1 << 20, 1);
    for piece in [7, 1000, body.len()] {
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(HEAD);
        let mut search = ReferenceSearch::new(&replay, BodyLength::Known(body.len() as u64), Shelf::Others, true);
        let mut count = 0;
        let mut last = Searched::GoesOn;
        for piece in body.as_bytes().chunks(piece) {
            replay.push(piece, 1 << 20, &budget);
            last = search.advance(&replay, |_, _| {
                count += 1;
                false
            });
        }
        assert_eq!((count, last), (REFERENCES_MAX, Searched::Over), "in pieces of {piece}");
        replay.release(&budget);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_found_does_not_depend_on_the_pieces(
        before in "[a-z {}:,\\[\\]]{0,40}",
        after in "[a-z {}:,]{0,40}",
        piece in 1_usize..60,
        is_chunked in any::<bool>(),
    ) {
        let body = format!(r#"{{"input":"{before}","previous_response_id":"resp_1","x":"{after}"}}"#);
        let (found, _) = search(Shelf::Responses, body.as_bytes(), piece, is_chunked);
        prop_assert_eq!(found, Some((Shelf::Responses, key("resp_1"))));
    }
}
