//! The routes of the demo, and its errors in LiteLLM's shapes.
//!
//! A request whose token was checked goes in, an answer comes out with what it tells of its tokens. `connection` sends
//! it. Below the base path are also two routes that no Flow has: `GET /__served`, the sums of what the answers told, and
//! `POST /__block`, which blocks a user.

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::api::{EventScript, chat, embeddings, messages, models, responses};
use super::flow::BASE_PATH;
use super::memory::DemoMemory;
use super::memory::quota::QuotaReply;
use super::memory::served::ServedUsage;
use super::reply::{DemoReply, Invalid};

/// The answer to one request.
#[derive(Debug)]
pub enum DemoAnswer {
    Whole { status: StatusCode, body: Bytes, usage: Option<ServedUsage> },
    Events(EventScript, ServedUsage),
}

/// Answers a request whose token was valid; `credential` is the client id it belongs to.
pub fn answer(
    method: &Method,
    uri: &Uri,
    body: &[u8],
    credential: &str,
    DemoMemory { sums, cache, quotas }: &DemoMemory,
) -> DemoAnswer {
    let Some(route) = uri.path().strip_prefix(BASE_PATH).map(|path| path.strip_prefix("/v1").unwrap_or(path)) else {
        return not_found();
    };
    let expected = match route {
        "/models" | "/model/info" | "/__served" => Method::GET,
        "/__block" => Method::POST,
        "/chat/completions" | "/responses" | "/messages" | "/messages/count_tokens" | "/embeddings" => Method::POST,
        _ => return not_found(),
    };
    if *method != expected {
        return json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({"detail": "Method Not Allowed"}));
    }
    match route {
        "/models" => return json_answer(StatusCode::OK, &models::list()),
        "/model/info" => return json_answer(StatusCode::OK, &models::info()),
        "/__served" => return json_answer(StatusCode::OK, &sums.to_json()),
        "/__block" => return told(quotas.block(body)),
        _ => {}
    }
    if quotas.is_blocked(credential) {
        return error(
            StatusCode::TOO_MANY_REQUESTS,
            "Budget has been exceeded for this demo's user.",
            "budget_exceeded",
        );
    }
    match DemoReply::compose(route, body, credential, cache) {
        Ok(reply) => completion(route, &reply),
        Err(invalid) => bad_request(route, &invalid),
    }
}

fn completion(route: &str, reply: &DemoReply) -> DemoAnswer {
    let usage = |tokens| ServedUsage { model: reply.model.clone(), tokens, cost: None };
    let told = usage(Some(reply.usage));
    match (route, reply.is_streamed) {
        ("/chat/completions", true) => {
            DemoAnswer::Events(chat::events(reply), if reply.is_usage_asked { told } else { usage(None) })
        }
        ("/responses", true) => DemoAnswer::Events(responses::events(reply), told),
        ("/messages", true) => DemoAnswer::Events(messages::events(reply), told),
        ("/chat/completions", false) => whole_answer(&chat::whole(reply), told),
        ("/responses", false) => whole_answer(&responses::whole(reply), told),
        ("/messages", false) => whole_answer(&messages::whole(reply), told),
        ("/messages/count_tokens", _) => json_answer(StatusCode::OK, &messages::count(reply)),
        _ => whole_answer(&embeddings::whole(reply), told),
    }
}

/// An answer with the cost that LiteLLM tells in its head; that of a stream is not known there.
fn whole_answer(body: &Value, mut usage: ServedUsage) -> DemoAnswer {
    usage.cost = usage.tokens.and_then(|tokens| models::reported_cost(&usage.model, &tokens));
    DemoAnswer::Whole { status: StatusCode::OK, body: body.to_string().into(), usage: Some(usage) }
}

/// Tells the answer of an endpoint about quotas.
pub fn told((status, body): QuotaReply) -> DemoAnswer {
    json_answer(status, &body)
}

pub fn unauthorized(reason: &str) -> DemoAnswer {
    error(StatusCode::UNAUTHORIZED, &format!("Authentication Error, {reason}"), "auth_error")
}

