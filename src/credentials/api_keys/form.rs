//! The forms of a key and of what belongs to it, wherever they are written.

/// Room for any token, and for each of a head's fields.
pub const API_KEY_BYTES_MAX: usize = 1024;
/// Shorter ones can be guessed: 16 characters of a random key are 80 bits and more.
pub const KEY_BYTES_RECOMMENDED: usize = 16;

const NAME_BYTES_MAX: usize = 64;
/// The longest name of a model or a credential; those of models are shorter by far.
const OTHER_NAME_BYTES_MAX: usize = 256;

/// Tells whether a text can be the name of a key.
pub fn is_name(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_name)
}

/// Describes a name of a key.
pub fn name_form() -> String {
    format!("a name of 1 to {NAME_BYTES_MAX} letters, digits and -_.@")
}

/// Tells whether a text can be a key: bytes that a field value can hold without quotes, and a shell variable without
/// escapes.
pub fn is_key(text: &str) -> bool {
    (1..=API_KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Describes a key.
pub fn key_form() -> String {
    format!("a key of 1 to {API_KEY_BYTES_MAX} visible ASCII characters without spaces")
}

/// Tells whether a text can be the name of a model, or of several with `*`.
pub fn is_model(text: &str) -> bool {
    (1..=OTHER_NAME_BYTES_MAX).contains(&text.len())
        && !text.contains(|character: char| character.is_whitespace() || character.is_control())
}

/// Describes a name of models.
pub fn model_form() -> String {
    format!("the name of a model, or of several with *, of 1 to {OTHER_NAME_BYTES_MAX} bytes without spaces")
}

/// Tells whether a text can be the name of a credential, which has no blanks around it.
pub fn is_credential(text: &str) -> bool {
    (1..=OTHER_NAME_BYTES_MAX).contains(&text.len()) && text.trim() == text && !text.contains(char::is_control)
}

/// Describes a name of a credential.
pub fn credential_form() -> String {
    format!("the name of a credential of the secrets file, of 1 to {OTHER_NAME_BYTES_MAX} bytes")
}

/// The forms of a text with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysForm {
    /// `name:key`, also where there is nothing.
    Lines,
    /// An array of entries.
    Json,
}

impl KeysForm {
    /// Tells the form by the first sign after blanks and comments of either form.
    pub fn of(text: &str) -> Self {
        let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
        while let Some(end) = end_of_comment(rest) {
            rest = rest[end..].trim_start();
        }
        // An object in place of the array is told as such.
        if rest.starts_with(['[', '{']) { KeysForm::Json } else { KeysForm::Lines }
    }
}

/// Returns where the comment ends that a text begins with; `None` where it begins with none.
fn end_of_comment(text: &str) -> Option<usize> {
    if let Some(content) = text.strip_prefix("/*") {
        return Some(content.find("*/").map_or(text.len(), |at| at + 4));
    }
    let is_line = text.starts_with("//") || text.starts_with('#');
    is_line.then(|| text.find('\n').unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_after_comments_tells_the_form() {
        for (text, form) in [
            ("", KeysForm::Lines),
            ("alice:[", KeysForm::Lines),
            ("# [\nalice:key", KeysForm::Lines),
            ("// [\n/* [ */ alice:key", KeysForm::Lines),
            ("/* [", KeysForm::Lines),
            ("[", KeysForm::Json),
            ("\u{feff} \n/* a:b **/ // c:d\n\n[]", KeysForm::Json),
            ("# of the other form\n[", KeysForm::Json),
            ("{\"alice\": 1}", KeysForm::Json),
        ] {
            assert_eq!(KeysForm::of(text), form, "{text}");
        }
    }
}
