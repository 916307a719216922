//! No output of any test's gateway holds a secret. Each gateway is searched as it ends; this searches all that the
//! whole run has recorded, so it is worth running last, too.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test writes files, and its threads share what they saw; no shard runs here"
)]

mod support;

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use support::{
    Client, Credential, EVENT_STREAM, Gateway, Peer, Response, Totals, Upstream, check_at_once, json,
    observed_directory, scan_directory, secrets_json,
};

#[test]
fn no_output_of_any_test_holds_a_secret() {
    let leaks = scan_directory(&observed_directory());
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn a_planted_secret_is_found_in_every_form() {
    let secret = Credential::named("alpha").client_secret;
    let mut planted = vec![format!("a line\nkey={secret}\n")];
    for before in ["", "x", "xy", "{\"clientSecret\":\""] {
        planted.push(format!("Bearer abc.{}.def", URL_SAFE_NO_PAD.encode(format!("{before}{secret}\"}}"))));
    }
    for text in planted {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("innocent.log"), "all is well\n").expect("a file");
        assert!(scan_directory(directory.path()).is_empty());
        fs::write(directory.path().join("planted.log"), &text).expect("a file");
        let leaks = scan_directory(directory.path());
        assert_eq!(leaks.len(), 1, "not found in {text:?}");
        assert!(!leaks[0].contains(&secret), "the report lets it out once more");
    }
}

