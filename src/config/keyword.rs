//! Settings that take one of a few words, in any case.
//!
//! The words are part of the contract: they are read and printed here, and `--help` and the README name them.

use super::value::Expected;

/// The kernel interface of the shards' runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoDriver {
    /// io_uring if the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring; an error if the kernel refuses it.
    Uring,
    Epoll,
}

/// The relay of open answers, those of which more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pumping {
    /// Together, in one loop a shard, where it is not known how long they will be; others each in its own task.
    #[default]
    Auto,
    /// All of them together.
    Always,
    /// Each in its own task.
    Never,
}

/// The request filter, beyond the rules of every exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter {
    #[default]
    None,
    /// Removes from requests to Anthropic's Messages API what the upstream does not know.
    AnthropicCompat,
}

/// The requests that stay with one credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Affinity {
    /// None: each goes to the next credential.
    #[default]
    None,
    /// Those of one session, by the header fields of agents.
    Session,
}

/// The upgrades to WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WebSocketUse {
    /// They go to the upstream, unless that has said lately that it has none there.
    #[default]
    Auto,
    /// They are refused.
    Off,
}

/// The upstream's endpoints that tell the quotas of its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QuotaSource {
    /// Nobody is asked.
    #[default]
    Off,
    /// Those of Flow, beside its LLM Proxy.
    Flow,
}

/// The threshold of the log: less severe lines are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// A value that is one of a few words.
pub trait Keyword: Copy + PartialEq + 'static {
    /// The words as they are printed, each with what it stands for, in the order in which errors name them.
    const WORDS: &'static [(&'static str, Self)];

    /// Returns the words alone.
    fn words() -> Vec<&'static str> {
        Self::WORDS.iter().map(|(word, _)| *word).collect()
    }

    /// Reads a word, in any case.
    ///
    /// # Errors
    /// The words that it may be.
    fn read(text: &str) -> Result<Self, Expected> {
        let found = Self::WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value).ok_or_else(|| Expected::new(alternatives(&Self::words())))
    }

    /// Returns the word of the value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| *word)
    }
}

/// Words as a sentence names them: `auto, uring or epoll`.
fn alternatives(words: &[&str]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

impl Keyword for IoDriver {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", IoDriver::Auto), ("uring", IoDriver::Uring), ("epoll", IoDriver::Epoll)];
}

impl Keyword for Pumping {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Pumping::Auto), ("always", Pumping::Always), ("never", Pumping::Never)];
}

impl Keyword for Filter {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Filter::None), ("anthropic-compat", Filter::AnthropicCompat)];
}

impl Keyword for Affinity {
    const WORDS: &'static [(&'static str, Self)] = &[("none", Affinity::None), ("session", Affinity::Session)];
}

impl Keyword for WebSocketUse {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", WebSocketUse::Auto), ("off", WebSocketUse::Off)];
}

impl Keyword for QuotaSource {
    const WORDS: &'static [(&'static str, Self)] = &[("off", QuotaSource::Off), ("flow", QuotaSource::Flow)];
}

impl Keyword for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("DEBUG", LogLevel::Debug),
        ("INFO", LogLevel::Info),
        ("WARNING", LogLevel::Warning),
        ("ERROR", LogLevel::Error),
    ];
}

impl Keyword for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl QuotaSource {
    pub fn is_asked(self) -> bool {
        self != QuotaSource::Off
    }
}

impl LogLevel {
    /// The same threshold as `tracing` names it.
    pub fn threshold(self) -> tracing::Level {
        match self {
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Warning => tracing::Level::WARN,
            LogLevel::Error => tracing::Level::ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every word is read in any case and printed as it is documented, and stands for a value of its own.
    fn check<T: Keyword + std::fmt::Debug>(words: &[&str], refused: &str) {
        assert_eq!(T::words(), words);
        for (word, value) in T::WORDS {
            for text in [word.to_uppercase(), word.to_lowercase(), (*word).to_owned()] {
                assert_eq!(T::read(&text).expect(word).word(), *word);
                assert_eq!(T::read(&text).expect(word), *value);
            }
        }
        for text in ["", "verbose", "auto uring", "ＡＵＴＯ"] {
            assert_eq!(T::read(text).unwrap_err().to_string(), refused);
        }
    }

    #[test]
    fn words_are_read_in_any_case_and_print_as_documented() {
        check::<LogLevel>(&["DEBUG", "INFO", "WARNING", "ERROR"], "expected DEBUG, INFO, WARNING or ERROR");
        check::<LogFormat>(&["text", "json"], "expected text or json");
        check::<IoDriver>(&["auto", "uring", "epoll"], "expected auto, uring or epoll");
        check::<Pumping>(&["auto", "always", "never"], "expected auto, always or never");
        check::<Filter>(&["none", "anthropic-compat"], "expected none or anthropic-compat");
        check::<Affinity>(&["none", "session"], "expected none or session");
        check::<WebSocketUse>(&["auto", "off"], "expected auto or off");
        check::<QuotaSource>(&["off", "flow"], "expected off or flow");
    }

    #[test]
    fn log_levels_map_to_the_threshold_of_the_same_name() {
        assert_eq!(LogLevel::Debug.threshold(), tracing::Level::DEBUG);
        assert_eq!(LogLevel::Info.threshold(), tracing::Level::INFO);
        assert_eq!(LogLevel::Warning.threshold(), tracing::Level::WARN);
        assert_eq!(LogLevel::Error.threshold(), tracing::Level::ERROR);
    }
}
