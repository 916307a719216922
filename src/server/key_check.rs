//! The check of API keys against what else is configured: the credentials that they name, and the counting of usage and
//! cost that their limits need. The one place for it, of the start, of reloads and of `flow-uring check`.
//!
//! Invariant: a limit that would never be reached, and a credential that no request could use, are told by key and with
//! what to do, in a few short lines however many keys there are; nothing in them holds a key.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::config::{PriceSource, UsageOptions};
use crate::credentials::{ApiKeys, KeyPolicy, ModelPattern};
use crate::observability::list_names;
use crate::usage::prices::PriceTable;

/// Limit on the problems that are told; each is of any number of keys.
const PROBLEMS_MAX: usize = 50;

/// The surroundings of keys.
pub struct KeySurroundings<'a> {
    /// The names of the credentials; `None`: they are not known.
    pub credentials: Option<Vec<&'a str>>,
    pub usage: &'a UsageOptions,
    /// The prices of a file.
    pub prices: Option<&'a PriceTable>,
}

/// A problem, with the keys that have it.
#[derive(Debug)]
pub struct KeyProblem {
    pub mismatch: KeyMismatch,
    /// The names of the keys; at least one.
    pub keys: Vec<String>,
}

/// The contradictions between a key and what else is configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyMismatch {
    /// No credential has the name; those that there are.
    UnknownCredential { name: String, known: String },
    /// It has a limit on tokens or cost, and usage is off.
    NoUsage,
    /// It has a limit on cost, and prices are off.
    NoPrices,
    /// It has a limit on cost, and may use a model, or models of a pattern, without a price.
    NoPriceOf { model: String, is_glob: bool },
}

/// Finds the problems of all keys.
pub fn check_keys(keys: &ApiKeys, around: &KeySurroundings<'_>) -> Vec<KeyProblem> {
    let mut found: BTreeMap<KeyMismatch, Vec<String>> = BTreeMap::new();
    let mut priced = HashMap::new();
    for (name, policy) in keys.policies() {
        for mismatch in mismatches(policy, around, &mut priced) {
            let names = found.entry(mismatch).or_default();
            // A name that has two keys has them in a row, or is told twice.
            if names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
        }
    }
    found.into_iter().map(|(mismatch, keys)| KeyProblem { mismatch, keys }).collect()
}

/// Writes the problems, a line each.
pub fn lines_of(problems: &[KeyProblem]) -> impl Iterator<Item = String> {
    let more = problems.len().checked_sub(PROBLEMS_MAX).filter(|more| *more > 0);
    let told = problems.iter().take(PROBLEMS_MAX).map(KeyProblem::to_string);
    told.chain(more.map(|more| format!("… and {more} more problems of API keys")))
}

/// Finds the problems of one key. `priced` remembers the models that were looked up.
fn mismatches(
    policy: &KeyPolicy,
    around: &KeySurroundings<'_>,
    priced: &mut HashMap<String, bool>,
) -> Vec<KeyMismatch> {
    let mut mismatches = Vec::new();
    if let Some(known) = &around.credentials {
        let named = policy.credentials.iter().flatten().filter(|name| !known.contains(&name.as_str()));
        let listed = || list_names(known.iter().copied());
        mismatches.extend(named.map(|name| KeyMismatch::UnknownCredential { name: name.clone(), known: listed() }));
    }
    if policy.limits.count_usage() && !around.usage.is_counted {
        mismatches.push(KeyMismatch::NoUsage);
    } else if policy.limits.count_cost() {
        match (&around.usage.prices, around.prices) {
            (PriceSource::Nothing, _) => mismatches.push(KeyMismatch::NoPrices),
            (PriceSource::File(_), Some(prices)) => {
                let models = policy.models.iter().flatten();
                let unpriced = models.filter(|model| {
                    let known = priced.get(model.text()).copied();
                    !known.unwrap_or_else(|| {
                        let has_price = has_price(prices, model);
                        priced.insert(model.text().to_owned(), has_price);
                        has_price
                    })
                });
                let mismatch = |model: &ModelPattern| KeyMismatch::NoPriceOf {
                    model: model.text().to_owned(),
                    is_glob: model.is_glob(),
                };
                mismatches.extend(unpriced.map(mismatch).collect::<Vec<_>>());
            }
            // Those of the upstream are not known before it is asked.
            (PriceSource::Upstream, _) | (PriceSource::File(_), None) => {}
        }
    }
    mismatches
}

