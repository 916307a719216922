//! Content that is searched as it goes by, with the chunked framing between its bytes.
//!
//! Invariant: what goes out is what came, in its order, with `*` in the place of each byte of a run, however it was
//! split. Held are the suffix that may become a run, which is shorter than one, and the framing among it, whose
//! extensions and trailers `http1` bounds.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::credentials::{TextEnd, TokenTraces};
use crate::io::Buffer;

/// Stands for a byte that is kept back.
pub const MASK: u8 = b'*';

/// Content on its way.
#[derive(Default)]
pub struct MaskedText {
    /// As it came, from the first byte of the suffix that may become a run, or a longer one.
    text: Zeroizing<Vec<u8>>,
    /// So much of `text` went out.
    sent: usize,
    /// The runs in `text`.
    runs: Vec<Range<usize>>,
    /// The framing after what went out, and its pieces.
    framing: Vec<u8>,
    pieces: Vec<FramingPiece>,
}

/// A piece of framing among the content that is held.
struct FramingPiece {
    /// It stands before the byte of this place.
    at: usize,
    /// Its end in `framing`.
    end: usize,
}

/// The share of some bytes of content in what is searched.
pub struct Share<'a> {
    /// More may follow that makes a run of their end.
    pub goes_on: bool,
    /// The ranges of them in which nothing is masked.
    pub harmless: &'a [Range<usize>],
    /// Says which end of them is held.
    pub end: TextEnd,
}

impl Share<'_> {
    pub const GOES_ON: Share<'static> = Share { goes_on: true, harmless: &[], end: TextEnd::GoesOn };
}

impl MaskedText {
    /// Returns whether the content so far ends with what may become a run.
    pub fn has_open_suffix(&self) -> bool {
        !self.text.is_empty()
    }

    /// Returns whether anything that came has not gone out.
    pub fn holds_any(&self) -> bool {
        self.sent < self.text.len()
    }

    /// Takes the next bytes and appends all that can go to `out`. Returns whether there was a run among it.
    pub fn push(&mut self, traces: &TokenTraces, data: &[u8], share: Share<'_>, out: &mut Buffer) -> bool {
        let before = self.text.len();
        append(&mut self.text, data);
        let is_harmless = |run: &Range<usize>| {
            let is_within = |span: &Range<usize>| before + span.start <= run.start && run.end <= before + span.end;
            share.harmless.iter().any(is_within)
        };
        let mut has_run = false;
        for run in traces.runs_in(&self.text).into_iter().filter(|run| !is_harmless(run)) {
            has_run = true;
            self.note(run);
        }
        let suffix = |end| if share.goes_on { traces.suffix(&self.text, end) } else { self.text.len() };
        let open = suffix(TextEnd::GoesOn);
        let mut held_from = suffix(share.end).max(self.sent);
        // A byte of a run is one, whatever follows.
        while let Some(run) = self.runs.iter().find(|run| run.contains(&held_from)) {
            held_from = run.end;
        }
        self.send(held_from, out);
        self.forget(open);
        has_run
    }

    /// Takes a piece of framing that stands after the content so far, some of which is held.
    pub fn push_framing(&mut self, framing: &[u8]) {
        self.framing.extend_from_slice(framing);
        self.pieces.push(FramingPiece { at: self.text.len(), end: self.framing.len() });
    }

    /// Appends what is held to `out`: no more follows. If the content `is_cut`, the beginning of a run is masked too.
    /// Returns whether it was.
    pub fn finish(&mut self, traces: &TokenTraces, is_cut: bool, out: &mut Buffer) -> bool {
        let end = self.text.len();
        let run = if is_cut { traces.suffix(&self.text, TextEnd::Cut).max(self.sent)..end } else { end..end };
        let is_masked = !run.is_empty();
        if is_masked {
            self.runs.push(run);
        }
        self.send(end, out);
        self.forget(end);
        is_masked
    }

    /// Adds a run, of which a part may be known.
    fn note(&mut self, run: Range<usize>) {
        match self.runs.iter_mut().find(|known| run.start <= known.end && known.start <= run.end) {
            Some(known) => *known = known.start.min(run.start)..known.end.max(run.end),
            None => self.runs.push(run),
        }
    }

    /// Appends the content up to `end` to `out`, with the framing before and among it.
    fn send(&mut self, end: usize, out: &mut Buffer) {
        let due = self.pieces.iter().take_while(|piece| piece.at <= end).count();
        let mut framing_sent = 0;
        for index in 0..due {
            let FramingPiece { at, end } = self.pieces[index];
            self.send_text(at, out);
            out.append(&self.framing[framing_sent..end]);
            framing_sent = end;
        }
        self.send_text(end, out);
        self.pieces.drain(..due);
        self.framing.drain(..framing_sent);
        self.pieces.iter_mut().for_each(|piece| piece.end -= framing_sent);
    }

    fn send_text(&mut self, end: usize, out: &mut Buffer) {
        let range = self.sent..end.max(self.sent);
        let start = out.len();
        out.append(&self.text[range.clone()]);
        let sent = &mut out.filled_mut()[start..];
        for run in &self.runs {
            let (from, to) = (run.start.max(range.start), run.end.min(range.end));
            if from < to {
                sent[from - range.start..to - range.start].fill(MASK);
            }
        }
        self.sent = range.end;
    }

    /// Drops the content before `open`, all of which went out.
    fn forget(&mut self, open: usize) {
        self.text.drain(..open);
        self.sent -= open;
        self.runs.retain_mut(|run| {
            *run = run.start.saturating_sub(open)..run.end.saturating_sub(open);
            run.start < run.end
        });
        self.pieces.iter_mut().for_each(|piece| piece.at -= open);
    }
}

/// Appends to a text, of which no copy is left that is not zeroed: by hand, since a vector that grows would leave one.
fn append(text: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let length = text.len() + data.len();
    if length > text.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * text.capacity())));
        larger.extend_from_slice(text);
        *text = larger;
    }
    text.extend_from_slice(data);
}

#[cfg(test)]
pub mod tests;
