//! Pairs of sockets, and a runtime for them, as a shard has it.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use monoio::net::TcpStream;
use monoio::{LegacyDriver, RuntimeBuilder};
use rustix::io::ioctl_fionread;

use crate::io::deadline::sweep;
use crate::io::{Stream, Timer};

/// A runtime of one thread, for as long as the process: nothing of it can be taken down with the thread.
pub struct SocketRuntime(&'static RefCell<monoio::Runtime<LegacyDriver>>);

impl SocketRuntime {
    pub fn start() -> Self {
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new().build().expect("a runtime");
        runtime.block_on(async {
            monoio::spawn(sweep(Timer::open().expect("a timer")));
        });
        SocketRuntime(Box::leak(Box::new(RefCell::new(runtime))))
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.borrow_mut().block_on(work)
    }
}

/// Makes a pair of sockets whose reads and writes do not wait.
pub fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().expect("descriptors");
    one.set_nonblocking(true).expect("a socket");
    other.set_nonblocking(true).expect("a socket");
    (one, other)
}

/// Makes a stream of a shard. To be called within a runtime.
pub fn stream(socket: UnixStream) -> Stream {
    let tcp = std::net::TcpStream::from(OwnedFd::from(socket));
    Stream::new(TcpStream::from_std(tcp).expect("within a runtime"))
}

/// The bytes that a read would bring.
pub fn unread_bytes(socket: &UnixStream) -> usize {
    ioctl_fionread(socket).map_or(0, |count| count as usize)
}
