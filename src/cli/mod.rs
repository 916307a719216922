//! What a person types: flags, environment, `.env`, the subcommands and their exit codes.
//!
//! The only reader of the command line and the environment. Invariant: a wrong setting ends the program before anything
//! is started; a secret is printed by `token` alone, and that to stdout.

mod args;
mod check;
mod healthcheck;
mod online;
mod settings;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use self::args::{Stop, UsageError};
use self::settings::{DotEnv, resolve_listen_host};
use crate::config::{self, Config, LogFile, LogFormat, LogRetention};
#[cfg(feature = "demo")]
use crate::config::{Trust, UpstreamConfig};
use crate::credentials::{self, ApiKeys, ApiKeysFileError, Credentials, LoadedKeys, SecretsFileError, TokenError};
#[cfg(feature = "demo")]
use crate::demo;
use crate::observability::Banner;
use crate::observability::log::{self, FileError, FileOptions, LineFormat, Retention};
use crate::server::{self, AdminAddress, Keyring, RunError, Source as FileSource, Sources};

pub use args::{Args, Command};
use healthcheck::Asked;
pub use healthcheck::Unhealthy;
pub use settings::{Configured, EffectiveSetting, SettingErrors, Surroundings, ValueSource, configure};

/// A failure at start, or a problem that was found.
const EXIT_FAILURE: u8 = 1;
/// `EX_USAGE` of sysexits.h: a wrong flag or setting.
const EXIT_USAGE: u8 = 64;

