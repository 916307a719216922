//! A listener that speaks TLS: everything as without it, and what TLS adds: ends that differ from cuts, a handshake
//! that takes too long, plain HTTP on its port, and a certificate that is replaced.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::support::{
    CERTIFICATES, Client, DEADLINE, EVENT_STREAM, Ended, GET, Gate, Gateway, GatewayBuilder, Peer, Upstream, echo,
    json, repeat_until_undisturbed,
};

/// The files of a listener, in a directory that lives as long as the test.
pub struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    pub fn new() -> Self {
        let files = Files { directory: tempfile::tempdir().expect("a temporary directory") };
        files.write(&CERTIFICATES.server_pem, &CERTIFICATES.server_key_pem);
        files
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.path("cert.pem"), certificate).expect("written");
        fs::write(self.path("key.pem"), key).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn gateway(&self) -> GatewayBuilder {
        let path = |name| self.path(name).to_str().expect("a readable path").to_owned();
        Gateway::builder().arg("--tls-cert", path("cert.pem")).arg("--tls-key", path("key.pem"))
    }
}

fn connect(gateway: &Gateway) -> Client {
    Client::connect_tls(gateway.port(), Arc::clone(&CERTIFICATES.client))
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn requests_are_served_on_both_versions_and_drivers_one_after_the_other_and_pipelined() {
    for driver in ["auto", "epoll"] {
        let upstream = Upstream::tls(echo());
        let files = Files::new();
        let gateway = files.gateway().upstream(&upstream).arg("--io-driver", driver).start();
        assert!(gateway.log().concat().contains("OPENAI_BASE_URL=https://127.0.0.1:"), "{:?}", gateway.log());
        for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
            let mut client = Client::connect_tls(gateway.port(), client_config(versions));
            for length in [0, 1, 16_383, 16_384, 100_000, 3_000_000] {
                let body: Vec<u8> = (0..length).map(|index: usize| (index % 251) as u8).collect();
                let response = client.ask(post(&body));
                assert_eq!((response.status, response.body == body), (200, true), "{driver}, {length} bytes");
            }
            client.send([post(b"first"), post(b"second")].concat());
            assert_eq!(
                (client.read_response().text(), client.read_response().text()),
                ("first".into(), "second".into())
            );
            // Long enough to be parked without a task.
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(client.ask(post(b"later")).text(), "later");
            client.send_slowly(post(b"slow"));
            assert_eq!(client.read_response().text(), "slow");
        }
    }
}

fn client_config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(CERTIFICATES.authority_pem.as_bytes()).expect("a certificate");
    roots.add(authority).expect("an authority");
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(versions)
        .expect("known versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn events_come_one_by_one() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            peer.write(EVENT_STREAM);
            for number in 0..3 {
                peer.write(format!("9\r\ndata: {number}\n\n\r\n"));
                passing.pass();
            }
            peer.write("0\r\n\r\n");
        }
    });
    let files = Files::new();
    let gateway = files.gateway().upstream(&upstream).start();
    let mut client = connect(&gateway);
    client.send(GET);
    for number in 0..3 {
        client.read_until(format!("data: {number}\n\n"));
        gate.open();
    }
    client.read_until("0\r\n\r\n");
}

#[test]
fn a_good_end_is_told_and_a_cut_is_not() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        if let Some(request) = peer.read_request() {
            if request.path().ends_with("/cut") {
                peer.write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"half\":");
                return peer.reset();
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}");
        }
    });
    let files = Files::new();
    let gateway = files.gateway().upstream(&upstream).start();
    let whole = connect(&gateway).ask(GET);
    assert_eq!((whole.text().as_str(), whole.ended), ("{}", Ended::Eof), "close_notify came");
    let cut = connect(&gateway).ask("GET /v1/cut HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_ne!(cut.ended, Ended::Eof, "{cut:?}");
    // A refusal ends the connection, and its end is a good one too.
    let refused = connect(&gateway).ask("GET /v1/../x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(refused.status, 400);
    let mut client = connect(&gateway);
    client.ask("GET /v1/../x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.expect_close(), Ended::Eof);
}

#[test]
fn a_client_that_leaves_is_noticed_and_its_request_ends() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.wait_for_close();
    });
    let files = Files::new();
    let gateway = files.gateway().upstream(&upstream).start();
    let mut client = connect(&gateway);
    client.send(GET);
    upstream.wait_for_requests(1);
    client.reset();
    let line = gateway.wait_for_log("end=client_disconnected");
    assert!(line.contains("path=/v1/models"), "{line}");
}