#[test]
fn the_token_goes_to_the_upstream_alone() {
    let upstream = Upstream::tls(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let response = Client::connect(gateway.port()).ask("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 200);
    let sent = Credential::of_authorization(upstream.request().authorization());
    assert_eq!(sent, Credential::named("alpha"));
}

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
const GET_OF_HTTP10: &str = "GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n";

/// The token of a request and the secret in it, as an upstream may send them back.
struct Echo {
    header: String,
    payload: String,
    signature: String,
    secret: String,
}

impl Echo {
    fn of(authorization: &str) -> Self {
        let token = authorization.strip_prefix("Bearer ").expect("a bearer token");
        let [header, payload, signature] = [0, 1, 2].map(|part| token.split('.').nth(part).expect("a part").to_owned());
        Echo { header, payload, signature, secret: Credential::of_authorization(authorization).client_secret }
    }

    /// As the client may see it.
    fn masked(&self) -> Self {
        let stars = |text: &str| "*".repeat(text.len());
        let (payload, signature, secret) = (stars(&self.payload), stars(&self.signature), stars(&self.secret));
        Echo { header: self.header.clone(), payload, signature, secret }
    }

    fn text(&self) -> String {
        let Echo { header, payload, signature, secret } = self;
        format!("key expected, received '{header}.{payload}.{signature}' by {secret}, {}", &payload[20..60])
    }

    fn json(&self) -> String {
        format!(r#"{{"error":{{"message":"{}","type":"auth_error","code":"401"}}}}"#, self.text())
    }
}

/// One place in which an upstream sends the token back.
struct Place {
    name: &'static str,
    request: &'static str,
    /// Sends the answer.
    write: fn(&mut Peer, &Echo),
    /// Returns the text in question of the answer, and what it is to be.
    found: fn(&Response, &Echo) -> (String, String),
    /// The connection ends with the answer.
    closes: bool,
}

impl Place {
    const fn new(
        name: &'static str,
        write: fn(&mut Peer, &Echo),
        found: fn(&Response, &Echo) -> (String, String),
    ) -> Self {
        Place { name, request: GET, write, found, closes: false }
    }
}

fn body_is_json(response: &Response, masked: &Echo) -> (String, String) {
    (response.text(), masked.json())
}

/// Sends the bytes one by one, as chunks.
fn write_chunks(peer: &mut Peer, head: &str, content: &str) {
    peer.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    for byte in content.chars() {
        peer.write(format!("1\r\n{byte}\r\n"));
    }
    peer.write("0\r\n\r\n");
}

fn places() -> Vec<Place> {
    vec![
        Place::new(
            "head",
            |peer, echo| {
                let (text, signature) = (echo.text(), &echo.signature);
                let fields = format!(
                    "X-Echo: {text}\r\nLocation: /a?key={}\r\nX-{signature}: 1\r\nx-request-id: 1\r\n",
                    echo.payload
                );
                peer.write(format!("HTTP/1.1 200 {text}\r\n{fields}Content-Length: 2\r\n\r\nok"));
            },
            |response, masked| {
                let (text, signature) = (masked.text(), &masked.signature);
                let fields = format!(
                    "X-Echo: {text}\r\nLocation: /a?key={}\r\nX-{signature}: 1\r\nx-request-id: 1\r\n",
                    masked.payload
                );
                let head = String::from_utf8_lossy(&response.head.raw).into_owned();
                (head, format!("HTTP/1.1 200 {text}\r\n{fields}Content-Length: 2\r\n\r\n"))
            },
        ),
        Place::new(
            "interim head",
            |peer, echo| {
                peer.write(format!("HTTP/1.1 103 Early\r\nLink: {}\r\n\r\n", echo.text()));
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            },
            |response, masked| (response.interim[0].field("link").expect("a field").to_owned(), masked.text()),
        ),
        Place::new(
            "trailer and chunk extension",
            |peer, echo| {
                let text = echo.text();
                peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                peer.write(format!("2;a=\"{text}\"\r\nok\r\n0\r\nX-Echo: {text}\r\n\r\n"));
            },
            |response, masked| {
                let text = masked.text();
                let raw = String::from_utf8_lossy(&response.raw_body).into_owned();
                (raw, format!("2;a=\"{text}\"\r\nok\r\n0\r\nX-Echo: {text}\r\n\r\n"))
            },
        ),
        Place::new(
            "error of known length",
            |peer, echo| {
                let json = echo.json();
                peer.write(format!("HTTP/1.1 401 No\r\nContent-Length: {}\r\n\r\n", json.len()));
                for part in json.as_bytes().chunks(7) {
                    peer.write(part);
                }
            },
            body_is_json,
        ),
        Place::new(
            "error in chunks of one byte",
            |peer, echo| write_chunks(peer, "HTTP/1.1 500 No\r\n", &echo.json()),
            body_is_json,
        ),
        Place {
            request: GET_OF_HTTP10,
            closes: true,
            ..Place::new(
                "error for a client of HTTP/1.0",
                |peer, echo| write_chunks(peer, "HTTP/1.1 404 No\r\n", &echo.json()),
                body_is_json,
            )
        },
        Place {
            closes: true,
            ..Place::new(
                "error up to the close",
                |peer, echo| {
                    peer.write("HTTP/1.1 400 No\r\n\r\n");
                    let json = echo.json();
                    let (begun, rest) = json.split_at(json.len() / 2);
                    peer.write(begun);
                    peer.write(rest);
                    peer.close();
                },
                body_is_json,
            )
        },
        Place {
            closes: true,
            ..Place::new(
                "error that is cut",
                |peer, echo| {
                    peer.write(format!("HTTP/1.1 400 No\r\nContent-Length: 1000\r\n\r\n{}", &echo.payload[..31]));
                    peer.close();
                },
                |response, _| (response.text(), "*".repeat(31)),
            )
        },
        Place::new(
            "error event in pieces",
            |peer, echo| {
                peer.write(EVENT_STREAM);
                let event = format!("data: {{\"choices\":[]}}\n\nevent: error\ndata: {}\n\n", echo.json());
                for part in event.as_bytes().chunks(5) {
                    peer.write(format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)));
                }
                peer.write("0\r\n\r\n");
            },
            |response, masked| {
                let event = format!("data: {{\"choices\":[]}}\n\nevent: error\ndata: {}\n\n", masked.json());
                (response.text(), event)
            },
        ),
        Place::new(
            "event that shows at its end that it is an error",
            |peer, echo| {
                peer.write(EVENT_STREAM);
                let begun = format!("data: {{\"id\":\"{}\",", echo.text());
                for part in ["data: {\"choices\":[]}\n\n", &begun, "\"error\":{}}\n\n"] {
                    peer.write(format!("{:x}\r\n{part}\r\n", part.len()));
                }
                peer.write("0\r\n\r\n");
            },
            |response, masked| {
                let error = format!("data: {{\"id\":\"{}\",\"error\":{{}}}}\n\n", masked.text());
                (response.text(), format!("data: {{\"choices\":[]}}\n\n{error}"))
            },
        ),
    ]
}

#[test]
fn a_token_that_comes_back_is_masked_in_every_place() {
    const DRIVERS: [&str; 2] = ["auto", "epoll"];
    check_at_once(DRIVERS, |driver| {
        let places = places();
        let count = places.len();
        for Place { name, request, write, found, closes } in places {
            let upstream = Upstream::tls(move |peer: &mut Peer| {
                while let Some(asked) = peer.read_request() {
                    write(peer, &Echo::of(asked.authorization()));
                    if closes {
                        return;
                    }
                }
            });
            let mut gateway = Gateway::builder()
                .capturing()
                .shards(1)
                .upstream(&upstream)
                .secrets(secrets_json(&["alpha"]))
                .arg("--io-driver", driver)
                .start();
            let response = Client::connect(gateway.port()).ask(request);
            let masked = Echo::of(upstream.request().authorization()).masked();
            let (text, expected) = found(&response, &masked);
            assert_eq!(text, expected, "{name}, {driver}");
            assert_eq!(Totals::at_the_end_of(&mut gateway).of("tokens_seen"), 1, "{name}, {driver}");
            assert_eq!(gateway.captures().len(), usize::from(response.status >= 400), "{name}, {driver}");
            let lines = gateway.log().iter().filter(|line| line.contains("sent the gateway's token back")).count();
            assert_eq!(lines, 1, "{name}, {driver}");
        }
        assert!(count > 8);
    });
}

#[test]
fn an_answer_that_was_kept_is_masked_by_the_token_that_it_answers() {
    check_at_once([401, 429], |status| {
        let upstream = Upstream::tls(move |peer: &mut Peer| {
            while let Some(asked) = peer.read_request() {
                let json = Echo::of(asked.authorization()).json();
                let head = format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n", json.len());
                peer.write(head + &json);
            }
        });
        let gateway =
            Gateway::builder().capturing().shards(1).upstream(&upstream).secrets(secrets_json(&["a", "bb"])).start();
        let response = Client::connect(gateway.port()).ask(GET);
        let requests = upstream.requests();
        assert_eq!(requests.len(), 2, "{status}");
        let masked = requests.iter().map(|request| Echo::of(request.authorization()).masked().json());
        let passed_on = masked.collect::<Vec<_>>().iter().position(|masked| *masked == response.text());
        assert_eq!(passed_on, Some(usize::from(status == 429)), "{status}: {response:?}");
    });
}

#[test]
fn the_tokens_of_all_attempts_are_masked_in_an_answer() {
    let first = Arc::new(Mutex::new(None::<String>));
    let shared = Arc::clone(&first);
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        while let Some(asked) = peer.read_request() {
            let mut first = shared.lock().expect("no test panics with it");
            let (status, json) = match &*first {
                None => (429, "{}".to_owned()),
                Some(first) => (400, Echo::of(first).json() + &Echo::of(asked.authorization()).json()),
            };
            first.get_or_insert_with(|| asked.authorization().to_owned());
            let trailer = Echo::of(first.as_deref().expect("one was sent")).text();
            let head = format!("HTTP/1.1 {status} No\r\nX-First: {trailer}\r\nContent-Length: {}\r\n\r\n", json.len());
            peer.write(head + &json);
        }
    });
    let gateway =
        Gateway::builder().capturing().shards(1).upstream(&upstream).secrets(secrets_json(&["a", "bb"])).start();
    let response = Client::connect(gateway.port()).ask(GET);
    let requests = upstream.requests();
    let [first, second] = [0, 1].map(|index| Echo::of(requests[index].authorization()).masked());
    assert_eq!((response.status, response.text()), (400, first.json() + &second.json()));
    assert_eq!(response.head.field("x-first"), Some(first.text().as_str()));
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("a Vec takes every byte");
    encoder.finish().expect("a Vec takes every byte")
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("a Vec takes every byte");
    encoder.finish().expect("a Vec takes every byte")
}

