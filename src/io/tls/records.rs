//! The place within the records of a TLS stream (RFC 8446 §5.1), followed by their headers.
//!
//! The session keeps a part of a record to itself until the rest has come, and does not say so.

/// Bytes of a record's header: its type, its version, and the length of what follows.
const HEADER_LEN: u8 = 5;

/// The place up to which a stream of records has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordPlace {
    /// So many bytes of a header have come; the last two of it are the length, of which `length` has come.
    Header { count: u8, length: u16 },
    /// So many bytes of a record are to come yet, at least one.
    Body { left: u16 },
}

impl RecordPlace {
    /// Before a record.
    pub const BETWEEN: RecordPlace = RecordPlace::Header { count: 0, length: 0 };

    /// Returns the place after `bytes` more.
    pub fn after(mut self, mut bytes: &[u8]) -> Self {
        while let [first, rest @ ..] = bytes {
            (self, bytes) = match self {
                RecordPlace::Header { count, length } => {
                    let (count, length) = (count + 1, length << 8 | u16::from(*first));
                    (if count < HEADER_LEN { RecordPlace::Header { count, length } } else { in_body(length) }, rest)
                }
                RecordPlace::Body { left } => {
                    let taken = bytes.len().min(usize::from(left));
                    // No more than `left`, which is a `u16`.
                    (in_body(left - taken as u16), &bytes[taken..])
                }
            };
        }
        self
    }
}

fn in_body(left: u16) -> RecordPlace {
    if left == 0 { RecordPlace::BETWEEN } else { RecordPlace::Body { left } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_begun_with_its_first_byte_and_ends_with_its_last_however_they_come() {
        let records = [&[22, 3, 1, 0, 3, 1, 2, 3][..], &[23, 3, 3, 0, 0], &[&[23, 3, 3, 1, 2][..], &[9; 258]].concat()];
        let (stream, mut ends) = (records.concat(), Vec::new());
        for record in records {
            ends.push(ends.last().unwrap_or(&0) + record.len());
        }
        for part_len in [1, 2, 3, 7, 100, stream.len()] {
            let (mut place, mut passed) = (RecordPlace::BETWEEN, 0);
            for part in stream.chunks(part_len) {
                place = place.after(part);
                passed += part.len();
                assert_eq!(place == RecordPlace::BETWEEN, ends.contains(&passed), "{passed} in parts of {part_len}");
            }
        }
    }
}
