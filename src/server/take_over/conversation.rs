//! The conversation of a running gateway with its successor, in which the listening sockets are handed over.
//!
//! The successor sends a hello; the running gateway answers with its own version, the number of sockets, and the
//! sockets; the successor serves on them and sends that it is ready; the running gateway sends its farewell, and then
//! the owners of stored objects where it knows any, or a refusal. With the farewell the conversation may end on either
//! side: so it does with gateways that know nothing of owners. Invariant: both sides belong to one user or to root,
//! every step has a time limit, and no more is read than the step asks for.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use super::conversation_error::ConversationError;
use super::descriptors::{self, BATCH_MAX};
use super::protocol::{FAREWELL, MAGIC, READY, REFUSAL, VERSION, hello};
use crate::config::SHARDS_MAX;
use crate::credentials::OwnerRecord;

/// The time that one step may take. Each is a few system calls; the longest starts all shards.
pub const STEP_LIMIT: Duration = Duration::from_secs(5);
/// The time that the successor leaves the running gateway between the message that it is ready and the farewell: as
/// many steps as are taken there, and one more, so that the successor is not the first to give up.
const FAREWELL_LIMIT: Duration = Duration::from_secs(3 * STEP_LIMIT.as_secs());

/// The time for the owners of stored objects, some hundred kilobytes. Shorter than a step, within which the main thread
/// waits for it; what does not come is found by asking.
const OWNERS_LIMIT: Duration = Duration::from_secs(2);
/// More than a gateway knows.
const OWNERS_MAX: usize = 64 * 1024;

/// One side of a conversation.
pub struct Conversation {
    stream: UnixStream,
    /// The process at the other end; 0 if it is of another namespace.
    pub process: i32,
}

