//! The forms that values of settings have: how text becomes a value in the draft, and how `check` shows it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::draft::Draft;
use crate::config::{self, Expected, Keyword, MEBIBYTE};

/// A day: longer waits are a slip of the hand.
const SECONDS_MAX: Duration = Duration::from_secs(86_400);

/// The form of one setting's value.
pub trait Form: Sync {
    /// Reads the text into the setting's field.
    ///
    /// # Errors
    /// The expected form; then the field is as it was.
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected>;

    /// Returns the value of the field as text, or `None` where nothing is set and the default is words. The draft is
    /// not changed: a [`DraftField`] serves both directions.
    fn show(&self, draft: &mut Draft) -> Option<String>;

    /// Returns the words that the value may be; none where it is not one of a few words.
    fn words(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// The place of a value in the draft.
pub type DraftField<T> = fn(&mut Draft) -> &mut T;

/// Seconds, decimals allowed.
pub struct Seconds {
    pub least: Duration,
    pub field: DraftField<Duration>,
}

impl Form for Seconds {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        *(self.field)(draft) = config::parse_seconds(text, self.least, SECONDS_MAX)?;
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        Some(in_seconds(*(self.field)(draft)))
    }
}

/// Seconds, decimals allowed, or 0 for never.
pub struct SecondsOrOff {
    pub least: Duration,
    pub field: DraftField<Option<Duration>>,
}

impl Form for SecondsOrOff {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        *(self.field)(draft) = match config::parse_seconds(text, Duration::ZERO, SECONDS_MAX) {
            Ok(Duration::ZERO) => None,
            _ => {
                let interval = config::parse_seconds(text, self.least, SECONDS_MAX);
                Some(interval.map_err(|Expected(form)| Expected(format!("0 (off) or {form}")))?)
            }
        };
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        Some((self.field)(draft).map_or("off".into(), in_seconds))
    }
}

fn in_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// A whole number.
pub struct WholeNumber<T> {
    /// Begins the expectation, such as "a whole number".
    pub kind: &'static str,
    pub least: u64,
    pub most: u64,
    /// Follows the number where it is shown.
    pub unit: &'static str,
    pub field: DraftField<T>,
}

impl<T: TryFrom<u64> + fmt::Display> Form for WholeNumber<T> {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        *(self.field)(draft) = config::parse_count(text, self.least, self.most, self.kind)?;
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        Some(format!("{}{}", (self.field)(draft), self.unit))
    }
}

/// A whole number of mebibytes, kept in bytes.
pub struct Mebibytes {
    pub bytes_max: fn(&Draft) -> usize,
    pub field: DraftField<usize>,
}

impl Form for Mebibytes {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        let most = (self.bytes_max)(draft) as u64 / MEBIBYTE;
        *(self.field)(draft) = config::parse_mebibytes(text, 0, most)? as usize;
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        Some(format!("{} MiB", *(self.field)(draft) as u64 / MEBIBYTE))
    }
}

/// A whole number of a unit, kept in bytes; 0 for no limit.
pub struct SizeLimit {
    pub kind: &'static str,
    pub unit: &'static str,
    pub unit_bytes: u64,
    pub most: u64,
    pub field: DraftField<Option<u64>>,
}

impl Form for SizeLimit {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        let count: u64 = config::parse_count(text, 0, self.most, self.kind)?;
        *(self.field)(draft) = Some(count * self.unit_bytes).filter(|bytes| *bytes > 0);
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        let limit = *(self.field)(draft);
        Some(limit.map_or("no limit".into(), |bytes| format!("{} {}", bytes / self.unit_bytes, self.unit)))
    }
}

/// One word of several.
pub struct Word<T>(pub DraftField<T>);

impl<T: Keyword> Form for Word<T> {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        *(self.0)(draft) = T::read(text)?;
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        Some((self.0)(draft).word().to_owned())
    }

    fn words(&self) -> Vec<&'static str> {
        T::words()
    }
}

/// The path of a file or directory that need not be there yet.
pub struct OptionalPath(pub DraftField<Option<PathBuf>>);

impl Form for OptionalPath {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        *(self.0)(draft) = Some(text.into());
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        (self.0)(draft).as_ref().map(|path| path.display().to_string())
    }
}

/// Values separated by commas.
pub struct List<T: 'static> {
    pub member: fn(&str) -> Result<T, Expected>,
    pub field: DraftField<Vec<T>>,
}

impl<T: fmt::Display> Form for List<T> {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        *(self.field)(draft) = config::parse_list(text, self.member)?;
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        let members: Vec<String> = (self.field)(draft).iter().map(T::to_string).collect();
        (!members.is_empty()).then(|| members.join(", "))
    }
}

/// A flag without a value.
pub struct Switch(pub DraftField<bool>);

impl Form for Switch {
    fn read(&self, draft: &mut Draft, _text: &str) -> Result<(), Expected> {
        *(self.0)(draft) = true;
        Ok(())
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        Some(if *(self.0)(draft) { "on" } else { "off" }.into())
    }
}

/// A form that a single setting has.
pub struct OwnForm {
    pub read: fn(&mut Draft, &str) -> Result<(), Expected>,
    pub show: fn(&Draft) -> Option<String>,
}

impl Form for OwnForm {
    fn read(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        (self.read)(draft, text)
    }

    fn show(&self, draft: &mut Draft) -> Option<String> {
        (self.show)(draft)
    }
}
