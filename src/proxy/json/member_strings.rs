//! The strings of a JSON object, those of its own members and of the objects among them, found as the bytes come.
//!
//! Invariant: what is found does not depend on how the bytes were split; nothing but one short name and one short
//! string is kept, and the work is bounded: a text that is no JSON object, is nested or fragmented beyond measure, or
//! is not well formed, tells less and costs no more. It is no validator: bytes that no parser would accept may tell
//! something.

/// The longest name or string that is told; names of models and ids of objects are shorter.
const TEXT_BYTES_MAX: usize = 256;

/// The work that one object may cost, in steps of up to 10 ns: 1 to 2 ms in all. A long string is one step for each
/// [`STRING_BYTES_A_STEP`], so most bodies of 16 MiB are within it.
const STEPS_MAX: u32 = 250_000;
const STRING_BYTES_A_STEP: usize = 512;

/// The depths of an object's own members and of those of the objects among them.
const OWN: usize = 1;
const INNER: usize = 2;

/// A member that is a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberString<'a> {
    /// The name of the member whose object this is a member of; `None`: it is the object's own.
    pub within: Option<&'a str>,
    pub name: &'a str,
    pub value: &'a str,
}

/// Reads one JSON object, or the first of an array.
#[derive(Debug)]
pub struct MemberStrings {
    depth: usize,
    /// Of the containers at the depths that matter: an object, whose members have names.
    is_object: [bool; 2],
    names: [ShortText; 2],
    /// The next string of the present object is a name.
    awaits_name: bool,
    string: Option<StringUse>,
    is_escaped: bool,
    text: ShortText,
    steps: u32,
    is_over: bool,
}

/// The use of the string that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringUse {
    Name,
    Value,
    Ignored,
}

impl MemberStrings {
    pub fn new() -> Self {
        MemberStrings {
            depth: 0,
            is_object: [false; 2],
            names: [ShortText::default(), ShortText::default()],
            awaits_name: false,
            string: None,
            is_escaped: false,
            text: ShortText::default(),
            steps: 0,
            is_over: false,
        }
    }

    /// Returns whether nothing more will be found.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Reads the next bytes, and tells `found` of each string whose end is among them.
    pub fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(MemberString<'_>)) {
        while !bytes.is_empty() && !self.is_over {
            self.steps += 1;
            bytes = match self.string {
                Some(kind) => self.read_string(kind, bytes, &mut found),
                None => self.read_structure(bytes),
            };
            self.is_over |= self.steps > STEPS_MAX;
        }
    }

    /// Reads on within a string, up to its end or an escape.
    fn read_string<'b>(
        &mut self,
        kind: StringUse,
        bytes: &'b [u8],
        found: &mut impl FnMut(MemberString<'_>),
    ) -> &'b [u8] {
        if std::mem::take(&mut self.is_escaped) {
            self.text.push(&bytes[..1]);
            return &bytes[1..];
        }
        let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        self.steps += (end / STRING_BYTES_A_STEP) as u32;
        if kind != StringUse::Ignored {
            self.text.push(&bytes[..end]);
        }
        match bytes.get(end) {
            None => {}
            Some(b'\\') => {
                self.is_escaped = true;
                self.text.push(b"\\");
            }
            Some(_) => self.end_string(kind, found),
        }
        &bytes[bytes.len().min(end + 1)..]
    }

    fn end_string(&mut self, kind: StringUse, found: &mut impl FnMut(MemberString<'_>)) {
        self.string = None;
        let text = std::mem::take(&mut self.text);
        match kind {
            StringUse::Name => self.names[self.depth - OWN] = text,
            StringUse::Value => {
                let within = (self.depth == INNER).then(|| self.names[0].decoded());
                let (name, value) = (self.names[self.depth - OWN].decoded(), text.decoded());
                if let (Some(name), Some(value)) = (&name, &value)
                    && within != Some(None)
                {
                    found(MemberString { within: within.flatten().as_deref(), name, value });
                }
            }
            StringUse::Ignored => {}
        }
    }

    /// Reads one byte outside of strings, or all that tell nothing.
    fn read_structure<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        match bytes[0] {
            b'"' if self.depth > 0 => self.string = Some(self.use_of_string()),
            b'{' | b'[' if self.depth > 0 => self.enter(bytes[0] == b'{'),
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                self.awaits_name = false;
                self.is_over = self.depth == 0;
            }
            b',' => self.awaits_name = self.is_in_object(),
            b'{' => self.enter(true),
            // An array of errors, and a byte order mark.
            b'[' | b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf => {}
            _ if self.depth == 0 => self.is_over = true,
            _ => {}
        }
        &bytes[1..]
    }

    fn enter(&mut self, is_object: bool) {
        self.depth += 1;
        if let Some(known) = self.is_object.get_mut(self.depth - OWN) {
            *known = is_object;
            self.names[self.depth - OWN].clear();
        }
        self.awaits_name = self.is_in_object();
    }

    /// Returns whether the present container is an object whose members matter.
    fn is_in_object(&self) -> bool {
        self.depth >= OWN && self.is_object.get(self.depth - OWN).copied().unwrap_or(false)
    }

    fn use_of_string(&mut self) -> StringUse {
        if !self.is_in_object() {
            StringUse::Ignored
        } else if std::mem::take(&mut self.awaits_name) {
            StringUse::Name
        } else {
            StringUse::Value
        }
    }
}

