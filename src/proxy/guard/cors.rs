//! The response fields by which a browser lets a page read the response (Fetch Standard, "CORS protocol").
//!
//! A leaf: pages are allowed or refused by `origin`.

use crate::http1::fields;
use crate::http1::head::RequestHead;

/// Appends the fields that every response to a page of `origin` has.
pub fn push_page_fields(out: &mut Vec<u8>, origin: &str) {
    fields::push_field(out, "Access-Control-Allow-Origin", origin.as_bytes());
    // `*` means all fields only for requests without cookies, which requests here are.
    fields::push_field(out, "Access-Control-Expose-Headers", b"*");
    fields::push_field(out, "Vary", b"Origin");
}

/// Returns whether a field of the upstream's response belongs to CORS, whose fields are written here.
pub fn is_page_field(name: &str) -> bool {
    const PREFIX: &str = "access-control-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Appends the fields of the response to a preflight, beside [`push_page_fields`]: all that it asks for is allowed.
pub fn push_preflight_fields(out: &mut Vec<u8>, head: &RequestHead<'_>) {
    let asked = |name: &str| head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    fields::push_field(out, "Access-Control-Allow-Methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    if let Some(names) = asked("access-control-request-headers") {
        let names: Vec<&[u8]> = fields::list_members(names.value).filter(|name| fields::is_token(name)).collect();
        fields::push_field(out, "Access-Control-Allow-Headers", &names.join(&b", "[..]));
    }
    if asked("access-control-request-private-network").is_some_and(|field| field.value == b"true") {
        fields::push_field(out, "Access-Control-Allow-Private-Network", b"true");
    }
    // Ten minutes: Chromium caches for two hours at most, and a changed setting should take effect soon.
    fields::push_field(out, "Access-Control-Max-Age", b"600");
    fields::push_field(out, "Vary", b"Access-Control-Request-Method, Access-Control-Request-Headers");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_request;

    #[test]
    fn a_preflight_is_granted_what_it_asks_for() {
        let granted = |field_lines: &str| {
            let mut out = Vec::new();
            let request = format!("OPTIONS /v1 HTTP/1.1\r\n{field_lines}\r\n");
            with_request(request.as_bytes(), |head| push_preflight_fields(&mut out, head)).unwrap();
            String::from_utf8(out).unwrap()
        };
        let fields = granted(
            "Access-Control-Request-Headers: authorization,x-stainless-os , a b,\r\n\
             Access-Control-Request-Private-Network: true\r\n",
        );
        assert!(fields.contains("Access-Control-Allow-Headers: authorization, x-stainless-os\r\n"), "{fields}");
        assert!(fields.contains("Access-Control-Allow-Private-Network: true\r\n"), "{fields}");
        let fields = granted("");
        assert!(!fields.contains("Allow-Headers") && !fields.contains("Private"), "{fields}");
    }

    #[test]
    fn the_upstreams_word_on_pages_is_known_by_its_prefix() {
        for (name, expected) in [
            ("Access-Control-Allow-Origin", true),
            ("access-control-expose-headers", true),
            ("Access-Control", false),
            ("Allow", false),
            ("X-Access-Control-Allow-Origin", false),
        ] {
            assert_eq!(is_page_field(name), expected, "{name}");
        }
    }
}
