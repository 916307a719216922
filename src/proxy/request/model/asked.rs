//! All models that a request asks for: in its path, in its query and in its JSON body.
//!
//! For the check of what a key may use, so it looks at more than the name of the most likely one: at every place where
//! an upstream may look, and at what would have it use another model. Pure. Invariant: what is found does not depend on
//! how the body was split; it is bounded; and what cannot be read for sure is told as such. Not here: the quick look for
//! the log and for costs (`named`).

use std::ops::Range;

use crate::config::percent_decoded;
use crate::json::grammar::{JsonGrammar, MemberObserver};
use crate::proxy::request::head::Method;
use crate::proxy::request::model::named::model_of_path;
use crate::proxy::request::path::split_query;

/// The longest spelling of a name that matters: each letter as `\u006d`.
const NAME_BYTES_MAX: usize = 6 * 26;

/// Members that matter in one body: nobody repeats them this often by mistake.
const MEMBERS_MAX: usize = 32;

/// The longest text of such a member.
pub const MEMBER_BYTES_MAX: usize = 16 * 1024;

/// The members of a body that name a model, or have the upstream use one that was not named: of LiteLLM's parameters of
/// a request those by which it falls back to other models, or brings its own list.
const MODEL: &str = "model";
const BACKGROUND: &str = "background";
/// Those that may tell another price, in themselves or in what they hold.
const METADATA: [&str; 2] = ["metadata", "litellm_metadata"];
const MODEL_INFO: &str = "model_info";
const COST_MARK: &str = "_cost_per_";
const OTHERS: [&str; 9] = [
    "models",
    "extra_body",
    "router_settings_override",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "target_model_names",
    "model_list",
    "user_config",
];

/// A reason why it is not sure which models a request asks for, as the end of "its models could not be checked: …".
pub type NotSure = &'static str;

/// Follows a body from its first byte on, and finds the members that matter.
#[derive(Debug)]
pub struct AskedMembers {
    grammar: JsonGrammar,
    found: FoundMembers,
}

#[derive(Debug, Default)]
struct FoundMembers {
    /// The last name, as it is written.
    name: Vec<u8>,
    begin: usize,
    /// The places of name and value, in the content of the body.
    ranges: Vec<Range<usize>>,
}

impl AskedMembers {
    pub fn new() -> Self {
        AskedMembers { grammar: JsonGrammar::new(), found: FoundMembers::default() }
    }

    /// Takes the next bytes. Returns whether there is a point in more.
    pub fn read(&mut self, content: &[u8]) -> bool {
        self.grammar.read(content, &mut self.found);
        !self.grammar.is_invalid() && self.found.ranges.len() <= MEMBERS_MAX
    }

    /// Returns the places of the members that matter, in the content of a body that was read whole.
    ///
    /// # Errors
    /// It is no JSON object, or there are too many.
    pub fn end(self) -> Result<Vec<Range<usize>>, NotSure> {
        let ranges = self.found.ranges;
        if ranges.len() > MEMBERS_MAX || ranges.iter().any(|range| range.len() > MEMBER_BYTES_MAX) {
            return Err("the body names too many");
        }
        if self.grammar.is_whole() { Ok(ranges) } else { Err("the body is no JSON object") }
    }
}

impl MemberObserver for FoundMembers {
    fn name_begins(&mut self, place: usize) {
        self.begin = place;
        self.name.clear();
    }

    fn name(&mut self, text: &[u8]) {
        let room = NAME_BYTES_MAX + 1 - self.name.len();
        self.name.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn value_ended(&mut self, place: usize) {
        // One more than are allowed tells that there are too many.
        if matters(&self.name) && self.ranges.len() <= MEMBERS_MAX {
            self.ranges.push(self.begin..place);
        }
    }
}

/// Tells whether a name, as it is written, is one of those that matter.
fn matters(written: &[u8]) -> bool {
    if written.len() > NAME_BYTES_MAX {
        return false;
    }
    let is_one = |name: &str| {
        [MODEL, BACKGROUND, MODEL_INFO].contains(&name)
            || OTHERS.contains(&name)
            || METADATA.contains(&name)
            || name.contains(COST_MARK)
    };
    if !written.contains(&b'\\') {
        return std::str::from_utf8(written).is_ok_and(is_one);
    }
    let quoted = [b"\"", written, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|name| is_one(&name))
}

/// The models that a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AskedModels {
    pub names: Vec<String>,
    /// The answer is only the beginning of the work.
    pub is_in_background: bool,
    /// It names a price of its own.
    pub has_price: bool,
}

