//! The command line: settings, the subcommands and their exit codes.
//!
//! The only reader of the command line and the environment. Invariant: a wrong setting ends the program before anything
//! is started; a secret is printed by `token` alone, and that to stdout.

mod alpn;
mod args;
mod check;
mod exec;
mod explain;
mod failure;
mod healthcheck;
mod help;
mod init;
mod keys;
mod log_output;
mod online;
mod output;
mod private_write;
mod reference;
pub(crate) mod settings;
mod shown_text;
mod top;
mod usage_report;
mod wake;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use self::args::{Args, Command, DotEnvRule, ExplainArgs, Stop, TopArgs, UsageArgs, UsageError};
use self::exec::{AcceptedKeys, ChosenGateway, DescriptorLimit, ExecError, become_command};
use self::explain::Wanted;
use self::failure::Failure;
use self::healthcheck::Asked;
use self::init::Written;
use self::keys::{KeysAddArgs, KeysCommand};
use self::output::{print, print_listing, printed, tell};
use self::settings::{
    ADMIN, ADMIN_TOKEN_FILE, Configured, DotEnv, SHARDS, SettingErrors, Surroundings, configure, resolve_listen_host,
    usage_file,
};
use self::top::TopQuestion;
use self::usage_report::UsageQuestion;
use self::wake::WakeError;
use crate::config::{self, Config, Keyword as _};
#[cfg(feature = "demo")]
use crate::config::{Trust, UpstreamConfig};
use crate::credentials::{self, ApiKeys, Credentials, LoadedKeys};
#[cfg(feature = "demo")]
use crate::demo;
use crate::observability::log;
use crate::observability::{Banner, reachable};
use crate::server::{self, AdminAddress, AdminToken, FileSource, Keyring, RunError, Sources};
use crate::whole_file::FileKinds;

pub use settings::{Setting, SettingRank, settings};

