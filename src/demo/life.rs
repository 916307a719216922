//! Life for the live page: requests of several kinds through the gateway's own port, while somebody looks.
//!
//! One thread with plain sockets, which only reads away what comes. Invariant: nothing is sent while nobody looks, so
//! that who tries the demo by hand finds it untouched; and nothing is open any more once the gateway drains.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::guide::credentials;
use super::scene::{PACE_FIELD, REFUSE_FIELD};

/// The time between two looks at the audience and the open answers.
const TICK: Duration = Duration::from_millis(250);

/// The time for which it goes on when the last one has left: a page that is loaded again leaves for a moment.
const LINGER: Duration = Duration::from_secs(5);

/// The pause between two requests.
const PAUSE_MILLISECONDS: RangeInclusive<u64> = 1000..=3000;

/// Answers that are open at a time, at most. Some three are slow ones.
const OPEN_MAX: usize = 12;

/// The time for a step with a gateway of the same process.
const SOCKET_LIMIT: Duration = Duration::from_secs(1);

/// The time between the tokens of a slow stream: one of some 35 takes half a minute.
const SLOW_PACE: Duration = Duration::from_millis(800);

/// One request of this number is in trouble, about every 40 s; the first one in the first ten seconds.
const TROUBLE_EVERY: u64 = 20;
const TROUBLE_AT: u64 = 3;

/// One trouble of this number is a 401, which costs a credential five minutes; the others are 429.
const REFUSED_EVERY: u64 = 15;
const REFUSED_AT: u64 = 2;

/// The kinds of requests, in their order: path, model and way.
const KINDS: [(&str, &str, Way); 9] = [
    ("/v1/chat/completions", "gpt-4o-mini", Way::Whole),
    ("/v1/messages", "claude-sonnet-4", Way::Slow),
    ("/v1/responses", "gpt-5", Way::Streamed),
    ("/v1/chat/completions", "gpt-4o-mini", Way::Whole),
    ("/v1/embeddings", "text-embedding-3-small", Way::Whole),
    ("/v1/messages", "claude-sonnet-4", Way::Streamed),
    ("/v1/responses", "gpt-5", Way::Whole),
    ("/v1/chat/completions", "gpt-4o-mini", Way::Streamed),
    ("/v1/messages", "claude-sonnet-4", Way::Whole),
];

/// Their number shares no factor with that of the kinds, so that they come together in all ways.
const PROMPTS: [&str; 4] = [
    "Hello there",
    "Why is the sky blue in the day and red in the evening, and why is it never green?",
    "Name three rivers",
    "Tell me about lighthouses: who built the first ones, how their lamps were kept burning, and what became of them \
     when ships began to find their way by other means than by looking for a light on the coast",
];

/// The way in which an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole,
    Streamed,
    Slow,
}

/// Starts the thread for the gateway at this address, which speaks plain HTTP and asks for no key. `audience` returns
/// the number of those who look at its page, and `None` when it ends.
///
/// # Errors
/// The thread cannot be started.
pub fn start(gateway: SocketAddr, audience: impl Fn() -> Option<usize> + Send + 'static) -> io::Result<()> {
    let life = Life { gateway, open: Vec::new(), number: 0 };
    thread::Builder::new().name("flow-demo-life".to_owned()).spawn(move || life.run(audience)).map(drop)
}

struct Life {
    gateway: SocketAddr,
    /// The answers that have not ended.
    open: Vec<TcpStream>,
    /// The number of the next request.
    number: u64,
}

impl Life {
    fn run(mut self, audience: impl Fn() -> Option<usize>) {
        let mut seen: Option<Instant> = None;
        let mut next = Instant::now();
        // At its end the sockets are closed: a drain does not wait for slow streams that nobody reads.
        while let Some(count) = audience() {
            let now = Instant::now();
            if count > 0 {
                seen = Some(now);
            }
            if now >= next && seen.is_some_and(|seen| now - seen < LINGER) {
                self.send_next();
                next = now + Duration::from_millis(fastrand::u64(PAUSE_MILLISECONDS));
            }
            self.open.retain_mut(is_open);
            thread::sleep(TICK);
        }
    }

