//! The questions to the gateway: its state once a second, and the orders of the user.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use super::error::{FeedError, TopError};
use super::place::AdminPlace;
use super::state::GatewayReport;
use crate::cli::wake::percent_encoded;
use crate::credentials::{Secret, private_file};
use crate::io::{BlockingRequest, RequestFailure};
use crate::whole_file::FileKinds;

const INTERVAL: Duration = Duration::from_secs(1);
/// The limit of each request.
const PATIENCE: Duration = Duration::from_secs(3);
/// Limit on an answer: 100 streams and exchanges with their names take some 100 KiB, 1,000 credentials with their rests
/// a megabyte.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The room for all that is not asked for at length.
const SHORT_BYTES_MAX: usize = 4096;

/// An order of the user: the credential whose rests are to end.
#[derive(Debug, PartialEq, Eq)]
pub struct WakeOrder(pub String);

/// The answer to a question or to an order.
#[derive(Debug)]
pub enum News {
    State(Box<GatewayReport>),
    Failure(FeedError),
    Woken { name: String, is_woken: bool },
    NotWoken { name: String, error: FeedError },
}

pub struct Feed {
    place: AdminPlace,
    token: Option<Secret>,
}

impl Feed {
    /// Makes the feed of this gateway.
    ///
    /// # Errors
    /// The file of the token cannot be read.
    pub fn new(place: AdminPlace, token_file: Option<&Path>) -> Result<Self, TopError> {
        let read = |path| private_file::read(path, FileKinds::RegularOrPipe).map_err(TopError::TokenFile);
        let token = token_file.map(read).transpose()?;
        let token = token.map(|(text, _)| Secret::new(text.trim().to_owned()));
        Ok(Feed { place, token })
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.place.address)
    }

    /// Asks once a second, and carries out orders, until nobody receives any more.
    pub fn go_on(&self, news: &SyncSender<News>, orders: &Receiver<WakeOrder>) {
        loop {
            let told = self.state().map_or_else(News::Failure, |state| News::State(Box::new(state)));
            if news.send(told).is_err() {
                return;
            }
            match orders.recv_timeout(INTERVAL) {
                Ok(WakeOrder(name)) => {
                    let told = match self.wake(&name) {
                        Ok(is_woken) => News::Woken { name, is_woken },
                        Err(error) => News::NotWoken { name, error },
                    };
                    if news.send(told).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Asks for the state.
    ///
    /// # Errors
    /// There is no answer, or one that is none of this gateway's state.
    pub fn state(&self) -> Result<GatewayReport, FeedError> {
        let body = self.ask("GET", "/api/state", RESPONSE_BYTES_MAX)?;
        GatewayReport::parse(&body).ok_or(FeedError::NotAState)
    }

    fn wake(&self, name: &str) -> Result<bool, FeedError> {
        let body = self.ask("POST", &format!("/api/credentials/{}/wake", percent_encoded(name)), SHORT_BYTES_MAX)?;
        let told: serde_json::Value = serde_json::from_slice(&body).map_err(|_| FeedError::NotAState)?;
        Ok(told["woken"] == true)
    }

    /// Returns the body of an answer of 200.
    fn ask(&self, method: &str, target: &str, response_bytes_max: usize) -> Result<Vec<u8>, FeedError> {
        let bearer = self.token.as_ref().map(Secret::expose);
        let (patience, user_agent) = (PATIENCE, "flow-uring-top");
        let request = BlockingRequest { method, target, bearer, user_agent, patience, response_bytes_max };
        let mut response = request.send(self.place.address).map_err(|error| match error {
            RequestFailure::Connect(error) | RequestFailure::Exchange(error) => FeedError::Unanswered(error),
        })?;
        let end_of_head = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or(FeedError::NotAState)?;
        let status = response.strip_prefix(b"HTTP/1.1 ").and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok());
        match status {
            Some("200") => Ok(response.split_off(end_of_head + 4)),
            Some("401") => Err(FeedError::TokenWanted),
            Some(status) => Err(FeedError::Status(status.to_owned())),
            None => Err(FeedError::NotAState),
        }
    }
}
