//! The URL of the HTTP proxy before the upstream, as company networks have one, parsed once.
//!
//! Invariant: an [`UpstreamProxy`] has a host and a port; the user and password of its URL are in its [`Concealed`]
//! authorization alone, and no error repeats a part of the URL. Which upstreams need no proxy is decided by `no_proxy`.

mod no_proxy;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::authority::{is_loopback, join_authority, parse_authority};
use super::concealed::Concealed;
use super::value::Expected;

pub use no_proxy::is_named_by_no_proxy;

/// User and password together, as they are written: more than any proxy takes.
const USER_INFO_BYTES_MAX: usize = 2048;

/// A proxy that opens tunnels by `CONNECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    /// A lower-case DNS name or an IP address (IPv6 without brackets).
    pub host: String,
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Concealed>,
    /// The setting that holds it, for the banner: `--upstream-proxy`, `environment HTTPS_PROXY`, ….
    pub source: String,
}

impl UpstreamProxy {
    /// Parses `http://[user[:password]@]host:port`; `source` names the setting that holds it. As with curl and Go,
    /// `http://` may be left out. The port may not: curl and Go have different defaults for it.
    ///
    /// # Errors
    /// The form that the URL would have to have; never the URL itself, which may hold a password.
    pub fn parse(url: &str, source: impl Into<String>) -> Result<Self, Expected> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => {
                return Err(Expected::new(
                    "a proxy that is spoken to by plain HTTP, http://[user:password@]host:port: https:// and socks5:// \
                     proxies are not supported",
                ));
            }
            None => url,
        };
        // A raw @ in the password is unambiguous: no host contains one.
        let (user_info, authority) = match rest.rsplit_once('@') {
            Some((user_info, authority)) => (user_info, authority),
            None => ("", rest),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = parse_authority(authority)
            .map_err(|_| Expected::new("http://[user:password@]host:port, with a valid host and port and no path"))?;
        let authorization = if user_info.is_empty() { None } else { Some(authorization(user_info)?) };
        Ok(UpstreamProxy { host, port, authorization, source: source.into() })
    }

    /// Its URL in the normal form, without user and password.
    pub fn url(&self) -> String {
        format!("http://{}", join_authority(&self.host, self.port))
    }

    /// Returns whether the proxy itself is on this machine.
    pub fn is_on_this_machine(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Builds the value of `Proxy-Authorization`, of the scheme `Basic` (RFC 7617 §2).
fn authorization(user_info: &str) -> Result<Concealed, Expected> {
    let expected = || {
        Expected::new(
            "a proxy URL whose user and password have every special character percent-encoded (% as %25, / as %2F, : in \
             the user's name not at all) and are of at most 2048 characters without control characters",
        )
    };
    // Other programs would take these for the end of the authority.
    if user_info.len() > USER_INFO_BYTES_MAX || user_info.contains(['/', '?', '#']) {
        return Err(expected());
    }
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let user = percent_decoded(user).filter(|user| !user.contains(&b':')).ok_or_else(expected)?;
    let password = percent_decoded(password).ok_or_else(expected)?;
    let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    pair.extend_from_slice(&user);
    pair.push(b':');
    pair.extend_from_slice(&password);
    if pair.iter().any(u8::is_ascii_control) {
        return Err(expected());
    }
    let encoded = Zeroizing::new(STANDARD.encode(&pair));
    Ok(Concealed::new(["Basic ", &encoded].concat()))
}

/// Decodes percent-encoding (RFC 3986 §2.1). `None`: a percent sign is not followed by two hexadecimal digits.
pub fn percent_decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // Room for all of it: a vector that grows would leave copies in memory that is not zeroed.
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> UpstreamProxy {
        UpstreamProxy::parse(url, "--upstream-proxy").unwrap_or_else(|expected| panic!("{url}: {expected}"))
    }

    #[test]
    fn a_url_is_taken_apart_and_shown_without_user_and_password() {
        for (url, host, port, shown) in [
            ("http://proxy.corp:3128", "proxy.corp", 3128, "http://proxy.corp:3128"),
            ("HTTP://Proxy.Corp:80/", "proxy.corp", 80, "http://proxy.corp:80"),
            ("proxy.corp:3128", "proxy.corp", 3128, "http://proxy.corp:3128"),
            ("http://[FD00::1]:8080", "fd00::1", 8080, "http://[fd00::1]:8080"),
            ("http://ann:hunter2@10.0.0.1:3128", "10.0.0.1", 3128, "http://10.0.0.1:3128"),
            ("ann:hunter2@10.0.0.1:3128/", "10.0.0.1", 3128, "http://10.0.0.1:3128"),
        ] {
            let proxy = parse(url);
            assert_eq!((&*proxy.host, proxy.port, &*proxy.url()), (host, port, shown), "{url}");
            assert_eq!(proxy.authorization.is_some(), url.contains('@'), "{url}");
            assert!(!format!("{proxy:?}").contains("hunter2"));
            assert!(!format!("{proxy:?}").contains("YW5u"), "base64 of the user");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_encoded_as_basic_credentials() {
        for (user_info, pair) in [
            ("ann:secret", "ann:secret"),
            ("ann", "ann:"),
            ("ann:", "ann:"),
            (":secret", ":secret"),
            ("a%6En:p%40ss%2fw%25rd%3A", "ann:p@ss/w%rd:"),
            ("ann:p@ss:w", "ann:p@ss:w"),
            ("CORP%5Cann:secret", "CORP\\ann:secret"),
            ("ann:p%C3%A4ss", "ann:päss"),
        ] {
            let proxy = parse(&format!("http://{user_info}@h:1"));
            let expected = format!("Basic {}", STANDARD.encode(pair));
            assert_eq!(proxy.authorization.expect(user_info).expose(), expected, "{user_info}");
        }
        for url in ["http://h:1", "http://@h:1"] {
            assert_eq!(parse(url).authorization, None, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_repeating_it() {
        let long = format!("http://hunter2:{}@h:1", "x".repeat(USER_INFO_BYTES_MAX));
        for (url, part) in [
            ("", "http://[user:password@]host:port, with a valid host"),
            ("http://", "with a valid host and port"),
            ("http://hunter2", "with a valid host and port"),
            ("http://hunter2:", "with a valid host and port"),
            ("http://hunter2:0", "with a valid host and port"),
            ("http://hunter2:70000", "with a valid host and port"),
            ("http://u:hunter2@h", "with a valid host and port"),
            ("http://u:hunter2@:1", "with a valid host and port"),
            ("http://u:hunter2@h:1/path", "with a valid host and port"),
            ("http://u:hunter2@h:1//", "with a valid host and port"),
            ("http://u:hunter2@h:1?x", "with a valid host and port"),
            ("http://u:hunter2@[::1:1", "with a valid host and port"),
            ("https://u:hunter2@h:1", "https:// and socks5:// proxies are not supported"),
            ("socks5://u:hunter2@h:1", "https:// and socks5:// proxies are not supported"),
            ("socks5h://hunter2:1", "https:// and socks5:// proxies are not supported"),
            ("http://u:hunter2%@h:1", "percent-encoded"),
            ("http://u:hunter2%2@h:1", "percent-encoded"),
            ("http://u:hunter2%zz@h:1", "percent-encoded"),
            ("http://u:hunter2%+1@h:1", "percent-encoded"),
            ("http://u:hunter2/x@h:1", "percent-encoded"),
            ("http://u:hunter2%0A@h:1", "percent-encoded"),
            ("http://u:hunter2\n@h:1", "percent-encoded"),
            ("http://hunter2%3Ax:y@h:1", "percent-encoded"),
            (&long, "percent-encoded"),
        ] {
            let expected = UpstreamProxy::parse(url, "x").expect_err(url).to_string();
            assert!(expected.contains(part), "{url:?}: {expected}");
            assert!(!expected.contains("hunter2"), "{expected}");
        }
    }
}
