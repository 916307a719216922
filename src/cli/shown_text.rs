//! Text that others wrote, as a terminal may show it.
//!
//! Invariant: it cannot move the cursor, fake a line or turn the direction of what stands beside it.

use std::fmt;

/// Shows a text with everything escaped that a terminal would obey.
pub struct ShownText<'a>(pub &'a str);

impl fmt::Display for ShownText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for character in self.0.chars() {
            if is_obeyed(character) {
                write!(out, "{}", character.escape_default())?;
            } else {
                out.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Tells whether a terminal does something else with a character than show it: controls, ends of lines, and the marks of
/// direction (Unicode TR9).
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_all_else_stays() {
        let text = "a\x1b[2J\u{9b}\r\u{202e}\u{2066}\u{2028}\u{61c} \u{e9}\u{4e2d}\u{5e9}";
        let shown = ShownText(text).to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\u{9b}\\r\\u{202e}\\u{2066}\\u{2028}\\u{61c} \u{e9}\u{4e2d}\u{5e9}");
    }
}
