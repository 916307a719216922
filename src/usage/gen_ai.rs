//! The metrics of OpenTelemetry's semantic conventions for generative AI, version 1.37.0, where they are in
//! development: counted only if they are asked for.
//!
//! Written by one shard alone, with plain loads and stores. Invariant: what is counted is bounded by the models that
//! are told apart, and a distribution is allocated with its first answer.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::usage::models::{ModelId, PLACES};
use crate::usage::tokens::TokenCounts;

/// The operations, as the conventions name them, with the provider whose interface was used: the upstream tells no
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenAiOperation {
    OpenAiChat,
    OpenAiText,
    OpenAiEmbeddings,
    Anthropic,
    Gemini,
    Bedrock,
}

impl GenAiOperation {
    pub const ALL: [GenAiOperation; 6] = [
        GenAiOperation::OpenAiChat,
        GenAiOperation::OpenAiText,
        GenAiOperation::OpenAiEmbeddings,
        GenAiOperation::Anthropic,
        GenAiOperation::Gemini,
        GenAiOperation::Bedrock,
    ];

    /// Returns the operation of a `POST` to this path; `None` where the conventions have no name for it.
    pub fn of_path(path: &str) -> Option<Self> {
        let (parent, call) = path.rsplit_once('/')?;
        Some(match call {
            "completions" if parent.ends_with("/chat") => GenAiOperation::OpenAiChat,
            "completions" => GenAiOperation::OpenAiText,
            "responses" => GenAiOperation::OpenAiChat,
            "embeddings" => GenAiOperation::OpenAiEmbeddings,
            "messages" => GenAiOperation::Anthropic,
            "converse" | "converse-stream" => GenAiOperation::Bedrock,
            _ if call.ends_with("enerateContent") => GenAiOperation::Gemini,
            _ => return None,
        })
    }

    /// Returns the value of `gen_ai.operation.name`.
    pub fn name(self) -> &'static str {
        match self {
            GenAiOperation::OpenAiChat | GenAiOperation::Anthropic | GenAiOperation::Bedrock => "chat",
            GenAiOperation::OpenAiText => "text_completion",
            GenAiOperation::OpenAiEmbeddings => "embeddings",
            GenAiOperation::Gemini => "generate_content",
        }
    }

    /// Returns the value of `gen_ai.provider.name`.
    pub fn provider(self) -> &'static str {
        match self {
            GenAiOperation::OpenAiChat | GenAiOperation::OpenAiText | GenAiOperation::OpenAiEmbeddings => "openai",
            GenAiOperation::Anthropic => "anthropic",
            GenAiOperation::Gemini => "gcp.gemini",
            GenAiOperation::Bedrock => "aws.bedrock",
        }
    }
}

/// The bounds that the conventions ask for: of tokens, and of seconds.
pub const TOKEN_BOUNDS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
pub const DURATION_BOUNDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
pub const FIRST_TOKEN_BOUNDS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
pub const OUTPUT_TOKEN_BOUNDS: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// The room for the buckets of any of them, with the one beyond the last bound.
const BUCKETS_MAX: usize = FIRST_TOKEN_BOUNDS.len() + 1;

/// The sum of a distribution is kept in millionths.
const SUM_UNITS: f64 = 1e6;

/// The answers to one operation of one model on one shard.
#[derive(Debug, Default)]
pub struct GenAiAnswers {
    distributions: [GenAiDistribution; GenAiMetric::ALL.len()],
}

/// A metric of the conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenAiMetric {
    InputTokens,
    OutputTokens,
    Duration,
    TimeToFirstToken,
    TimePerOutputToken,
}

impl GenAiMetric {
    pub const ALL: [GenAiMetric; 5] = [
        GenAiMetric::InputTokens,
        GenAiMetric::OutputTokens,
        GenAiMetric::Duration,
        GenAiMetric::TimeToFirstToken,
        GenAiMetric::TimePerOutputToken,
    ];

    pub fn bounds(self) -> &'static [f64] {
        match self {
            GenAiMetric::InputTokens | GenAiMetric::OutputTokens => &TOKEN_BOUNDS,
            GenAiMetric::Duration => &DURATION_BOUNDS,
            GenAiMetric::TimeToFirstToken => &FIRST_TOKEN_BOUNDS,
            GenAiMetric::TimePerOutputToken => &OUTPUT_TOKEN_BOUNDS,
        }
    }
}

#[derive(Debug, Default)]
struct GenAiDistribution {
    buckets: [AtomicU64; BUCKETS_MAX],
    sum: AtomicU64,
}

