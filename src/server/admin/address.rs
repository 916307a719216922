//! The address of the admin listener: bound before anything is served, unless a gateway that is about to exit has it.
//!
//! A gateway that is taken over releases the address when it has sent its farewell, one that was told to stop when it
//! has drained; until then its readiness page reports the drain. Invariant: an address that any other process has is an
//! error while the start can still fail without harm.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::holder;

/// Connections that may wait to be accepted: health checks and a few scrapers.
const BACKLOG: i32 = 64;

/// The pause between two attempts of a start that waits for the address.
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// The state of the address at the start.
pub enum Opened {
    Listening(TcpListener),
    /// A gateway that is about to exit has it.
    Held {
        address: SocketAddr,
        process: i32,
    },
}

impl Opened {
    /// Returns the address that is bound, or will be.
    ///
    /// # Errors
    /// The kernel does not tell the address of the socket.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Opened::Listening(listener) => listener.local_addr(),
            Opened::Held { address, .. } => Ok(*address),
        }
    }

    /// Returns the process that still has the address.
    pub fn held_by(&self) -> Option<i32> {
        match self {
            Opened::Listening(_) => None,
            Opened::Held { process, .. } => Some(*process),
        }
    }
}

/// Listens on `address`. If it is in use, this waits for it for `patience`, and the admin thread waits on if a gateway
/// has it that drains, or that is `predecessor`, the process that is about to be taken over.
///
/// # Errors
/// The address cannot be bound, or a process has it that will not release it.
#[expect(clippy::disallowed_methods, reason = "runs on the main thread before there are shards")]
pub fn open(address: SocketAddr, predecessor: Option<i32>, patience: Duration) -> io::Result<Opened> {
    let due = Instant::now() + patience;
    loop {
        match bind(address) {
            Ok(listener) => return Ok(Opened::Listening(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        if let Some(holder) = holder::ask(address)
            && (holder.is_draining || predecessor.is_some_and(|process| holder.is(process)))
        {
            return Ok(Opened::Held { address, process: holder.process });
        }
        if Instant::now() >= due {
            // A holder that does not answer may have exited meanwhile.
            return bind(address).map(Opened::Listening);
        }
        thread::sleep(BIND_PAUSE);
    }
}

/// Binds `address` without `SO_REUSEPORT`, so that no other process shares it.
///
/// # Errors
/// The address is in use or cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// The time that the holder of an address has to answer.
    const HOLDER_PATIENCE: Duration = Duration::from_secs(1);

    /// Answers connections as a gateway on its admin address would.
    fn held_by(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut request, mut byte) = (Vec::new(), [0]);
                // The other side may have given up already.
                while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    request.extend(byte);
                }
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    /// Opens without patience, and tells whether the machine gave the holder the time to answer.
    fn opened(address: SocketAddr, predecessor: Option<i32>) -> (io::Result<Opened>, bool) {
        let began = Instant::now();
        (open(address, predecessor, Duration::ZERO), began.elapsed() < HOLDER_PATIENCE)
    }

    const SERVING: &str = "HTTP/1.1 200 OK\r\n\r\n{\"name\":\"flow-uring\",\"process\":7,\"status\":\"ready\"}";
    const DRAINING: &str = "HTTP/1.1 503 No\r\n\r\n{\"name\":\"flow-uring\",\"process\":7,\"status\":\"draining\"}";

    #[test]
    fn an_address_is_waited_for_only_if_its_holder_is_a_gateway_that_goes() {
        for (what, answer, predecessor, is_waited_for) in [
            ("one that drains", DRAINING, None, true),
            ("one that drains and is not the one taken over", DRAINING, Some(8), true),
            ("the one taken over", SERVING, Some(7), true),
            ("the one taken over, from another namespace", SERVING, Some(0), true),
            ("one that serves", SERVING, None, false),
            ("one that serves and is not the one taken over", SERVING, Some(8), false),
            ("something else", "HTTP/1.1 503 No\r\n\r\n{\"status\":\"draining\"}", Some(7), false),
            ("something that speaks no HTTP", "SSH-2.0-OpenSSH_9\r\n", Some(7), false),
        ] {
            let address = held_by(answer);
            let rounds = (0..10).map(|_| opened(address, predecessor));
            let undisturbed = rounds.into_iter().find(|(_, is_in_time)| *is_in_time);
            let (opened, _) =
                undisturbed.expect("the machine lets the holder answer within a second, in one of ten rounds");
            match opened {
                Ok(Opened::Held { process, .. }) => assert!(is_waited_for && process == 7, "{what}"),
                Ok(Opened::Listening(_)) => panic!("{what}: the address was in use"),
                Err(error) => assert!(!is_waited_for && error.kind() == io::ErrorKind::AddrInUse, "{what}: {error}"),
            }
        }
    }

    #[test]
    fn an_address_that_is_given_up_within_the_patience_is_bound() {
        // Held without listening, so that no other process gets the address meanwhile.
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        held.set_reuse_address(true).unwrap();
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = held.local_addr().unwrap().as_socket().unwrap();
        let listener = bind(address).unwrap();
        listener.set_nonblocking(false).unwrap();
        thread::spawn(move || {
            // A process that asks the holder has found the address in use.
            drop(listener.accept().unwrap());
            drop(listener);
        });
        let opened = open(address, None, Duration::from_secs(60)).unwrap();
        assert_eq!(opened.address().unwrap(), address);
        assert_eq!(opened.held_by(), None);
    }
}
