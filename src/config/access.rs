//! The pages and host names that may use the gateway, as they are written.
//!
//! Invariant: an [`Origin`] is spelled as browsers spell it (RFC 6454 §6.1), so that it can be compared byte by byte.

use std::fmt;
use std::path::PathBuf;

use super::authority::{Authority, with_brackets};
use super::value::Expected;

/// Longer lists are a typing error.
const LIST_MAX: usize = 64;

/// The access to the gateway beyond that of this machine's programs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessConfig {
    /// Origins whose pages may make requests; those of no other may.
    pub allow_origins: Vec<Origin>,
    /// Names, beside those of this machine and the upstream's, by which the gateway may be called. In lower case, IPv6
    /// addresses without brackets.
    pub allow_hosts: Vec<String>,
    pub api_keys_file: Option<PathBuf>,
    /// The token of the admin pages; `None`: only this machine may see them.
    pub admin_token_file: Option<PathBuf>,
}

/// An origin as a browser sends it in `Origin`: `scheme://host` or `scheme://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Parses an origin as a person writes it: a final slash, upper case and the scheme's default port are removed.
    ///
    /// # Errors
    /// Any other form, `null` and `*` among them: any page can get the origin `null`.
    pub fn parse(text: &str) -> Result<Self, Expected> {
        let expected = || {
            Expected::new(
                "an origin such as https://app.example.com or http://localhost:3000 (neither * nor null: any page could \
                 then spend your tokens)",
            )
        };
        let (scheme, authority) = text.split_once("://").ok_or_else(expected)?;
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        let authority = Authority::split(authority.strip_suffix('/').unwrap_or(authority)).ok_or_else(expected)?;
        let host = authority.normal_host().map(|host| with_brackets(&host)).ok_or_else(expected)?;
        let port = match authority.port {
            None => None,
            Some(_) => Some(authority.port_number().ok_or_else(expected)?),
        };
        if !is_scheme {
            return Err(expected());
        }
        let own_port = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Ok(Origin(match port.filter(|port| Some(*port) != own_port) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Parses a comma-separated list, each member by `parse`.
///
/// # Errors
/// The first member that `parse` refuses; more members than the limit.
pub fn parse_list<T>(text: &str, parse: impl Fn(&str) -> Result<T, Expected>) -> Result<Vec<T>, Expected> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let members = members.map(parse).collect::<Result<Vec<T>, Expected>>()?;
    if members.len() > LIST_MAX { Err(Expected::new(format!("a list of at most {LIST_MAX}"))) } else { Ok(members) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_spelled_as_browsers_do() {
        for (written, sent) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.com/", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://a:80/", "http://a"),
            ("http://a:443", "http://a:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::1]", "http://[::1]"),
            ("http://[0:0::1]", "http://[::1]"),
            ("vscode-webview://0abc", "vscode-webview://0abc"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(Origin::parse(written).map(|origin| origin.to_string()), Ok(sent.to_owned()), "{written}");
        }
    }

    #[test]
    fn what_is_no_origin_or_could_be_anybodys_is_refused() {
        for written in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://*",
            "https://*.example.com",
            "https://a/path",
            "https://user@a",
            "https://a:0",
            "https://a:65536",
            "https://a:b",
            "https://a:",
            "://a",
            "1x://a",
            "https://a b",
            "http://[::1",
            "http://[a]",
            "http://::1",
            "http://[::1]x",
        ] {
            assert!(Origin::parse(written).is_err(), "{written}");
        }
    }

    #[test]
    fn a_list_is_separated_by_commas_and_bounded() {
        assert_eq!(parse_list(" a, b,,c ", |text| Ok(text.to_owned())).unwrap(), ["a", "b", "c"]);
        assert!(parse_list("https://a,*", Origin::parse).is_err());
        assert!(parse_list(&"a,".repeat(LIST_MAX + 1), |text| Ok(text.to_owned())).is_err());
    }
}
