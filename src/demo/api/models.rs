//! The model list, and which names are accepted.
//! More are accepted than are listed: tools are ahead of any list.

use serde_json::{Value, json};

const LISTED: [&str; 6] =
    ["gpt-4o-mini", "gpt-5", "claude-sonnet-4", "claude-haiku-4", "gemini-2.5-pro", "text-embedding-3-small"];

/// Tools send exact and ever newer names (`claude-sonnet-4-5-20250929`), so a name of a known family will do.
const FAMILIES: [&str; 7] = ["gpt-", "claude-", "gemini-", "text-embedding-", "o1", "o3", "o4"];

pub fn is_known(model: &str) -> bool {
    // LiteLLM's names may begin with a provider, as in `anthropic/claude-sonnet-4`.
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    FAMILIES.iter().any(|family| name.starts_with(family))
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
