//! From the bytes of the fuzzer to what a target reads: long runs in few bytes, and the same bytes in other reads.

/// The most that an input grows to: what no limit of the program lets through.
const EXPANDED_BYTES_MAX: usize = 160 * 1024;

/// The longest input that is read byte by byte.
const SINGLE_BYTES_MAX: usize = 4096;

/// Repeats the byte before each `0xFF` 64 times as often as the byte after it says, so that a small input can be longer
/// than the limits; `0xFF 0x00` is `0xFF` itself.
pub fn expanded(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut bytes = data.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, out.last().copied()) {
            (0xFF, Some(before)) => match bytes.next() {
                Some(0) | None => out.push(0xFF),
                Some(times) => out.resize((out.len() + 64 * usize::from(times)).min(EXPANDED_BYTES_MAX), before),
            },
            _ => out.push(byte),
        }
    }
    out.truncate(EXPANDED_BYTES_MAX);
    out
}

/// Ways to split `data`: into single bytes where that is not too slow, into short parts, into long ones. Always the
/// same for the same bytes.
pub fn ways_to_split(data: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut random = Random::of(data);
    let mut ways = vec![random.parts(data, 7), random.parts(data, data.len() / 2 + 1)];
    if data.len() <= SINGLE_BYTES_MAX {
        ways.push(data.chunks(1).collect());
    }
    ways
}

/// Numbers that follow from bytes (FNV-1a, xorshift).
pub struct Random(u64);

impl Random {
    pub fn of(data: &[u8]) -> Self {
        let hash = data
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Random(hash | 1)
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn parts<'a>(&mut self, mut data: &'a [u8], length_max: usize) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        while !data.is_empty() {
            let (part, rest) = data.split_at((1 + self.below(length_max)).min(data.len()));
            parts.push(part);
            data = rest;
        }
        parts
    }
}
