//! The answers in a socket, followed for their usage as they pass.
//!
//! Invariant: each answer is counted, and charged to the caller's key, when it ends: by the usage that it tells, else
//! by its length. What was asked for and has not ended is counted by its length when the socket ends, so that leaving
//! early costs no less. Where the frames of the upstream can no longer be followed, all that comes from there on counts
//! by its length.

use std::cell::{Cell, RefCell};

use crate::io::clock;
use crate::proxy::counted::{Spent, TunnelAnswer, count_in_tunnel};
use crate::proxy::exchange::Exchange;
use crate::proxy::key_accounts::LimitReached;
use crate::proxy::resources::Resources;
use crate::proxy::websocket::asked::AskedContent;
use crate::proxy::websocket::frames::{FrameObserver, FrameReader, Mask, MessageKind, Sender};
use crate::usage::answer::messages::MessageUsage;
use crate::usage::answer::told::AnswerUsage;
use crate::usage::tokens::EstimatedTokens;

/// The usage of one socket.
pub struct TunnelAnswers<'a> {
    resources: &'a Resources,
    exchange: &'a Exchange,
    upstream: RefCell<FrameReader>,
    /// `None`: usage is not counted.
    followed: Option<Box<RefCell<Followed>>>,
    /// The bytes of the upstream that could not be followed.
    unread_bytes: Cell<u64>,
    limit_reached: Cell<Option<LimitReached>>,
}

/// The messages of both sides.
struct Followed {
    asked: AskedContent,
    messages: MessageUsage,
}

impl<'a> TunnelAnswers<'a> {
    pub fn new(resources: &'a Resources, exchange: &'a Exchange) -> Self {
        let followed =
            || Box::new(RefCell::new(Followed { asked: AskedContent::new(), messages: MessageUsage::default() }));
        TunnelAnswers {
            resources,
            exchange,
            upstream: RefCell::new(FrameReader::new(Sender::Server)),
            followed: resources.usage.is_some().then(followed),
            unread_bytes: Cell::new(0),
            limit_reached: Cell::new(None),
        }
    }

    /// Takes the next bytes of the client.
    pub fn follow_client(&self, bytes: &[u8]) {
        if let Some(followed) = &self.followed {
            followed.borrow_mut().asked.read(bytes);
        }
    }

    /// Takes the next bytes of the upstream. Returns the last border between frames in them: see [`FrameReader::read`].
    pub fn follow_upstream(&self, bytes: &[u8]) -> Option<usize> {
        let mut upstream = self.upstream.borrow_mut();
        let border = upstream.read(bytes, &mut Counting { answers: self });
        if upstream.is_broken() {
            self.unread_bytes.set(self.unread_bytes.get() + bytes.len() as u64);
        }
        border
    }

    /// Returns the limit of the caller's key that an answer in this socket has reached.
    pub fn limit_reached(&self) -> Option<LimitReached> {
        self.limit_reached.get()
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
        let Some(followed) = &self.followed else { return };
        let Followed { asked, messages } = &*followed.borrow();
        let is_asked = asked.is_awaited() && asked.bytes() > 0;
        if messages.has_open_answer() || is_asked || self.unread_bytes.get() > 0 {
            let output = messages.open_text_bytes() + self.unread_bytes.get();
            let spent = Spent::Estimated(EstimatedTokens::of_bytes(asked.bytes(), output));
            self.count(TunnelAnswer { spent, cost: None, model: None });
        }
    }

    /// Counts an answer that has ended.
    fn count_told(&self, told: &AnswerUsage, asked_bytes: u64) {
        let spent = match told.tokens {
            Some(tokens) => Spent::Reported(tokens),
            None => Spent::Estimated(EstimatedTokens::of_bytes(asked_bytes, told.text_bytes)),
        };
        self.count(TunnelAnswer { spent, cost: told.cost, model: told.model() });
    }

    /// Sees whether the answer that was counted last may be followed by another.
    fn look_at_limits(&self) {
        if let Some(governed) = self.exchange.snapshot.governed(self.exchange.key)
            && let Some(account) = &governed.account
            && self.limit_reached.get().is_none()
        {
            self.limit_reached.set(account.reached(&governed.limits, clock::now()));
        }
    }

    fn count(&self, answer: TunnelAnswer<'_>) {
        count_in_tunnel(self.resources, self.exchange, answer);
    }
}

/// Reads the upstream's messages, and counts each answer as it ends: several may be in one read.
struct Counting<'a, 'b> {
    answers: &'b TunnelAnswers<'a>,
}

impl FrameObserver for Counting<'_, '_> {
    fn data(&mut self, kind: MessageKind, part: &[u8], _mask: Mask) {
        if let (MessageKind::Text, Some(followed)) = (kind, &self.answers.followed) {
            followed.borrow_mut().messages.read(part);
        }
    }

    fn message_ended(&mut self, kind: MessageKind) {
        let Some(followed) = &self.answers.followed else { return };
        let Followed { asked, messages } = &mut *followed.borrow_mut();
        asked.note_message();
        if kind == MessageKind::Text
            && let Some(told) = messages.end_message()
        {
            self.answers.count_told(&told, asked.bytes());
            // What is told within an answer, such as the usage of a transcription, leaves it as it was.
            if !messages.is_within_answer() {
                asked.note_answer();
                self.answers.look_at_limits();
            }
        }
    }
}
