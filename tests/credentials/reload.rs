//! New credentials while the gateway runs: on SIGHUP and when the secrets file changes, however it is changed, without
//! a failed request.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, Credential, DEADLINE, GET, Gate, Gateway, Peer, Upstream, check_at_once, json, secrets_json,
};

const LOADED: &str = "the secrets file was loaded anew";

/// The pause between two looks at a file; what has changed is loaded at the second look that agrees.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Longer than a change goes unnoticed: two looks at the file and one more.
const NOTICED_WITHIN: Duration = Duration::from_millis(1700);

/// Asks until all shards use these credentials: each learns of them some time after the log line. By then that many
/// requests in a row, each of which any shard may serve, used one of them, and each of them had its turn.
fn wait_until_all_use(gateway: &Gateway, upstream: &Upstream, names: &[&str]) {
    const IN_A_ROW: usize = 12;
    let (until, mut recent) = (Instant::now() + DEADLINE, VecDeque::new());
    let is_settled = |recent: &VecDeque<Credential>| {
        recent.len() == IN_A_ROW
            && recent.iter().all(|used| names.iter().any(|name| *used == Credential::named(name)))
            && names.iter().all(|name| recent.contains(&Credential::named(name)))
    };
    while !is_settled(&recent) {
        assert!(Instant::now() < until, "the shards go on to use {recent:?}, not {names:?}");
        recent.push_back(credential_of_next(gateway, upstream));
        if recent.len() > IN_A_ROW {
            recent.pop_front();
        }
    }
}

/// Asks once, and returns the credential that the upstream sees.
fn credential_of_next(gateway: &Gateway, upstream: &Upstream) -> Credential {
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    let requests = upstream.requests();
    Credential::of_authorization(requests.last().expect("a request").authorization())
}

#[test]
fn sighup_loads_the_secrets_file_at_once_and_the_same_content_only_once() {
    check_at_once(["auto", "epoll"], |driver| {
        let upstream = Upstream::plain(json(200, "{}"));
        let mut gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
        assert_eq!(credential_of_next(&gateway, &upstream), Credential::named("alpha"));
        let before = Instant::now();
        gateway.replace_secrets(&secrets_json(&["beta", "gamma"]));
        gateway.signal(libc::SIGHUP);
        let line = gateway.wait_for_log(LOADED);
        // By its own clock: one that comes later may have been overtaken by the look at the file.
        let is_first = before.elapsed() < LOOK_INTERVAL;
        assert!(line.contains("credentials=2") && line.contains("added beta, gamma; removed alpha"), "{line}");
        wait_until_all_use(&gateway, &upstream, &["beta", "gamma"]);
        thread::sleep(NOTICED_WITHIN);
        let loaded = gateway.count_log(LOADED);
        assert!(loaded == 1 || loaded == 2 && !is_first, "it was loaded again: {:?}", gateway.log());
        // A second signal loads it too.
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log_count(LOADED, loaded + 1);
        gateway.wait_for_log("unchanged");
    });
}

#[test]
fn a_changed_file_is_noticed_whichever_way_it_was_changed() {
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = Gateway::before(&upstream);
    // As Kubernetes mounts a secret: the file is a link through a link that is swapped.
    let volume = tempfile::tempdir().expect("a temporary directory");
    let generation = |number: u32, secrets: &str| {
        let name = format!("..{number}");
        fs::create_dir(volume.path().join(&name)).expect("made");
        fs::write(volume.path().join(&name).join("secrets.json"), secrets).expect("written");
        symlink(&name, volume.path().join("..data_tmp")).expect("linked");
        fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).expect("renamed");
    };
    generation(1, &secrets_json(&["first"]));
    symlink("..data/secrets.json", volume.path().join("secrets.json")).expect("linked");
    let mounted = volume.path().join("secrets.json").to_str().expect("a readable path").to_owned();
    let mut in_pod = Gateway::builder().upstream(&upstream).arg("--secrets-file", mounted).start();
    assert_eq!(credential_of_next(&in_pod, &upstream), Credential::named("first"));

    gateway.rewrite_secrets(&secrets_json(&["written"]));
    in_pod.note_secrets(&secrets_json(&["first", "second"]));
    generation(2, &secrets_json(&["second"]));
    fs::remove_dir_all(volume.path().join("..1")).expect("removed");
    gateway.wait_for_log("added written; removed alpha");
    in_pod.wait_for_log("added second; removed first");
    gateway.replace_secrets(&secrets_json(&["renamed"]));
    gateway.wait_for_log("added renamed; removed written");
    wait_until_all_use(&gateway, &upstream, &["renamed"]);
    wait_until_all_use(&in_pod, &upstream, &["second"]);
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_is_told_once() {
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = Gateway::before(&upstream);
    let path = gateway.secrets_path();
    // At once, so that no look finds half of it.
    let put = |text: &str| {
        fs::write(path.with_extension("new"), text).expect("written");
        fs::rename(path.with_extension("new"), &path).expect("renamed");
    };
    let errors = |gateway: &Gateway| gateway.count_log("ERROR");
    put("[{\"clientId\": \"half-");
    assert!(gateway.wait_for_log("ERROR").contains("the credentials loaded before stay in use"));
    let before = Instant::now();
    put("[]");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("expected 1 to 512 credentials, found 0");
    // Else a look at the file may have come before the signal, and both have logged it.
    let is_first = before.elapsed() < LOOK_INTERVAL;
    thread::sleep(NOTICED_WITHIN);
    let told = errors(&gateway);
    assert!(told == 2 || told == 3 && !is_first, "{:?}", gateway.log());
    assert_eq!(credential_of_next(&gateway, &upstream), Credential::named("alpha"));

    fs::remove_file(&path).expect("removed");
    gateway.wait_for_log("is gone");
    thread::sleep(NOTICED_WITHIN);
    assert!(errors(&gateway) == told || !is_first, "{:?}", gateway.log());
    assert_eq!(gateway.count_log("is gone"), 1, "{:?}", gateway.log());
    assert_eq!(credential_of_next(&gateway, &upstream), Credential::named("alpha"));
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("does not exist");

    gateway.rewrite_secrets(&secrets_json(&["alpha", "beta"]));
    gateway.wait_for_log("added beta");
    assert_eq!(gateway.count_log(LOADED), 1);
}

