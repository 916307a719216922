//! Bodies as the program holds them, for the targets that look through them: the reads that each comes in, framed in both
//! ways, and the room that is kept for it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use flow_uring::fuzz::held_body::ReplayBudget;
use flow_uring::fuzz::http1::BodyLength;

use crate::input::Random;

/// All that may be held.
pub const TOTAL: usize = 1 << 22;

/// Up to this size no bound on work cuts a reading short, nor takes an input long.
pub const COMPARED_BYTES_MAX: usize = 16 * 1024;

/// Returns a budget, and the bytes of it that nothing has taken.
pub fn budget() -> (Arc<AtomicUsize>, ReplayBudget) {
    let process_free = Arc::new(AtomicUsize::new(TOTAL));
    (process_free.clone(), ReplayBudget::new(process_free, TOTAL, 1))
}

/// Frames a body in chunks that are as long as its parts.
fn in_chunks(parts: &[&[u8]]) -> Vec<u8> {
    let chunk = |part: &&[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let mut body: Vec<u8> = parts.iter().filter(|part| !part.is_empty()).flat_map(chunk).collect();
    body.extend_from_slice(b"0\r\nX-Trailer: t\r\n\r\n");
    body
}

/// The framings of one body, and the reads that each comes in.
pub fn framings(input: &[u8], parts: &[&[u8]]) -> [(BodyLength, Vec<Vec<u8>>); 2] {
    let plain = parts.iter().map(|part| part.to_vec()).collect();
    let chunked = in_chunks(parts);
    let mut random = Random::of(input);
    let (mut reads, mut rest) = (Vec::new(), &chunked[..]);
    while !rest.is_empty() {
        let (read, after) = rest.split_at((1 + random.below(chunked.len())).min(rest.len()));
        reads.push(read.to_vec());
        rest = after;
    }
    [(BodyLength::Known(input.len() as u64), plain), (BodyLength::Chunked, reads)]
}
