//! An upstream that is reached through an HTTP proxy: the requests that the proxy gets, the answers when it fails, and
//! the settings that lead to it.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::{
    BASE_PATH, CERTIFICATES, Client, Conduct, ConnectProxy, EVENT_STREAM, GET, Gate, Gateway, GatewayBuilder, POST,
    Peer, Response, SECRET_MARK, Totals, Upstream, answer, command, json, output_of, secrets_json, value_of,
};

/// A name that only the proxy can resolve.
const NAMED: &str = "https://flow.test/flow-llm-proxy";

fn through(proxy: &ConnectProxy, upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().shards(1).upstream(upstream).patient().arg("--upstream-proxy", proxy.url())
}

fn ask(gateway: &Gateway, request: &str) -> Response {
    Client::connect(gateway.port()).ask(request)
}

#[test]
fn requests_go_through_one_tunnel_that_the_pool_keeps() {
    for upstream in
        [Upstream::tls(answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")), Upstream::plain(json(200, "ok"))]
    {
        let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
        let gateway = through(&proxy, &upstream).start();
        let mut client = Client::connect(gateway.port());
        for request in [GET, POST, GET, POST] {
            let response = client.ask(request);
            assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        }
        let requests = proxy.requests();
        assert_eq!(requests.len(), 1, "the pool keeps the tunnel: {requests:?}");
        assert_eq!(requests[0].line, format!("CONNECT {} HTTP/1.1", upstream.authority()));
        assert_eq!((&requests[0].host, &requests[0].authorization), (&Some(upstream.authority()), &None));
        assert_eq!(upstream.connections(), 1);
        let upstream_request = &upstream.requests()[0];
        assert_eq!(upstream_request.line(), format!("GET {BASE_PATH}/v1/models HTTP/1.1"), "origin-form");
        assert_eq!(upstream_request.head.field("proxy-authorization"), None);
        gateway.wait_for_log(&format!("  proxy        http://{} (from --upstream-proxy)", proxy.authority()));
    }
}

#[test]
fn events_come_through_a_tunnel_one_by_one() {
    let has_come = Gate::new();
    let passing = has_come.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        peer.read_request();
        peer.write(EVENT_STREAM);
        for event in ["9\r\ndata: 1\n\n\r\n", "9\r\ndata: 2\n\n\r\n"] {
            peer.write(event);
            passing.pass();
        }
        peer.write("0\r\n\r\n");
    });
    let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
    let gateway = through(&proxy, &upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    // The upstream sends none before the one before it has come here.
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        client.read_until(event);
        has_come.open();
    }
    client.read_until("0\r\n\r\n");
}

#[test]
fn the_credentials_of_the_proxy_arrive_there_and_nowhere_else() {
    let password = format!("p@ss:/{SECRET_MARK}");
    let user_info = format!("CORP%5Cgwendolyn:p%40ss%3A%2F{SECRET_MARK}");
    let expected = format!("Basic {}", STANDARD.encode(format!("CORP\\gwendolyn:{password}")));
    let upstream = Upstream::tls(json(200, "{}"));
    let address = upstream.authority().parse().expect("an address");
    let proxy = ConnectProxy::start(Conduct::TunnelFor(address, expected.clone()));
    let in_flag = Gateway::builder().upstream(&upstream).arg("--upstream-proxy", proxy.url_with(&user_info));
    let in_environment = named(&upstream).env("HTTPS_PROXY", proxy.url_with(&user_info));
    for builder in [in_flag, in_environment] {
        let mut gateway = builder.start();
        gateway.note_password(&password);
        assert_eq!(ask(&gateway, GET).status, 200);
        assert_eq!(proxy.requests().pop().and_then(|request| request.authorization), Some(expected.clone()));
        let request = upstream.requests().pop().expect("a request");
        assert!(!request.head.lines_without(&[]).join("\n").contains(SECRET_MARK));
        assert!(!gateway.log().join("\n").contains("gwendolyn"), "the user's name is not for the log either");
    }
}

