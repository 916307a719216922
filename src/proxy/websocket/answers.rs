//! The answers in a socket, followed for their usage as they pass.
//!
//! Invariant: each answer that tells its usage is counted, and charged to the caller's key, when it ends; what was asked
//! for and told nothing is counted by its length when the socket ends, so that leaving early costs no less. Where the
//! frames of the upstream can no longer be followed, all that comes from there on counts by its length.

use std::cell::{Cell, RefCell};

use crate::proxy::counted::{Spent, TunnelAnswer, count_in_tunnel};
use crate::proxy::exchange::Exchange;
use crate::proxy::resources::Resources;
use crate::proxy::websocket::frames::{FrameObserver, FrameReader, MessageKind, Sender};
use crate::usage::answer::messages::MessageUsage;
use crate::usage::answer::told::AnswerUsage;
use crate::usage::tokens::EstimatedTokens;

/// The usage of one socket.
pub struct TunnelAnswers<'a> {
    resources: &'a Resources,
    exchange: &'a Exchange,
    upstream: RefCell<FrameReader>,
    client: RefCell<FrameReader>,
    messages: RefCell<UpstreamMessages>,
    /// The bytes of content that the client has sent since the last answer that told its usage.
    asked_bytes: Cell<u64>,
    /// The bytes of the upstream that could not be followed.
    unread_bytes: Cell<u64>,
}

/// The upstream's messages.
#[derive(Default)]
struct UpstreamMessages {
    /// `None`: usage is not counted.
    usage: Option<Box<MessageUsage>>,
    /// The last message told the usage of an answer.
    told: Option<AnswerUsage>,
    /// Nothing came since the client's last message.
    are_awaited: bool,
}

impl FrameObserver for UpstreamMessages {
    fn data(&mut self, kind: MessageKind, part: &[u8]) {
        if let (MessageKind::Text, Some(usage)) = (kind, &mut self.usage) {
            usage.read(part);
        }
    }

    fn message_ended(&mut self, kind: MessageKind) {
        self.are_awaited = false;
        if let (MessageKind::Text, Some(usage)) = (kind, &mut self.usage) {
            // Of several in one read each is counted before the next: see `follow_upstream`.
            self.told = usage.end_message();
        }
    }
}

/// Counts the content of a client's messages.
struct ClientContent {
    bytes: u64,
    has_ended: bool,
}

impl FrameObserver for ClientContent {
    fn data(&mut self, _kind: MessageKind, part: &[u8]) {
        self.bytes += part.len() as u64;
    }

    fn message_ended(&mut self, _kind: MessageKind) {
        self.has_ended = true;
    }
}

impl<'a> TunnelAnswers<'a> {
    pub fn new(resources: &'a Resources, exchange: &'a Exchange) -> Self {
        let usage = resources.usage.is_some().then(Box::default);
        TunnelAnswers {
            resources,
            exchange,
            upstream: RefCell::new(FrameReader::new(Sender::Server)),
            client: RefCell::new(FrameReader::new(Sender::Client)),
            messages: RefCell::new(UpstreamMessages { usage, ..UpstreamMessages::default() }),
            asked_bytes: Cell::new(0),
            unread_bytes: Cell::new(0),
        }
    }

    /// Takes the next bytes of the client.
    pub fn follow_client(&self, bytes: &[u8]) {
        let mut content = ClientContent { bytes: 0, has_ended: false };
        let mut client = self.client.borrow_mut();
        client.read(bytes, &mut content);
        if client.is_broken() {
            content.bytes = bytes.len() as u64;
        }
        self.asked_bytes.set(self.asked_bytes.get() + content.bytes);
        self.messages.borrow_mut().are_awaited |= content.has_ended;
    }

    /// Takes the next bytes of the upstream. Returns the last border between frames in them: see [`FrameReader::read`].
    pub fn follow_upstream(&self, bytes: &[u8]) -> Option<usize> {
        let mut upstream = self.upstream.borrow_mut();
        let mut messages = self.messages.borrow_mut();
        let mut counting = Counting { answers: self, messages: &mut messages };
        let border = upstream.read(bytes, &mut counting);
        if upstream.is_broken() {
            self.unread_bytes.set(self.unread_bytes.get() + bytes.len() as u64);
        }
        border
    }

    /// Tells whether all that came of the upstream are whole frames, and more may follow.
    pub fn is_at_border(&self) -> bool {
        self.upstream.borrow().is_at_border()
    }

    /// Tells whether the upstream has closed the socket by a frame.
    pub fn has_closed(&self) -> bool {
        self.upstream.borrow().has_closed()
    }

    /// Tells whether the upstream's frames can no longer be followed.
    pub fn is_broken(&self) -> bool {
        self.upstream.borrow().is_broken()
    }

    /// Counts what has not told its usage.
    pub fn end(self) {
        let (is_owed, text_bytes) = {
            let messages = self.messages.borrow();
            let usage = messages.usage.as_deref();
            let is_open = usage.is_some_and(MessageUsage::has_open_answer);
            let is_asked = messages.are_awaited && self.asked_bytes.get() > 0;
            let is_owed = is_open || is_asked || self.unread_bytes.get() > 0;
            (is_owed, usage.map_or(0, MessageUsage::open_text_bytes))
        };
        if is_owed {
            let output = text_bytes + self.unread_bytes.get();
            let spent = Spent::Estimated(EstimatedTokens::of_bytes(self.asked_bytes.get(), output));
            self.count(TunnelAnswer { spent, cost: None, model: None });
        }
    }

    fn count_told(&self, told: &AnswerUsage) {
        let spent = match told.tokens {
            Some(tokens) => Spent::Reported(tokens),
            None => Spent::Estimated(EstimatedTokens::of_bytes(self.asked_bytes.get(), told.text_bytes)),
        };
        self.count(TunnelAnswer { spent, cost: told.cost, model: told.model() });
        self.asked_bytes.set(0);
    }

    fn count(&self, answer: TunnelAnswer<'_>) {
        count_in_tunnel(self.resources, self.exchange, answer);
    }
}

/// Counts each answer as it ends: several may be in one read.
struct Counting<'a, 'b> {
    answers: &'b TunnelAnswers<'a>,
    messages: &'b mut UpstreamMessages,
}

impl FrameObserver for Counting<'_, '_> {
    fn data(&mut self, kind: MessageKind, part: &[u8]) {
        self.messages.data(kind, part);
    }

    fn message_ended(&mut self, kind: MessageKind) {
        self.messages.message_ended(kind);
        if let Some(told) = self.messages.told.take() {
            self.answers.count_told(&told);
        }
    }
}
