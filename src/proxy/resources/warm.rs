//! Connections to the upstream that are opened before a request needs them.
//!
//! An idle connection lasts for seconds and people think for longer, so that the next request would wait for TCP and
//! TLS. A shard that forwards requests therefore looks into its pool now and then, and opens a connection where none
//! is ready or the last one is about to come of age. Invariant: at most one is being opened at a time, within the
//! limit on connects and the pool's bound, and none once the drain has begun; nobody waits for one, and one that cannot
//! be opened is nobody's failure.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Limits, Timeouts};
use crate::io::{Deadline, Lifecycle, Phase, pause, race};
use crate::observability::{Activity, Count};
use crate::upstream::{Connection, Connector, Pool};

/// Time for which connections are kept ready after a request: people who take longer over an answer can wait for a
/// handshake.
const USED_WITHIN: Duration = Duration::from_secs(300);

/// The time before its end at which a connection no longer counts as ready: enough for a handshake across a continent
/// and the wait for the next look, so that there is no gap between one and the next.
const LEAD_MAX: Duration = Duration::from_secs(1);

/// Shorter rests are for tests, or for an upstream that wants no idle connections.
const IDLE_LIMIT_MIN: Duration = Duration::from_secs(1);

/// The part of the idle limit for which one of these rests at least. The rest of it is drawn, so that shards which
/// were used together do not all shake hands together for minutes.
const REST_MIN: f64 = 0.9;

/// Back-off after failures: at most so many doublings of the shortest, which is a minute.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_DOUBLINGS_MAX: u32 = 6;
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Keeps one shard's connections ready.
pub struct WarmConnections {
    connector: Rc<Connector>,
    pool: Rc<Pool>,
    lifecycle: Rc<Lifecycle>,
    activity: Arc<Activity>,
    wanted: usize,
    connect_limit: Duration,
    idle_limit: Duration,
    lead: Duration,
    /// A request was forwarded since the last look.
    was_used: Cell<bool>,
    is_running: Cell<bool>,
}

impl WarmConnections {
    pub fn new(
        timeouts: &Timeouts,
        limits: &Limits,
        connector: &Rc<Connector>,
        pool: &Rc<Pool>,
        lifecycle: &Rc<Lifecycle>,
        activity: &Arc<Activity>,
    ) -> Self {
        let idle_limit = timeouts.upstream_idle;
        let wanted = if idle_limit < IDLE_LIMIT_MIN { 0 } else { limits.warm_connections };
        WarmConnections {
            connector: connector.clone(),
            pool: pool.clone(),
            lifecycle: lifecycle.clone(),
            activity: activity.clone(),
            wanted: wanted.min(limits.idle_upstream_max),
            connect_limit: timeouts.connect,
            idle_limit,
            lead: (idle_limit / 4).min(LEAD_MAX),
            was_used: Cell::new(false),
            is_running: Cell::new(false),
        }
    }

    /// Notes that a request is forwarded: for a while there will be a connection for the next one.
    pub fn note_request(self: &Rc<Self>) {
        self.was_used.set(true);
        if self.wanted > 0 && !self.is_running.get() && self.lifecycle.phase() == Phase::Serving {
            self.is_running.set(true);
            monoio::spawn(self.clone().run());
        }
    }

    async fn run(self: Rc<Self>) {
        // The drain first: a connection that is open just when it begins is dropped.
        race(self.lifecycle.reached(Phase::Draining), self.keep_ready()).await;
        self.is_running.set(false);
    }

    /// Looks after the pool until the shard has not been used for [`USED_WITHIN`].
    async fn keep_ready(&self) {
        let mut schedule = WarmSchedule::new(Instant::now());
        loop {
            pause(schedule.pause_before_look(self.lead, fastrand::f64())).await;
            let now = Instant::now();
            if self.was_used.take() {
                schedule.note_request(now);
            }
            let ready = self.pool.ready_count(self.wanted, self.lead);
            // After the count, which finds those that were closed: else the next one would be opened at once.
            if self.pool.take_warm_failure() {
                schedule.note_failure(now, fastrand::f64());
            }
            match schedule.next(now, ready, self.wanted) {
                WarmStep::Nothing => {}
                WarmStep::Open => match self.open().await {
                    Some(connection) => {
                        schedule.note_opened();
                        self.activity.counters.add(Count::UpstreamWarmOpened);
                        let rest = self.idle_limit.mul_f64(REST_MIN + (1.0 - REST_MIN) * fastrand::f64());
                        self.pool.add_warm(connection, rest);
                    }
                    None => schedule.note_failure(Instant::now(), fastrand::f64()),
                },
                WarmStep::End => return,
            }
        }
    }

    async fn open(&self) -> Option<Connection> {
        let deadline = Deadline::default();
        match deadline.within(self.connect_limit, self.connector.connect()).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => tracing::debug!(%error, "no connection to the upstream could be opened in advance"),
            Err(_) => {
                self.connector.distrust_addresses();
                tracing::debug!("opening a connection to the upstream in advance took too long");
            }
        }
        None
    }
}

/// The consequence of a look into the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WarmStep {
    Nothing,
    Open,
    /// Nobody has used the shard for a while.
    End,
}

/// The times of one shard: when connections are looked for, and when one may be opened.
#[derive(Debug)]
struct WarmSchedule {
    last_request: Instant,
    /// Failures in a row.
    failures: u32,
    not_before: Instant,
    /// Nothing has failed since one was opened.
    has_lasted: bool,
    is_short_of: bool,
}

