//! LiteLLM's pass-through to Google's Gemini API, which reads no `Authorization`: its key is the parameter `key` of the
//! query, or else `X-Goog-Api-Key`.
//!
//! So the token stands in that field too (`token_place`), and no `key` of the client's goes upstream, where it would
//! be taken instead. Invariant: all other parameters keep their bytes and their order.

use crate::proxy::request::path::{UpstreamPath, decode_hex, split_query};

/// The first segment of the pass-through's paths, with the slash after it.
const SEGMENT: &[u8] = b"gemini/";

/// Tells whether a request goes to the pass-through: its path below the base path begins with `/gemini/`, as a server
/// reads it that decodes it, or takes several slashes for one.
pub fn is_passed_through(path: UpstreamPath<'_>) -> bool {
    let below_base = path.path_and_query.as_bytes().get(path.base_bytes..).unwrap_or_default();
    let mut bytes = decoded(below_base).skip_while(|&byte| byte == b'/');
    SEGMENT.iter().all(|&expected| bytes.next() == Some(expected))
}

/// Appends path and query as [`UpstreamPath::push_to`] does, but for the parameters named `key`.
pub fn push_without_key(out: &mut Vec<u8>, path: UpstreamPath<'_>, base_path: &str) {
    let (before_query, query) = split_query(path.path_and_query);
    UpstreamPath { path_and_query: before_query, ..path }.push_to(out, base_path);
    let Some(parameters) = query.strip_prefix('?') else { return };
    let has_key = parameters.split('&').any(is_key);
    let mut kept = parameters.split('&').filter(|parameter| !is_key(parameter)).peekable();
    // A query of nothing but keys goes with its question mark; one that was empty keeps it.
    if has_key && kept.peek().is_none() {
        return;
    }
    for (index, parameter) in kept.enumerate() {
        out.push(if index == 0 { b'?' } else { b'&' });
        out.extend_from_slice(parameter.as_bytes());
    }
}

/// Tells whether a parameter is named `key` for a server that decodes it.
fn is_key(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    decoded(name.as_bytes()).eq(*b"key")
}

/// Returns the bytes of a text with the encoded ones decoded (RFC 3986 §2.1), once, as servers do; what is no valid
/// encoding stays as it is.
fn decoded(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                decode_hex(*high, *low).map_or((first, &rest[1..]), |byte| (byte, after))
            }
            _ => (first, after),
        };
        rest = after;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path_and_query: &str) -> UpstreamPath<'_> {
        match path_and_query.strip_prefix("/base") {
            Some(_) => UpstreamPath { needs_base: false, path_and_query, base_bytes: "/base".len() },
            None => UpstreamPath { needs_base: true, path_and_query, base_bytes: 0 },
        }
    }

    #[test]
    fn the_pass_through_is_known_by_its_first_segment_below_the_base_path() {
        for passed in [
            "/gemini/v1beta/models/m:generateContent",
            "/base/gemini/v1beta/models",
            "/gemini/",
            "/gemini/?key=k",
            "/%67emini/v1beta/models",
            "/g%65mini%2Fv1beta/models",
            "/%67%65%6D%69%6e%69/v1beta/models",
            "//gemini/v1beta/models",
            "/base//gemini/v1beta/models",
            "/%2fgemini/v1beta/models",
        ] {
            assert!(is_passed_through(path(passed)), "{passed}");
        }
        for other in [
            "/",
            "",
            "?x=/gemini/",
            "/gemini",
            "/gemini?x=1",
            "/gemini?x=/",
            "/geminis/v1beta",
            "/Gemini/v1beta",
            "/v1/gemini/x",
            "/v1/chat/completions?x=/gemini/",
            "/%2567emini/v1beta",
            "/%6gemini/v1beta",
            "/base",
            "/base?gemini/",
            "/base/base/gemini/",
        ] {
            assert!(!is_passed_through(path(other)), "{other}");
        }
    }

    #[test]
    fn every_key_goes_out_of_the_query_and_all_else_stays_as_it_is() {
        for (query, kept) in [
            ("", ""),
            ("?", "?"),
            ("?&", "?&"),
            ("?alt=sse", "?alt=sse"),
            ("?key=k", ""),
            ("?key=", ""),
            ("?key", ""),
            ("?key=a&key=b", ""),
            ("?key=k&alt=sse", "?alt=sse"),
            ("?alt=sse&key=k", "?alt=sse"),
            ("?b=2&key=k&a=1&key=l&b=%31", "?b=2&a=1&b=%31"),
            ("?%6bey=k", ""),
            ("?%6Bey=k&a=1", "?a=1"),
            ("?a=1&%6b%65%79=k", "?a=1"),
            ("?k%65y", ""),
            ("?key=a%26b&c", "?c"),
            ("?key=k?x=1&a", "?a"),
            ("?key=k=l", ""),
            ("?key=k&", "?"),
            ("?&key=k", "?"),
            ("?a&&key=k&&b=%zz&%", "?a&&&b=%zz&%"),
            (
                "?keys=1&mykey=2&Key=3&KEY=4&=key&key%3D=5&%256bey=6",
                "?keys=1&mykey=2&Key=3&KEY=4&=key&key%3D=5&%256bey=6",
            ),
            ("?a=key=k&a=1;key=2&key%20=3&+key=4&key+=5", "?a=key=k&a=1;key=2&key%20=3&+key=4&key+=5"),
            ("?x=/gemini/?key=k", "?x=/gemini/?key=k"),
            ("?%6key=1&ke%=2&%k=3", "?%6key=1&ke%=2&%k=3"),
        ] {
            for (asked, expected) in [("/gemini/m", "/base/gemini/m"), ("/base/gemini/m", "/base/gemini/m")] {
                let mut out = b"before ".to_vec();
                let whole = format!("{asked}{query}");
                push_without_key(&mut out, path(&whole), "/base");
                assert_eq!(String::from_utf8(out).expect("text"), format!("before {expected}{kept}"), "{whole}");
            }
        }
    }
}
