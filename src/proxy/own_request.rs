//! The requests that the gateway makes for itself: each on a connection of its own, which is closed after its answer.
//!
//! In the background, within a time limit that the caller sets. Invariant: an answer is bounded, and a redirect is an
//! answer like any other, since our token goes to no other place.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::http1::body::{BodyError, BodyReader, Piece};
use crate::http1::fields::{self, Known};
use crate::http1::framing::{BodyLength, LengthFields, response_body_length};
use crate::http1::head::{HeadError, HeadLimits, HeadScanner, ResponseHead, with_response};
use crate::http1::interim::InterimAllowance;
use crate::io::Buffer;
use crate::io::buffer::PLAINTEXT_MAX;
use crate::proxy::request::head::UpstreamIdentity;
use crate::proxy::response::coding::ContentCoding;
use crate::upstream::{Connection, Connector, Received};

/// The longest that the upstream may take nothing of a request.
const WRITE_STALL: Duration = Duration::from_secs(5);

/// The rest of a request, as it is written: what is the same in all of them.
const REQUEST_BYTES: usize = 128;

/// The head of an answer, as far as it matters here.
struct OwnHead {
    status: u16,
    length: BodyLength,
    coding: ContentCoding,
}

/// The reason why there is no answer, or none that can be used.
#[derive(Debug)]
pub enum OwnRequestError {
    /// The connection could not be made, or did not last.
    Connection,
    /// The answer is not HTTP/1.1.
    Malformed,
    TooLarge,
    /// The body has a content coding, which was not asked for.
    Coded,
    /// The body ended before its end.
    Cut,
}

impl fmt::Display for OwnRequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            OwnRequestError::Connection => "there was no connection to the upstream, or it did not last",
            OwnRequestError::Malformed => "the answer is malformed",
            OwnRequestError::TooLarge => "the answer is too large",
            OwnRequestError::Coded => "the answer has a content coding that was not asked for",
            OwnRequestError::Cut => "the answer was cut",
        })
    }
}

impl std::error::Error for OwnRequestError {}

/// A request that is to be written.
pub struct OwnRequest<'a> {
    pub method: &'static str,
    /// The parts of the path from the origin on, one after the other.
    pub path: [&'a str; 2],
    /// The value of `Host`.
    pub authority: &'a str,
    /// Besides those of every request. Their values can stand in a head.
    pub fields: &'a [(&'static str, &'a [u8])],
    /// Empty: there is none.
    pub body: &'a [u8],
}

impl OwnRequest<'_> {
    /// Writes it into memory that is wiped, and long enough not to be left for a longer one.
    pub fn written(&self) -> Zeroizing<Vec<u8>> {
        let OwnRequest { method, path, authority, fields: own, body } = self;
        let own_bytes: usize = own.iter().map(|(name, value)| name.len() + ": \r\n".len() + value.len()).sum();
        let path_bytes: usize = path.iter().map(|part| part.len()).sum();
        let length = REQUEST_BYTES + path_bytes + authority.len() + own_bytes + body.len();
        let mut request = Zeroizing::new(Vec::with_capacity(length));
        for part in [method, " ", path[0], path[1], " HTTP/1.1\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
        fields::push_field(&mut request, "Host", authority.as_bytes());
        own.iter().for_each(|(name, value)| fields::push_field(&mut request, name, value));
        fields::push_field(&mut request, "Accept", b"application/json");
        if !body.is_empty() {
            fields::push_field(&mut request, "Content-Length", body.len().to_string().as_bytes());
        }
        fields::push_field(&mut request, "Connection", b"close");
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        request
    }
}

/// Writes a request for `path`, below the base path, with a token.
pub fn get_request(upstream: &UpstreamIdentity, path: &str, authorization: &[u8]) -> Zeroizing<Vec<u8>> {
    let UpstreamIdentity { base_path, authority } = upstream;
    let fields = &[("Authorization", authorization)];
    OwnRequest { method: "GET", path: [base_path, path], authority, fields, body: b"" }.written()
}

/// Sends a request, and returns the status of the answer.
///
/// # Errors
/// There is no answer.
pub async fn status_of(connector: &Connector, request: &[u8]) -> Result<u16, OwnRequestError> {
    let mut received = Buffer::none();
    let (_connection, head) = send(connector, request, &mut received, AnswerSecrecy::Open).await?;
    Ok(head.status)
}

/// Sends a request, and returns the status of the answer, with the body of a 200.
///
/// # Errors
/// There is no answer, or no body that can be used.
pub async fn answer_of(
    connector: &Connector,
    request: &[u8],
    body_bytes_max: usize,
) -> Result<(u16, Vec<u8>), OwnRequestError> {
    let mut body = Vec::new();
    let status = read_answer(connector, request, body_bytes_max, &mut body, AnswerSecrecy::Open).await?;
    Ok((status, body))
}

