//! An upstream with Flow's endpoints for FlowTokens and quotas beside its LLM Proxy.

use crate::support::{Peer, Request, SECRET_MARK, Upstream};

pub const TOKEN_PATH: &str = "/auth-engine-api/v2/api-key/token";
pub const BUDGET_PATH: &str = "/metrics-collector-api/rate-limit/me?mode=budget";
pub const REQUESTS_PATH: &str = "/metrics-collector-api/rate-limit/me";

/// A request to the upstream, by what it is for and by whose credential it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    Token(&'a str),
    Budget(&'a str),
    Requests(&'a str),
    Model(&'a str),
}

/// Returns the text of a FlowToken.
pub fn flow_token(name: &str) -> String {
    format!("flow-token-of-{name}-{SECRET_MARK}")
}

/// An upstream that writes what `answer` makes of each request.
pub fn upstream(answer: impl Fn(&mut Peer, Asked<'_>) + Send + Sync + 'static) -> Upstream {
    Upstream::plain(move |peer| {
        while let Some(request) = peer.read_request() {
            let name = name_of(&request);
            let asked = match request.path() {
                TOKEN_PATH => Asked::Token(&name),
                BUDGET_PATH => Asked::Budget(&name),
                REQUESTS_PATH => Asked::Requests(&name),
                _ => Asked::Model(&name),
            };
            answer(peer, asked);
        }
    })
}

/// Returns whose secret, FlowToken or token a request carries.
fn name_of(request: &Request) -> String {
    let text = match request.path() {
        TOKEN_PATH => String::from_utf8_lossy(&request.body).into_owned(),
        BUDGET_PATH | REQUESTS_PATH => request.head.field("flowtoken").expect("a FlowToken").to_owned(),
        _ => return request.credential(),
    };
    let (_, rest) = text.split_once("-of-").expect("a secret of the kit");
    rest.split('-').next().unwrap_or_default().to_owned()
}

/// Returns the requests that are questions about quotas.
pub fn questions(upstream: &Upstream) -> Vec<Request> {
    let is_question = |request: &Request| [TOKEN_PATH, BUDGET_PATH, REQUESTS_PATH].contains(&request.path());
    upstream.requests().into_iter().filter(is_question).collect()
}

pub fn ok(peer: &mut Peer, body: &str) {
    peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
}

pub fn refuse(peer: &mut Peer, status: u16, body: &str) {
    peer.write(format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
}

/// Tells a FlowToken.
pub fn tell_token(peer: &mut Peer, name: &str) {
    ok(peer, &format!(r#"{{"access_token":"{}","expires_in":3600}}"#, flow_token(name)));
}

/// Answers a question with the quotas of a user that are far from their limits.
pub fn tell(peer: &mut Peer, asked: Asked<'_>, user: &str, status: &str) {
    let renewal = "2099-01-01T00:00:00Z";
    match asked {
        Asked::Token(name) => tell_token(peer, name),
        Asked::Budget(_) => ok(
            peer,
            &format!(
                r#"{{"consumed_usd":12.5,"limit":100,"status":"{status}","renewal_date":"{renewal}","user_id":"{user}"}}"#
            ),
        ),
        Asked::Requests(_) => ok(
            peer,
            &format!(
                r#"{{"requests_used":30,"limit":0,"status":"active","renewal_date":"{renewal}","user_id":"{user}"}}"#
            ),
        ),
        Asked::Model(_) => ok(peer, "{}"),
    }
}