fn has_price(prices: &PriceTable, model: &ModelPattern) -> bool {
    if !model.is_glob() {
        return prices.has(model.text());
    }
    let provider = model.text().split_once('/').map(|(provider, _)| provider).filter(|name| !name.contains('*'));
    prices.has_like(provider, |name| model.matches(name))
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = list_names(self.keys.iter().map(String::as_str));
        let (key, has, names) = if self.keys.len() == 1 { ("key", "has", "names") } else { ("keys", "have", "name") };
        write!(formatter, "API {key} {keys} ")?;
        match &self.mismatch {
            KeyMismatch::UnknownCredential { name, known } => write!(
                formatter,
                "{names} the credential {name:?}, which the secrets file does not have (it has {known}): correct \
                 \"credentials\" of the {key}, or add {name:?} to the secrets file"
            ),
            KeyMismatch::NoUsage => write!(
                formatter,
                "{has} a limit on tokens or USD, and with --usage off neither is counted: take the limit out of the \
                 {key}, or let usage be counted"
            ),
            KeyMismatch::NoPrices => write!(
                formatter,
                "{has} a limit on USD, and with --prices off models have no price: take the limit out of the {key}, or \
                 name --prices"
            ),
            KeyMismatch::NoPriceOf { model, is_glob } => {
                let what = if *is_glob { "the models" } else { "the model" };
                let lacks = if *is_glob { "none of which has a price" } else { "which has no price" };
                write!(
                    formatter,
                    "{has} a limit on USD and may use {what} {model:?}, {lacks} in the file of --prices: add a price \
                     there, or take {model:?} out of \"models\" of the {key}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::prices::load_prices;
    use crate::whole_file::FileKinds;

    fn problems(entries: &str, usage: &UsageOptions, prices: Option<&PriceTable>) -> Vec<String> {
        let keys = ApiKeys::from_text(entries).expect("valid").keys;
        let around = KeySurroundings { credentials: Some(vec!["team-a", "team-b"]), usage, prices };
        lines_of(&check_keys(&keys, &around)).collect()
    }

    fn entry(name: &str, permissions: &str) -> String {
        format!(r#"{{"name": "{name}", "key": "0123456789abcdef-{name}", {permissions}}}"#)
    }

    #[test]
    fn a_credential_that_is_not_there_is_told_by_key_and_name() {
        let usage = UsageOptions::default();
        let one = format!(
            "[{}, {}]",
            entry("a", r#""credentials": ["team-a"]"#),
            entry("b", r#""credentials": ["x", "team-b"]"#)
        );
        assert_eq!(
            problems(&one, &usage, None),
            [
                "API key b names the credential \"x\", which the secrets file does not have (it has team-a, team-b): correct \
              \"credentials\" of the key, or add \"x\" to the secrets file"
            ]
        );
        let many: Vec<String> =
            (0..10_000).map(|number| entry(&format!("n{number}"), r#""credentials": ["x"]"#)).collect();
        let found = problems(&format!("[{}]", many.join(",")), &usage, None);
        assert!(found.len() == 1 && found[0].contains("n15 and 9984 more name the credential \"x\""), "{found:?}");
        let each: Vec<String> =
            (0..60).map(|number| entry(&format!("n{number}"), &format!(r#""credentials": ["x{number}"]"#))).collect();
        let found = problems(&format!("[{}]", each.join(",")), &usage, None);
        assert_eq!((found.len(), found[50].as_str()), (51, "… and 10 more problems of API keys"));
    }

    #[test]
    fn a_limit_that_nothing_is_counted_for_is_told() {
        let keys = format!(
            "[{}, {}, {}]",
            entry("a", r#""limits": {"parallel": 1, "requests_per_minute": 1}"#),
            entry("b", r#""limits": {"tokens_per_day": 1}"#),
            entry("c", r#""limits": {"usd_per_month": 1}"#)
        );
        let off = UsageOptions { is_counted: false, ..UsageOptions::default() };
        let found = problems(&keys, &off, None);
        assert!(
            found.len() == 1
                && found[0].starts_with("API keys b, c have a limit on tokens or USD, and with --usage off")
        );
        let no_prices = UsageOptions { prices: PriceSource::Nothing, ..UsageOptions::default() };
        let found = problems(&keys, &no_prices, None);
        assert!(
            found.len() == 1 && found[0].starts_with("API key c has a limit on USD, and with --prices off"),
            "{found:?}"
        );
        assert_eq!(problems(&keys, &UsageOptions::default(), None), [""; 0]);
    }

    #[test]
    fn a_model_without_a_price_is_told_where_there_is_a_limit_on_cost() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("prices.json");
        let price = |provider: &str| format!(r#"{{"input_cost_per_token": 1e-6, "litellm_provider": "{provider}"}}"#);
        let text = format!(r#"{{"gpt-4o": {}, "own": {{"input_cost_per_token": 1e-6}}}}"#, price("openai"));
        std::fs::write(&path, text).expect("written");
        let prices = load_prices(&path, FileKinds::Regular).expect("prices").table;
        let usage = UsageOptions { prices: PriceSource::File(path), ..UsageOptions::default() };
        let of = |model: &str, limit: &str| {
            let keys = format!("[{}]", entry("a", &format!(r#""models": ["{model}"], "limits": {{"{limit}": 1}}"#)));
            problems(&keys, &usage, Some(&prices))
        };
        for priced in
            ["gpt-4o", "openai/gpt-4o", "gpt-*", "openai/*", "open*", "*", "*/gpt-4o", "own", "any/own", "any/o*"]
        {
            assert_eq!(of(priced, "usd_per_day"), [""; 0], "{priced}");
        }
        for unpriced in ["gpt-4o-mini", "azure/gpt-4o", "claude-*", "azure/gpt-*", "*/claude"] {
            let found = of(unpriced, "usd_per_month");
            let is_told =
                found.len() == 1 && found[0].contains(&format!("{unpriced:?}")) && found[0].contains("API key a has");
            assert!(is_told, "{unpriced}: {found:?}");
            assert_eq!(of(unpriced, "tokens_per_day"), [""; 0], "{unpriced}");
        }
    }
}
