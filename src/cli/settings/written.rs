//! The flags of a command line, as they were written.

use crate::config::Concealed;

/// Flags with their values, in the order in which they came. Any of them may hold a password in the wrong place, so
/// none is shown by `Debug`.
#[derive(Debug, Default)]
pub struct WrittenFlags(Vec<(&'static str, Concealed)>);

impl WrittenFlags {
    pub fn push(&mut self, flag: &'static str, value: String) {
        self.0.push((flag, Concealed::new(value)));
    }

    pub fn contains(&self, flag: &str) -> bool {
        self.0.iter().any(|(written, _)| *written == flag)
    }

    /// The value of a flag; of one that was repeated, all values as one list.
    pub fn value(&self, flag: &str) -> Option<String> {
        let values: Vec<&str> =
            self.0.iter().filter(|(written, _)| *written == flag).map(|(_, value)| value.expose()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}
