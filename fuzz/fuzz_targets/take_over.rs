//! What another process says in the conversation of a take-over, step by step: each step takes its own bytes and no
//! more, and nothing that was not sent is believed.

#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use flow_uring::fuzz::take_over::{Conversation, ConversationError, OwnerRecord};
use flow_uring_fuzz::input::expanded;
use libfuzzer_sys::fuzz_target;

const HELLO: &[u8; 8] = b"flow-to\x01";
const OWNERS_MAX: usize = 64 * 1024;
/// As many bytes as the socket holds for certain.
const SAID_BYTES_MAX: usize = 100_000;

fuzz_target!(|data: &[u8]| {
    let Some((steps, said)) = data.split_first() else { return };
    let said = expanded(said);
    let said = &said[..said.len().min(SAID_BYTES_MAX)];
    let (own, mut other) = UnixStream::pair().expect("descriptors");
    other.write_all(said).expect("room");
    other.shutdown(Shutdown::Write).expect("a socket");
    let mut conversation = Conversation::over(own).expect("of the same user");
    let mut rest = said;
    // Two bits for each step.
    for step in (0..4).map(|at| steps >> (2 * at) & 3) {
        let goes_on = match step {
            0 => check_hello(&mut conversation, &mut rest, &mut other),
            1 => check_sockets(&mut conversation, rest),
            2 => check_word(conversation.receive_ready(), &mut rest, b'R'),
            _ => check_owners(&mut conversation, &mut rest),
        };
        if !goes_on {
            return;
        }
    }
    check_word(conversation.receive_farewell(), &mut rest, b'F');
});

fn check_hello(conversation: &mut Conversation, rest: &mut &[u8], other: &mut UnixStream) -> bool {
    let received = conversation.receive_hello();
    let Some((hello, after)) = rest.split_first_chunk::<8>() else {
        assert!(matches!(received, Err(ConversationError::Closed)));
        return false;
    };
    if hello[..7] != HELLO[..7] {
        assert!(matches!(received, Err(ConversationError::Unexpected)));
        return false;
    }
    // Also to one of another version.
    let mut answer = [0; 8];
    other.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, HELLO);
    *rest = after;
    match received {
        Ok(()) => assert_eq!(hello[7], 1),
        Err(ConversationError::Version(version)) => assert!(version != 1 && version == hello[7]),
        Err(error) => panic!("{error}"),
    }
    hello[7] == 1
}

/// Bytes alone give no sockets.
fn check_sockets(conversation: &mut Conversation, rest: &[u8]) -> bool {
    match conversation.receive_sockets() {
        Ok(sockets) => panic!("{} sockets of nobody", sockets.len()),
        Err(ConversationError::Closed) => {
            let is_short = rest.len() < 8 || rest[..8] == *HELLO && rest.len() <= 10;
            assert!(is_short);
        }
        Err(ConversationError::Version(version)) => assert!(version != 1 && version == rest[7]),
        Err(ConversationError::Unexpected) => assert!(rest[..7] != HELLO[..7] || rest.len() >= 10),
        Err(error) => panic!("{error}"),
    }
    false
}

fn check_word(received: Result<(), ConversationError>, rest: &mut &[u8], word: u8) -> bool {
    match (received, rest.split_first()) {
        (Ok(()), Some((said, after))) if *said == word => {
            *rest = after;
            true
        }
        (Err(ConversationError::Closed), None) | (Err(ConversationError::Refused), Some((b'N', _))) => false,
        (Err(ConversationError::Unexpected), Some((said, _))) => {
            assert!(*said != word && *said != b'N');
            false
        }
        (received, rest) => panic!("{received:?} of {rest:?}"),
    }
}

fn check_owners(conversation: &mut Conversation, rest: &mut &[u8]) -> bool {
    let mut kept = Vec::new();
    let received = conversation.receive_owners(|record| kept.push(record));
    let Some((count, after)) = rest.split_first_chunk::<4>() else {
        assert!(matches!(received, Err(ConversationError::Closed)));
        return false;
    };
    let count = u32::from_be_bytes(*count) as usize;
    let records = after.chunks_exact(OwnerRecord::BYTES).take(count);
    let read: Vec<Option<OwnerRecord>> =
        records.map(|bytes| OwnerRecord::of_bytes(bytes.first_chunk().expect("its length"))).collect();
    let valid = read.iter().map_while(|record| *record);
    // What comes in one piece is kept in one piece, and of too many nothing is read.
    assert!(kept.iter().copied().eq(valid.take(kept.len())), "records of nobody");
    assert!(count <= OWNERS_MAX || kept.is_empty());
    for (record, bytes) in kept.iter().zip(after.chunks_exact(OwnerRecord::BYTES)) {
        assert_eq!(record.to_bytes(), *bytes);
    }
    match received {
        Ok(told) => {
            assert!(told == count && kept.len() == count && count <= OWNERS_MAX);
            *rest = &after[count * OwnerRecord::BYTES..];
            true
        }
        Err(ConversationError::Closed) => {
            assert!(count <= OWNERS_MAX && read.len() < count);
            false
        }
        Err(ConversationError::Unexpected) => {
            assert!(count > OWNERS_MAX || read.contains(&None));
            false
        }
        Err(error) => panic!("{error}"),
    }
}
