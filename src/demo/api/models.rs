//! The model list with its prices, and which names are accepted.
//! More are accepted than are listed: tools are ahead of any list.

use serde_json::{Value, json};

use super::super::memory::served::ServedTokens;

/// The model whose whole answers tell their cost.
const COSTED: &str = "gpt-4o-mini";

const LISTED: [&str; 6] =
    [COSTED, "gpt-5", "claude-sonnet-4", "claude-haiku-4", "gemini-2.5-pro", "text-embedding-3-small"];

/// Tools send exact and ever newer names (`claude-sonnet-4-5-20250929`), so a name of a known family will do.
const FAMILIES: [&str; 7] = ["gpt-", "claude-", "gemini-", "text-embedding-", "o1", "o3", "o4"];

pub fn is_known(model: &str) -> bool {
    // LiteLLM's names may begin with a provider, as in `anthropic/claude-sonnet-4`.
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Tells whether a model thinks before it answers.
pub fn is_reasoning(model: &str) -> bool {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    ["gpt-5", "o1", "o3", "o4"].iter().any(|family| name.starts_with(family))
}

/// The dollars for a token of input and of output, made up; `None` for a model whose price LiteLLM does not know.
fn price(id: &str) -> Option<(f64, f64)> {
    match id {
        COSTED => Some((1.5e-7, 6e-7)),
        "gpt-5" => Some((1.25e-6, 1e-5)),
        "claude-sonnet-4" => Some((3e-6, 1.5e-5)),
        "text-embedding-3-small" => Some((2e-8, 0.0)),
        _ => None,
    }
}

/// The cost that a whole answer tells in `x-litellm-response-cost`: one model's answers have it, so that the others are
/// estimated.
pub fn reported_cost(model: &str, tokens: &ServedTokens) -> Option<f64> {
    let (input, output) = price(model).filter(|_| model == COSTED)?;
    Some(tokens.input as f64 * input + tokens.output as f64 * output)
}

/// LiteLLM's answer to `/model/info`, which shows zeros for what it has no price of.
pub fn info() -> Value {
    let model = |id: &str| {
        let (input, output) = price(id).unwrap_or((0.0, 0.0));
        json!({
            "model_name": id,
            "litellm_params": {"model": id},
            "model_info": {
                "id": format!("demo-{id}"),
                "db_model": false,
                "key": id,
                "input_cost_per_token": input,
                "output_cost_per_token": output,
                "cache_read_input_token_cost": (id == "claude-sonnet-4").then_some(3e-7),
                "cache_creation_input_token_cost": (id == "claude-sonnet-4").then_some(3.75e-6),
                "litellm_provider": "flow-uring-demo",
                "max_input_tokens": 128_000,
            },
        })
    };
    json!({"data": LISTED.map(model)})
}

pub fn list() -> Value {
    // 1677610602 is the constant that LiteLLM gives for every model.
    let models =
        LISTED.map(|id| json!({"id": id, "object": "model", "created": 1_677_610_602, "owned_by": "flow-uring-demo"}));
    json!({"object": "list", "data": models})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_model_is_accepted_and_others_of_its_family_too() {
        for model in LISTED.iter().chain(&["claude-sonnet-4-5-20250929", "anthropic/claude-opus-4", "o3-mini"]) {
            assert!(is_known(model), "{model}");
        }
        for model in ["", "no-such-model", "claude-sonnet-4/other", "my-gpt-4"] {
            assert!(!is_known(model), "{model}");
        }
    }
}
