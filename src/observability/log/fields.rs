//! The fields of an event as text in which no value can fake a line: control characters are escaped.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

/// Writes fields as `message name=value …` and lets no control character through, wherever the value comes from.
///
/// The formatter of `tracing-subscriber` escapes ESC and the like, but passes on CR and LF in displayed values.
pub struct SafeFields;

impl<'writer> FormatFields<'writer> for SafeFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = SafeVisitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct SafeVisitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for SafeVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_ok() {
            self.result = self.write(field.name(), value);
        }
    }
}

impl SafeVisitor<'_> {
    fn write(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            // Dimmed on a terminal; these are the only escape sequences that get through.
            let (dim, plain) = if self.writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            write!(self.writer, "{dim}{name}={plain}")?;
        }
        write!(Escaping(&mut self.writer), "{value:?}")
    }
}

/// Replaces control characters by their Rust escapes (`\n`, `\u{1b}`).
struct Escaping<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The case of nearly every text; this check is many times faster than one character by character.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        // U+2028 and U+2029 end a line for some viewers.
        let is_unsafe = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, after) = rest.split_at(at);
            self.0.write_str(plain)?;
            let character = after.chars().next().unwrap_or_default();
            write!(self.0, "{}", character.escape_default())?;
            rest = &after[character.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}
