//! A tunnel to the upstream through an HTTP proxy (`CONNECT`, RFC 9110 §9.3.6).
//!
//! The proxy sees the tunnel's destination and nothing of its content: TLS is spoken with the upstream itself.
//! Invariant: the proxy's user and password are in the request alone, and nothing is kept of the proxy's answer but
//! its status.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::{Concealed, join_authority};
use crate::io::{Buffer, Deadline, Stream, WriteError};

/// Limit on all heads of the proxy's answer together: a success takes 40 bytes, a refusal some hundred.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// Limit on the fields of one head; squid's refusals have about ten.
const FIELDS_MAX: usize = 64;
/// Room for one read of the answer.
const READ_ROOM: usize = 2 * 1024;
/// Progress limit of the request, which is a packet; the caller's deadline on the whole is shorter or fires on its
/// own.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// The reason why the proxy opens no tunnel.
#[derive(Debug)]
pub enum ProxyFault {
    /// Its name has no address (yet).
    Unresolved,
    /// None of its addresses can be reached; this is the error of the last one.
    Tcp(io::Error),
    /// The connection broke before the answer was whole.
    Closed,
    /// It does not answer as an HTTP proxy; the text is the end of a sentence.
    Malformed(&'static str),
    /// It refused, with a status that will be the same the next time.
    Refused { status: u16 },
    /// It could not connect at this moment.
    Failed { status: u16 },
}

impl ProxyFault {
    fn of_status(status: u16) -> Self {
        match status {
            // tinyproxy answers 500 when it cannot connect, squid 503, others 502 and 504.
            408 | 429 | 500 | 502..=504 => ProxyFault::Failed { status },
            _ => ProxyFault::Refused { status },
        }
    }
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the proxy (--upstream-proxy, HTTPS_PROXY) ")?;
        match self {
            ProxyFault::Unresolved => formatter.write_str("has a name that could not be resolved"),
            ProxyFault::Tcp(error) => write!(formatter, "could not be reached: {error}"),
            ProxyFault::Closed => formatter.write_str("closed the connection before it answered"),
            ProxyFault::Malformed(what) => write!(formatter, "does not answer as an HTTP proxy: {what}"),
            // tinyproxy answers 407 to no credentials, and 401 to wrong ones.
            ProxyFault::Refused { status: status @ (401 | 407) } => {
                write!(formatter, "wants another user or password than its URL has ({status})")
            }
            ProxyFault::Refused { status } => write!(formatter, "refused to connect to the upstream ({status})"),
            ProxyFault::Failed { status } => write!(formatter, "could not connect to the upstream ({status})"),
        }
    }
}

impl std::error::Error for ProxyFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProxyFault::Tcp(error) => Some(error),
            ProxyFault::Unresolved
            | ProxyFault::Closed
            | ProxyFault::Malformed(_)
            | ProxyFault::Refused { .. }
            | ProxyFault::Failed { .. } => None,
        }
    }
}

/// The request for tunnels, the same for all connections of the process.
#[derive(Debug, Clone)]
pub struct Tunnel {
    request: Arc<Concealed>,
}

impl Tunnel {
    /// Makes the request for tunnels to `host` (IPv6 without brackets) at `port`; `authorization` is the value of
    /// `Proxy-Authorization`.
    pub fn to(host: &str, port: u16, authorization: Option<&Concealed>) -> Self {
        let target = join_authority(host, port);
        let field = authorization
            .map(|value| Zeroizing::new(["Proxy-Authorization: ", value.expose(), "\r\n"].concat()))
            .unwrap_or_default();
        let head = ["CONNECT ", &target, " HTTP/1.1\r\nHost: ", &target, "\r\n", &field, "\r\n"].concat();
        Tunnel { request: Arc::new(Concealed::new(head)) }
    }

