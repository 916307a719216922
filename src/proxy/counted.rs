//! The usage of an exchange, on its way from its answer into the books.
//!
//! Invariant: an answer's tokens are either reported or estimated. They are reported where the whole answer was passed
//! on and told them; an answer that tells none, was cut, or whose client left is counted by its length. Not here: the
//! reading of answers ([`usage`](crate::usage)).

use crate::credentials::CredentialId;
use crate::io::clock;
use crate::observability::{CostRecord, Ending, TokensRecord, UsageRecord};
use crate::proxy::downstream::Downstream;
use crate::proxy::exchange::{Exchange, UsageProgress};
use crate::proxy::key_accounts::Spending;
use crate::proxy::price_question;
use crate::proxy::request::head::Method;
use crate::proxy::request::model::asked::{calls_a_model, decoded, only_counts};
use crate::proxy::request::replayable::is_generation;
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::resources::Resources;
use crate::proxy::response::body::BodyRelay;
use crate::usage::books::UsageBook;
use crate::usage::cost::Usd;
use crate::usage::gen_ai::{AnswerTimes, GenAiOperation};
use crate::usage::models::ModelId;
use crate::usage::prices::PriceTable;
use crate::usage::tokens::{EstimatedTokens, TokenCounts};
use crate::usage::totals::UsageSums;

/// The status of an exchange that is a tunnel.
const SWITCHING_PROTOCOLS: u16 = 101;

/// Notes what an answer tells of its usage, once it is over.
pub fn note_told(resources: &Resources, progress: &UsageProgress, body: &BodyRelay) {
    let (Some(book), Some(told)) = (&resources.usage, body.usage()) else { return };
    progress.tokens.set(told.tokens);
    if told.cost.is_some() {
        progress.cost.set(told.cost);
    }
    if let Some(model) = told.model() {
        progress.answer_model.replace(Some(book.models().refer(model)));
    }
}

/// Tells whether the name in an answer is needed: the request names no model, or one without a price.
pub fn wants_name(resources: &Resources, progress: &UsageProgress) -> bool {
    let Some(book) = &resources.usage else { return false };
    let model = progress.request_model.borrow();
    let Some(model) = model.as_ref() else { return true };
    resources.prices.look_up(|prices| Some(!prices.has(book.models().text(model)))).unwrap_or_default()
}

/// Counts the usage of an exchange that is over. `None` where there is none: nothing was generated, or it is not
/// counted.
pub fn count<'a>(resources: &'a Resources, exchange: &Exchange, downstream: &Downstream) -> Option<UsageRecord<'a>> {
    let book = resources.usage.as_ref()?;
    let credential = exchange.credential?;
    let progress = &exchange.progress.usage;
    if exchange.progress.status.get() == Some(SWITCHING_PROTOCOLS) {
        return tunnel_record(book, progress);
    }
    // What reads an answer that was made before gets its usage again.
    if downstream.method != "POST" || downstream.path.ends_with("/cancel") {
        return None;
    }
    let tokens = progress.tokens.get().filter(|_| exchange.ending == Ending::Ok);
    let has_told = tokens.is_some() || progress.cost.get().is_some();
    if !has_told && !may_have_generated(exchange, downstream) {
        return None;
    }
    let spent = match tokens {
        Some(tokens) => Spent::Reported(tokens),
        None => Spent::Estimated(estimate(exchange, &downstream.path)),
    };
    let cost = match progress.cost.get() {
        Some(amount) => Some(Cost::Reported(amount)),
        None => price(resources, book, progress, &spent).map(Cost::Estimated),
    };
    let model = named_model(book, progress);
    add(exchange, book, credential, model, &spent, cost);
    note_pace(resources, exchange, tokens);
    if let (Some(shard), Some(operation)) = (book.gen_ai(), GenAiOperation::of_path(&downstream.path)) {
        shard.add(operation, model, tokens, &times(exchange));
    }
    let model = &**book.models().name(model);
    Some(UsageRecord {
        model: Some(model).filter(|model| !model.is_empty()),
        tokens: tokens.map(record),
        cost: cost.map(Cost::record),
    })
}

