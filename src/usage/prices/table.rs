//! The prices of models by their names.
//!
//! Invariant: a name stands for a price only where that is certain, for a wrong price is worse than none: no part of a
//! name is guessed, be it a date, a region or a version.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::rates::ModelPrice;
use crate::usage::cost::Usd;
use crate::usage::tokens::{EstimatedTokens, TokenCounts};

/// The prices of models. A lookup allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceTable {
    models: HashMap<Box<str>, ModelPrice>,
    /// Models with several prices, of which the table has the highest.
    several: HashSet<Box<str>>,
}

impl PriceTable {
    /// Returns the cost of these tokens. `None`: the model has no price, or not for all of them.
    pub fn cost(&self, model: &str, tokens: &TokenCounts) -> Option<Usd> {
        self.price(model)?.cost(tokens)
    }

    /// Tells whether a model has a price.
    pub fn has(&self, model: &str) -> bool {
        self.price(model).is_some()
    }

    /// Tells whether a model of one of the names that `matches` knows has a price. Names are tried as they are and with
    /// the provider of the price before them, `openai/gpt-4o`; with `provider`, if any, where the price names none.
    pub fn has_like(&self, provider: Option<&str>, matches: impl Fn(&str) -> bool) -> bool {
        self.models.iter().any(|(name, price)| {
            let known = provider.filter(|provider| price.is_of(provider)).or(price.provider());
            matches(name) || known.is_some_and(|provider| matches(&format!("{provider}/{name}")))
        })
    }

    /// Returns the cost of tokens that were not counted. All of them are priced as plain ones: from the cache and of
    /// reasoning is nothing that can be estimated.
    pub fn estimate(&self, model: &str, tokens: EstimatedTokens) -> Option<Usd> {
        let EstimatedTokens { input, output } = tokens;
        self.cost(model, &TokenCounts { input, output, ..TokenCounts::default() })
    }

    /// The number of models that have a price.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The number of models with several prices, of which the highest counts.
    pub fn several_prices_count(&self) -> usize {
        self.several.len()
    }

    /// Looks up the exact name, and then the name without the provider before its first `/`, as LiteLLM does, where the
    /// price is of that provider: `azure/gpt-4o` does not cost what OpenAI's `gpt-4o` does.
    fn price(&self, model: &str) -> Option<&ModelPrice> {
        self.models.get(model).or_else(|| {
            let (provider, name) = model.split_once('/')?;
            self.models.get(name).filter(|price| price.is_of(provider))
        })
    }

    /// Gives a model its price, or takes the one away that it had; tells whether it had one.
    pub(super) fn set(&mut self, model: Box<str>, price: Option<ModelPrice>) -> bool {
        match price {
            Some(price) => self.models.insert(model, price).is_some(),
            None => self.models.remove(&model).is_some(),
        }
    }

    /// Gives each first name the price of its second one, where that has one.
    pub(super) fn set_aliases(&mut self, aliases: &[(&str, &str)]) {
        for (alias, model) in aliases {
            if let Some(price) = self.models.get(*model).cloned() {
                self.models.entry((*alias).into()).or_insert(price);
            }
        }
    }

    /// Adds a price: the highest counts where there are several.
    pub(super) fn add(&mut self, model: Box<str>, price: ModelPrice) {
        match self.models.entry(model) {
            Entry::Vacant(vacant) => drop(vacant.insert(price)),
            Entry::Occupied(mut known) if *known.get() != price => {
                let highest = known.get().highest(&price);
                known.insert(highest);
                self.several.insert(known.key().clone());
            }
            Entry::Occupied(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rates::{Rates, TokenPrice};
    use super::*;

    fn price(dollars: f64, provider: Option<&str>) -> ModelPrice {
        let input = TokenPrice::from_dollars(dollars);
        let rates = Rates { input, output: input, ..Rates::default() };
        ModelPrice::new(rates.completed(), Vec::new(), provider.map(Into::into)).expect("a price")
    }

    #[test]
    fn a_model_is_found_by_its_exact_name_or_without_the_provider_that_its_price_is_of() {
        let mut table = PriceTable::default();
        for (name, dollars, provider) in [
            ("gpt-4o", 1e-6, Some("openai")),
            ("azure/gpt-4o", 2e-6, Some("azure")),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 3e-6, Some("bedrock_converse")),
            ("ours", 4e-6, None),
        ] {
            assert!(!table.set(name.into(), Some(price(dollars, provider))));
        }
        for (model, expected) in [
            ("gpt-4o", Some("0.000001")),
            ("openai/gpt-4o", Some("0.000001")),
            ("azure/gpt-4o", Some("0.000002")),
            ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some("0.000003")),
            ("any/ours", Some("0.000004")),
            ("github_copilot/gpt-4o", None),
            ("openai/openai/gpt-4o", None),
            // A date, a region, a version and letters of another case could each be of another price.
            ("gpt-4o-2024-11-20", None),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", None),
            ("bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0", None),
            ("GPT-4o", None),
            ("", None),
            ("/", None),
        ] {
            let cost = table.estimate(model, EstimatedTokens { input: 1, output: 0 });
            assert_eq!(cost.map(|cost| cost.to_string()).as_deref(), expected, "{model}");
        }
        assert_eq!((table.len(), table.several_prices_count()), (4, 0));
    }

    #[test]
    fn of_several_prices_the_highest_counts_and_their_number_is_known() {
        let mut table = PriceTable::default();
        for dollars in [1e-6, 1e-6, 3e-6, 2e-6] {
            table.add("alias".into(), price(dollars, None));
        }
        table.add("other".into(), price(1e-6, None));
        let cost = table.estimate("alias", EstimatedTokens { input: 1, output: 1 });
        assert_eq!(cost.map(|cost| cost.to_string()).as_deref(), Some("0.000006"));
        assert_eq!(table.several_prices_count(), 1, "the number of models, not of their prices");
    }
}
