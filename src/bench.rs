//! The pure parts of an exchange, each as one call, for `benches/`: the benchmarks and the count of instructions.
//!
//! Only with the feature `bench`; the program is built without it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Affinity, Filter, WebSocketUse};
use crate::credentials::{self, Choice, Owner, Rotations, Selection, SessionKey, TokenTraces};
use crate::http1::head::{HeadLimits, HeadScanner, Version, with_request, with_response};
use crate::io::Buffer;
use crate::observability::{ExchangeId, Ledger};
use crate::proxy::guard::AccessRules;
use crate::proxy::guard::host::Hosts;
use crate::proxy::guard::origin::Caller;
use crate::proxy::key_accounts::KeyAccounts;
use crate::proxy::request;
use crate::proxy::request::head::{UpstreamHead, UpstreamIdentity};
use crate::proxy::request::ids::RequestIds;
use crate::proxy::request::plan::{Action, Forward, path_of, plan};
use crate::proxy::request::rules::Rules;
use crate::proxy::request::target::TargetRules;
use crate::proxy::response;
use crate::proxy::response::body::BodyRelay;
use crate::proxy::response::head::Recipient;
use crate::proxy::response::location::LocationRewrite;
use crate::proxy::response::mask::lines::mask_head;
use crate::proxy::snapshot::Snapshot;

/// A request as an OpenAI SDK sends it.
const REQUEST: &[u8] =
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8899\r\nAccept-Encoding: gzip, deflate\r\n\
    Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
    User-Agent: OpenAI/Python 1.99.1\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.99.1\r\n\
    X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n\
    X-Stainless-Runtime-Version: 3.11.7\r\nAuthorization: Bearer any\r\nX-Stainless-Async: false\r\n\
    x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\nContent-Length: 253\r\n\r\n";

/// The head of a stream as a LiteLLM server sends it through a reverse proxy.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\
    Cache-Control: no-cache\r\nServer: uvicorn\r\nx-litellm-call-id: 0b6e0c2e-6f44-4d5f-9f43-5a1c7a0a7d11\r\n\
    x-litellm-model-id: 4d5f9f43\r\nx-litellm-version: 1.60.0\r\nStrict-Transport-Security: max-age=31536000\r\n\r\n";

const EVENT: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\
    \"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";

/// The number of events that [`ExchangeBench::relay_events`] relays.
pub const EVENTS: usize = 100;

/// The round robin of credentials, shared by any number of threads.
pub struct Balancer {
    rotations: Arc<Rotations>,
    selection: Selection,
}

impl Balancer {
    /// Makes so many credentials.
    pub fn of(count: usize) -> Self {
        let entry = |index| {
            format!(
                r#"{{"clientId":"client-{index}","clientSecret":"a secret of the usual length, {index}","tenant":"t"}}"#
            )
        };
        let entries: Vec<String> = (0..count).map(entry).collect();
        let loaded = credentials::from_json(&format!("[{}]", entries.join(","))).expect("a valid file");
        let rotations = Arc::new(Rotations::new(Arc::new(loaded.credentials), None));
        let selection = rotations.selection(None, None).expect("all");
        Balancer { rotations, selection }
    }

    fn choose(&self, selection: Selection) -> Choice {
        self.rotations.selector(selection).first(Owner::Unknown, Instant::now()).expect("no owner")
    }

    /// Takes one turn, and returns the index of the credential.
    pub fn take_turn(&self) -> usize {
        self.choose(self.selection).credential().index()
    }

    /// Chooses for a request of a session, and returns the index of the credential.
    pub fn choose_for(&self, session: &[u8]) -> usize {
        let selection = self.rotations.selection(None, Some(SessionKey::of(session))).expect("all");
        self.choose(selection).credential().index()
    }
}

/// The state that the parts of an exchange need. The `out` of its methods is cleared first.
pub struct ExchangeBench {
    balancer: Balancer,
    snapshot: Snapshot,
    rules: Rules,
    method: String,
    path: String,
    ids: RequestIds,
    /// Event by event, in chunked framing.
    events: Vec<Vec<u8>>,
}

