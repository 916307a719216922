//! `flow-uring check`: validates everything that a start would read, and reports it.
//!
//! Invariant: touches no network, prints nothing itself, and no line holds a secret.

use std::collections::HashSet;
use std::path::Path;

use super::log_output;
use super::settings::{Configured, EffectiveSetting, SettingErrors};
use crate::config::{Config, ListenerTls, PriceSource, Scheme, UsageOptions};
use crate::credentials::{self, ApiKeys, Credentials, KeyLimits};
use crate::observability::list_names;
use crate::server::AdminToken;
use crate::server::certificate;
use crate::server::key_check::{self, KeyProblem, KeySurroundings, lines_of};
use crate::upstream::tls::{self, TrustSource};
use crate::usage::prices::{PriceTable, load_prices};
use crate::usage::store::UsageStore;
use crate::whole_file::FileKinds;

/// The results of a check, line by line.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// For stdout.
    pub found: Vec<String>,
    /// Lines that an operator should know of, and that do not prevent a start.
    pub warnings: Vec<String>,
    /// Lines about faults that prevent a start, or keep the gateway from working.
    pub problems: Vec<String>,
    /// The credentials of a secrets file that can be used.
    pub credentials: Option<Credentials>,
}

/// Checks a configuration with its files.
pub fn check(configured: Result<&Configured, &SettingErrors>) -> CheckReport {
    let mut report = CheckReport::default();
    match configured {
        Ok(Configured { config, api_keys, effective }) => {
            report.settings(effective);
            report.warnings.extend(config.notices.iter().cloned());
            report.log_file(config);
            report.usage_file(config);
            let prices = report.prices(&config.usage.price_source());
            report.secrets(&config.secrets_file);
            report.warnings.extend(api_keys.iter().flat_map(|loaded| loaded.warnings.iter().cloned()));
            if let Some(path) = &config.access.api_keys_file {
                report.api_keys(path, &config.usage, prices.as_ref());
            }
            config.access.admin_token_file.iter().for_each(|path| report.admin_token(path));
            config.listener_tls.iter().for_each(|files| report.listener_tls(files));
            report.trust(config);
        }
        Err(errors) => report.problems.extend(errors.0.iter().map(ToString::to_string)),
    }
    report
}

/// Checks a file of API keys, and whether its keys fit the rest of the configuration, as far as that can be used: what
/// is wrong with the rest keeps keys from being checked against it, and is told as a warning.
pub fn check_keys(config: &Config, path: &Path) -> CheckReport {
    let mut rest = CheckReport::default();
    let prices = rest.prices(&config.usage.price_source());
    rest.secrets(&config.secrets_file);
    let mut report = CheckReport { credentials: rest.credentials.take(), ..CheckReport::default() };
    report
        .warnings
        .extend(rest.problems.into_iter().map(|what| format!("API keys are not checked against it: {what}")));
    report.api_keys(path, &config.usage, prices.as_ref());
    report
}

/// Finds the problems that the key of this name has with the rest of the configuration, as far as that can be used.
pub fn problems_of_key(config: &Config, keys: &ApiKeys, name: &str) -> Vec<String> {
    let mut rest = CheckReport::default();
    let prices = rest.prices(&config.usage.price_source());
    rest.secrets(&config.secrets_file);
    let credentials = rest.credentials.as_ref().map(|credentials| credentials.names().collect());
    let around = KeySurroundings { credentials, usage: &config.usage, prices: prices.as_ref() };
    let problems = key_check::check_keys(keys, &around).into_iter();
    let of_key = problems.filter(|problem| problem.keys.iter().any(|key| key == name));
    of_key.map(|problem| KeyProblem { keys: vec![name.to_owned()], ..problem }.to_string()).collect()
}

impl CheckReport {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn settings(&mut self, effective: &[EffectiveSetting]) {
        self.found.push("settings:".into());
        let line =
            |setting: &EffectiveSetting| format!("  {:<24}{} ({})", &setting.flag[2..], setting.value, setting.source);
        self.found.extend(effective.iter().map(line));
    }

