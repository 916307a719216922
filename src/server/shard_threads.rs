//! The threads of the shards: one a shard, each with a CPU of its own where there are enough.
//!
//! Invariant: the end of every thread that was started is reported to the supervisor, also if it panics.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use core_affinity::CoreId;

use super::error::RunError;
use super::shard::driver::Driver;
use super::shard::shared::Shared;
use super::shard::{self, ShardSetup, Started, listener};
use super::supervisor::Supervisor;
use super::supervisor::event::SupervisorEvent;
use crate::observability::Activity;

/// Starts all shards, which do not accept connections yet, and returns the driver that they run on.
pub fn start(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
    supervisor: &mut Supervisor,
    events: &Sender<SupervisorEvent>,
) -> Result<Driver, RunError> {
    let shards = shared.config.shards.get();
    let (started, reports) = channel();
    let cores = cores(shards);
    for (index, listeners) in listener::share_out(listeners, shards).into_iter().enumerate() {
        let (control, shard_control) = UnixStream::pair().map_err(RunError::Thread)?;
        let activity = Arc::new(Activity::default());
        supervisor.add_shard(control, activity.clone()).map_err(RunError::Thread)?;
        let pulse_of = activity.clone();
        let setup = ShardSetup { index, core: cores.get(index).copied(), listeners, control: shard_control, activity };
        start_shard(shared.clone(), setup, started.clone(), ShardEnd { events: events.clone(), activity: pulse_of })
            .map_err(RunError::Thread)?;
    }
    drop(started);
    let mut driver: Option<Driver> = None;
    let mut failure = None;
    // All of them, also after a failure: the process must not end while some still set up what they run on.
    for report in reports.iter().take(shards) {
        match report {
            Ok(reported) => driver = Some(driver.map_or(reported.clone(), |driver| driver.or_worse(reported))),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(RunError::Driver(error)),
        None => driver.ok_or(RunError::ShardDied),
    }
}

/// Assigns a CPU to each shard. More shards than CPUs share them in turn.
fn cores(shards: usize) -> Vec<CoreId> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if cores.is_empty() {
        tracing::warn!("the CPUs of this process are not known; shards are not pinned");
    } else if shards > cores.len() {
        tracing::warn!(shards, cpus = cores.len(), "there are more shards than CPUs; they share them in turn");
    }
    cores.iter().copied().cycle().take(if cores.is_empty() { 0 } else { shards }).collect()
}

fn start_shard(shared: Arc<Shared>, setup: ShardSetup, started: Sender<Started>, end: ShardEnd) -> io::Result<()> {
    let name = format!("flow-shard-{}", setup.index);
    thread::Builder::new().name(name).spawn(move || {
        shard::run(&shared, setup, &started);
        drop(end);
    })?;
    Ok(())
}

/// Reports, when it is dropped, that a shard's thread has ended, even by a panic.
struct ShardEnd {
    events: Sender<SupervisorEvent>,
    activity: Arc<Activity>,
}

impl Drop for ShardEnd {
    fn drop(&mut self) {
        self.activity.pulse.end();
        let _ = self.events.send(SupervisorEvent::ShardEnded { has_panicked: thread::panicking() });
    }
}
