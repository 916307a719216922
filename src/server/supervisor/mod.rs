//! The main thread once the shards serve: signals, changed files, successors and the ends of shards come in one queue.
//!
//! Invariant: events are handled one after the other, and no handler waits without a limit. The orders to the shards
//! are in `control`, the drain is in `shutdown`.

pub mod control;
pub mod event;
mod shutdown;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::control::{Order, Shards};
use self::event::SupervisorEvent;
use self::shutdown::ShutdownReason;
use super::admin::{Admin, LivenessProbe};
use super::error::RunError;
use super::reload::Reload;
use super::take_over::hand_over::HandOver;
use crate::observability::Activity;

/// Handles the events of the process.
pub struct Supervisor {
    events: Receiver<SupervisorEvent>,
    shards: Shards,
    pub admin: Option<Admin>,
}

impl Supervisor {
    /// Turns SIGTERM, SIGINT and SIGHUP into events from here on.
    ///
    /// # Errors
    /// The signal handlers or their thread cannot be set up.
    pub fn on_signals(sender: Sender<SupervisorEvent>, events: Receiver<SupervisorEvent>) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        thread::Builder::new().name("flow-signals".into()).spawn(move || {
            for signal in signals.forever() {
                let event = if signal == SIGHUP { SupervisorEvent::Hangup } else { SupervisorEvent::Stop };
                if sender.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Supervisor { events, shards: Shards::default(), admin: None })
    }

    /// Adds a shard with its control socket.
    ///
    /// # Errors
    /// The socket cannot be set up.
    pub fn add_shard(&mut self, control: UnixStream, activity: Arc<Activity>) -> io::Result<()> {
        self.shards.add(control, activity)
    }

    /// Returns a probe of the shards that were added so far.
    pub fn liveness_probe(&self) -> LivenessProbe {
        LivenessProbe::of(self.shards.members())
    }

    /// Returns the control socket and the activity of each shard.
    #[cfg(feature = "fuzz")]
    pub fn members(&self) -> Vec<(std::sync::Weak<UnixStream>, Arc<Activity>)> {
        self.shards.members().collect()
    }

    /// Lets all shards accept connections, once all have started.
    pub fn serve(&self) {
        self.shards.tell_all(Order::Serve);
    }

    /// Drains after a take-over that failed: connections that were accepted meanwhile are served to their end.
    ///
    /// # Errors
    /// As [`Supervisor::wait`].
    pub fn withdraw(self, drain_limit: Duration) -> Result<(), RunError> {
        shutdown::drain(&self.events, &self.shards, self.admin, ShutdownReason::TakeOverFailed, drain_limit)
    }

    /// Reloads files until a signal ends the program or a successor has taken over, and then drains.
    ///
    /// # Errors
    /// A shard has died, or a second signal came.
    #[expect(clippy::disallowed_methods, reason = "the main thread serves nothing and waits here")]
    pub fn wait(self, mut reload: Reload, hand_over: Option<HandOver>, drain_limit: Duration) -> Result<(), RunError> {
        let reason = loop {
            match self.events.recv() {
                Ok(SupervisorEvent::Stop) if hand_over.as_ref().is_none_or(HandOver::withdraw) => {
                    break ShutdownReason::Signal;
                }
                Ok(SupervisorEvent::Stop) => break ShutdownReason::SignalWhileLending,
                Ok(SupervisorEvent::Successor(successor)) => {
                    if successor.grant() {
                        break ShutdownReason::Successor;
                    }
                }
                Ok(SupervisorEvent::Hangup) => reload.on_hangup(&self.shards),
                Ok(SupervisorEvent::FileChanged(file, version)) => reload.on_change(file, version, &self.shards),
                Ok(SupervisorEvent::ShardEnded { .. }) | Err(_) => return Err(RunError::ShardDied),
            }
        };
        match reason {
            ShutdownReason::Successor => hand_over.into_iter().for_each(HandOver::leave),
            // A gateway that wants to take over from here on starts as usual.
            ShutdownReason::Signal | ShutdownReason::SignalWhileLending | ShutdownReason::TakeOverFailed => {
                drop(hand_over)
            }
        }
        shutdown::drain(&self.events, &self.shards, self.admin, reason, drain_limit)
    }
}
