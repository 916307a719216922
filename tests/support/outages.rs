//! Upstreams that fail: one that can be restarted on its port, and one whose connects hang.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::sockets::TcpSocket;

/// A port that is bound without a listener, so that no other process takes it.
pub struct HeldPort {
    _socket: Socket,
    address: SocketAddr,
}

impl HeldPort {
    pub fn reserve() -> Self {
        let socket = reusable_socket();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
        Self { _socket: socket, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, super::BASE_PATH)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn listen(&self) -> TcpListener {
        let socket = reusable_socket();
        socket.bind(&self.address.into()).expect("its own port");
        socket.listen(1024).expect("nobody listens there");
        socket.into()
    }
}

fn reusable_socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a TCP socket");
    socket
}

/// An upstream that answers each request after a short while, until it is stopped with all its connections, also those
/// with a request under way; it comes back on the same port.
pub struct RestartableUpstream {
    port: HeldPort,
    served: Arc<AtomicUsize>,
    running: Option<Running>,
}

struct Running {
    accepting: JoinHandle<()>,
    state: Arc<State>,
}

struct State {
    /// The socket of each connection; `None` once the upstream has been stopped.
    sockets: Mutex<Option<Vec<TcpStream>>>,
    stopped: Condvar,
}

impl State {
    /// Waits for as long as an answer takes; false where the upstream was stopped meanwhile.
    fn think(&self) -> bool {
        const THINKING: Duration = Duration::from_millis(15);
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stopped.wait_timeout_while(sockets, THINKING, |sockets| sockets.is_some());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }
}

impl RestartableUpstream {
    pub fn start() -> Self {
        let mut upstream = Self { port: HeldPort::reserve(), served: Arc::default(), running: None };
        upstream.resume();
        upstream
    }

    pub fn url(&self) -> String {
        self.port.url()
    }

    /// Returns the number of requests that were answered.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// Resets all connections and closes the listener.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        let sockets = running.state.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
        for socket in sockets.iter().flatten() {
            // Its thread reads the end and closes, which sends the reset.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Read);
        }
        drop(sockets);
        running.state.stopped.notify_all();
        // Wakes the accept, which then finds that it is over.
        let _ = TcpStream::connect(self.port.address);
        running.accepting.join().expect("the accepting thread does not panic");
    }

    /// Listens again.
    pub fn resume(&mut self) {
        let state = Arc::new(State { sockets: Mutex::new(Some(Vec::new())), stopped: Condvar::new() });
        let (listener, served) = (self.port.listen(), Arc::clone(&self.served));
        let accepting_state = Arc::clone(&state);
        let accepting = thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let mut sockets = accepting_state.sockets.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(sockets) = &mut *sockets else { return };
                sockets.push(socket.try_clone().expect("a descriptor"));
                let (served, state) = (Arc::clone(&served), Arc::clone(&accepting_state));
                thread::spawn(move || serve(socket, &served, &state));
            }
        });
        self.running = Some(Running { accepting, state });
    }
}

impl Drop for RestartableUpstream {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers each request of one connection; bodies are framed by length.
fn serve(mut socket: TcpStream, served: &AtomicUsize, state: &State) {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (mut received, mut part) = (Vec::new(), [0; 4096]);
    let _ = socket.set_nodelay(true);
    while let Ok(count @ 1..) = socket.read(&mut part) {
        received.extend_from_slice(&part[..count]);
        while let Some(end) = memchr::memmem::find(&received, b"\r\n\r\n") {
            let head = super::Head::parse(&received[..end + 4]);
            let length = end + 4 + head.content_length().unwrap_or(0);
            if received.len() < length {
                break;
            }
            received.drain(..length);
            if !state.think() {
                return;
            }
            served.fetch_add(1, Ordering::SeqCst);
            if socket.write_all(OK).is_err() {
                return;
            }
        }
    }
}

/// A listener whose queue is full: a connect to it hangs, as to a host that is down.
pub struct BlackHole {
    _listener: Socket,
    address: SocketAddr,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
        let mut queued = Vec::new();
        // With a queue of 0 Linux still takes one; the next is not answered.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queued.push(stream);
            assert!(queued.len() < 16, "the queue does not fill up");
        }
        Self { _listener: listener, address, _queued: queued }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, super::BASE_PATH)
    }

    /// Returns the number of connects to it that hang.
    pub fn pending_connects(&self) -> usize {
        let hangs = |socket: &&TcpSocket| socket.remote_port == self.address.port() && socket.is_connecting();
        TcpSocket::all().iter().filter(hangs).count()
    }
}
