//! The prices of one model, from the object that LiteLLM keeps of it.
//!
//! Read as LiteLLM reads it (`litellm_core_utils/llm_cost_calc/utils.py`): prices above a border replace those below
//! it, for all tokens of an answer, and the borders are in the names of fields, or in the list `tiered_pricing`. Not
//! read: prices of batches, of other service tiers, of caches that last longer, of hours of the day, and of what is no
//! text. Invariant: a wrong field is told and the next one is read, so that all mistakes are found.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::fields::Fields;
use super::rates::{DOLLARS_MAX, ModelPrice, PriceTier, Rates, TIERS_MAX, TokenPrice};

/// The longest part of a value that is shown.
const SHOWN_CHARS_MAX: usize = 40;

/// The field whose tokens a price is of.
type Slot = fn(&mut Rates) -> &mut Option<TokenPrice>;

/// The prices that stand by themselves, the first four also with a border behind their name.
const PRICES: [(&str, Slot); 5] = [
    ("input_cost_per_token", |rates| &mut rates.input),
    ("output_cost_per_token", |rates| &mut rates.output),
    ("cache_read_input_token_cost", |rates| &mut rates.cache_read),
    ("cache_creation_input_token_cost", |rates| &mut rates.cache_write),
    ("output_cost_per_reasoning_token", |rates| &mut rates.reasoning),
];

/// The providers whose border is the first input of the higher price, not the last of the lower one.
const INCLUSIVE_PROVIDERS: [&str; 1] = ["xai"];

/// The providers that ask half of the input's price for what comes from a cache, if they say nothing else.
const HALF_PRICE_CACHES: [&str; 1] = ["fireworks_ai"];

/// The prices of an object, and its mistakes: each a field and what was expected of it.
#[derive(Debug, Default)]
pub struct EntryReading {
    /// `None`: it has none of text.
    pub price: Option<ModelPrice>,
    pub mistakes: Vec<(String, String)>,
}

/// Reads the prices of one object.
pub fn read_entry(fields: &Fields<'_>) -> EntryReading {
    let mut mistakes = Vec::new();
    let provider = fields.value("litellm_provider").and_then(text_of);
    let is_inclusive = provider.is_some_and(|provider| INCLUSIVE_PROVIDERS.contains(&provider));
    let (mut flat, by_border) = read_prices(fields, &mut mistakes);
    if provider.is_some_and(|provider| HALF_PRICE_CACHES.contains(&provider)) {
        flat.cache_read = flat.cache_read.or(flat.input.map(TokenPrice::half));
    }
    let mut tiers = Vec::new();
    let mut rates = flat;
    for (above, own) in by_border {
        rates = own.or(rates);
        let above = if is_inclusive { above.saturating_sub(1) } else { above };
        tiers.push(PriceTier { above, rates: rates.completed() });
    }
    if let Some(list) = fields.value("tiered_pricing").filter(|value| !is_null(value)) {
        match read_list(list, flat) {
            Ok(listed) if !listed.is_empty() => tiers = listed,
            Ok(_) => {}
            Err(expected) => mistakes.push(("tiered_pricing".to_owned(), expected)),
        }
    }
    if tiers.len() > TIERS_MAX {
        mistakes.push(("tiered_pricing".to_owned(), format!("expected at most {TIERS_MAX} borders")));
    }
    let price =
        if mistakes.is_empty() { ModelPrice::new(flat.completed(), tiers, provider.map(Into::into)) } else { None };
    EntryReading { price, mistakes }
}

/// Reads the prices below all borders, and those above each.
fn read_prices(fields: &Fields<'_>, mistakes: &mut Vec<(String, String)>) -> (Rates, BTreeMap<u64, Rates>) {
    let mut flat = Rates::default();
    let mut by_border: BTreeMap<u64, Rates> = BTreeMap::new();
    for (name, value) in &fields.fields {
        let Some((slot, border)) = meaning(name) else { continue };
        match price_of(value) {
            Ok(price) => {
                let rates = border.map_or(&mut flat, |border| by_border.entry(border).or_default());
                *slot(rates) = price;
            }
            Err(expected) => mistakes.push((name.clone().into_owned(), expected)),
        }
    }
    (flat, by_border)
}