/// A client that closes in good order, and waits for the other side before it closes the socket.
#[test]
fn a_client_that_says_goodbye_and_keeps_its_socket_has_left_too() {
    fn thinking(peer: &mut Peer) {
        peer.read_request();
        peer.wait_for_close();
    }
    fn streaming(peer: &mut Peer) {
        peer.read_request();
        peer.write(EVENT_STREAM);
        peer.write("9\r\ndata: 0\n\n\r\n");
        peer.wait_for_close();
    }
    let files = Files::new();
    for driver in ["auto", "epoll"] {
        for (handler, comes) in [(thinking as fn(&mut Peer), None), (streaming, Some("data: 0\n\n"))] {
            let upstream = Upstream::plain(handler);
            let gateway = files.gateway().upstream(&upstream).arg("--io-driver", driver).start();
            let mut client = connect(&gateway);
            client.send(post(b"{}"));
            let connection = upstream.wait_for_requests(1)[0].connection;
            if let Some(comes) = comes {
                client.read_until(comes);
            }
            client.say_goodbye();
            // Nothing else would end it for ten minutes.
            upstream.wait_for_close(connection);
            gateway.wait_for_log("end=client_disconnected");
        }
    }
}

#[test]
fn a_request_that_is_pipelined_while_the_first_is_answered_is_not_lost() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            passing.pass();
            let length = request.body.len();
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            peer.write(&request.body);
        }
    });
    let files = Files::new();
    let gateway = files.gateway().upstream(&upstream).start();
    let mut client = connect(&gateway);
    client.send(post(b"first"));
    upstream.wait_for_requests(1);
    client.send(post(b"second"));
    client.send(post(b"third"));
    (0..3).for_each(|_| gate.open());
    for expected in ["first", "second", "third"] {
        assert_eq!(client.read_response().text(), expected);
    }
}

