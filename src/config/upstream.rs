//! The upstream's base URL, parsed once.
//!
//! Invariant: an [`UpstreamConfig`] has a host, a port and a base path without trailing slash; user-info, query and
//! fragment were refused. Plain HTTP to it is allowed or not by [`UpstreamConfig::leaks_token`], which the caller asks.

use std::fmt;
use std::path::PathBuf;

use super::authority::{Authority, is_loopback, join_authority, with_brackets};
use super::upstream_proxy::UpstreamProxy;
use super::value::Expected;

/// The upstream, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    pub scheme: Scheme,
    /// A lower-case DNS name or an IP address (IPv6 without brackets).
    pub host: String,
    pub port: u16,
    /// `""` or `"/flow-llm-proxy"`: no trailing slash.
    pub base_path: String,
    /// The `Host` field's value: the host, with `:port` unless it is the scheme's default; IPv6 in brackets.
    pub authority: String,
    /// Connect here instead of to `host:port`; the TLS name and `Host` stay the URL's.
    pub connect_to: Option<(String, u16)>,
    /// Reach it through a tunnel of this proxy.
    pub proxy: Option<UpstreamProxy>,
    pub trust: Trust,
    /// The setting that holds the URL, for the banner: `--upstream`, `environment FLOW_PROXY_TARGET_URL`, ….
    pub source: String,
}

