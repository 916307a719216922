//! The subject of a request: the model that it names, or the family of its path, and objects of the upstream that it
//! names.
//!
//! Looked for only when an attempt has failed, or an identity rests for some requests; read from what the copy holds of
//! the request, as it goes upstream.

use std::cell::RefCell;
use std::sync::Arc;

use crate::credentials::{PathFamily, RestScope};
use crate::http1::framing::BodyLength;
use crate::io::turns::spend;
use crate::json::members::{JsonMembers, StringMember};
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::replay::content::ContentCursor;
use crate::proxy::request::model::named::{ModelFinder, NamedModel, is_name, model_of_path};
use crate::proxy::request::path::{split_query, strip_base_path};
use crate::proxy::request::stored::collections;
use crate::proxy::request::stored::references::reference;

/// Pieces of the content of one body that are looked at, so that one in tiny chunks costs no more than any other.
const PIECES_MAX: u32 = 16 * 1024;

/// The subject of a request, as far as its copy tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The requests that an answer to this one says something of.
    pub scope: RestScope,
    /// It asks for something that one credential made.
    pub names_object: bool,
}

impl Subject {
    /// Returns the model that the request names.
    pub fn model(&self) -> Option<&RestScope> {
        Some(&self.scope).filter(|scope| scope.is_model())
    }
}

/// Finds out what the request in a copy is about. A shard does only so much of that in one turn: the copy may be long,
/// and many attempts fail at once. `None` as for [`SubjectReader::begin`].
pub async fn find_subject(replay: &RefCell<ReplayBuffer>, length: BodyLength, base_path: &str) -> Option<Subject> {
    let mut reader = SubjectReader::begin(&replay.borrow(), length, base_path)?;
    reader.catch_up(replay).await;
    Some(reader.subject())
}

/// Looks quickly for the model that the request in a copy names.
#[derive(Debug)]
pub struct ModelSearch {
    finder: ModelFinder,
    body: ContentCursor,
    pieces: u32,
}

impl ModelSearch {
    /// Begins with a request with a body of this length. `None` as for [`SubjectReader::begin`].
    pub fn begin(replay: &ReplayBuffer, length: BodyLength) -> Option<Self> {
        let (_, head_bytes) = target_of(replay)?;
        Some(ModelSearch { finder: ModelFinder::new(), body: ContentCursor::new(head_bytes, length), pieces: 0 })
    }

    /// Reads what the copy holds. A shard does only so much of that in one turn.
    pub async fn read_all(&mut self, replay: &RefCell<ReplayBuffer>) {
        while spend(|| self.read_part(&replay.borrow())).await {}
    }

    /// Reads one part of the copy. Returns whether there was one, and more can tell something.
    pub fn read_part(&mut self, replay: &ReplayBuffer) -> bool {
        let ModelSearch { finder, body, pieces } = self;
        body.read_part(replay, |content| {
            *pieces += 1;
            finder.read(content);
        }) && *pieces <= PIECES_MAX
    }

