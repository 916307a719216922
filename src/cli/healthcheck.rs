//! `flow-uring healthcheck`: asks the gateway that listens here whether it is up.
//!
//! Blocking HTTP over loopback, with a deadline on each request: one to the listener, which a shard answers, and one to
//! the admin pages, which ask all shards. No request goes upstream: `GET /` is answered by the gateway itself.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::io::{BlockingRequest, RequestFailure};
use crate::observability::reachable;

/// The limit of each request; container engines check every 30 s by default.
const PATIENCE: Duration = Duration::from_secs(5);
/// `HTTP/1.1 200`: all that is read.
const STATUS_BYTES: usize = 12;

/// The gateway that is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub listen: SocketAddr,
    /// The listener speaks TLS.
    pub is_tls: bool,
    pub admin: Option<SocketAddr>,
    /// The address of the admin pages was configured. By default they may be elsewhere: those of the demo are.
    pub is_admin_named: bool,
}

/// Requests `/healthz` of the admin pages, where there are any, and `/` of the listener: the pages alone may belong to
/// another gateway, and the listener alone does not show that a shard hangs. A listener that speaks TLS answers plain
/// HTTP with 400.
///
/// # Errors
/// The reason why it counts as down.
pub fn healthcheck(asked: Asked) -> Result<(), Unhealthy> {
    // Any free port is one that cannot be known.
    if let Some(admin) = asked.admin.filter(|admin| admin.port() != 0) {
        match ask_for("/healthz", admin, 200) {
            Err(Unhealthy { fault: HealthFault::Connect(_), .. }) if !asked.is_admin_named => {}
            answered => answered?,
        }
    }
    ask_for("/", asked.listen, if asked.is_tls { 400 } else { 200 })
}

fn ask_for(path: &str, bound: SocketAddr, expected: u16) -> Result<(), Unhealthy> {
    let address = reachable(bound);
    let failed = |fault| Unhealthy { address, fault };
    let request = BlockingRequest {
        method: "GET",
        bearer: None,
        target: path,
        user_agent: "flow-uring-healthcheck",
        patience: PATIENCE,
        response_bytes_max: STATUS_BYTES,
    };
    let response = request.send(address).map_err(|error| match error {
        RequestFailure::Connect(error) => failed(HealthFault::Connect(error)),
        RequestFailure::Exchange(error) => failed(HealthFault::Exchange(error)),
    })?;
    if response.len() < STATUS_BYTES {
        return Err(failed(HealthFault::Exchange(io::ErrorKind::UnexpectedEof.into())));
    }
    match status(&response) {
        Some(status) if status == expected => Ok(()),
        Some(status) => Err(failed(HealthFault::Status(status))),
        None => Err(failed(HealthFault::NotHttp)),
    }
}

/// The reason why the gateway counts as down.
#[derive(Debug)]
pub struct Unhealthy {
    pub address: SocketAddr,
    pub fault: HealthFault,
}

#[derive(Debug)]
pub enum HealthFault {
    Connect(io::Error),
    Exchange(io::Error),
    Status(u16),
    NotHttp,
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.fault {
            HealthFault::Connect(error) => write!(formatter, "unhealthy: nothing answers at {address}: {error}"),
            HealthFault::Exchange(error) => write!(formatter, "unhealthy: {address} gave no answer: {error}"),
            HealthFault::Status(status) => write!(formatter, "unhealthy: {address} answered with status {status}"),
            HealthFault::NotHttp => write!(formatter, "unhealthy: what listens at {address} does not speak HTTP"),
        }
    }
}

impl std::error::Error for Unhealthy {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            HealthFault::Connect(error) | HealthFault::Exchange(error) => Some(error),
            HealthFault::Status(_) | HealthFault::NotHttp => None,
        }
    }
}

