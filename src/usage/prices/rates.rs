//! The prices of one model's tokens, by their kind and by the length of the input.
//!
//! Whole numbers throughout: a cost does not depend on the order of its parts, and never falls when tokens are added.
//! Invariant: a kind of token without a price has no cost of 0 but none at all, and neither has an answer with such
//! tokens.

use crate::usage::cost::Usd;
use crate::usage::tokens::TokenCounts;

/// The price of one token, in 1e-18 dollars: the cheapest tokens cost some 1e-10 dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TokenPrice(u64);

/// The number of those units in a dollar.
const UNITS_PER_DOLLAR: f64 = 1e18;

/// The number of those units in a unit of [`Usd`].
const UNITS_PER_COST_UNIT: u128 = 1_000_000;

/// The highest price of a token. The dearest cost 0.0006 dollars; 0.15 is that of a million tokens in the wrong place.
pub const DOLLARS_MAX: f64 = 0.01;

/// Limit on the borders of one model: real ones have up to four.
pub const TIERS_MAX: usize = 16;

impl TokenPrice {
    /// `None` for what is no price of a token: negative, not a number, or more than [`DOLLARS_MAX`].
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        (0.0..=DOLLARS_MAX).contains(&dollars).then(|| TokenPrice((dollars * UNITS_PER_DOLLAR).round() as u64))
    }

    pub fn half(self) -> Self {
        TokenPrice(self.0 / 2)
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// The prices of each kind of token, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    pub input: Option<TokenPrice>,
    pub cache_read: Option<TokenPrice>,
    pub cache_write: Option<TokenPrice>,
    pub output: Option<TokenPrice>,
    pub reasoning: Option<TokenPrice>,
}

impl Rates {
    /// Prices what is read from and written to a cache as any input, and reasoning as any output, where they have no
    /// price of their own.
    pub fn completed(self) -> Self {
        Rates {
            cache_read: self.cache_read.or(self.input),
            cache_write: self.cache_write.or(self.input),
            reasoning: self.reasoning.or(self.output),
            ..self
        }
    }

    /// Takes from `below` what is not known here.
    pub fn or(self, below: Rates) -> Self {
        self.merge(below, Option::or)
    }

    /// Returns the higher price of each kind.
    pub fn highest(self, other: Rates) -> Self {
        // What is known is more than what is not.
        self.merge(other, Ord::max)
    }

    fn merge(self, other: Rates, choose: fn(Option<TokenPrice>, Option<TokenPrice>) -> Option<TokenPrice>) -> Self {
        Rates {
            input: choose(self.input, other.input),
            cache_read: choose(self.cache_read, other.cache_read),
            cache_write: choose(self.cache_write, other.cache_write),
            output: choose(self.output, other.output),
            reasoning: choose(self.reasoning, other.reasoning),
        }
    }

    pub fn all(&self) -> [Option<TokenPrice>; 5] {
        [self.input, self.cache_read, self.cache_write, self.output, self.reasoning]
    }

    fn cost(&self, tokens: &TokenCounts) -> Option<Usd> {
        // The parts of a whole are no more than it, whatever was told.
        let cache_read = tokens.cache_read.min(tokens.input);
        let cache_write = tokens.cache_write.min(tokens.input - cache_read);
        let reasoning = tokens.reasoning.min(tokens.output);
        let parts = [
            (self.input, tokens.input - cache_read - cache_write),
            (self.cache_read, cache_read),
            (self.cache_write, cache_write),
            (self.output, tokens.output - reasoning),
            (self.reasoning, reasoning),
        ];
        let mut sum = 0;
        for (price, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            // At most 2^64 * 1e16, five times.
            sum += u128::from(price?.0) * u128::from(count);
        }
        let cost_units = (sum + UNITS_PER_COST_UNIT / 2) / UNITS_PER_COST_UNIT;
        Some(Usd::from_units(u64::try_from(cost_units).unwrap_or(u64::MAX)))
    }
}

/// The prices of answers to longer inputs: all of their tokens cost these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceTier {
    /// The input has more tokens than this.
    pub above: u64,
    pub rates: Rates,
}

/// The prices of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPrice {
    base: Rates,
    /// Ascending.
    tiers: Box<[PriceTier]>,
    provider: Option<Box<str>>,
}

impl ModelPrice {
    /// `None` where neither input nor output has a price.
    pub fn new(base: Rates, mut tiers: Vec<PriceTier>, provider: Option<Box<str>>) -> Option<Self> {
        tiers.sort_by_key(|tier| tier.above);
        let is_priced = |rates: &Rates| rates.input.is_some() || rates.output.is_some();
        let has_price = is_priced(&base) || tiers.iter().any(|tier| is_priced(&tier.rates));
        has_price.then(|| ModelPrice { base, tiers: tiers.into(), provider })
    }

    pub fn cost(&self, tokens: &TokenCounts) -> Option<Usd> {
        self.rates_of(tokens.input).cost(tokens)
    }

