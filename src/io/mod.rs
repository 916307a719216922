//! Owned-buffer I/O on monoio: buffers, sockets, deadlines and watches of one shard.
//!
//! Everything here belongs to the shard's thread and is reached without a lock, but for a `wakeup`, which other threads
//! use, the count of long `turns`, and `blocking_request`, which is for the main thread before there are shards, and
//! alone knows HTTP. TLS with clients is a part of their streams (`tls`), TLS with the upstream is not. Invariant: a
//! future that is dropped leaves no descriptor, buffer or slot behind it.

mod blocking_request;
pub mod buffer;
pub mod clock;
pub mod deadline;
pub mod departure;
pub mod epoll;
pub mod lifecycle;
pub mod parking;
pub mod prefetch;
pub mod race;
pub mod stream;
pub mod timer;
pub mod tls;
pub mod turns;
pub mod wakeup;

pub use blocking_request::{BlockingRequest, RequestFailure};
pub use buffer::Buffer;
pub use deadline::{Deadline, pause};
pub use departure::Departure;
pub use lifecycle::{Lifecycle, Phase};
pub use parking::{GivesWay, LetOut, Parking};
pub use race::{Either, race};
pub use stream::{Delivery, PlainSender, StallWatch, Stream, Unread, WriteError};
pub use timer::Timer;
pub use tls::{HandshakeError, HandshakeLimits, Handshakes};
pub use turns::{AcceptPace, Turns};
pub use wakeup::{RemoteWaits, Wakeup};
