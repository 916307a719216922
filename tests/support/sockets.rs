//! The sockets of this machine, as the kernel shows them in `/proc/net/tcp` (its Documentation/networking/proc_net_tcp.rst).

use std::fs;

// The kernel's numbers of two states (include/net/tcp_states.h).
const SYN_SENT: u8 = 2;
const LISTEN: u8 = 10;

/// A socket of TCP over IPv4.
pub struct TcpSocket {
    pub local_port: u16,
    pub remote_port: u16,
    state: u8,
    /// The number of bytes that the other side's kernel does not have yet.
    unsent: u32,
    /// The number of bytes that have arrived and are not read yet.
    pub unread: u32,
    /// Tells which descriptors are it.
    pub inode: u64,
}

impl TcpSocket {
    /// Returns all that there are now.
    pub fn all() -> Vec<TcpSocket> {
        let table = fs::read_to_string("/proc/net/tcp").expect("a table of sockets");
        table.lines().skip(1).map(|line| Self::of_line(line).unwrap_or_else(|| panic!("a socket: {line}"))).collect()
    }

    fn of_line(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
        let (unsent, unread) = fields.get(4)?.split_once(':')?;
        Some(TcpSocket {
            local_port: port(fields.get(1)?)?,
            remote_port: port(fields.get(2)?)?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            unsent: u32::from_str_radix(unsent, 16).ok()?,
            unread: u32::from_str_radix(unread, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }

    pub fn is_connecting(&self) -> bool {
        self.state == SYN_SENT
    }

    pub fn is_listening(&self) -> bool {
        self.state == LISTEN
    }
}

/// Returns the number of bytes from this port that have arrived and are not read yet.
pub fn unread_from(port: u16) -> u32 {
    TcpSocket::all().iter().filter(|socket| socket.remote_port == port).map(|socket| socket.unread).sum()
}

/// Returns whether all that was sent to this port is read.
pub fn is_all_read_at(port: u16) -> bool {
    let is_sent = |socket: &TcpSocket| socket.remote_port != port || socket.unsent == 0;
    let is_read = |socket: &TcpSocket| socket.local_port != port || socket.unread == 0;
    // In this order, each at a time of its own: what has left the one may be at the other.
    TcpSocket::all().iter().all(is_sent) && TcpSocket::all().iter().all(is_read)
}