#[test]
fn a_proxy_that_refuses_is_a_502_at_once_with_a_code_of_its_own() {
    const PASSWORD: &str = "wrong-and-is-kept-from-all-output";
    let upstream = Upstream::tls(json(200, "{}"));
    let address = upstream.authority().parse().expect("an address");
    for (conduct, told) in [
        (Conduct::TunnelFor(address, "Basic other".into()), "wants other credentials (407)"),
        (Conduct::Answer("HTTP/1.1 403 Forbidden\r\nX: 1\r\n\r\n<html>".into()), "refused to connect to it (403)"),
        (Conduct::Answer("HTTP/1.1 405 No CONNECT\r\n\r\n".into()), "refused to connect to it (405)"),
    ] {
        let proxy = ConnectProxy::start(conduct);
        let mut gateway = Gateway::builder()
            .shards(1)
            .upstream(&upstream)
            .patient()
            .secrets(secrets_json(&["a", "b", "c"]))
            .arg("--upstream-proxy", proxy.url_with(&format!("gwendolyn:{PASSWORD}")))
            .start();
        gateway.note_password(PASSWORD);
        let response = ask(&gateway, POST);
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_proxy_refused")));
        assert!(response.text().contains(told), "{}", response.text());
        assert_eq!(proxy.requests().len(), 1, "it would say the same again");
        let line = gateway.wait_for_log(" exchange id=");
        assert_eq!((value_of(&line, "attempts"), value_of(&line, "end")), (Some("1"), Some("upstream_unreachable")));
        let totals = Totals::at_the_end_of(&mut gateway);
        assert_eq!((totals.of("attempts"), totals.of("cooldowns")), (1, 0), "{totals:?}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_proxy_that_cannot_connect_is_tried_as_often_as_an_upstream_that_cannot_be_reached() {
    let upstream = Upstream::tls(json(200, "{}"));
    for (answer, told) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "could not connect to it (503)"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "could not connect to it (502)"),
        ("HTTP/1.1 504 Gateway Timeout\r\n\r\n", "could not connect to it (504)"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not answer as an HTTP proxy: it does not speak HTTP/1.0 or HTTP/1.1"),
        ("", "closed the connection before it answered"),
        ("HTTP/1.1 200 OK\r\n\r\nsurplus", "does not answer as an HTTP proxy: bytes come after the head"),
    ] {
        let proxy = ConnectProxy::start(Conduct::Answer(answer.to_owned()));
        let mut gateway = through(&proxy, &upstream).start();
        let response = ask(&gateway, POST);
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_proxy_failed")), "{answer:?}");
        assert!(response.text().contains(told), "{answer:?}: {}", response.text());
        assert_eq!(proxy.requests().len(), 3, "{answer:?}: one attempt and two repeats");
        proxy.behave(Conduct::tunnel_to(&upstream));
        assert_eq!(ask(&gateway, POST).status, 200, "{answer:?}");
        assert_eq!(Totals::at_the_end_of(&mut gateway).of("unreachable"), 2, "{answer:?}");
    }
}

#[test]
fn a_proxy_that_hangs_is_given_up_within_the_connect_timeout() {
    // The limit is the request's that hangs, and of the good one after it too: on a machine that is too busy for a
    // short one, a longer one shows the same.
    let is_shown = [0.3, 3.0, 12.0].into_iter().any(|limit| {
        let upstream = Upstream::plain(json(200, "{}"));
        let proxy = ConnectProxy::start(Conduct::Hang);
        let builder = through(&proxy, &upstream).arg("--connect-timeout", limit.to_string());
        let gateway = builder.arg("--retry-deadline", "0").start();
        let began = Instant::now();
        let response = ask(&gateway, POST);
        assert_eq!((response.status, response.error_code()), (504, Some("upstream_connect_timeout")));
        assert!(began.elapsed() >= Duration::from_secs_f64(limit), "{:?}", began.elapsed());
        let line = gateway.wait_for_log(" exchange id=");
        assert_eq!(value_of(&line, "attempts"), Some("1"));
        // None at all where the limit ended before the proxy was asked.
        let hung = proxy.requests().len();
        assert!(hung <= 1, "{hung}");
        proxy.behave(Conduct::tunnel_to(&upstream));
        let response = ask(&gateway, POST);
        let is_late = response.error_code() == Some("upstream_connect_timeout");
        assert!(response.status == 200 || is_late, "{response:?}");
        hung == 1 && !is_late
    });
    assert!(is_shown, "even 12 s were too short to connect within");
}

#[test]
fn a_proxy_that_goes_away_and_comes_back_costs_what_an_upstream_would() {
    let upstream = Upstream::tls(json(200, "{}"));
    let mut proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
    let gateway = through(&proxy, &upstream).start();
    assert_eq!(ask(&gateway, POST).status, 200);
    proxy.stop();
    let response = ask(&gateway, POST);
    assert_eq!((response.status, response.error_code()), (502, Some("upstream_proxy_failed")));
    assert!(response.text().contains("could not be reached (connection refused)"), "{}", response.text());
    proxy.resume();
    assert_eq!(ask(&gateway, POST).status, 200);
    // One that is back before the next request is not even noticed: the cut tunnel is not used again.
    proxy.stop();
    proxy.resume();
    assert_eq!(ask(&gateway, POST).status, 200);
    assert_eq!(proxy.requests().len(), 3);
}

/// Returns a builder whose upstream has a name that only a proxy can resolve.
fn named(upstream: &Upstream) -> GatewayBuilder {
    named_as(NAMED, upstream)
}

fn named_as(url: &str, upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().shards(1).upstream(upstream).patient().arg("--upstream", url)
}

#[test]
fn the_environment_leads_to_the_proxy_too_which_finds_the_upstream_by_its_name() {
    let upstream = Upstream::tls(json(200, "{}"));
    let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
    let other = ConnectProxy::start(Conduct::Answer("HTTP/1.1 403 No\r\n\r\n".into()));
    for (variables, source) in [
        (vec![("HTTPS_PROXY", proxy.url())], "environment HTTPS_PROXY"),
        (vec![("HTTPS_PROXY", other.url()), ("https_proxy", proxy.url())], "environment https_proxy"),
        (vec![("HTTPS_PROXY", proxy.url()), ("NO_PROXY", "other.test".into())], "environment HTTPS_PROXY"),
    ] {
        let builder = variables.into_iter().fold(named(&upstream), |builder, (name, value)| builder.env(name, value));
        let gateway = builder.start();
        assert_eq!(ask(&gateway, GET).status, 200);
        gateway.wait_for_log(&format!("  proxy        {} (from {source})", proxy.url()));
        assert_eq!(proxy.requests().pop().expect("a request").line, "CONNECT flow.test:443 HTTP/1.1");
        assert_eq!(upstream.requests().pop().expect("a request").head.field("host"), Some("flow.test"));
    }
    let flag = named(&upstream).env("HTTPS_PROXY", other.url()).env("NO_PROXY", "*");
    let gateway = flag.arg("--upstream-proxy", proxy.url()).start();
    assert_eq!(ask(&gateway, GET).status, 200, "the flag wins over both");
    assert_eq!(other.requests(), []);
}

#[test]
fn an_address_to_connect_to_is_what_the_proxy_is_asked_for() {
    let upstream = Upstream::tls(json(200, "{}"));
    let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
    let gateway =
        named(&upstream).arg("--upstream-proxy", proxy.url()).arg("--upstream-addr", "[2001:db8::7]:8443").start();
    assert_eq!(ask(&gateway, GET).status, 200);
    assert_eq!(proxy.requests()[0].line, "CONNECT [2001:db8::7]:8443 HTTP/1.1");
    assert_eq!(upstream.request().head.field("host"), Some("flow.test"));
}

#[test]
fn an_upstream_that_no_proxy_names_or_that_is_on_this_machine_is_reached_without() {
    let upstream = Upstream::tls(json(200, "{}"));
    let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
    let gateway = Gateway::builder().upstream(&upstream).patient().env("HTTPS_PROXY", proxy.url()).start();
    assert_eq!(ask(&gateway, GET).status, 200, "it is on this machine");
    // A name below `invalid` has no address (RFC 6761 §6.4).
    let excepted = named_as("https://flow.invalid", &upstream).arg("--retry-deadline", "0");
    // Some resolvers do not say so within it.
    let excepted = excepted.arg("--connect-timeout", "2");
    let gateway = excepted.env("HTTPS_PROXY", proxy.url()).env("no_proxy", "a.test,.invalid:443").start();
    let response = ask(&gateway, GET);
    assert!(
        matches!(response.error_code(), Some("upstream_resolve_failed" | "upstream_connect_timeout")),
        "{response:?}"
    );
    assert_eq!(gateway.count_log("  proxy        "), 0);
    assert_eq!(proxy.requests(), []);
}

#[test]
fn a_proxy_of_a_kind_that_is_not_supported_keeps_it_from_starting_and_is_not_repeated() {
    let upstream = Upstream::tls(json(200, "{}"));
    for scheme in ["socks5", "https"] {
        let url = format!("{scheme}://gwendolyn:{SECRET_MARK}@proxy.test:1080");
        for (builder, source) in [
            (named(&upstream).env("HTTPS_PROXY", &url), "environment HTTPS_PROXY"),
            (named(&upstream).arg("--upstream-proxy", &url), "--upstream-proxy"),
        ] {
            let (code, log) = builder.run_to_end();
            assert_eq!(code, Some(64), "{log}");
            assert!(
                log.contains(&format!("{source}: expected a proxy that is spoken to by plain HTTP, http://")),
                "{log}"
            );
            assert!(!log.contains(SECRET_MARK) && !log.contains("gwendolyn"), "{log}");
        }
    }
}

/// Runs `flow-uring` with these words and this proxy in its environment.
fn run(words: &[&str], proxy: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("secrets.json"), secrets_json(&["alpha"])).expect("written");
    std::fs::write(directory.path().join("ca.pem"), &CERTIFICATES.authority_pem).expect("written");
    let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
    command.args(words).args(["--upstream", NAMED, "--upstream-ca", "ca.pem"]).current_dir(directory.path());
    command
        .env_clear()
        .env("FLOW_PROXY_USAGE_DB", "off")
        .env("HTTPS_PROXY", proxy)
        .env("FLOW_PROXY_CONNECT_TIMEOUT", "600");
    let output = output_of(command);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("text");
    assert!(!said.contains(SECRET_MARK) && !said.contains("gwendolyn"), "{said}");
    (output.status.code(), said)
}

