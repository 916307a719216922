//! Requests and answers that break RFC 9112 or a limit: they are refused, and the sender sees why.

#[path = "../support/mod.rs"]
mod support;

mod chunk_sizes;
mod early_refusal;
mod http2;
mod interim;
mod look_alikes;
mod strictness;
