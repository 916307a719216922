//! What a running gateway and its successor say to each other, and how listening sockets cross.
//!
//! The successor says hello; the running one answers with its own version, how many sockets there are, and the sockets;
//! the successor serves on them and says that it is ready; the running one bids farewell, or refuses. Invariant: both sides belong to
//! one user or root, every step has a limit of time, and nothing that the other says is longer than what is asked for.

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

/// What one step may take. Each is a few system calls; the longest is to start all shards.
pub const STEP_LIMIT: Duration = Duration::from_secs(5);
/// What the successor grants the running one between its last word and the farewell: as many steps as are taken there,
/// and one more, so that it is not the one that gives up first.
const FAREWELL_LIMIT: Duration = Duration::from_secs(3 * STEP_LIMIT.as_secs());

/// One side of a conversation.
pub struct Conversation {
    stream: UnixStream,
    /// Who is at the other end; 0 where it is not of this namespace.
    pub process: i32,
}

impl Conversation {
    /// Begins one at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or somebody else's process does.
    pub fn begin(path: &Path) -> Result<Self, ConversationError> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Connecting waits too, where many wait already.
        socket.set_write_timeout(Some(STEP_LIMIT))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Conversation::over(UnixStream::from(OwnedFd::from(socket)))
    }

    /// # Errors
    /// The other process is somebody else's.
    pub fn over(stream: UnixStream) -> Result<Self, ConversationError> {
        let peer = descriptors::peer_of(&stream)?;
        if peer.uid != geteuid().as_raw() && peer.uid != 0 {
            return Err(ConversationError::OtherUser { uid: peer.uid });
        }
        Ok(Conversation { stream, process: peer.pid })
    }

    /// The successor's first words.
    ///
    /// # Errors
    /// As for all steps: see [`ConversationError`].
    pub fn send_hello(&mut self) -> Result<(), ConversationError> {
        self.write(&hello())
    }

    /// Hears the successor's first words, and answers with this side's version.
    ///
    /// # Errors
    /// See [`ConversationError`].
    pub fn receive_hello(&mut self) -> Result<(), ConversationError> {
        let mut received = [0; 8];
        self.read(&mut received, STEP_LIMIT)?;
        if !received.starts_with(&MAGIC) {
            return Err(ConversationError::Unexpected);
        }
        // Also to one that speaks another version: it is to know why it gets nothing.
        self.write(&hello())?;
        check_version(received[MAGIC.len()])
    }

    /// Lends the successor all of `sockets`, which stay open here too.
    ///
    /// # Errors
    /// See [`ConversationError`].
    pub fn send_sockets(&mut self, sockets: &[TcpListener]) -> Result<(), ConversationError> {
        let count = u16::try_from(sockets.len()).map_err(|_| ConversationError::Unexpected)?;
        self.write(&count.to_be_bytes())?;
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        Ok(sockets.chunks(BATCH_MAX).try_for_each(|batch| descriptors::send(&self.stream, batch))?)
    }

    /// What the successor hears on its hello.
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

    /// Tells a successor that nothing comes of it, so that it does not take the end of the stream for that of a process.
    pub fn send_refusal(&mut self) -> Result<(), ConversationError> {
        self.write(&[REFUSAL])
    }

    pub fn receive_farewell(&mut self) -> Result<(), ConversationError> {
        self.receive(FAREWELL, FAREWELL_LIMIT)
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

    /// Fills `bytes` within `limit`, however small the pieces are that they come in.
    fn read(&mut self, bytes: &mut [u8], limit: Duration) -> Result<(), ConversationError> {
        let due = Instant::now() + limit;
        let mut filled = 0;
        while filled < bytes.len() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConversationError::Stalled);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(ConversationError::Closed),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A few bytes into an empty socket buffer: they fit at once.
    fn write(&mut self, bytes: &[u8]) -> Result<(), ConversationError> {
        self.stream.set_write_timeout(Some(STEP_LIMIT))?;
        Ok(self.stream.write_all(bytes)?)
    }
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
    fn all_sockets_cross_in_their_order_however_many() {
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
            // SAFETY: the bare system call takes no pointer, and changes the user of this thread alone, which ends here.
            let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            UnixStream::pair().unwrap()
        });
        let (stream, _other) = of_nobody.join().unwrap();
        assert!(matches!(Conversation::over(stream), Err(ConversationError::OtherUser { uid: 65_534 })));
    }

    #[test]
    fn another_version_is_told_to_both_sides_and_gets_no_socket() {
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
    fn nonsense_is_refused_at_every_step() {
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