impl AskedModels {
    /// Finds those of a path, which is without the base path, and its query.
    ///
    /// # Errors
    /// A name cannot be decoded.
    pub fn of_target(path_and_query: &str) -> Result<Self, NotSure> {
        let (path, query) = split_query(path_and_query);
        let mut asked = AskedModels::default();
        let mut add = |encoded: &str| {
            let name = decoded(encoded).ok_or("a name in its path or query cannot be decoded");
            name.map(|name| asked.names.push(name))
        };
        model_of_path(path).map_or(Ok(()), &mut add)?;
        if path.contains('%') {
            // As an upstream reads it that decodes it first.
            let decoded = decoded(path).ok_or("its path cannot be decoded")?;
            model_of_path(&decoded).map_or(Ok(()), &mut add)?;
        }
        for pair in query.trim_start_matches('?').split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if decoded(name).is_some_and(|name| name == MODEL) {
                add(&value.replace('+', " "))?;
            }
        }
        Ok(asked)
    }

    /// Adds those of a member of the body, whose text is its name and value.
    ///
    /// # Errors
    /// It names models in a way that is not looked into.
    pub fn add(&mut self, member: &[u8]) -> Result<(), NotSure> {
        use serde_json::Value;
        let object = [b"{", member, b"}"].concat();
        let members: serde_json::Map<String, Value> =
            serde_json::from_slice(&object).map_err(|_| "the body is no JSON object")?;
        for (name, value) in members {
            match (name.as_str(), value) {
                // LiteLLM takes several names that stand in one text.
                (MODEL, Value::String(names)) => self.names.extend(names.split(',').map(|name| name.trim().to_owned())),
                (MODEL, _) => return Err("the model in the body is no text"),
                (BACKGROUND, value) => self.is_in_background |= !matches!(value, Value::Null | Value::Bool(false)),
                (name, _) if name == MODEL_INFO || name.contains(COST_MARK) => self.has_price = true,
                (name, Value::Object(object)) if METADATA.contains(&name) => {
                    self.has_price |= object.contains_key(MODEL_INFO);
                }
                (name, _) if METADATA.contains(&name) => {}
                (_, Value::Null) => {}
                (_, Value::Array(list)) if list.is_empty() => {}
                (_, Value::Object(object)) if object.is_empty() => {}
                _ => return Err("the body names other models to fall back to"),
            }
        }
        Ok(())
    }
}

/// Decodes percent-encoding; `None` of what is no text.
pub fn decoded(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text)?.to_vec()).ok()
}

/// Tells whether a request calls a model, so that it has to name one. `path` is without the base path and the query.
pub fn calls_a_model(method: Method, path: &str) -> bool {
    /// Collections of what is only stored or looked at.
    const STORES: [&str; 7] =
        ["files", "uploads", "vector_stores", "containers", "conversations", "skills", "assistants"];
    let is_stored = path.split('/').any(|segment| STORES.contains(&segment)) && !begins_work(path);
    let is_message = path.split('/').any(|segment| segment == "threads") && !begins_work(path);
    matches!(method, Method::Post | Method::Put | Method::Patch | Method::Other)
        && !is_stored
        && !is_message
        && !path.ends_with("/cancel")
}

/// Tells whether a batch is begun, in which each request may name a model of its own.
pub fn begins_batch(path: &str) -> bool {
    const OF_ONE_MODEL: [&str; 3] = ["runs", "fine_tuning", "fine-tuning"];
    begins_work(path) && !path.split('/').any(|segment| OF_ONE_MODEL.contains(&segment))
}

/// Tells whether a call of a model makes nothing that costs.
pub fn only_counts(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    matches!(last, "count_tokens" | "input_tokens" | "moderations") || last.ends_with(":countTokens")
}

