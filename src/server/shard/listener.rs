//! The listening sockets: at least one a shard on the same address, opened or taken over before any shard starts.
//!
//! In a take-over new sockets listen last, when nothing can fail any more: the kernel spreads connections over all
//! sockets that listen, and resets those in the queue of one that is closed. Invariant: all sockets have one port, and
//! no other process has it, except the one that they are taken over from.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections of one shard that may wait to be accepted; the kernel lowers it to `net.core.somaxconn` (4096 by
/// default).
pub const QUEUE_LEN_MAX: usize = 4096;

/// Opens `count` listeners on `address`. Port 0 becomes one free port for all of them.
///
/// # Errors
/// The address is in use, also by a process that shares it with `SO_REUSEPORT`, or cannot be bound.
pub fn open(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    probe(address)?;
    let listeners = complete(vec![bind(address)?], count)?;
    listen(&listeners)?;
    Ok(listeners)
}

/// Adds sockets on the same address to `listeners`, which is not empty, until there are `count`. They do not [`listen`]
/// yet.
///
/// # Errors
/// A socket cannot be bound.
pub fn complete(mut listeners: Vec<TcpListener>, count: usize) -> io::Result<Vec<TcpListener>> {
    let bound = listeners[0].local_addr()?;
    while listeners.len() < count {
        listeners.push(bind(bound)?);
    }
    Ok(listeners)
}

/// Lets all sockets listen; those that do already go on.
///
/// # Errors
/// The port has been taken meanwhile.
pub fn listen(listeners: &[TcpListener]) -> io::Result<()> {
    listeners.iter().map(SockRef::from).try_for_each(|socket| socket.listen(QUEUE_LEN_MAX as i32))
}

/// Gives the queues of sockets that listen their full length, whatever another gateway that had them has left.
pub fn restore_queues(listeners: &[TcpListener]) {
    listeners.iter().map(SockRef::from).for_each(|socket| bound_queue(&socket, QUEUE_LEN_MAX));
}

/// Bounds the queue of a socket that listens. Those that are in it stay there.
pub fn bound_queue(socket: &SockRef<'_>, len: usize) {
    // A gateway that has it too may have shut it down meanwhile, and then this would open it again.
    if socket.is_listener().unwrap_or(false) {
        let _ = socket.listen(len as i32);
    }
}

/// Distributes the sockets over the shards. A shard may get several: closing a surplus one would reset the connections
/// in its queue, and the kernel goes on to spread new connections over all.
pub fn share_out(listeners: Vec<TcpListener>, shards: usize) -> Vec<Vec<TcpListener>> {
    let mut parts: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for (index, listener) in listeners.into_iter().enumerate() {
        parts[index % shards].push(listener);
    }
    parts
}

/// Binds the address once without `SO_REUSEPORT`, which would let a second process of the same user take half of the
/// first one's connections unnoticed.
fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = socket(address)?;
    socket.bind(&address.into())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shards_share_one_free_port() {
        let listeners = open("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn every_listener_is_some_shards_and_every_shard_has_one() {
        for (taken_over, shards) in [(1, 1), (1, 3), (3, 1), (5, 3)] {
            let taken_over = open("127.0.0.1:0".parse().unwrap(), taken_over).unwrap();
            let bound = taken_over[0].local_addr().unwrap();
            let count = taken_over.len().max(shards);
            let parts = share_out(complete(taken_over, shards).unwrap(), shards);
            assert!(parts.iter().all(|part| !part.is_empty()));
            let all: Vec<_> = parts.iter().flatten().collect();
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|listener| listener.local_addr().unwrap() == bound));
        }
    }

    #[test]
    fn a_socket_that_was_shut_down_does_not_listen_again() {
        let listeners = open("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let socket = SockRef::from(&listeners[0]);
        bound_queue(&socket, 1);
        assert!(socket.is_listener().unwrap());
        socket.shutdown(std::net::Shutdown::Both).unwrap();
        restore_queues(&listeners);
        assert!(!socket.is_listener().unwrap());
    }

    #[test]
    fn an_address_that_is_shared_by_others_is_in_use() {
        let others = open("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = open(others[0].local_addr().unwrap(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
