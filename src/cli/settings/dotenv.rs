//! `.env` in the syntax of python-dotenv, which the Python original reads.
//!
//! Quotes, `export`, inline comments, `${NAME}` and `${NAME:-default}`. Values are looked up here and never put into
//! the process's environment, where child processes and crash reports would find them. Two deviations: a line that
//! cannot be read is an error, not skipped; and `.env` may be a directory (a Python virtual environment), which counts
//! as absent. (The `dotenvy` crate refuses unquoted values with inner spaces or backslashes, and expands `$NAME`.)

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than any settings file has.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Limit on all values together: what a file can hold without references. With them, forty lines that each name the
/// one before twice would stand for a terabyte.
const VALUES_BYTES_MAX: usize = FILE_BYTES_MAX as usize;

/// The assignments of one file, in its order.
#[derive(Default)]
pub struct DotEnv {
    assignments: Vec<Assignment>,
}

struct Assignment {
    name: String,
    value: String,
    line: usize,
}

impl DotEnv {
    /// Reads a file; an absent one is empty.
    ///
    /// # Errors
    /// If the file exists and cannot be read or parsed.
    pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, DotEnvError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DotEnv::default()),
            Err(error) => return Err(DotEnvError::Unreadable(error)),
        };
        if file.metadata().map_err(DotEnvError::Unreadable)?.is_dir() {
            return Ok(DotEnv::default());
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(DotEnvError::Unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(DotEnvError::TooLarge);
        }
        let text = String::from_utf8(bytes).map_err(|_| DotEnvError::NotUtf8)?;
        DotEnv::parse(&text, environment)
    }

    /// Reads the text of a file. `environment` wins over the file in `${NAME}`.
    ///
    /// # Errors
    /// At the first line that is not an assignment.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, DotEnvError> {
        let mut dotenv = DotEnv::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = DotEnvParser { rest: text, line: 1 };
        let mut room_bytes = VALUES_BYTES_MAX;
        loop {
            reader.take_while(char::is_whitespace);
            if reader.rest.is_empty() {
                return Ok(dotenv);
            }
            let line = reader.line;
            let assignment = reader.assignment().map_err(|fault| DotEnvError::Line { line: reader.line, fault })?;
            if let Some((name, value)) = assignment {
                let lookup = |name: &str| environment(name).or_else(|| dotenv.find(name).map(|found| found.0.into()));
                let value = expand(&value, room_bytes, lookup)
                    .ok_or(DotEnvError::Line { line, fault: LineFault::ValuesTooLong })?;
                room_bytes -= value.len();
                dotenv.assignments.push(Assignment { name, value, line });
            }
        }
    }

    /// The last value given to a name, and its line.
    pub fn find(&self, name: &str) -> Option<(&str, usize)> {
        let found = self.assignments.iter().rev().find(|assignment| assignment.name == name)?;
        Some((&found.value, found.line))
    }
}

/// The reason why `.env` cannot be used. It repeats nothing of the content.
#[derive(Debug)]
pub enum DotEnvError {
    Unreadable(io::Error),
    TooLarge,
    NotUtf8,
    Line { line: usize, fault: LineFault },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// Neither a comment nor `NAME=value`.
    NotAssignment,
    UnclosedQuote,
    /// Text other than a comment after a closing quote.
    AfterQuote,
    /// The values up to this one have more bytes than [`VALUES_BYTES_MAX`] with what their references stand for.
    ValuesTooLong,
}

impl fmt::Display for DotEnvError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DotEnvError::Unreadable(error) => write!(formatter, ".env cannot be read: {error}"),
            DotEnvError::TooLarge => write!(formatter, ".env is larger than {} KiB", FILE_BYTES_MAX / 1024),
            DotEnvError::NotUtf8 => formatter.write_str(".env is not UTF-8 text"),
            DotEnvError::Line { line, fault } => {
                let expected = match fault {
                    LineFault::NotAssignment => "expected NAME=value or a # comment",
                    LineFault::UnclosedQuote => "a quote is not closed",
                    LineFault::AfterQuote => "expected nothing but a # comment behind the closing quote",
                    LineFault::ValuesTooLong => "with what ${…} stands for, the values are longer than 1024 KiB",
                };
                write!(formatter, ".env line {line}: {expected}")
            }
        }
    }
}

