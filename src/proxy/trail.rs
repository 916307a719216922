//! The trail of an exchange: its ids, and the notes on it in case that it fails.

use std::rc::Rc;

use crate::capture::recording::Recording;
use crate::http1::head::RequestHead;
use crate::proxy::request::ids::RequestIds;

/// The trail of the exchange under way on a connection.
#[derive(Debug, Default)]
pub struct Trail {
    pub ids: RequestIds,
    /// `None`: failed exchanges are not kept.
    pub recording: Option<Rc<Recording>>,
}

impl Trail {
    /// Notes the head of the request.
    pub fn note_request(&mut self, head: &RequestHead<'_>) {
        self.ids.note(head);
        if let Some(recording) = &self.recording {
            recording.note_request(head);
        }
    }

    /// Returns the number of the attempt under way in the notes; 0 where none are made.
    pub fn attempt_number(&self) -> usize {
        self.recording.as_ref().map_or(0, |recording| recording.attempt_number())
    }

    /// Notes bytes of the answer that go downstream.
    pub fn note_answer(&self, bytes: &[u8]) {
        if let Some(recording) = &self.recording {
            recording.note_answer(bytes);
        }
    }
}