/// Runs the program; `words` are the arguments after its name.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(Stop::Help(text)) => return printed(&text),
        Err(Stop::Usage(error)) => return Failure::Usage(error).report(),
    };
    if args.version {
        return printed(&format!("flow-uring {}\n", env!("CARGO_PKG_VERSION")));
    }
    config::keep_names_to_hosts_and_dns();
    // Before anything is read that must not be seen.
    if let Err(error) = config::forbid_core_dumps() {
        log::say(format_args!(
            "flow-uring: warning: core dumps may hold secrets, and the system does not let them be turned off: {error}\n"
        ));
    }
    let result = match &args.command {
        None => serve(&args),
        Some(Command::Check(check)) => run_check(&args, check.online),
        Some(Command::Token(token)) => print_token(&args, token.name.as_deref()),
        Some(Command::Healthcheck(_)) => run_healthcheck(&args),
        Some(Command::Wake(wake)) => run_wake(&args, &wake.name),
        Some(Command::Keys(keys)) => match &keys.command {
            KeysCommand::Add(add) => add_key(&args, add),
            KeysCommand::List(_) => list_keys(&args),
            KeysCommand::Check(_) => check_keys(&args),
        },
        Some(Command::Usage(usage)) => print_usage(&args, usage),
        Some(Command::Explain(explain)) => run_explain(&args, explain),
        Some(Command::Init(_)) => run_init(&args),
        Some(Command::Top(top)) => run_top(&args, top),
        Some(Command::Completions(completions)) => print_completions(&completions.shell),
        Some(Command::Man(_)) => print_listing(&reference::manual()),
        Some(Command::Exec(exec)) => Err(run_exec(&args, &exec.command)),
        #[cfg(feature = "demo")]
        Some(Command::Demo(_)) => run_demo(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn serve(args: &Args) -> Result<(), Failure> {
    let Configured { config, api_keys, .. } = configure_here(args, &resolve_listen_host).map_err(Failure::Settings)?;
    let _log = log_output::start(&config).map_err(Failure::LogFile)?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let sources = Sources {
        secrets: FileSource::file(&config.secrets_file),
        api_keys: config.access.api_keys_file.as_deref().map_or(FileSource::Fixed, FileSource::file),
        prices: config.usage.price_source(),
    };
    let credentials = load_credentials(&config, |warning| tracing::warn!("{warning}"))?;
    let keyring = Keyring { credentials: Arc::new(credentials), api_keys: load_api_keys(&config, api_keys)? };
    run_server(config, keyring, sources, |_, _| String::new())
}

/// Runs the server, which prints the banner when it serves, followed by the `hints` for its base URL.
fn run_server(
    config: Config,
    keyring: Keyring,
    sources: Sources,
    hints: impl FnOnce(&str, &server::Ready) -> String,
) -> Result<(), Failure> {
    let announce = |config: &Config, credentials: &Credentials, ready: &server::Ready| {
        let proxy = config.upstream.proxy.as_ref().map(|proxy| (proxy.url(), &*proxy.source));
        let banner = Banner {
            host: &config.listen_host,
            bound: ready.bound,
            admin: &shown_admin(ready.admin),
            shards_count: config.shards.get(),
            secrets_file: &config.secrets_file.display().to_string(),
            log_level: config.log.level.word(),
            io_driver: &ready.driver.to_string(),
            upstream_url: &config.upstream.url(),
            upstream_source: &config.upstream.source,
            upstream_proxy: proxy.as_ref().map(|(url, source)| (&**url, *source)),
            credential_names: credentials.names().collect(),
            is_tls: config.listener_tls.is_some(),
        };
        let hints = hints(&banner.base_url(), ready);
        log::say(format_args!("{banner}{hints}"));
    };
    server::run(config, keyring, sources, announce).map_err(Failure::Run)
}

/// The address of the admin pages, for the banner.
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
    let is_admin_named = configured.is_written(ADMIN);
    let Configured { mut config, api_keys, .. } = configured;
    // A gateway that already runs has the default admin address.
    if !is_admin_named {
        config.admin = config.admin.map(|address| SocketAddr::new(address.ip(), 0));
    }
    let _log = log_output::start(&config).map_err(Failure::LogFile)?;
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
        prices: config.usage.price_source(),
    };
    let keyring = Keyring { credentials: Arc::new(loaded.credentials), api_keys: load_api_keys(&config, api_keys)? };
    // Its life knows no key and speaks no TLS.
    let can_live = keyring.api_keys.is_none() && config.listener_tls.is_none();
    run_server(config, keyring, sources, move |base_url, ready| {
        let page = ready.admin.map(|admin| format!("http://{}", reachable(admin.address)));
        if can_live && page.is_some() {
            let audience = ready.audience.clone();
            // Without it the page shows what is asked by hand.
            let _ = demo::start_life(reachable(ready.bound), move || audience.count());
        }
        demo::instructions(base_url, page.as_deref())
    })
}

fn run_check(args: &Args, online: bool) -> Result<(), Failure> {
    let configured = match configure_here(args, &unresolved) {
        // There is nothing to check, and no command would start.
        Err(errors) if errors.is_refused_dotenv() => return Err(Failure::Settings(errors)),
        configured => configured,
    };
    let mut report = check::check(configured.as_ref());
    if online
        && report.is_good()
        && let (Ok(found), Some(credentials)) = (&configured, report.credentials.take())
    {
        online::try_each(&found.config, &Rc::new(credentials), &mut report);
    }
    tell(&report)
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
    let is_admin_named = configured.is_written(ADMIN);
    let Config { listen, listener_tls, admin, .. } = configured.config;
    let asked = Asked { listen, is_tls: listener_tls.is_some(), admin, is_admin_named };
    healthcheck::healthcheck(asked).map_err(Failure::Unhealthy)
}