/// Refuses or limits a credential, as its scene wants it.
pub fn refused(status: StatusCode) -> DemoAnswer {
    match status {
        StatusCode::TOO_MANY_REQUESTS => error(status, "Rate limit reached for this demo's scene.", "rate_limit_error"),
        _ => error(status, "Authentication Error, expired for this demo's scene.", "auth_error"),
    }
}

fn bad_request(route: &str, invalid: &Invalid) -> DemoAnswer {
    let message = match invalid {
        Invalid::Json => "Invalid JSON in the request body.".to_owned(),
        Invalid::Missing(field) => format!("{route}: Missing required parameter: '{field}'."),
        Invalid::Model(model) => format!(
            "{route}: Invalid model name passed in model={model}. Call `/v1/models` to view available models for your key."
        ),
    };
    error(StatusCode::BAD_REQUEST, &message, "invalid_request_error")
}

fn error(status: StatusCode, message: &str, kind: &str) -> DemoAnswer {
    let code = status.as_str();
    json_answer(status, &json!({"error": {"message": message, "type": kind, "param": "None", "code": code}}))
}

fn not_found() -> DemoAnswer {
    json_answer(StatusCode::NOT_FOUND, &json!({"detail": "Not Found"}))
}

fn json_answer(status: StatusCode, body: &Value) -> DemoAnswer {
    DemoAnswer::Whole { status, body: body.to_string().into(), usage: None }
}

#[cfg(test)]
mod tests {
    use super::super::guide::credentials;
    use super::super::memory::quota::DemoQuotas;
    use super::*;

    fn memory() -> DemoMemory {
        DemoMemory::new(DemoQuotas::new(credentials().iter()))
    }

    fn ask(method: Method, path: &str, body: &str) -> (u16, Value) {
        match answer(&method, &path.parse().unwrap(), body.as_bytes(), "alice-demo", &memory()) {
            DemoAnswer::Whole { status, body, .. } => (status.as_u16(), serde_json::from_slice(&body).unwrap()),
            DemoAnswer::Events(script, _) => panic!("a stream where none was asked for: {script:?}"),
        }
    }

    #[test]
    fn unknown_paths_and_methods_are_refused_as_litellm_does() {
        assert_eq!(ask(Method::GET, "/flow-llm-proxy/v1/nothing", ""), (404, json!({"detail": "Not Found"})));
        assert_eq!(ask(Method::GET, "/v1/models", "").0, 404);
        assert_eq!(ask(Method::GET, "/flow-llm-proxyv1/models", "").0, 404);
        assert_eq!(ask(Method::POST, "/flow-llm-proxy/v1/models", ""), (405, json!({"detail": "Method Not Allowed"})));
    }

    #[test]
    fn a_bad_request_says_what_is_wrong_with_it() {
        let path = "/flow-llm-proxy/v1/chat/completions";
        for (body, hint) in [
            ("{", "Invalid JSON"),
            ("[]", "Invalid JSON"),
            ("{}", "'model'"),
            (r#"{"model":"gpt-4o-mini"}"#, "'messages'"),
            (r#"{"model":"no-such-model","messages":[]}"#, "model=no-such-model"),
        ] {
            let (status, answer) = ask(Method::POST, path, body);
            assert_eq!(status, 400, "{body}");
            assert_eq!(answer["error"]["code"], "400");
            assert!(answer["error"]["message"].as_str().unwrap().contains(hint), "{body}: {answer}");
        }
    }

    #[test]
    fn a_query_and_a_missing_version_do_not_matter() {
        assert_eq!(ask(Method::GET, "/flow-llm-proxy/v1/models?x=1", "").0, 200);
        assert_eq!(ask(Method::GET, "/flow-llm-proxy/models", "").0, 200);
    }

    #[test]
    fn embeddings_and_token_counts_answer_per_input() {
        let body = r#"{"model":"text-embedding-3-small","input":["one","two"]}"#;
        let (status, answer) = ask(Method::POST, "/flow-llm-proxy/v1/embeddings", body);
        assert_eq!((status, answer["data"].as_array().unwrap().len()), (200, 2), "{answer}");
        let body = r#"{"model":"claude-sonnet-4","messages":[{"role":"user","content":"twelve chars"}]}"#;
        assert_eq!(ask(Method::POST, "/flow-llm-proxy/v1/messages/count_tokens", body).0, 200);
    }
}
