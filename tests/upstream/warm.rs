//! Connections that are opened in advance: when there are some, which requests go out on them, and when there are none.

use std::time::{Duration, Instant};

use crate::support::{
    Client, Conduct, ConnectProxy, EVENT_STREAM, GET, Gate, Gateway, GatewayBuilder, OK, Peer, Upstream, answer,
    check_at_once, chunk, wait_until,
};

/// An answer after which its connection is not kept, so that whatever is idle was opened in advance.
const LAST: &str = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok";

/// Longer than it takes until a connection is opened, unless the machine is very busy.
const A_WHILE: Duration = Duration::from_secs(2);

fn warm(count: usize, upstream: &Upstream) -> GatewayBuilder {
    let builder = Gateway::builder().shards(1).upstream(upstream).patient();
    builder.arg("--warm-connections", count.to_string()).arg("--admin", "127.0.0.1:0")
}

fn ask(gateway: &Gateway) {
    assert_eq!(Client::connect(gateway.port()).ask(GET).text(), "ok");
}

/// Returns a figure about connections to the upstream.
fn figure(gateway: &Gateway, name: &str) -> usize {
    let page = gateway.metrics();
    let value = page.lines().find_map(|line| line.strip_prefix(&format!("flow_uring_upstream_{name} ")));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {page}"))
}

fn wait_for_idle(gateway: &Gateway, count: usize) {
    wait_until("so many idle connections", || figure(gateway, "connections_idle") == count);
}

/// Returns the number of the connection that the last request came on.
fn last_connection(upstream: &Upstream) -> usize {
    upstream.requests().pop().expect("a request").connection
}

#[test]
fn a_request_after_a_rest_finds_a_connection() {
    let tls = || Upstream::tls(answer(LAST));
    check_at_once(
        [(tls(), false), (Upstream::plain(answer(LAST)), false), (tls(), true)],
        |(upstream, is_tunneled)| {
            let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
            let builder = warm(1, &upstream);
            let gateway = if is_tunneled { builder.arg("--upstream-proxy", proxy.url()) } else { builder }.start();
            ask(&gateway);
            for number in 1..4 {
                wait_for_idle(&gateway, 1);
                assert_eq!(upstream.connections(), number + 1);
                ask(&gateway);
                assert_eq!(last_connection(&upstream), number, "opened before it came");
                assert_eq!(figure(&gateway, "warm_used_total"), number);
            }
            let figures = ["connections_opened_total", "connections_reused_total", "connections_stale_total"];
            assert_eq!(figures.map(|name| figure(&gateway, name)), [1, 0, 0]);
            assert_eq!(proxy.requests().len(), if is_tunneled { upstream.connections() } else { 0 });
            assert_eq!((upstream.handshake_failures(), gateway.count_log(" WARN  flow-shard")), (0, 0));
        },
    );
}

#[test]
fn one_that_grows_old_is_followed_by_another() {
    const LIMIT: Duration = Duration::from_secs(4);
    let upstream = Upstream::tls(answer(OK));
    let gateway = warm(1, &upstream).arg("--upstream-idle-timeout", LIMIT.as_secs().to_string()).start();
    ask(&gateway);
    let asked = upstream.request().at;
    for number in 0..2 {
        let age = upstream.wait_for_close(number) - asked;
        // The last part of the rest is drawn.
        assert!(age > LIMIT / 10 * 9, "{number}: {age:?}");
        wait_for_idle(&gateway, 1);
    }
    // The first came of age, and then the one that was opened before that. The third is used, and so on.
    let opened = upstream.connections();
    ask(&gateway);
    let used = last_connection(&upstream);
    assert!((2..opened).contains(&used), "{used} of {opened}");
    assert_eq!(figure(&gateway, "warm_used_total"), 1);
}

#[test]
fn none_is_opened_without_a_request_or_where_none_is_wanted() {
    let [unused, unwanted, used] = [(); 3].map(|()| Upstream::plain(answer(LAST)));
    let gateways = [warm(1, &unused).start(), warm(0, &unwanted).start(), warm(1, &used).start()];
    ask(&gateways[1]);
    ask(&gateways[2]);
    wait_for_idle(&gateways[2], 1);
    std::thread::sleep(A_WHILE);
    assert_eq!([&unused, &unwanted, &used].map(Upstream::connections), [0, 1, 2]);
}