#[test]
fn an_exchange_under_way_ends_with_the_credential_it_began_with() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.path().ends_with("/slow") {
                passing.pass();
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let secrets = secrets_json(&["alpha", "gamma"]);
    let mut gateway = Gateway::builder().upstream(&upstream).secrets(secrets).start();
    let mut slow: Vec<Client> = (0..2).map(|_| Client::connect(gateway.port())).collect();
    for client in &mut slow {
        client.send(GET.replace("models", "slow"));
    }
    upstream.wait_for_requests(2);
    // One entry fewer: what was the second is no longer there.
    gateway.replace_secrets(&secrets_json(&["beta"]));
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log(LOADED);
    wait_until_all_use(&gateway, &upstream, &["beta"]);
    (0..2).for_each(|_| gate.open());
    for mut client in slow {
        assert_eq!(client.read_response().status, 200);
    }
    for name in ["alpha", "gamma", "beta"] {
        gateway.wait_for_log(&format!("credential=\"{name}\""));
    }
    let began: BTreeSet<String> = upstream.requests()[..2]
        .iter()
        .map(|request| Credential::of_authorization(request.authorization()).tenant)
        .collect();
    assert_eq!(began, BTreeSet::from(["alpha-tenant".to_owned(), "gamma-tenant".to_owned()]));
}

#[test]
fn a_hundred_reloads_during_ten_thousand_requests_fail_none_of_them() {
    const CLIENTS: usize = 4;
    const REQUESTS_EACH: usize = 2500;
    const RELOADS: usize = 100;
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = Gateway::builder().upstream(&upstream).arg("--log-level", "INFO").start();
    let port = gateway.port();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let is_over = is_over.clone();
            thread::spawn(move || {
                let (mut client, mut sent) = (Client::connect(port), 0);
                while sent < REQUESTS_EACH || !is_over.load(Ordering::SeqCst) {
                    assert_eq!(client.ask(GET).status, 200, "request {sent}");
                    sent += 1;
                }
            })
        })
        .collect();
    upstream.wait_for_requests(1);
    for reload in 0..RELOADS {
        let names: &[&str] = if reload % 2 == 0 { &["beta", "gamma", "delta"] } else { &["alpha"] };
        gateway.replace_secrets(&secrets_json(names));
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log_count(LOADED, reload + 1);
        if reload == 0 {
            // On a busy machine the next ones could come before any request does.
            wait_for_authorizations(&upstream, 4);
        }
    }
    is_over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("each was answered with 200"));
    assert_eq!(authorizations(&upstream).len(), 4, "each credential had its turns, and there are no others");
    assert_eq!(gateway.count_log("ERROR") + gateway.count_log("panicked"), 0);
}

fn authorizations(upstream: &Upstream) -> BTreeSet<String> {
    upstream.requests().iter().map(|request| request.authorization().to_owned()).collect()
}

fn wait_for_authorizations(upstream: &Upstream, count: usize) {
    let until = Instant::now() + DEADLINE;
    while authorizations(upstream).len() < count {
        assert!(Instant::now() < until, "not {count} credentials are used");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_hangup_during_the_drain_is_answered_by_nothing() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        peer.read_request();
        passing.pass();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
    let mut gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    upstream.wait_for_requests(1);
    gateway.terminate();
    gateway.wait_for_log("stopping:");
    gateway.signal(libc::SIGHUP);
    thread::sleep(Duration::from_millis(50));
    gate.open();
    assert_eq!(client.read_response().status, 200);
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.count_log("SIGHUP") + gateway.count_log(LOADED), 0, "{:?}", gateway.log());
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_says_that_its_credentials_came_from_no_file() {
    use crate::support::{Running, command};
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
    command.args(["--port", "0", "demo"]).current_dir(place.path());
    command
        .env_clear()
        .env("FLOW_PROXY_USAGE_DB", "off")
        .env("XDG_RUNTIME_DIR", place.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut demo = Running::start(command).expect("started");
    let mut stderr = BufReader::new(demo.stderr.take().expect("piped"));
    let mut read_to = |pattern: &str| {
        let mut line = String::new();
        while !line.contains(pattern) {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).expect("text"), 0, "it ended before {pattern:?}");
        }
    };
    read_to("ANTHROPIC_BASE_URL=");
    let pid = libc::pid_t::try_from(demo.id()).expect("a process id");
    // SAFETY: `kill` takes no pointer, and the child has not been waited for, so its id is its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    read_to("SIGHUP changes nothing");
}
