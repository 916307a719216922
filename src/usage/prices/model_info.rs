//! LiteLLM's answer to `/model/info`: the prices that a gateway of it calculates with, by the names that clients use.
//!
//! ```json
//! {"data": [{"model_name": "alias", "litellm_params": {"model": "azure/gpt-4o"}, "model_info": {"input_cost_per_token": 2.5e-06}}]}
//! ```
//!
//! Invariant: what is not certain is no price. A deployment that has a wrong field has none, and neither has one whose
//! prices are all 0: that is how LiteLLM shows a model that it has no price of (`_get_model_info_helper`: "Defaulting to
//! 0"), unless an operator has written the zeros into `litellm_params`. Of deployments with one name and different
//! prices the highest counts: the answers do not tell who made them, and of two wrong sums the larger one does no harm.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::{EntryReading, read_entry};
use super::error::PricesFault;
use super::fields::{FIELDS_MAX, Fields};
use super::rates::ModelPrice;
use super::table::PriceTable;

/// Limit on an answer: an entry has some 3 KB.
pub const MODEL_INFO_BYTES_MAX: usize = 8 * 1024 * 1024;

/// An entry for a pattern of names, as `openai/*`: it is the price of no model.
const WILDCARD: char = '*';

#[derive(Deserialize)]
struct ModelInfoAnswer<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

/// One of the places where a model can be asked.
#[derive(Deserialize)]
struct Deployment<'a> {
    #[serde(borrow)]
    model_name: Cow<'a, str>,
    #[serde(borrow, default)]
    litellm_params: Option<Fields<'a>>,
    #[serde(borrow, default)]
    model_info: Option<Fields<'a>>,
}

impl PriceTable {
    /// Reads the body of an answer.
    ///
    /// # Errors
    /// When it is too large, not JSON, or of another form. A single entry that is wrong is left out.
    pub fn from_model_info(bytes: &[u8]) -> Result<Self, PricesFault> {
        if bytes.len() > MODEL_INFO_BYTES_MAX {
            return Err(PricesFault::TooLarge { bytes_max: MODEL_INFO_BYTES_MAX });
        }
        let answer: ModelInfoAnswer<'_> = serde_json::from_slice(bytes).map_err(|error| {
            if error.is_data() {
                return PricesFault::Form("{\"data\": [{\"model_name\": …}]}");
            }
            PricesFault::Syntax { line: error.line(), column: error.column() }
        })?;
        if answer.data.len() > FIELDS_MAX {
            return Err(PricesFault::TooManyEntries { entries_max: FIELDS_MAX });
        }
        let mut table = PriceTable::default();
        for entry in answer.data {
            let Ok(deployment) = serde_json::from_str::<Deployment<'_>>(entry.get()) else { continue };
            if !deployment.model_name.contains(WILDCARD)
                && let Some(price) = deployment.price()
            {
                table.add(deployment.model_name.into(), price);
            }
        }
        Ok(table)
    }
}