    /// Asks the proxy at the other end of `stream` for the tunnel. The next byte then comes from the upstream.
    ///
    /// # Errors
    /// See [`ProxyFault`].
    ///
    /// # Cancel safety
    /// Not cancel safe: the stream can only be closed then.
    pub async fn open(&self, stream: &Stream) -> Result<(), ProxyFault> {
        let mut out = Buffer::take_small();
        out.append(self.request.expose().as_bytes());
        out.mark_secret(self.request.expose().len());
        match stream.write_all(out, &Deadline::default(), WRITE_STALL).await.0 {
            Ok(()) => {}
            // It may have answered before it closed.
            Err(WriteError::Io(_)) => {}
            Err(WriteError::Stalled) => return Err(ProxyFault::Closed),
        }
        let mut received = Buffer::take_small();
        let mut room = ANSWER_BYTES_MAX;
        loop {
            let (status, head_bytes) = read_head(stream, &mut received, room).await?;
            match status {
                // RFC 9110 §15.2: interim answers come before the final one. 101 would be interim too, but no upgrade
                // was asked for.
                100 | 102..=199 => {
                    received.consume(head_bytes);
                    room -= head_bytes;
                }
                // Neither a TLS server nor an HTTP server sends first. RFC 9110 §9.3.6: such an answer has no body,
                // whatever its fields say.
                200..=299 if received.len() > head_bytes => {
                    return Err(ProxyFault::Malformed("bytes come after the head of its answer"));
                }
                200..=299 => return Ok(()),
                _ => return Err(ProxyFault::of_status(status)),
            }
        }
    }
}

/// Reads until a head is complete. Returns its status, and how many of the received bytes it takes, at most `room`.
async fn read_head(stream: &Stream, received: &mut Buffer, room: usize) -> Result<(u16, usize), ProxyFault> {
    loop {
        match parse(received.filled())? {
            Some((_, head_bytes)) if head_bytes > room => return Err(too_large()),
            Some(head) => return Ok(head),
            None if received.len() >= room => return Err(too_large()),
            None => {}
        }
        received.reserve(READ_ROOM);
        let (result, buffer) = stream.read(std::mem::replace(received, Buffer::none())).await;
        *received = buffer;
        match result {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return Err(ProxyFault::Closed),
        }
    }
}

const fn too_large() -> ProxyFault {
    ProxyFault::Malformed("the head of its answer is too large")
}