    /// Gives `take` what was found.
    pub fn end<T>(&self, replay: &ReplayBuffer, base_path: &str, take: impl FnOnce(NamedModel<'_>) -> T) -> T {
        let target = target_of(replay).map_or("", |(target, _)| target);
        let by_path =
            model_of_path(strip_base_path(target, base_path).unwrap_or(target)).filter(|model| is_name(model));
        take(match (self.finder.named(), by_path) {
            (NamedModel::None, Some(model)) => NamedModel::One(model),
            // What stands in such a body may be anything.
            (NamedModel::One(_), Some(_)) => NamedModel::Unclear,
            (named, _) => named,
        })
    }
}

/// Returns the target of the request in a copy, with its query, and the length of its head.
fn target_of(replay: &ReplayBuffer) -> Option<(&str, usize)> {
    let first = replay.part(0)?;
    let line_end = memchr::memchr(b'\r', first)?;
    let line = std::str::from_utf8(&first[..line_end]).ok()?;
    let target = line.strip_suffix(" HTTP/1.1")?.split_once(' ')?.1;
    Some((target, memchr::memmem::find(first, b"\r\n\r\n")? + 4))
}

/// Reads a request for its subject, as its copy grows.
#[derive(Debug)]
pub struct SubjectReader {
    /// The path below the base path, and the query.
    path_and_query: String,
    body: ContentCursor,
    members: JsonMembers,
    pieces: u32,
    model: Option<String>,
    names_object: bool,
}

impl SubjectReader {
    /// Begins with a request with a body of this length, in `replay`. `None` where the head is not in the copy any more.
    pub fn begin(replay: &ReplayBuffer, length: BodyLength, base_path: &str) -> Option<Self> {
        let (target, head_bytes) = target_of(replay)?;
        Some(SubjectReader {
            path_and_query: strip_base_path(target, base_path).unwrap_or(target).to_owned(),
            body: ContentCursor::new(head_bytes, length),
            members: JsonMembers::default(),
            pieces: 0,
            model: None,
            names_object: false,
        })
    }

    /// Reads what the copy holds and was not read before.
    pub async fn catch_up(&mut self, replay: &RefCell<ReplayBuffer>) {
        while spend(|| self.read_part(&replay.borrow())).await {}
    }

    /// Reads one part of the copy. Returns whether there was one, and more can tell something.
    fn read_part(&mut self, replay: &ReplayBuffer) -> bool {
        if self.is_read_out() {
            return false;
        }
        let SubjectReader { body, members, pieces, model, names_object, .. } = self;
        let mut found = |member: StringMember<'_>| {
            if let StringMember { within: None, name: b"model", value } = member
                && let Ok(name) = std::str::from_utf8(value)
            {
                *model = Some(name.to_owned());
            }
            *names_object |= reference(member).is_some();
            false
        };
        body.read_part(replay, |content| {
            *pieces += 1;
            members.read(content, &mut found);
        })
    }

    /// Returns whether the model is known, or more of the body cannot tell it.
    pub fn is_settled(&self) -> bool {
        self.model.is_some() || self.is_read_out() || model_of_path(&self.path_and_query).is_some()
    }

    /// Returns whether nothing more of the body is looked at.
    fn is_read_out(&self) -> bool {
        self.members.is_over() || self.pieces > PIECES_MAX
    }

    /// Returns the number of bytes of the body that were read.
    pub fn read_bytes(&self) -> usize {
        self.body.read_bytes()
    }

    pub fn subject(self) -> Subject {
        let SubjectReader { path_and_query, model, names_object, .. } = self;
        let path = split_query(&path_and_query).0;
        let model = model.as_deref().or_else(|| model_of_path(&path_and_query)).filter(|model| is_name(model));
        let may_name_object = model.is_none() && has_id(path);
        Subject {
            scope: model.map_or_else(|| RestScope::Paths(family(path)), |model| RestScope::Model(Arc::from(model))),
            names_object: names_object || collections::names_object(path) || may_name_object,
        }
    }
}

fn family(path: &str) -> PathFamily {
    let has = |name: &str| path.split('/').any(|segment| segment == name);
    // The more telling first: `/messages/batches` is about batches.
    if has("batches") {
        PathFamily::Batches
    } else if has("files") {
        PathFamily::Files
    } else if has("embeddings") {
        PathFamily::Embeddings
    } else if has("responses") {
        PathFamily::Responses
    } else if has("chat") || has("completions") {
        PathFamily::Chat
    } else if has("messages") && !has("threads") {
        PathFamily::Messages
    } else {
        PathFamily::Other
    }
}

