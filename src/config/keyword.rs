//! Settings that take one of a few words, in any case.
//!
//! The words are part of the contract: they are read and printed here, and `--help` and the README name them.

use std::fmt;
use std::str::FromStr;

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

impl FromStr for IoDriver {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(IoDriver::Auto),
            "uring" => Ok(IoDriver::Uring),
            "epoll" => Ok(IoDriver::Epoll),
            _ => Err(Expected::new("auto, uring or epoll")),
        }
    }
}

impl FromStr for Pumping {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Pumping::Auto),
            "always" => Ok(Pumping::Always),
            "never" => Ok(Pumping::Never),
            _ => Err(Expected::new("auto, always or never")),
        }
    }
}

impl FromStr for Filter {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Filter::None),
            "anthropic-compat" => Ok(Filter::AnthropicCompat),
            _ => Err(Expected::new("none or anthropic-compat")),
        }
    }
}

impl FromStr for Affinity {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Affinity::None),
            "session" => Ok(Affinity::Session),
            _ => Err(Expected::new("none or session")),
        }
    }
}

impl FromStr for WebSocketUse {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(WebSocketUse::Auto),
            "off" => Ok(WebSocketUse::Off),
            _ => Err(Expected::new("auto or off")),
        }
    }
}

impl FromStr for QuotaSource {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(QuotaSource::Off),
            "flow" => Ok(QuotaSource::Flow),
            _ => Err(Expected::new("off or flow")),
        }
    }
}

impl FromStr for LogLevel {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_uppercase().as_str() {
            "DEBUG" => Ok(LogLevel::Debug),
            "INFO" => Ok(LogLevel::Info),
            "WARNING" => Ok(LogLevel::Warning),
            "ERROR" => Ok(LogLevel::Error),
            _ => Err(Expected::new("DEBUG, INFO, WARNING or ERROR")),
        }
    }
}

impl FromStr for LogFormat {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(Expected::new("text or json")),
        }
    }
}

impl fmt::Display for IoDriver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            IoDriver::Auto => "auto",
            IoDriver::Uring => "uring",
            IoDriver::Epoll => "epoll",
        })
    }
}

impl fmt::Display for Pumping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Pumping::Auto => "auto",
            Pumping::Always => "always",
            Pumping::Never => "never",
        })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Filter::None => "none",
            Filter::AnthropicCompat => "anthropic-compat",
        })
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Affinity::None => "none",
            Affinity::Session => "session",
        })
    }
}

impl fmt::Display for WebSocketUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            WebSocketUse::Auto => "auto",
            WebSocketUse::Off => "off",
        })
    }
}

impl fmt::Display for QuotaSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            QuotaSource::Off => "off",
            QuotaSource::Flow => "flow",
        })
    }
}

impl QuotaSource {
    pub fn is_asked(self) -> bool {
        self != QuotaSource::Off
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warning => "WARNING",
            LogLevel::Error => "ERROR",
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
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

    #[test]
    fn words_are_read_in_any_case_and_print_as_documented() {
        for word in ["DEBUG", "INFO", "WARNING", "ERROR"] {
            assert_eq!(word.parse::<LogLevel>().expect(word).to_string(), word);
            assert_eq!(word.to_lowercase().parse::<LogLevel>().expect(word).to_string(), word);
        }
        for word in ["auto", "uring", "epoll"] {
            assert_eq!(word.to_uppercase().parse::<IoDriver>().expect(word).to_string(), word);
        }
        for word in ["none", "anthropic-compat"] {
            assert_eq!(word.to_uppercase().parse::<Filter>().expect(word).to_string(), word);
        }
        for word in ["none", "session"] {
            assert_eq!(word.to_uppercase().parse::<Affinity>().expect(word).to_string(), word);
        }
        for word in ["auto", "off"] {
            assert_eq!(word.to_uppercase().parse::<WebSocketUse>().expect(word).to_string(), word);
        }
        for word in ["off", "flow"] {
            assert_eq!(word.to_uppercase().parse::<QuotaSource>().expect(word).to_string(), word);
        }
        for word in ["text", "json"] {
            assert_eq!(word.to_uppercase().parse::<LogFormat>().expect(word).to_string(), word);
        }
        assert_eq!("verbose".parse::<LogLevel>().unwrap_err().to_string(), "expected DEBUG, INFO, WARNING or ERROR");
        assert_eq!("kqueue".parse::<IoDriver>().unwrap_err().to_string(), "expected auto, uring or epoll");
        assert_eq!("anthropic".parse::<Filter>().unwrap_err().to_string(), "expected none or anthropic-compat");
        assert_eq!("sticky".parse::<Affinity>().unwrap_err().to_string(), "expected none or session");
        assert_eq!("on".parse::<WebSocketUse>().unwrap_err().to_string(), "expected auto or off");
        assert_eq!("on".parse::<QuotaSource>().unwrap_err().to_string(), "expected off or flow");
        assert_eq!("xml".parse::<LogFormat>().unwrap_err().to_string(), "expected text or json");
    }

    #[test]
    fn log_levels_map_to_the_threshold_of_the_same_name() {
        assert_eq!(LogLevel::Debug.threshold(), tracing::Level::DEBUG);
        assert_eq!(LogLevel::Info.threshold(), tracing::Level::INFO);
        assert_eq!(LogLevel::Warning.threshold(), tracing::Level::WARN);
        assert_eq!(LogLevel::Error.threshold(), tracing::Level::ERROR);
    }
}
