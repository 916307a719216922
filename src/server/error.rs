//! The errors of the start and of the end of the program, with what its user can do about them.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::admin::AdminTokenError;
use super::certificate::ListenerTlsError;
use super::key_check::{KeyProblem, lines_of};
use super::shard::driver::RingRefusal;
use super::take_over::ConversationError;
use crate::upstream::tls::TrustError;
use crate::usage::prices::PricesFileError;

/// The error that kept the program from starting, or from ending as it should.
#[derive(Debug)]
pub enum RunError {
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    Admin {
        address: SocketAddr,
        error: io::Error,
    },
    Trust(TrustError),
    ListenerTls(ListenerTlsError),
    AdminToken(AdminTokenError),
    Prices(PricesFileError),
    /// API keys that do not fit the rest; at least one.
    Keys(Vec<KeyProblem>),
    UpstreamName(String),
    Driver(io::Error),
    Thread(io::Error),
    Signals(io::Error),
    /// The gateway that was to be taken over did not give up its sockets.
    TakeOver(ConversationError),
    /// A shard ended by itself. Its connections are lost, and the others would have to take its load.
    ShardDied,
    /// A second signal came before the drain was over.
    Interrupted {
        open_exchanges: usize,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Listen { address, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                formatter,
                "cannot listen on {address}: the port is in use; stop the other program or choose another --port"
            ),
            RunError::Listen { address, error } => {
                write!(formatter, "cannot listen on {address}: {error}; check --host and --port")
            }
            RunError::Admin { address, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                formatter,
                "cannot listen on {address} for the admin pages: the port is in use; choose another --admin address, or \
                 --admin off"
            ),
            RunError::Admin { address, error } => {
                write!(formatter, "cannot listen on {address} for the admin pages: {error}; check --admin")
            }
            RunError::Trust(error) => error.fmt(formatter),
            RunError::ListenerTls(error) => error.fmt(formatter),
            RunError::AdminToken(error) => error.fmt(formatter),
            RunError::Prices(error) => error.fmt(formatter),
            RunError::Keys(problems) => {
                formatter.write_str("the API keys do not fit what else is configured:")?;
                lines_of(problems).try_for_each(|line| write!(formatter, "\n  {line}"))
            }
            RunError::UpstreamName(name) => {
                write!(
                    formatter,
                    "the upstream's host {name} is not a name that a certificate can hold; check --upstream"
                )
            }
            RunError::Driver(error) => {
                let why = RingRefusal::from(error);
                write!(formatter, "cannot set up the I/O driver: {why}; try --io-driver epoll")
            }
            RunError::Thread(error) => write!(formatter, "cannot start a thread: {error}"),
            RunError::Signals(error) => write!(formatter, "cannot handle signals: {error}"),
            RunError::TakeOver(error) => write!(
                formatter,
                "the gateway that was to be taken over did not let go of its sockets: {error}; start this one again"
            ),
            RunError::ShardDied => formatter.write_str("a shard ended unexpectedly; the log says why"),
            RunError::Interrupted { open_exchanges } => {
                write!(formatter, "stopped at once by a second signal; exchanges cut off: {open_exchanges}")
            }
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Listen { error, .. }
            | RunError::Admin { error, .. }
            | RunError::Driver(error)
            | RunError::Thread(error)
            | RunError::Signals(error) => Some(error),
            RunError::Trust(error) => Some(error),
            RunError::ListenerTls(error) => Some(error),
            RunError::AdminToken(error) => Some(error),
            RunError::Prices(error) => Some(error),
            RunError::TakeOver(error) => Some(error),
            RunError::Keys(_) | RunError::UpstreamName(_) | RunError::ShardDied | RunError::Interrupted { .. } => None,
        }
    }
}