/// Parses the status and the length of a head; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(u16, usize)>, ProxyFault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => {
            let status = response.code.filter(|code| *code >= 100);
            status.map(|status| Some((status, head_bytes))).ok_or(ProxyFault::Malformed("its status is no status"))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::Version) => Err(ProxyFault::Malformed("it does not speak HTTP/1.0 or HTTP/1.1")),
        Err(httparse::Error::TooManyHeaders) => Err(too_large()),
        Err(_) => Err(ProxyFault::Malformed("the head of its answer breaks HTTP/1.1")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::io::deadline::on_a_shard;

    /// Reads the head that the gateway sends.
    pub fn read_request(tcp: &mut TcpStream) -> String {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && tcp.read(&mut byte).unwrap() > 0 {
            request.push(byte[0]);
        }
        String::from_utf8(request).unwrap()
    }

    /// Opens a tunnel through a proxy that answers with these parts and closes; returns the result and the request.
    fn opened(parts: Vec<Vec<u8>>) -> (Result<(), ProxyFault>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            tcp.set_nodelay(true).unwrap();
            let request = read_request(&mut tcp);
            for part in parts {
                // The gateway may have had enough.
                let _ = tcp.write_all(&part);
                thread::sleep(Duration::from_millis(1));
            }
            let _ = tcp.shutdown(Shutdown::Write);
            let _ = tcp.read_to_end(&mut Vec::new());
            request
        });
        let authorization = Concealed::new("Basic eDp5".into());
        let mut result = None;
        on_a_shard(async {
            let tcp = monoio::net::TcpStream::connect_addr(address).await.unwrap();
            let stream = Stream::new(tcp);
            result = Some(Tunnel::to("flow.test", 443, Some(&authorization)).open(&stream).await);
        });
        (result.unwrap(), proxy.join().unwrap())
    }

    fn told(parts: Vec<Vec<u8>>) -> String {
        match opened(parts).0 {
            Ok(()) => "open".into(),
            Err(fault) => {
                fault.to_string().strip_prefix("the proxy (--upstream-proxy, HTTPS_PROXY) ").unwrap().to_owned()
            }
        }
    }

    #[test]
    fn the_request_names_the_upstream_and_carries_the_credentials() {
        let (_, request) = opened(vec![b"HTTP/1.1 200 OK\r\n\r\n".into()]);
        assert_eq!(
            request,
            "CONNECT flow.test:443 HTTP/1.1\r\nHost: flow.test:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
        );
        let bare = Tunnel::to("::1", 8443, None);
        assert_eq!(bare.request.expose(), "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n");
        let tunnel = Tunnel::to("h", 1, Some(&Concealed::new("Basic hunter2".into())));
        assert!(!format!("{tunnel:?}").contains("hunter2"));
    }

    #[test]
    fn any_2xx_opens_the_tunnel_and_any_other_answer_is_told_by_its_status() {
        for (answer, outcome) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", "open"),
            ("HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n", "open"),
            ("HTTP/1.1 204 \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "open"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "open"),
            ("HTTP/1.1 101 Switching\r\n\r\n", "refused to connect to the upstream (101)"),
            ("HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "refused to connect to the upstream (302)"),
            ("HTTP/1.1 403 No\r\n\r\nHUNTER2", "refused to connect to the upstream (403)"),
            ("HTTP/1.1 405 No\r\n\r\n", "refused to connect to the upstream (405)"),
            ("HTTP/1.0 401 No\r\n\r\n", "wants another user or password than its URL has (401)"),
            ("HTTP/1.1 407 HUNTER2\r\n\r\n", "wants another user or password than its URL has (407)"),
            ("HTTP/1.1 429 No\r\n\r\n", "could not connect to the upstream (429)"),
            ("HTTP/1.1 500 No\r\n\r\n", "could not connect to the upstream (500)"),
            ("HTTP/1.1 502 No\r\n\r\n", "could not connect to the upstream (502)"),
            ("HTTP/1.1 503 No\r\n\r\n", "could not connect to the upstream (503)"),
            ("HTTP/1.1 504 No\r\n\r\n", "could not connect to the upstream (504)"),
        ] {
            assert_eq!(told(vec![answer.into()]), outcome, "{answer:?}");
            let bytes = answer.bytes().take(60).map(|byte| vec![byte]);
            let dripping = bytes.chain([answer.as_bytes().get(60..).unwrap_or_default().to_vec()]).collect();
            assert_eq!(told(dripping), outcome, "{answer:?}, byte by byte");
        }
    }

    #[test]
    fn what_is_no_answer_to_a_connect_is_refused() {
        let no_proxy = |what: &str| format!("does not answer as an HTTP proxy: {what}");
        let too_large = no_proxy("the head of its answer is too large");
        let closed = "closed the connection before it answered".to_owned();
        let filled = |length: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(length - 24)).into_bytes();
        let interim = b"HTTP/1.1 103 Hints\r\n\r\n".repeat(1000);
        let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:b\r\n".repeat(FIELDS_MAX + 1)).into_bytes();
        for (answer, outcome) in [
            (b"HTTP/1.1 200 OK\r\n\r\n\x16".to_vec(), no_proxy("bytes come after the head of its answer")),
            (b"HTTP/2.0 200 OK\r\n\r\n".to_vec(), no_proxy("it does not speak HTTP/1.0 or HTTP/1.1")),
            (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), no_proxy("it does not speak HTTP/1.0 or HTTP/1.1")),
            (b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), no_proxy("it does not speak HTTP/1.0 or HTTP/1.1")),
            (b"HTTP/1.1 2x0 OK\r\n\r\n".to_vec(), no_proxy("the head of its answer breaks HTTP/1.1")),
            (b"HTTP/1.1 099 OK\r\n\r\n".to_vec(), no_proxy("its status is no status")),
            (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n".to_vec(), no_proxy("the head of its answer breaks HTTP/1.1")),
            (b"".to_vec(), closed.clone()),
            (b"HTTP/1.1 200 OK\r\n".to_vec(), closed),
            (filled(ANSWER_BYTES_MAX), "open".to_owned()),
            (filled(ANSWER_BYTES_MAX + 1), too_large.clone()),
            ([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 3 * ANSWER_BYTES_MAX]].concat(), too_large.clone()),
            (interim, too_large.clone()),
            (fields, too_large),
        ] {
            assert_eq!(told(vec![answer.clone()]), outcome, "{}", answer.escape_ascii());
        }
    }
}
