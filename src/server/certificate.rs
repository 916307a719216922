//! The certificate that the listener shows, and who may not speak TLS to it after all.
//!
//! Read at start and on SIGHUP. Invariant: what cannot be used changes nothing, and nothing of the key is ever shown.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::ListenerTls;

/// Why the listener cannot speak TLS.
#[derive(Debug)]
pub struct ListenerTlsError {
    /// The file that is at fault.
    path: PathBuf,
    flag: &'static str,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Unreadable(io::Error),
    Pem(pem::Error),
    NoCertificate,
    NoKey,
    /// The key is not that of the first certificate, or of a kind that is not known.
    Unusable(rustls::Error),
}

impl fmt::Display for ListenerTlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: ", self.flag, self.path.display())?;
        match &self.fault {
            Fault::Unreadable(error) => write!(formatter, "cannot be read: {error}"),
            Fault::Pem(error) => write!(formatter, "is not valid PEM: {error}"),
            Fault::NoCertificate => formatter.write_str("holds no certificate (-----BEGIN CERTIFICATE-----)"),
            Fault::NoKey => {
                formatter.write_str("holds no private key (-----BEGIN PRIVATE KEY-----) without a passphrase")
            }
            Fault::Unusable(error) => {
                write!(formatter, "cannot be used with the key: {error}; the first certificate must be the key's")
            }
        }
    }
}

impl std::error::Error for ListenerTlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Unreadable(error) => Some(error),
            Fault::Pem(error) => Some(error),
            Fault::Unusable(error) => Some(error),
            Fault::NoCertificate | Fault::NoKey => None,
        }
    }
}

/// TLS 1.2 and 1.3 with the certificate chain and the key of `files`, ALPN `http/1.1`; sessions are resumed by tickets,
/// so that a client that connects again is spared half the handshake.
///
/// # Errors
/// See [`ListenerTlsError`].
pub fn load(files: &ListenerTls) -> Result<Arc<ServerConfig>, ListenerTlsError> {
    let of_certificate = |fault| ListenerTlsError { path: files.certificate.clone(), flag: "--tls-cert", fault };
    let of_key = |fault| ListenerTlsError { path: files.key.clone(), flag: "--tls-key", fault };
    let chain = read(&files.certificate).map_err(of_certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| of_certificate(Fault::Pem(error)))?;
    if chain.is_empty() {
        return Err(of_certificate(Fault::NoCertificate));
    }
    let key = zeroize::Zeroizing::new(read(&files.key).map_err(of_key)?);
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| match error {
        pem::Error::NoItemsFound => of_key(Fault::NoKey),
        error => of_key(Fault::Pem(error)),
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| of_certificate(Fault::Unusable(error)))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| of_certificate(Fault::Unusable(error)))?;
    Ok(Arc::new(config))
}

#[expect(clippy::disallowed_methods, reason = "read before there are shards, and by the main thread later")]
fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(Fault::Unreadable)
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
            load(&files).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_chain_and_its_key_are_loaded_for_http_1_1() {
        let files = Files::new();
        let config = files.load(&files.certificate_pem, &files.key_pem).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        // In one file, as some tools write them.
        let both = format!("{}{}", files.key_pem, files.certificate_pem);
        assert!(files.load(&both, &both).is_ok());
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
        let nowhere = ListenerTls { certificate: "/nowhere/cert".into(), key: "/nowhere/key".into() };
        let error = load(&nowhere).expect_err("nothing is there").to_string();
        assert!(error.starts_with("--tls-cert /nowhere/cert: cannot be read"), "{error}");
    }
}
