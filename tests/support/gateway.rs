//! The gateway, as a process of its own.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit, setrlimit};
use tempfile::TempDir;

use super::certificates::CERTIFICATES;
use super::process::{Running, command};
use super::secrets::{Credential, leak_in, traces_of};
use super::{Client, DEADLINE, Upstream, observed, secrets_json};

/// The directory of failed exchanges, in that of the gateway.
const CAPTURES: &str = "captures";

/// The program under test: another build of it may be named, such as a release.
static PROGRAM: LazyLock<String> =
    LazyLock::new(|| std::env::var("FLOW_URING_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_flow-uring").to_owned()));

/// The variable with the number of connections that each shard keeps ready.
const WARM_CONNECTIONS: &str = "FLOW_PROXY_WARM_CONNECTIONS";

/// A running gateway. Dropped, it is killed, and all that it wrote is searched for its secrets.
pub struct Gateway {
    child: Running,
    port: u16,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    credentials: Vec<Credential>,
    /// The number of bytes that were recorded before it started.
    recorded_before: u64,
    directory: TempDir,
}

pub struct GatewayBuilder {
    shards: usize,
    secrets: String,
    upstream: Option<String>,
    arguments: Vec<(String, String)>,
    switches: Vec<String>,
    open_files_max: Option<u64>,
    file_bytes_max: Option<u64>,
    environment: Vec<(String, String)>,
    before_exec: Option<BeforeExec>,
}

