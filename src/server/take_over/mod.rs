//! The take-over of a running gateway's listening sockets by its successor, and of what it knows of the owners of
//! stored objects, from both sides.
//!
//! The running gateway offers them (`hand_over`) at a Unix socket that both find by their address (`rendezvous`), the
//! successor requests them there (`predecessor`), and both speak one protocol (`conversation`, `protocol`,
//! `descriptors`). The main thread of the running gateway grants the sockets (`successor`).

pub mod conversation;
pub mod conversation_error;
mod descriptors;
pub mod hand_over;
mod lending;
pub mod predecessor;
mod protocol;
mod rendezvous;
pub mod successor;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use self::hand_over::HandOver;
use self::predecessor::Predecessor;
use super::shard::listener;
use super::supervisor::event::SupervisorEvent;
use crate::config::Config;
use crate::credentials::Owners;

pub use conversation_error::ConversationError;

/// The time that a gateway that was to take over, and found no other, waits for the port: if the other was just stopped
/// or killed, it is free some milliseconds later.
pub const RELEASE_LIMIT: Duration = Duration::from_secs(1);
/// The pause between two attempts to bind the port.
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// Takes over the listening sockets of the gateway that runs, if that is wanted and there is one, else opens new ones.
#[expect(clippy::disallowed_methods, reason = "runs on the main thread before there are shards")]
pub fn open_listeners(config: &Config) -> io::Result<(Option<Predecessor>, Vec<TcpListener>)> {
    let shards = config.shards.get();
    if config.take_over {
        match rendezvous::path(config.runtime_directory.as_deref(), config.listen) {
            Ok(path) => {
                if let Some((predecessor, sockets)) = predecessor::take(&path, config.listen) {
                    return Ok((Some(predecessor), listener::complete(sockets, shards)?));
                }
            }
            Err(error) => tracing::warn!(%error, "cannot take over; starting as usual"),
        }
    }
    let due = Instant::now() + if config.take_over { RELEASE_LIMIT } else { Duration::ZERO };
    loop {
        match listener::open(config.listen, shards) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < due => {
                thread::sleep(RELEASE_PAUSE);
            }
            opened => return Ok((None, opened?)),
        }
    }
}

/// Lets a later gateway take over from this one. If that cannot be set up, this gateway serves all the same.
pub fn offer_hand_over(
    config: &Config,
    bound: SocketAddr,
    sockets: Vec<TcpListener>,
    owners: Arc<Owners>,
    events: Sender<SupervisorEvent>,
) -> Option<HandOver> {
    let offered = rendezvous::path(config.runtime_directory.as_deref(), bound)
        .and_then(|path| HandOver::offer(&path, sockets, owners, events));
    offered.inspect_err(|error| tracing::warn!(%error, "no later gateway will be able to take over from this one")).ok()
}
