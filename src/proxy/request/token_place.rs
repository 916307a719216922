//! The place of the token in a head that goes upstream, which an attempt with another credential rewrites.
//!
//! Invariant: the fields that carry the token follow each other, so that one replacement renews them all, and no head
//! ever holds the tokens of two credentials.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::credentials::bare_token;
use crate::proxy::replay::buffer::ReplayBuffer;

/// The bytes between the value of `X-Goog-Api-Key` and that of `Authorization`.
const BETWEEN: &[u8] = b"\r\nAuthorization: ";

/// The longest end of a head after the token: the field that frames the body, and the empty line.
const END_BYTES_MAX: usize = 64;

/// The fields of a head that carry the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFields {
    Authorization,
    /// The token alone stands in `X-Goog-Api-Key` too.
    GoogApiKeyToo,
}

/// The place of the token in a head.
#[derive(Debug, Clone)]
pub struct TokenPlace {
    fields: TokenFields,
    /// From the first byte of the first field's value to the last of the last one's.
    range: Range<usize>,
}

impl TokenPlace {
    /// Appends the fields to a head; `authorization` is the whole value of `Authorization`.
    pub fn push(out: &mut Vec<u8>, fields: TokenFields, authorization: &[u8]) -> Self {
        // Room for all that comes: a vector that grows later would leave a copy of the token that is not overwritten.
        out.reserve(2 * authorization.len() + 3 * BETWEEN.len() + END_BYTES_MAX);
        out.extend_from_slice(match fields {
            TokenFields::Authorization => &b"Authorization: "[..],
            TokenFields::GoogApiKeyToo => b"X-Goog-Api-Key: ",
        });
        let start = out.len();
        push_values(out, fields, authorization);
        let range = start..out.len();
        out.extend_from_slice(b"\r\n");
        TokenPlace { fields, range }
    }

    /// Replaces the token in the head of `replay`, of which nothing was sent yet.
    pub fn replace(&mut self, replay: &mut ReplayBuffer, authorization: &[u8]) {
        let range = self.range.clone();
        self.range = match self.fields {
            TokenFields::Authorization => replay.replace(range, authorization),
            TokenFields::GoogApiKeyToo => {
                // Room for everything at once: a vector that grows would leave copies of the token that are not zeroed.
                let mut values = Zeroizing::new(Vec::with_capacity(2 * authorization.len() + BETWEEN.len()));
                push_values(&mut values, self.fields, authorization);
                replay.replace(range, &values)
            }
        };
    }

    /// Returns the place in a head that lacks `bytes` before it.
    pub fn moved_back(&self, bytes: usize) -> Self {
        TokenPlace { fields: self.fields, range: self.range.start - bytes..self.range.end - bytes }
    }

    /// Returns the fields' part of `head`, from the first value on.
    #[cfg(test)]
    pub fn values<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        &head[self.range.clone()]
    }
}

fn push_values(out: &mut Vec<u8>, fields: TokenFields, authorization: &[u8]) {
    if fields == TokenFields::GoogApiKeyToo {
        out.extend_from_slice(bare_token(authorization));
        out.extend_from_slice(BETWEEN);
    }
    out.extend_from_slice(authorization);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::proxy::replay::budget::ReplayBudget;

    #[test]
    fn another_token_takes_every_place_of_the_one_before_whatever_its_length() {
        for (fields, before) in
            [(TokenFields::Authorization, ""), (TokenFields::GoogApiKeyToo, "X-Goog-Api-Key: TOKEN\r\n")]
        {
            let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(1024)), 1024, 1);
            let mut replay = ReplayBuffer::default();
            let head = replay.begin(&budget);
            head.extend_from_slice(b"POST / HTTP/1.1\r\n");
            let mut place = TokenPlace::push(head, fields, b"Bearer first");
            head.extend_from_slice(b"Content-Length: 4\r\n\r\n");
            assert!(replay.push(b"body", 1024, &budget));
            for token in ["first", "a-much-longer-one", "x", "first"] {
                place.replace(&mut replay, format!("Bearer {token}").as_bytes());
                let expected = format!(
                    "POST / HTTP/1.1\r\n{}Authorization: Bearer {token}\r\nContent-Length: 4\r\n\r\nbody",
                    before.replace("TOKEN", token)
                );
                assert_eq!(String::from_utf8(replay.parts().collect::<Vec<_>>().concat()).expect("text"), expected);
            }
        }
    }
}
