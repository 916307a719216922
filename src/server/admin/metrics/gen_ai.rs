//! The metrics by the names of OpenTelemetry's conventions for generative AI, as its exporter for Prometheus writes
//! them.

use super::exposition::{Distribution, Exposition, Labels};
use crate::server::admin::gateway_state::GatewayState;
use crate::usage::books::UsageBooks;
use crate::usage::gen_ai::{GenAiMetric, GenAiOperation, total};

/// Writes them, where they are asked for.
pub fn write(page: &mut Exposition, gateway: &GatewayState) {
    let Some(books) = gateway.shared.usage.as_deref().filter(|books| books.gen_ai().is_some()) else { return };
    let tokens = [(GenAiMetric::InputTokens, "input"), (GenAiMetric::OutputTokens, "output")];
    page.histograms(
        "gen_ai_client_token_usage",
        "Number of input and output tokens used, of answers that reported them.",
        tokens.into_iter().flat_map(|(metric, kind)| of(books, metric, Some(kind))),
    );
    let mut seconds = |name, help, metric| page.histograms(name, help, of(books, metric, None));
    seconds(
        "gen_ai_client_operation_duration_seconds",
        "GenAI operation duration, of answers that were generated.",
        GenAiMetric::Duration,
    );
    seconds(
        "gen_ai_server_time_to_first_token_seconds",
        "Time to generate the first token, of event streams.",
        GenAiMetric::TimeToFirstToken,
    );
    seconds(
        "gen_ai_server_time_per_output_token_seconds",
        "Time per output token generated after the first token, of event streams that reported their tokens.",
        GenAiMetric::TimePerOutputToken,
    );
}

/// The distributions of a metric by operation and model.
fn of(books: &UsageBooks, metric: GenAiMetric, token_type: Option<&'static str>) -> Vec<(Labels, Distribution)> {
    let mut samples = Vec::new();
    for operation in GenAiOperation::ALL {
        for model in books.models().ids() {
            let Some(sums) = total(books.gen_ai().unwrap_or_default().iter(), operation, model, metric) else {
                continue;
            };
            let mut labels = vec![
                ("gen_ai_operation_name", operation.name().to_owned()),
                ("gen_ai_provider_name", operation.provider().to_owned()),
                ("gen_ai_request_model", books.models().name(model).to_string()),
            ];
            labels.extend(token_type.map(|token_type| ("gen_ai_token_type", token_type.to_owned())));
            samples.push((labels, Distribution::new(metric.bounds(), sums.buckets, sums.sum)));
        }
    }
    samples
}
