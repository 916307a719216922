//! The kernel's account of what a socket's peer has sent last: how long ago, and whether it still listens.

use std::os::fd::AsRawFd;
use std::time::Duration;

/// `TCP_ESTABLISHED` of the kernel, as `tcp_info` states it: neither side has closed.
const ESTABLISHED: u8 = 1;

/// The last bytes of a socket's peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Time since they arrived in the kernel, or, if there were none yet, since the connection was made; to some
    /// milliseconds. A socket that waited in the queue of its listener has received all along.
    pub ago: Duration,
    /// The peer has closed the connection, or at least its side of it.
    pub has_left: bool,
}

impl Delivery {
    /// Of a peer that has sent something just now.
    pub const NOW: Delivery = Delivery { ago: Duration::ZERO, has_left: false };

    /// Asks the kernel, by one system call. `None` if it does not tell, as an emulated one may not.
    pub fn of(socket: &impl AsRawFd) -> Option<Self> {
        // SAFETY: all fields are numbers, for which zero is a value.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: both pointers are to values of this frame, and `length` is the size of the first.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        (result == 0).then(|| Delivery {
            ago: Duration::from_millis(info.tcpi_last_data_recv.into()),
            has_left: info.tcpi_state != ESTABLISHED,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread::sleep;

    use super::*;

    const WHILE: Duration = Duration::from_millis(60);

    #[test]
    fn bytes_wait_from_their_arrival_on_also_before_the_connection_is_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"first").unwrap();
        sleep(WHILE);
        let (accepted, _) = listener.accept().unwrap();
        let first = Delivery::of(&accepted).unwrap();
        // The kernel counts in ticks of up to 10 ms.
        assert!(first.ago >= WHILE / 2, "{first:?}");
        assert!(!first.has_left);
        sleep(WHILE);
        client.write_all(b"second").unwrap();
        drop(client);
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while !Delivery::of(&accepted).unwrap().has_left {
            assert!(std::time::Instant::now() < until, "a peer that has closed counts as there");
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn of_what_is_no_tcp_socket_nothing_is_known() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(Delivery::of(&one), None);
    }
}
