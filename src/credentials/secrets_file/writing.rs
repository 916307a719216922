//! The text of a secrets file: one with new entries.
//!
//! Invariant: an existing text stays as it is, byte for byte, but for what is added.

use zeroize::Zeroizing;

use super::error::SecretsFault;
use super::from_json;
use crate::credentials::commented_json::strip_comments;
use crate::credentials::secret::Secret;

/// An entry that was asked for.
#[derive(Debug)]
pub struct NewEntry {
    pub client_id: Secret,
    pub client_secret: Secret,
    pub tenant: String,
    pub name: Option<String>,
}

/// Returns the text of a file with these entries alone.
///
/// # Errors
/// They are not valid.
pub fn written(entries: &[NewEntry]) -> Result<Zeroizing<String>, SecretsFault> {
    let text = Zeroizing::new(format!("[{}\n]\n", *joined(entries)));
    from_json(&text)?;
    Ok(text)
}

/// Returns the text of a file with these entries after its own. Its comments stay where they are.
///
/// # Errors
/// It is not valid, or would not be any more.
pub fn extended(text: &str, entries: &[NewEntry]) -> Result<Zeroizing<String>, SecretsFault> {
    from_json(text)?;
    // Both are as long as they were, since comments become spaces.
    let (mark, body) = text.split_at(text.len() - text.strip_prefix('\u{feff}').unwrap_or(text).len());
    let bare = strip_comments(body)?;
    // A valid file has an array of at least one object: its last signs are `}` and `]`.
    let end = bare.trim_end().len() - 1;
    let end_of_last = bare[..end].trim_end().len();
    let after_last = body[end_of_last..end].trim_end();
    let extended =
        Zeroizing::new(format!("{mark}{},{after_last}{}\n{}", &body[..end_of_last], *joined(entries), &body[end..]));
    from_json(&extended)?;
    Ok(extended)
}

fn joined(entries: &[NewEntry]) -> Zeroizing<String> {
    let entries: Vec<Zeroizing<String>> = entries.iter().map(written_entry).collect();
    let entries: Vec<&str> = entries.iter().map(|entry| entry.as_str()).collect();
    Zeroizing::new(entries.join(","))
}

fn written_entry(entry: &NewEntry) -> Zeroizing<String> {
    let mut fields: Vec<(&str, &str)> = entry.name.iter().map(|name| ("name", name.as_str())).collect();
    fields.push(("clientId", entry.client_id.expose()));
    fields.push(("clientSecret", entry.client_secret.expose()));
    fields.push(("tenant", &entry.tenant));
    let lines = fields.iter().map(|(name, value)| {
        let value = Zeroizing::new(serde_json::Value::from(*value).to_string());
        Zeroizing::new(format!("    \"{name}\": {}", *value))
    });
    let lines: Vec<Zeroizing<String>> = lines.collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
    let lines = Zeroizing::new(lines.join(",\n"));
    Zeroizing::new(format!("\n  {{\n{}\n  }}", *lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: Option<&str>, secret: &str) -> NewEntry {
        NewEntry {
            client_id: Secret::new("id-1".into()),
            client_secret: Secret::new(secret.into()),
            tenant: "acme".into(),
            name: name.map(str::to_owned),
        }
    }

    fn names(text: &str) -> Vec<String> {
        from_json(text).expect("valid").credentials.names().map(str::to_owned).collect()
    }

    #[test]
    fn a_new_file_has_the_entries_whatever_is_in_their_values() {
        let text =
            written(&[entry(Some("team \"a\""), "s\\\"\u{7}//"), entry(None, "/* no comment */")]).expect("valid");
        assert_eq!(names(&text), ["team \"a\"", "config-id-1"]);
        assert!(text.starts_with("[\n  {\n    \"name\": ") && text.ends_with("\n  }\n]\n"), "{}", *text);
    }

    #[test]
    fn an_existing_file_keeps_its_text_and_its_comments() {
        let first = r#"{"clientId":"x","clientSecret":"y]","tenant":"z","name":"old"}"#;
        for (begin, middle, end) in [
            ("[", "", "]"),
            ("\u{feff}// é ]\n[\n  ", " // of the last, }\n  /* ] */\n", "] // end ]\n/* } */"),
            ("[", "/**/", "]\n\n"),
        ] {
            let extended =
                extended(&format!("{begin}{first}{middle}{end}"), &[entry(Some("new"), "s")]).expect("valid");
            assert_eq!(names(&extended), ["old", "new"], "{}", *extended);
            assert!(extended.starts_with(&format!("{begin}{first},{}\n  {{", middle.trim_end())), "{}", *extended);
            assert!(extended.ends_with(&format!("\n  }}\n{end}")), "{}", *extended);
        }
    }

    #[test]
    fn what_is_not_valid_is_not_extended() {
        for text in ["", "[]", "{}", "[{\"clientId\":\"x\"}]", "[1"] {
            assert!(extended(text, &[entry(None, "s")]).is_err(), "{text}");
        }
        assert!(written(&[entry(None, " ")]).is_err() && written(&[]).is_err());
    }
}
