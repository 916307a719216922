//! The successor's side of a take-over: it gets the listening sockets of the gateway that runs on its address.
//!
//! Invariant: a socket is served only if it listens on the address that this process is configured to listen on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use socket2::{Protocol, SockRef, Socket, Type};

use super::conversation::Conversation;
use super::conversation_error::ConversationError;
use crate::credentials::Owners;

/// The gateway that lends its sockets, as long as it still accepts on them too.
pub struct Predecessor {
    conversation: Conversation,
}

impl Predecessor {
    /// Returns its process id; 0 if it is of another namespace.
    pub fn process(&self) -> i32 {
        self.conversation.process
    }

    /// Reports that all shards serve on `sockets`, waits until the predecessor accepts no more, and keeps the owners
    /// that it knew in `owners`.
    ///
    /// # Errors
    /// The predecessor refused, hangs, or has shut the sockets down.
    pub fn retire(mut self, sockets: &[TcpListener], owners: &Owners) -> Result<(), ConversationError> {
        let process = self.conversation.process;
        match self.conversation.send_ready() {
            // It may have sent a refusal before it closed.
            Ok(()) | Err(ConversationError::Closed) => {}
            Err(error) => return Err(error),
        }
        match self.conversation.receive_farewell() {
            Ok(()) => {
                self.receive_owners(owners);
                tracing::info!(process, "took over from the gateway that ran here; it ends what it has open and exits");
            }
            // It was killed, or it was told to stop, left the sockets to this process, and had no exchange open.
            Err(ConversationError::Closed) if sockets.iter().all(is_listening) => {
                tracing::info!(process, "took over from the gateway that ran here, which has gone already");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn receive_owners(&mut self, owners: &Owners) {
        let now = Instant::now();
        match self.conversation.receive_owners(|record| owners.adopt(record, now)) {
            Ok(count) => tracing::debug!(count, "the owners of stored objects were handed over"),
            // One of an earlier version sends none.
            Err(ConversationError::Closed) => {}
            Err(error) => tracing::warn!(%error, "the owners of some stored objects have to be found anew"),
        }
    }
}

fn is_listening(socket: &TcpListener) -> bool {
    SockRef::from(socket).is_listener().unwrap_or(false)
}

/// Requests the sockets of the gateway that listens at `path`. `None` if there is none, or it refuses: then this
/// process starts as usual, and if the port is in use, that is the usual error.
pub fn take(path: &Path, address: SocketAddr) -> Option<(Predecessor, Vec<TcpListener>)> {
    match request_sockets(path, address) {
        Ok((predecessor, sockets)) => {
            let process = predecessor.conversation.process;
            tracing::info!(process, sockets = sockets.len(), "taking over from the gateway that runs here");
            Some((predecessor, sockets))
        }
        Err(ConversationError::Io(error)) if is_no_gateway(&error) => {
            tracing::info!(path = %path.display(), "there is no gateway to take over from; starting as usual");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot take over; starting as usual");
            None
        }
    }
}

fn is_no_gateway(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn request_sockets(path: &Path, address: SocketAddr) -> Result<(Predecessor, Vec<TcpListener>), ConversationError> {
    let mut conversation = Conversation::begin(path)?;
    conversation.send_hello()?;
    let sockets = conversation.receive_sockets()?;
    let sockets = sockets.into_iter().map(|socket| listener_on(socket, address)).collect::<io::Result<_>>()?;
    Ok((Predecessor { conversation }, sockets))
}

/// Checks that a received descriptor is a TCP socket that listens on `address`.
fn listener_on(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    let is_tcp = socket.r#type()? == Type::STREAM && socket.protocol()? == Some(Protocol::TCP);
    if !is_tcp || !socket.is_listener()? {
        return Err(io::Error::other("what came is not a listening TCP socket"));
    }
    let bound = socket.local_addr()?.as_socket();
    // Without scope and flow label of IPv6, which the command line does not give.
    if bound.map(|bound| (bound.ip(), bound.port())) != Some((address.ip(), address.port())) {
        return Err(io::Error::other(format!("what came does not listen on {address}")));
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn only_a_tcp_socket_that_listens_on_the_address_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(address).unwrap();
        let bound_only = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        bound_only.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let bound_address = bound_only.local_addr().unwrap().as_socket().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("s")).unwrap();
        assert!(listener_on(listener.try_clone().unwrap().into(), address).is_ok());
        for (what, socket, address) in [
            ("another port", OwnedFd::from(other), address),
            ("another address", listener.into(), SocketAddr::new([127, 0, 0, 2].into(), address.port())),
            ("a connection", connected.into(), address),
            ("a socket that does not listen", bound_only.into(), bound_address),
            ("a datagram socket", UdpSocket::bind("127.0.0.1:0").unwrap().into(), address),
            ("a local socket", unix.into(), address),
            ("no socket", std::fs::File::open("/dev/null").unwrap().into(), address),
        ] {
            assert!(listener_on(socket, address).is_err(), "{what}");
        }
    }

    #[test]
    fn the_exit_of_the_predecessor_is_as_good_as_its_farewell_while_the_sockets_listen() {
        type Ending = fn(Conversation);
        let nonsense_after = |mut other: Conversation| {
            other.send_farewell().unwrap();
            other.send_hello().unwrap();
        };
        let endings: [(&str, Ending, bool); 5] = [
            ("a farewell", |mut other| other.send_farewell().unwrap(), true),
            ("nonsense after it", nonsense_after, true),
            ("its end", drop, true),
            ("a refusal", |mut other| other.send_refusal().unwrap(), false),
            ("nonsense", |mut other| other.send_ready().unwrap(), false),
        ];
        for (what, ending, is_fine) in endings {
            let sockets = [TcpListener::bind("127.0.0.1:0").unwrap()];
            let (ours, theirs) = UnixStream::pair().unwrap();
            ending(Conversation::over(theirs).unwrap());
            let predecessor = Predecessor { conversation: Conversation::over(ours).unwrap() };
            assert_eq!(predecessor.retire(&sockets, &Owners::default()).is_ok(), is_fine, "{what}");
        }
        let sockets = [TcpListener::bind("127.0.0.1:0").unwrap()];
        SockRef::from(&sockets[0]).shutdown(Shutdown::Both).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let predecessor = Predecessor { conversation: Conversation::over(ours).unwrap() };
        assert!(
            matches!(predecessor.retire(&sockets, &Owners::default()), Err(ConversationError::Closed)),
            "it took the sockets along"
        );
    }
}