/// Notes the model that the target of an upgrade names.
pub fn note_named(resources: &Resources, progress: &UsageProgress, upgrade: &Upgrade) {
    if let (Some(book), Some(name)) = (&resources.usage, upgrade.model.as_deref()) {
        progress.request_model.replace(Some(book.models().refer(name)));
    }
}

/// Counts one of the answers in a tunnel, and adds it to the sums of the exchange. The model is that of the request, where
/// it names one, else that of the answer.
pub fn count_in_tunnel(resources: &Resources, exchange: &Exchange, answer: TunnelAnswer<'_>) {
    let (Some(book), Some(credential)) = (&resources.usage, exchange.credential) else { return };
    let progress = &exchange.progress.usage;
    if let Some(name) = answer.model {
        progress.answer_model.replace(Some(book.models().refer(name)));
    }
    let cost = match answer.cost {
        Some(amount) => Some(Cost::Reported(amount)),
        None => price(resources, book, progress, &answer.spent).map(Cost::Estimated),
    };
    add(exchange, book, credential, named_model(book, progress), &answer.spent, cost);
    if let Spent::Reported(tokens) = answer.spent {
        let mut sum = progress.tokens.get().unwrap_or_default();
        sum += tokens;
        progress.tokens.set(Some(sum));
    }
    if let Some(Cost::Reported(amount) | Cost::Estimated(amount)) = cost {
        let mut sum = progress.cost.get().unwrap_or_default();
        sum += amount;
        progress.cost.set(Some(sum));
    }
    if !matches!(cost, Some(Cost::Reported(_))) {
        progress.has_estimate.set(true);
        price_question::ask_if_due(resources, &exchange.snapshot, progress.tokens.get().is_some());
    }
}

/// An answer in a tunnel.
pub struct TunnelAnswer<'a> {
    pub spent: Spent,
    /// The cost that it told.
    pub cost: Option<Usd>,
    /// The model that it named.
    pub model: Option<&'a str>,
}

/// Returns the sums of a tunnel, whose answers have been counted; `None` where there were none.
fn tunnel_record<'a>(book: &'a UsageBook, progress: &UsageProgress) -> Option<UsageRecord<'a>> {
    let (tokens, cost) = (progress.tokens.get(), progress.cost.get());
    let is_reported = !progress.has_estimate.get();
    if tokens.is_none() && cost.is_none() {
        return None;
    }
    let model = &**book.models().name(named_model(book, progress));
    let cost = cost.map(|amount| CostRecord { dollars: amount.as_dollars(), is_reported });
    Some(UsageRecord { model: Some(model).filter(|model| !model.is_empty()), tokens: tokens.map(record), cost })
}

/// The tokens of an answer.
pub enum Spent {
    Reported(TokenCounts),
    Estimated(EstimatedTokens),
}

#[derive(Debug, Clone, Copy)]
enum Cost {
    Reported(Usd),
    Estimated(Usd),
}

impl Cost {
    fn record(self) -> CostRecord {
        match self {
            Cost::Reported(amount) => CostRecord { dollars: amount.as_dollars(), is_reported: true },
            Cost::Estimated(amount) => CostRecord { dollars: amount.as_dollars(), is_reported: false },
        }
    }
}

/// Returns the model by the request, where that names one, else by the answer.
fn named_model(book: &UsageBook, progress: &UsageProgress) -> ModelId {
    let (request, answer) = (progress.request_model.borrow(), progress.answer_model.borrow());
    request.as_ref().or(answer.as_ref()).map_or(ModelId::NONE, |model| book.models().admit(model))
}

