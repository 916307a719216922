//! Real proxies: squid and tinyproxy, each as a process of its own, between the gateway and an upstream. The scripted
//! proxy of the kit answers as proxies are believed to; these answer as they do.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{
    Client, DEADLINE, EVENT_STREAM, GET, Gate, Gateway, HeldPort, POST, Peer, Running, SECRET_MARK, Upstream, command,
    secrets_json, skip_but_not_on_ci,
};

const USER: &str = "gwendolyn";
/// A text that the search through all output looks for.
const PASSWORD: &str = SECRET_MARK;
/// `openssl passwd -6 -salt flowuring` of the password.
const HASH: &str =
    "$6$flowuring$mdyirjVUeKUigS0NLuBgT9ZvuASRJS.uJ2V7JXG4E.VjwVd/ogliuHlG3n5K/m5k77ljfHkV3MOxnDYLotE771";

/// A program and its configuration.
struct Kind {
    program: &'static str,
    arguments: &'static [&'static str],
    /// Given the port to listen on, those that tunnels may go to, and a file to write.
    configuration: fn(u16, [u16; 2], &Path) -> String,
    /// The status for wrong credentials.
    wrong_status: u16,
    /// The status where nobody listens.
    unreachable_status: u16,
}

const SQUID: Kind = Kind {
    program: "/usr/sbin/squid",
    // In the foreground, with no pid file and no privileges but those it has.
    arguments: &["-N", "-f"],
    configuration: |port, [first, second], users| {
        format!(
            "http_port 127.0.0.1:{port}\nauth_param basic program /usr/lib/squid/basic_ncsa_auth {}\n\
             auth_param basic children 1\nacl known proxy_auth REQUIRED\nacl allowed port {first} {second}\n\
             http_access deny !allowed\nhttp_access allow known\nhttp_access deny all\npid_filename none\n\
             access_log none\ncache_log /dev/null\ncache deny all\nvisible_hostname proxy.test\npinger_enable off\n",
            users.display()
        )
    },
    wrong_status: 407,
    unreachable_status: 503,
};

const TINYPROXY: Kind = Kind {
    program: "/usr/bin/tinyproxy",
    arguments: &["-d", "-c"],
    configuration: |port, [first, second], _| {
        format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nBasicAuth {USER} {PASSWORD}\nConnectPort {first}\n\
             ConnectPort {second}\n"
        )
    },
    wrong_status: 401,
    unreachable_status: 500,
};

/// A running proxy; dropped, it is killed.
struct RunningProxy {
    port: HeldPort,
    kind: &'static Kind,
    configuration: PathBuf,
    running: Option<Running>,
    directory: TempDir,
}

impl RunningProxy {
    /// `None` where the program is not installed. On CI all must be.
    fn start(kind: &'static Kind, allowed_ports: [u16; 2]) -> Option<Self> {
        if !Path::new(kind.program).exists() {
            skip_but_not_on_ci(&format!("a real proxy: {} is missing (apt install squid tinyproxy)", kind.program));
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| -> PathBuf {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        // Squid's helper runs as a user of its own where squid is started as root.
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("changed");
        let users = write("users", &format!("{USER}:{HASH}\n"));
        fs::set_permissions(&users, PermissionsExt::from_mode(0o644)).expect("changed");
        let port = HeldPort::reserve();
        let configuration = write("conf", &(kind.configuration)(port.address().port(), allowed_ports, &users));
        let mut proxy = Self { port, kind, configuration, running: None, directory };
        proxy.resume();
        Some(proxy)
    }

    fn url(&self, user_info: &str) -> String {
        format!("http://{user_info}{}", self.port.address())
    }

    fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it, and waits until it listens.
    fn resume(&mut self) {
        let mut command = command(self.kind.program);
        command.args(self.kind.arguments).arg(&self.configuration).current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(command).expect("the proxy starts");
        let until = Instant::now() + 2 * DEADLINE;
        while TcpStream::connect(self.port.address()).is_err() {
            let ended = running.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < until, "{} does not listen: {ended:?}", self.kind.program);
            thread::sleep(Duration::from_millis(10));
        }
        self.running = Some(running);
    }
}

fn gateway(upstream_url: &str, upstream: &Upstream, proxy_url: String) -> Gateway {
    let builder = Gateway::builder().shards(1).upstream(upstream).patient().secrets(secrets_json(&["a", "b", "c"]));
    let mut gateway = builder.arg("--upstream", upstream_url).arg("--upstream-proxy", proxy_url).start();
    gateway.note_password(PASSWORD);
    gateway
}

/// Asks once, and returns the code and the message of the error.
fn error_of(gateway: &Gateway) -> (String, String) {
    let response = Client::connect(gateway.port()).with_deadline(3 * DEADLINE).ask(POST);
    assert_eq!(response.status, 502, "{response:?}");
    let message = response.json()["error"]["message"].as_str().expect("a message").to_owned();
    (response.error_code().expect("ours").to_owned(), message)
}

fn is_used_through(kind: &'static Kind) {
    let has_come = Gate::new();
    let passing = has_come.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            peer.write(EVENT_STREAM);
            peer.write("9\r\ndata: 1\n\n\r\n");
            passing.pass();
            peer.write("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        }
    });
    // Nobody listens on these; the proxy may connect to the one and not to the other.
    let (closed, forbidden) = (HeldPort::reserve(), HeldPort::reserve());
    let Some(mut proxy) = RunningProxy::start(kind, [upstream.port(), closed.address().port()]) else { return };
    let known = proxy.url(&format!("{USER}:{PASSWORD}@"));

    let good = gateway(&upstream.url(), &upstream, known.clone());
    let mut client = Client::connect(good.port());
    for _ in 0..3 {
        client.send(POST);
        // The upstream sends the second event when the first has come here.
        client.read_until("data: 1\n\n");
        has_come.open();
        client.read_until("0\r\n\r\n");
    }
    assert_eq!(upstream.connections(), 1, "one tunnel for all");

    let (none, wrong) = (String::new(), [format!("{USER}:wrong-{PASSWORD}@"), format!("nobody:{PASSWORD}@")]);
    for (user_info, status) in wrong.into_iter().map(|wrong| (wrong, kind.wrong_status)).chain([(none, 407)]) {
        let (code, message) = error_of(&gateway(&upstream.url(), &upstream, proxy.url(&user_info)));
        assert_eq!(code, "upstream_proxy_refused");
        assert!(message.contains(&format!("wants other credentials ({status})")), "{message}");
    }
    let at = |port: &HeldPort| format!("https://{}", port.address());
    let (code, message) = error_of(&gateway(&at(&forbidden), &upstream, known.clone()));
    assert_eq!(code, "upstream_proxy_refused");
    assert!(message.contains("refused to connect to it (403)"), "{message}");
    let (code, message) = error_of(&gateway(&at(&closed), &upstream, known));
    assert_eq!(code, "upstream_proxy_failed");
    assert!(message.contains(&format!("could not connect to it ({})", kind.unreachable_status)), "{message}");

    proxy.stop();
    let (code, message) = error_of(&good);
    assert_eq!(code, "upstream_proxy_failed");
    assert!(message.contains("could not be reached (connection refused)"), "{message}");
    proxy.resume();
    has_come.open();
    assert_eq!(Client::connect(good.port()).ask(GET).status, 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_upstream_is_reached_through_squid() {
    is_used_through(&SQUID);
}

#[test]
fn an_upstream_is_reached_through_tinyproxy() {
    is_used_through(&TINYPROXY);
}
