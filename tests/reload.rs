//! New credentials while the gateway runs: on SIGHUP and when the secrets file changes, however it is changed, without a
//! failed request.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use support::{Client, Credential, Gate, Gateway, Peer, Upstream, json, secrets_json};

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LOADED: &str = "the secrets file was loaded anew";

/// Longer than a change goes unnoticed: two looks at the file and one more, half a second apart.
const NOTICED_WITHIN: Duration = Duration::from_millis(1700);

/// Whose request the upstream sees now.
fn credential_of_next(gateway: &Gateway, upstream: &Upstream) -> Credential {
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    let requests = upstream.requests();
    Credential::of_authorization(requests.last().expect("a request").authorization())
}

#[test]
fn sighup_loads_the_secrets_file_at_once_and_the_same_content_only_once() {
    for driver in ["auto", "epoll"] {
        let upstream = Upstream::plain(json(200, "{}"));
        let mut gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
        assert_eq!(credential_of_next(&gateway, &upstream), Credential::named("alpha"));
        gateway.rewrite_secrets(&secrets_json(&["beta", "gamma"]));
        gateway.signal(libc::SIGHUP);
        let line = gateway.wait_for_log(LOADED);
        assert!(line.contains("credentials=2") && line.contains("added beta, gamma; removed alpha"), "{line}");
        // The shards hear of it after the log does.
        thread::sleep(Duration::from_millis(20));
        let next = [(); 2].map(|()| credential_of_next(&gateway, &upstream));
        assert!(next.contains(&Credential::named("beta")) && next.contains(&Credential::named("gamma")), "{driver}");
        thread::sleep(NOTICED_WITHIN);
        assert_eq!(gateway.count_log(LOADED), 1, "it was loaded again: {:?}", gateway.log());
        // A second signal is an order all the same.
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log_count(LOADED, 2);
        gateway.wait_for_log("unchanged");
    }
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
    thread::sleep(Duration::from_millis(20));
    assert_eq!(credential_of_next(&gateway, &upstream), Credential::named("renamed"));
    assert_eq!(credential_of_next(&in_pod, &upstream), Credential::named("second"));
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_is_told_once() {
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = Gateway::before(&upstream);
    let path = gateway.secrets_path();
    let errors = |gateway: &Gateway| gateway.count_log("ERROR");
    fs::write(&path, "[{\"clientId\": \"half-").expect("written");
    assert!(gateway.wait_for_log("ERROR").contains("the credentials loaded before stay in use"));
    fs::write(&path, "[]").expect("written");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("expected 1 to 512 credentials, found 0");
    thread::sleep(NOTICED_WITHIN);
    assert_eq!(errors(&gateway), 2, "{:?}", gateway.log());
    assert_eq!(credential_of_next(&gateway, &upstream), Credential::named("alpha"));

    fs::remove_file(&path).expect("removed");
    gateway.wait_for_log("is gone");
    thread::sleep(NOTICED_WITHIN);
    assert_eq!((errors(&gateway), gateway.count_log("is gone")), (2, 1), "{:?}", gateway.log());
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
    thread::sleep(Duration::from_millis(20));
    assert_eq!(credential_of_next(&gateway, &upstream), Credential::named("beta"));
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
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(port);
                (0..REQUESTS_EACH).filter(|_| client.ask(GET).status == 200).count()
            })
        })
        .collect();
    for reload in 0..RELOADS {
        let names: &[&str] = if reload % 2 == 0 { &["beta", "gamma", "delta"] } else { &["alpha"] };
        gateway.replace_secrets(&secrets_json(names));
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log_count(LOADED, reload + 1);
    }
    let still_running = clients.iter().filter(|client| !client.is_finished()).count();
    let answered: usize = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    assert_eq!(answered, CLIENTS * REQUESTS_EACH);
    println!("{still_running} of {CLIENTS} clients were still busy after the last reload");
    let names: BTreeSet<String> =
        upstream.requests().iter().map(|request| request.authorization().to_owned()).collect();
    assert_eq!(names.len(), 4, "each credential had its turns");
    assert_eq!(gateway.count_log("ERROR") + gateway.count_log("panicked"), 0);
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
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_flow-uring"))
        .args(["--port", "0", "demo"])
        .current_dir(place.path())
        .env_clear()
        .env("XDG_RUNTIME_DIR", place.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut read_to = |pattern: &str| {
        let mut line = String::new();
        while !line.contains(pattern) {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).expect("text"), 0, "it ended before {pattern:?}");
        }
    };
    read_to("ANTHROPIC_BASE_URL=");
    let pid = libc::pid_t::try_from(child.id()).expect("a process id");
    // SAFETY: `kill` takes no pointer, and the child has not been waited for, so its id is its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    read_to("SIGHUP changes nothing");
    let _ = child.kill();
    let _ = child.wait();
}
