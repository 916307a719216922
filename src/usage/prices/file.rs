//! A file of prices in LiteLLM's form: `model_prices_and_context_window.json`, an object with an entry for each model.
//!
//! Invariant: all mistakes of a file are found together, each by the name of its entry, its field and what was
//! expected.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use json_comments::CommentSettings;
use serde_json::value::RawValue;

use super::entry::{read_entry, text_of};
use super::error::{PriceMistakes, PricesFault, PricesFileError, shown};
use super::fields::{FIELDS_MAX, Fields};
use super::table::PriceTable;
use crate::whole_file::{self, FileKinds, ReadFault};

/// Limit on a file. LiteLLM's own has 3.5 MB.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Limit on the name of a model. The longest of LiteLLM's has about a hundred bytes.
const NAME_BYTES_MAX: usize = 512;

/// The entry that describes the others.
const SAMPLE: &str = "sample_spec";

/// Limit on the repeated names that a warning lists.
const REPEATED_NAMED_MAX: usize = 8;

/// The content of a file of prices.
#[derive(Debug)]
pub struct LoadedPrices {
    pub table: PriceTable,
    /// The number of models that it speaks of, with a price or without.
    pub entries: usize,
    pub warnings: Vec<String>,
}

/// Reads the file of prices at `path`.
///
/// # Errors
/// When it cannot be read, is not JSON, or holds mistakes; the error names the path.
pub fn load_prices(path: &Path, kinds: FileKinds) -> Result<LoadedPrices, PricesFileError> {
    let failed = |fault| PricesFileError { path: path.to_owned(), fault };
    let (bytes, _) = whole_file::read(path, FILE_BYTES_MAX, kinds).map_err(|fault| failed(PricesFault::Read(fault)))?;
    PriceTable::parse(&bytes).map_err(failed)
}

impl PriceTable {
    /// Reads the text of a file of prices; comments are allowed as in secrets.json.
    ///
    /// # Errors
    /// When it is too large, not JSON, or holds mistakes.
    pub fn parse(bytes: &[u8]) -> Result<LoadedPrices, PricesFault> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(PricesFault::TooLarge { bytes_max: FILE_BYTES_MAX });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PricesFault::Read(ReadFault::NotUtf8))?;
        let text = without_comments(text.strip_prefix('\u{feff}').unwrap_or(text))?;
        let document: Fields<'_> = serde_json::from_str(&text).map_err(|error| document_fault(&error))?;
        if document.is_cut {
            return Err(PricesFault::TooManyEntries { entries_max: FIELDS_MAX });
        }
        let mut reader = FileReader::default();
        document.fields.iter().filter(|(name, _)| name != SAMPLE).for_each(|(name, value)| reader.entry(name, value));
        reader.finish()
    }
}

/// Reads one entry after the other.
#[derive(Default)]
struct FileReader<'a> {
    table: PriceTable,
    entries: usize,
    mistakes: PriceMistakes,
    /// The names that stand for the price of another one.
    aliases: Vec<(&'a str, &'a str)>,
    repeated: Vec<&'a str>,
}

impl<'a> FileReader<'a> {
    fn entry(&mut self, name: &'a str, value: &'a RawValue) {
        self.entries += 1;
        if name.trim().is_empty() || name.len() > NAME_BYTES_MAX {
            let expected = format!("expected the name of a model, of 1 to {NAME_BYTES_MAX} bytes");
            return self.mistakes.add(name, None, &expected);
        }
        let Ok(fields) = serde_json::from_str::<Fields<'a>>(value.get()) else {
            return self.mistakes.add(name, None, "expected an object with prices, {\"input_cost_per_token\": …}");
        };
        let reading = read_entry(&fields);
        for (field, expected) in &reading.mistakes {
            self.mistakes.add(name, Some(field), expected);
        }
        if let Some(model) = fields.value("alias_of").and_then(text_of).filter(|_| reading.price.is_none()) {
            self.aliases.push((name, model));
        }
        // As Python reads it, the last one counts.
        if self.table.set(name.into(), reading.price) {
            self.repeated.push(name);
        }
    }

    fn finish(mut self) -> Result<LoadedPrices, PricesFault> {
        if !self.mistakes.is_empty() {
            return Err(PricesFault::Mistakes(self.mistakes));
        }
        self.table.set_aliases(&self.aliases);
        let mut warnings = Vec::new();
        if self.table.is_empty() {
            warnings.push("the file of prices has no price of a model's tokens".to_owned());
        }
        if !self.repeated.is_empty() {
            let named: Vec<String> = self.repeated.iter().take(REPEATED_NAMED_MAX).map(|name| shown(name)).collect();
            let more = if self.repeated.len() > named.len() { ", …" } else { "" };
            let named = named.join(", ");
            warnings.push(format!("the file of prices has models twice, of which the last one counts: {named}{more}"));
        }
        Ok(LoadedPrices { table: self.table, entries: self.entries, warnings })
    }
}

fn document_fault(error: &serde_json::Error) -> PricesFault {
    if error.is_data() {
        return PricesFault::Form(
            "an object with an entry for each model, {\"gpt-4o\": {\"input_cost_per_token\": …}}",
        );
    }
    PricesFault::Syntax { line: error.line(), column: error.column() }
}

/// Replaces comments by spaces, so that positions stay true.
#[expect(clippy::unbuffered_bytes, reason = "the text is in memory")]
fn without_comments(text: &str) -> Result<Cow<'_, str>, PricesFault> {
    // Most files have neither: then nothing is copied.
    if !text.contains("//") && !text.contains("/*") {
        return Ok(Cow::Borrowed(text));
    }
    let mut stripped = Vec::with_capacity(text.len());
    let mut line = 1;
    // Byte by byte, so that the line of a mistake is known; and a comment of several lines is not to be one of them.
    let mut originals = text.bytes();
    for byte in CommentSettings::c_style().strip_comments(text.as_bytes()).bytes() {
        let byte = byte.map_err(|_| PricesFault::Comment { line })?;
        let ends_line = originals.next() == Some(b'\n');
        line += usize::from(ends_line);
        stripped.push(if ends_line { b'\n' } else { byte });
    }
    String::from_utf8(stripped).map(Cow::Owned).map_err(|_| PricesFault::Read(ReadFault::NotUtf8))
}

#[cfg(test)]
mod tests;
