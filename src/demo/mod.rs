//! An embedded upstream that answers like Flow, so that the gateway can be tried without an account.
//!
//! Owns the demo's certificate, its made-up credentials and one thread with one runtime. Invariant: it answers only
//! requests that carry a token of one of its credentials, and only on a loopback address. It is not the gateway: who
//! starts it points a gateway at it ([`UPSTREAM_URL`], connected to [`DemoUpstream::address`], trusting
//! [`DemoUpstream::ca_pem`]). While somebody looks at that gateway's live page, `life` sends it requests that play a
//! `scene`. Imports nothing else of the crate.

mod access;
mod api;
mod certificate;
mod connection;
mod flow;
mod guide;
mod life;
mod memory;
mod reply;
mod routes;
mod scene;
mod websocket;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use monoio_rustls::TlsAcceptor;

use self::access::Access;
use self::connection::DemoServer;

pub use flow::{BASE_PATH, DemoCredential, UPSTREAM_HOST, UPSTREAM_URL};
pub use guide::{credentials, credentials_json, instructions};
pub use life::start as start_life;

/// The time between two streamed tokens that reads like a model at work.
pub const HUMAN_PACE: Duration = Duration::from_millis(40);

/// Accept errors are almost always a lack of descriptors: wait for some to come back instead of spinning.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A running embedded upstream. It serves until the process ends.
#[derive(Debug, Clone)]
pub struct DemoUpstream {
    /// The address that it listens on: 127.0.0.1 and a port that the system chose.
    pub address: SocketAddr,
    /// The certificate, in PEM, that a client of the upstream must trust.
    pub ca_pem: String,
}

/// The reason why the embedded upstream did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum DemoError {
    Certificate(rcgen::Error),
    Tls(rustls::Error),
    Thread(io::Error),
    Runtime(io::Error),
    Listen(io::Error),
    /// The thread ended before it reported.
    ThreadEnded,
}

impl fmt::Display for DemoError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            DemoError::Certificate(_) => "cannot make the demo's certificate",
            DemoError::Tls(_) => "cannot use the demo's certificate",
            DemoError::Thread(_) => "cannot start the demo's thread",
            DemoError::Runtime(_) => "cannot build the demo's runtime, neither on io_uring nor on epoll",
            DemoError::Listen(_) => "cannot listen on a loopback port for the demo's upstream",
            DemoError::ThreadEnded => "the demo's thread ended while it was starting",
        };
        formatter.write_str(what)
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DemoError::Certificate(error) => Some(error),
            DemoError::Tls(error) => Some(error),
            DemoError::Thread(error) | DemoError::Runtime(error) | DemoError::Listen(error) => Some(error),
            DemoError::ThreadEnded => None,
        }
    }
}

/// Starts the embedded upstream on a thread of its own and returns when it listens.
///
/// `pace` is the time between two streamed tokens.
///
/// # Errors
/// If a certificate, the thread, its runtime or its port cannot be made.
pub fn start_upstream(credentials: &[DemoCredential], pace: Duration) -> Result<DemoUpstream, DemoError> {
    let identity = certificate::DemoIdentity::generate().map_err(DemoError::Certificate)?;
    let ca_pem = identity.ca_pem.clone();
    let acceptor = TlsAcceptor::from(identity.into_server_config().map_err(DemoError::Tls)?);
    let access = Access::new(credentials);
    let (report, started) = mpsc::channel();
    thread::Builder::new()
        .name("flow-demo".to_owned())
        .spawn(move || run(acceptor, access, pace, report))
        .map_err(DemoError::Thread)?;
    #[expect(clippy::disallowed_methods, reason = "start-up code: the thread reports within milliseconds")]
    let address = started.recv().map_err(|_| DemoError::ThreadEnded)??;
    Ok(DemoUpstream { address, ca_pem })
}

type StartReport = mpsc::Sender<Result<SocketAddr, DemoError>>;

/// Builds the runtime on this thread (a ring built elsewhere never progresses) and serves until the process ends.
fn run(acceptor: TlsAcceptor, access: Access, pace: Duration, report: StartReport) {
    if let Ok(mut runtime) = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build() {
        return runtime.block_on(serve(acceptor, access, pace, report));
    }
    match RuntimeBuilder::<LegacyDriver>::new().enable_timer().build() {
        Ok(mut runtime) => runtime.block_on(serve(acceptor, access, pace, report)),
        Err(error) => drop(report.send(Err(DemoError::Runtime(error)))),
    }
}

async fn serve(acceptor: TlsAcceptor, access: Access, pace: Duration, report: StartReport) {
    let listening = TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match listening {
        Ok(listening) => listening,
        Err(error) => return drop(report.send(Err(DemoError::Listen(error)))),
    };
    if report.send(Ok(address)).is_err() {
        return;
    }
    let server = Rc::new(DemoServer::new(access, pace));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(monoio::spawn(accept_tls(acceptor.clone(), stream, server.clone()))),
            Err(_) => monoio::time::sleep(ACCEPT_ERROR_PAUSE).await,
        }
    }
}

async fn accept_tls(acceptor: TlsAcceptor, stream: TcpStream, server: Rc<DemoServer>) {
    // Without it the events of a stream would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    if let Ok(stream) = acceptor.accept(stream).await {
        server.serve(stream).await;
    }
}
