//! The form that the answer to a request takes, whoever makes it.

use crate::http1::head::{RequestHead, Version};
use crate::proxy::error::Dialect;
use crate::proxy::guard::origin::AllowedOrigin;

/// The properties of a request that shape the answer to it.
#[derive(Debug, Clone, Copy)]
pub struct ReplyShape {
    pub version: Version,
    /// It answers a `HEAD`: head only (RFC 9110 §9.3.2).
    pub is_head: bool,
    /// The client wants its connection to go on.
    pub keep_alive: bool,
    pub dialect: Dialect,
    /// The page that made the request.
    pub origin: Option<AllowedOrigin>,
}

impl ReplyShape {
    /// Answers a request that could not be read.
    pub const UNKNOWN: ReplyShape = ReplyShape {
        version: Version::Http11,
        is_head: false,
        keep_alive: false,
        dialect: Dialect::OpenAi,
        origin: None,
    };

    /// Begins with what the request line says; the rest is known once the fields are examined.
    pub fn of(head: &RequestHead<'_>, path: &str) -> Self {
        ReplyShape {
            version: head.version,
            is_head: head.method == "HEAD",
            dialect: Dialect::of_path(path),
            ..ReplyShape::UNKNOWN
        }
    }

    pub fn is_http10(&self) -> bool {
        self.version == Version::Http10
    }
}