impl Default for ExchangeBench {
    fn default() -> Self {
        let balancer = Balancer::of(3);
        let (base_path, upstream_host) = ("/flow-llm-proxy".to_owned(), "flow.ciandt.com".to_owned());
        let rules = Rules {
            access: AccessRules {
                hosts: Hosts::of_listener(([127, 0, 0, 1], 8899).into(), Vec::new(), &[]),
                ..AccessRules::default()
            },
            upstream: UpstreamIdentity { base_path: base_path.clone(), authority: upstream_host.clone() },
            target: TargetRules {
                upstream_host,
                upstream_port: 443,
                base_path,
                listener_port: 8899,
                listener_hosts: vec!["127.0.0.1".to_owned()],
            },
            body_bytes_max: None,
            filter: Filter::None,
            affinity: Affinity::None,
            websocket: WebSocketUse::Auto,
        };
        let ledger = Ledger::new(1);
        let credentials = &balancer.rotations.credentials;
        ledger.open(credentials.names());
        let snapshot = Snapshot::new(balancer.rotations.clone(), &ledger, &KeyAccounts::default());
        let first = credentials.entries().next().expect("one at least").0;
        snapshot.with_authorization(first, |_| ()).expect("a token");
        let events = vec![format!("{:x}\r\n{EVENT}\r\n", EVENT.len()).into_bytes(); EVENTS];
        ExchangeBench {
            balancer,
            snapshot,
            rules,
            method: String::new(),
            path: String::new(),
            ids: RequestIds::default(),
            events,
        }
    }
}

impl ExchangeBench {
    /// Finds the end of a request head.
    pub fn scan_request(&self) -> usize {
        let scanned = HeadScanner::default().scan(REQUEST, &HeadLimits::REQUEST);
        scanned.expect("a valid head").expect("a whole head").end
    }

    /// Parses a request head, and examines its fields.
    pub fn parse_request(&self) -> bool {
        with_request(REQUEST, |head| request::head::examine(head, &mut Caller::default()).expect("valid").keep_alive)
            .expect("a valid head")
    }

    /// Looks up a token that is ready.
    pub fn look_up_token(&self) -> usize {
        let credential = self.balancer.rotations.credentials.entries().next().expect("one at least").0;
        self.snapshot.with_authorization(credential, <[u8]>::len).expect("a token")
    }

    /// Parses a request head, plans the exchange, takes a turn, and writes the head for the upstream.
    pub fn plan_request(&mut self, out: &mut Vec<u8>) -> usize {
        out.clear();
        self.method.clear();
        self.path.clear();
        let ExchangeBench { balancer, snapshot, rules, ids, .. } = self;
        ids.begin(1, ExchangeId { shard: 0, sequence: 1 });
        let planned = with_request(REQUEST, |head| {
            self.method.push_str(head.method);
            self.path.push_str(path_of(head.target));
            ids.note(head);
            plan(head, &self.path, rules, None).write(|_, Forward { path, traits }| {
                let credential = balancer.choose(balancer.selection).credential();
                snapshot.with_authorization(credential, |authorization| {
                    let own_id = ids.own();
                    let (upstream, facts) = (&rules.upstream, &traits.facts);
                    UpstreamHead { head, path, upstream, authorization, facts, own_id, is_identity_asked: false }
                        .write(out)
                })
            })
        });
        let plan = planned.expect("a valid head");
        assert!(matches!(plan.action, Action::Forward(_)), "a request is forwarded");
        out.len()
    }

    /// Looks up how the token is known when it comes back.
    fn traces(&self) -> Rc<TokenTraces> {
        self.snapshot.traces(self.snapshot.credentials.entries().next().expect("one at least").0)
    }

    /// Parses a response head, writes it for the client, and searches it for the token.
    pub fn rewrite_response(&self, out: &mut Vec<u8>) -> usize {
        out.clear();
        let target = &self.rules.target;
        let location = LocationRewrite {
            upstream_host: &target.upstream_host,
            upstream_port: target.upstream_port,
            base_path: &target.base_path,
        };
        let downstream = Recipient { version: Version::Http11, keep_alive: true, origin: None, request_id: "1" };
        with_response(RESPONSE, |head| {
            let facts = response::head::examine(head, false).expect("valid");
            let upstream_bytes = response::head::write(out, head, &facts, &downstream, Some(&location));
            mask_head(&self.traces(), &mut out[..upstream_bytes]);
        })
        .expect("a valid head");
        out.len()
    }

    /// Relays [`EVENTS`] events, one a read, and follows chunks and events meanwhile.
    pub fn relay_events(&self) -> u64 {
        let facts = with_response(RESPONSE, |head| response::head::examine(head, false).expect("valid"));
        let mut relay = BodyRelay::new(&facts.expect("a valid head"), Version::Http11, Buffer::take(), self.traces());
        for event in &self.events {
            relay.push(event);
            relay.out.clear();
        }
        relay.reader.data_bytes()
    }
}
