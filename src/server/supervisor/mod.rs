//! The main thread once the shards serve: it waits for signals, changed files and shards in one queue.
//!
//! Invariant: whatever comes is handled one after the other, and nothing that is handled waits without a limit.

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

/// The main thread's hold on signals and shards.
pub struct Supervisor {
    events: Receiver<SupervisorEvent>,
    shards: Shards,
    pub admin: Option<Admin>,
}

impl Supervisor {
    /// Takes over SIGTERM, SIGINT and SIGHUP from here on.
    ///
    /// # Errors
    /// When the handlers or their thread cannot be set up.
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

    /// # Errors
    /// When the socket cannot be set up.
    pub fn add_shard(&mut self, control: UnixStream, activity: Arc<Activity>) -> io::Result<()> {
        self.shards.add(control, activity)
    }

    /// For whoever asks the shards added so far whether they are alive.
    pub fn liveness_probe(&self) -> LivenessProbe {
        LivenessProbe::of(self.shards.members())
    }

    /// All shards have started: they may accept.
    pub fn serve(&self) {
        self.shards.tell_all(Order::Serve);
    }

    /// The gateway that was to be taken over goes on: what was accepted meanwhile is served to its end.
    ///
    /// # Errors
    /// As [`Supervisor::wait`].
    pub fn withdraw(self, drain_limit: Duration) -> Result<(), RunError> {
        shutdown::drain(&self.events, &self.shards, self.admin, ShutdownReason::TakeOverFailed, drain_limit)
    }

    /// Reloads until the program is to end or another has taken over, and then drains.
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
            // Whoever comes to take over from here on starts as usual.
            ShutdownReason::Signal | ShutdownReason::SignalWhileLending | ShutdownReason::TakeOverFailed => {
                drop(hand_over)
            }
        }
        shutdown::drain(&self.events, &self.shards, self.admin, reason, drain_limit)
    }
}