fn status(begin: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(begin).ok()?;
    text.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A listener that reads a request for `path` and gives `answer`.
    fn answering(path: &'static str, answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let bound = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut request = Vec::new();
            let mut buffer = [0; 512];
            while !request.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut buffer).expect("read");
                request.extend_from_slice(&buffer[..count]);
            }
            let is_expected = request.starts_with(format!("GET {path} HTTP/1.1\r\nHost: {bound}\r\n").as_bytes());
            // Anything else gets no answer.
            stream.write_all(if is_expected { answer } else { b"" }).expect("written");
        });
        bound
    }

    /// An address that is bound, so that no other program gets it, and where nothing listens.
    fn closed() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bound");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        (socket, address)
    }

    /// Checks what answers or refuses at once, again if the machine was too busy to do so within the patience.
    fn checked(asked: impl Fn() -> Asked) -> Result<(), Unhealthy> {
        for _ in 0..5 {
            let (asked, began) = (asked(), Instant::now());
            let result = healthcheck(asked);
            if began.elapsed() < PATIENCE {
                return result;
            }
        }
        panic!("each of five health checks was held up for longer than its patience: {PATIENCE:?}");
    }

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

    /// The verdict on a gateway whose listener gives this answer, and which has no admin pages.
    fn of_listener(answer: &'static [u8], is_tls: bool) -> Result<(), String> {
        let result = checked(|| {
            let listen = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), answering("/", answer).port());
            Asked { listen, is_tls, admin: None, is_admin_named: true }
        });
        result.map_err(|error| error.to_string().replace(&error.address.to_string(), "GATEWAY"))
    }

    /// The same of one whose listener is well, and whose admin pages are at `admin`.
    fn of_admin(admin: impl Fn() -> SocketAddr, is_admin_named: bool) -> Result<(), String> {
        let result = checked(|| {
            let (listen, admin) = (answering("/", GOOD), Some(admin()));
            Asked { listen, is_tls: false, admin, is_admin_named }
        });
        result.map_err(|error| error.to_string().replace(&error.address.to_string(), "ADMIN"))
    }

    #[test]
    fn only_a_200_is_healthy() {
        assert_eq!(of_listener(GOOD, false), Ok(()));
        assert_eq!(of_listener(b"HTTP/1.0 200 OK\r\n\r\n", false), Ok(()));
        let unhealthy = |answer| of_listener(answer, false).expect_err("unhealthy");
        assert_eq!(unhealthy(b"HTTP/1.1 503 No\r\n\r\n"), "unhealthy: GATEWAY answered with status 503");
        assert_eq!(unhealthy(b"SSH-2.0-OpenSSH_9\r\n"), "unhealthy: what listens at GATEWAY does not speak HTTP");
        assert!(unhealthy(b"HTTP/1").starts_with("unhealthy: GATEWAY gave no answer: "));
        // The answer of a listener that speaks TLS to plain HTTP.
        assert_eq!(of_listener(b"HTTP/1.1 400 Bad Request\r\n\r\n", true), Ok(()));
        assert!(of_listener(GOOD, true).is_err(), "another program");
    }

    #[test]
    fn the_admin_pages_tell_of_all_shards() {
        assert_eq!(of_admin(|| answering("/healthz", GOOD), true), Ok(()));
        let failing = || answering("/healthz", b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(of_admin(failing, false), Err("unhealthy: ADMIN answered with status 503".into()));
        let (_socket, closed) = closed();
        let error = of_admin(|| closed, true).expect_err("they were said to be there");
        assert!(error.starts_with("unhealthy: nothing answers at ADMIN: "), "{error}");
        assert_eq!(of_admin(|| closed, false), Ok(()), "they are elsewhere");
        assert_eq!(of_admin(|| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), true), Ok(()), "on any free port");
    }

    #[test]
    fn a_closed_port_is_unhealthy() {
        let (_socket, listen) = closed();
        let asked = || Asked { listen, is_tls: false, admin: Some(answering("/healthz", GOOD)), is_admin_named: true };
        let error = checked(asked).expect_err("closed").to_string();
        assert!(error.starts_with(&format!("unhealthy: nothing answers at {listen}: ")), "{error}");
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
