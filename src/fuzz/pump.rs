//! Open answers in the pump of a shard, between an upstream and a client of which every step is told.
//!
//! The sockets are pairs of Unix sockets, which the pump does not tell from TCP: what one side has sent the other can
//! read at once, so that an input has one result. The runtime has epoll, so that it is there on every machine.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use socket2::SockRef;

use super::sockets::{SocketRuntime, pair, stream};
use crate::config::{Limits, Pumping, Timeouts};
use crate::credentials::{Rotations, TokenTraces, from_json};
use crate::http1::head::{Version, with_response};
use crate::io::epoll::{Epoll, Events};
use crate::io::{Buffer, Lifecycle, Phase, RemoteWaits, Stream};
use crate::observability::{Activity, Ledger, PastExchanges};
use crate::proxy::attempt::held::PendingAnswer;
use crate::proxy::downstream::Downstream;
use crate::proxy::exchange::Exchange;
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::reply_shape::ReplyShape;
use crate::proxy::resources::Resources;
use crate::proxy::resources::checks::ChecksUnderWay;
use crate::proxy::resources::overload::Overload;
use crate::proxy::resources::prices::Prices;
use crate::proxy::resources::retry_share::RetryShare;
use crate::proxy::resources::warm::WarmConnections;
use crate::proxy::response::body::BodyRelay;
use crate::proxy::response::head::{ResponseFacts, examine};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::stream::entry::Streaming;
use crate::proxy::stream::open_exchange::{LeftStream, OpenExchange, Pumped};
use crate::proxy::stream::rest::relay_rest;
use crate::proxy::stream::table::StreamTable;
use crate::upstream::tls::session::Session;
use crate::upstream::{Connection, Connector, Pool, Resolver, Route};

pub use crate::observability::Ending;

/// Room in the sockets to clients, so small that an answer of some kilobytes fills it.
const CLIENT_ROOM_BYTES: usize = 4 * 1024;
/// Room for what is left of an answer after the pump: all of it.
const REST_ROOM_BYTES: usize = 4 * 1024 * 1024;

/// The turns after which an answer must have left the pump, once its upstream has ended and its client takes all.
const TURNS_MAX: usize = 10_000;

/// An answer whose head has gone downstream.
pub struct PumpedAnswer<'a> {
    /// The upstream's.
    pub head: Vec<u8>,
    /// Of the request.
    pub path: &'a str,
    pub is_for_http10: bool,
    /// The session with the upstream after its handshake, and what came with that.
    pub tls: Option<(Session, Buffer)>,
}

/// A step of one of the answers, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PumpStep<'a> {
    /// The upstream sends these bytes, as far as its socket takes them.
    Send(usize, &'a [u8]),
    /// The upstream sends no more.
    End(usize),
    /// The upstream resets the connection. What it has sent before can still be read.
    Reset(usize),
    /// The client takes so many bytes at most.
    Take(usize, usize),
    /// The client leaves.
    Leave(usize),
    /// The pump has a turn.
    Turn,
}

/// The end of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerEnd {
    /// The bytes that the upstream's socket has taken.
    pub sent_bytes: usize,
    /// All that the client has received; of one that has left, what it had taken before.
    pub received: Vec<u8>,
    pub outcome: AnswerOutcome,
    /// The upstream's connection may serve another exchange.
    pub upstream_is_reusable: bool,
    /// The content that is said to have gone downstream.
    pub response_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerOutcome {
    Answered { ending: Ending, keep_alive: bool },
    Aborted { ending: Ending, needs_reset: bool },
    Failed,
}

/// The parts of a shard that the answers of one thread share.
struct FuzzedShard {
    runtime: SocketRuntime,
    resources: Resources,
    snapshot: Rc<Snapshot>,
}

thread_local! {
    // For as long as the process, as its runtime.
    static SHARD: &'static FuzzedShard = Box::leak(Box::new(FuzzedShard::start()));
}

/// Relays these answers in one pump, step by step. After the last step each upstream ends, and each client takes all that
/// comes.
pub fn pump(answers: Vec<PumpedAnswer<'_>>, steps: &[PumpStep<'_>]) -> Vec<AnswerEnd> {
    SHARD.with(|shard| {
        let FuzzedShard { runtime, resources, snapshot } = shard;
        runtime.block_on(async {
            let mut relay = Relay::begin(answers, resources, snapshot);
            steps.iter().for_each(|step| relay.take(*step));
            relay.end(resources).await
        })
    })
}

