//! The frames of one direction of a WebSocket (RFC 6455 §5), followed as they pass.
//!
//! Pure. Invariant: nothing is held or changed, memory is bounded, nothing depends on how the bytes were split, and a
//! frame that breaks RFC 6455 ends the reading along: nothing is said of what follows it. No extension is ever agreed
//! on, so that reserved bits are such a fault. Not checked: that text is UTF-8, which no border depends on.

/// A message's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    Text,
    Binary,
}

/// Receives the content of messages.
pub trait FrameObserver {
    /// The next bytes of a message. Those of a client are masked: by `mask`, whose first byte is that of the first one.
    fn data(&mut self, kind: MessageKind, part: &[u8], mask: Mask);

    /// The message has ended.
    fn message_ended(&mut self, kind: MessageKind);
}

/// The mask of a client's bytes, over and over (RFC 6455 §5.3); all zero for a server's.
pub type Mask = [u8; MASK_BYTES];

const MASK_BYTES: usize = 4;

/// The side whose frames these are: only a client masks them (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub struct FrameReader {
    sender: Sender,
    place: FramePlace,
    /// The fragmented message that is not over.
    message: Option<MessageKind>,
}

/// A place in the bytes of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FramePlace {
    /// Within the head of a frame, or before one.
    Head { bytes: [u8; HEAD_BYTES_MAX], length: usize },
    Payload {
        frame: Frame,
        left: u64,
        /// As it is for the next byte.
        mask: Mask,
    },
    /// After a Close frame: nothing may follow it (RFC 6455 §5.5.1).
    Closed,
    /// After a frame that breaks RFC 6455.
    Broken,
}

/// Two bytes, eight of a long length, and four of a mask (RFC 6455 §5.2).
const HEAD_BYTES_MAX: usize = 14;

const BORDER: FramePlace = FramePlace::Head { bytes: [0; HEAD_BYTES_MAX], length: 0 };

/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u8 = 125;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: FrameKind,
    is_final: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// Of a message, whichever frame of it.
    Data(MessageKind),
    Close,
    /// A ping or a pong.
    Other,
}

impl FrameReader {
    pub const fn new(sender: Sender) -> Self {
        FrameReader { sender, place: BORDER, message: None }
    }

    /// Takes the next bytes. Returns the last border between two frames in them or at one of their ends, as the number
    /// of bytes before it; `None` where there is none, or none is known.
    pub fn read(&mut self, bytes: &[u8], observer: &mut impl FrameObserver) -> Option<usize> {
        let mut border = self.is_at_border().then_some(0);
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.place {
                FramePlace::Closed | FramePlace::Broken => break,
                FramePlace::Head { bytes: mut head, length } => {
                    head[length] = rest[0];
                    rest = &rest[1..];
                    self.place = self.after_head(head, length + 1);
                    self.end_empty(observer);
                }
                FramePlace::Payload { frame, left, mut mask } => {
                    let count = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    let (part, after) = rest.split_at(count);
                    if let FrameKind::Data(kind) = frame.kind {
                        observer.data(kind, part, mask);
                    }
                    rest = after;
                    mask.rotate_left(count % MASK_BYTES);
                    self.place = FramePlace::Payload { frame, left: left - count as u64, mask };
                    self.end_empty(observer);
                }
            }
            if self.is_at_border() {
                border = Some(bytes.len() - rest.len());
            }
        }
        border.filter(|_| !matches!(self.place, FramePlace::Closed | FramePlace::Broken))
    }

    /// Tells whether all that was read are whole frames, and more may follow.
    pub fn is_at_border(&self) -> bool {
        matches!(self.place, FramePlace::Head { length: 0, .. })
    }

    /// Tells whether a Close frame was read.
    pub fn has_closed(&self) -> bool {
        self.place == FramePlace::Closed
    }

    /// Tells whether the frames can no longer be followed.
    pub fn is_broken(&self) -> bool {
        self.place == FramePlace::Broken
    }

    /// Ends the frame, if no more of its payload is to come.
    fn end_empty(&mut self, observer: &mut impl FrameObserver) {
        let FramePlace::Payload { frame, left: 0, .. } = self.place else { return };
        self.place = BORDER;
        match frame.kind {
            FrameKind::Data(kind) if frame.is_final => {
                self.message = None;
                observer.message_ended(kind);
            }
            FrameKind::Data(kind) => self.message = Some(kind),
            FrameKind::Close => self.place = FramePlace::Closed,
            FrameKind::Other => {}
        }
    }

    /// Returns the place after so many bytes of a frame's head.
    fn after_head(&self, head: [u8; HEAD_BYTES_MAX], length: usize) -> FramePlace {
        if length < 2 {
            return FramePlace::Head { bytes: head, length };
        }
        let is_masked = head[1] & 0x80 != 0;
        let short = head[1] & 0x7F;
        let Some(frame) = self.frame(head[0], short).filter(|_| is_masked == (self.sender == Sender::Client)) else {
            return FramePlace::Broken;
        };
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let (length_end, mask_bytes) = (2 + length_bytes, if is_masked { MASK_BYTES } else { 0 });
        if length < length_end + mask_bytes {
            return FramePlace::Head { bytes: head, length };
        }
        let mut mask = Mask::default();
        mask[..mask_bytes].copy_from_slice(&head[length_end..length_end + mask_bytes]);
        let long = head[2..length_end].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        // RFC 6455 §5.2: in as few bytes as there can be, and the highest bit is 0.
        match short {
            126 if long < 126 => FramePlace::Broken,
            127 if long <= u64::from(u16::MAX) || long > i64::MAX as u64 => FramePlace::Broken,
            126 | 127 => FramePlace::Payload { frame, left: long, mask },
            short => FramePlace::Payload { frame, left: u64::from(short), mask },
        }
    }

    /// Returns the frame that has this first byte and short length; `None`: it breaks RFC 6455 §5.2, §5.4 or §5.5.
    fn frame(&self, first: u8, short: u8) -> Option<Frame> {
        let is_final = first & 0x80 != 0;
        let has_reserved = first & 0x70 != 0;
        let kind = match (first & 0x0F, self.message) {
            (0, Some(kind)) => FrameKind::Data(kind),
            (1, None) => FrameKind::Data(MessageKind::Text),
            (2, None) => FrameKind::Data(MessageKind::Binary),
            // A status code has two bytes (RFC 6455 §5.5.1).
            (8, _) if short != 1 => FrameKind::Close,
            (9 | 10, _) => FrameKind::Other,
            _ => return None,
        };
        let is_control = !matches!(kind, FrameKind::Data(_));
        let is_allowed = !has_reserved && (!is_control || is_final && short <= CONTROL_BYTES_MAX);
        is_allowed.then_some(Frame { kind, is_final })
    }
}

#[cfg(test)]
mod tests;
