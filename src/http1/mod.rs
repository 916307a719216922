//! HTTP/1.1 on byte slices: finds and parses heads, decides how a body is framed, and follows a body through a stream.
//!
//! Nothing here does I/O or knows a direction's policy, and no input can make it panic. It is stricter than RFC 9112
//! asks where leniency has been a way to smuggle requests: CRLF only, one length, one transfer coding.
//!
//! In the order of use: [`head::HeadScanner`] finds a head in received bytes, [`head::with_request`] or
//! [`head::with_response`] parses it in place, [`framing`] says how long the body is, [`body::BodyReader`] follows it.
//! [`interim::InterimAllowance`] bounds what comes before a final response.

pub mod body;
mod chunk;
pub mod fields;
pub mod framing;
mod grammar;
pub mod head;
pub mod interim;
pub mod keep_alive;
mod piece;
pub mod retry_after;
