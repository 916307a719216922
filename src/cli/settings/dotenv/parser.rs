//! The lines of `.env`: quotes, `export`, inline comments, `${NAME}` and `${NAME:-default}`.
//!
//! Pure. Invariant: values are only in memory that is erased. (The `dotenvy` crate refuses unquoted values with inner
//! spaces or backslashes, and expands `$NAME`.)

use std::fmt;

use zeroize::Zeroizing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// Neither a comment nor `NAME=value`.
    NotAssignment,
    UnclosedQuote,
    /// Text other than a comment after a closing quote.
    AfterQuote,
    /// The values get too long when their references are replaced, which can double them with every line.
    ValuesTooLong,
}

impl fmt::Display for LineFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            LineFault::NotAssignment => "expected NAME=value or a # comment",
            LineFault::UnclosedQuote => "a quote is not closed",
            LineFault::AfterQuote => "expected nothing but a # comment after the closing quote",
            LineFault::ValuesTooLong => "with what ${…} stands for, the values are longer than 1024 KiB",
        })
    }
}

/// A name with its value; `None` for a comment or a name without `=`.
type ParsedLine = Result<Option<(String, Zeroizing<String>)>, LineFault>;

/// The rest of the text, and the line that it begins on.
pub struct DotEnvParser<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> DotEnvParser<'a> {
    pub fn new(text: &'a str) -> Self {
        DotEnvParser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 }
    }

    /// Reads the next line that is not blank, or more where a quoted value goes on, and returns the number that it
    /// begins with.
    pub fn next_line(&mut self) -> Option<(usize, ParsedLine)> {
        self.take_while(char::is_whitespace);
        if self.rest.is_empty() {
            return None;
        }
        let line = self.line;
        Some((line, self.assignment()))
    }

    /// Returns the number of the line that was reached.
    pub fn line(&self) -> usize {
        self.line
    }

    fn assignment(&mut self) -> ParsedLine {
        if self.rest.starts_with('#') {
            self.take_while(is_inline);
            return Ok(None);
        }
        if let Some(after) = self.rest.strip_prefix("export").filter(|after| after.starts_with(is_blank)) {
            self.rest = after;
            self.take_while(is_blank);
        }
        let name = self.name()?.to_owned();
        self.take_while(is_blank);
        let Some(after) = self.rest.strip_prefix('=') else {
            self.end_of_line(LineFault::NotAssignment)?;
            return Ok(None);
        };
        self.rest = after;
        let gap = self.take_while(is_blank);
        let value = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            // `NAME= # comment`; but `NAME=#value`.
            Some('#') if !gap.is_empty() => Zeroizing::default(),
            _ => Zeroizing::new(unquoted(self.take_while(is_inline)).to_owned()),
        };
        self.end_of_line(LineFault::AfterQuote)?;
        Ok(Some((name, value)))
    }

    fn name(&mut self) -> Result<&'a str, LineFault> {
        let name = match self.rest.strip_prefix('\'') {
            Some(quoted) => {
                let (name, after) = quoted.split_once('\'').ok_or(LineFault::NotAssignment)?;
                self.rest = after;
                name
            }
            None => self.take_while(|character| !character.is_whitespace() && !matches!(character, '=' | '#')),
        };
        if name.is_empty() || name.contains(['\n', '\r']) { Err(LineFault::NotAssignment) } else { Ok(name) }
    }

    /// A value in quotes, which may hold line ends. Unknown escapes stay as they are.
    fn quoted(&mut self, quote: char) -> Result<Zeroizing<String>, LineFault> {
        let mut value = ErasedText::default();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            if character == quote {
                self.advance(at + 1);
                return Ok(value.0);
            }
            if character != '\\' {
                value.push(character);
                continue;
            }
            let escaped = characters.next().map(|(_, escaped)| escaped).ok_or(LineFault::UnclosedQuote)?;
            match unescape(quote, escaped) {
                Some(meaning) => value.push(meaning),
                None => {
                    value.push('\\');
                    value.push(escaped);
                }
            }
        }
        Err(LineFault::UnclosedQuote)
    }

    fn end_of_line(&mut self, fault: LineFault) -> Result<(), LineFault> {
        self.take_while(is_blank);
        if self.rest.starts_with('#') {
            self.take_while(is_inline);
        }
        if self.rest.is_empty() || self.rest.starts_with(['\n', '\r']) { Ok(()) } else { Err(fault) }
    }

    fn take_while(&mut self, is_wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !is_wanted(character)).unwrap_or(self.rest.len());
        self.advance(end)
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        // A lone CR ends a line too, as in Python's text files.
        let lone_returns = taken.matches('\r').count() - taken.matches("\r\n").count();
        self.line += taken.matches('\n').count() + lone_returns;
        taken
    }
}

