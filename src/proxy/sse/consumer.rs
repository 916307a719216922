//! The readers of an event stream, as its tokenizer sees them.
//!
//! Invariant: a consumer keeps what it needs of the values, within a bound. It sees every event of every stream, so it
//! does at once only what is always needed. Not here: the grammar.

/// A field that matters to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventField {
    /// The event's name. Of several the last one counts.
    Event,
    /// A line of the event's data.
    Data,
}

impl EventField {
    /// The longest name of one.
    pub const NAME_BYTES_MAX: usize = "event".len();

    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"data" => Some(EventField::Data),
            b"event" => Some(EventField::Event),
            _ => None,
        }
    }
}

/// Receives what the tokenizer finds. Consumers that read the same stream share one run as a pair, or as a pair with a
/// pair in it.
pub trait EventConsumer {
    /// The value of a field begins; it may be empty.
    fn begin_value(&mut self, field: EventField);

    /// The next bytes of the value; more of its line is to come.
    fn append_value(&mut self, field: EventField, part: &[u8]);

    /// The last bytes of the value: its line has ended.
    fn end_value(&mut self, field: EventField, rest: &[u8]);

    /// A blank line. Without data there was no event: the grammar drops it, and so do clients.
    fn end_event(&mut self);
}

impl<A: EventConsumer, B: EventConsumer> EventConsumer for (&mut A, &mut B) {
    fn begin_value(&mut self, field: EventField) {
        self.0.begin_value(field);
        self.1.begin_value(field);
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        self.0.append_value(field, part);
        self.1.append_value(field, part);
    }

    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        self.0.end_value(field, rest);
        self.1.end_value(field, rest);
    }

    fn end_event(&mut self) {
        self.0.end_event();
        self.1.end_event();
    }
}
