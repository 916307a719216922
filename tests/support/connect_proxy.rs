//! An HTTP proxy as company networks have one: it opens tunnels by `CONNECT`, and keeps the requests it got.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::{Head, HeldPort, Upstream};

/// The behaviour of the proxy on a `CONNECT`.
#[derive(Clone)]
pub enum Conduct {
    /// Connects to this address whatever the request names, as a proxy does that resolves names in its own way.
    TunnelTo(SocketAddr),
    /// As `TunnelTo` for requests with this `Proxy-Authorization`; others get a 407.
    TunnelFor(SocketAddr, String),
    /// Answers with these bytes and closes.
    Answer(String),
    /// Sends nothing until the gateway has closed.
    Hang,
}

impl Conduct {
    pub fn tunnel_to(upstream: &Upstream) -> Self {
        Self::TunnelTo(upstream.authority().parse().expect("an address"))
    }
}

/// One request for a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelRequest {
    pub line: String,
    pub host: Option<String>,
    pub authorization: Option<String>,
}

pub struct ConnectProxy {
    port: HeldPort,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    conduct: Mutex<Conduct>,
    requests: Mutex<Vec<TunnelRequest>>,
    /// Both sides of each tunnel; `None` while it is stopped.
    sockets: Mutex<Option<Vec<TcpStream>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnectProxy {
    pub fn start(conduct: Conduct) -> Self {
        let shared = Shared { conduct: Mutex::new(conduct), requests: Mutex::default(), sockets: Mutex::new(None) };
        let mut proxy = Self { port: HeldPort::reserve(), shared: Arc::new(shared), accepting: None };
        proxy.resume();
        proxy
    }

    pub fn authority(&self) -> String {
        self.port.address().to_string()
    }

    /// Returns the value for `--upstream-proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority())
    }

    /// Returns `url` with user information before the host.
    pub fn url_with(&self, user_info: &str) -> String {
        format!("http://{user_info}@{}", self.authority())
    }

    pub fn behave(&self, conduct: Conduct) {
        *locked(&self.shared.conduct) = conduct;
    }

    /// Returns the requests for tunnels so far.
    pub fn requests(&self) -> Vec<TunnelRequest> {
        locked(&self.shared.requests).clone()
    }

    /// Cuts all tunnels and closes the listener.
    pub fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        for socket in locked(&self.shared.sockets).take().iter().flatten() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // Wakes the accept, which then finds that it is over.
        let _ = TcpStream::connect(self.port.address());
        accepting.join().expect("the accepting thread does not panic");
    }

    /// Listens again, on the same port.
    pub fn resume(&mut self) {
        *locked(&self.shared.sockets) = Some(Vec::new());
        let (listener, shared) = (self.port.listen(), Arc::clone(&self.shared));
        self.accepting = Some(thread::spawn(move || accept_all(&listener, &shared)));
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept() {
        if !shared.keep(&socket) {
            return;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || serve(socket, &shared));
    }
}

impl Shared {
    /// Remembers a socket for the stop; false once the proxy has been stopped.
    fn keep(&self, socket: &TcpStream) -> bool {
        let mut sockets = locked(&self.sockets);
        let Some(sockets) = &mut *sockets else { return false };
        sockets.push(socket.try_clone().expect("a descriptor"));
        true
    }
}

fn serve(mut socket: TcpStream, shared: &Shared) {
    let _ = socket.set_nodelay(true);
    let Some(request) = read_request(&mut socket) else { return };
    locked(&shared.requests).push(request.clone());
    let conduct = locked(&shared.conduct).clone();
    let upstream = match conduct {
        Conduct::TunnelTo(upstream) => upstream,
        Conduct::TunnelFor(upstream, wanted) if request.authorization.as_ref() == Some(&wanted) => upstream,
        Conduct::TunnelFor(..) => {
            let refusal =
                "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
            return close_with(socket, refusal);
        }
        Conduct::Answer(answer) => return close_with(socket, &answer),
        Conduct::Hang => return drop(socket.read(&mut [0])),
    };
    let mut upstream = TcpStream::connect(upstream).expect("the upstream listens");
    if !shared.keep(&upstream) || socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").is_err() {
        return;
    }
    let (mut from_gateway, mut to_upstream) = (clone(&socket), clone(&upstream));
    thread::spawn(move || relay(&mut from_gateway, &mut to_upstream));
    relay(&mut upstream, &mut socket);
}

fn clone(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a descriptor")
}

fn close_with(mut socket: TcpStream, answer: &str) {
    // The gateway may have had enough of it.
    let _ = socket.write_all(answer.as_bytes());
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read(&mut [0]);
}

/// Reads the head that the gateway sends; `None` where it has closed.
fn read_request(socket: &mut TcpStream) -> Option<TunnelRequest> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    let head = Head::parse(&head);
    let field = |name| head.field(name).map(str::to_owned);
    Some(TunnelRequest {
        line: head.start_line.clone(),
        host: field("host"),
        authorization: field("proxy-authorization"),
    })
}

/// Copies bytes as they come, and then the end.
fn relay(from: &mut TcpStream, to: &mut TcpStream) {
    let _ = std::io::copy(from, to);
    let _ = to.shutdown(Shutdown::Write);
}