impl FuzzedShard {
    fn start() -> Self {
        let runtime = SocketRuntime::start();
        let secrets = from_json(r#"[{"clientId":"id","clientSecret":"s","tenant":"t"}]"#).expect("valid");
        let credentials = Arc::new(secrets.credentials);
        let ledger = Arc::new(Ledger::new(1));
        ledger.open(credentials.names());
        let resources = resources(ledger);
        let rotations = Arc::new(Rotations::new(credentials, None));
        let snapshot = Rc::new(Snapshot::new(rotations, &resources.ledger, &resources.key_accounts));
        FuzzedShard { runtime, resources, snapshot }
    }
}

fn resources(ledger: Arc<Ledger>) -> Resources {
    let (timeouts, limits) = (Timeouts::default(), Limits::default());
    let (lifecycle, activity) = (Rc::new(Lifecycle::default()), Arc::new(Activity::default()));
    lifecycle.advance(Phase::Serving);
    let route = Route { resolver: Resolver::fixed(Vec::new()), tunnel: None, tls: None };
    let connector = Rc::new(Connector::new(route, limits.pending_connects_max));
    let pool = Rc::new(Pool::new(timeouts.upstream_idle, limits.idle_upstream_max));
    let warm = WarmConnections::new(&timeouts, &limits, &connector, &pool, &lifecycle, &activity);
    let replay_free = Arc::new(AtomicUsize::new(limits.replay_total_bytes_max));
    Resources {
        shard: 0,
        id_seed: 0,
        rules: super::rules("/flow-llm-proxy"),
        timeouts,
        limits,
        pumping: Pumping::Always,
        owners: Arc::default(),
        key_accounts: Arc::default(),
        connector,
        pool,
        warm: Rc::new(warm),
        budget: ReplayBudget::new(replay_free, limits.replay_total_bytes_max, 1),
        share: RetryShare::new(1),
        overload: Rc::new(Overload::new(0)),
        checks: ChecksUnderWay::default(),
        upgrades: Arc::default(),
        prices: Arc::new(Prices::fixed(None)),
        quota: None,
        probe_waiters: Arc::default(),
        remote_waits: RemoteWaits::open().expect("a descriptor"),
        lifecycle,
        activity,
        ledger,
        past: PastExchanges::new(),
        usage: None,
        recorder: None,
    }
}

/// Answers in a pump. The number of each is what its owner keeps with it.
struct Relay {
    /// Waits on the set of `table`, which is closed with it.
    _events: Events,
    table: StreamTable<usize>,
    sides: Vec<Sides>,
    left: Vec<LeftStream<usize>>,
}

/// The other ends of the sockets of one answer.
struct Sides {
    upstream: Option<UnixStream>,
    client: Option<UnixStream>,
    /// The pump's end towards the client.
    to_client: UnixStream,
    sent_bytes: usize,
    received: Vec<u8>,
}

impl Relay {
    fn begin(answers: Vec<PumpedAnswer<'_>>, resources: &Resources, snapshot: &Rc<Snapshot>) -> Self {
        let (epoll, events) = Epoll::open().expect("a set");
        let mut relay = Relay { _events: events, table: StreamTable::new(epoll), sides: Vec::new(), left: Vec::new() };
        for (number, mut answer) in answers.into_iter().enumerate() {
            let (mut from_upstream, upstream) = pair();
            let (to_client, client) = pair();
            SockRef::from(&to_client).set_send_buffer_size(CLIENT_ROOM_BYTES).expect("room");
            // Unread, so that a close of the other end is a reset.
            from_upstream.write_all(b"?").expect("room");
            let sides = Sides {
                upstream: Some(upstream),
                client: Some(client),
                to_client: to_client.try_clone().expect("a descriptor"),
                sent_bytes: 0,
                received: Vec::new(),
            };
            relay.sides.push(sides);
            let (session, received) = answer.tls.take().unzip();
            let connection = Connection::new(stream(from_upstream), session, received.unwrap_or(Buffer::none()));
            let streaming = open(&answer, connection, stream(to_client), number, resources, snapshot);
            let inserted = relay.table.insert(Box::new(streaming), Instant::now());
            assert!(inserted.is_ok(), "its sockets are watched");
        }
        relay
    }

