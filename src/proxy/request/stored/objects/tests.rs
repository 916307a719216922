use proptest::prelude::*;

use super::*;
use crate::http1::head::with_request;
use crate::proxy::guard::origin::Caller;
use crate::proxy::request::head::examine;

fn objects(method: &str, path: &str, fields: &str) -> Option<Objects> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let read = with_request(head.as_bytes(), |head| {
        let facts = examine(head, &mut Caller::default()).expect("a head");
        Objects::of(head, path, &facts).map(|objects| *objects)
    });
    read.expect("a head")
}

fn named(path: &str) -> Option<(Shelf, Vec<ObjectKey>)> {
    objects("GET", path, "").map(|objects| (objects.shelf, objects.named.into_iter().flatten().collect()))
}

#[test]
fn ids_are_found_below_every_collection_with_any_prefix() {
    use Shelf::{Others, Responses};
    let long = "a".repeat(ID_BYTES_MAX + 1);
    let long = format!("/v1/files/{long}");
    type Named = Option<(Shelf, &'static [&'static str])>;
    let cases: [(&str, Named); 34] = [
        ("/v1/responses/resp_1", Some((Responses, &["resp_1"]))),
        ("/responses/resp_1", Some((Responses, &["resp_1"]))),
        ("/openai/v1/responses/resp_1/cancel", Some((Responses, &["resp_1"]))),
        ("/v1/responses/resp_1/input_items", Some((Responses, &["resp_1"]))),
        ("/v1/responses/resp_1/", Some((Responses, &["resp_1"]))),
        ("/v1/responses", Some((Responses, &[]))),
        ("/v1/responses/", Some((Responses, &[]))),
        ("/v1/responses/compact", Some((Responses, &[]))),
        ("/v1/responses/input_tokens", Some((Responses, &[]))),
        ("/v1/files/file-1", Some((Others, &["file-1"]))),
        ("/azure/v1/files/file-1/content", Some((Others, &["file-1"]))),
        ("/v1/files/a%2Fb%3d%", Some((Others, &["a/b=%"]))),
        ("/v1/batches/batch_1", Some((Others, &["batch_1"]))),
        ("/v1/messages/batches/msgbatch_1/results", Some((Others, &["msgbatch_1"]))),
        ("/anthropic/v1/messages/batches/msgbatch_1", Some((Others, &["msgbatch_1"]))),
        ("/v1/uploads/upload_1/parts", Some((Others, &["upload_1"]))),
        ("/v1/vector_stores/vs_1/files/file-1", Some((Others, &["vs_1", "file-1"]))),
        ("/v1/vector_stores/vs_1/file_batches/vsfb_1/files", Some((Others, &["vs_1", "vsfb_1"]))),
        ("/v1/containers/cntr_1/files/cfile_1/content", Some((Others, &["cntr_1", "cfile_1"]))),
        ("/v1/conversations/conv_1/items/msg_1", Some((Others, &["conv_1", "msg_1"]))),
        ("/v1/threads/thread_1/runs/run_1/steps/step_1", Some((Others, &["thread_1", "run_1", "step_1"]))),
        ("/v1/threads/runs", Some((Others, &[]))),
        ("/v1/assistants/asst_1", Some((Others, &["asst_1"]))),
        ("/v1/fine_tuning/jobs/ftjob-1/events", Some((Others, &["ftjob-1"]))),
        ("/v1/videos/video_1/content", Some((Others, &["video_1"]))),
        (&long, Some((Others, &[]))),
        ("/v1/jobs/1", None),
        ("/v1/fine_tuning/alpha/graders/run", None),
        ("/v1/chat/completions", None),
        ("/v1/messages", None),
        ("/v1/messages/count_tokens", None),
        ("/v1/embeddings", None),
        ("/v1/myfiles/file-1", None),
        ("/", None),
    ];
    for (path, expected) in cases {
        let expected =
            expected.map(|(shelf, ids)| (shelf, ids.iter().map(|id| ObjectKey::of(id.as_bytes())).collect()));
        assert_eq!(named(path), expected, "{path}");
    }
}

#[test]
fn a_method_and_a_path_tell_what_is_done_with_the_object() {
    use ObjectAction::{Delete, DeleteWithin, Look, LookAtBatch, Make, Other};
    for (method, path, expected) in [
        ("GET", "/v1/responses/r", Look),
        ("HEAD", "/v1/files/f", Look),
        ("GET", "/v1/files/f/content", Look),
        ("GET", "/v1/batches", Look),
        ("GET", "/v1/batches/b", LookAtBatch),
        ("POST", "/v1/batches/b/cancel", Look),
        ("POST", "/v1/responses/r/cancel", Look),
        ("POST", "/v1/threads/t/runs/r/cancel", Look),
        ("DELETE", "/v1/responses/r", Delete),
        ("DELETE", "/v1/responses/r/", Delete),
        ("DELETE", "/v1/vector_stores/v/files/f", DeleteWithin),
        ("POST", "/v1/responses", Make),
        ("POST", "/v1/threads/t/messages", Make),
        ("PATCH", "/v1/files/f", Other),
    ] {
        let action = objects(method, path, "").expect("objects").action;
        assert_eq!(action, expected, "{method} {path}");
        let is_safe = !matches!(expected, Make | Other);
        assert_eq!(action.may_be_tried_by_others(), is_safe, "{method} {path}");
    }
}

#[test]
fn a_body_is_read_only_where_it_may_be_plain_json() {
    for (fields, expected) in [
        ("Content-Length: 2\r\nContent-Type: application/json\r\n", true),
        ("Content-Length: 2\r\ncontent-type: Application/JSON; charset=utf-8\r\n", true),
        ("Transfer-Encoding: chunked\r\n", true),
        ("Content-Length: 2\r\nContent-Encoding: identity\r\n", true),
        ("Content-Length: 2\r\nContent-Encoding: zstd\r\nContent-Type: application/json\r\n", false),
        ("Content-Length: 2\r\nContent-Type: multipart/form-data; boundary=x\r\n", false),
        ("Content-Length: 2\r\nContent-Type: application/octet-stream\r\n", false),
        ("Content-Length: 0\r\n", false),
        ("", false),
    ] {
        assert_eq!(objects("POST", "/v1/files", fields).expect("objects").may_refer(), expected, "{fields}");
    }
    assert!(!objects("GET", "/v1/files", "Content-Length: 2\r\n").expect("objects").may_refer());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_id_is_the_same_however_it_is_encoded_and_whatever_stands_before_its_collection(
        id in "[a-zA-Z0-9_=+.~-]{1,60}",
        encoded in prop::collection::vec(any::<bool>(), 60),
        prefix in "(/[a-z]{1,4}_?){0,3}",
        suffix in "(/[a-z]{1,8})?",
    ) {
        prop_assume!(!is_operation(&id));
        let written: String = id
            .bytes()
            .zip(&encoded)
            .map(|(byte, is_encoded)| {
                if *is_encoded { format!("%{byte:02x}") } else { char::from(byte).to_string() }
            })
            .collect();
        let found = named(&format!("{prefix}/files/{written}{suffix}"));
        prop_assert_eq!(found.map(|(_, ids)| ids[0]), Some(ObjectKey::of(id.as_bytes())));
    }
}
