//! Heads: finding the end of one as bytes come in (`scanner`), and parsing a whole one in place (`parse`).

mod parse;
mod scanner;
#[cfg(test)]
mod tests;

pub use self::parse::{
    Field, HeadError, RequestHead, ResponseHead, Version, begins_http2, with_request, with_response,
};
pub use self::scanner::{HeadLimits, HeadScanner, HeadSpan, StartLine};

pub(super) use self::parse::with_fields;