/// Tells which price a field is: `input_cost_per_token_above_200k_tokens` is that of the input above 200,000 tokens.
fn meaning(name: &str) -> Option<(Slot, Option<u64>)> {
    let known = PRICES.iter().find_map(|(prefix, slot)| Some((*slot, name.strip_prefix(prefix)?)));
    let (slot, rest) = known?;
    if rest.is_empty() {
        return Some((slot, None));
    }
    if name.starts_with("output_cost_per_reasoning_token") {
        return None;
    }
    let number = rest.strip_prefix("_above_")?.strip_suffix("_tokens")?;
    let (digits, factor) = number.strip_suffix('k').map_or((number, 1), |digits| (digits, 1000));
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let border = digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(factor)?;
    Some((slot, Some(border)))
}

/// Reads a list of `{"range": [above, up to], prices}`. A tier has prices of its own; only an output without one costs
/// what it costs below all borders.
fn read_list(list: &RawValue, flat: Rates) -> Result<Vec<PriceTier>, String> {
    const FORM: &str = "expected a list of {\"range\": [above, up to], \"input_cost_per_token\": …, …}";
    let listed: Vec<Fields<'_>> = serde_json::from_str(list.get()).map_err(|_| FORM.to_owned())?;
    let tier = |fields: &Fields<'_>| {
        let mut mistakes = Vec::new();
        let (own, _) = read_prices(fields, &mut mistakes);
        if let Some((name, expected)) = mistakes.into_iter().next() {
            return Err(format!("{name}: {expected}"));
        }
        let range = fields.value("range").and_then(|range| serde_json::from_str::<[f64; 2]>(range.get()).ok());
        let [above, _] = range.filter(|[above, _]| *above >= 0.0).ok_or_else(|| FORM.to_owned())?;
        let rates = Rates {
            output: own.output.or(flat.output),
            reasoning: own.reasoning.or(own.output).or(flat.reasoning),
            ..own
        };
        // A conversion from a float saturates.
        Ok(PriceTier { above: above as u64, rates: rates.completed() })
    };
    // Those of searches have other ranges, and no price of a token.
    listed.iter().filter(|fields| fields.value(PRICES[0].0).is_some()).map(tier).collect()
}