impl WarmSchedule {
    fn new(now: Instant) -> Self {
        WarmSchedule { last_request: now, failures: 0, not_before: now, has_lasted: false, is_short_of: false }
    }

    fn note_request(&mut self, now: Instant) {
        self.last_request = now;
    }

    /// Notes that none could be opened, or that one did not last; `dice` is random, from 0 to 1.
    fn note_failure(&mut self, now: Instant, dice: f64) {
        let doubled = BACK_OFF_MIN * 2_u32.pow(self.failures.min(BACK_OFF_DOUBLINGS_MAX));
        self.not_before = now + doubled.min(BACK_OFF_MAX).mul_f64(1.0 + dice / 4.0);
        self.failures = self.failures.saturating_add(1);
        self.has_lasted = false;
    }

    /// Notes that one was opened. The one before it was good if nothing has failed since: failures are then forgotten.
    fn note_opened(&mut self) {
        if self.has_lasted {
            self.failures = 0;
        }
        self.has_lasted = true;
    }

    fn next(&mut self, now: Instant, ready: usize, wanted: usize) -> WarmStep {
        if now.saturating_duration_since(self.last_request) >= USED_WITHIN {
            return WarmStep::End;
        }
        let is_short = ready < wanted;
        // Where several are wanted and nothing speaks against it, they need not wait for a look each.
        self.is_short_of = is_short && ready + 1 < wanted && self.failures == 0;
        if is_short && now >= self.not_before { WarmStep::Open } else { WarmStep::Nothing }
    }

    /// Returns the time until the next look, so short that a connection which is no longer ready then is replaced
    /// before its end; `dice` is random, from 0 to 1.
    fn pause_before_look(&self, lead: Duration, dice: f64) -> Duration {
        let longest = if self.is_short_of { lead / 16 } else { lead / 2 };
        longest.mul_f64(0.5 + dice / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: Duration = Duration::from_secs(1);

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn one_is_opened_where_none_is_ready_for_five_minutes_after_a_request() {
        let start = Instant::now();
        let mut schedule = WarmSchedule::new(start);
        assert_eq!(schedule.next(start, 0, 1), WarmStep::Open);
        assert_eq!(schedule.next(start, 1, 1), WarmStep::Nothing);
        assert_eq!(schedule.next(start, 2, 1), WarmStep::Nothing);
        assert_eq!(schedule.next(after(start, 299.9), 0, 1), WarmStep::Open);
        assert_eq!(schedule.next(after(start, 300.0), 0, 1), WarmStep::End);
        assert_eq!(schedule.next(after(start, 300.0), 1, 1), WarmStep::End);
        schedule.note_request(after(start, 299.0));
        assert_eq!(schedule.next(after(start, 598.9), 0, 1), WarmStep::Open);
        assert_eq!(schedule.next(after(start, 599.0), 0, 1), WarmStep::End);
    }

    #[test]
    fn after_failures_the_next_one_waits_for_longer_and_longer_up_to_a_minute() {
        let start = Instant::now();
        let mut schedule = WarmSchedule::new(start);
        for (dice, seconds) in
            [(0.0, 1.0), (1.0, 2.5), (0.0, 4.0), (0.0, 8.0), (0.0, 16.0), (0.0, 32.0), (0.0, 60.0), (1.0, 75.0)]
        {
            // One that was opened and did not last is a failure too.
            schedule.note_opened();
            schedule.note_failure(start, dice);
            assert_eq!(schedule.next(after(start, seconds - 0.1), 0, 1), WarmStep::Nothing, "{seconds}");
            assert_eq!(schedule.next(after(start, seconds), 0, 1), WarmStep::Open, "{seconds}");
        }
        (0..100).for_each(|_| schedule.note_failure(start, 0.0));
        assert_eq!(schedule.next(after(start, 60.0), 0, 1), WarmStep::Open);
    }

    #[test]
    fn failures_are_forgotten_once_a_connection_has_lasted() {
        let start = Instant::now();
        let mut schedule = WarmSchedule::new(start);
        (0..5).for_each(|_| schedule.note_failure(start, 0.0));
        schedule.note_opened();
        assert_eq!(schedule.failures, 5, "whether it lasts is not known yet");
        schedule.note_opened();
        schedule.note_failure(start, 0.0);
        assert_eq!(schedule.next(after(start, 1.0), 0, 1), WarmStep::Open);
    }

    #[test]
    fn the_next_look_comes_in_time_for_a_handshake_and_sooner_where_several_are_missing() {
        let start = Instant::now();
        let mut schedule = WarmSchedule::new(start);
        let pauses =
            |schedule: &WarmSchedule| [0.0, 1.0].map(|dice| schedule.pause_before_look(LEAD, dice).as_secs_f64());
        schedule.next(start, 0, 1);
        assert_eq!(pauses(&schedule), [0.25, 0.5]);
        schedule.next(start, 1, 3);
        assert_eq!(pauses(&schedule), [0.031_25, 0.062_5]);
        schedule.next(start, 2, 3);
        assert_eq!(pauses(&schedule), [0.25, 0.5]);
        schedule.note_failure(start, 0.0);
        schedule.next(start, 0, 3);
        assert_eq!(pauses(&schedule), [0.25, 0.5], "one at a time while they fail");
    }
}
