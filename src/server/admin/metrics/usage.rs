//! The metrics of usage: tokens and cost by credential, model and key, and the pace of event streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::exposition::{Distribution, Exposition, Sample, plain};
use crate::observability::{Activity, RateSpread, Spread, StreamPace};
use crate::server::admin::gateway_state::GatewayState;
use crate::usage::books::UsageBooks;
use crate::usage::tokens::TokenCounts;
use crate::usage::totals::UsageSums;

/// Writes the usage since the start, unless it is not counted.
pub fn write(page: &mut Exposition, gateway: &GatewayState) {
    let Some(books) = &gateway.shared.usage else { return };
    let sums = Sums::of(books);
    let of_models = |samples: fn(&UsageSums) -> Vec<(&'static str, f64)>, label| sums.of_models(samples, label);
    page.counter(
        "flow_uring_tokens_total",
        "Tokens that answers reported: cache_read and cache_write are parts of input, reasoning is a part of output.",
        of_models(|sums| of_kinds(&sums.tokens), "kind"),
    );
    page.counter(
        "flow_uring_estimated_tokens_total",
        "Tokens of answers that reported none, by their length: a quarter of a token a byte; in no other metric.",
        of_models(
            |UsageSums { estimated, .. }| vec![("input", estimated.input as f64), ("output", estimated.output as f64)],
            "kind",
        ),
    );
    page.counter(
        "flow_uring_cost_usd_total",
        "Cost of answers in US dollars: reported by the upstream, or estimated by prices where it reported none.",
        of_models(
            |sums| {
                let (reported, estimated) = (sums.reported_cost, sums.estimated_cost);
                vec![("reported", reported.as_dollars()), ("estimated", estimated.as_dollars())]
            },
            "source",
        ),
    );
    page.counter(
        "flow_uring_key_tokens_total",
        "Tokens that answers to the holder of a key reported, as in flow_uring_tokens_total.",
        sums.of_keys(),
    );
    page.counter(
        "flow_uring_answers_without_usage_total",
        "Answers whose tokens are estimated: they reported none, were cut or coded, or their client left.",
        plain(sums.without_usage as f64),
    );
    pace(page, gateway);
}

fn pace(page: &mut Exposition, gateway: &GatewayState) {
    let paces = || gateway.liveness_probe.activities().map(|activity: &Activity| &activity.pace);
    page.histogram(
        "flow_uring_time_to_first_content_seconds",
        "Time from the end of a forwarded request's head to the first text in the events of its answer.",
        Distribution::from(&Spread::of(paces().map(StreamPace::first_content))),
    );
    page.histogram(
        "flow_uring_output_tokens_per_second",
        "Output tokens a second of event streams that reported them, from the first text to the end.",
        Distribution::from(&RateSpread::of(paces())),
    );
}

/// The usage by what it is shown by.
#[derive(Default)]
struct Sums {
    /// By credential and model.
    models: BTreeMap<(Arc<str>, Arc<str>), UsageSums>,
    keys: BTreeMap<Arc<str>, TokenCounts>,
    without_usage: u64,
}

impl Sums {
    fn of(books: &UsageBooks) -> Self {
        let mut all = Sums::default();
        books.read(|row| {
            let (key, sums) = (row.key(), row.sums());
            *all.models.entry((key.credential.clone(), key.model.clone())).or_default() += sums;
            if !key.key.is_empty() {
                *all.keys.entry(key.key.clone()).or_default() += sums.tokens;
            }
            all.without_usage += sums.without_usage;
        });
        all
    }

    /// Makes a sample of each of the `values` of a credential's model; without those that are nothing.
    fn of_models(&self, values: fn(&UsageSums) -> Vec<(&'static str, f64)>, label: &'static str) -> Vec<Sample> {
        let each = |((credential, model), sums): (&(Arc<str>, Arc<str>), &UsageSums)| {
            let sample = |(kind, value): (&'static str, f64)| -> Sample {
                let names = [("credential", credential.to_string()), ("model", model.to_string())];
                ([names.as_slice(), &[(label, kind.to_owned())]].concat(), value)
            };
            values(sums).into_iter().filter(|(_, value)| *value > 0.0).map(sample).collect::<Vec<_>>()
        };
        self.models.iter().flat_map(each).collect()
    }

    fn of_keys(&self) -> Vec<Sample> {
        let each = |(key, tokens): (&Arc<str>, &TokenCounts)| {
            let sample = |(kind, value): (&'static str, f64)| -> Sample {
                (vec![("key", key.to_string()), ("kind", kind.to_owned())], value)
            };
            of_kinds(tokens).into_iter().filter(|(_, value)| *value > 0.0).map(sample).collect::<Vec<_>>()
        };
        self.keys.iter().flat_map(each).collect()
    }
}

fn of_kinds(tokens: &TokenCounts) -> Vec<(&'static str, f64)> {
    let TokenCounts { input, cache_read, cache_write, output, reasoning } = *tokens;
    let counts = [
        ("input", input),
        ("cache_read", cache_read),
        ("cache_write", cache_write),
        ("output", output),
        ("reasoning", reasoning),
    ];
    counts.map(|(kind, count)| (kind, count as f64)).to_vec()
}