    /// Tells whether every price is 0.
    pub fn is_free(&self) -> bool {
        let rates = self.tiers.iter().map(|tier| &tier.rates).chain([&self.base]);
        rates.flat_map(Rates::all).flatten().all(TokenPrice::is_zero)
    }

    /// Returns the name of the provider that the price is of.
    pub fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// Tells whether the model is of the provider that stands before a `/` in its name: `openai`, or `bedrock` of
    /// LiteLLM's `bedrock_converse`. A price that names no provider is of any.
    pub fn is_of(&self, provider: &str) -> bool {
        let Some(own) = &self.provider else { return true };
        own.strip_prefix(provider).is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '-']))
    }

    /// Returns the higher price of each kind of token for each length of input; for all lengths together where there
    /// are too many borders.
    pub fn highest(&self, other: &ModelPrice) -> ModelPrice {
        let mut borders: Vec<u64> = self.tiers.iter().chain(&other.tiers).map(|tier| tier.above).collect();
        borders.sort_unstable();
        borders.dedup();
        let rates = |input| self.rates_of(input).highest(*other.rates_of(input));
        let tier = |above: &u64| PriceTier { above: *above, rates: rates(above.saturating_add(1)) };
        let tiers: Box<[PriceTier]> = borders.iter().map(tier).collect();
        let provider = self.provider.clone().filter(|_| self.provider == other.provider);
        if tiers.len() > TIERS_MAX {
            let base = tiers.iter().fold(rates(0), |highest, tier| highest.highest(tier.rates));
            return ModelPrice { base, tiers: Box::default(), provider };
        }
        ModelPrice { base: rates(0), tiers, provider }
    }

    fn rates_of(&self, input: u64) -> &Rates {
        let tier = self.tiers.iter().rev().find(|tier| input > tier.above);
        tier.map_or(&self.base, |tier| &tier.rates)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(dollars: f64) -> Option<TokenPrice> {
        Some(TokenPrice::from_dollars(dollars).expect("a price"))
    }

    fn rates(input: f64, output: f64) -> Rates {
        Rates { input: price(input), output: price(output), ..Rates::default() }
    }

    fn cost(model: &ModelPrice, tokens: TokenCounts) -> Option<String> {
        model.cost(&tokens).map(|cost| cost.to_string())
    }

    #[test]
    fn each_kind_of_token_costs_its_own_price_and_the_parts_are_not_paid_twice() {
        let own = Rates {
            cache_read: price(3e-7),
            cache_write: price(3.75e-6),
            reasoning: price(2e-5),
            ..rates(3e-6, 1.5e-5)
        };
        let tokens = TokenCounts { input: 1000, cache_read: 600, cache_write: 100, output: 50, reasoning: 20 };
        for (rates, expected) in [
            // 300 * 3e-6 + 600 * 3e-7 + 100 * 3.75e-6 + 30 * 1.5e-5 + 20 * 2e-5
            (own, "0.002305"),
            // 1000 * 3e-6 + 50 * 1.5e-5
            (rates(3e-6, 1.5e-5).completed(), "0.00375"),
        ] {
            let model = ModelPrice::new(rates, Vec::new(), None).expect("a price");
            assert_eq!(cost(&model, tokens).as_deref(), Some(expected));
        }
    }

    #[test]
    fn tokens_without_a_price_have_no_cost_and_none_at_all_cost_nothing() {
        let embedding = Rates { input: price(2e-8), ..Rates::default() };
        let model = ModelPrice::new(embedding.completed(), Vec::new(), None).expect("a price");
        assert_eq!(cost(&model, TokenCounts { input: 10, ..TokenCounts::default() }).as_deref(), Some("0.0000002"));
        assert_eq!(cost(&model, TokenCounts { input: 10, output: 1, ..TokenCounts::default() }), None);
        assert_eq!(cost(&model, TokenCounts::default()).as_deref(), Some("0.0"));
        assert_eq!(ModelPrice::new(Rates::default(), Vec::new(), None), None);
        let cache_alone = Rates { cache_read: price(1e-6), ..Rates::default() };
        assert_eq!(ModelPrice::new(cache_alone, Vec::new(), None), None);
    }

    #[test]
    fn above_a_border_all_tokens_cost_the_price_of_the_longer_input() {
        let tiers = vec![
            PriceTier { above: 200, rates: rates(4e-6, 4e-5).completed() },
            PriceTier { above: 100, rates: rates(2e-6, 2e-5).completed() },
        ];
        let model = ModelPrice::new(rates(1e-6, 1e-5).completed(), tiers, None).expect("a price");
        for (input, expected) in [(100, "0.00011"), (101, "0.000222"), (200, "0.00042"), (201, "0.000844")] {
            let tokens = TokenCounts { input, output: 1, ..TokenCounts::default() };
            assert_eq!(cost(&model, tokens).as_deref(), Some(expected), "{input}");
        }
    }

    #[test]
    fn of_two_prices_the_higher_one_counts_for_each_kind_and_length() {
        let tier = |above, input| PriceTier { above, rates: rates(input, 1e-5).completed() };
        let one = ModelPrice::new(rates(1e-6, 3e-5).completed(), vec![tier(100, 4e-6)], None).expect("a price");
        let other = ModelPrice::new(rates(2e-6, 1e-5).completed(), vec![tier(50, 3e-6)], None).expect("a price");
        let highest = one.highest(&other);
        assert_eq!(highest, other.highest(&one));
        for (input, expected) in [(50, "0.00013"), (51, "0.000183"), (101, "0.000414")] {
            let tokens = TokenCounts { input, output: 1, ..TokenCounts::default() };
            assert_eq!(cost(&highest, tokens).as_deref(), Some(expected), "{input}");
        }
    }

    #[test]
    fn where_there_are_too_many_borders_the_highest_price_counts_for_all_lengths() {
        let tier = |above| PriceTier { above, rates: rates(1e-6 * above as f64, 1e-5).completed() };
        let of = |borders: std::ops::Range<u64>| {
            ModelPrice::new(rates(0.0, 0.0), borders.map(tier).collect(), None).expect("a price")
        };
        let highest = of(1..10).highest(&of(10..18));
        assert_eq!(cost(&highest, TokenCounts { input: 1, ..TokenCounts::default() }).as_deref(), Some("0.000017"));
        assert_eq!(of(1..10).highest(&of(10..17)).tiers.len(), TIERS_MAX);
    }

    #[test]
    fn a_provider_is_known_by_its_name_or_the_beginning_of_a_longer_one() {
        let of =
            |own: Option<&str>| ModelPrice::new(rates(0.0, 0.0), Vec::new(), own.map(Into::into)).expect("a price");
        for (own, provider, expected) in [
            (Some("openai"), "openai", true),
            (Some("bedrock_converse"), "bedrock", true),
            (Some("vertex_ai-language-models"), "vertex_ai", true),
            (Some("openai"), "azure", false),
            (Some("openai"), "open", false),
            (None, "anything", true),
        ] {
            assert_eq!(of(own).is_of(provider), expected, "{own:?} {provider}");
        }
    }

    #[test]
    fn a_price_of_a_million_tokens_is_none_of_one() {
        assert!([2.5, 0.15, -1e-6, f64::NAN, f64::INFINITY].into_iter().all(|d| TokenPrice::from_dollars(d).is_none()));
        assert!([0.0, 1.3e-10, 6e-4].into_iter().all(|dollars| TokenPrice::from_dollars(dollars).is_some()));
    }

    fn any_rates() -> impl Strategy<Value = Rates> {
        let price = || prop_oneof![Just(None), (0.0..DOLLARS_MAX).prop_map(TokenPrice::from_dollars)];
        (price(), price(), price(), price(), price()).prop_map(|(input, cache_read, cache_write, output, reasoning)| {
            Rates { input, cache_read, cache_write, output, reasoning }
        })
    }

    fn any_tokens() -> impl Strategy<Value = TokenCounts> {
        let count = || prop_oneof![0..1000_u64, any::<u64>()];
        let share = 0..=4_u64;
        // The parts are no more than the whole: what contradicts itself is cut to it, which then grows.
        (count(), count(), share.clone(), share.clone(), share).prop_map(|(input, output, read, write, reasoning)| {
            let (cache_read, reasoning) = (input / 4 * read, output / 4 * reasoning);
            TokenCounts { input, cache_read, cache_write: (input - cache_read) / 4 * write, output, reasoning }
        })
    }

    proptest! {
        #[test]
        fn a_cost_never_falls_when_tokens_are_added(
            rates in any_rates(), dearer in any_rates(), above in 0..1000_u64,
            tokens in any_tokens(), input in any::<u64>(), output in any::<u64>(),
        ) {
            let base = rates.completed();
            let tier = PriceTier { above, rates: base.highest(dearer.completed()) };
            let Some(model) = ModelPrice::new(base, vec![tier], None) else { return Ok(()) };
            let more = TokenCounts {
                input: tokens.input.saturating_add(input),
                output: tokens.output.saturating_add(output),
                ..tokens
            };
            if let (Some(cost), Some(of_more)) = (model.cost(&tokens), model.cost(&more)) {
                prop_assert!(of_more >= cost, "{cost} {of_more}");
            }
        }

        #[test]
        fn the_highest_of_two_prices_is_no_less_than_either(
            one in any_rates(), other in any_rates(), borders in (0..1000_u64, 0..1000_u64), tokens in any_tokens(),
        ) {
            let tier = |above, rates: Rates| vec![PriceTier { above, rates: rates.completed() }];
            let one = ModelPrice::new(one.completed(), tier(borders.0, other), None);
            let other = ModelPrice::new(other.completed(), tier(borders.1, Rates::default()), None);
            let (Some(one), Some(other)) = (one, other) else { return Ok(()) };
            let highest = one.highest(&other).cost(&tokens);
            prop_assert!(highest >= one.cost(&tokens) && highest >= other.cost(&tokens));
        }
    }
}
