//! One round robin for the whole process: whichever shard serves a request, the next credential is the next in the
//! file's order; only what is forwarded takes a turn.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, Credential, DEADLINE, GET, Gateway, LIVENESS, Peer, Request, Upstream, json, repeat_until_undisturbed,
    secrets_json,
};

/// Connections opened at most in search of a second shard; with two, each opens there with a chance of a half.
const SEARCH_MAX: usize = 64;

/// Returns the name of the credential that a request carried, its signature checked.
fn name_of(request: &Request) -> String {
    Credential::of_authorization(request.authorization()).client_id.trim_end_matches("-client-id").to_owned()
}

fn names_of(requests: &[Request]) -> Vec<String> {
    requests.iter().map(name_of).collect()
}

/// Waits for `count` exchanges, and returns their shards in the order of the log lines.
fn shards_of(gateway: &Gateway, count: usize) -> Vec<usize> {
    let until = Instant::now() + DEADLINE;
    loop {
        let shards: Vec<usize> = gateway.log().iter().filter_map(|line| shard_of(line)).collect();
        if shards.len() >= count {
            return shards;
        }
        assert!(Instant::now() < until, "{} exchanges of {count} are in the log", shards.len());
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the `SHARD` in the `id=SHARD-SEQUENCE` of an exchange's line.
fn shard_of(line: &str) -> Option<usize> {
    let (_, after) = line.split_once(" id=")?;
    after.split_once('-')?.0.parse().ok()
}

/// Opens two connections that different shards serve, found by requests that the gateway answers itself.
fn clients_on_two_shards(gateway: &Gateway) -> [Client; 2] {
    let mut first = Client::connect(gateway.port());
    first.ask(LIVENESS);
    for count in 2..SEARCH_MAX {
        let mut other = Client::connect(gateway.port());
        other.ask(LIVENESS);
        let shards = shards_of(gateway, count);
        if shards[count - 1] != shards[0] {
            return [first, other];
        }
    }
    panic!("all connections are on the same shard:\n{}", gateway.log().join("\n"));
}

#[test]
fn requests_that_alternate_between_shards_use_the_credentials_in_their_order() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream).start();
    let mut clients = clients_on_two_shards(&gateway);
    let before = shards_of(&gateway, 2).len();
    for turn in 0..12 {
        assert_eq!(clients[turn % 2].ask(GET).status, 200);
        // The line comes after the answer: without it the next shard's could be first.
        shards_of(&gateway, before + turn + 1);
    }
    assert_eq!(names_of(&upstream.requests()), ["a", "b", "c"].repeat(4));
    let shards = &shards_of(&gateway, before + 12)[before..];
    assert!(shards.windows(2).all(|pair| pair[0] != pair[1]), "the shards did not alternate: {shards:?}");
}

#[test]
fn many_connections_at_once_share_the_turns_evenly() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream).start();
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.port());
                for _ in 0..10 {
                    assert_eq!(client.ask(GET).status, 200);
                }
            });
        }
    });
    let mut turns = BTreeMap::<String, usize>::new();
    for name in names_of(&upstream.requests()) {
        *turns.entry(name).or_default() += 1;
    }
    assert_eq!(turns, ["a", "b", "c"].map(|name| (name.to_owned(), 100)).into());
    assert_eq!(shards_of(&gateway, 300).into_iter().collect::<BTreeSet<_>>(), [0, 1].into());
}

#[test]
fn weights_give_the_smooth_order() {
    let mut entries: serde_json::Value = serde_json::from_str(&secrets_json(&["a", "b", "c"])).expect("JSON");
    entries[0]["weight"] = 5.into();
    let upstream = Upstream::plain(json(200, "{}"));
    let five_to_one = Gateway::builder().secrets(entries.to_string()).upstream(&upstream).start();
    let mut client = Client::connect(five_to_one.port());
    for _ in 0..14 {
        client.ask(GET);
    }
    // As nginx documents it: the heavy one is spread between the others, not used in a row of its own.
    assert_eq!(names_of(&upstream.requests()).concat(), "aabacaa".repeat(2));

    let mut entries: serde_json::Value = serde_json::from_str(&secrets_json(&["a", "b"])).expect("JSON");
    entries[0]["weight"] = 2.into();
    let upstream = Upstream::plain(json(200, "{}"));
    let two_to_one = Gateway::builder().secrets(entries.to_string()).upstream(&upstream).start();
    let mut client = Client::connect(two_to_one.port());
    for _ in 0..9 {
        client.ask(GET);
    }
    assert_eq!(names_of(&upstream.requests()).concat(), "aba".repeat(3));
}

#[test]
fn more_shards_than_cpus_start_with_one_warning_and_serve() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().shards(16).secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream).start();
    let mut clients: Vec<Client> = (0..64).map(|_| Client::connect(gateway.port())).collect();
    for client in &mut clients {
        assert_eq!(client.ask(GET).status, 200);
    }
    let shards: BTreeSet<usize> = shards_of(&gateway, 64).into_iter().collect();
    assert!(shards.len() >= 8 && shards.iter().all(|shard| *shard < 16), "{shards:?}");
    assert_eq!(names_of(&upstream.requests()).concat(), "abc".repeat(22)[..64]);
    let warnings = gateway.log().iter().filter(|line| line.contains("there are more shards than CPUs")).count();
    let cpus = thread::available_parallelism().map_or(16, usize::from);
    assert_eq!(warnings, usize::from(cpus < 16));
}

#[test]
fn answers_and_refusals_made_here_take_no_turn() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway =
        Gateway::builder().secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream).arg("--body-max", "1").start();
    for (request, status) in [
        (LIVENESS, 200),
        ("GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 204),
        ("GET /v1/../x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\n\r\n", 400),
        ("GET http://elsewhere.example/v1/models HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", 403),
        ("CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", 405),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 400),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n", 413),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nExpect: other\r\nContent-Length: 2\r\n\r\n{}", 417),
        ("GET /v1/x HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
    ] {
        assert_eq!(Client::connect(gateway.port()).ask(request).status, status, "{request:?}");
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    }
    assert_eq!(names_of(&upstream.requests()).concat(), "abc".repeat(4));
}

#[test]
fn the_replay_on_a_stale_connection_takes_no_turn() {
    /// `failover::STALE_LIMIT`: what fails later than this may have failed for another reason, and takes a turn.
    const STALE_LIMIT: Duration = Duration::from_secs(2);
    repeat_until_undisturbed(|| {
        // Every connection serves one exchange, and is closed when the second request has come.
        let upstream = Upstream::plain(|peer: &mut Peer| {
            if peer.read_request().is_some() {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
                peer.read_request();
            }
        });
        let secrets = secrets_json(&["a", "b", "c"]);
        let gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).patient().start();
        let mut client = Client::connect(gateway.port());
        let mut is_late = false;
        for _ in 0..4 {
            let began = Instant::now();
            assert_eq!(client.ask(GET).status, 200);
            is_late |= began.elapsed() >= STALE_LIMIT;
        }
        let order = names_of(&upstream.requests()).concat();
        assert!(order == "abbccaa" || is_late, "{order}");
        order == "abbccaa"
    });
}