#[test]
fn check_says_that_there_is_a_proxy_and_goes_through_it_when_it_is_online() {
    let upstream = Upstream::tls(json(200, "{}"));
    let proxy = ConnectProxy::start(Conduct::tunnel_to(&upstream));
    let url = proxy.url_with(&format!("gwendolyn:{SECRET_MARK}"));
    let line = format!("  upstream-proxy          {} (environment HTTPS_PROXY)\n", proxy.url());
    let (code, said) = run(&["check"], &url);
    assert!(code == Some(0) && said.contains(&line), "{said}");
    assert_eq!(proxy.requests(), [], "it was not asked to");
    let (code, said) = run(&["check", "--online"], &url);
    assert!(code == Some(0) && said.contains(&line) && said.contains("  [0] alpha: works (200)\n"), "{said}");
    assert_eq!(proxy.requests().len(), 2, "one for the credential, one to see whether HTTP/2 is offered");
    proxy.behave(Conduct::TunnelFor(upstream.authority().parse().expect("an address"), "Basic other".into()));
    let (code, said) = run(&["check", "--online"], &url);
    let told = "problem: [0] alpha: the upstream cannot be reached: the proxy (--upstream-proxy, HTTPS_PROXY) wants \
                another user or password than its URL has (407)\n";
    assert!(code == Some(1) && said.contains(told), "{said}");
    assert_eq!(proxy.requests().len(), 3, "a wrong password is tried no more often than there are credentials");
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_goes_without_whatever_the_settings_say() {
    let proxy = ConnectProxy::start(Conduct::Answer("HTTP/1.1 403 No\r\n\r\n".into()));
    for (variable, flag) in [("socks5://elsewhere:1", None), (proxy.url().as_str(), None), ("", Some(proxy.url()))] {
        let builder = Gateway::builder().switch("demo").env("HTTPS_PROXY", variable);
        let builder = flag.into_iter().fold(builder, |builder, url| builder.arg("--upstream-proxy", url));
        let gateway = builder.start();
        let response = ask(&gateway, GET);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(gateway.count_log("  proxy        "), 0);
    }
    assert_eq!(proxy.requests(), []);
}