    /// Sends the requests of the next step, as far as there is room. One that fails is in the log of the gateway, if
    /// anywhere.
    fn send_next(&mut self) {
        for request in requests(self.number) {
            if self.open.len() < OPEN_MAX
                && let Ok(stream) = send(self.gateway, &request)
            {
                self.open.push(stream);
            }
        }
        self.number += 1;
    }
}

/// Returns the requests of a step: one, or in trouble so many at once that one comes with the credential that fails.
fn requests(number: u64) -> Vec<String> {
    let people = credentials();
    if number % TROUBLE_EVERY == TROUBLE_AT {
        let trouble = number / TROUBLE_EVERY;
        let status = if trouble % REFUSED_EVERY == REFUSED_AT { 401 } else { 429 };
        let refused = &people[(trouble + 1) as usize % people.len()].client_id;
        let (path, model, _) = KINDS[0];
        let field = format!("{REFUSE_FIELD}: {refused} {status}\r\n");
        return vec![request(path, &body(path, model, PROMPTS[0], false), &field); people.len()];
    }
    let (path, model, way) = KINDS[number as usize % KINDS.len()];
    let prompt = PROMPTS[number as usize % PROMPTS.len()];
    let slow = || format!("{PACE_FIELD}: {}\r\n", SLOW_PACE.as_millis());
    let fields = if way == Way::Slow { slow() } else { String::new() };
    vec![request(path, &body(path, model, prompt, way != Way::Whole), &fields)]
}

fn body(path: &str, model: &str, prompt: &str, is_streamed: bool) -> Value {
    let messages = json!([{"role": "user", "content": prompt}]);
    match path {
        "/v1/embeddings" => json!({"model": model, "input": prompt}),
        "/v1/responses" => json!({"model": model, "input": prompt, "stream": is_streamed}),
        "/v1/messages" => json!({"model": model, "max_tokens": 256, "messages": messages, "stream": is_streamed}),
        _ if is_streamed => {
            json!({"model": model, "messages": messages, "stream": true, "stream_options": {"include_usage": true}})
        }
        _ => json!({"model": model, "messages": messages}),
    }
}

fn request(path: &str, body: &Value, fields: &str) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: flow-uring-demo\r\nContent-Type: application/json\r\n\
         {fields}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends a request on a connection of its own, which does not block from then on.
fn send(gateway: SocketAddr, request: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&gateway, SOCKET_LIMIT)?;
    stream.set_write_timeout(Some(SOCKET_LIMIT))?;
    stream.write_all(request.as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Reads away what has come of an answer, and returns false at its end.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut discarded = [0; 4096];
    loop {
        match stream.read(&mut discarded) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::prompt_cache::PromptCache;
    use super::super::reply::DemoReply;
    use super::*;

    #[test]
    fn every_request_is_one_that_the_upstream_answers() {
        for number in 0..TROUBLE_EVERY * REFUSED_EVERY {
            for request in requests(number) {
                let (head, body) = request.split_once("\r\n\r\n").unwrap();
                assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
                let route = head.strip_prefix("POST /v1").unwrap().split(' ').next().unwrap();
                assert!(
                    DemoReply::compose(route, body.as_bytes(), "bob-demo", &PromptCache::default()).is_ok(),
                    "{request}"
                );
            }
        }
    }

    #[test]
    fn each_credential_is_in_trouble_in_turn_and_seldom_refused() {
        let troubles: Vec<String> = (0..TROUBLE_EVERY * 3)
            .map(requests)
            .filter(|requests| requests.len() == credentials().len())
            .map(|requests| requests[0].split_once("x-demo-refuse: ").unwrap().1.lines().next().unwrap().to_owned())
            .collect();
        assert_eq!(troubles, ["bob-demo 429", "carol-demo 429", "alice-demo 401"]);
    }
}
