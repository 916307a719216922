//! `.env`, by python-dotenv's grammar, with the deviation that a line that cannot be read is an error.

/// Reads the assignments; `None` where a line cannot be read. `environment` wins in `${NAME}`.
pub fn read(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Option<Vec<(String, String)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut cursor = Cursor { characters: text.chars().collect(), at: 0 };
    let mut assignments: Vec<(String, String)> = Vec::new();
    loop {
        cursor.skip(char::is_whitespace);
        if cursor.peek().is_none() {
            return Some(assignments);
        }
        if let Some((name, value)) = cursor.line()? {
            let before = |name: &str| assignments.iter().rfind(|known| known.0 == name).map(|known| known.1.clone());
            let value = expanded(&value, &|name| environment(name).or_else(|| before(name)));
            assignments.push((name, value));
        }
    }
}

struct Cursor {
    characters: Vec<char>,
    at: usize,
}

impl Cursor {
    fn line(&mut self) -> Option<Option<(String, String)>> {
        if self.peek() == Some('#') {
            self.skip(is_of_line);
            return Some(None);
        }
        let is_export = self.characters[self.at..].starts_with(&['e', 'x', 'p', 'o', 'r', 't']);
        if is_export && self.characters.get(self.at + 6).is_some_and(|after| is_blank(*after)) {
            self.at += 6;
            self.skip(is_blank);
        }
        let name = self.name()?;
        self.skip(is_blank);
        if self.peek() != Some('=') {
            return self.ends().then_some(None);
        }
        self.at += 1;
        let has_gap = !self.skip(is_blank).is_empty();
        let value = match self.peek() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            Some('#') if has_gap => String::new(),
            _ => unquoted(&self.skip(is_of_line)),
        };
        self.ends().then_some(Some((name, value)))
    }

    fn name(&mut self) -> Option<String> {
        let name = if self.peek() == Some('\'') {
            self.at += 1;
            let name = self.skip(|character| character != '\'');
            self.peek()?;
            self.at += 1;
            name
        } else {
            self.skip(|character| !character.is_whitespace() && character != '=' && character != '#')
        };
        (!name.is_empty() && name.chars().all(is_of_line)).then_some(name)
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut value = String::new();
        self.at += 1;
        loop {
            let character = self.next()?;
            if character == quote {
                return Some(value);
            }
            if character != '\\' {
                value.push(character);
                continue;
            }
            let escaped = self.next()?;
            let meaning = match (quote, escaped) {
                (_, '\\' | '\'') | ('"', '"') => escaped,
                ('"', 'a') => '\x07',
                ('"', 'b') => '\x08',
                ('"', 'f') => '\x0c',
                ('"', 'n') => '\n',
                ('"', 'r') => '\r',
                ('"', 't') => '\t',
                ('"', 'v') => '\x0b',
                _ => {
                    value.push('\\');
                    escaped
                }
            };
            value.push(meaning);
        }
    }

    /// Tells whether nothing but a comment follows on the line.
    fn ends(&mut self) -> bool {
        self.skip(is_blank);
        if self.peek() == Some('#') {
            self.skip(is_of_line);
        }
        self.peek().is_none_or(|character| !is_of_line(character))
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&is_skipped) {
            self.at += 1;
        }
        self.characters[start..self.at].iter().collect()
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.characters.get(self.at - 1).copied()
    }
}

fn is_of_line(character: char) -> bool {
    character != '\n' && character != '\r'
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() && is_of_line(character)
}

/// Without a comment, which begins after white space, and without white space at the end.
fn unquoted(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let comment = (1..characters.len()).find(|at| characters[*at] == '#' && characters[*at - 1].is_whitespace());
    let value: String = characters[..comment.unwrap_or(characters.len())].iter().collect();
    value.trim_end().to_owned()
}

/// Replaces `${NAME}` and `${NAME:-default}`, where the name has no `}` and no `:`, and the default no `}`.
fn expanded(value: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let Some(at) = value.find("${") else { return value.to_owned() };
    let (before, after) = (&value[..at], &value[at + 2..]);
    let name_end = after.find(['}', ':']).unwrap_or(after.len());
    let (name, rest) = after.split_at(name_end);
    let default_and_rest = match rest.strip_prefix(":-") {
        Some(rest) => rest.split_once('}'),
        None => rest.strip_prefix('}').map(|rest| ("", rest)),
    };
    match default_and_rest {
        Some((default, rest)) => {
            let found = lookup(name).unwrap_or_else(|| default.to_owned());
            [before, &found, &expanded(rest, lookup)].concat()
        }
        None => [before, "${", &expanded(after, lookup)].concat(),
    }
}