impl Deployment<'_> {
    /// Returns the prices that an operator has written for this deployment, else those that LiteLLM knows.
    fn price(&self) -> Option<ModelPrice> {
        let read = |fields: &Option<Fields<'_>>| fields.as_ref().map(read_entry).unwrap_or_default();
        let EntryReading { price, mistakes } = read(&self.litellm_params);
        if price.is_some() || !mistakes.is_empty() {
            return price;
        }
        read(&self.model_info).price.filter(|price| !price.is_free())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usage::tokens::EstimatedTokens;

    fn read(entries: &[&str]) -> PriceTable {
        let answer = format!(r#"{{"data": [{}]}}"#, entries.join(","));
        PriceTable::from_model_info(answer.as_bytes()).expect("an answer")
    }

    fn cost_of_a_token(table: &PriceTable, model: &str) -> Option<String> {
        table.estimate(model, EstimatedTokens { input: 1, output: 0 }).map(|cost| cost.to_string())
    }

    #[test]
    fn models_have_the_prices_of_their_deployments_by_the_name_that_clients_use() {
        let table = read(&[
            r#"{"model_name": "fast", "litellm_params": {"model": "azure/gpt-4o-mini"},
                "model_info": {"id": "x", "key": "azure/gpt-4o-mini", "input_cost_per_token": 1e-06,
                    "output_cost_per_token": 6e-07, "cache_read_input_token_cost": null, "tiered_pricing": null}}"#,
            r#"{"model_name": "own", "litellm_params": {"model": "x", "input_cost_per_token": "3e-06"},
                "model_info": {"input_cost_per_token": 1e-06}}"#,
            r#"{"model_name": "openai/*", "model_info": {"input_cost_per_token": 1e-06}}"#,
        ]);
        assert_eq!(cost_of_a_token(&table, "fast").as_deref(), Some("0.000001"));
        assert_eq!(cost_of_a_token(&table, "own").as_deref(), Some("0.000003"));
        assert_eq!(cost_of_a_token(&table, "azure/gpt-4o-mini"), None);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn what_litellm_has_no_price_of_is_not_free() {
        let zeros = r#""input_cost_per_token": 0, "output_cost_per_token": 0.0"#;
        let unknown =
            format!(r#"{{"model_name": "unknown", "litellm_params": {{"model": "x"}}, "model_info": {{{zeros}}}}}"#);
        let free = format!(
            r#"{{"model_name": "free", "litellm_params": {{"model": "x", {zeros}}}, "model_info": {{{zeros}}}}}"#
        );
        let table = read(&[
            &unknown,
            &free,
            r#"{"model_name": "null", "model_info": {"input_cost_per_token": null, "output_cost_per_token": null}}"#,
            r#"{"model_name": "none", "model_info": {"id": "x"}}"#,
            r#"{"model_name": "nothing"}"#,
        ]);
        assert_eq!((table.len(), cost_of_a_token(&table, "free").as_deref()), (1, Some("0.0")));
    }

    #[test]
    fn of_deployments_with_different_prices_the_highest_counts() {
        let deployment = |price: &str| {
            format!(
                r#"{{"model_name": "alias", "model_info": {{"input_cost_per_token": {price}, "output_cost_per_token": 0}}}}"#
            )
        };
        let [low, high, unknown] = ["1e-06", "2e-06", "0"].map(deployment);
        let table = read(&[&low, &high, &unknown, &low]);
        assert_eq!(cost_of_a_token(&table, "alias").as_deref(), Some("0.000002"));
        assert_eq!(table.several_prices_count(), 1);
        assert_eq!(read(&[&low, &low]).several_prices_count(), 0);
    }

    #[test]
    fn an_entry_that_is_wrong_is_left_out_and_an_answer_of_another_form_is_an_error() {
        let table = read(&[
            r#"{"model_name": "wrong", "model_info": {"input_cost_per_token": 2.5}}"#,
            r#"{"model_name": "also wrong", "litellm_params": {"input_cost_per_token": -1},
                "model_info": {"input_cost_per_token": 1e-06}}"#,
            r#"{"model_name": 7}"#,
            "[]",
            "null",
            r#"{"model_name": "right", "model_info": {"input_cost_per_token": 1e-06}}"#,
        ]);
        assert_eq!((table.len(), cost_of_a_token(&table, "right").is_some()), (1, true));
        for (text, expected) in [
            (r#"{"detail": "Not Found"}"#, "is not what was expected: {\"data\": [{\"model_name\": …}]}"),
            (r#"{"data": {}}"#, "is not what was expected: {\"data\": [{\"model_name\": …}]}"),
            ("<html>", "is not valid JSON: a syntax error at line 1, column 1"),
            ("", "is not valid JSON: a syntax error at line 1, column 0"),
        ] {
            let error = PriceTable::from_model_info(text.as_bytes()).expect_err("an error");
            assert_eq!(error.to_string(), expected);
        }
        let large = vec![b' '; MODEL_INFO_BYTES_MAX + 1];
        let error = PriceTable::from_model_info(&large).expect_err("an error");
        assert_eq!(error.to_string(), "is larger than 8192 KiB");
        let many = format!(r#"{{"data": [{}]}}"#, vec!["1"; FIELDS_MAX + 1].join(","));
        let error = PriceTable::from_model_info(many.as_bytes()).expect_err("an error");
        assert_eq!(error.to_string(), "has more than 50000 entries");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let _ = PriceTable::from_model_info(&bytes);
        }

        #[test]
        fn no_prices_make_it_panic(name in "\\PC*", number in "[-+.0-9eE]{0,8}", border in "[0-9]{0,22}k?") {
            let name = serde_json::to_string(&name).expect("a string");
            let info = format!(r#"{{"input_cost_per_token": "{number}", "input_cost_per_token_above_{border}_tokens": "{number}"}}"#);
            let answer = format!(r#"{{"data": [{{"model_name": {name}, "model_info": {info}}}]}}"#);
            prop_assert!(PriceTable::from_model_info(answer.as_bytes()).is_ok());
        }
    }
}