/// Returns whether a segment looks like an id: it has a digit, and is no version (`v1`, `v1beta`).
fn has_id(path: &str) -> bool {
    let is_version = |segment: &str| {
        segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    path.split('/').any(|segment| !is_version(segment) && segment.bytes().any(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::io::buffer::PLAINTEXT_MAX;
    use crate::proxy::replay::budget::ReplayBudget;

    const BASE: &str = "/base";

    fn subject(line: &str, length: BodyLength, body: &str) -> Subject {
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(1 << 20)), 1 << 20, 1);
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let mut reader = SubjectReader::begin(&replay, length, BASE).expect("a head");
        for part in body.as_bytes().chunks(5) {
            replay.push(part, 1 << 20, &budget);
            while reader.read_part(&replay) {}
        }
        let mut at_once = SubjectReader::begin(&replay, length, BASE).expect("a head");
        while at_once.read_part(&replay) {}
        let at_once = at_once.subject();
        assert_eq!(reader.subject(), at_once, "{line} {body}");
        replay.release(&budget);
        at_once
    }

    fn of(line: &str, body: &str) -> String {
        let Subject { scope, names_object } = subject(line, BodyLength::Known(body.len() as u64), body);
        format!("{} {}{}", scope.kind(), scope.name(), if names_object { " object" } else { "" })
    }

    #[test]
    fn the_model_is_that_of_the_body_or_of_the_path_or_of_the_query() {
        for (line, body, expected) in [
            ("POST /base/v1/chat/completions", r#"{"messages":[],"model":"gpt"}"#, "model gpt"),
            ("POST /base/v1/chat/completions", r#"{"messages":[{"model":"x"}]}"#, "path_family chat"),
            ("POST /base/v1beta/models/gemini:generateContent", r#"{"contents":[]}"#, "model gemini"),
            ("POST /base/v1/models/gemini/pro:streamGenerateContent?alt=sse", "", "model gemini/pro"),
            ("POST /base/v1beta/models/gemini%3AgenerateContent", r#"{"contents":[]}"#, "model gemini"),
            ("POST /base/v1beta/models/gemini%3astreamGenerateContent?alt=sse", "", "model gemini"),
            ("POST /base/v1beta/models/tuned:1%3AcountTokens", "", "model tuned:1"),
            ("POST /base/v1beta/models/tuned%3A1:countTokens", "", "model tuned%3A1"),
            ("POST /base/openai/deployments/gpt/chat/completions?api-version=1", "{}", "model gpt"),
            ("POST /base/engines/gpt/completions", "{}", "model gpt"),
            ("POST /base/bedrock/model/claude/converse", "{}", "model claude"),
            ("GET /base/v1/realtime?x=y&model=voice", "", "model voice"),
            ("GET /base/v1/models/gpt", "", "path_family other"),
            ("POST /base/openai/deployments/gpt-4/chat/completions", "{}", "model gpt-4"),
            ("GET /base/v1beta/models", "", "path_family other"),
            ("POST /base/v1/messages", r#"{"model":""}"#, "path_family messages"),
            ("POST /base/v1/messages", r#"{"model":"a\nb"}"#, "path_family messages"),
            ("POST /base/v1/messages", "no json", "path_family messages"),
        ] {
            assert_eq!(of(line, body), expected, "{line} {body}");
        }
    }

    #[test]
    fn a_request_without_a_model_is_of_the_family_of_its_path() {
        for (path, expected) in [
            ("/v1/responses", "path_family responses"),
            ("/v1/embeddings", "path_family embeddings"),
            ("/v1/messages/batches", "path_family batches"),
            ("/v1/files", "path_family files"),
            ("/v1/completions", "path_family chat"),
            ("/v1/models", "path_family other"),
            ("/", "path_family other"),
        ] {
            assert_eq!(of(&format!("POST /base{path}"), ""), expected, "{path}");
        }
    }

    #[test]
    fn objects_are_named_by_the_path_or_by_the_body() {
        for (line, body) in [
            ("GET /base/v1/responses/resp_1", ""),
            ("GET /base/v1/responses/resp_1/input_items?limit=1", ""),
            ("POST /base/v1/responses/resp_1/cancel", ""),
            ("DELETE /base/v1/files/file-1", ""),
            ("GET /base/v1/messages/batches/b_1/results", ""),
            ("POST /base/v1/fine_tuning/jobs/f_1/cancel", ""),
            ("POST /base/v1/responses", r#"{"previous_response_id":"resp_1"}"#),
            ("POST /base/v1/responses", r#"{"conversation":{"id":"c_1"}}"#),
            ("POST /base/v1/batches", r#"{"input_file_id":"file-1"}"#),
            ("GET /base/v1/unknown/u_1", ""),
        ] {
            assert!(of(line, body).ends_with(" object"), "{line} {body}");
        }
        for (line, body) in [
            ("POST /base/v1/responses", r#"{"previous_response_id":null}"#),
            ("POST /base/v1/responses/compact", "{}"),
            ("POST /base/v1/chat/completions", "{}"),
            ("GET /base/v1/files/", ""),
            ("POST /base/v1/messages/batches", ""),
        ] {
            assert!(!of(line, body).ends_with(" object"), "{line} {body}");
        }
    }

    #[test]
    fn one_step_reads_a_small_part_of_a_long_copy() {
        const TOTAL: usize = 16 << 20;
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(TOTAL)), TOTAL, 1);
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(b"POST /base/v1/messages HTTP/1.1\r\n\r\n");
        let body = format!(r#"{{"messages":["{}"],"model":"m"}}"#, "x".repeat(TOTAL - 100));
        body.as_bytes().chunks(20_000).for_each(|part| assert!(replay.push(part, TOTAL, &budget)));
        let mut reader = SubjectReader::begin(&replay, BodyLength::Known(body.len() as u64), BASE).expect("a head");
        let mut steps = 0;
        loop {
            let before = reader.read_bytes();
            let goes_on = reader.read_part(&replay);
            assert!(reader.read_bytes() - before <= PLAINTEXT_MAX);
            if !goes_on {
                break;
            }
            steps += 1;
        }
        assert_eq!(steps, replay.parts().count());
        assert_eq!(reader.subject().scope.name(), "m");
        replay.release(&budget);
    }

    #[test]
    fn the_framing_of_a_body_in_chunks_is_no_part_of_it() {
        let body = "b\r\n{\"model\":\"g\r\n4\r\npt\"}\r\n0\r\n\r\n";
        let subject = subject("POST /base/v1/messages", BodyLength::Chunked, body);
        assert_eq!(subject.scope.name(), "gpt");
    }

    #[test]
    fn a_body_in_tiny_chunks_is_read_as_far_as_so_many_pieces_and_is_about_no_model_then() {
        const TOTAL: usize = 1 << 20;
        for (before, name) in [(15_000, "m"), (23_000, "messages")] {
            let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(TOTAL)), TOTAL, 1);
            let mut replay = ReplayBuffer::default();
            replay.begin(&budget).extend_from_slice(b"POST /base/v1/messages HTTP/1.1\r\n\r\n");
            let body = format!(r#"{{"messages":["{}"],"model":"m"}}"#, "x".repeat(before));
            for byte in body.as_bytes() {
                assert!(replay.push(&[b"1\r\n", &[*byte][..], b"\r\n"].concat(), TOTAL, &budget));
            }
            let mut reader = SubjectReader::begin(&replay, BodyLength::Chunked, BASE).expect("a head");
            while reader.read_part(&replay) {}
            assert!(reader.is_settled(), "nothing more is waited for");
            let in_one_part = (PLAINTEXT_MAX / b"1\r\nx\r\n".len()) as u32;
            assert!(reader.pieces <= 16 * 1024 + 1 + in_one_part, "{} pieces", reader.pieces);
            assert_eq!(reader.subject().scope.name(), name);
            replay.release(&budget);
        }
    }
}
