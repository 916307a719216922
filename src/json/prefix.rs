//! The first bytes of something longer.

/// Keeps the first `N` bytes of what is appended to it, at most 255.
#[derive(Debug, Clone, Copy)]
pub struct Prefix<const N: usize> {
    bytes: [u8; N],
    // Each open answer holds some prefixes: a byte is enough.
    length: u8,
}

impl<const N: usize> Prefix<N> {
    pub const fn new() -> Self {
        const { assert!(N <= u8::MAX as usize, "the length is a byte") };
        Prefix { bytes: [0; N], length: 0 }
    }

    /// Takes the first bytes of `whole`.
    pub fn of(whole: &[u8]) -> Self {
        let mut prefix = Prefix::new();
        prefix.append(whole);
        prefix
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }

    pub fn append(&mut self, part: &[u8]) {
        let room = &mut self.bytes[usize::from(self.length)..];
        let taken = part.len().min(room.len());
        room[..taken].copy_from_slice(&part[..taken]);
        self.length += taken as u8;
    }

    pub fn kept(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Compares what is kept, not what was there before.
impl<const N: usize> PartialEq for Prefix<N> {
    fn eq(&self, other: &Self) -> bool {
        self.kept() == other.kept()
    }
}

impl<const N: usize> Eq for Prefix<N> {}