impl Conversation {
    /// Connects to `path`.
    ///
    /// # Errors
    /// No process listens there, or one of another user does.
    pub fn begin(path: &Path) -> Result<Self, ConversationError> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A connect waits too if the queue is full.
        socket.set_write_timeout(Some(STEP_LIMIT))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Conversation::over(UnixStream::from(OwnedFd::from(socket)))
    }

    /// Begins a conversation over a connected socket.
    ///
    /// # Errors
    /// The other process belongs to another user.
    pub fn over(stream: UnixStream) -> Result<Self, ConversationError> {
        let peer = descriptors::peer_of(&stream)?;
        if peer.uid != geteuid().as_raw() && peer.uid != 0 {
            return Err(ConversationError::OtherUser { uid: peer.uid });
        }
        Ok(Conversation { stream, process: peer.pid })
    }

    /// Sends the successor's hello.
    ///
    /// # Errors
    /// As for all steps: see [`ConversationError`].
    pub fn send_hello(&mut self) -> Result<(), ConversationError> {
        self.write(&hello())
    }

    /// Receives the successor's hello, and answers with this side's version.
    ///
    /// # Errors
    /// See [`ConversationError`].
    pub fn receive_hello(&mut self) -> Result<(), ConversationError> {
        let mut received = [0; 8];
        self.read(&mut received, STEP_LIMIT)?;
        if !received.starts_with(&MAGIC) {
            return Err(ConversationError::Unexpected);
        }
        // Also to a successor of another version, so that it knows why it gets no sockets.
        self.write(&hello())?;
        check_version(received[MAGIC.len()])
    }

    /// Sends all of `sockets` to the successor; they stay open here too.
    ///
    /// # Errors
    /// See [`ConversationError`].
    pub fn send_sockets(&mut self, sockets: &[TcpListener]) -> Result<(), ConversationError> {
        let count = u16::try_from(sockets.len()).map_err(|_| ConversationError::Unexpected)?;
        self.write(&count.to_be_bytes())?;
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        Ok(sockets.chunks(BATCH_MAX).try_for_each(|batch| descriptors::send(&self.stream, batch))?)
    }

    /// Receives the answer to the hello: the version and the sockets.
    ///
    /// # Errors
    /// See [`ConversationError`].
    pub fn receive_sockets(&mut self) -> Result<Vec<OwnedFd>, ConversationError> {
        let mut received = [0; 8];
        self.read(&mut received, STEP_LIMIT)?;
        if !received.starts_with(&MAGIC) {
            return Err(ConversationError::Unexpected);
        }
        check_version(received[MAGIC.len()])?;
        let mut count = [0; 2];
        self.read(&mut count, STEP_LIMIT)?;
        let count = usize::from(u16::from_be_bytes(count));
        if count == 0 || count > SHARDS_MAX {
            return Err(ConversationError::Unexpected);
        }
        let mut sockets = Vec::with_capacity(count);
        while sockets.len() < count {
            self.stream.set_read_timeout(Some(STEP_LIMIT))?;
            let batch = descriptors::receive(&self.stream)?;
            if batch.len() != BATCH_MAX.min(count - sockets.len()) {
                return Err(ConversationError::Unexpected);
            }
            sockets.extend(batch);
        }
        Ok(sockets)
    }

    pub fn send_ready(&mut self) -> Result<(), ConversationError> {
        self.write(&[READY])
    }

    pub fn receive_ready(&mut self) -> Result<(), ConversationError> {
        self.receive(READY, STEP_LIMIT)
    }

    pub fn send_farewell(&mut self) -> Result<(), ConversationError> {
        self.write(&[FAREWELL])
    }

    /// Sends a refusal, so that the successor does not take the end of the stream for the exit of this process.
    pub fn send_refusal(&mut self) -> Result<(), ConversationError> {
        self.write(&[REFUSAL])
    }

    pub fn receive_farewell(&mut self) -> Result<(), ConversationError> {
        self.receive(FAREWELL, FAREWELL_LIMIT)
    }

    /// Sends the owners of stored objects, after the farewell.
    ///
    /// # Errors
    /// See [`ConversationError`]; [`ConversationError::Closed`] where the successor does not read them.
    pub fn send_owners(&mut self, records: &[OwnerRecord]) -> Result<(), ConversationError> {
        let records = &records[..records.len().min(OWNERS_MAX)];
        let mut bytes = Vec::with_capacity(4 + records.len() * OwnerRecord::BYTES);
        bytes.extend_from_slice(&(records.len() as u32).to_be_bytes());
        records.iter().for_each(|record| bytes.extend_from_slice(&record.to_bytes()));
        let due = Instant::now() + OWNERS_LIMIT;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(time_until(due)?))?;
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives the owners of stored objects, after the farewell, and gives `keep` each of them.
    ///
    /// # Errors
    /// See [`ConversationError`]; [`ConversationError::Closed`] where the running gateway does not send them. What has
    /// come by then was kept.
    pub fn receive_owners(&mut self, mut keep: impl FnMut(OwnerRecord)) -> Result<usize, ConversationError> {
        let due = Instant::now() + OWNERS_LIMIT;
        let mut count = [0; 4];
        self.read(&mut count, OWNERS_LIMIT)?;
        let count = u32::from_be_bytes(count) as usize;
        if count > OWNERS_MAX {
            return Err(ConversationError::Unexpected);
        }
        let mut record = [0; OwnerRecord::BYTES];
        let mut batch = vec![0; count.min(1024) * OwnerRecord::BYTES];
        let mut left = count;
        while left > 0 {
            let batch = &mut batch[..left.min(1024) * OwnerRecord::BYTES];
            self.read(batch, time_until(due)?)?;
            for bytes in batch.chunks_exact(OwnerRecord::BYTES) {
                record.copy_from_slice(bytes);
                keep(OwnerRecord::of_bytes(&record).ok_or(ConversationError::Unexpected)?);
            }
            left -= batch.len() / OwnerRecord::BYTES;
        }
        Ok(count)
    }

    fn receive(&mut self, word: u8, limit: Duration) -> Result<(), ConversationError> {
        let mut received = [0; 1];
        self.read(&mut received, limit)?;
        match received[0] {
            received if received == word => Ok(()),
            REFUSAL => Err(ConversationError::Refused),
            _ => Err(ConversationError::Unexpected),
        }
    }

    /// Fills `bytes` within `limit`, in however many pieces they arrive.
    fn read(&mut self, bytes: &mut [u8], limit: Duration) -> Result<(), ConversationError> {
        let due = Instant::now() + limit;
        let mut filled = 0;
        while filled < bytes.len() {
            self.stream.set_read_timeout(Some(time_until(due)?))?;
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(ConversationError::Closed),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes a few bytes, which always fit into the empty buffer of the socket.
    fn write(&mut self, bytes: &[u8]) -> Result<(), ConversationError> {
        self.stream.set_write_timeout(Some(STEP_LIMIT))?;
        Ok(self.stream.write_all(bytes)?)
    }
}

fn time_until(due: Instant) -> Result<Duration, ConversationError> {
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ConversationError::Stalled) } else { Ok(left) }
}