/// Sends a request whose answer is secret; as [`answer_of`]. Nothing of the body stays in memory but what is returned.
///
/// # Errors
/// As [`answer_of`].
pub async fn secret_answer_of(
    connector: &Connector,
    request: &[u8],
    body_bytes_max: usize,
) -> Result<(u16, Zeroizing<Vec<u8>>), OwnRequestError> {
    // Room for the longest one: a vector that grows would leave copies that are not wiped.
    let mut body = Zeroizing::new(Vec::with_capacity(body_bytes_max));
    let status = read_answer(connector, request, body_bytes_max, &mut body, AnswerSecrecy::Secret).await?;
    Ok((status, body))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AnswerSecrecy {
    Open,
    /// All that was received is wiped.
    Secret,
}

/// Sends a request, and appends the body of a 200 to `body`; never more than there may be.
async fn read_answer(
    connector: &Connector,
    request: &[u8],
    body_bytes_max: usize,
    body: &mut Vec<u8>,
    secrecy: AnswerSecrecy,
) -> Result<u16, OwnRequestError> {
    let mut received = Buffer::none();
    let (connection, OwnHead { status, length, coding }) = send(connector, request, &mut received, secrecy).await?;
    if status != 200 {
        return Ok(status);
    }
    if coding != ContentCoding::Identity {
        return Err(OwnRequestError::Coded);
    }
    if let BodyLength::Known(bytes) = length {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= body_bytes_max);
        // Reserved at once: a vector that grows would be copied on the shard.
        body.reserve(bytes.ok_or(OwnRequestError::TooLarge)?);
    }
    let mut reader = BodyReader::new(length);
    loop {
        if secrecy == AnswerSecrecy::Secret {
            received.mark_secret(received.len());
        }
        let mut is_too_large = false;
        let taken = reader.read_within(received.filled(), body_bytes_max as u64, |piece| {
            if let Piece::Data(data) = piece {
                is_too_large |= data.len() > body_bytes_max - body.len();
                body.extend_from_slice(if is_too_large { b"" } else { data });
            }
        });
        let taken = taken.map_err(|error| match error {
            BodyError::TooLarge => OwnRequestError::TooLarge,
            _ => OwnRequestError::Malformed,
        })?;
        received.consume(taken);
        if is_too_large {
            return Err(OwnRequestError::TooLarge);
        }
        if reader.is_complete() {
            return Ok(status);
        }
        match connection.read(|bytes| received.append(bytes)).await {
            Ok(Received::Data) => {}
            // RFC 9112 §8: without a length, the close is the end, where nobody can have cut it.
            Ok(Received::End { is_clean: true }) if length == BodyLength::UntilClose => return Ok(status),
            Ok(Received::End { .. }) | Err(_) => return Err(OwnRequestError::Cut),
        }
    }
}

/// Sends a request and reads up to the end of the final head.
async fn send(
    connector: &Connector,
    request: &[u8],
    received: &mut Buffer,
    secrecy: AnswerSecrecy,
) -> Result<(Connection, OwnHead), OwnRequestError> {
    let connection = connector.connect().await.map_err(|_| OwnRequestError::Connection)?;
    if secrecy == AnswerSecrecy::Secret {
        connection.receive_secrets();
    }
    connection.begin_exchange();
    for part in request.chunks(PLAINTEXT_MAX) {
        let sealed = connection.seal(part, part.len()).map_err(|_| OwnRequestError::Connection)?;
        connection.send(sealed, WRITE_STALL).await.map_err(|_| OwnRequestError::Connection)?;
    }
    let mut interim = InterimAllowance::default();
    loop {
        let mut scanner = HeadScanner::default();
        let span = loop {
            let scanned = scanner.scan(received.filled(), &HeadLimits::RESPONSE);
            if let Some(span) = scanned.map_err(|_| OwnRequestError::Malformed)? {
                break span;
            }
            match connection.read(|bytes| received.append(bytes)).await {
                Ok(Received::Data) => {}
                Ok(Received::End { .. }) | Err(_) => return Err(OwnRequestError::Connection),
            }
            if secrecy == AnswerSecrecy::Secret {
                received.mark_secret(received.len());
            }
        };
        let head = &received.filled()[span.start..span.end];
        let parsed = with_response(head, |parsed| match parsed.status {
            100..=199 => interim.admit(parsed, head.len()).map(|()| None),
            _ => facts(parsed).map(Some),
        });
        let parsed = parsed.and_then(|parsed| parsed).map_err(|_| OwnRequestError::Malformed)?;
        received.consume(span.end);
        if let Some(head) = parsed {
            return Ok((connection, head));
        }
    }
}

