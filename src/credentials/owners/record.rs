//! The form in which owners are handed over to another process: records of fixed length.

use super::key::{ObjectKey, OwnerKey, Shelf};

/// One object with its owner, as it goes to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerRecord {
    pub shelf: Shelf,
    pub object: ObjectKey,
    pub owner: OwnerKey,
    /// The ticks since its last use.
    pub age: u32,
}

impl OwnerRecord {
    pub const BYTES: usize = 21;

    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let OwnerRecord { shelf, object, owner, age } = *self;
        let mut bytes = [0; Self::BYTES];
        bytes[0] = match shelf {
            Shelf::Responses => 0,
            Shelf::Others => 1,
        };
        bytes[1..9].copy_from_slice(&object.0.to_be_bytes());
        bytes[9..17].copy_from_slice(&owner.0.to_be_bytes());
        bytes[17..].copy_from_slice(&age.to_be_bytes());
        bytes
    }

    /// Reads a record; `None`: it is none of this version.
    pub fn of_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (head, age) = bytes.split_last_chunk()?;
        let (head, owner) = head.split_last_chunk()?;
        let (head, object) = head.split_last_chunk()?;
        let shelf = match head {
            [0] => Shelf::Responses,
            [1] => Shelf::Others,
            _ => return None,
        };
        let object = u64::from_be_bytes(*object);
        let is_key = object != 0 && object != u64::MAX;
        is_key.then_some(OwnerRecord {
            shelf,
            object: ObjectKey(object),
            owner: OwnerKey(u64::from_be_bytes(*owner)),
            age: u32::from_be_bytes(*age),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_record_are_none() {
        for (first, key) in [(2, 1), (255, 1), (0, 0), (1, u64::MAX)] {
            let mut bytes = [first; OwnerRecord::BYTES];
            bytes[1..9].copy_from_slice(&u64::to_be_bytes(key));
            assert_eq!(OwnerRecord::of_bytes(&bytes), None, "{first} {key}");
        }
    }
}
