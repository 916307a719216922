//! The truth about what the demo told: the tokens of its answers, and their cost where it told one, by model.
//!
//! For tests, which compare it with what a gateway has read: `GET /__served`. Invariant: counted is what was told, when
//! it is about to be written; a stream that breaks off before has told nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Limit on the models that are told apart.
const MODELS_MAX: usize = 1000;

/// The tokens of one answer, or of many. Those of the cache are parts of the input, those of reasoning of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServedTokens {
    pub input: usize,
    pub cache_read: usize,
    pub cache_write: usize,
    pub output: usize,
    pub reasoning: usize,
}

/// The model of one answer, with the tokens and the cost that it tells.
#[derive(Debug, Clone)]
pub struct ServedUsage {
    pub model: String,
    /// `None`: it tells nothing, as a chat stream that was not asked for it.
    pub tokens: Option<ServedTokens>,
    pub cost: Option<f64>,
}

#[derive(Debug, Default)]
struct ServedModel {
    answers: u64,
    answers_without_usage: u64,
    tokens: ServedTokens,
    cost: f64,
}

/// The sums of one upstream.
#[derive(Debug, Default)]
pub struct ServedSums(RefCell<BTreeMap<String, ServedModel>>);

impl ServedSums {
    pub fn add(&self, usage: &ServedUsage) {
        let mut models = self.0.borrow_mut();
        if models.len() >= MODELS_MAX && !models.contains_key(&usage.model) {
            return;
        }
        let model = models.entry(usage.model.clone()).or_default();
        model.answers += 1;
        model.cost += usage.cost.unwrap_or(0.0);
        let Some(tokens) = usage.tokens else {
            model.answers_without_usage += 1;
            return;
        };
        model.tokens.input += tokens.input;
        model.tokens.cache_read += tokens.cache_read;
        model.tokens.cache_write += tokens.cache_write;
        model.tokens.output += tokens.output;
        model.tokens.reasoning += tokens.reasoning;
    }

    /// The sums by model.
    pub fn to_json(&self) -> Value {
        let of = |model: &ServedModel| {
            let ServedTokens { input, cache_read, cache_write, output, reasoning } = model.tokens;
            json!({
                "answers": model.answers,
                "answers_without_usage": model.answers_without_usage,
                "input": input,
                "cache_read": cache_read,
                "cache_write": cache_write,
                "output": output,
                "reasoning": reasoning,
                "reported_cost_usd": model.cost,
            })
        };
        let models = self.0.borrow();
        Value::Object(models.iter().map(|(name, model)| (name.clone(), of(model))).collect())
    }
}
