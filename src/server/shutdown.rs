//! Signals, and the drain that the first of them begins.
//!
//! Owned by the main thread, which waits for signals and for shards in one queue. Invariant: every wait behind the
//! first signal has a limit, so the program ends. What a shard does in a drain is its own affair (`io::lifecycle`).

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::RunError;
use crate::observability::{Activity, log_totals};

/// How long the shards have to end their streams when the drain limit has passed.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// What the main thread waits for.
#[derive(Debug)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Hangup,
    ShardEnded {
        has_panicked: bool,
    },
}

/// The main thread's hold on signals and shards.
pub struct Shutdown {
    events: Receiver<Event>,
    shards: Vec<(UnixStream, Arc<Activity>)>,
}

impl Shutdown {
    /// Takes over SIGTERM, SIGINT and SIGHUP from here on.
    ///
    /// # Errors
    /// When the handlers or their thread cannot be set up.
    pub fn on_signals(sender: Sender<Event>, events: Receiver<Event>) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        thread::Builder::new().name("flow-signals".into()).spawn(move || {
            for signal in signals.forever() {
                let event = if signal == SIGHUP { Event::Hangup } else { Event::Stop };
                if sender.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Shutdown { events, shards: Vec::new() })
    }

    /// `control` moves the shard one phase on with each byte.
    pub fn add_shard(&mut self, control: UnixStream, activity: Arc<Activity>) {
        self.shards.push((control, activity));
    }

    /// Waits for the first signal and then for the drain.
    ///
    /// # Errors
    /// A shard has died, or a second signal came.
    #[expect(clippy::disallowed_methods, reason = "the main thread serves nothing and waits here")]
    pub fn wait(&mut self, drain_limit: Duration) -> Result<(), RunError> {
        loop {
            match self.events.recv() {
                Ok(Event::Stop) => break,
                Ok(Event::Hangup) => say_that_nothing_is_reloaded(),
                Ok(Event::ShardEnded { .. }) | Err(_) => return Err(RunError::ShardDied),
            }
        }
        let open_exchanges = self.open_exchanges();
        tracing::info!(open_exchanges, "stopping: waiting for open exchanges; a second signal exits at once");
        let mut running = self.shards.len();
        self.advance_all();
        if self.wait_for_shards(&mut running, drain_limit)? {
            self.log_totals();
            tracing::info!("stopped");
            return Ok(());
        }
        tracing::warn!(open_exchanges = self.open_exchanges(), "the drain limit has passed; ending what is open");
        self.advance_all();
        if !self.wait_for_shards(&mut running, FAREWELL_LIMIT)? {
            tracing::warn!(open_exchanges = self.open_exchanges(), "some exchanges did not end and are cut off");
        }
        self.log_totals();
        Ok(())
    }

    /// Whether all shards have ended within `limit`.
    #[expect(clippy::disallowed_methods, reason = "the main thread serves nothing and waits here")]
    fn wait_for_shards(&self, running: &mut usize, limit: Duration) -> Result<bool, RunError> {
        let due = Instant::now() + limit;
        while *running > 0 {
            match self.events.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Event::ShardEnded { has_panicked: true }) => return Err(RunError::ShardDied),
                Ok(Event::ShardEnded { has_panicked: false }) => *running -= 1,
                Ok(Event::Hangup) => {}
                Ok(Event::Stop) => return Err(RunError::Interrupted { open_exchanges: self.open_exchanges() }),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn advance_all(&mut self) {
        for (control, _) in &mut self.shards {
            // A shard that has ended reads no more.
            let _ = control.write_all(&[1]);
        }
    }

    fn log_totals(&self) {
        log_totals(self.shards.iter().map(|(_, activity)| &activity.counters));
    }

    fn open_exchanges(&self) -> usize {
        self.shards.iter().map(|(_, activity)| activity.open_exchanges()).sum()
    }
}

/// An operator who sends SIGHUP wants a reload, not an exit, which is what the signal does to a program without a word.
fn say_that_nothing_is_reloaded() {
    tracing::warn!("SIGHUP changes nothing: settings and secrets are read at start; restart to read them again");
}
