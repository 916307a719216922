use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::io::buffer::PLAINTEXT_MAX;
use crate::proxy::replay::budget::ReplayBudget;

const HEAD: &[u8] = b"POST /v1/responses HTTP/1.1\r\nHost: h\r\n\r\n";

/// Does all the steps of [`ReferenceSearch::advance`].
fn advance(
    search: &mut ReferenceSearch,
    replay: &ReplayBuffer,
    mut is_enough: impl FnMut(Shelf, ObjectKey) -> bool,
) -> Searched {
    loop {
        if let Some(searched) = search.step(replay, &mut is_enough) {
            return searched;
        }
    }
}

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
        let searched = advance(&mut search, &replay, |shelf, object| {
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
    let text = "word \\\" \\u00e9 { } [ ] : , ".repeat(400);
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
            last = advance(&mut search, &replay, |_, _| {
                count += 1;
                false
            });
        }
        assert_eq!((count, last), (REFERENCES_MAX, Searched::Over), "in pieces of {piece}");
        replay.release(&budget);
    }
}

#[test]
fn a_step_reads_one_part_of_a_long_copy_and_a_search_no_more_than_its_limits() {
    const TOTAL: usize = 32 << 20;
    let before_name = |bytes| format!(r#"{{"input":"{}","previous_response_id":"resp_1"}}"#, "x".repeat(bytes));
    // Read from its beginning again, once its name was found.
    let (late, far) = (before_name(900_000), before_name(2 * SEARCHED_BYTES_MAX));
    for (body, chunk, steps_min, is_found) in [
        (&late, 1, 3, false),
        (&late, 64, 60, true),
        (&late, 10_000, 56, true),
        (&far, 1, 3, false),
        (&far, 10_000, 32, false),
    ] {
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(TOTAL)), TOTAL, 1);
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(HEAD);
        let framed = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        let chunks: Vec<u8> = body.as_bytes().chunks(chunk).flat_map(framed).chain(*b"0\r\n\r\n").collect();
        chunks.chunks(16_384).for_each(|part| assert!(replay.push(part, TOTAL, &budget)));
        let mut search = ReferenceSearch::new(&replay, BodyLength::Chunked, Shelf::Responses, true);
        let (mut steps, mut short_steps, mut has_found) = (0, 0, false);
        loop {
            let before = if matches!(search.stage, SearchStage::Anew) { 0 } else { search.cursor.read_bytes() };
            short_steps += usize::from(search.next_step_is_short());
            let searched = search.step(&replay, &mut |_, _| {
                has_found = true;
                true
            });
            steps += 1;
            assert!(search.cursor.read_bytes() - before <= PLAINTEXT_MAX, "in one step");
            assert!(search.pieces <= PIECES_MAX && search.searched_bytes <= SEARCHED_BYTES_MAX);
            if searched.is_some() {
                assert_eq!(searched, Some(if is_found { Searched::Enough } else { Searched::Over }));
                break;
            }
        }
        assert_eq!(has_found, is_found, "in chunks of {chunk}");
        assert!(steps >= steps_min, "{steps} steps for chunks of {chunk}");
        assert!(chunk > 64 || short_steps <= 3, "{short_steps} steps beside the budget");
        replay.release(&budget);
    }
}

#[test]
fn a_search_for_a_name_costs_no_look_at_the_budget() {
    let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(1 << 20)), 1 << 20, 1);
    for length in [BodyLength::Known(1 << 20), BodyLength::Chunked] {
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(HEAD);
        let mut search = ReferenceSearch::new(&replay, length, Shelf::Responses, true);
        for _ in 0..10 {
            if length == BodyLength::Chunked {
                replay.push(b"4000\r\n", 1 << 20, &budget);
            }
            replay.push(&[b'x'; 0x4000], 1 << 20, &budget);
            if length == BodyLength::Chunked {
                replay.push(b"\r\n", 1 << 20, &budget);
            }
            assert!(search.next_step_is_short());
            assert_eq!(advance(&mut search, &replay, |_, _| true), Searched::GoesOn);
        }
        replay.release(&budget);
    }
}

#[test]
fn a_search_is_over_with_the_body() {
    for body in [r#"{"input":"x"}"#, r#"{"previous_response_id":null}"#, "", "no json"] {
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(1 << 20)), 1 << 20, 1);
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(HEAD);
        replay.push(body.as_bytes(), 1 << 20, &budget);
        let mut search = ReferenceSearch::new(&replay, BodyLength::Known(body.len() as u64), Shelf::Responses, true);
        assert_eq!(advance(&mut search, &replay, |_, _| true), Searched::Over, "{body}");
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