fn check_version(version: u8) -> Result<(), ConversationError> {
    if version == VERSION { Ok(()) } else { Err(ConversationError::Version(version)) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::thread;

    use super::*;
    use crate::server::shard::listener;

    fn pair() -> (Conversation, Conversation) {
        let (one, other) = UnixStream::pair().unwrap();
        (Conversation::over(one).unwrap(), Conversation::over(other).unwrap())
    }

    #[test]
    fn owners_come_after_the_farewell_and_one_that_sends_none_has_ended() {
        let mut records = Vec::new();
        for number in 0..3000_u64 {
            let mut bytes = [1; OwnerRecord::BYTES];
            bytes[1..9].copy_from_slice(&(number + 1).to_be_bytes());
            records.push(OwnerRecord::of_bytes(&bytes).unwrap());
        }
        for count in [0, 1, 1024, 3000] {
            let (mut running, mut successor) = pair();
            let mut received = Vec::new();
            thread::scope(|scope| {
                scope.spawn(|| running.send_farewell().and_then(|()| running.send_owners(&records[..count])).unwrap());
                successor.receive_farewell().unwrap();
                assert_eq!(successor.receive_owners(|record| received.push(record)).unwrap(), count);
            });
            assert_eq!(received, records[..count]);
        }
        let (mut running, mut successor) = pair();
        running.send_farewell().unwrap();
        drop(running);
        successor.receive_farewell().unwrap();
        assert!(matches!(successor.receive_owners(|_| ()), Err(ConversationError::Closed)));
        let (mut running, mut successor) = pair();
        running.write(&u32::MAX.to_be_bytes()).unwrap();
        assert!(matches!(successor.receive_owners(|_| ()), Err(ConversationError::Unexpected)));
    }

    #[test]
    fn all_sockets_are_handed_over_in_their_order_however_many() {
        for count in [1, 63, 64, 65, 200] {
            let sockets = listener::open("127.0.0.1:0".parse().unwrap(), count).unwrap();
            let (mut running, mut successor) = pair();
            successor.send_hello().unwrap();
            let received = thread::scope(|scope| {
                scope.spawn(|| running.receive_hello().and_then(|()| running.send_sockets(&sockets)).unwrap());
                successor.receive_sockets().unwrap()
            });
            assert_eq!(received.len(), count);
            for (sent, received) in sockets.iter().zip(&received) {
                let inode =
                    |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
                assert_eq!(inode(sent.as_fd()), inode(received.as_fd()));
            }
            successor.send_ready().unwrap();
            running.receive_ready().unwrap();
            running.send_farewell().unwrap();
            successor.receive_farewell().unwrap();
        }
    }

    #[test]
    fn a_process_of_another_user_is_refused() {
        const NOBODY: libc::c_long = 65_534;
        if !geteuid().is_root() {
            // Past what captures the output of tests, for scripts/check to tell at its end.
            let what = "a take-over by another user: only root can become another user";
            return drop(writeln!(io::stderr(), "skipped: {what}"));
        }
        let of_nobody = thread::spawn(|| {
            // SAFETY: the bare system call takes no pointer, and changes the user of this thread alone, which ends
            // here.
            let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            UnixStream::pair().unwrap()
        });
        let (stream, _other) = of_nobody.join().unwrap();
        assert!(matches!(Conversation::over(stream), Err(ConversationError::OtherUser { uid: 65_534 })));
    }

    #[test]
    fn another_version_is_reported_to_both_sides_and_gets_no_socket() {
        let (mut running, mut successor) = pair();
        successor.write(b"flow-to\x09").unwrap();
        assert!(matches!(running.receive_hello(), Err(ConversationError::Version(9))));
        drop(running);
        let mut answer = Vec::new();
        successor.stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, hello());

        let (mut running, mut successor) = pair();
        running.write(b"flow-to\x09\x00\x01").unwrap();
        assert!(matches!(successor.receive_sockets(), Err(ConversationError::Version(9))));
    }

    #[test]
    fn unexpected_bytes_are_refused_at_every_step() {
        let (mut running, mut other) = pair();
        other.write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(matches!(running.receive_hello(), Err(ConversationError::Unexpected)));
        for answer in
            [&b"HTTP/1.1 200 OK\r\n"[..], b"flow-to\x01\x00\x00", b"flow-to\x01\xff\xff", b"flow-to\x01\x00\x01S"]
        {
            let (mut running, mut successor) = pair();
            running.write(answer).unwrap();
            assert!(matches!(successor.receive_sockets(), Err(ConversationError::Unexpected)), "{answer:?}");
        }
        let (mut running, mut successor) = pair();
        successor.write(b"x").unwrap();
        assert!(matches!(running.receive_ready(), Err(ConversationError::Unexpected)));
        drop(running);
        assert!(matches!(successor.receive_farewell(), Err(ConversationError::Closed)));
    }
}
