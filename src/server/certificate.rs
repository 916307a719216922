//! The certificate and the key of the listener, and the TLS configuration made of them.
//!
//! Read at start and on SIGHUP. Invariant: files that cannot be used change nothing, and nothing of the key is ever
//! shown.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

use crate::config::ListenerTls;
use crate::credentials::private_file;
use crate::whole_file::{FileKinds, ReadFault};

/// The error that keeps the listener from speaking TLS.
#[derive(Debug)]
pub struct ListenerTlsError {
    /// The file that is at fault.
    path: PathBuf,
    flag: &'static str,
    fault: CertificateFault,
}

#[derive(Debug)]
enum CertificateFault {
    Read(ReadFault),
    Pem(pem::Error),
    NoCertificate,
    NoKey,
    /// The key does not belong to the first certificate, or is of an unknown kind.
    Unusable(rustls::Error),
}

impl From<ReadFault> for CertificateFault {
    fn from(fault: ReadFault) -> Self {
        CertificateFault::Read(fault)
    }
}

impl fmt::Display for ListenerTlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: ", self.flag, self.path.display())?;
        match &self.fault {
            CertificateFault::Read(ReadFault::NotUtf8) => formatter.write_str("is not PEM text (DER is not read)"),
            CertificateFault::Read(fault) => fault.fmt(formatter),
            CertificateFault::Pem(error) => write!(formatter, "is not valid PEM: {error}"),
            CertificateFault::NoCertificate => {
                formatter.write_str("holds no certificate (-----BEGIN CERTIFICATE-----)")
            }
            CertificateFault::NoKey => {
                formatter.write_str("holds no private key (-----BEGIN PRIVATE KEY-----) without a passphrase")
            }
            CertificateFault::Unusable(error) => {
                write!(formatter, "cannot be used with the key: {error}; the first certificate must be the key's")
            }
        }
    }
}

impl std::error::Error for ListenerTlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            CertificateFault::Read(fault) => fault.source(),
            CertificateFault::Pem(error) => Some(error),
            CertificateFault::Unusable(error) => Some(error),
            CertificateFault::NoCertificate | CertificateFault::NoKey => None,
        }
    }
}

/// The TLS configuration that the files gave.
#[derive(Debug)]
pub struct LoadedCertificate {
    pub config: Arc<ServerConfig>,
    /// A line for the operator, if others can read the key.
    pub warning: Option<String>,
}

