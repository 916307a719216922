//! Frames as bytes (RFC 6455 §5.2), valid or not.

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const FINAL: u8 = 0x80;

/// One frame; `first` has its reserved bits, and whether it is final, too.
#[derive(Debug, Clone)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
    pub mask: [u8; 4],
}

impl Frame {
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Frame { first: FINAL | opcode, payload: payload.as_ref().to_vec(), mask: [0x37, 0xFA, 0x21, 0x3D] }
    }

    /// One that others follow of the same message.
    pub fn part(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        let frame = Frame::new(opcode, payload);
        Frame { first: opcode, ..frame }
    }

    pub fn close(code: u16, reason: &str) -> Self {
        Frame::new(CLOSE, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
    }

    pub fn with_first(self, first: u8) -> Self {
        Frame { first, ..self }
    }

    pub fn with_mask(self, mask: [u8; 4]) -> Self {
        Frame { mask, ..self }
    }

    /// As a client sends it.
    pub fn masked(&self) -> Vec<u8> {
        let mut bytes = self.head(0x80);
        bytes.extend_from_slice(&self.mask);
        let masked = self.payload.iter().enumerate().map(|(index, byte)| byte ^ self.mask[index % 4]);
        bytes.extend(masked);
        bytes
    }

    /// As a server sends it.
    pub fn plain(&self) -> Vec<u8> {
        let mut bytes = self.head(0);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    fn head(&self, mask_bit: u8) -> Vec<u8> {
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length @ 0..=125 => bytes.push(mask_bit | u8::try_from(length).expect("short")),
            length @ 126..=0xFFFF => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&u16::try_from(length).expect("short").to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes
    }
}

/// A text message as a server sends it.
pub fn text(message: impl AsRef<[u8]>) -> Vec<u8> {
    Frame::new(TEXT, message).plain()
}

/// A text message as a client sends it.
pub fn asked(message: impl AsRef<[u8]>) -> Vec<u8> {
    Frame::new(TEXT, message).masked()
}
