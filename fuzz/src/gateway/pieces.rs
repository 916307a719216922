//! Bytes in pieces, with pauses before them.

use std::thread;
use std::time::Duration;

use super::script::{Pause, Split};
use crate::input::Random;

/// A piece of a message.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub bytes: &'a [u8],
    pause: Pause,
}

impl Piece<'_> {
    pub fn pause(&self) {
        match self.pause {
            Pause::Nothing => {}
            Pause::Short => thread::sleep(Duration::from_micros(300)),
            Pause::Long => thread::sleep(Duration::from_millis(3)),
        }
    }
}

/// Ways to split.
pub struct Pieces;

impl Pieces {
    /// Splits `bytes` anywhere, always the same for the same split: most cuts are in the first bytes, where heads and
    /// the beginnings of bodies are.
    pub fn of<'a>(bytes: &'a [u8], split: &Split) -> Vec<Piece<'a>> {
        let mut random = Random::of(&[split.pieces, split.seed]);
        let mut cuts: Vec<usize> = (0..split.pieces)
            .map(|_| match random.below(3) {
                0 => random.below(bytes.len().min(64) + 1),
                1 => random.below(bytes.len().min(1024) + 1),
                _ => random.below(bytes.len() + 1),
            })
            .collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let pause = |place| if place == 0 { Pause::Nothing } else { split.pause };
        let pieces = cuts.windows(2).enumerate();
        pieces.map(|(place, ends)| Piece { bytes: &bytes[ends[0]..ends[1]], pause: pause(place) }).collect()
    }
}