fn is_inline(character: char) -> bool {
    !matches!(character, '\n' | '\r')
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() && is_inline(character)
}

/// A value without quotes ends at white space before `#`.
fn unquoted(text: &str) -> &str {
    let mut was_blank = false;
    let comment = text.char_indices().find(|(_, character)| {
        let starts_comment = was_blank && *character == '#';
        was_blank = character.is_whitespace();
        starts_comment
    });
    text[..comment.map_or(text.len(), |(at, _)| at)].trim_end()
}

fn unescape(quote: char, escaped: char) -> Option<char> {
    match (quote, escaped) {
        (_, '\\' | '\'') => Some(escaped),
        ('"', '"') => Some('"'),
        ('"', 'a') => Some('\u{07}'),
        ('"', 'b') => Some('\u{08}'),
        ('"', 'f') => Some('\u{0c}'),
        ('"', 'n') => Some('\n'),
        ('"', 'r') => Some('\r'),
        ('"', 't') => Some('\t'),
        ('"', 'v') => Some('\u{0b}'),
        _ => None,
    }
}

/// Replaces `${NAME}` and `${NAME:-default}`, once; an unknown name without default is empty. `$NAME` stays, and so does
/// what is no reference, such as `${a:b}`. `None`: it gets longer than `bytes_max`.
pub fn expand(
    value: &str,
    bytes_max: usize,
    lookup: impl Fn(&str) -> Option<Zeroizing<String>>,
) -> Option<Zeroizing<String>> {
    let mut expanded = ErasedText::default();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        rest = match Reference::split(after) {
            Some((Reference { name, default }, following)) => {
                match lookup(name) {
                    Some(found) => expanded.push_str(&found),
                    None => expanded.push_str(default),
                }
                following
            }
            None => {
                expanded.push_str("${");
                after
            }
        };
        if expanded.0.len() > bytes_max {
            return None;
        }
    }
    expanded.push_str(rest);
    (expanded.0.len() <= bytes_max).then_some(expanded.0)
}

/// A reference to another value.
struct Reference<'a> {
    /// Without `}` and `:`.
    name: &'a str,
    /// Without `}`.
    default: &'a str,
}

impl<'a> Reference<'a> {
    /// Splits one off the text after its `${`. No byte is looked at twice but where there is no `}` any more.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let (name, rest) = text.split_at(text.find(['}', ':'])?);
        let (default, following) = match rest.strip_prefix('}') {
            Some(following) => ("", following),
            None => rest.strip_prefix(":-")?.split_once('}')?,
        };
        Some((Reference { name, default }, following))
    }
}

/// A text that grows without leaving a copy behind.
#[derive(Default)]
struct ErasedText(Zeroizing<String>);

impl ErasedText {
    fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    fn push_str(&mut self, text: &str) {
        let length = self.0.len() + text.len();
        if length > self.0.capacity() {
            let mut larger = Zeroizing::new(String::with_capacity(length.max(2 * self.0.len())));
            larger.push_str(&self.0);
            self.0 = larger;
        }
        self.0.push_str(text);
    }
}
