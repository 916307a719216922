//! Requests that may reach the upstream twice.
//!
//! Beside the idempotent ones (RFC 9110 §9.2.2) these are, as a stated deviation, the calls of models: the loss of one
//! costs the user a turn, its repetition some tokens at most. What is there to make a file, a batch or the like may
//! not.

use crate::proxy::request::head::Method;
use crate::proxy::request::model::asked::decoded;

/// Tells whether a request may reach the upstream twice; `path` is without the base path and the query.
pub fn may_replay(method: Method, path: &str) -> bool {
    method.is_idempotent() || method == Method::Post && calls_model(path)
}

/// Tells whether the answer to a `POST` to this path is made of tokens that cost something; it tells how many, if it is
/// whole. Any prefix may stand before, the base path too.
pub fn is_generation(path: &str) -> bool {
    // As an upstream may read it.
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.contains('%') { decoded(path).is_some_and(|path| makes_tokens(&path)) } else { makes_tokens(path) }
}

fn makes_tokens(path: &str) -> bool {
    let Some((parent, call)) = path.rsplit_once('/') else { return false };
    match call {
        // That adds the message to what is kept of a conversation.
        "messages" if parent.split('/').any(|segment| segment == "threads") => false,
        "completions" | "responses" | "messages" | "embeddings" | "converse" | "converse-stream" => true,
        _ => custom_verb(call).is_some_and(|verb| {
            matches!(verb, "generateContent" | "streamGenerateContent" | "rawPredict" | "streamRawPredict")
        }),
    }
}

/// Tells whether a `POST` to this path calls a model, below whatever prefix: LiteLLM has `/v1`,
/// `/openai/deployments/…`, `/bedrock/model/…`, `/vertex_ai/…` and others.
fn calls_model(path: &str) -> bool {
    let Some((parent, call)) = path.rsplit_once('/') else { return false };
    makes_tokens(path)
        || match call {
            "rerank" | "moderations" => true,
            "count_tokens" => parent.ends_with("/messages"),
            "compact" | "input_tokens" => parent.ends_with("/responses"),
            _ => custom_verb(call) == Some("countTokens"),
        }
}

/// Returns the verb of a Google API, which follows the last colon of the path's last segment; clients may encode that.
fn custom_verb(segment: &str) -> Option<&str> {
    let after = &segment[segment.rfind([':', '%'])?..];
    [":", "%3A", "%3a"].iter().find_map(|colon| after.strip_prefix(colon))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_that_make_tokens_are_told_from_those_that_count_them() {
        let generations = [
            "/v1/chat/completions",
            "/v1/chat/completion%73",
            "/v1/responses/",
            "/v1/messages",
            "/x/gemini:streamGenerateContent",
            "/v1/embeddings",
        ];
        assert!(generations.into_iter().all(is_generation));
        let others =
            ["/v1/messages/count_tokens", "/v1/models", "/x/gemini:countTokens", "/v1/threads/a/messages", "x"];
        assert!(!others.into_iter().any(is_generation));
    }

    #[test]
    fn a_post_that_calls_a_model_may_be_sent_twice_below_every_prefix() {
        let calls = [
            "/chat/completions",
            "/completions",
            "/responses",
            "/responses/compact",
            "/responses/input_tokens",
            "/messages",
            "/messages/count_tokens",
            "/embeddings",
            "/rerank",
            "/moderations",
            "/converse",
            "/converse-stream",
            "/gemini-2.5-pro:generateContent",
            "/gemini-2.5-pro:streamGenerateContent",
            "/gemini-2.5-pro:countTokens",
            "/claude-sonnet-4@20250514:rawPredict",
            "/claude-sonnet-4@20250514:streamRawPredict",
            "/gemini-2.5-pro%3AgenerateContent",
            "/gemini%20pro%3astreamRawPredict",
            "/tuned:1%3AcountTokens",
            "/tuned%3A1:countTokens",
        ];
        let prefixes = [
            "",
            "/v1",
            "/v2",
            "/openai/deployments/gpt-4o",
            "/openai/v1",
            "/anthropic/v1",
            "/cohere/v2",
            "/bedrock/model/eu.anthropic.claude-3-5-sonnet-20240620-v1%3A0",
            "/gemini/v1beta/models",
            "/v1beta/models",
            "/vertex_ai/v1/projects/p/locations/l/publishers/google/models",
            "/vertex-ai/v1/projects/p:q/locations/l/publishers/anthropic/models",
        ];
        for (prefix, call) in prefixes.iter().flat_map(|prefix| calls.map(|call| (prefix, call))) {
            assert!(may_replay(Method::Post, &format!("{prefix}{call}")), "{prefix}{call}");
            for method in [Method::Patch, Method::Connect, Method::Other] {
                assert!(!may_replay(method, &format!("{prefix}{call}")), "{method:?} {prefix}{call}");
            }
        }
    }

    #[test]
    fn a_post_that_may_leave_something_behind_is_sent_once() {
        for path in [
            "/",
            "/v1/batches",
            "/v1/files",
            "/v1/images/generations",
            "/v1/audio/speech",
            "/v1/messages/batches",
            "/v1/threads/thread_1/messages",
            "/openai/threads/thread_1/messages",
            "/threads/t/messages",
            "/v1/responses/resp_1",
            "/v1/responses/resp_1/cancel",
            "/v1/chat/completions/1",
            "/v1/chat/completions/",
            "/v1/mycompletions",
            "/completions2",
            "/v1/count_tokens",
            "/v1/mymessages/count_tokens",
            "/v1/compact",
            "/v1/input_tokens",
            "/v1/conversations/compact",
            "/bedrock/model/m/converse-streams",
            "/bedrock/model/m/invoke",
            "/bedrock/converse/m",
            "/gemini/v1beta/models/m:batchGenerateContent",
            "/gemini/v1beta/models/m:generateContents",
            "/gemini/v1beta/models/m:embedContent",
            "/gemini/v1beta/models/m:GenerateContent",
            "/gemini/v1beta/models/m%3BgenerateContent",
            "/gemini/v1beta/models/m:3AgenerateContent",
            "/gemini/v1beta/models/m%generateContent",
            "/gemini/v1beta/models/generateContent",
            "/gemini/v1beta/models:generateContent/m",
            "/gemini/v1beta/cachedContents",
            "/gemini/upload/v1beta/files",
            "/vertex_ai/v1/projects/p/locations/l/publishers/google/models/m:predictLongRunning",
            "/vertex_ai/v1/projects/p/locations/l/batchPredictionJobs",
        ] {
            assert!(!may_replay(Method::Post, path), "{path}");
        }
    }

    #[test]
    fn what_is_idempotent_may_be_sent_twice_wherever_it_goes() {
        for method in [Method::Get, Method::Head, Method::Put, Method::Delete, Method::Options] {
            assert!(may_replay(method, "/v1/files/1") && may_replay(method, "/"), "{method:?}");
        }
    }
}
