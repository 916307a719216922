//! One exchange, as far as it is known, up to its line in the log.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::capture::document::ExchangeFacts;
use crate::capture::recorder::{FailedExchange, Recorder};
use crate::capture::recording::Recording;
use crate::config::Timeouts;
use crate::credentials::{ApiKeyId, CredentialId};
use crate::http1::head::{HeadError, ResponseHead};
use crate::http1::interim::InterimAllowance;
use crate::io::clock;
use crate::io::{Deadline, Turns};
use crate::observability::{Count, Ending, ExchangeId, ExchangeRecord, StatusClass, UsageRecord};
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::table::ErrorRow;
use crate::proxy::key_accounts::parallel::ParallelPlace;
use crate::proxy::reply_shape::ReplyShape;
use crate::proxy::resources::Resources;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::sse::tracker::StreamedText;
use crate::usage::cost::Usd;
use crate::usage::models::ModelRef;
use crate::usage::tokens::TokenCounts;

/// Time that an answer may still take to begin when the upstream has stopped taking the request: one that refuses an
/// upload early has sent its answer already.
const EARLY_ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// One exchange until its line in the log.
pub struct Exchange {
    pub id: ExchangeId,
    pub began: Instant,
    pub snapshot: Rc<Snapshot>,
    /// The form of its answer, once the head of the request was read.
    pub reply: ReplyShape,
    pub key: Option<ApiKeyId>,
    /// Of the last attempt.
    pub credential: Option<CredentialId>,
    pub attempts: u32,
    pub request_bytes: u64,
    pub ending: Ending,
    /// The row of the error that it was answered with.
    pub error: Option<&'static ErrorRow>,
    pub progress: Progress,
    /// Its place among the requests of its key that are under way; free again with the end.
    pub place: Option<ParallelPlace>,
}

impl Exchange {
    pub fn begin(resources: &Resources, snapshot: Rc<Snapshot>, sequence: u64, downstream: &mut Downstream) -> Self {
        downstream.method.clear();
        downstream.path.clear();
        let id = ExchangeId { shard: resources.shard, sequence };
        downstream.trail.ids.begin(resources.id_seed, id);
        let began = clock::now();
        if resources.recorder.is_some() {
            downstream.trail.recording = Some(Rc::new(Recording::begin(began)));
        }
        resources.activity.exchange_begins();
        Exchange {
            id,
            began,
            snapshot,
            reply: ReplyShape::UNKNOWN,
            key: None,
            credential: None,
            attempts: 0,
            request_bytes: 0,
            ending: Ending::Ok,
            error: None,
            progress: Progress::default(),
            place: None,
        }
    }

    /// Counts it and writes its line in the log, with its `usage`. Nothing that was noted of it stays with the connection.
    pub fn end(self, resources: &Resources, downstream: &mut Downstream, usage: Option<UsageRecord<'_>>) {
        resources.activity.exchange_ends();
        if self.progress.token_was_seen.get() {
            resources.activity.counters.add(Count::TokensSeen);
            tracing::warn!(id = %self.id, "the upstream sent the gateway's token back; its client did not get it");
        }
        let Exchange { id, began, snapshot, key, credential, attempts, request_bytes, ending, error, progress, .. } =
            self;
        let ended = clock::read();
        let record = ExchangeRecord {
            id,
            request_id: downstream.trail.ids.request_id(),
            trace_id: downstream.trail.ids.trace_id(),
            method: or_dash(&downstream.method),
            path: or_dash(&downstream.path),
            status: progress.status.get(),
            credential: credential.map(|credential| snapshot.name(credential)),
            key: key.and_then(|key| snapshot.key_name(key)),
            attempts,
            first_byte: progress.first_byte.get().map(|at| at - began),
            duration: ended.saturating_duration_since(began),
            request_bytes,
            response_bytes: progress.response_bytes.get(),
            ending,
            error_code: error.map(|row| row.code),
            usage,
        };
        let account = credential.map_or(resources.ledger.local(), |credential| snapshot.account(credential));
        account.add(resources.shard, StatusClass::of(record.status));
        resources.activity.tally.exchange(&record, attempts > 0);
        resources.past.note(&record, ended);
        record.log();
        if let Some(recorder) = &resources.recorder {
            keep_failed(recorder, &record, &snapshot, downstream.trail.recording.as_deref());
            // Prompt and answer: an idle connection has no use for them.
            downstream.trail.recording = None;
        }
    }
}

/// Keeps an exchange that has failed: one with an error for an answer, or whose answer was broken.
fn keep_failed(recorder: &Recorder, record: &ExchangeRecord<'_>, snapshot: &Snapshot, recording: Option<&Recording>) {
    let is_broken = !matches!(record.ending, Ending::Ok | Ending::ClientDisconnected);
    let Some(recording) = recording else { return };
    if is_broken || record.status.is_some_and(|status| status >= 400) {
        recorder.keep(Box::new(FailedExchange {
            facts: ExchangeFacts::of(record),
            notes: recording.take(),
            credentials: snapshot.credentials.clone(),
            api_keys: snapshot.keys.clone(),
        }));
    }
}