/// Reads a price: a number, a number in quotes as people's YAML has it, or null for none.
fn price_of(value: &RawValue) -> Result<Option<TokenPrice>, String> {
    if is_null(value) {
        return Ok(None);
    }
    let number = text_of(value).map_or(value.get(), str::trim);
    let dollars = number
        .parse()
        .ok()
        .filter(|_| number.starts_with(|first: char| first.is_ascii_digit() || "-+.".contains(first)));
    dollars.and_then(TokenPrice::from_dollars).map(Some).ok_or_else(|| {
        let shown: String = value.get().chars().take(SHOWN_CHARS_MAX).collect();
        format!("expected dollars for one token (not for a million), from 0 to {DOLLARS_MAX}, or null, found {shown:?}")
    })
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Returns a string that is written without escapes.
pub fn text_of(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::tokens::TokenCounts;

    fn read(text: &str) -> EntryReading {
        read_entry(&serde_json::from_str(text).expect("an object"))
    }

    fn cost(text: &str, tokens: TokenCounts) -> Option<String> {
        let EntryReading { price, mistakes } = read(text);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        price?.cost(&tokens).map(|cost| cost.to_string())
    }

    const TOKENS: TokenCounts =
        TokenCounts { input: 1000, cache_read: 100, cache_write: 10, output: 50, reasoning: 20 };

    #[test]
    fn all_prices_of_text_are_read_and_those_of_other_things_are_not() {
        let plain = r#""input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5"#;
        for (more, expected) in [
            ("", "0.0015"),
            (r#", "cache_read_input_token_cost": 1e-7"#, "0.00141"),
            (r#", "cache_creation_input_token_cost": 2e-6"#, "0.00151"),
            (r#", "output_cost_per_reasoning_token": 2e-5"#, "0.0017"),
            (r#", "cache_read_input_token_cost": "1e-7""#, "0.00141"),
            (r#", "cache_read_input_token_cost": null"#, "0.0015"),
            (r#", "cache_read_input_token_cost": 0"#, "0.0014"),
            (r#", "litellm_provider": "fireworks_ai""#, "0.00145"),
            (r#", "litellm_provider": "fireworks_ai", "cache_read_input_token_cost": 1e-7"#, "0.00141"),
            // Batches, service tiers, longer caches, and what is no text.
            (
                r#", "input_cost_per_token_batches": 9e-3, "input_cost_per_token_priority": 9e-3,
                   "input_cost_per_token_above_1k_tokens_flex": 9e-3, "input_cost_per_audio_token": 9e-3,
                   "cache_creation_input_token_cost_above_1hr": 9e-3, "output_cost_per_image": 3,
                   "input_cost_per_token_above_1hr_above_100_tokens": 9e-3, "input_cost_per_token_above_k_tokens": 9e-3,
                   "input_cost_per_token_above_+1_tokens": 9e-3, "output_cost_per_reasoning_token_above_1_tokens": 9e-3"#,
                "0.0015",
            ),
        ] {
            assert_eq!(cost(&format!("{{{plain}{more}}}"), TOKENS).as_deref(), Some(expected), "{more}");
        }
        assert!(read(r#"{"mode": "image_generation", "output_cost_per_image": 0.04}"#).price.is_none());
    }

    #[test]
    fn prices_above_a_border_replace_those_below_as_litellm_does_it() {
        let text = r#"{"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5,
            "input_cost_per_token_above_128k_tokens": 2e-6, "input_cost_per_token_above_256000_tokens": 4e-6,
            "output_cost_per_token_above_256000_tokens": 2e-5, "output_cost_per_token_above_300k_tokens": null PROVIDER}"#;
        for (provider, input, expected) in [
            ("", 128_000, "0.12801"),
            ("", 128_001, "0.256012"),
            ("", 256_001, "1.024024"),
            (r#", "litellm_provider": "xai""#, 128_000, "0.25601"),
        ] {
            let tokens = TokenCounts { input, output: 1, ..TokenCounts::default() };
            assert_eq!(
                cost(&text.replace("PROVIDER", provider), tokens).as_deref(),
                Some(expected),
                "{provider} {input}"
            );
        }
    }

    #[test]
    fn a_list_of_tiers_counts_instead_of_other_borders() {
        let text = r#"{"output_cost_per_token": 1e-5, "tiered_pricing": [
            {"range": [256000.0, 1000000.0], "input_cost_per_token": 4e-6, "output_cost_per_token": 3e-5},
            {"range": [0, 256000.0], "input_cost_per_token": 1e-6}]}"#;
        for (input, expected) in [(256_000, "0.25601"), (256_001, "1.024034"), (2_000_000, "8.00003")] {
            let tokens = TokenCounts { input, output: 1, ..TokenCounts::default() };
            assert_eq!(cost(text, tokens).as_deref(), Some(expected), "{input}");
        }
        let of_searches = r#"{"tiered_pricing": [{"input_cost_per_query": 0.005, "max_results_range": [0, 25]}]}"#;
        assert_eq!(cost(of_searches, TokenCounts::default()), None);
    }

    #[test]
    fn every_mistake_is_told_by_its_field_and_gives_no_price() {
        let text = r#"{"input_cost_per_token": 2.5, "output_cost_per_token": "free", "cache_read_input_token_cost": -1e-6,
            "cache_creation_input_token_cost": [1e-6], "output_cost_per_reasoning_token": "inf",
            "input_cost_per_token_above_200k_tokens": true, "tiered_pricing": [{"input_cost_per_token": 1e-6}]}"#;
        let EntryReading { price, mistakes } = read(text);
        assert_eq!(price, None);
        let fields: Vec<&str> = mistakes.iter().map(|(field, _)| field.as_str()).collect();
        let expected = [
            "input_cost_per_token",
            "output_cost_per_token",
            "cache_read_input_token_cost",
            "cache_creation_input_token_cost",
            "output_cost_per_reasoning_token",
            "input_cost_per_token_above_200k_tokens",
            "tiered_pricing",
        ];
        assert_eq!(fields, expected);
        let first = "expected dollars for one token (not for a million), from 0 to 0.01, or null, found \"2.5\"";
        assert_eq!(mistakes[0].1, first);
    }
}
