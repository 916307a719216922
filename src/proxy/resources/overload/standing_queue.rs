//! The decision that requests wait too long: pure, fed with the wait of each request and asked for a verdict on it.
//!
//! The criterion is that of CoDel (RFC 8289 §4): a queue stands if for a whole [`INTERVAL`] everybody in it has waited
//! longer than [`TARGET`]. A burst, however large, is no such queue unless its work alone takes that long, and neither is
//! what a stopped or starved process finds when it goes on. Invariant: nobody is refused who
//! waits for less than the target, nor before everybody in an interval has waited longer; and not everybody for ever.

use std::time::{Duration, Instant};

/// The wait that is too long where it lasts. A refusal costs a client more than that: it waits for a second, as it is
/// told to, and some clients do not try again at all. Answers take seconds to their first byte, and nobody notices half
/// a one more; a machine that is merely busy, with neighbours, a build, or a quota that is used up in each period
/// (100 ms), makes requests wait for some tenths of one, and serves them all. Much longer would be too late: clients
/// give up after seconds, and what is done for those that have is done for nobody.
pub const TARGET: Duration = Duration::from_millis(500);

/// The time after which a wait lasts, and after which it is over.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The time for which all that have waited too long are refused, and for which they are then served if nobody else is to
/// be, and so on until one has not. A refusal may cost as much as half a request, so that there is a load at which a
/// shard that refuses all that have waited would serve nobody.
const PHASE: Duration = Duration::from_millis(100);

/// A request may seem to have arrived so much earlier than it has: the kernel counts in ticks of up to 10 ms, and what
/// it counts from is not what it counts to.
const ARRIVAL_GRAIN: Duration = Duration::from_millis(20);

/// A queue of requests; see the module.
#[derive(Debug, Clone, Copy, Default)]
pub enum StandingQueue {
    /// The last request has not waited for long.
    #[default]
    Short,
    /// All since `since` have waited too long; the last of them until `last`.
    Suspected { since: Instant, last: Instant },
    /// Those that wait too long are refused. `late`: the last time at which one had; `run`: the time since which all
    /// have.
    Standing { late: Instant, run: Option<Instant> },
}

/// The time that a request waits in the shard's queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestWait {
    /// Until now.
    pub past: Duration,
    /// From now on: as long as another has waited that is before it.
    pub coming: Duration,
}

/// The fate of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Serve,
    Refuse,
}

impl StandingQueue {
    /// Judges a request that is served from `now` on, or not at all.
    pub fn judge(&mut self, now: Instant, RequestWait { past, coming }: RequestWait) -> Judgement {
        let longest = past.max(coming);
        if longest <= TARGET {
            match self {
                StandingQueue::Standing { run, .. } => *run = None,
                StandingQueue::Short | StandingQueue::Suspected { .. } => *self = StandingQueue::Short,
            }
            return Judgement::Serve;
        }
        let began = match *self {
            StandingQueue::Short => now,
            // Whoever came after the last one was served may have found nobody before it.
            StandingQueue::Suspected { last, .. }
                if now.checked_sub(longest).is_none_or(|came| came + ARRIVAL_GRAIN > last) =>
            {
                now
            }
            StandingQueue::Suspected { since, .. } => since,
            StandingQueue::Standing { run, .. } => return self.refuse(now, coming, run.unwrap_or(now)),
        };
        if now.saturating_duration_since(began) < INTERVAL {
            *self = StandingQueue::Suspected { since: began, last: now };
            return Judgement::Serve;
        }
        self.refuse(now, coming, now)
    }

    fn refuse(&mut self, now: Instant, coming: Duration, run: Instant) -> Judgement {
        *self = StandingQueue::Standing { late: now, run: Some(run) };
        let phase = now.saturating_duration_since(run).as_millis() / PHASE.as_millis();
        // Where others wait that were let in, there is somebody to serve.
        if coming > TARGET || phase.is_multiple_of(2) { Judgement::Refuse } else { Judgement::Serve }
    }

    /// Notes that somebody has waited too long and is not to be judged.
    pub fn note_late(&mut self, now: Instant) {
        if let StandingQueue::Standing { late, .. } = self {
            *late = now;
        }
    }

    pub fn is_standing(&self) -> bool {
        matches!(self, StandingQueue::Standing { .. })
    }

    pub fn is_short(&self) -> bool {
        matches!(self, StandingQueue::Short)
    }

    /// Ends the refusals if nobody has waited too long for an interval. Returns whether none are under way.
    pub fn ends(&mut self, now: Instant) -> bool {
        if let StandingQueue::Standing { late, .. } = *self
            && now.saturating_duration_since(late) >= INTERVAL
        {
            *self = StandingQueue::Short;
        }
        !self.is_standing()
    }
}

#[cfg(test)]
mod tests;