fn facts(head: &ResponseHead<'_>) -> Result<OwnHead, HeadError> {
    let mut lengths = LengthFields::default();
    let mut coding = ContentCoding::Identity;
    for field in head.fields {
        match fields::known(field.name) {
            Some(Known::ContentLength) => lengths.add_content_length(field.value),
            Some(Known::TransferEncoding) => lengths.add_transfer_encoding(field.value),
            Some(Known::ContentEncoding) => coding.add(field.value),
            _ => {}
        }
    }
    let length = response_body_length(lengths.declared(head.version)?, head.status, false);
    Ok(OwnHead { status: head.status, length, coding })
}

#[cfg(test)]
pub mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;
    use crate::io::deadline::on_a_shard;
    use crate::upstream::{Resolver, Route};

    /// Gives each connection the next of these answers, and tells its request.
    pub fn answering_whole(answers: Vec<String>) -> (Connector, Receiver<String>) {
        answering_with(answers, |request| request)
    }

    /// Instead of an answer: the connection stays open without one.
    pub const SILENCE: &str = "silence";

    /// Gives each connection the next of these answers, and tells the first line of its request.
    pub fn answering(answers: Vec<String>) -> (Connector, Receiver<String>) {
        answering_with(answers, |request| request.lines().next().unwrap().to_owned())
    }
    fn answering_with(answers: Vec<String>, shown: fn(String) -> String) -> (Connector, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, requests) = channel();
        thread::spawn(move || {
            let mut silent = Vec::new();
            for (tcp, answer) in listener.incoming().zip(answers) {
                let mut tcp = BufReader::new(tcp.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(tcp.read_line(&mut head).unwrap() > 0, "a whole head");
                }
                let length = head.split_once("Content-Length: ").map(|(_, rest)| rest.lines().next().unwrap());
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                tcp.read_exact(&mut body).unwrap();
                told.send(shown(head + &String::from_utf8(body).unwrap())).unwrap();
                if answer == SILENCE {
                    silent.push(tcp);
                    continue;
                }
                tcp.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        let resolver = Resolver::start("127.0.0.1".to_owned(), port).unwrap();
        (Connector::new(Route { resolver, tunnel: None, tls: None }, 1), requests)
    }

    #[test]
    fn a_request_goes_below_the_base_path_by_the_name_of_the_identity() {
        let upstream = UpstreamIdentity { base_path: "/base".to_owned(), authority: "api.example".to_owned() };
        let request = get_request(&upstream, "/v1/models", b"Bearer t");
        let parts = ["/base/v1/models", "api.example", "Authorization: Bearer t\r\n"];
        let capacity = REQUEST_BYTES + parts.map(str::len).iter().sum::<usize>();
        assert_eq!(request.capacity(), capacity, "it was not moved");
        let request = String::from_utf8(request.to_vec()).expect("text");
        let expected = "GET /base/v1/models HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer t\r\n\
                        Accept: application/json\r\nConnection: close\r\n\r\n";
        assert_eq!(request, expected);
    }

    #[test]
    fn a_body_is_read_whole_however_it_is_framed_and_never_beyond_its_limit() {
        let head = |fields: &str| format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{fields}\r\n");
        let known = head("Content-Length: 5\r\n");
        for (answer, expected) in [
            (known.clone() + "12345", "200 12345"),
            (head("Transfer-Encoding: chunked\r\n") + "2\r\n12\r\n3\r\n345\r\n0\r\n\r\n", "200 12345"),
            (head("") + "12345", "200 12345"),
            ("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 99\r\n\r\n".to_owned(), "302 "),
            (known + "1234", "the answer was cut"),
            (head("Content-Length: 6\r\n"), "the answer is too large"),
            (head("Transfer-Encoding: chunked\r\n") + "6\r\n123456\r\n0\r\n\r\n", "the answer is too large"),
            (head("") + "123456", "the answer is too large"),
            (
                head("Content-Length: 5\r\nContent-Encoding: gzip\r\n"),
                "the answer has a content coding that was not asked for",
            ),
            ("HTTP/1.1 OK\r\n\r\n".to_owned(), "the answer is malformed"),
            (String::new(), "there was no connection to the upstream, or it did not last"),
        ] {
            let (connector, _requests) = answering(vec![answer.clone()]);
            let answered = on_a_shard(async move {
                let answer = answer_of(&connector, b"GET / HTTP/1.1\r\n\r\n", 5).await;
                answer.map(|(status, body)| format!("{status} {}", String::from_utf8_lossy(&body)))
            });
            assert_eq!(answered.unwrap_or_else(|error| error.to_string()), expected, "{answer:?}");
            let (connector, _requests) = answering(vec![answer.clone()]);
            let answered = on_a_shard(async move {
                let answer = secret_answer_of(&connector, b"GET / HTTP/1.1\r\n\r\n", 5).await;
                answer.map(|(status, body)| {
                    assert!(status != 200 || body.capacity() == 5, "it was moved");
                    format!("{status} {}", String::from_utf8_lossy(&body))
                })
            });
            assert_eq!(answered.unwrap_or_else(|error| error.to_string()), expected, "secret: {answer:?}");
        }
    }
}
