//! The probe of the shards: each is ordered over its control socket to answer, and does so in its own memory.
//!
//! Invariant: a shard that reads nothing gets one order, so that those of the main thread still find room. The sockets
//! are the main thread's, and end with it.

use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::io::pause;
use crate::observability::Activity;
use crate::server::supervisor::control::Order;

/// The shortest pause between two looks at the answers: deadlines are coarser.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// The result of a probe of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardLiveness {
    Answers,
    /// It did not answer within the limit.
    Silent,
    /// It has drained.
    Ended,
}

impl ShardLiveness {
    pub fn as_str(self) -> &'static str {
        match self {
            ShardLiveness::Answers => "answers",
            ShardLiveness::Silent => "silent",
            ShardLiveness::Ended => "ended",
        }
    }
}

/// Probes all shards, from one thread.
pub struct LivenessProbe {
    members: Vec<Member>,
}

struct Member {
    control: Weak<UnixStream>,
    activity: Arc<Activity>,
    /// The newest question that was sent to the shard.
    sent: Cell<u64>,
}

impl LivenessProbe {
    pub fn of(members: impl Iterator<Item = (Weak<UnixStream>, Arc<Activity>)>) -> Self {
        let member = |(control, activity)| Member { control, activity, sent: Cell::new(0) };
        LivenessProbe { members: members.map(member).collect() }
    }

    /// Returns the activity of each shard, in their order.
    pub fn activities(&self) -> impl Iterator<Item = &Activity> + Clone {
        self.members.iter().map(|member| &*member.activity)
    }

    /// Asks all shards, and waits until the last has answered, for `limit` at most.
    pub async fn ask(&self, limit: Duration) -> Vec<ShardLiveness> {
        let due = Instant::now() + limit;
        let questions: Vec<u64> = self.members.iter().map(|member| member.activity.pulse.ask()).collect();
        loop {
            let liveness: Vec<ShardLiveness> =
                self.members.iter().zip(&questions).map(|(member, question)| member.liveness(*question)).collect();
            if !liveness.contains(&ShardLiveness::Silent) || Instant::now() >= due {
                return liveness;
            }
            pause(LOOK_PAUSE).await;
        }
    }
}

impl Member {
    fn liveness(&self, question: u64) -> ShardLiveness {
        let pulse = &self.activity.pulse;
        if pulse.has_answered(question) {
            return ShardLiveness::Answers;
        }
        if pulse.has_ended() {
            return ShardLiveness::Ended;
        }
        // It has read the order that was sent last, which may have been before this question.
        if pulse.has_answered(self.sent.get()) {
            self.send(question);
        }
        ShardLiveness::Silent
    }

    fn send(&self, question: u64) {
        if let Some(control) = self.control.upgrade()
            && (&*control).write_all(&[Order::Answer as u8]).is_ok()
        {
            self.sent.set(question);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::io::deadline::on_a_shard;
    use crate::server::supervisor::control::Shards;

    const LIMIT: Duration = Duration::from_millis(50);
    /// Longer than anything takes here, even on a busy machine.
    const ENOUGH: Duration = Duration::from_secs(30);

    #[test]
    fn a_shard_that_reads_nothing_is_silent_is_told_once_and_holds_up_no_other() {
        let mut shards = Shards::default();
        let (control, mut hanging) = UnixStream::pair().unwrap();
        shards.add(control, Arc::default()).unwrap();
        let (control, mut lively) = UnixStream::pair().unwrap();
        let activity = Arc::new(Activity::default());
        shards.add(control, activity.clone()).unwrap();
        let answering = thread::spawn(move || {
            let mut byte = [0];
            while lively.read(&mut byte).is_ok_and(|count| count == 1) {
                assert_eq!(Order::of_byte(byte[0]), Some(Order::Answer));
                activity.pulse.answer();
            }
        });
        let liveness_probe = LivenessProbe::of(shards.members());
        on_a_shard(async move {
            for _ in 0..5 {
                let due = Instant::now() + ENOUGH;
                // On a busy machine the thread that answers may need more than one probe.
                while let liveness = liveness_probe.ask(LIMIT).await
                    && liveness != [ShardLiveness::Silent, ShardLiveness::Answers]
                {
                    assert_eq!(liveness, [ShardLiveness::Silent; 2]);
                    assert!(Instant::now() < due, "the lively one is not told");
                }
            }
        });
        drop(shards);
        answering.join().unwrap();
        let mut told = Vec::new();
        hanging.read_to_end(&mut told).unwrap();
        assert_eq!(told, [Order::Answer as u8], "the control socket ends with the main thread's hold on it");
    }

    #[test]
    fn a_shard_that_comes_round_is_alive_and_one_that_has_drained_is_not_missed() {
        let mut shards = Shards::default();
        let (control, mut slow) = UnixStream::pair().unwrap();
        let (ending, _unread) = UnixStream::pair().unwrap();
        let activities = [(); 2].map(|()| Arc::new(Activity::default()));
        shards.add(control, activities[0].clone()).unwrap();
        shards.add(ending, activities[1].clone()).unwrap();
        activities[1].pulse.end();
        let liveness_probe = LivenessProbe::of(shards.members());
        let has_read = Arc::new(AtomicBool::new(false));
        let (activity, seen) = (activities[0].clone(), has_read.clone());
        on_a_shard(async move {
            assert_eq!(liveness_probe.ask(Duration::ZERO).await, [ShardLiveness::Silent, ShardLiveness::Ended]);
            thread::spawn(move || {
                slow.read_exact(&mut [0]).unwrap();
                // Before the answer, with which the probe may be over.
                seen.store(true, Ordering::SeqCst);
                activity.pulse.answer();
                // The second question came after the answer to the first, or was answered with it.
                if slow.read(&mut [0]).is_ok_and(|count| count == 1) {
                    activity.pulse.answer();
                }
            });
            assert_eq!(liveness_probe.ask(ENOUGH).await, [ShardLiveness::Answers, ShardLiveness::Ended]);
        });
        assert!(has_read.load(Ordering::SeqCst));
    }
}