/// Tells whether a request begins work that is done, and costs, after its answer: a batch, a run, a training.
/// `path` is without the base path and the query.
pub fn begins_work(path: &str) -> bool {
    const WORK: [&str; 8] = [
        "batches",
        "runs",
        "fine_tuning",
        "fine-tuning",
        "evals",
        "batchPredictionJobs",
        "model-invocation-job",
        "async-invoke",
    ];
    let has_begun = path.ends_with("/cancel") || path.ends_with("/submit_tool_outputs");
    !has_begun && path.split('/').any(|segment| WORK.contains(&segment) || segment.ends_with(":batchGenerateContent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a body in such parts.
    fn asked(body: &str, part: usize) -> Result<AskedModels, NotSure> {
        let mut members = AskedMembers::new();
        body.as_bytes().chunks(part).all(|part| members.read(part));
        let mut asked = AskedModels::default();
        for range in members.end()? {
            asked.add(&body.as_bytes()[range])?;
        }
        Ok(asked)
    }

    #[test]
    fn every_model_of_a_body_is_found_however_it_is_written_and_split() {
        let long = format!(r#"{{"model":"{}"}}"#, "x".repeat(MEMBER_BYTES_MAX));
        let many = format!("{{{}}}", vec![r#""model":"a""#; MEMBERS_MAX + 1].join(","));
        for (body, expected) in [
            (r#"{"model":"gpt-4o","messages":[{"model":"no"}]}"#, Ok(&["gpt-4o"][..])),
            (r#" {"a":{"model":"no"},"model" : "a","model":"b"} "#, Ok(&["a", "b"])),
            (r#"{"mod\u0065l":"a\/b"}"#, Ok(&["a/b"])),
            (r#"{"model":"a, b"}"#, Ok(&["a", "b"])),
            (r#"{"input":"x","fallbacks":[],"models":null}"#, Ok(&[])),
            (r#"{"model":"a","fallbacks":["b"]}"#, Err("the body names other models to fall back to")),
            (r#"{"model":["a"]}"#, Err("the model in the body is no text")),
            (r#"{"model":"a"} {"model":"b"}"#, Err("the body is no JSON object")),
            (r#"[{"model":"a"}]"#, Err("the body is no JSON object")),
            (r#"{"model":"a""#, Err("the body is no JSON object")),
            ("\u{feff}{\"model\":\"a\"}", Err("the body is no JSON object")),
            ("model=a", Err("the body is no JSON object")),
            ("", Err("the body is no JSON object")),
            (&long, Err("the body names too many")),
            (&many, Err("the body names too many")),
        ] {
            for part in [1, 2, 7, 10_000] {
                let names = asked(body, part).map(|asked| asked.names);
                assert_eq!(names, expected.map(|names| names.iter().map(|name| name.to_string()).collect()), "{body}");
            }
        }
        for (body, expected) in [
            (r#"{"input_cost_per_token":1e-30}"#, true),
            (r#"{"metadata":{"model_info":{}}}"#, true),
            (r#"{"litellm_metadata":{"model_info":{}}}"#, true),
            (r#"{"metadata":{"user_id":"x"}}"#, false),
        ] {
            assert_eq!(asked(body, 3).map(|asked| asked.has_price), Ok(expected), "{body}");
        }
        for (body, expected) in
            [(r#"{"background":true}"#, true), (r#"{"background":false}"#, false), (r#"{"background":null}"#, false)]
        {
            assert_eq!(asked(body, 3).map(|asked| asked.is_in_background), Ok(expected));
        }
    }

    #[test]
    fn path_and_query_may_name_one_each() {
        for (target, expected) in [
            ("/v1/chat/completions", Ok(&[][..])),
            ("/v1beta/models/gemini-2.5-pro:generateContent?key=x", Ok(&["gemini-2.5-pro"])),
            ("/v1beta/models/gemini%2D2.5:generateContent", Ok(&["gemini-2.5", "gemini-2.5"])),
            ("/openai/d%65ployments/b/chat/completions", Ok(&["b"])),
            ("/v1beta/mod%65ls/c%3AgenerateContent", Ok(&["c"])),
            ("/openai/deployments/a/chat/completions?x=1&m%6Fdel=b%2Fc&model=d+e", Ok(&["a", "b/c", "d e"])),
            ("/engines/%ff/completions", Err("a name in its path or query cannot be decoded")),
            ("/v1/%ff", Err("its path cannot be decoded")),
        ] {
            let names = AskedModels::of_target(target).map(|asked| asked.names);
            assert_eq!(names, expected.map(|names| names.iter().map(|name| name.to_string()).collect()), "{target}");
        }
    }

    #[test]
    fn what_calls_a_model_and_what_begins_work_is_told_by_its_path() {
        for path in ["/v1/chat/completions", "/v1/images/generations", "/v1/moderations", "/v1/batches", "/anything"] {
            assert!(calls_a_model(Method::Post, path) && !calls_a_model(Method::Get, path), "{path}");
        }
        for path in ["/v1/files", "/v1/uploads/u/parts", "/v1/responses/r/cancel", "/v1/threads/t/messages"] {
            assert!(!calls_a_model(Method::Post, path), "{path}");
        }
        for path in ["/v1/batches", "/v1/messages/batches", "/v1/threads/t/runs", "/v1/threads/runs"] {
            assert!(begins_work(path) && calls_a_model(Method::Post, path), "{path}");
        }
        for path in ["/v1/batches/b/cancel", "/v1/chat/completions", "/v1/threads/t/runs/r/cancel"] {
            assert!(!begins_work(path), "{path}");
        }
    }
}
