//! A gateway of the command's own: on a free loopback port, for callers with its key, and for as long as the command
//! lives.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, test_kill_process};

use super::child::{end, leave_the_command, run_beside};
use super::error::ExecError;
use super::gateway::ChosenGateway;
use super::log_file::ExecLog;
use crate::cli::log_output;
use crate::config::Config;
use crate::credentials::{ApiKeys, Credentials, Secret};
use crate::server::{self, FileSource, Keyring, Sources};

/// Time limit on its start: the longest that reading a trust store and starting a shard take on a busy machine.
const START_MAX: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
/// Limit on the answers that are still open once the command has ended: nobody waits for them, but totals are written.
const DRAIN: Duration = Duration::from_secs(1);
/// The time after which it is ended in any case.
const END_MAX: Duration = Duration::from_secs(5);
/// The interval of looking for the command where the system has no descriptors of processes (Linux before 5.3).
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Limit on the words of a gateway that does not start.
const REPORT_BYTES_MAX: u64 = 64 * 1024;
/// The begin of the report of one that serves, before its address; any other is the reason why it does not.
const SERVES: &str = "serves at ";
/// 192 bits, which nobody guesses.
const KEY_BYTES: usize = 24;
/// The name of the command's key, for the log and the totals.
const KEY_NAME: &str = "exec";

/// Starts a gateway with these settings, and returns it once it serves. Callers must show `key`, one of `keys`, or a new
/// one: the port is open to everyone on this machine.
///
/// # Errors
/// It does not start: the reason is its own, or where its log is.
pub fn start(
    config: Config,
    credentials: Credentials,
    keys: Option<(Arc<ApiKeys>, Secret)>,
    is_shards_named: bool,
) -> Result<ChosenGateway, ExecError> {
    let (keys, key) = match keys {
        Some(keys) => keys,
        None => new_key()?,
    };
    let config = for_one_command(config, is_shards_named);
    let log = ExecLog::open().map_err(ExecError::Start)?;
    let path = log.path.clone();
    let command = WatchedCommand::this_process();
    let (answer, report) = io::pipe().map_err(ExecError::Start)?;
    let keyring = Keyring { credentials: Arc::new(credentials), api_keys: Some(keys) };
    let serve = || serve_until_the_end(config, keyring, log, command, report);
    run_beside(serve).map_err(ExecError::Start)?;
    let address = read_report(answer, path)?;
    Ok(ChosenGateway { address, key: Some(key) })
}

/// Makes a key that only this command has.
fn new_key() -> Result<(Arc<ApiKeys>, Secret), ExecError> {
    let mut bytes = [0; KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| ExecError::Start(io::Error::other("the system gives no random bytes")))?;
    let key = Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let list = Secret::new(format!("{KEY_NAME}:{}", key.expose()));
    let loaded = ApiKeys::from_list(list.expose()).expect("base64 is a valid key");
    Ok((Arc::new(loaded.keys), key))
}

/// Changes what is for a gateway that others use too.
fn for_one_command(mut config: Config, is_shards_named: bool) -> Config {
    config.listen = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    config.listen_host = Ipv4Addr::LOCALHOST.to_string();
    config.admin = None;
    config.listener_tls = None;
    config.take_over = false;
    config.access.api_keys_file = None;
    config.timeouts.drain = DRAIN;
    if !is_shards_named {
        config.shards = NonZeroUsize::MIN;
    }
    config
}

/// The life of the gateway, in its own process.
fn serve_until_the_end(
    config: Config,
    keyring: Keyring,
    log: ExecLog,
    command: WatchedCommand,
    mut report: PipeWriter,
) -> i32 {
    let mut kept: Vec<BorrowedFd<'_>> = vec![report.as_fd(), log.file.as_fd()];
    kept.extend(command.descriptor.as_ref().map(AsFd::as_fd));
    if let Err(error) = leave_the_command(&log.file, &kept) {
        let _ = write!(report, "{error}");
        return 1;
    }
    let started = log_output::start(&config).map_err(|error| error.to_string()).and_then(|log| {
        let watch = thread::Builder::new().name("flow-command".into()).spawn(move || command.end_with_it());
        watch.map(|_| log).map_err(|error| error.to_string())
    });
    let _log = match started {
        Ok(log) => log,
        Err(reason) => {
            let _ = write!(report, "{reason}");
            return 1;
        }
    };
    config.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    let sources = Sources {
        secrets: FileSource::file(&config.secrets_file),
        api_keys: FileSource::Fixed,
        prices: config.usage.price_source(),
    };
    let mut first_word = report.try_clone();
    let ended = server::run(config, keyring, sources, |_, _, ready| {
        if let Ok(report) = &mut first_word {
            let _ = writeln!(report, "{SERVES}{}", ready.bound);
        }
    });
    if let Err(error) = &ended {
        tracing::error!("{error}");
        // Once it has served nobody reads this.
        let _ = write!(report, "{error}");
    }
    i32::from(ended.is_err())
}

/// Waits for the address of the gateway.
fn read_report(answer: PipeReader, log: Option<PathBuf>) -> Result<SocketAddr, ExecError> {
    let mut readable = [PollFd::new(&answer, PollFlags::IN)];
    match poll(&mut readable, Some(&START_MAX)) {
        Ok(0) => return Err(ExecError::Silent { log }),
        Ok(_) => {}
        Err(error) => return Err(ExecError::Start(error.into())),
    }
    let mut report = String::new();
    let mut answer = BufReader::new(answer.take(REPORT_BYTES_MAX));
    answer.read_line(&mut report).map_err(ExecError::Start)?;
    if let Some(address) = report.strip_prefix(SERVES) {
        return address.trim_end().parse().map_err(|_| ExecError::Silent { log });
    }
    answer.read_to_string(&mut report).map_err(ExecError::Start)?;
    if report.is_empty() { Err(ExecError::Silent { log }) } else { Err(ExecError::Gateway { reason: report, log }) }
}

/// The process that becomes the command.
struct WatchedCommand {
    process: Pid,
    /// Stays its own when its number is given to another process.
    descriptor: Option<OwnedFd>,
}

impl WatchedCommand {
    /// Returns this process, before it is the command.
    fn this_process() -> Self {
        let process = getpid();
        WatchedCommand { process, descriptor: pidfd_open(process, PidfdFlags::empty()).ok() }
    }

    /// Waits for its end, however that comes, and then ends the gateway.
    fn end_with_it(&self) {
        match &self.descriptor {
            Some(descriptor) => {
                // Readable when the process has ended (pidfd_open(2)).
                while poll(&mut [PollFd::new(descriptor, PollFlags::IN)], None).is_err() {}
            }
            None => {
                while test_kill_process(self.process).is_ok() {
                    thread::sleep(LOOK_INTERVAL);
                }
            }
        }
        let _ = kill_process(getpid(), Signal::TERM);
        thread::sleep(END_MAX);
        end(1);
    }
}
