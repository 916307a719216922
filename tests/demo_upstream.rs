//! The embedded upstream of `flow-uring demo`, as a blocking TLS client sees it.

#![cfg(feature = "demo")]
#![expect(clippy::disallowed_methods, reason = "a blocking client on threads of its own; no shard runs here")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use flow_uring::demo::{self, DemoCredential, DemoUpstream};
use jsonwebtoken::{EncodingKey, Header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

const PACE: Duration = Duration::from_millis(25);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

static UPSTREAM: LazyLock<DemoUpstream> =
    LazyLock::new(|| demo::start_upstream(&demo::credentials(), PACE).expect("the embedded upstream starts"));

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| trusting(&UPSTREAM));

fn trusting(upstream: &DemoUpstream) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(upstream.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

struct Client(BufReader<StreamOwned<ClientConnection, TcpStream>>);

struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    fn connect() -> Self {
        Self::connect_to(&UPSTREAM, TLS.clone())
    }

    fn connect_to(upstream: &DemoUpstream, tls: Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(upstream.address).unwrap();
        socket.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        let name = ServerName::try_from(demo::UPSTREAM_HOST).unwrap();
        Self(BufReader::new(StreamOwned::new(ClientConnection::new(tls, name).unwrap(), socket)))
    }

    fn send(&mut self, method: &str, path: &str, token: Option<&str>, body: &str) {
        let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let length = body.len();
        let head = format!(
            "{method} /flow-llm-proxy{path} HTTP/1.1\r\nHost: flow.ciandt.com\r\n{authorization}\
             Content-Length: {length}\r\n\r\n"
        );
        let stream = self.0.get_mut();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream.flush().unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the connection ended inside of a head: {head:?}");
            if line == "\r\n" {
                break;
            }
            head += &line.to_ascii_lowercase();
        }
        (head[9..12].parse().unwrap(), head)
    }

    fn ask(&mut self, method: &str, path: &str, token: Option<&str>, body: &str) -> Response {
        self.send(method, path, token, body);
        let (status, head) = self.head();
        let length = head.split_once("content-length: ").unwrap().1;
        let mut body = vec![0; length.split_once("\r\n").unwrap().0.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        Response { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Reads the next chunk of a chunked body, and returns when it was there; `None` for the last one.
    fn chunk(&mut self) -> Option<(String, Instant)> {
        let size = usize::from_str_radix(self.line().trim_end(), 16).unwrap();
        let mut data = vec![0; size + 2];
        self.0.read_exact(&mut data).unwrap();
        assert_eq!(data.split_off(size), b"\r\n");
        (size > 0).then(|| (String::from_utf8(data).unwrap(), Instant::now()))
    }
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn token_of(credential: &DemoCredential, secret: &str) -> String {
    let claims = json!({
        "clientId": credential.client_id, "clientSecret": credential.client_secret, "tenant": credential.tenant
    });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// Returns a valid token of the `index`-th credential.
fn token(index: usize) -> String {
    let credential = &demo::credentials()[index];
    token_of(credential, &credential.client_secret)
}

/// Returns every streamed API with the request it needs, and the beginning and the end of its stream.
fn streamed_apis() -> [(&'static str, Value, &'static str, &'static str); 3] {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    [
        (
            "/v1/chat/completions",
            json!({"model": "gpt-4o-mini", "stream": true, "messages": messages}),
            r#""role":"assistant""#,
            "data: [DONE]\n\n",
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o-mini", "stream": true, "input": "Hello"}),
            "event: response.created\n",
            "event: response.completed\n",
        ),
        (
            "/v1/messages",
            json!({"model": "claude-sonnet-4", "stream": true, "max_tokens": 99, "messages": messages}),
            "event: message_start\n",
            "event: message_stop\n",
        ),
    ]
}

#[test]
fn streamed_tokens_arrive_one_by_one_at_the_pace_that_was_asked_for() {
    // A client that a busy machine keeps waiting for longer than a pace finds several tokens at once; a slower pace
    // shows then that they are sent one by one. Those of a stream that is held back come together at every pace.
    let mut paces = [1, 1, 4, 16].map(|factor| PACE * factor).into_iter();
    assert!(paces.any(are_all_paced), "the tokens come together");
}

/// Returns whether the client saw nearly all tokens of every API come at this pace, and not together.
fn are_all_paced(pace: Duration) -> bool {
    let upstream = demo::start_upstream(&demo::credentials(), pace).expect("the embedded upstream starts");
    let mut client = Client::connect_to(&upstream, trusting(&upstream));
    streamed_apis().into_iter().all(|(path, body, first, last)| {
        let asked = Instant::now();
        client.send("POST", path, Some(&token(1)), &body.to_string());
        let (status, head) = client.head();
        assert_eq!(status, 200, "{path}");
        assert!(head.contains("content-type: text/event-stream"), "{path}: {head}");
        let chunks: Vec<_> = std::iter::from_fn(|| client.chunk()).collect();
        assert!(chunks.first().unwrap().0.contains(first), "{path}: {}", chunks.first().unwrap().0);
        assert!(chunks.last().unwrap().0.contains(last), "{path}: {}", chunks.last().unwrap().0);
        let text: String = chunks.iter().map(|(data, _)| data.as_str()).collect();
        assert!(text.contains("bob-demo"), "{path}: the answer names the credential");
        // Between the first and the last token each has waited its pace.
        let tokens = &chunks[1..chunks.len() - 1];
        assert!(tokens.len() > 10, "{path}: {}", tokens.len());
        let took = chunks.last().unwrap().1 - asked;
        assert!(took >= pace * u32::try_from(tokens.len() - 1).unwrap(), "{path}: {took:?}");
        let gaps = tokens.windows(2).map(|pair| pair[1].1 - pair[0].1);
        let paced = gaps.filter(|gap| *gap >= pace / 2).count();
        println!("{path}: {paced} of {} gaps are of half of {pace:?} and more", tokens.len() - 1);
        paced * 4 >= (tokens.len() - 1) * 3
    })
}

#[test]
fn whole_answers_have_the_shape_of_their_api() {
    let mut client = Client::connect();
    for (path, mut body, ..) in streamed_apis() {
        body["stream"] = json!(false);
        let response = client.ask("POST", path, Some(&token(0)), &body.to_string());
        assert_eq!(response.status, 200, "{path}");
        assert!(response.head.contains("x-demo-credential: alice-demo"), "{path}: {}", response.head);
        let answer = response.json();
        let text = match path {
            "/v1/chat/completions" => &answer["choices"][0]["message"]["content"],
            "/v1/responses" => &answer["output"][0]["content"][0]["text"],
            _ => &answer["content"][0]["text"],
        };
        let text = text.as_str().unwrap();
        assert!(text.contains("alice-demo") && text.contains("\"Hello\""), "{path}: {text}");
    }
    let models = client.ask("GET", "/v1/models", Some(&token(2)), "").json();
    assert!(models["data"].as_array().unwrap().len() > 3, "{models}");
}

/// Sums the tokens that an answer tells, in any of the dialects: input, cache read, cache written, output, reasoning.
fn told(path: &str, usage: &Value) -> [u64; 5] {
    let number = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    match path {
        "/v1/messages" => {
            let (read, written) = (number("/cache_read_input_tokens"), number("/cache_creation_input_tokens"));
            [number("/input_tokens") + read + written, read, written, number("/output_tokens"), 0]
        }
        "/v1/responses" => [
            number("/input_tokens"),
            number("/input_tokens_details/cached_tokens"),
            0,
            number("/output_tokens"),
            number("/output_tokens_details/reasoning_tokens"),
        ],
        _ => [
            number("/prompt_tokens"),
            number("/prompt_tokens_details/cached_tokens"),
            0,
            number("/completion_tokens"),
            number("/completion_tokens_details/reasoning_tokens"),
        ],
    }
}

/// Returns the last usage that the events of a stream tell.
fn usage_of_events(events: &str) -> Option<Value> {
    let data = events.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let mut usages = data.filter_map(|event| {
        let usage = event.get("usage").or_else(|| event.pointer("/response/usage"));
        usage.filter(|usage| !usage.is_null()).cloned()
    });
    usages.next_back()
}

#[test]
fn the_tokens_that_answers_tell_are_those_that_the_demo_says_it_served() {
    let upstream = demo::start_upstream(&demo::credentials(), Duration::ZERO).expect("the embedded upstream starts");
    let mut client = Client::connect_to(&upstream, trusting(&upstream));
    let words = "one two three four five six seven eight nine ten";
    let messages = json!([{"role": "user", "content": words}]);
    for (path, model, mut body) in [
        ("/v1/chat/completions", "gpt-5", json!({"messages": messages, "stream_options": {"include_usage": true}})),
        ("/v1/responses", "gpt-4o-mini", json!({"input": words})),
        ("/v1/messages", "claude-sonnet-4", json!({"max_tokens": 99, "messages": messages})),
        ("/v1/embeddings", "text-embedding-3-small", json!({"input": [words, "eleven"]})),
    ] {
        body["model"] = json!(model);
        let whole = client.ask("POST", path, Some(&token(0)), &body.to_string());
        let mut sums = told(path, &whole.json()["usage"]);
        assert!(sums[0] >= 10, "{path}: {}", whole.body);
        if path != "/v1/embeddings" {
            assert_eq!(sums[1], 0, "{path}: nothing came from the cache yet: {}", whole.body);
            body["stream"] = json!(true);
            client.send("POST", path, Some(&token(0)), &body.to_string());
            assert_eq!(client.head().0, 200, "{path}");
            let events: String = std::iter::from_fn(|| client.chunk()).map(|(data, _)| data).collect();
            let usage = usage_of_events(&events).unwrap_or_else(|| panic!("{path}: no usage: {events}"));
            let again = told(path, &usage);
            assert!(again[1] > 0 && again[0] == sums[0], "{path}: the beginning came from the cache: {usage}");
            sums = std::array::from_fn(|kind| sums[kind] + again[kind]);
        }
        let served = &client.ask("GET", "/__served", Some(&token(0)), "").json()[model];
        let kinds = ["input", "cache_read", "cache_write", "output", "reasoning"];
        assert_eq!(kinds.map(|kind| served[kind].as_u64().unwrap()), sums, "{path}: {served}");
        assert_eq!(served["answers_without_usage"], 0, "{path}");
    }
    let body = json!({"model": "gpt-5-mini", "stream": true, "messages": messages}).to_string();
    client.send("POST", "/v1/chat/completions", Some(&token(0)), &body);
    assert_eq!(client.head().0, 200);
    let events: String = std::iter::from_fn(|| client.chunk()).map(|(data, _)| data).collect();
    assert_eq!(usage_of_events(&events), None, "it was not asked for");
    let served = &client.ask("GET", "/__served", Some(&token(0)), "").json()["gpt-5-mini"];
    assert_eq!((&served["answers_without_usage"], &served["output"]), (&json!(1), &json!(0)));
}

#[test]
fn one_model_tells_its_cost_and_the_others_have_a_price() {
    let upstream = demo::start_upstream(&demo::credentials(), Duration::ZERO).expect("the embedded upstream starts");
    let mut client = Client::connect_to(&upstream, trusting(&upstream));
    let info = client.ask("GET", "/model/info", Some(&token(0)), "").json();
    assert_eq!(info, client.ask("GET", "/v1/model/info", Some(&token(0)), "").json());
    let price = |model: &str, field: &str| {
        let entry = info["data"].as_array().unwrap().iter().find(|entry| entry["model_name"] == model).unwrap();
        entry["model_info"][field].as_f64().unwrap()
    };
    assert_eq!(price("gemini-2.5-pro", "input_cost_per_token"), 0.0, "as LiteLLM shows that it knows none");
    let mut ask = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).to_string();
        client.ask("POST", "/v1/chat/completions", Some(&token(0)), &body)
    };
    let told = ask("gpt-4o-mini");
    let field = told.head.split_once("x-litellm-response-cost: ").expect("a cost").1;
    let cost: f64 = field.split_once("\r\n").unwrap().0.parse().unwrap();
    let tokens = |field: &str| told.json()["usage"][field].as_f64().unwrap();
    let expected = tokens("prompt_tokens") * price("gpt-4o-mini", "input_cost_per_token")
        + tokens("completion_tokens") * price("gpt-4o-mini", "output_cost_per_token");
    assert!((cost - expected).abs() < 1e-12 && cost > 0.0, "{cost} {expected}");
    assert!(!ask("claude-sonnet-4").head.contains("x-litellm-response-cost"));
    let served = client.ask("GET", "/__served", Some(&token(0)), "").json();
    assert_eq!(served["gpt-4o-mini"]["reported_cost_usd"], cost);
    assert_eq!(served["claude-sonnet-4"]["reported_cost_usd"], 0.0);
}

#[test]
fn a_request_without_a_valid_token_is_refused_in_litellms_words() {
    let [alice, bob, _] = &demo::credentials()[..] else { panic!("three credentials") };
    let forged = token_of(alice, &bob.client_secret);
    let foreign = DemoCredential { tenant: "elsewhere".to_owned(), ..alice.clone() };
    let foreign = token_of(&foreign, &alice.client_secret);
    let mut client = Client::connect();
    for token in [None, Some("nonsense"), Some(forged.as_str()), Some(foreign.as_str())] {
        let response = client.ask("GET", "/v1/models", token, "");
        assert_eq!(response.status, 401, "{token:?}");
        let error = &response.json()["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!("auth_error"), &json!("401")));
        assert!(!response.body.contains(&alice.client_secret), "{}", response.body);
    }
    assert_eq!(client.ask("GET", "/v1/models", Some(&token(0)), "").status, 200, "the connection is still good");
}

#[test]
fn unknown_paths_and_models_get_litellms_errors() {
    let mut client = Client::connect();
    let response = client.ask("GET", "/v1/nothing", Some(&token(0)), "");
    assert_eq!((response.status, response.json()), (404, json!({"detail": "Not Found"})));
    let body = json!({"model": "no-such-model", "messages": []}).to_string();
    let response = client.ask("POST", "/v1/chat/completions", Some(&token(0)), &body);
    assert_eq!((response.status, &response.json()["error"]["code"]), (400, &json!("400")));
}

#[test]
fn a_body_of_many_megabytes_is_taken_whole() {
    let body = json!({"model": "gpt-4o-mini", "input": "x".repeat(30 << 20)}).to_string();
    let response = Client::connect().ask("POST", "/v1/responses", Some(&token(0)), &body);
    assert_eq!(response.status, 200);
    assert!(response.body.contains(&format!("of {} bytes", body.len())), "{}", response.body);
}

#[test]
fn a_chunked_request_body_is_put_together() {
    let mut client = Client::connect();
    let body = r#"{"model":"gpt-4o-mini","input":"in two pieces"}"#;
    let (first, second) = body.split_at(20);
    let (first_size, second_size) = (first.len(), second.len());
    let request = format!(
        "POST /flow-llm-proxy/v1/responses HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{first_size:x}\r\n{first}\r\n{second_size:x}\r\n{second}\r\n0\r\n\r\n",
        token(0)
    );
    client.0.get_mut().write_all(request.as_bytes()).unwrap();
    let (status, head) = client.head();
    assert_eq!(status, 200, "{head}");
}

#[test]
fn two_hundred_connections_stream_at_once() {
    let (path, body, _, last) = streamed_apis().into_iter().next().unwrap();
    let body = body.to_string();
    thread::scope(|scope| {
        for index in 0..200 {
            let body = &body;
            scope.spawn(move || {
                let mut client = Client::connect();
                client.send("POST", path, Some(&token(index % 3)), body);
                assert_eq!(client.head().0, 200);
                let chunks: Vec<_> = std::iter::from_fn(|| client.chunk()).collect();
                assert!(chunks.last().unwrap().0.ends_with(last));
            });
        }
    });
}

#[test]
fn a_client_that_leaves_in_mid_stream_disturbs_no_other() {
    let (path, body, ..) = streamed_apis().into_iter().next().unwrap();
    let mut staying = Client::connect();
    staying.send("POST", path, Some(&token(0)), &body.to_string());
    for _ in 0..20 {
        let mut leaving = Client::connect();
        leaving.send("POST", path, Some(&token(0)), &body.to_string());
        assert_eq!(leaving.head().0, 200);
        leaving.chunk().unwrap();
    }
    assert_eq!(staying.head().0, 200);
    assert!(std::iter::from_fn(|| staying.chunk()).last().unwrap().0.ends_with("data: [DONE]\n\n"));
}

#[test]
fn a_large_body_without_a_valid_token_is_refused_unread_and_the_connection_closes() {
    let mut client = Client::connect();
    let request = "POST /flow-llm-proxy/v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n";
    client.0.get_mut().write_all(request.as_bytes()).unwrap();
    let (status, head) = client.head();
    assert_eq!(status, 401, "{head}");
    let mut body = String::new();
    client.0.read_to_string(&mut body).expect("the answer, then a clean close");
    assert!(body.contains("auth_error"), "{body}");
}
