//! The marks by which bytes tell where they come from, so that foreign ones are seen wherever they turn up.

use std::fmt;

use crate::input::Random;

/// The origin of bytes: a run of a script, one of its exchanges, and for an answer the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    pub run: u64,
    pub exchange: usize,
    pub attempt: Option<usize>,
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tag { run, exchange, attempt } = self;
        let text = match attempt {
            None => format!("q{run}.{exchange}"),
            Some(attempt) => format!("a{run}.{exchange}.{attempt}"),
        };
        write!(formatter, "<{text}.{:04x}>", check_sum(&text))
    }
}

/// Returns a number that tells a tag from one of which a byte was changed.
fn check_sum(text: &str) -> usize {
    Random::of(text.as_bytes()).below(0x10000)
}

impl Tag {
    /// The value of `x-request-id` of the exchange.
    pub fn request_id(run: u64, exchange: usize) -> String {
        format!("f{run}.{exchange}")
    }

    /// Finds the exchange of this run that a request id names.
    pub fn exchange_of(run: u64, request_id: &[u8]) -> Option<usize> {
        let text = std::str::from_utf8(request_id).ok()?;
        let (of_run, exchange) = text.strip_prefix('f')?.split_once('.')?;
        let number: usize = exchange.parse().ok()?;
        (of_run.parse() == Ok(run) && text == Tag::request_id(run, number)).then_some(number)
    }

    /// Repeats the tag until there are `length` bytes or more, each time with its number: a byte that is lost or comes
    /// twice shows.
    pub fn padding(self, length: usize) -> String {
        let mut text = String::with_capacity(length + 32);
        let mut number = 0;
        while number == 0 || text.len() < length {
            text += &format!("{self}{number:x} ");
            number += 1;
        }
        text
    }

    /// Finds a whole tag in `bytes` that is none of `own`.
    pub fn foreign_in(bytes: &[u8], own: &[Tag]) -> Option<String> {
        let mut rest = bytes;
        while let Some(start) = memchr::memchr(b'<', rest) {
            rest = &rest[start..];
            let end = memchr::memchr(b'>', &rest[..rest.len().min(48)]);
            if let Some(tag) = end.and_then(|end| std::str::from_utf8(&rest[..=end]).ok())
                && is_tag(tag)
                && !own.iter().any(|known| known.to_string() == tag)
            {
                return Some(tag.to_owned());
            }
            rest = &rest[1..];
        }
        None
    }
}

fn is_tag(text: &str) -> bool {
    let inside = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    let parts = inside.and_then(|inside| inside.rsplit_once('.'));
    parts.is_some_and(|(text, sum)| text.starts_with(['q', 'a']) && sum == format!("{:04x}", check_sum(text)))
}