    fn log_file(&mut self, config: &Config) {
        let Some(file) = log_output::file(config) else { return };
        match file.check() {
            Ok(()) => self.found.push(format!("log file {}: can be written", file.path.display())),
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn usage_file(&mut self, config: &Config) {
        match config.usage.written_file() {
            // None is made here; a gateway starts without it too.
            Some(file) if file.exists() => match UsageStore::open_existing(file) {
                Ok(_) => self.found.push(format!("usage file {}: can be read", file.display())),
                Err(error) => self.warnings.push(error.to_string()),
            },
            Some(file) => self.found.push(format!("usage file {}: is made when a gateway starts", file.display())),
            None => self.found.push("usage file: none, totals end with the process".into()),
        }
    }

    fn prices(&mut self, source: &PriceSource) -> Option<PriceTable> {
        let PriceSource::File(path) = source else { return None };
        match load_prices(path, FileKinds::RegularOrPipe) {
            Ok(loaded) => {
                self.found.push(format!("file of prices {}: {} models", path.display(), loaded.table.len()));
                self.warnings.extend(loaded.warnings.iter().map(ToString::to_string));
                return Some(loaded.table);
            }
            Err(error) => self.problems.push(error.to_string()),
        }
        None
    }

    fn secrets(&mut self, path: &Path) {
        match credentials::load(path, FileKinds::RegularOrPipe) {
            Ok(loaded) => {
                self.found.push(format!("secrets file {}:", path.display()));
                self.entries(&loaded.credentials);
                self.warnings.extend(loaded.warnings);
                self.credentials = Some(loaded.credentials);
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn entries(&mut self, credentials: &Credentials) {
        for (id, entry) in credentials.entries() {
            match credentials::mint(entry) {
                Ok(_) => self.found.push(format!("  [{}] {}, weight {}", id.index(), entry.name, entry.weight)),
                Err(error) => self.problems.push(format!("credential {}: {error}", entry.name)),
            }
        }
    }

    fn api_keys(&mut self, path: &Path, usage: &UsageOptions, prices: Option<&PriceTable>) {
        match ApiKeys::load(path, FileKinds::RegularOrPipe) {
            Ok(loaded) => {
                let keys = &loaded.keys;
                let limited = keys.policies().filter(|(_, policy)| policy.limits != KeyLimits::default()).count();
                self.found.push(format!(
                    "file of API keys {}: keys: {}, with limits: {limited}: {}",
                    path.display(),
                    keys.len(),
                    list_names(unique(keys.names()))
                ));
                self.warnings.extend(loaded.warnings);
                let credentials = self.credentials.as_ref().map(|credentials| credentials.names().collect());
                let problems = key_check::check_keys(keys, &KeySurroundings { credentials, usage, prices });
                self.problems.extend(lines_of(&problems));
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn admin_token(&mut self, path: &Path) {
        match AdminToken::load(path, FileKinds::RegularOrPipe) {
            Ok(loaded) => {
                self.found.push(format!("token of the admin pages {}: can be used", path.display()));
                self.warnings.extend(loaded.warning);
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn listener_tls(&mut self, files: &ListenerTls) {
        match certificate::load(files, FileKinds::RegularOrPipe) {
            Ok(loaded) => {
                self.found.push(format!("listener: TLS with {}", files.certificate.display()));
                self.warnings.extend(loaded.warning);
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn trust(&mut self, config: &Config) {
        if config.upstream.scheme == Scheme::Http {
            self.found.push("trust store: not used, the upstream is plain http://".into());
            return;
        }
        match tls::client_config(&config.upstream.trust) {
            Ok((_, source)) => {
                self.found.push(format!("trust store: {source}"));
                if let TrustSource::System { complaints, .. } = source {
                    self.warnings.extend(complaints.iter().map(|what| format!("the system's trust store: {what}")));
                }
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }
}

/// Leaves out the names that came before: while a key replaces another one, both have the same.
fn unique<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut before = HashSet::new();
    names.filter(move |name| before.insert(*name))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::cli::args;
    use crate::cli::settings::{DotEnv, Surroundings, configure};

    struct WorkingDirectory(TempDir);

    impl WorkingDirectory {
        fn new() -> Self {
            WorkingDirectory(tempfile::tempdir().expect("a temporary directory"))
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("changed");
            path
        }

        fn check(&self, words: &[&str]) -> CheckReport {
            let secrets_file = self.0.path().join("secrets.json").display().to_string();
            let words = ["--secrets-file", &secrets_file].into_iter().chain(words.iter().copied());
            let args = args::parse(words.map(Into::into)).expect("a valid command line");
            let configured: Result<Configured, SettingErrors> = configure(
                &args.flags,
                Surroundings {
                    environment: &|name| match name {
                        "HOME" => Ok("/nowhere".into()),
                        _ => Err(std::env::VarError::NotPresent),
                    },
                    dotenv: Ok(DotEnv::default()),
                    descriptors_max: 1000,
                    resolve: &|_, _| Err(io::ErrorKind::NotFound.into()),
                    is_demo: false,
                },
            );
            check(configured.as_ref())
        }
    }

    const SECRETS: &str = r#"[{"name":"a","clientId":"i","clientSecret":"hunter2","tenant":"t","weight":3},
                              {"name":"b","clientId":"i","clientSecret":"hunter2","tenant":"t"}]"#;

    #[test]
    fn a_good_set_up_is_described_without_secrets() {
        let place = WorkingDirectory::new();
        place.write("secrets.json", SECRETS);
        let report = place.check(&["--upstream", "http://127.0.0.1:1/base", "--no-threaded"]);
        assert!(report.is_good(), "{report:?}");
        for line in [
            "settings:",
            "  port                    8899 (default)",
            "  admin                   127.0.0.1:8900 (default)",
            "  upstream                http://127.0.0.1:1/base (--upstream)",
            "  max-connections         400 (default)",
            "  [0] a, weight 3",
            "  [1] b, weight 1",
            "trust store: not used, the upstream is plain http://",
        ] {
            assert!(report.found.iter().any(|found| found == line), "{line}: {report:#?}");
        }
        assert!(report.warnings.len() == 1 && report.warnings[0].starts_with("--no-threaded: "), "{report:?}");
        assert!(!format!("{report:?}").contains("hunter2"));
    }

    #[test]
    fn problems_of_settings_and_of_files_are_told() {
        let place = WorkingDirectory::new();
        let report = place.check(&["--port", "x", "--shards", "x"]);
        assert_eq!(report.problems.len(), 2);
        let report = place.check(&["--upstream", "http://127.0.0.1:1"]);
        assert!(report.problems.len() == 1 && report.problems[0].contains("does not exist"), "{report:?}");
        place.write("secrets.json", "[{\"clientId\":\"hunter2\"}]");
        let report = place.check(&["--upstream", "http://127.0.0.1:1"]);
        assert!(report.problems[0].contains("entry [0], \"clientSecret\""), "{report:?}");
        assert!(!format!("{report:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_of_authorities_must_hold_usable_certificates() {
        let place = WorkingDirectory::new();
        place.write("secrets.json", SECRETS);
        let problem = |content: Option<&str>| {
            let path = content.map_or(place.0.path().join("absent.pem"), |content| place.write("ca.pem", content));
            let report = place.check(&["--upstream-ca", &path.display().to_string()]);
            assert_eq!(report.problems.len(), 1, "{report:?}");
            report.problems[0].replace(&path.display().to_string(), "PATH")
        };
        assert!(problem(None).starts_with("--upstream-ca PATH: cannot be read: "));
        let empty = "--upstream-ca PATH: holds no certificate (-----BEGIN CERTIFICATE-----)";
        assert_eq!(problem(Some("")), empty);
        assert_eq!(problem(Some("-----BEGIN PRIVATE KEY-----\naGk=\n-----END PRIVATE KEY-----\n")), empty);
        let broken = problem(Some("-----BEGIN CERTIFICATE-----\naGk=\n"));
        assert!(broken.starts_with("--upstream-ca PATH: is not valid PEM: "), "{broken}");
        let no_certificate = problem(Some("-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n"));
        assert!(no_certificate.starts_with("--upstream-ca PATH: certificate number 1 cannot be an authority: "));
    }

    #[cfg(feature = "demo")]
    #[test]
    fn a_file_of_authorities_is_counted() {
        let place = WorkingDirectory::new();
        place.write("secrets.json", SECRETS);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let path = place.write("ca.pem", &made.cert.pem().repeat(2)).display().to_string();
        let report = place.check(&["--upstream-ca", &path]);
        assert!(report.is_good(), "{report:?}");
        assert_eq!(report.found.last(), Some(&format!("trust store: 2 certificates in {path}")));
    }
}