/// Stands in the log for a method or path that could not be read.
fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Progress of an exchange, shared by its two directions and its line in the log.
#[derive(Debug, Default)]
pub struct Progress {
    /// The time by which the response head must be there; unknown while the request is being sent.
    head_due: Cell<Option<Instant>>,
    request_is_whole: Cell<bool>,
    turn_was_written: Cell<bool>,
    pub status: Cell<Option<u16>>,
    pub first_byte: Cell<Option<Instant>>,
    pub response_bytes: Cell<u64>,
    /// For all attempts together.
    interim: Cell<InterimAllowance>,
    token_was_seen: Cell<bool>,
    pub usage: UsageProgress,
    pub turns: Turns,
}

/// The usage of an exchange, as far as its answer has come; of a tunnel the sums of its answers.
#[derive(Debug, Default)]
pub struct UsageProgress {
    /// A successful answer goes downstream, or has.
    pub has_answer: Cell<bool>,
    /// The model that the request names.
    pub request_model: RefCell<Option<ModelRef>>,
    /// The model that the answer names.
    pub answer_model: RefCell<Option<ModelRef>>,
    /// The tokens that the answer told, if it came to its end.
    pub tokens: Cell<Option<TokenCounts>>,
    /// The cost that the answer told.
    pub cost: Cell<Option<Usd>>,
    /// A part of it was estimated: of a tunnel alone.
    pub has_estimate: Cell<bool>,
    /// The text that came in events; `None` of an answer whose events are not read for it.
    pub text: Cell<Option<StreamedText>>,
}

impl UsageProgress {
    /// Notes that an answer of this class begins, whose head tells this cost.
    pub fn begin_answer(&self, class: AttemptClass, cost: Option<Usd>) {
        if class == AttemptClass::Succeeded {
            self.has_answer.set(true);
            self.cost.set(cost);
        }
    }
}

impl Progress {
    /// Forgets what the attempt before has told.
    pub fn begin_attempt(&self) {
        self.head_due.set(None);
        self.request_is_whole.set(false);
        self.turn_was_written.set(false);
    }

    /// Notes that the last request byte is written.
    pub fn request_was_sent(&self, timeouts: &Timeouts) {
        self.request_is_whole.set(true);
        self.head_due.set(Some(clock::now() + timeouts.client));
    }

    /// Notes that the upstream takes no more of the request.
    pub fn request_was_cut(&self) {
        self.head_due.set(Some(clock::now() + EARLY_ANSWER_LIMIT));
    }

    pub fn request_is_whole(&self) -> bool {
        self.request_is_whole.get()
    }

    /// Accounts for an interim answer; see [`InterimAllowance::admit`].
    pub fn admit_interim(&self, head: &ResponseHead<'_>, head_bytes: usize) -> Result<(), HeadError> {
        let mut allowance = self.interim.get();
        let admitted = allowance.admit(head, head_bytes);
        self.interim.set(allowance);
        admitted
    }

    /// Notes that a final answer of this status begins to go downstream.
    pub fn answer_begins(&self, status: u16) {
        self.status.set(Some(status));
        if self.first_byte.get().is_none() {
            self.first_byte.set(Some(clock::read()));
        }
    }

    /// Tells whether anything of the final answer went downstream.
    pub fn has_begun_answer(&self) -> bool {
        self.first_byte.get().is_some()
    }

    /// Notes whether what was written of an event stream ends its turn: its client may leave from then on, whatever
    /// follows.
    pub fn note_turn(&self, was_written: bool) {
        if was_written {
            self.turn_was_written.set(true);
        }
    }

    pub fn turn_was_written(&self) -> bool {
        self.turn_was_written.get()
    }

    /// Notes whether the upstream was seen to send the token back.
    pub fn note_token_seen(&self, was_seen: bool) {
        if was_seen {
            self.token_was_seen.set(true);
        }
    }

    pub fn token_was_seen(&self) -> bool {
        self.token_was_seen.get()
    }

    /// Resolves when the response head is overdue.
    pub async fn head_is_overdue(&self, deadline: &Deadline) {
        // No waker is left: the upload, which sets the time, is polled by the same task just before.
        let due = poll_fn(|_| self.head_due.get().map_or(Poll::Pending, Poll::Ready)).await;
        deadline.reached(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_turn_that_was_written_stays_so_until_the_next_attempt() {
        let progress = Progress::default();
        progress.note_turn(false);
        assert!(!progress.turn_was_written());
        progress.note_turn(true);
        progress.note_turn(false);
        assert!(progress.turn_was_written());
        progress.begin_attempt();
        assert!(!progress.turn_was_written());
    }
}
