//! A server of the upstream's name, whose records can be tampered with.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

pub const NAME: &str = "flow.test";

/// The certificate of this process, which alone is trusted, and its configurations for TLS 1.3 and 1.2.
static IDENTITY: LazyLock<(String, [Arc<ServerConfig>; 2])> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("a certificate");
    let config = |version: &'static SupportedProtocolVersion| {
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a key of the certificate");
        Arc::new(config)
    };
    (made.cert.pem(), [config(&TLS13), config(&TLS12)])
});

/// The certificate as PEM.
pub fn certificate() -> String {
    IDENTITY.0.clone()
}

/// One side of a connection.
pub struct Server {
    connection: ServerConnection,
}

/// A record as it goes over the wire, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub wire: Vec<u8>,
    pub content: Vec<u8>,
}

impl Server {
    pub fn new(is_tls12: bool) -> Self {
        let config = IDENTITY.1[usize::from(is_tls12)].clone();
        Server { connection: ServerConnection::new(config).expect("a server") }
    }

    /// Takes what the client sent. Returns whether it can go on.
    pub fn receive(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.connection.read_tls(&mut bytes).is_err() || self.connection.process_new_packets().is_err() {
                return false;
            }
        }
        true
    }

    /// The application bytes that the client has sent.
    pub fn received(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        let _ = self.connection.reader().read_to_end(&mut received);
        received
    }

    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes what is to be sent, record by record.
    pub fn records(&mut self) -> Vec<Record> {
        let mut wire = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut wire).expect("memory");
        }
        let mut records = Vec::new();
        let mut rest = &wire[..];
        while let Some(&[_, _, _, high, low]) = rest.first_chunk() {
            let (record, after) = rest.split_at(5 + usize::from(u16::from_be_bytes([high, low])));
            records.push(Record { wire: record.to_vec(), content: Vec::new() });
            rest = after;
        }
        records
    }

    /// Makes one record of `content`, which has at most 16 KiB.
    pub fn record(&mut self, content: &[u8]) -> Record {
        self.connection.writer().write_all(content).expect("room");
        let mut records = self.records();
        assert_eq!(records.len(), 1);
        let record = records.remove(0);
        Record { content: content.to_vec(), ..record }
    }

    /// Makes the record after which other keys are used: TLS 1.3 alone has it.
    pub fn update_keys(&mut self) -> Option<Record> {
        self.connection.refresh_traffic_keys().ok()?;
        let mut records = self.records();
        assert_eq!(records.len(), 1);
        records.pop()
    }

    pub fn close_notify(&mut self) -> Record {
        self.connection.send_close_notify();
        self.records().pop().expect("an alert")
    }
}