/// The first bytes of a string, as they stand between its quotes.
#[derive(Debug, Default)]
struct ShortText {
    bytes: Vec<u8>,
    is_longer: bool,
}

impl ShortText {
    fn push(&mut self, bytes: &[u8]) {
        let room = TEXT_BYTES_MAX - self.bytes.len();
        self.is_longer |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.is_longer = false;
    }

    /// Returns the text without its escapes; `None` of one that is too long or no text.
    fn decoded(&self) -> Option<String> {
        if self.is_longer {
            return None;
        }
        if !self.bytes.contains(&b'\\') {
            return String::from_utf8(self.bytes.clone()).ok();
        }
        let quoted = [b"\"", self.bytes.as_slice(), b"\""].concat();
        serde_json::from_slice(&quoted).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lists what is found in a text that comes in pieces of `piece` bytes: `name=value`, or `within.name=value`.
    fn found(text: &str, piece: usize) -> Vec<String> {
        let mut reader = MemberStrings::new();
        let mut all = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            reader.read(piece, |MemberString { within, name, value }| {
                all.push(match within {
                    Some(within) => format!("{within}.{name}={value}"),
                    None => format!("{name}={value}"),
                });
            });
        }
        all
    }

    #[test]
    fn members_of_the_object_and_of_the_objects_in_it_are_told() {
        for (text, expected) in [
            (r#"{"model":"m"}"#, &["model=m"][..]),
            (r#" {"messages":[{"role":"user","content":"\"model\":\"x\""}],"model":"m"}"#, &["model=m"]),
            (r#"{"metadata":{"model":"x"},"model" : "m","n":1}"#, &["metadata.model=x", "model=m"]),
            (r#"{"a":{"b":{"model":"x"},"c":"d"},"e":["f",{"g":"h"}],"i":"j"}"#, &["a.c=d", "i=j"]),
            (r#"{"mo\u0064el":"m\/n\u00e9"}"#, &["model=m/né"]),
            (r#"{"model":null,"previous_response_id":null}"#, &[]),
            (r#"{"model":"m","more":"#, &["model=m"]),
            (r#"{"model":"m"} {"model":"n"}"#, &["model=m"]),
            (r#"[{"error":{"code":429,"type":"t"}}]"#, &["error.type=t"]),
            ("\u{feff}{\"model\":\"m\"}", &["model=m"]),
            (r#"--boundary {"model":"m"}"#, &[]),
            (r#""model""#, &[]),
            ("", &[]),
            ("{", &[]),
            (r#"}]{"model":"m"}"#, &[]),
            (r#"{"a":"\\","b":"\\\"c"}"#, &["a=\\", "b=\\\"c"]),
        ] {
            for piece in [1, 2, 3, 1000] {
                assert_eq!(found(text, piece), expected, "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_not_told_and_does_not_hide_what_follows() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let text = format!(r#"{{"{long}":"a","b":"{long}","{long}":{{"c":"d"}},"model":"m"}}"#);
        assert_eq!(found(&text, 64), ["model=m"]);
    }

    #[test]
    fn work_is_bounded_by_what_a_text_costs_and_not_by_its_length() {
        let image = format!(r#"{{"image":"{}","model":"m"}}"#, "A".repeat(16 << 20));
        assert_eq!(found(&image, 64 << 10), ["model=m"]);
        let brackets = format!(r#"{{"a":{}0{},"model":"m"}}"#, "[".repeat(300_000), "]".repeat(300_000));
        assert_eq!(found(&brackets, 64 << 10), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_tells_the_same(text in "[{}\\[\\]\",:\\\\au0 ]{0,80}", piece in 1_usize..20) {
            prop_assert_eq!(found(&text, piece), found(&text, 1000));
        }
    }
}