/// Bytes of text in one block that is not compressed: too few for a part of a token, which is not to be found without
/// a decoder.
const BLOCK_BYTES: usize = 7;

/// Uncompressed meta-blocks, and an empty last one (RFC 7932 §9.2).
fn brotli(text: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    for block in text.as_bytes().chunks(BLOCK_BYTES) {
        let header = (block.len() as u32 - 1) << 3 | 1 << 19;
        // The size of the window stands before the first of them.
        let header = if stream.is_empty() { header << 1 } else { header };
        stream.extend([&header.to_le_bytes()[..3], block].concat());
    }
    [&stream[..], &[3]].concat()
}

/// One frame of raw blocks (RFC 8878 §3.1.1).
fn zstd(text: &str) -> Vec<u8> {
    let size = (text.len() as u32).to_le_bytes();
    let mut frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0xA0][..], &size].concat();
    let last = (text.len() - 1) / BLOCK_BYTES;
    for (index, block) in text.as_bytes().chunks(BLOCK_BYTES).enumerate() {
        let header = (block.len() as u32) << 3 | u32::from(index == last);
        frame.extend([&header.to_le_bytes()[..3], block].concat());
    }
    frame
}

#[test]
fn an_error_that_hides_the_token_in_its_coding_is_replaced_and_any_other_is_not() {
    type Encode = fn(&str) -> Vec<u8>;
    const CODINGS: [(&str, Encode); 4] = [("gzip", gzip), ("deflate", deflate), ("br", brotli), ("zstd", zstd)];
    let cases = CODINGS.into_iter().flat_map(|coding| [(coding, "auto"), (coding, "epoll")]);
    check_at_once(cases.collect::<Vec<_>>(), |((coding, encode), driver)| {
        let upstream = Upstream::tls(move |peer: &mut Peer| {
            while let Some(asked) = peer.read_request() {
                let is_leaking = asked.path().ends_with("/leak");
                let text = if is_leaking { Echo::of(asked.authorization()).json() } else { "{\"error\":1}".into() };
                let content = encode(&text);
                peer.write(format!(
                    "HTTP/1.1 404 No\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
                ));
                for part in content.chunks(50) {
                    peer.write([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
                }
                peer.write("0\r\n\r\n");
            }
        });
        let mut gateway =
            Gateway::builder().capturing().shards(1).upstream(&upstream).arg("--io-driver", driver).start();
        let mut client = Client::connect(gateway.port());
        for _ in 0..2 {
            let leaking = client.ask("GET /v1/leak HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(
                (leaking.status, leaking.error_code()),
                (502, Some("upstream_leaks_token")),
                "{coding} {leaking:?}"
            );
            assert!(leaking.text().contains("answered 404"), "{coding} {leaking:?}");
            let harmless = client.ask(GET);
            assert_eq!((harmless.status, harmless.body), (404, encode("{\"error\":1}")), "{coding}");
        }
        assert_eq!(upstream.connections(), 1, "{coding}: the connection was not kept");
        let totals = Totals::at_the_end_of(&mut gateway);
        assert_eq!((totals.of("tokens_seen"), totals.of("unsearched")), (2, 0), "{coding}");
    });
}

#[test]
fn an_error_whose_coding_keeps_it_from_being_searched_is_replaced() {
    type Encode = fn(&Echo) -> Vec<u8>;
    const CASES: [(&str, &str, Encode); 8] = [
        ("gzip", "broken", |_| b"\x1F\x8B\x08\x00{\"error\":1}".to_vec()),
        ("gzip", "cut before its end", |echo| gzip(&echo.json())[..40].to_vec()),
        ("deflate", "followed by what is not coded", |_| [deflate("{}"), b"more".to_vec()].concat()),
        ("br", "too long", |_| brotli(&" ".repeat(65_000)).repeat(2)),
        ("gzip", "too long decoded", |echo| gzip(&(" ".repeat(70_000) + &echo.json()))),
        ("gzip, br", "coded twice", |echo| brotli(&String::from_utf8_lossy(&gzip(&echo.json())))),
        ("zstd", "followed by half a frame", |_| [zstd("{}"), zstd("{}")[..9].to_vec()].concat()),
        ("zstd", "of a window beyond reason", |_| [&[0x28, 0xB5, 0x2F, 0xFD, 0, 17 << 3][..], &[1, 0, 0]].concat()),
    ];
    let cases = CASES.into_iter().flat_map(|case| [(case, "auto"), (case, "epoll")]);
    check_at_once(cases.collect::<Vec<_>>(), |((coding, name, encode), driver)| {
        let upstream = Upstream::tls(move |peer: &mut Peer| {
            while let Some(asked) = peer.read_request() {
                let content = encode(&Echo::of(asked.authorization()));
                let head =
                    format!("HTTP/1.1 403 No\r\nContent-Encoding: {coding}\r\nContent-Length: {}", content.len());
                peer.write([format!("{head}\r\n\r\n").as_bytes(), &content].concat());
            }
        });
        let mut gateway =
            Gateway::builder().capturing().shards(1).upstream(&upstream).arg("--io-driver", driver).start();
        let mut client = Client::connect(gateway.port());
        for _ in 0..2 {
            let response = client.ask(GET);
            assert_eq!((response.status, response.error_code()), (502, Some("upstream_leaks_token")), "{name}");
            let text = response.text();
            assert!(text.contains("answered 403") && text.contains("could not be searched"), "{name}: {text}");
        }
        assert_eq!(Totals::at_the_end_of(&mut gateway).of("unsearched"), 2, "{name}");
    });
}

#[test]
fn a_token_in_a_later_frame_or_member_of_an_error_is_found() {
    check_at_once(["zstd", "gzip"], |coding| {
        let upstream = Upstream::tls(move |peer: &mut Peer| {
            while let Some(asked) = peer.read_request() {
                let encode = if coding == "zstd" { zstd } else { gzip };
                let skippable: &[u8] = if coding == "zstd" { b"\x50\x2A\x4D\x18\x01\0\0\0x" } else { b"" };
                let json = Echo::of(asked.authorization()).json();
                let content = [skippable, &encode("{}"), &encode(&json)].concat();
                let head =
                    format!("HTTP/1.1 403 No\r\nContent-Encoding: {coding}\r\nContent-Length: {}", content.len());
                peer.write([format!("{head}\r\n\r\n").as_bytes(), &content].concat());
            }
        });
        let mut gateway = Gateway::builder().capturing().shards(1).upstream(&upstream).start();
        let response = Client::connect(gateway.port()).ask(GET);
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_leaks_token")), "{coding}");
        assert_eq!(Totals::at_the_end_of(&mut gateway).of("tokens_seen"), 1, "{coding}");
    });
}

#[test]
fn a_coded_error_that_breaks_off_or_does_not_end_is_replaced() {
    check_at_once([("breaks off", "auto"), ("does not end", "auto"), ("does not end", "epoll")], |(name, driver)| {
        let upstream = Upstream::tls(move |peer: &mut Peer| {
            while peer.read_request().is_some() {
                let content = gzip("{\"error\":1}");
                peer.write("HTTP/1.1 403 No\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
                peer.write([format!("{:x}\r\n", content.len()).as_bytes(), &content, b"\r\n"].concat());
                if name == "breaks off" {
                    return peer.close();
                }
            }
        });
        let gateway = Gateway::builder().capturing().shards(1).upstream(&upstream).arg("--io-driver", driver).start();
        let response = Client::connect(gateway.port()).ask(GET);
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_leaks_token")), "{name}");
    });
}

#[test]
fn an_error_of_an_unknown_coding_is_masked_as_it_comes() {
    check_at_once(["utf-8", "none", "aws-chunked", "utf-8, none"], |coding| {
        let upstream = Upstream::tls(move |peer: &mut Peer| {
            while let Some(asked) = peer.read_request() {
                let head = format!("HTTP/1.1 401 No\r\nContent-Encoding: {coding}\r\n");
                write_chunks(peer, &head, &Echo::of(asked.authorization()).json());
            }
        });
        let mut gateway =
            Gateway::builder().capturing().shards(1).upstream(&upstream).secrets(secrets_json(&["alpha"])).start();
        let response = Client::connect(gateway.port()).ask(GET);
        let masked = Echo::of(upstream.request().authorization()).masked();
        assert_eq!((response.status, response.text()), (401, masked.json()), "{coding}");
        let totals = Totals::at_the_end_of(&mut gateway);
        assert_eq!((totals.of("tokens_seen"), totals.of("unsearched")), (1, 1), "{coding}");
    });
}