/// The trust anchors for the upstream's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The system's trust store, or the bundled one if there is none.
    System,
    /// The certificates of this PEM file alone.
    File(PathBuf),
    /// The certificates of this PEM text alone.
    Pem(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl UpstreamConfig {
    /// Parses a base URL such as `https://flow.ciandt.com/flow-llm-proxy`; `source` names the setting that holds it.
    ///
    /// # Errors
    /// The form that the URL would have to have; never the URL itself, whose user-info may hold a password.
    pub fn parse(url: &str, source: impl Into<String>) -> Result<Self, Expected> {
        let (scheme, rest) = split_scheme(url).ok_or_else(|| {
            Expected::new(
                "a URL that begins with https:// (or http://), such as https://flow.ciandt.com/flow-llm-proxy",
            )
        })?;
        if rest.contains(['?', '#']) {
            return Err(Expected::new("a URL without query (?…) and fragment (#…): it is the base of all requests"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Expected::new(
                "a URL without user name and password (user:password@): credentials belong in the secrets file",
            ));
        }
        let (host, port) = host_and_port(authority, scheme).ok_or_else(|| {
            Expected::new("a URL with a valid host (a name, an IPv4 address or [an IPv6 address]) and port")
        })?;
        let base_path = base_path(path).ok_or_else(|| {
            Expected::new(
                "a URL whose path is printable ASCII without spaces, backslashes, empty, `.` or `..` segments",
            )
        })?;
        let authority = authority_of(&host, port, scheme);
        Ok(UpstreamConfig {
            scheme,
            host,
            port,
            base_path,
            authority,
            connect_to: None,
            proxy: None,
            trust: Trust::System,
            source: source.into(),
        })
    }

    /// The base URL in its normal form.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.authority, self.base_path)
    }

    /// Returns whether a token would cross a network in the clear: plain HTTP to anything but this machine.
    ///
    /// The address of the connection counts. Through a proxy elsewhere it leaves this machine, and loopback then is the
    /// proxy's.
    pub fn leaks_token(&self) -> bool {
        let proxy_is_here = self.proxy.as_ref().is_none_or(UpstreamProxy::is_on_this_machine);
        self.scheme == Scheme::Http && !(self.is_on_this_machine() && proxy_is_here)
    }

    /// The address of the connection, or of the proxy's tunnel: `connect_to` if there is one, else the URL's.
    pub fn address(&self) -> (&str, u16) {
        self.connect_to.as_ref().map_or((&self.host, self.port), |(host, port)| (host, *port))
    }

    /// Returns whether [`UpstreamConfig::address`] is loopback.
    pub fn is_on_this_machine(&self) -> bool {
        is_loopback(self.address().0)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

fn split_scheme(url: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.eq_ignore_ascii_case("https") {
        Some((Scheme::Https, rest))
    } else if scheme.eq_ignore_ascii_case("http") {
        Some((Scheme::Http, rest))
    } else {
        None
    }
}

fn host_and_port(authority: &str, scheme: Scheme) -> Option<(String, u16)> {
    let authority = Authority::split(authority)?;
    let port = match authority.port {
        // RFC 3986 §3.2.3: an empty port means the scheme's.
        None | Some("") => scheme.default_port(),
        Some(_) => authority.port_number()?,
    };
    Some((authority.normal_host()?, port))
}

/// Returns the path without trailing slashes, or `None` if it could not be the beginning of a request target.
fn base_path(path: &str) -> Option<String> {
    let path = path.trim_end_matches('/');
    let is_graphic = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_plain_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    let is_valid = is_graphic && path.split('/').skip(1).all(is_plain_segment);
    is_valid.then(|| path.to_owned())
}

fn authority_of(host: &str, port: u16, scheme: Scheme) -> String {
    if port == scheme.default_port() { with_brackets(host) } else { join_authority(host, port) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> UpstreamConfig {
        UpstreamConfig::parse(url, "--upstream").unwrap_or_else(|expected| panic!("{url}: {expected}"))
    }

    #[test]
    fn a_url_is_taken_apart() {
        for (url, scheme, host, port, base_path, authority) in [
            (
                "https://flow.ciandt.com/flow-llm-proxy",
                Scheme::Https,
                "flow.ciandt.com",
                443,
                "/flow-llm-proxy",
                "flow.ciandt.com",
            ),
            (
                "https://FLOW.CIandT.com/Flow-LLM-Proxy/",
                Scheme::Https,
                "flow.ciandt.com",
                443,
                "/Flow-LLM-Proxy",
                "flow.ciandt.com",
            ),
            ("HTTPS://h:8443/a/b//", Scheme::Https, "h", 8443, "/a/b", "h:8443"),
            ("https://h:443", Scheme::Https, "h", 443, "", "h"),
            ("https://h:80/", Scheme::Https, "h", 80, "", "h:80"),
            ("http://127.0.0.1:9000/base", Scheme::Http, "127.0.0.1", 9000, "/base", "127.0.0.1:9000"),
            ("http://localhost:", Scheme::Http, "localhost", 80, "", "localhost"),
            ("http://[::1]:9000/x", Scheme::Http, "::1", 9000, "/x", "[::1]:9000"),
            ("https://[2001:DB8::1]", Scheme::Https, "2001:db8::1", 443, "", "[2001:db8::1]"),
        ] {
            let upstream = parse(url);
            let found = (upstream.scheme, &*upstream.host, upstream.port, &*upstream.base_path, &*upstream.authority);
            assert_eq!(found, (scheme, host, port, base_path, authority), "{url}");
            assert_eq!(parse(&upstream.url()), upstream, "{url}: its normal form means the same");
        }
    }

    #[test]
    fn a_url_that_could_not_be_a_base_is_refused_without_repeating_it() {
        for (url, part) in [
            ("", "begins with https://"),
            ("flow.ciandt.com", "begins with https://"),
            ("ftp://hunter2/", "begins with https://"),
            ("https:/hunter2", "begins with https://"),
            ("https://user:hunter2@h/", "without user name and password"),
            ("https://hunter2@h/", "without user name and password"),
            ("https://h/a?hunter2", "without query"),
            ("https://h/#hunter2", "without query"),
            ("https://", "valid host"),
            ("https:///hunter2", "valid host"),
            ("https://hunter2:0/", "valid host"),
            ("https://hunter2:65536/", "valid host"),
            ("https://hunter2:4x3/", "valid host"),
            ("https://hunter2:1:2/", "valid host"),
            ("https://[::1/", "valid host"),
            ("https://[::1]8/", "valid host"),
            ("https://[hunter2]/", "valid host"),
            ("https://hunter2 /", "valid host"),
            ("https://hunter2..com/", "valid host"),
            ("https://h/hunter2 b", "printable ASCII"),
            ("https://h/a\\hunter2", "printable ASCII"),
            ("https://h/../hunter2", "printable ASCII"),
            ("https://h//hunter2", "printable ASCII"),
            ("https://h/\r\nhunter2:", "printable ASCII"),
        ] {
            let expected = UpstreamConfig::parse(url, "x").expect_err(url).to_string();
            assert!(expected.contains(part), "{url:?}: {expected}");
            assert!(!expected.contains("hunter2"), "{expected}");
        }
    }

    #[test]
    fn plain_http_leaks_the_token_unless_it_stays_on_this_machine() {
        for (url, leaks) in [
            ("https://flow.ciandt.com", false),
            ("http://flow.ciandt.com", true),
            ("http://10.0.0.1", true),
            ("http://localhost.example.com", true),
            ("http://127.0.0.1.example.com", true),
            ("http://localhost", false),
            ("http://api.localhost:1", false),
            ("http://127.9.9.9", false),
            ("http://[::1]", false),
            ("http://[::ffff:127.0.0.1]", false),
            ("http://LOCALHOST.", false),
            ("http://127.0.0.1.", false),
            ("http://localhost.example.com.", true),
        ] {
            assert_eq!(parse(url).leaks_token(), leaks, "{url}");
        }
        let elsewhere = UpstreamConfig { connect_to: Some(("10.0.0.1".into(), 80)), ..parse("http://localhost") };
        assert!(elsewhere.leaks_token());
        let here = UpstreamConfig { connect_to: Some(("127.0.0.1".into(), 80)), ..parse("http://flow.ciandt.com") };
        assert!(!here.leaks_token());
        let written = UpstreamConfig { connect_to: Some(("LocalHost.".into(), 80)), ..parse("http://flow.ciandt.com") };
        assert!(!written.leaks_token());
        let through = |proxy: &str| {
            let proxy = UpstreamProxy::parse(proxy, "x").expect("a proxy");
            UpstreamConfig { proxy: Some(proxy), ..parse("http://localhost") }
        };
        assert!(through("http://proxy.corp:3128").leaks_token(), "it is the proxy's localhost");
        assert!(!through("http://127.0.0.1:3128").leaks_token());
    }
}
