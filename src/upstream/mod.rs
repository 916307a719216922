//! The way of bytes to the API host: name resolution, TCP, the tunnel of a proxy, TLS and the shard's pool of idle
//! connections.
//!
//! Knows no credential and no HTTP but `CONNECT`: a pooled connection serves any exchange. Connections are returned by
//! an explicit [`Pool::release`]; one that is merely dropped is closed.

mod address_race;
mod addresses;
pub mod connect;
mod connect_limit;
pub mod connection;
mod history;
pub mod pool;
pub mod resolve;
mod suspension;
pub mod tls;
pub mod tunnel;

pub use connect::{ConnectError, Connector, Route};
pub use connection::{Connection, Received, TransportError};
pub use history::History;
pub use pool::Pool;
pub use resolve::Resolver;
pub use tunnel::{ProxyFault, Tunnel};