    fn take(&mut self, step: PumpStep<'_>) {
        match step {
            PumpStep::Send(number, bytes) => {
                let Sides { upstream: Some(upstream), sent_bytes, .. } = &mut self.sides[number] else { return };
                match upstream.write(bytes) {
                    Ok(count) => *sent_bytes += count,
                    // It has no room, or nobody reads it any more.
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe), "{error}");
                    }
                }
            }
            PumpStep::End(number) => {
                if let Some(upstream) = &mut self.sides[number].upstream {
                    // What it was sent is read first, so that its close is no reset.
                    let _ = upstream.read(&mut [0]);
                    let _ = upstream.shutdown(Shutdown::Write);
                }
            }
            PumpStep::Reset(number) => self.sides[number].upstream = None,
            PumpStep::Take(number, count) => self.sides[number].receive(count),
            PumpStep::Leave(number) => self.sides[number].client = None,
            PumpStep::Turn => {
                self.table.turn(&mut self.left);
            }
        }
    }

    async fn end(mut self, resources: &Resources) -> Vec<AnswerEnd> {
        for number in 0..self.sides.len() {
            self.take(PumpStep::End(number));
        }
        let mut turns = 0;
        while self.table.entries_count() > 0 {
            turns += 1;
            assert!(turns < TURNS_MAX, "an answer whose upstream has ended stays in the pump");
            self.table.turn(&mut self.left);
            self.sides.iter_mut().for_each(|sides| sides.receive(usize::MAX));
        }
        self.left.sort_by_key(|left| left.owner);
        assert!(self.left.iter().map(|left| left.owner).eq(0..self.sides.len()), "each leaves once");
        let mut ends = Vec::new();
        for (left, mut sides) in self.left.into_iter().zip(self.sides) {
            sides.receive(usize::MAX);
            SockRef::from(&sides.to_client).set_send_buffer_size(REST_ROOM_BYTES).expect("room");
            let LeftStream { downstream, pumped: Pumped { mut open, unsent, left }, .. } = left;
            let over = relay_rest(resources, &downstream, &mut open, unsent, left).await;
            sides.receive(usize::MAX);
            ends.push(AnswerEnd {
                sent_bytes: sides.sent_bytes,
                received: sides.received,
                outcome: AnswerOutcome::of(&over.outcome),
                upstream_is_reusable: over.upstream_is_reusable,
                response_bytes: open.exchange.progress.response_bytes.get(),
            });
        }
        ends
    }
}

impl Sides {
    /// Takes so many bytes at most, of what is there.
    fn receive(&mut self, count: usize) {
        let Some(client) = &mut self.client else { return };
        let mut buffer = [0; 4096];
        let mut left = count;
        while left > 0 {
            let room = left.min(buffer.len());
            match client.read(&mut buffer[..room]) {
                Ok(count) if count > 0 => {
                    self.received.extend_from_slice(&buffer[..count]);
                    left -= count;
                }
                _ => return,
            }
        }
    }
}

impl AnswerOutcome {
    fn of(outcome: &Outcome) -> Self {
        match *outcome {
            Outcome::Answered { ending, keep_alive } => AnswerOutcome::Answered { ending, keep_alive },
            Outcome::Aborted { ending, needs_reset } => AnswerOutcome::Aborted { ending, needs_reset },
            Outcome::Failed(_) => AnswerOutcome::Failed,
        }
    }
}

/// Makes an exchange that has come so far that the pump may have it.
fn open(
    answer: &PumpedAnswer<'_>,
    connection: Connection,
    client: Stream,
    number: usize,
    resources: &Resources,
    snapshot: &Rc<Snapshot>,
) -> Streaming<usize> {
    let version = if answer.is_for_http10 { Version::Http10 } else { Version::Http11 };
    let facts: ResponseFacts =
        with_response(&answer.head, |head| examine(head, false).expect("a valid answer")).expect("a valid head");
    let keep_alive = !facts.is_close_delimited_for(version);
    let mut downstream = Downstream::new(client, None);
    let mut exchange = Exchange::begin(resources, snapshot.clone(), number as u64, &mut downstream);
    exchange.reply = ReplyShape { version, keep_alive: true, ..ReplyShape::UNKNOWN };
    exchange.progress.request_was_sent(&resources.timeouts);
    exchange.progress.answer_begins(facts.status);
    downstream.path.push_str(answer.path);
    let body = BodyRelay::new(&facts, version, Buffer::none(), Rc::new(TokenTraces::none()));
    let answer = PendingAnswer::new(facts, keep_alive, body);
    Streaming::new(OpenExchange { connection, answer, exchange }, downstream, number)
}