impl std::error::Error for DotEnvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DotEnvError::Unreadable(error) => Some(error),
            DotEnvError::TooLarge | DotEnvError::NotUtf8 | DotEnvError::Line { .. } => None,
        }
    }
}

/// The rest of the text, and the line that it begins on.
struct DotEnvParser<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> DotEnvParser<'a> {
    /// One line, or more where a quoted value goes on; `None` for a comment or a name without `=`.
    fn assignment(&mut self) -> Result<Option<(String, String)>, LineFault> {
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
            Some('#') if !gap.is_empty() => String::new(),
            _ => unquoted(self.take_while(is_inline)).to_owned(),
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
    fn quoted(&mut self, quote: char) -> Result<String, LineFault> {
        let mut value = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            if character == quote {
                self.advance(at + 1);
                return Ok(value);
            }
            if character != '\\' {
                value.push(character);
                continue;
            }
            let escaped = characters.next().map(|(_, escaped)| escaped).ok_or(LineFault::UnclosedQuote)?;
            match unescape(quote, escaped) {
                Some(meaning) => value.push(meaning),
                None => value.extend(['\\', escaped]),
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
fn expand(value: &str, bytes_max: usize, lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut expanded = String::with_capacity(value.len().min(bytes_max));
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        rest = match Reference::split(after) {
            Some((Reference { name, default }, following)) => {
                expanded.push_str(&lookup(name).unwrap_or_else(|| default.to_owned()));
                following
            }
            None => {
                expanded.push_str("${");
                after
            }
        };
        if expanded.len() > bytes_max {
            return None;
        }
    }
    expanded.push_str(rest);
    (expanded.len() <= bytes_max).then_some(expanded)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, String, usize)>, String> {
        let environment = |name: &str| (name == "FROM_ENV").then(|| "outside".to_owned());
        let dotenv = DotEnv::parse(text, &environment).map_err(|error| error.to_string())?;
        Ok(dotenv.assignments.into_iter().map(|found| (found.name, found.value, found.line)).collect())
    }

    /// Expectations taken from python-dotenv's `dotenv_values` run on the same lines.
    #[test]
    fn lines_mean_what_they_mean_to_python_dotenv() {
        for (line, name, value) in [
            ("A=1", "A", "1"),
            ("A= # comment", "A", ""),
            ("A=   ", "A", ""),
            ("A=", "A", ""),
            ("A=\"\"", "A", ""),
            ("A=x # c", "A", "x"),
            ("A=x\t# c", "A", "x"),
            ("A=x#c", "A", "x#c"),
            ("A=#x", "A", "#x"),
            ("A=x   ", "A", "x"),
            ("A=\"x # y\" # c", "A", "x # y"),
            ("A='x y'", "A", "x y"),
            ("A=a b c", "A", "a b c"),
            ("A=a'b", "A", "a'b"),
            ("A=C:\\dir", "A", "C:\\dir"),
            ("export A=1", "A", "1"),
            ("export\tA=1", "A", "1"),
            ("export=1", "export", "1"),
            ("  A = 2 ", "A", "2"),
            (r#"A="a\nb\t\"\\ \q""#, "A", "a\nb\t\"\\ \\q"),
            (r"A='a\nb\'\\'", "A", r"a\nb'\"),
            ("'A'=3", "A", "3"),
            ("A-B.c=3", "A-B.c", "3"),
            ("A=\"two\nlines\"", "A", "two\nlines"),
            ("A=${FROM_ENV}-${NOPE:-d}-${NOPE}-$A", "A", "outside-d--$A"),
            ("A='${FROM_ENV}'", "A", "outside"),
            ("A=${FROM_ENV", "A", "${FROM_ENV"),
            ("A=${a:b}${FROM_ENV}", "A", "${a:b}outside"),
            ("A=https://h:1/p?q=1", "A", "https://h:1/p?q=1"),
        ] {
            assert_eq!(parse(line), Ok(vec![(name.into(), value.into(), 1)]), "{line:?}");
        }
    }

    #[test]
    fn comments_blank_lines_and_bare_names_assign_nothing() {
        assert_eq!(parse("\u{feff}# a\n\r\n  # b\nNAME\nNAME # c\n\n"), Ok(vec![]));
    }

    #[test]
    fn the_last_of_several_values_counts_and_knows_its_line() {
        let text = "A=1\r\nB=\"x\ny\"\rC=${A}${FROM_ENV}\nA=2\nFROM_ENV=inside\nD=${FROM_ENV}";
        let environment = |name: &str| (name == "FROM_ENV").then(|| "outside".to_owned());
        let dotenv = DotEnv::parse(text, &environment).expect("readable");
        assert_eq!(dotenv.find("A"), Some(("2", 5)));
        assert_eq!(dotenv.find("B"), Some(("x\ny", 2)));
        assert_eq!(dotenv.find("C"), Some(("1outside", 4)));
        assert_eq!(dotenv.find("D"), Some(("outside", 7)));
        assert_eq!(dotenv.find("E"), None);
    }

    #[test]
    fn an_unreadable_line_is_an_error_with_its_number_and_without_its_text() {
        for (text, message) in [
            ("A=1\nhunter2 b", ".env line 2: expected NAME=value or a # comment"),
            ("=hunter2", ".env line 1: expected NAME=value or a # comment"),
            ("'A=hunter2", ".env line 1: expected NAME=value or a # comment"),
            ("A=\"hunter2", ".env line 1: a quote is not closed"),
            ("A='hunter2\\'", ".env line 1: a quote is not closed"),
            ("\nA='x' hunter2", ".env line 2: expected nothing but a # comment behind the closing quote"),
        ] {
            assert_eq!(parse(text), Err(message.into()), "{text:?}");
        }
    }

    #[test]
    fn references_are_replaced_within_a_bound() {
        let doubled = |lines: usize| {
            let line = |at: usize| format!("A{}=${{A{at}}}${{A{at}}}\n", at + 1);
            format!("A0={}\n{}", "x".repeat(1024), (0..lines).map(line).collect::<String>())
        };
        // 1 KiB and 2 and 4 and so on; the tenth would be the 1,024th and following.
        let values = parse(&doubled(8)).expect("half a mebibyte");
        assert_eq!(values.last().map(|value| value.1.len()), Some(256 * 1024));
        let expected = ".env line 11: with what ${…} stands for, the values are longer than 1024 KiB";
        for lines in [10, 40, 4000] {
            assert_eq!(parse(&doubled(lines)).err().as_deref(), Some(expected));
        }
        let wide = format!("A={}\nB={}", "x".repeat(1024), "${A}".repeat(100_000));
        assert_eq!(parse(&wide).err().as_deref(), Some(&*expected.replace("11", "2")));
    }

    #[test]
    fn what_is_no_reference_stays_however_often_it_comes() {
        for no_reference in ["${", "${a:b}", "${a:", "${a:}", "${:-", "$", "{}", "${a:b:-c}"] {
            let text = no_reference.repeat(3);
            assert_eq!(parse(&format!("A={text}")), Ok(vec![("A".into(), text, 1)]), "{no_reference}");
        }
        let many = "${:".repeat(300_000);
        assert_eq!(parse(&format!("A={many}}}")).expect("readable")[0].1.len(), many.len() + 1);
    }

    #[test]
    fn an_absent_file_and_a_directory_are_empty_and_other_failures_are_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join(".env");
        let load = || DotEnv::load(&path, &|_| None);
        assert!(load().expect("absent").assignments.is_empty());
        std::fs::write(&path, b"A=\xff").expect("written");
        assert_eq!(load().err().map(|error| error.to_string()).as_deref(), Some(".env is not UTF-8 text"));
        std::fs::write(&path, vec![b'\n'; 1024 * 1024 + 1]).expect("written");
        assert_eq!(load().err().map(|error| error.to_string()).as_deref(), Some(".env is larger than 1024 KiB"));
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&path, &path).expect("a link to itself");
        assert!(load().err().is_some_and(|error| error.to_string().starts_with(".env cannot be read: ")));
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("created");
        assert!(load().expect("a directory").assignments.is_empty());
    }
}