/// Loads a configuration for TLS 1.2 and 1.3 with the certificate chain and the key of `files`, ALPN `http/1.1`.
/// Sessions are resumed by tickets, which saves a client that reconnects half the handshake; a lock guards the keys of
/// the tickets, which handshakes take, and requests do not.
///
/// # Errors
/// See [`ListenerTlsError`].
pub fn load(files: &ListenerTls, kinds: FileKinds) -> Result<LoadedCertificate, ListenerTlsError> {
    let of_certificate = |fault| ListenerTlsError { path: files.certificate.clone(), flag: "--tls-cert", fault };
    let of_key = |fault| ListenerTlsError { path: files.key.clone(), flag: "--tls-key", fault };
    let (chain, _) = private_file::read(&files.certificate, kinds).map_err(|fault| of_certificate(fault.into()))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| of_certificate(CertificateFault::Pem(error)))?;
    if chain.is_empty() {
        return Err(of_certificate(CertificateFault::NoCertificate));
    }
    let (text, metadata) = private_file::read(&files.key, kinds).map_err(|fault| of_key(fault.into()))?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => of_key(CertificateFault::NoKey),
        // The form that OpenSSL writes with a passphrase; PKCS #8 has a label of its own for that.
        _ if text.contains("Proc-Type: 4,ENCRYPTED") => of_key(CertificateFault::NoKey),
        error => of_key(CertificateFault::Pem(error)),
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| of_certificate(CertificateFault::Unusable(error)))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A lock would guard sessions stored on this side too, and only clients that take no ticket need them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| of_certificate(CertificateFault::Unusable(error)))?;
    let warning = private_file::exposure_warning(&files.key, &metadata, "the listener's private key");
    Ok(LoadedCertificate { config: Arc::new(config), warning })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        directory: tempfile::TempDir,
        certificate_pem: String,
        key_pem: String,
    }

    impl Files {
        fn new() -> Self {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["gateway".into()]).unwrap().self_signed(&key).unwrap();
            let directory = tempfile::tempdir().unwrap();
            Files { directory, certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
        }

        fn load(&self, certificate: &str, key: &str) -> Result<Arc<ServerConfig>, String> {
            let write = |name: &str, text: &str| {
                let path = self.directory.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            };
            let files = ListenerTls { certificate: write("cert.pem", certificate), key: write("key.pem", key) };
            load(&files, FileKinds::RegularOrPipe).map(|loaded| loaded.config).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_chain_and_its_key_are_loaded_for_http_1_1() {
        let files = Files::new();
        let config = files.load(&files.certificate_pem, &files.key_pem).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        // Both in one file, as some tools write them.
        let both = format!("{}{}", files.key_pem, files.certificate_pem);
        assert!(files.load(&both, &both).is_ok());
    }

    #[test]
    fn a_key_that_others_can_read_is_warned_of_and_a_pipe_is_not_read_again() {
        use std::os::unix::fs::PermissionsExt;
        let files = Files::new();
        files.load(&files.certificate_pem, &files.key_pem).unwrap();
        let path = |name: &str| files.directory.path().join(name);
        let mut named = ListenerTls { certificate: path("cert.pem"), key: path("key.pem") };
        for (mode, is_exposed) in [(0o600, false), (0o644, true)] {
            std::fs::set_permissions(&named.key, std::fs::Permissions::from_mode(mode)).unwrap();
            let warning = load(&named, FileKinds::Regular).unwrap().warning;
            assert_eq!(warning.is_some_and(|warning| warning.contains("the listener's private key")), is_exposed);
        }
        for special in ["/dev/zero", "/dev/null"] {
            named.certificate = special.into();
            let error = load(&named, FileKinds::Regular).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
        named.certificate = "/dev/zero".into();
        assert!(load(&named, FileKinds::RegularOrPipe).unwrap_err().to_string().contains("is larger than 1024 KiB"));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_flag_and_file_and_not_shown() {
        let (files, other) = (Files::new(), Files::new());
        let cut = &files.key_pem[..files.key_pem.len() / 2];
        for (certificate, key, flag, words) in [
            ("", files.key_pem.as_str(), "--tls-cert", "holds no certificate"),
            (&files.key_pem, &files.key_pem, "--tls-cert", "holds no certificate"),
            (&files.certificate_pem, "", "--tls-key", "holds no private key"),
            (&files.certificate_pem, &files.certificate_pem, "--tls-key", "holds no private key"),
            (&files.certificate_pem, cut, "--tls-key", "is not valid PEM"),
            (&files.certificate_pem, &other.key_pem, "--tls-cert", "the first certificate must be the key's"),
        ] {
            let error = files.load(certificate, key).expect_err(words);
            let name = if flag == "--tls-cert" { "cert.pem: " } else { "key.pem: " };
            assert!(error.starts_with(flag) && error.contains(name) && error.contains(words), "{error}");
            assert!(!error.contains(&files.key_pem[40..60]), "{error}");
        }
        let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let error = files.load(&files.certificate_pem, encrypted).expect_err("encrypted");
        assert!(error.contains("without a passphrase"), "{error}");
        let nowhere = ListenerTls { certificate: "/nowhere/cert".into(), key: "/nowhere/key".into() };
        let error = load(&nowhere, FileKinds::RegularOrPipe).expect_err("nothing is there").to_string();
        assert!(error.starts_with("--tls-cert /nowhere/cert: cannot be read"), "{error}");
    }
}
