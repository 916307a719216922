//! The trust anchors of TLS with the upstream: those of a file that was named, of the system, or the bundled ones.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Trust;
use crate::whole_file::{self, FileKinds, ReadFault};

/// Some ten times the size of a system's bundle with the text of each certificate.
const BUNDLE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The reason why the trust anchors could not be loaded.
#[derive(Debug)]
pub enum TrustError {
    /// A fault of the file that `--upstream-ca` names.
    File {
        path: String,
        fault: TrustFault,
    },
    Config(rustls::Error),
}

/// The reason why a PEM file cannot serve as a trust store.
#[derive(Debug)]
pub enum TrustFault {
    Read(ReadFault),
    Pem(pem::Error),
    Certificate { number: usize, error: rustls::Error },
    Empty,
}

impl fmt::Display for TrustError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::File { path, fault } => write!(formatter, "--upstream-ca {path}: {fault}"),
            TrustError::Config(error) => write!(formatter, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for TrustError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrustError::File { fault, .. } => Some(fault),
            TrustError::Config(error) => Some(error),
        }
    }
}

impl fmt::Display for TrustFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustFault::Read(fault) => fault.fmt(formatter),
            TrustFault::Pem(error) => write!(formatter, "is not valid PEM: {error}"),
            TrustFault::Certificate { number, error } => {
                write!(formatter, "certificate number {number} cannot be an authority: {error}")
            }
            TrustFault::Empty => formatter.write_str("holds no certificate (-----BEGIN CERTIFICATE-----)"),
        }
    }
}

impl std::error::Error for TrustFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrustFault::Read(fault) => fault.source(),
            TrustFault::Pem(error) => Some(error),
            TrustFault::Certificate { error, .. } => Some(error),
            TrustFault::Empty => None,
        }
    }
}

/// The origin of the trust anchors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustSource {
    /// The file that was named, or a text of the program's own.
    Given { name: String, count: usize },
    /// The system's trust store, with what could not be read of it.
    System { count: usize, complaints: Vec<String> },
    /// The system has no usable trust store: Mozilla's, as bundled when this program was built.
    Bundled,
}

impl fmt::Display for TrustSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustSource::Given { name, count } => write!(formatter, "{count} certificates in {name}"),
            TrustSource::System { count, .. } => write!(formatter, "{count} certificates of the system"),
            TrustSource::Bundled => formatter.write_str("the system has none, the bundled one is used"),
        }
    }
}

/// Makes the one TLS configuration of the process: TLS 1.2 and 1.3, resumption on, ALPN `http/1.1`.
///
/// # Errors
/// [`TrustError`] when a file is named and cannot be used. A system without a trust store is no error: the bundled
/// anchors are used.
pub fn client_config(trust: &Trust) -> Result<(Arc<ClientConfig>, TrustSource), TrustError> {
    let (roots, source) = match trust {
        Trust::File(path) => {
            let name = path.display().to_string();
            let given = read(path).and_then(|pem| given_roots(&pem, &name));
            given.map_err(|fault| TrustError::File { path: name, fault })?
        }
        Trust::Pem(text) => given_roots(text.as_bytes(), "a text")
            .map_err(|fault| TrustError::File { path: "(a text)".into(), fault })?,
        Trust::System => system_roots(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TrustError::Config)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), source))
}

fn read(path: &Path) -> Result<Vec<u8>, TrustFault> {
    // The certificates are public: a copy of them may stay in memory.
    whole_file::read(path, BUNDLE_BYTES_MAX, FileKinds::RegularOrPipe)
        .map(|(pem, _)| pem.to_vec())
        .map_err(TrustFault::Read)
}

fn given_roots(pem: &[u8], name: &str) -> Result<(RootCertStore, TrustSource), TrustFault> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let certificate = certificate.map_err(TrustFault::Pem)?;
        roots.add(certificate).map_err(|error| TrustFault::Certificate { number: index + 1, error })?;
    }
    if roots.is_empty() {
        return Err(TrustFault::Empty);
    }
    let source = TrustSource::Given { name: name.to_owned(), count: roots.len() };
    Ok((roots, source))
}

fn system_roots() -> (RootCertStore, TrustSource) {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    let (count, _) = roots.add_parsable_certificates(loaded.certs);
    if count > 0 {
        let complaints = loaded.errors.iter().map(ToString::to_string).collect();
        return (roots, TrustSource::System { count, complaints });
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    (roots, TrustSource::Bundled)
}
