//! `.env` in the syntax of python-dotenv, which the Python original reads.
//!
//! The file is found (over `links`) and judged (`file`, with the reasons of a `refusal`), then its lines are read
//! (`parser`). Values are looked up here and never put into the process's environment, where child processes and crash
//! reports would find them; they are erased from memory. Two deviations: a line that cannot be read is an error, not
//! skipped; and a `.env` that somebody else could have written is refused, since it can name another upstream, which
//! would get the tokens.

mod error;
mod file;
mod links;
mod parser;
mod refusal;

use std::path::Path;

use zeroize::Zeroizing;

pub use error::DotEnvError;

use self::file::DotEnvFile;
use self::parser::{DotEnvParser, LineFault};

/// All values together, as long as a file may be: a line of references can double what came before it.
const VALUES_BYTES_MAX: usize = file::FILE_BYTES_MAX;

/// The assignments of one file, in its order.
#[derive(Default)]
pub struct DotEnv {
    assignments: Vec<Assignment>,
    /// A line for the operator about the file.
    pub warning: Option<String>,
}

struct Assignment {
    name: String,
    value: Zeroizing<String>,
    line: usize,
}

impl DotEnv {
    /// Reads a file; an absent one is empty.
    ///
    /// # Errors
    /// If the file exists and cannot be trusted, read or parsed.
    pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, DotEnvError> {
        let Some(DotEnvFile { text, warning }) = file::read(path)? else { return Ok(DotEnv::default()) };
        Ok(DotEnv { warning, ..DotEnv::parse(&text, environment)? })
    }

    /// Reads the text of a file. `environment` wins over the file in `${NAME}`.
    ///
    /// # Errors
    /// At the first line that is not an assignment.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, DotEnvError> {
        let mut dotenv = DotEnv::default();
        let mut parser = DotEnvParser::new(text);
        let mut room_bytes = VALUES_BYTES_MAX;
        while let Some((line, assignment)) = parser.next_line() {
            let assignment = assignment.map_err(|fault| DotEnvError::Line { line: parser.line(), fault })?;
            if let Some((name, value)) = assignment {
                let lookup = |name: &str| match environment(name) {
                    Some(value) => Some(Zeroizing::new(value)),
                    None => dotenv.find(name).map(|(value, _)| Zeroizing::new(value.to_owned())),
                };
                let value = parser::expand(&value, room_bytes, lookup)
                    .ok_or(DotEnvError::Line { line, fault: LineFault::ValuesTooLong })?;
                room_bytes -= value.len();
                dotenv.assignments.push(Assignment { name, value, line });
            }
        }
        Ok(dotenv)
    }

    /// The last value given to a name, and its line.
    pub fn find(&self, name: &str) -> Option<(&str, usize)> {
        let found = self.assignments.iter().rev().find(|assignment| assignment.name == name)?;
        Some((&found.value, found.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, String, usize)>, String> {
        let environment = |name: &str| (name == "FROM_ENV").then(|| "outside".to_owned());
        let dotenv = DotEnv::parse(text, &environment).map_err(|error| error.to_string())?;
        Ok(dotenv.assignments.into_iter().map(|found| (found.name, found.value.to_string(), found.line)).collect())
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
    fn an_unreadable_line_is_an_error_with_its_number_and_without_its_text() {
        for (text, message) in [
            ("A=1\nhunter2 b", ".env line 2: expected NAME=value or a # comment"),
            ("=hunter2", ".env line 1: expected NAME=value or a # comment"),
            ("'A=hunter2", ".env line 1: expected NAME=value or a # comment"),
            ("A=\"hunter2", ".env line 1: a quote is not closed"),
            ("A='hunter2\\'", ".env line 1: a quote is not closed"),
            ("\nA='x' hunter2", ".env line 2: expected nothing but a # comment after the closing quote"),
        ] {
            assert_eq!(parse(text), Err(message.into()), "{text:?}");
        }
    }
}
