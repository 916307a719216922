//! Messages of HTTP/1.1 on the wire, as one parser or another has read them, and a look at the bytes that takes nothing
//! for granted.

use crate::message::trimmed;

/// The reading of the first message in some bytes.
#[derive(Debug, Default)]
pub struct Reading {
    /// `None`: it is not whole, or refused.
    pub head: Option<HeadReading>,
    /// As far as it came.
    pub content: Vec<u8>,
    pub trailers: Vec<FieldReading>,
    pub end: End,
}

/// The name in lower case, and the value.
pub type FieldReading = (Vec<u8>, Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
pub struct HeadReading {
    pub first_line: FirstLine,
    pub is_http10: bool,
    /// Of a request: the host that it is for, where its target has none.
    pub host: Option<Vec<u8>>,
    /// All other fields, but for cookies.
    pub fields: Vec<FieldReading>,
    pub framing: Framing,
}

#[derive(Debug, PartialEq, Eq)]
pub enum FirstLine {
    Request { method: Vec<u8>, target: Vec<u8> },
    Status { status: u16, reason: Vec<u8> },
}

impl FirstLine {
    /// Tells whether it is of a request whose target is a path, so that `Host` says for which host. The authority of a
    /// URL stands in its place, and is compared by `route`'s own target; the target of CONNECT, which no route takes, is
    /// an authority whatever it begins with (RFC 9110 §9.3.6), and to kawa so is that of `connect`.
    pub fn has_path(&self) -> bool {
        let FirstLine::Request { method, target } = self else { return false };
        !method.eq_ignore_ascii_case(b"CONNECT") && target.starts_with(b"/")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A body of so many bytes, which may be none.
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The message has so many bytes: the next begins there.
    At(usize),
    #[default]
    Missing,
    Refused,
}

impl Reading {
    pub fn refused() -> Self {
        Reading { end: End::Refused, ..Reading::default() }
    }
}

/// The bytes of a message and of what follows it.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    pub bytes: &'a [u8],
    pub is_request: bool,
}

impl<'a> Wire<'a> {
    /// The lines up to the first empty one, without their ends.
    fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let lines = self.bytes.split(|byte| *byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take_while(|line| !line.is_empty())
    }

    pub fn first_line(&self) -> &'a [u8] {
        self.lines().next().unwrap_or_default()
    }

    /// The words of the first line, which single spaces divide.
    pub fn word(&self, index: usize) -> &'a [u8] {
        self.first_line().split(|byte| *byte == b' ').nth(index).unwrap_or_default()
    }

    /// Each field line, divided at its first colon.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.lines().skip(1).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            (&line[..colon], trimmed(line.get(colon + 1..).unwrap_or_default()))
        })
    }

    pub fn values(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value).collect()
    }

    /// The members of all lists of that name.
    pub fn members(&self, name: &str) -> Vec<&'a [u8]> {
        let values = self.values(name);
        let members = values.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(trimmed);
        members.filter(|member| !member.is_empty()).collect()
    }

    /// The number of bytes up to the first empty line, which is among them.
    pub fn head_bytes(&self) -> usize {
        let end = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        end.map_or(self.bytes.len(), |end| end + 4)
    }

    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.head_bytes()..]
    }
}
