//! The live page: its files, built into the program.
//!
//! Invariant: nothing of it comes from elsewhere, and no file holds a figure: those are asked for by the API.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};

const HTML: &str = "text/html; charset=utf-8";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The files of the page: the path of each, its type and its bytes.
pub const ASSETS: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("index.html")),
    ("/assets/style.css", STYLE, include_bytes!("style.css")),
    ("/assets/app.js", SCRIPT, include_bytes!("app.js")),
    ("/assets/connection.js", SCRIPT, include_bytes!("connection.js")),
    ("/assets/cost.js", SCRIPT, include_bytes!("cost.js")),
    ("/assets/credentials.js", SCRIPT, include_bytes!("credentials.js")),
    ("/assets/elements.js", SCRIPT, include_bytes!("elements.js")),
    ("/assets/keys.js", SCRIPT, include_bytes!("keys.js")),
    ("/assets/language.js", SCRIPT, include_bytes!("language.js")),
    ("/assets/meter.js", SCRIPT, include_bytes!("meter.js")),
    ("/assets/now.js", SCRIPT, include_bytes!("now.js")),
    ("/assets/quota.js", SCRIPT, include_bytes!("quota.js")),
    ("/assets/snippets.js", SCRIPT, include_bytes!("snippets.js")),
    ("/assets/texts.js", SCRIPT, include_bytes!("texts.js")),
    ("/assets/work.js", SCRIPT, include_bytes!("work.js")),
    ("/assets/uplot.js", SCRIPT, include_bytes!("vendor/uplot.js")),
    ("/assets/uplot.css", STYLE, include_bytes!("vendor/uplot.css")),
];

/// The bytes of a digest that tell one version of a file from another.
const TAG_BYTES: usize = 8;

/// Returns the place in [`ASSETS`] of a path.
pub fn asset(path: &str) -> Option<usize> {
    ASSETS.iter().position(|(known, ..)| *known == path)
}

/// Returns the entity tag of an asset (RFC 9110 §8.8.3).
pub fn tag(place: usize) -> &'static str {
    static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let tag = |bytes: &[u8]| {
            let digest = digest(&SHA256, bytes);
            let digits: String = digest.as_ref()[..TAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\"{digits}\"")
        };
        ASSETS.iter().map(|(_, _, bytes)| tag(bytes)).collect()
    });
    &TAGS[place]
}