/// An action of the child before it becomes the program.
type BeforeExec = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
    /// The number of outputs that have ended: with both, nothing more will come.
    ended: AtomicUsize,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for a line for which `found` returns a value.
    fn wait_for<T>(&self, mut found: impl FnMut(&str) -> Option<T>) -> Result<T, String> {
        // Each line is looked at once, however many there are.
        let mut looked_at = 0;
        self.wait_until(|lines| {
            lines[std::mem::replace(&mut looked_at, lines.len())..].iter().find_map(|line| found(line))
        })
    }

    /// Waits until `found` returns a value for all lines.
    fn wait_until<T>(&self, mut found: impl FnMut(&[String]) -> Option<T>) -> Result<T, String> {
        let until = Instant::now() + DEADLINE;
        let mut lines = self.lines();
        loop {
            if let Some(value) = found(&lines) {
                return Ok(value);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.ended.load(Ordering::SeqCst) == 2 {
                return Err(lines.join("\n"));
            }
            lines = self.changed.wait_timeout(lines, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

impl GatewayBuilder {
    pub fn shards(self, shards: usize) -> Self {
        Self { shards, ..self }
    }

    /// Sets the text of the secrets file.
    pub fn secrets(self, secrets: impl Into<String>) -> Self {
        Self { secrets: secrets.into(), ..self }
    }

    pub fn upstream(self, upstream: &Upstream) -> Self {
        Self { upstream: Some(upstream.url()), ..self }
    }

    pub fn arg(mut self, flag: &str, value: impl Into<String>) -> Self {
        self.arguments.push((flag.to_owned(), value.into()));
        self
    }

    /// Adds a flag without a value.
    pub fn switch(mut self, flag: &str) -> Self {
        self.switches.push(flag.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Keeps failed exchanges: what is kept is searched for secrets too.
    pub fn capturing(self) -> Self {
        self.env("FLOW_PROXY_CAPTURE_DIR", CAPTURES)
    }

    /// Sets time limits that a busy machine does not reach, except for those that the test sets by flag: a slow
    /// handshake is then no failed connect, and a connection of the pool is still there after a stall.
    pub fn patient(self) -> Self {
        ["CONNECT", "HEAD", "BODY", "UPSTREAM_IDLE"]
            .iter()
            .fold(self, |builder, limit| builder.env(&format!("FLOW_PROXY_{limit}_TIMEOUT"), "600"))
    }

    /// Limits the number of files that it may open.
    pub fn open_files_max(mut self, count: u64) -> Self {
        self.open_files_max = Some(count);
        self
    }

    /// Limits the size of the files that it may write, until [`Gateway::unlimit_files`].
    pub fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// Runs `action` in the child before it becomes the program.
    ///
    /// # Safety
    /// `action` runs between fork and exec, where only what signal-safety(7) allows may be called.
    pub unsafe fn before_exec(mut self, action: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        self.before_exec = Some(Arc::new(action));
        self
    }

    /// Starts it, and waits until it listens.
    pub fn start(self) -> Gateway {
        self.try_start().unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// As `start`, for a start that may fail: `Err` says how, with the log.
    pub fn try_start(self) -> Result<Gateway, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let recorded_before = observed::recorded_bytes();
        let mut child = Running::start(self.command(&directory)).expect("the program starts");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let readers = vec![collect(stderr, Arc::clone(&log)), collect(stdout, Arc::clone(&log))];
        let credentials = Credential::all_of(&self.secrets);
        let mut gateway = Gateway { child, port: 0, log, readers, credentials, recorded_before, directory };
        match gateway.log.wait_for(listening_port) {
            Ok(port) => gateway.port = port,
            Err(log) => return Err(format!("the gateway ({:?}) names no port:\n{log}", gateway.child.try_wait())),
        }
        Ok(gateway)
    }

    /// Runs a gateway that is expected to end by itself, and returns its exit code and its log; kills it otherwise.
    pub fn run_to_end(self) -> (Option<i32>, String) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = self.command(&directory);
        command.stdout(Stdio::null());
        let output = Running::start(command).expect("the program starts").output();
        observed::record(&output.stderr);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn command(&self, directory: &TempDir) -> Command {
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("a file in the temporary directory");
            path.to_str().expect("a readable path").to_owned()
        };
        let mut arguments = vec![
            ("--port", "0".to_owned()),
            ("--admin", "off".to_owned()),
            ("--shards", self.shards.to_string()),
            ("--secrets-file", write("secrets.json", &self.secrets)),
            ("--log-level", "DEBUG".to_owned()),
        ];
        if let Some(url) = &self.upstream {
            arguments.push(("--upstream", url.clone()));
            if url.starts_with("https:") {
                arguments.push(("--upstream-ca", write("upstream-ca.pem", &CERTIFICATES.authority_pem)));
            }
        }
        arguments.retain(|(flag, _)| !self.arguments.iter().any(|(other, _)| flag == other));

        let mut command = command(&*PROGRAM);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(directory.path());
        command.env_clear().env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
        // Nothing of a test goes to a directory that other gateways use too.
        command.env("XDG_RUNTIME_DIR", directory.path()).env("XDG_STATE_HOME", directory.path());
        // The variables that a coverage or sanitizer run needs, and the driver and the number of connections kept ready
        // that a whole run is to use.
        // A connection beyond those that the requests of a test need is in its way, unless it asks for some.
        command.env(WARM_CONNECTIONS, "0");
        // Nor is a question for prices that no client asked.
        command.env("FLOW_PROXY_PRICES", "off");
        for name in [
            "FLOW_PROXY_IO_DRIVER",
            "FLOW_PROXY_PUMP",
            WARM_CONNECTIONS,
            "LLVM_PROFILE_FILE",
            "LD_LIBRARY_PATH",
            "ASAN_OPTIONS",
            "PATH",
        ] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        if !rustix::process::geteuid().is_root() {
            // Else its entries in /proc, where tests look for descriptors and memory, would be root's.
            command.env("FLOW_URING_ALLOW_CORE", "1");
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for (flag, value) in arguments {
            command.arg(flag).arg(value);
        }
        for (flag, value) in &self.arguments {
            command.arg(flag).arg(value);
        }
        command.args(&self.switches);
        if let Some(count) = self.open_files_max {
            limit(&mut command, Resource::Nofile, Rlimit { current: Some(count), maximum: Some(count) });
        }
        if let Some(bytes) = self.file_bytes_max {
            limit(&mut command, Resource::Fsize, Rlimit { current: Some(bytes), maximum: None });
        }
        if let Some(action) = self.before_exec.clone() {
            // SAFETY: the caller of `before_exec` has promised that it may run there.
            unsafe { command.pre_exec(move || action()) };
        }
        command
    }
}

/// Sets a limit of the process before the program begins.
fn limit(command: &mut Command, resource: Resource, limit: Rlimit) {
    // SAFETY: between fork and exec only a system call is made, which may be.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(resource, limit)?));
    }
}

impl Gateway {
    /// Returns a builder with two shards and one credential.
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder {
            shards: 2,
            secrets: secrets_json(&["alpha"]),
            upstream: None,
            arguments: Vec::new(),
            switches: Vec::new(),
            open_files_max: None,
            file_bytes_max: None,
            environment: Vec::new(),
            before_exec: None,
        }
    }

    /// Starts a gateway for this upstream, all else by default.
    pub fn before(upstream: &Upstream) -> Self {
        Self::builder().upstream(upstream).start()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port of the admin pages, which have to be on.
    pub fn admin_port(&self) -> u16 {
        let found = self.log.wait_for(admin_port);
        found.unwrap_or_else(|log| panic!("no admin address in:\n{log}"))
    }

    /// Returns the page of metrics; the admin pages have to be on.
    pub fn metrics(&self) -> String {
        Client::connect(self.admin_port()).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").text()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the lines that it has written so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// Waits for a line that holds `pattern`.
    pub fn wait_for_log(&self, pattern: &str) -> String {
        let found = self.log.wait_for(|line| line.contains(pattern).then(|| line.to_owned()));
        found.unwrap_or_else(|log| panic!("no line with {pattern:?} in:\n{log}"))
    }

    /// Returns the number of lines so far that hold `pattern`.
    pub fn count_log(&self, pattern: &str) -> usize {
        count(&self.log.lines(), pattern)
    }

    /// Waits until at least `wanted` lines hold `pattern`.
    pub fn wait_for_log_count(&self, pattern: &str, wanted: usize) {
        let (mut counted, mut looked_at) = (0, 0);
        let waited = self.log.wait_until(|lines| {
            counted += count(&lines[std::mem::replace(&mut looked_at, lines.len())..], pattern);
            (counted >= wanted).then_some(())
        });
        waited.unwrap_or_else(|log| panic!("not {wanted} lines with {pattern:?} in:\n{log}"));
    }

    /// Waits until `expected` lines hold `pattern`, which come later than what they tell of; fails if there are more.
    pub fn expect_log_count(&self, pattern: &str, expected: usize) {
        self.wait_for_log_count(pattern, expected);
        assert_eq!(self.count_log(pattern), expected, "lines with {pattern:?} in:\n{:?}", self.log());
    }

    /// Stops reading its output until the value is dropped: soon it writes into a full pipe.
    pub fn block_output(&self) -> impl Sized + '_ {
        self.log.lines()
    }

    /// Lifts the limit of [`GatewayBuilder::file_bytes_max`].
    pub fn unlimit_files(&self) {
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, unlimited).expect("a child may be given more");
    }

    /// Returns the failed exchanges that it has kept, where it does: see [`GatewayBuilder::capturing`].
    pub fn captures(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.directory.path().join(CAPTURES)).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read(entry.path()).ok()).collect()
    }

    pub fn secrets_path(&self) -> PathBuf {
        self.directory.path().join("secrets.json")
    }

    /// Writes into the secrets file in place.
    pub fn rewrite_secrets(&mut self, secrets: &str) {
        self.note_secrets(secrets);
        fs::write(self.secrets_path(), secrets).expect("a file in the temporary directory");
    }

    /// Renames another file to the secrets file.
    pub fn replace_secrets(&mut self, secrets: &str) {
        self.note_secrets(secrets);
        let other = self.directory.path().join("secrets.json.new");
        fs::write(&other, secrets).expect("a file in the temporary directory");
        fs::rename(other, self.secrets_path()).expect("renamed");
    }

    /// Adds credentials to those that are searched for in all that it writes.
    pub fn note_secrets(&mut self, secrets: &str) {
        for credential in Credential::all_of(secrets) {
            if !self.credentials.contains(&credential) {
                self.credentials.push(credential);
            }
        }
    }

    /// As `note_secrets`, for the password of a proxy.
    pub fn note_password(&mut self, password: &str) {
        let client_secret = password.to_owned();
        self.credentials.push(Credential { client_id: String::new(), client_secret, tenant: String::new() });
    }

    pub fn open_descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the gateway runs").count()
    }

    /// Waits until no more than `count` descriptors are open.
    pub fn wait_for_descriptors(&self, count: usize) {
        let until = Instant::now() + DEADLINE;
        while self.open_descriptors() > count {
            assert!(Instant::now() < until, "{} descriptors are open, not {count}", self.open_descriptors());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Returns the part of that which the files of the program are: in a program for tests, more than all else.
    pub fn program_kib(&self) -> u64 {
        self.status_kib("RssFile:")
    }

    /// Returns the part of that which is no file's.
    pub fn anonymous_kib(&self) -> u64 {
        self.status_kib("RssAnon:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of this name");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Asks it to drain and stop.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id");
        // SAFETY: `kill` takes no pointer. The child has not been waited for while `self` holds it, so its id is its
        // own.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Stops all its threads until SIGCONT. The signal alone only asks for it: until one of its threads has taken it,
    /// the others run on.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        let is_stopped = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
        let until = Instant::now() + DEADLINE;
        loop {
            let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the gateway runs");
            let mut stats = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
            if stats.all(|stat| is_stopped(&stat)) {
                return;
            }
            assert!(Instant::now() < until, "it does not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has stopped by itself; afterwards the log is complete.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.end_within(DEADLINE);
        let status = status.unwrap_or_else(|| panic!("the gateway does not stop:\n{}", self.log().join("\n")));
        self.readers.drain(..).for_each(|reader| reader.join().expect("read"));
        status
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if thread::panicking() {
            return eprintln!("the gateway's log:\n{}", self.log().join("\n"));
        }
        self.captures().iter().for_each(|capture| observed::record(capture));
        let traces = traces_of(&self.credentials, &observed::sent_authorizations());
        let leak = leak_in(self.log().join("\n").as_bytes(), &traces).map(|leak| format!("the log: {leak}"));
        let leak = leak.or_else(|| observed::leak_after(self.recorded_before, &traces));
        assert!(leak.is_none(), "a secret got out: {}", leak.unwrap_or_default());
    }
}

fn count(lines: &[String], pattern: &str) -> usize {
    lines.iter().filter(|line| line.contains(pattern)).count()
}

/// Reads lines as they come, for the test and for the search at the end.
fn collect(output: impl Read + Send + 'static, log: Arc<Log>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            observed::record(&line);
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            log.lines().push(text);
            log.changed.notify_all();
            line.clear();
        }
        // Under the lock, so that nobody starts to wait in between.
        let _lines = log.lines();
        log.ended.fetch_add(1, Ordering::SeqCst);
        log.changed.notify_all();
    })
}

/// Returns the port of the admin address in the banner.
fn admin_port(line: &str) -> Option<u16> {
    let authority = line.strip_prefix("  admin        http://")?.split(' ').next()?;
    authority.rsplit_once(':')?.1.parse().ok()
}

/// Returns the port of the base URL in the banner.
fn listening_port(line: &str) -> Option<u16> {
    let (_, url) = line.split_once("OPENAI_BASE_URL=")?;
    let (_, authority) = url.split_once("://")?;
    let digits = authority.rsplit_once(':')?.1;
    digits.split_once('/').map_or(digits, |(digits, _)| digits).parse().ok()
}
