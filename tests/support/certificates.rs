//! One authority and one certificate for all upstreams of a test process, and for gateways that speak TLS.

use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The certificate that an upstream presents, and the authority that the gateway is told to trust.
pub struct Certificates {
    pub authority_pem: String,
    pub server: Arc<ServerConfig>,
    /// The certificate of `server` as a PEM file; its key follows.
    pub server_pem: String,
    pub server_key_pem: String,
    /// The settings of a client that trusts the authority.
    pub client: Arc<ClientConfig>,
}

pub static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(make);

fn make() -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "flow-uring test authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");

    let names = ["127.0.0.1", "localhost", "flow.test"].map(str::to_owned);
    let mut params = CertificateParams::new(names).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, "flow-uring test upstream");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");

    let private_key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private_key)
        .expect("the key belongs to the certificate");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let client = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Certificates {
        authority_pem: authority.pem(),
        server: Arc::new(server),
        server_pem: certificate.pem(),
        server_key_pem: key.serialize_pem(),
        client: Arc::new(client),
    }
}
