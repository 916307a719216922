//! The reasons why the page, or the state of the gateway, is not shown.

use std::fmt;
use std::io;

use crate::whole_file::ReadFault;

#[derive(Debug)]
pub enum TopError {
    /// Not the form of an address.
    Url,
    AdminOff,
    TokenFile(ReadFault),
    Terminal(io::Error),
    Feed(FeedError),
    /// A signal has ended it, and the terminal is as it was.
    Signal(i32),
}

impl TopError {
    /// Returns true for a wrong command line.
    pub fn is_usage(&self) -> bool {
        matches!(self, TopError::Url)
    }

    /// Returns the exit code, where it is not that of any failure: of a signal as shells give it.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            TopError::Signal(signal) => u8::try_from(128 + signal).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for TopError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopError::Url => {
                formatter.write_str("top: expected the address of the admin pages, such as http://127.0.0.1:8900")
            }
            TopError::AdminOff => formatter.write_str("top: these settings have no admin pages (--admin off)"),
            TopError::TokenFile(fault) => write!(formatter, "top: the file of the admin token {fault}"),
            TopError::Terminal(error) => write!(formatter, "top: the terminal cannot be used: {error}"),
            TopError::Feed(error) => write!(formatter, "top: {error}"),
            TopError::Signal(signal) => write!(formatter, "top: ended by signal {signal}"),
        }
    }
}

impl std::error::Error for TopError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TopError::Terminal(error) => Some(error),
            TopError::Feed(error) => Some(error),
            TopError::Url | TopError::AdminOff | TopError::TokenFile(_) | TopError::Signal(_) => None,
        }
    }
}

/// A reason why the state is not known.
#[derive(Debug)]
pub enum FeedError {
    Unanswered(io::Error),
    TokenWanted,
    Status(String),
    NotAState,
}

impl fmt::Display for FeedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedError::Unanswered(error) => write!(formatter, "no answer: {error}"),
            FeedError::TokenWanted => formatter.write_str("it asks for a token: give --admin-token-file"),
            FeedError::Status(status) => write!(formatter, "it answered with status {status}"),
            FeedError::NotAState => formatter.write_str("what answers there is no flow-uring"),
        }
    }
}

impl std::error::Error for FeedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FeedError::Unanswered(error) => Some(error),
            FeedError::TokenWanted | FeedError::Status(_) | FeedError::NotAState => None,
        }
    }
}