/// Tells whether the upstream may have made tokens that it did not tell of. It also may for a client that left before
/// the answer began.
fn may_have_generated(exchange: &Exchange, downstream: &Downstream) -> bool {
    let is_asked_for = is_generation(&downstream.path) || is_counted_anyway(exchange, &downstream.path);
    let has_left = exchange.ending == Ending::ClientDisconnected
        && exchange.progress.status.get().is_none()
        && exchange.progress.request_is_whole();
    is_asked_for && (exchange.progress.usage.has_answer.get() || has_left)
}

/// Tells whether an answer counts wherever it comes from: the use of its key is limited, and a path that is not known
/// would be a way around.
fn is_counted_anyway(exchange: &Exchange, path: &str) -> bool {
    let is_limited = exchange.snapshot.governed(exchange.key).is_some_and(|governed| governed.limits.count_usage());
    let is_call = |path: &str| calls_a_model(Method::Post, path) && !only_counts(path);
    is_limited && decoded(path).is_none_or(|path| is_call(&path))
}

/// Estimates tokens by the bytes of the request, and of the text or the body of the answer.
fn estimate(exchange: &Exchange, path: &str) -> EstimatedTokens {
    let progress = &exchange.progress;
    // Vectors are no tokens.
    let has_output = !path.ends_with("/embeddings");
    let answer = progress.usage.text.get().map_or_else(|| progress.response_bytes.get(), |text| text.bytes);
    EstimatedTokens::of_bytes(exchange.request_bytes, if has_output { answer } else { 0 })
}

/// Returns the price of an answer that told no cost; `None` where its model has none.
fn price(resources: &Resources, book: &UsageBook, progress: &UsageProgress, spent: &Spent) -> Option<Usd> {
    let (request, answer) = (progress.request_model.borrow(), progress.answer_model.borrow());
    let of = |prices: &PriceTable, name: &str| match spent {
        Spent::Reported(tokens) => prices.cost(name, tokens),
        Spent::Estimated(tokens) => prices.estimate(name, *tokens),
    };
    let mut names = [request.as_ref(), answer.as_ref()].into_iter().flatten().map(|model| book.models().text(model));
    resources.prices.look_up(|prices| names.find_map(|name| of(prices, name)))
}

fn add(
    exchange: &Exchange,
    book: &UsageBook,
    credential: CredentialId,
    model: ModelId,
    spent: &Spent,
    cost: Option<Cost>,
) {
    let mut sums = UsageSums { requests: 1, ..UsageSums::default() };
    match spent {
        Spent::Reported(tokens) => sums.tokens = *tokens,
        Spent::Estimated(tokens) => (sums.without_usage, sums.estimated) = (1, *tokens),
    }
    match cost {
        Some(Cost::Reported(amount)) => sums.reported_cost = amount,
        Some(Cost::Estimated(amount)) => sums.estimated_cost = amount,
        None => {}
    }
    exchange.snapshot.usage_row(book, exchange.key, credential, model).add(&sums);
    let account = exchange.snapshot.governed(exchange.key).and_then(|governed| governed.account.as_ref());
    if let Some(account) = account {
        account.spend(Spending::of(&sums), clock::now());
    }
}

/// Counts the pace of an event stream.
fn note_pace(resources: &Resources, exchange: &Exchange, tokens: Option<TokenCounts>) {
    let Some((first, rest)) = times(exchange).stream else { return };
    let pace = &resources.activity.pace;
    pace.add_first_content(first);
    if let Some(TokenCounts { output, reasoning, .. }) = tokens {
        // What was thought came before the first text.
        pace.add_rate(output.saturating_sub(reasoning), rest);
    }
}

fn times(exchange: &Exchange) -> AnswerTimes {
    let now = clock::now();
    let since_text = exchange.progress.usage.text.get().and_then(|text| text.since);
    AnswerTimes {
        duration: now.saturating_duration_since(exchange.began),
        stream: since_text
            .map(|first| (first.saturating_duration_since(exchange.began), now.saturating_duration_since(first))),
    }
}

fn record(TokenCounts { input, cache_read, output, reasoning, .. }: TokenCounts) -> TokensRecord {
    TokensRecord { input, output, cached: cache_read, reasoning }
}
