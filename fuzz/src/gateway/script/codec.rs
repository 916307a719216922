//! Bytes to the parts of a script and back.

/// Reads the parts of something from bytes, or writes them.
pub trait Codec {
    fn byte(&mut self, value: &mut u8);

    /// One of `choices`, which the value has to be among.
    fn pick<T: Copy + PartialEq>(&mut self, value: &mut T, choices: &[T]) {
        let mut place = choices.iter().position(|choice| choice == value).unwrap_or_default() as u8;
        self.byte(&mut place);
        *value = choices[usize::from(place) % choices.len()];
    }

    fn flag(&mut self, value: &mut bool) {
        self.pick(value, &[false, true]);
    }

    /// One to `count_max` members.
    fn list<T: Default>(&mut self, members: &mut Vec<T>, count_max: usize, mut member: impl FnMut(&mut Self, &mut T)) {
        let mut count = members.len().saturating_sub(1) as u8;
        self.byte(&mut count);
        members.resize_with(1 + usize::from(count) % count_max, T::default);
        for each in members {
            member(self, each);
        }
    }
}

pub struct Reader<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes: bytes.iter() }
    }
}

impl Codec for Reader<'_> {
    fn byte(&mut self, value: &mut u8) {
        *value = self.bytes.next().copied().unwrap_or_default();
    }
}

#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Codec for Writer {
    fn byte(&mut self, value: &mut u8) {
        self.bytes.push(*value);
    }
}