impl GenAiDistribution {
    fn add(&self, value: f64, bounds: &[f64]) {
        let add = |cell: &AtomicU64, amount| cell.store(cell.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
        add(&self.buckets[bounds.partition_point(|bound| *bound < value)], 1);
        add(&self.sum, (value * SUM_UNITS).round() as u64);
    }
}

/// The sums of a distribution over all shards.
#[derive(Debug, Clone, PartialEq)]
pub struct GenAiSums {
    /// The count of each bucket, without those of the smaller ones.
    pub buckets: Vec<u64>,
    pub sum: f64,
}

/// The times of an answer that is over.
#[derive(Debug, Clone, Copy)]
pub struct AnswerTimes {
    pub duration: Duration,
    /// To the first text, and from there to the end; `None` of an answer that is no event stream.
    pub stream: Option<(Duration, Duration)>,
}

/// The answers of one shard.
#[derive(Debug)]
pub struct GenAiShard {
    places: Box<[OnceLock<Box<GenAiAnswers>>]>,
}

impl Default for GenAiShard {
    fn default() -> Self {
        GenAiShard { places: (0..PLACES * GenAiOperation::ALL.len()).map(|_| OnceLock::new()).collect() }
    }
}

impl GenAiShard {
    /// Counts an answer. Only for the shard that owns this.
    pub fn add(&self, operation: GenAiOperation, model: ModelId, tokens: Option<TokenCounts>, times: &AnswerTimes) {
        let answers = self.place(operation, model).get_or_init(Box::default);
        let add = |metric: GenAiMetric, value| answers.distributions[metric as usize].add(value, metric.bounds());
        add(GenAiMetric::Duration, times.duration.as_secs_f64());
        if let Some(tokens) = tokens {
            add(GenAiMetric::InputTokens, tokens.input as f64);
            add(GenAiMetric::OutputTokens, tokens.output as f64);
        }
        if let Some((first, rest)) = times.stream {
            add(GenAiMetric::TimeToFirstToken, first.as_secs_f64());
            // The first token has come before.
            let shown = tokens.map(|tokens| tokens.output.saturating_sub(tokens.reasoning));
            if let Some(further) = shown.and_then(|shown| shown.checked_sub(1)).filter(|further| *further > 0) {
                add(GenAiMetric::TimePerOutputToken, rest.as_secs_f64() / further as f64);
            }
        }
    }

    fn place(&self, operation: GenAiOperation, model: ModelId) -> &OnceLock<Box<GenAiAnswers>> {
        &self.places[operation as usize * PLACES + model.place()]
    }
}

/// Sums up a metric of an operation's model; `None` where there was no such answer.
pub fn total<'a>(
    shards: impl Iterator<Item = &'a GenAiShard>,
    operation: GenAiOperation,
    model: ModelId,
    metric: GenAiMetric,
) -> Option<GenAiSums> {
    let mut buckets: [u64; BUCKETS_MAX] = array::from_fn(|_| 0);
    let mut sum = 0;
    for answers in shards.filter_map(|shard| shard.place(operation, model).get()) {
        let distribution = &answers.distributions[metric as usize];
        for (total, bucket) in buckets.iter_mut().zip(&distribution.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        sum += distribution.sum.load(Ordering::Relaxed);
    }
    let buckets = buckets[..=metric.bounds().len()].to_vec();
    let has_any = buckets.iter().any(|count| *count > 0);
    has_any.then_some(GenAiSums { buckets, sum: sum as f64 / SUM_UNITS })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn paths_are_operations() {
        for (path, name, provider) in [
            ("/v1/chat/completions", "chat", "openai"),
            ("/v1/completions", "text_completion", "openai"),
            ("/v1/responses", "chat", "openai"),
            ("/v1/embeddings", "embeddings", "openai"),
            ("/v1/messages", "chat", "anthropic"),
            ("/gemini/v1beta/models/x:streamGenerateContent", "generate_content", "gcp.gemini"),
            ("/bedrock/model/x/converse", "chat", "aws.bedrock"),
        ] {
            let operation = GenAiOperation::of_path(path).expect("an operation");
            assert_eq!((operation.name(), operation.provider()), (name, provider), "{path}");
        }
        assert_eq!(GenAiOperation::of_path("/v1/models"), None);
        assert!(GenAiOperation::ALL.into_iter().enumerate().all(|(place, operation)| operation as usize == place));
        assert!(GenAiMetric::ALL.into_iter().enumerate().all(|(place, metric)| metric as usize == place));
    }

    #[test]
    fn answers_are_spread_over_the_buckets_and_summed_over_the_shards() {
        let shards = [GenAiShard::default(), GenAiShard::default()];
        let tokens = TokenCounts { input: 100, output: 11, ..TokenCounts::default() };
        let times = AnswerTimes { duration: 3 * SECOND, stream: Some((SECOND, 2 * SECOND)) };
        shards.iter().for_each(|shard| shard.add(GenAiOperation::Anthropic, ModelId::NONE, Some(tokens), &times));
        let total = |metric| total(shards.iter(), GenAiOperation::Anthropic, ModelId::NONE, metric).expect("answers");
        for (metric, bucket, sum) in [
            (GenAiMetric::InputTokens, 4, 200.0),
            (GenAiMetric::OutputTokens, 2, 22.0),
            (GenAiMetric::Duration, 9, 6.0),
            (GenAiMetric::TimeToFirstToken, 11, 2.0),
            (GenAiMetric::TimePerOutputToken, 6, 0.4),
        ] {
            let sums = total(metric);
            let expected: Vec<u64> =
                (0..=metric.bounds().len()).map(|place| if place == bucket { 2 } else { 0 }).collect();
            assert_eq!((sums.buckets, sums.sum), (expected, sum), "{metric:?}");
        }
    }

    #[test]
    fn there_is_nothing_where_there_was_no_answer() {
        let shards = [GenAiShard::default()];
        let duration = |operation| total(shards.iter(), operation, ModelId::NONE, GenAiMetric::Duration);
        assert_eq!(duration(GenAiOperation::Gemini), None);
    }
}