fn run_wake(args: &Args, name: &str) -> Result<(), Failure> {
    let config = configure_here(args, &unresolved).map_err(Failure::Settings)?.config;
    let admin = config.admin.ok_or(Failure::Wake(WakeError::Off))?;
    let token = config.access.admin_token_file.as_ref();
    let token = token.map(|path| AdminToken::load(path, FileKinds::RegularOrPipe)).transpose();
    let token = token.map_err(|error| Failure::Run(RunError::AdminToken(error)))?.map(|loaded| loaded.secret);
    let was_resting = wake::wake(admin, name, token.as_ref()).map_err(Failure::Wake)?;
    print(if was_resting { "woken\n" } else { "it was not resting\n" })
}

fn add_key(args: &Args, add: &KeysAddArgs) -> Result<(), Failure> {
    let config = configure_here(args, &unresolved).map_err(Failure::Settings)?.config;
    let added = keys::add(&config, add).map_err(Failure::Keys)?;
    let _ = write!(io::stderr(), "{}", added.explanation);
    let mut output = io::stdout().lock();
    let shown = writeln!(output, "{}", added.key.expose()).and_then(|()| output.flush());
    shown.map_err(|error| Failure::Keys(added.not_shown(error)))
}

fn list_keys(args: &Args) -> Result<(), Failure> {
    let config = configure_here(args, &unresolved).map_err(Failure::Settings)?.config;
    print_listing(&keys::list(&config).map_err(Failure::Keys)?)
}

fn check_keys(args: &Args) -> Result<(), Failure> {
    let config = configure_here(args, &unresolved).map_err(Failure::Settings)?.config;
    let path = keys::path(&config).map_err(Failure::Keys)?;
    tell(&check::check_keys(&config, path))
}

fn print_completions(shell: &str) -> Result<(), Failure> {
    let shell = shell.parse().map_err(|_| {
        Failure::Usage(UsageError::new(&format!("there are completions for {}", reference::shell_names().join(", "))))
    })?;
    print_listing(&reference::completions(shell))
}

fn print_usage(args: &Args, usage: &UsageArgs) -> Result<(), Failure> {
    let question = UsageQuestion::of(usage, SystemTime::now()).map_err(Failure::Usage)?;
    let file = usage_file(&args.flags, &|name| std::env::var(name)).map_err(Failure::Settings)?;
    let text = usage_report::answer(question, &file.ok_or(Failure::NoUsageFile)?).map_err(Failure::UsageStore)?;
    print_listing(&text)
}

fn run_explain(args: &Args, explain: &ExplainArgs) -> Result<(), Failure> {
    let wanted = Wanted::of(explain.list, explain.id.as_deref()).map_err(Failure::Explain)?;
    let config = configure_here(args, &unresolved).map_err(Failure::Settings)?.config;
    print(&explain::explain(&wanted, config.capture_directory).map_err(Failure::Explain)?)
}

/// Writes a secrets file, and offers to try what is in it.
fn run_init(args: &Args) -> Result<(), Failure> {
    let path = configure_here(args, &unresolved).map_err(Failure::Settings)?.config.secrets_file;
    let Written { path, backup, names } = init::init(&path).map_err(Failure::Init)?;
    let kept = backup.map_or(String::new(), |backup| format!("; what was there before is {}", backup.display()));
    print(&format!("Written: {} (mode 600) with {}{kept}\n", path.display(), names.join(", ")))?;
    let is_wanted = init::ask_for_trial().map_err(Failure::Init)?;
    // The trial may take a while, and nothing is written any more.
    let _signals = init::end_by_signals().map_err(Failure::Init)?;
    let tried = if is_wanted { run_check(args, true) } else { Ok(()) };
    print(
        "Next:\n  flow-uring exec claude    # or any other command: it gets a gateway of its own\n  flow-uring                # a gateway for all\n",
    )?;
    tried
}

fn run_top(args: &Args, top: &TopArgs) -> Result<(), Failure> {
    let configured = configure_here(args, &unresolved).map_err(Failure::Settings)?;
    // A token of the environment is for the gateway that the environment means, and not for any other address.
    let is_token_meant = top.url.is_none() || configured.is_written(ADMIN_TOKEN_FILE);
    let config = configured.config;
    let of_settings = || config.admin.map(|admin| format!("http://{}", reachable(admin)));
    let url = top.url.clone().or_else(of_settings);
    let token_file = config.access.admin_token_file.filter(|_| is_token_meant);
    let text = top::run(TopQuestion { url, token_file, is_once: top.once }).map_err(Failure::Top)?;
    text.map_or(Ok(()), |text| print_listing(&text))
}

