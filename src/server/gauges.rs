//! The gauges of a running gateway, for the fuzz target that looks whether each exchange leaves nothing behind.
//!
//! They are read at once, where the pages of metrics wait for a shard as long as a timer takes. Only with the feature
//! `fuzz`.

use std::fmt;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::shard::shared::Shared;
use super::supervisor::Supervisor;
use super::supervisor::control::Order;
use crate::observability::Activity;

/// The figures of a running gateway: everything that is open or under way.
#[derive(Clone)]
pub struct Gauges {
    shared: Arc<Shared>,
    shards: Vec<(Weak<UnixStream>, Arc<Activity>)>,
}

/// The values of one moment; of a gateway at rest all are 0, but for what shards keep of [`Busy::replay_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Busy {
    pub downstream_connections: usize,
    pub exchanges: usize,
    pub streams: usize,
    pub tunnels: usize,
    /// The places of keys with a limit on parallel requests, those that are taken and those waited for.
    pub key_places: u32,
    pub probe_waiters: usize,
    /// Bytes for second attempts that shards have taken, used or not.
    pub replay_bytes: usize,
}

/// An answer that the shards owe.
pub struct Question(Vec<u64>);

impl Gauges {
    pub(super) fn of(shared: &Arc<Shared>, supervisor: &Supervisor) -> Self {
        Gauges { shared: shared.clone(), shards: supervisor.members() }
    }

    /// Asks every shard for its figures. Only for one thread, and where nobody asks for the pages of the gateway.
    pub fn ask(&self) -> Question {
        let ask = |(control, activity): &(Weak<UnixStream>, Arc<Activity>)| {
            let question = activity.pulse.ask();
            if let Some(control) = control.upgrade() {
                // A shard that reads nothing will not answer either.
                let _ = (&*control).write_all(&[Order::Answer as u8]);
            }
            question
        };
        Question(self.shards.iter().map(ask).collect())
    }

    pub fn have_answered(&self, question: &Question) -> bool {
        let mut shards = self.shards.iter().zip(&question.0);
        shards.all(|((_, activity), question)| activity.pulse.has_answered(*question))
    }

    /// Returns the idle connections to the upstream, as the shards answered last.
    pub fn idle_upstream(&self) -> usize {
        self.sum(Activity::idle_upstream)
    }

    pub fn busy(&self) -> Busy {
        let mut key_places = 0;
        self.shared.key_accounts.read(|_, account| {
            let (taken, waiting) = account.parallel.counts();
            key_places += taken + waiting;
        });
        let replay_total = self.shared.config.limits.replay_total_bytes_max;
        Busy {
            downstream_connections: self.shared.places.taken_count(),
            exchanges: self.sum(Activity::open_exchanges),
            streams: self.sum(Activity::open_streams),
            tunnels: self.sum(Activity::open_tunnels),
            key_places,
            probe_waiters: self.shared.probe_waiters.load(Ordering::Relaxed),
            replay_bytes: replay_total.saturating_sub(self.shared.replay_free.load(Ordering::Relaxed)),
        }
    }

    fn sum(&self, of_shard: fn(&Activity) -> usize) -> usize {
        self.shards.iter().map(|(_, activity)| of_shard(activity)).sum()
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.busy().fmt(formatter)
    }
}