#[test]
fn a_goodbye_that_comes_with_a_request_ends_the_connection_behind_its_answer() {
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    // An idle connection is kept for longer than any wait of the test.
    let gateway = files.gateway().upstream(&upstream).arg("--keepalive-timeout", "600").start();
    let mut client = connect(&gateway);
    client.send_and_say_goodbye("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
    client.expect_close();
}

#[test]
fn parts_of_a_record_do_not_keep_a_connection() {
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    let builder = files.gateway().upstream(&upstream).arg("--keepalive-timeout", "1");
    let gateway = builder.arg("--head-timeout", "600").start();
    // A client whose first request comes too late finds its connection closed.
    let mut client = None;
    repeat_until_undisturbed(|| {
        let begun = Instant::now();
        let mut connected = connect(&gateway);
        let sent = connected.try_send(GET);
        let is_undisturbed = begun.elapsed() < Duration::from_secs(1);
        if is_undisturbed {
            sent.expect("the gateway waits for it");
            assert_eq!(connected.read_response().status, 200);
            client = Some(connected);
        }
        is_undisturbed
    });
    let mut client = client.expect("connected");
    let begun = Instant::now();
    // The beginning of an application record, a byte at a time: there are bytes for longer than the test waits.
    for byte in [0x17, 3, 3, 1, 0].into_iter().chain(std::iter::repeat(0)) {
        if client.send_beside_tls(&[byte]).is_err() {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "it is kept for as long as bytes come");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn plain_http_on_its_port_is_told_so_and_noise_is_not_waited_for() {
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = files.gateway().upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    let response = client.ask(GET);
    assert_eq!((response.status, response.error_code()), (400, Some("tls_required")));
    assert!(response.text().contains("https://"), "{response:?}");
    client.expect_close();
    let mut broken = Client::connect(gateway.port());
    broken.send(b"\x16\x03\x01\x00\x05hello");
    broken.read_to_end();
    assert_eq!(upstream.requests().len(), 0);
    gateway.wait_for_log("a TLS handshake failed");
}

#[test]
fn a_client_that_speaks_http_2_alone_is_told_by_an_alert() {
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = files.gateway().upstream(&upstream).start();
    let mut config = (*client_config(&[&rustls::version::TLS13])).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = Client::connect_tls(gateway.port(), Arc::new(config)).try_send(GET).expect_err("refused");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    let mut config = (*client_config(&[&rustls::version::TLS13])).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    assert_eq!(Client::connect_tls(gateway.port(), Arc::new(config)).ask(GET).status, 200);
}

#[test]
fn a_preface_of_http_2_is_answered_in_frames_within_tls_and_without() {
    const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = files.gateway().upstream(&upstream).start();
    let mut config = (*client_config(&[&rustls::version::TLS13])).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let clients = [
        connect(&gateway),
        Client::connect_tls(gateway.port(), client_config(&[&rustls::version::TLS12])),
        Client::connect_tls(gateway.port(), Arc::new(config)),
        Client::connect(gateway.port()),
    ];
    for (index, mut client) in clients.into_iter().enumerate() {
        client.send(PREFACE);
        let (frames, ended) = client.read_to_end();
        assert!(frames.starts_with(b"\0\0\0\x04\0\0\0\0\0\0"), "{index}: {frames:?}");
        assert_eq!((frames[12], frames[25]), (7, 0xd), "{index}: a GOAWAY with HTTP_1_1_REQUIRED");
        assert_eq!(ended, Ended::Eof, "{index}");
        gateway.wait_for_log_count("code=http2_not_supported", index + 1);
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_handshake_has_ten_seconds() {
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = files.gateway().upstream(&upstream).start();
    let begun = Instant::now();
    // What ends an idle connection takes longer.
    let mut silent = Client::connect(gateway.port()).with_deadline(Duration::from_secs(10) + DEADLINE);
    silent.send(b"\x16\x03\x01");
    silent.expect_close();
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[test]
fn closed_connections_leave_nothing_behind() {
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = files.gateway().upstream(&upstream).start();
    assert_eq!(connect(&gateway).ask(GET).status, 200);
    let before = gateway.open_descriptors();
    let clients: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = connect(&gateway);
            assert_eq!(client.ask(GET).status, 200);
            client
        })
        .collect();
    for (index, client) in clients.into_iter().enumerate() {
        if index % 2 == 0 {
            client.reset();
        } else {
            client.close();
        }
    }
    // The upstream's pool may hold some.
    gateway.wait_for_descriptors(before + 2);
}

#[test]
fn sighup_replaces_the_certificate_and_a_bad_one_changes_nothing() {
    let files = Files::new();
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = files.gateway().upstream(&upstream).start();
    let mut open = connect(&gateway);
    assert_eq!(open.ask(GET).status, 200);

    files.write(&CERTIFICATES.server_pem, "nothing of use");
    gateway.signal(libc::SIGHUP);
    let line = gateway.wait_for_log("the certificate loaded before stays in use");
    assert!(line.contains("ERROR") && line.contains("--tls-key"), "{line}");
    assert_eq!(connect(&gateway).ask(GET).status, 200);

    let key = rcgen::KeyPair::generate().expect("a key");
    let other =
        rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name").self_signed(&key).expect("signed");
    files.write(&other.pem(), &key.serialize_pem());
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("the listener's certificate was loaded anew");
    let mut roots = RootCertStore::empty();
    roots.add(other.der().clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(Client::connect_tls(gateway.port(), Arc::new(config)).ask(GET).status, 200);
    assert_eq!(open.ask(GET).status, 200, "an open connection goes on");
}

#[test]
fn a_drain_ends_what_is_open_well() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            passing.pass();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let files = Files::new();
    let mut gateway = files.gateway().shards(1).upstream(&upstream).start();
    let mut busy = connect(&gateway);
    busy.send(GET);
    upstream.wait_for_requests(1);
    let mut idle = connect(&gateway);
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    gateway.terminate();
    // Its close shows that the shard drains.
    assert_eq!(idle.expect_close(), Ended::Eof);
    gate.open();
    let response = busy.read_response();
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(busy.expect_close(), Ended::Eof);
    assert!(gateway.wait().success());
}

#[test]
fn a_start_with_files_that_cannot_be_used_fails_and_names_them() {
    let files = Files::new();
    fs::write(files.path("key.pem"), &CERTIFICATES.server_pem).expect("written");
    let (code, log) = files.gateway().run_to_end();
    assert_eq!(code, Some(1));
    assert!(log.contains("--tls-key ") && log.contains("holds no private key"), "{log}");
}