/// Becomes the command, with a gateway for it. Returns only if that fails.
fn run_exec(args: &Args, words: &[OsString]) -> Failure {
    // Before the configuration raises it.
    let descriptors = DescriptorLimit::now();
    match gateway_for_a_command(args, words) {
        Ok(gateway) => Failure::Exec(become_command(words, &gateway, descriptors)),
        Err(failure) => failure,
    }
}

fn gateway_for_a_command(args: &Args, words: &[OsString]) -> Result<ChosenGateway, Failure> {
    if words.is_empty() {
        return Err(Failure::Exec(ExecError::NoCommand));
    }
    let configured = configure_here(args, &resolve_listen_host).map_err(Failure::Settings)?;
    let is_shards_named = configured.is_written(SHARDS);
    let Configured { config, api_keys, .. } = configured;
    let keys = load_api_keys(&config, api_keys)?;
    let file = config.access.api_keys_file.as_deref();
    let accepted = keys.as_deref().map(|keys| AcceptedKeys::of(keys, file)).transpose().map_err(Failure::Exec)?;
    if let Some(running) = exec::find(&config, accepted.as_ref()).map_err(Failure::Exec)? {
        return Ok(running);
    }
    let credentials = load_credentials(&config, |warning| {
        let _ = writeln!(io::stderr(), "flow-uring: warning: {warning}");
    })?;
    // Where its keys are known by their hashes alone, a gateway of the command's own has a key of its own.
    let keys = keys.zip(accepted.and_then(AcceptedKeys::into_first));
    exec::start(config, credentials, keys, is_shards_named).map_err(Failure::Exec)
}

/// The configuration of this process, in this working directory.
fn configure_here(
    args: &Args,
    resolve: &dyn Fn(&str, u16) -> io::Result<SocketAddr>,
) -> Result<Configured, SettingErrors> {
    let environment = |name: &str| std::env::var(name);
    let load = || DotEnv::load(Path::new(".env"), &|name| std::env::var(name).ok());
    let dotenv = match DotEnvRule::of(args.command.as_ref()) {
        DotEnvRule::Required => load(),
        DotEnvRule::Optional => load().or_else(|error| {
            log::say(format_args!("flow-uring: warning: {error}\n"));
            Ok(DotEnv::default())
        }),
        DotEnvRule::Unread => Ok(DotEnv::default()),
    };
    let descriptors_max = config::raise_descriptor_limit();
    let is_demo = args.is_demo();
    configure(&args.flags, Surroundings { environment: &environment, dotenv, descriptors_max, resolve, is_demo })
}

/// Stands for an address that is not looked up, since nothing is bound to it.
fn unresolved(_host: &str, port: u16) -> io::Result<SocketAddr> {
    Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
}

fn load_credentials(config: &Config, warn: impl Fn(&str)) -> Result<Credentials, Failure> {
    let loaded = credentials::load(&config.secrets_file, FileKinds::RegularOrPipe).map_err(Failure::Secrets)?;
    loaded.warnings.iter().for_each(|warning| warn(warning));
    Ok(loaded.credentials)
}

/// The keys that callers must show: those of the environment, else those of the file, else none.
fn load_api_keys(config: &Config, given: Option<LoadedKeys>) -> Result<Option<Arc<ApiKeys>>, Failure> {
    let loaded = match (given, &config.access.api_keys_file) {
        (Some(given), _) => Some(given),
        (None, Some(path)) => Some(ApiKeys::load(path, FileKinds::RegularOrPipe).map_err(Failure::ApiKeys)?),
        (None, None) => None,
    };
    let Some(LoadedKeys { keys, warnings }) = loaded else { return Ok(None) };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Some(Arc::new(keys)))
}