/// Runs the program; `words` are the arguments behind its name.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(Stop::Help(text)) => return printed(&text),
        Err(Stop::Usage(error)) => return Failure::Usage(error).report(),
    };
    if args.version {
        return printed(&format!("flow-uring {}\n", env!("CARGO_PKG_VERSION")));
    }
    let result = match &args.command {
        None => serve(&args),
        Some(Command::Check(check)) => run_check(&args, check.online),
        Some(Command::Token(token)) => print_token(&args, token.name.as_deref()),
        Some(Command::Healthcheck(_)) => run_healthcheck(&args),
        #[cfg(feature = "demo")]
        Some(Command::Demo(_)) => run_demo(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Why the program ends without success.
#[derive(Debug)]
enum Failure {
    Usage(UsageError),
    Settings(SettingErrors),
    LogFile(FileError),
    Secrets(SecretsFileError),
    ApiKeys(ApiKeysFileError),
    Token(TokenError),
    /// `token --name` of a credential that is not there; the names that are.
    UnknownName(Vec<String>),
    Run(RunError),
    #[cfg(feature = "demo")]
    Demo(demo::DemoError),
    /// What was wrong is printed already.
    Check,
    Unhealthy(Unhealthy),
    /// A health check that could not even be asked.
    HealthcheckSettings(SettingErrors),
    Output(io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => EXIT_USAGE,
            Failure::Settings(mistakes) if mistakes.is_usage() => EXIT_USAGE,
            #[cfg(feature = "demo")]
            Failure::Demo(_) => EXIT_FAILURE,
            Failure::Settings(_)
            | Failure::LogFile(_)
            | Failure::Secrets(_)
            | Failure::ApiKeys(_)
            | Failure::Token(_)
            | Failure::UnknownName(_)
            | Failure::Run(_)
            | Failure::Check
            | Failure::Unhealthy(_)
            | Failure::HealthcheckSettings(_)
            | Failure::Output(_) => EXIT_FAILURE,
        }
    }

    fn report(&self) -> ExitCode {
        // Where stderr is blocked only the exit code is left to tell.
        log::say(format_args!("flow-uring: {self}\n"));
        ExitCode::from(self.exit_code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(error) => error.fmt(formatter),
            Failure::Settings(mistakes) | Failure::HealthcheckSettings(mistakes) => mistakes.fmt(formatter),
            Failure::LogFile(error) => error.fmt(formatter),
            Failure::Secrets(error) => error.fmt(formatter),
            Failure::ApiKeys(error) => error.fmt(formatter),
            Failure::Token(error) => error.fmt(formatter),
            Failure::UnknownName(names) => {
                write!(formatter, "no credential has that name; there are: {}", names.join(", "))
            }
            Failure::Run(error) => error.fmt(formatter),
            #[cfg(feature = "demo")]
            Failure::Demo(error) => error.fmt(formatter),
            Failure::Check => formatter.write_str("the check found problems"),
            Failure::Unhealthy(error) => error.fmt(formatter),
            Failure::Output(error) => write!(formatter, "stdout cannot be written: {error}"),
        }
    }
}

fn serve(args: &Args) -> Result<(), Failure> {
    let Configured { config, api_keys, .. } = configure_here(args, &resolve_listen_host).map_err(Failure::Settings)?;
    let _log = start_log(&config)?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let sources = Sources {
        secrets: FileSource::file(&config.secrets_file),
        api_keys: config.access.api_keys_file.as_deref().map_or(FileSource::Fixed, FileSource::file),
    };
    let credentials = load_credentials(&config, |warning| tracing::warn!("{warning}"))?;
    let keyring = Keyring { credentials: Arc::new(credentials), api_keys: load_api_keys(&config, api_keys)? };
    run_server(config, keyring, sources, |_| String::new())
}

/// Runs the server, which prints the banner when it serves, and what `hints` says about its base URL.
fn run_server(
    config: Config,
    keyring: Keyring,
    sources: Sources,
    hints: impl FnOnce(&str) -> String,
) -> Result<(), Failure> {
    let announce = |config: &Config, credentials: &Credentials, ready: &server::Ready| {
        let proxy = config.upstream.proxy.as_ref().map(|proxy| (proxy.url(), &*proxy.source));
        let banner = Banner {
            host: &config.listen_host,
            bound: ready.bound,
            admin: &shown_admin(ready.admin),
            shards_count: config.shards.get(),
            secrets_file: &config.secrets_file.display().to_string(),
            log_level: &config.log.level.to_string(),
            io_driver: &ready.driver.to_string(),
            upstream_url: &config.upstream.url(),
            upstream_source: &config.upstream.source,
            upstream_proxy: proxy.as_ref().map(|(url, source)| (&**url, *source)),
            credential_names: credentials.names().collect(),
            is_tls: config.listener_tls.is_some(),
        };
        let hints = hints(&banner.base_url());
        log::say(format_args!("{banner}{hints}"));
    };
    server::run(config, keyring, sources, announce).map_err(Failure::Run)
}

/// Where the admin pages are, for the banner.
fn shown_admin(admin: Option<AdminAddress>) -> String {
    match admin {
        None => "off".into(),
        Some(AdminAddress { address, held_by: None }) => format!("http://{address}"),
        Some(AdminAddress { address, held_by: Some(process) }) => {
            format!("http://{address} (as soon as process {process} has left it)")
        }
    }
}

/// Runs the gateway in front of an embedded upstream, with made-up credentials.
#[cfg(feature = "demo")]
fn run_demo(args: &Args) -> Result<(), Failure> {
    let configured = configure_here(args, &resolve_listen_host).map_err(Failure::Settings)?;
    let is_admin_named = configured.is_written("--admin");
    let Configured { mut config, api_keys, .. } = configured;
    // Beside a gateway that runs: its admin address is the default too.
    if !is_admin_named {
        config.admin = config.admin.map(|address| SocketAddr::new(address.ip(), 0));
    }
    let _log = start_log(&config)?;
    let upstream = demo::start_upstream(&demo::credentials(), demo::HUMAN_PACE).map_err(Failure::Demo)?;
    config.upstream =
        UpstreamConfig::parse(demo::UPSTREAM_URL, "the embedded demo").expect("the demo's own URL is valid");
    config.upstream.connect_to = Some((upstream.address.ip().to_string(), upstream.address.port()));
    config.upstream.trust = Trust::Pem(upstream.ca_pem);
    config.secrets_file = "made up for the demo".into();
    let loaded = credentials::from_json(&demo::credentials_json()).expect("the demo's own credentials are valid");
    let sources = Sources {
        secrets: FileSource::Fixed,
        api_keys: config.access.api_keys_file.as_deref().map_or(FileSource::Fixed, FileSource::file),
    };
    let keyring = Keyring { credentials: Arc::new(loaded.credentials), api_keys: load_api_keys(&config, api_keys)? };
    run_server(config, keyring, sources, demo::instructions)
}

fn run_check(args: &Args, online: bool) -> Result<(), Failure> {
    let configured = configure_here(args, &unresolved);
    let mut report = check::check(configured.as_ref());
    if online
        && report.is_good()
        && let (Ok(found), Some(credentials)) = (&configured, report.credentials.take())
    {
        online::try_each(&found.config, &credentials, &mut report);
    }
    print(&report.found.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    let warnings = report.warnings.iter().map(|line| ("warning", line));
    for (kind, line) in warnings.chain(report.problems.iter().map(|line| ("problem", line))) {
        let _ = writeln!(io::stderr(), "{kind}: {line}");
    }
    if report.is_good() { Ok(()) } else { Err(Failure::Check) }
}

fn print_token(args: &Args, name: Option<&str>) -> Result<(), Failure> {
    let config = configure_here(args, &unresolved).map_err(Failure::Settings)?.config;
    let credentials = load_credentials(&config, |warning| {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    })?;
    let credential =
        credentials.entries().map(|(_, entry)| entry).find(|entry| name.is_none_or(|name| entry.name == name));
    let credential =
        credential.ok_or_else(|| Failure::UnknownName(credentials.names().map(str::to_owned).collect()))?;
    let token = credentials::mint(credential).map_err(Failure::Token)?;
    let mut output = io::stdout().lock();
    writeln!(output, "{}", token.expose()).and_then(|()| output.flush()).map_err(Failure::Output)
}

fn run_healthcheck(args: &Args) -> Result<(), Failure> {
    let configured = configure_here(args, &resolve_listen_host).map_err(Failure::HealthcheckSettings)?;
    let is_admin_named = configured.is_written("--admin");
    let Config { listen, listener_tls, admin, .. } = configured.config;
    let asked = Asked { listen, is_tls: listener_tls.is_some(), admin, is_admin_named };
    healthcheck::healthcheck(asked).map_err(Failure::Unhealthy)
}

/// The configuration of this process, in this working directory.
fn configure_here(
    args: &Args,
    resolve: &dyn Fn(&str, u16) -> io::Result<SocketAddr>,
) -> Result<Configured, SettingErrors> {
    let environment = |name: &str| std::env::var(name);
    let dotenv = DotEnv::load(Path::new(".env"), &|name| std::env::var(name).ok());
    let descriptors_max = config::raise_descriptor_limit();
    configure(args, Surroundings { environment: &environment, dotenv, descriptors_max, resolve })
}

/// Stands for an address that is not looked up, since nothing is bound to it.
fn unresolved(_host: &str, port: u16) -> io::Result<SocketAddr> {
    Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
}

fn start_log(config: &Config) -> Result<log::Guard, Failure> {
    let line_format = match config.log.format {
        LogFormat::Text => LineFormat::Text,
        LogFormat::Json => LineFormat::Json,
    };
    log::init(config.log.level.threshold(), line_format, log_file(config)).map_err(Failure::LogFile)
}

/// The log file, if there is to be one, in the words of the log.
fn log_file(config: &Config) -> Option<FileOptions> {
    let LogRetention { days, bytes_max, is_cleaned_up, cleanup_interval } = config.log.retention;
    let cleanup_interval = is_cleaned_up.then_some(cleanup_interval);
    let retention = Retention { days, bytes_max: bytes_max.unwrap_or(u64::MAX), cleanup_interval };
    let (path, makes_directory) = match config.log.file.as_ref()? {
        LogFile::At(path) => (path.clone(), false),
        LogFile::In(directory) => (directory.join(config::LOG_FILE_NAME), true),
    };
    Some(FileOptions { path, makes_directory, retention })
}

fn load_credentials(config: &Config, warn: impl Fn(&str)) -> Result<Credentials, Failure> {
    let loaded = credentials::load(&config.secrets_file).map_err(Failure::Secrets)?;
    loaded.warnings.iter().for_each(|warning| warn(warning));
    Ok(loaded.credentials)
}

/// The keys that callers must show: those of the environment, else those of the file, else none.
fn load_api_keys(config: &Config, given: Option<LoadedKeys>) -> Result<Option<Arc<ApiKeys>>, Failure> {
    let loaded = match (given, &config.access.api_keys_file) {
        (Some(given), _) => Some(given),
        (None, Some(path)) => Some(ApiKeys::load(path).map_err(Failure::ApiKeys)?),
        (None, None) => None,
    };
    let Some(LoadedKeys { keys, warnings }) = loaded else { return Ok(None) };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Some(Arc::new(keys)))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Failure::Output)
}

fn printed(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
