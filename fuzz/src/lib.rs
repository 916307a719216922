//! The oracles of the fuzz targets: the rules of what flow-uring reads, written down a second time, as simply as can be.
//!
//! They share no code with the program, which only mints the tokens of `token`, and know whole inputs only. Nothing here
//! is fast, and nothing is lenient: an input on which a target and its oracle disagree is a fault of one of them.

pub mod answer;
pub mod body;
pub mod comments;
pub mod differences;
pub mod dotenv;
pub mod events;
pub mod gateway;
pub mod held_body;
pub mod input;
pub mod json;
pub mod kawa_reading;
pub mod members;
pub mod message;
pub mod path;
pub mod scan;
pub mod tls_server;
pub mod token;
pub mod turn;
pub mod wire;