#[test]
fn several_are_opened_one_after_the_other_and_no_more_than_are_wanted() {
    let upstream = Upstream::tls(answer(LAST));
    let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
    let gateway = warm(3, &upstream).arg("--upstream-proxy", proxy.url()).start();
    ask(&gateway);
    wait_for_idle(&gateway, 3);
    std::thread::sleep(A_WHILE);
    assert_eq!(upstream.connections(), 4);
    proxy.behave(Conduct::Hang);
    ask(&gateway);
    ask(&gateway);
    wait_until("the next is being opened", || proxy.requests().len() == 5);
    std::thread::sleep(A_WHILE);
    assert_eq!((proxy.requests().len(), figure(&gateway, "connections_idle")), (5, 1));
}

#[test]
fn an_upstream_that_wants_none_is_not_hammered() {
    let only_first = |peer: &mut Peer| {
        if peer.number() == 0 && peer.read_request().is_some() {
            peer.write(LAST);
        }
    };
    let then_refusing = |peer: &mut Peer| {
        peer.read_request();
        peer.refuse_connections();
        peer.write(LAST);
    };
    check_at_once(
        [Upstream::tls(only_first), Upstream::plain(only_first), Upstream::plain(then_refusing)],
        |upstream| {
            let gateway = warm(1, &upstream).start();
            let began = Instant::now();
            ask(&gateway);
            let refusals = || gateway.count_log("no connection to the upstream could be opened in advance");
            let tries = || upstream.connections() - 1 + refusals();
            wait_until("the first try", || tries() > 0);
            std::thread::sleep(Duration::from_secs(5));
            // The last one may have been opened just now.
            wait_for_idle(&gateway, 0);
            let (tries, took) = (tries(), began.elapsed());
            // 1, 2, 4 and more seconds lie between them; without that there would be ten.
            let least = Duration::from_secs((1 << (tries - 1)) - 1);
            assert!(tries >= 2 && took >= least, "{tries} tries in {took:?}");
            assert_eq!(gateway.count_log(" WARN  flow-shard"), 0, "nobody has to know");
        },
    );
}

#[test]
fn a_request_that_must_not_be_sent_twice_goes_out_on_a_fresh_one() {
    let upstream = Upstream::tls(answer(LAST));
    let gateway = warm(1, &upstream).start();
    ask(&gateway);
    wait_for_idle(&gateway, 1);
    let batch = "POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(Client::connect(gateway.port()).ask(batch).status, 200);
    assert_eq!((last_connection(&upstream), figure(&gateway, "warm_used_total")), (2, 0));
    ask(&gateway);
    assert_eq!((last_connection(&upstream), figure(&gateway, "warm_used_total")), (1, 1));
}

#[test]
fn one_that_fails_under_its_request_costs_the_request_nothing() {
    let upstream = Upstream::tls(|peer: &mut Peer| {
        if peer.read_request().is_some() {
            if peer.number() == 1 { peer.reset() } else { assert!(peer.write(LAST)) }
        }
    });
    let gateway = warm(1, &upstream).start();
    ask(&gateway);
    wait_for_idle(&gateway, 1);
    ask(&gateway);
    let connections: Vec<usize> = upstream.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1, 2]);
    let figures = ["connections_opened_total", "warm_used_total", "connections_stale_total"];
    assert_eq!(figures.map(|name| figure(&gateway, name)), [2, 1, 1]);
    let line = gateway.wait_for_log(" exchange id=");
    assert!(line.contains("attempts=1"), "{line}");
}

#[test]
fn a_drain_ends_them_and_opens_none() {
    let is_over = Gate::new();
    let passing = is_over.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        if peer.read_request().is_some() && peer.write(EVENT_STREAM) {
            peer.write(chunk("data: 1\n\n"));
            passing.pass();
            peer.write("0\r\n\r\n");
        }
    });
    let mut gateway = warm(1, &upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    client.read_until("data: 1\n\n");
    wait_for_idle(&gateway, 1);
    let stopped = Instant::now();
    gateway.terminate();
    assert!(upstream.wait_for_close(1) > stopped);
    std::thread::sleep(A_WHILE);
    assert_eq!(upstream.connections(), 2);
    is_over.open();
    client.read_until("0\r\n\r\n");
    assert!(gateway.wait().success());
}
