//! The `Location` of a redirect to the upstream, made to lead here (RFC 9110 §10.2.2).
//!
//! Invariant: a `Location` that is not certainly below the base URL goes downstream unchanged.

use crate::http1::fields;
use crate::proxy::request::path::{is_bad_path, strip_base_path};
use crate::proxy::request::target::AbsoluteForm;

/// The upstream's base URL: a `Location` below it is rewritten.
#[derive(Debug, Clone, Copy)]
pub struct LocationRewrite<'a> {
    pub upstream_host: &'a str,
    pub upstream_port: u16,
    /// As in [`crate::proxy::request::target::TargetRules`].
    pub base_path: &'a str,
}

/// Appends a `Location`, reduced to its path if it is below the base URL.
pub fn push_location(out: &mut Vec<u8>, name: &str, value: &[u8], rewrite: Option<&LocationRewrite<'_>>) {
    let Some(rest) = rewrite.and_then(|rewrite| path_below(value, rewrite)) else {
        return fields::push_field(out, name, value);
    };
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(if rest.starts_with('/') { b": " } else { b": /" });
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Returns the rest of a `Location` after the base URL, if that can stand alone: `//host` would lead to another host
/// (RFC 3986 §4.2), and dot segments out of the base path.
fn path_below<'a>(location: &'a [u8], rewrite: &LocationRewrite<'_>) -> Option<&'a str> {
    let url = AbsoluteForm::parse(std::str::from_utf8(location).ok()?).ok().flatten()?;
    let rest = strip_base_path(url.path_and_query, rewrite.base_path)?;
    let path_end = rest.find(['?', '#']).unwrap_or(rest.len());
    let can_stand_alone = !rest.starts_with("//") && !is_bad_path(&rest[..path_end]);
    (url.names_upstream(rewrite.upstream_host, rewrite.upstream_port) && can_stand_alone).then_some(rest)
}
