//! `flow-uring healthcheck`: ask the gateway that listens here whether it is up.
//!
//! Plain blocking HTTP over loopback with one deadline on the whole. Asks whether all shards answer, or, where the admin
//! pages are off, whether one of them does. Spends no request upstream: `GET /` is answered by the gateway itself.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::observability::reachable;

/// The whole question may take this long; container engines ask every 30 s by default.
const PATIENCE: Duration = Duration::from_secs(5);
/// `HTTP/1.1 200`: all that is looked at.
const STATUS_BYTES: usize = 12;

/// Asks `/healthz` of the gateway whose admin pages are at `admin`, or, where there are none or their port is any free
/// one, `/` of the gateway that is bound to `listen`. One that speaks TLS there answers too: that this is plain HTTP.
///
/// # Errors
/// When it is not up; the error says how it failed.
pub fn healthcheck(listen: SocketAddr, is_tls: bool, admin: Option<SocketAddr>) -> Result<(), Unhealthy> {
    let (bound, path, expected) = match admin.filter(|admin| admin.port() != 0) {
        Some(admin) => (admin, "/healthz", 200),
        None => (listen, "/", if is_tls { 400 } else { 200 }),
    };
    let address = reachable(bound);
    let failed = |fault| Unhealthy { address, fault };
    let deadline = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| failed(Fault::Connect(error)))?;
    let begin = ask(&mut stream, address, path, deadline).map_err(|error| failed(Fault::Exchange(error)))?;
    match status(&begin) {
        Some(status) if status == expected => Ok(()),
        Some(status) => Err(failed(Fault::Status(status))),
        None => Err(failed(Fault::NotHttp)),
    }
}

/// Why the gateway counts as down.
#[derive(Debug)]
pub struct Unhealthy {
    pub address: SocketAddr,
    pub fault: Fault,
}

#[derive(Debug)]
pub enum Fault {
    Connect(io::Error),
    Exchange(io::Error),
    Status(u16),
    NotHttp,
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.fault {
            Fault::Connect(error) => write!(formatter, "unhealthy: nothing answers at {address}: {error}"),
            Fault::Exchange(error) => write!(formatter, "unhealthy: {address} gave no answer: {error}"),
            Fault::Status(status) => write!(formatter, "unhealthy: {address} answered with status {status}"),
            Fault::NotHttp => write!(formatter, "unhealthy: what listens at {address} does not speak HTTP"),
        }
    }
}

impl std::error::Error for Unhealthy {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Connect(error) | Fault::Exchange(error) => Some(error),
            Fault::Status(_) | Fault::NotHttp => None,
        }
    }
}

/// Sends the request and reads the beginning of the answer.
fn ask(stream: &mut TcpStream, address: SocketAddr, path: &str, deadline: Instant) -> io::Result<[u8; STATUS_BYTES]> {
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: flow-uring-healthcheck\r\nConnection: close\r\n\r\n"
    )?;
    let mut begin = [0; STATUS_BYTES];
    let mut filled = 0;
    while filled < STATUS_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut begin[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a socket's timeout looks like on Linux.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(begin)
}

fn status(begin: &[u8; STATUS_BYTES]) -> Option<u16> {
    let text = std::str::from_utf8(begin).ok()?;
    text.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    /// A listener that reads a request and gives `answer`, and what the check says of it, asked as `listen` and as `admin`.
    fn check_against(answer: &'static [u8]) -> Result<(), String> {
        let as_admin = check_at(answer, Asked::Admin);
        assert_eq!(check_at(answer, Asked::Listener { is_tls: false }), as_admin);
        as_admin
    }

    enum Asked {
        Admin,
        Listener { is_tls: bool },
    }

    fn check_at(answer: &'static [u8], asked: Asked) -> Result<(), String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let bound = listener.local_addr().expect("an address");
        let gateway = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut request = Vec::new();
            let mut buffer = [0; 512];
            while !request.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut buffer).expect("read");
                request.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(answer).expect("written");
            String::from_utf8(request).expect("text")
        });
        let wildcard = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), bound.port());
        let elsewhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let is_admin = matches!(asked, Asked::Admin);
        let result = match asked {
            Asked::Admin => healthcheck(elsewhere, true, Some(wildcard)),
            Asked::Listener { is_tls } => healthcheck(wildcard, is_tls, None),
        };
        let result = result.map_err(|error| error.to_string().replace(&bound.to_string(), "GATEWAY"));
        let request = gateway.join().expect("finished");
        let path = if is_admin { "/healthz" } else { "/" };
        assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: {bound}\r\n")), "{request}");
        result
    }

    #[test]
    fn only_a_200_is_healthy() {
        assert_eq!(check_against(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        assert_eq!(check_against(b"HTTP/1.0 200 OK\r\n\r\n"), Ok(()));
        let unhealthy = |answer| check_against(answer).expect_err("unhealthy");
        assert_eq!(unhealthy(b"HTTP/1.1 503 No\r\n\r\n"), "unhealthy: GATEWAY answered with status 503");
        assert_eq!(unhealthy(b"SSH-2.0-OpenSSH_9\r\n"), "unhealthy: what listens at GATEWAY does not speak HTTP");
        assert!(unhealthy(b"HTTP/1").starts_with("unhealthy: GATEWAY gave no answer: "));
        // What a listener that speaks TLS says to plain HTTP.
        assert_eq!(check_at(b"HTTP/1.1 400 Bad Request\r\n\r\n", Asked::Listener { is_tls: true }), Ok(()));
        assert!(check_at(b"HTTP/1.1 200 OK\r\n\r\n", Asked::Listener { is_tls: true }).is_err(), "another program");
    }

    #[test]
    fn a_closed_port_is_unhealthy() {
        let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("an address");
        let any_free = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let error = healthcheck(bound, false, Some(any_free)).expect_err("closed").to_string();
        assert!(error.starts_with(&format!("unhealthy: nothing answers at {bound}: ")), "{error}");
    }

    #[test]
    fn wildcard_binds_are_asked_over_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
        ] {
            assert_eq!(reachable(listen.parse().expect("an address")).to_string(), asked);
        }
    }
}
