//! The connections of the admin listener: one request each, served concurrently, within bounds.
//!
//! Invariant: no client holds up another. When there are too many, the oldest that has not sent its request yet is
//! closed for the next (else the oldest), so that clients that hang cannot keep a health check out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;
use socket2::SockRef;

use super::address::{self, Opened};
use super::pages::Pages;
use super::reply::AdminReply;
use super::route::{AdminPage, AdminRefusal, route};
use crate::http1::head::{HeadLimits, HeadScanner, HeadSpan, StartLine, with_request};
use crate::io::deadline::next_turn;
use crate::io::{Buffer, Deadline, Either, Stream, pause, race};
use crate::proxy::guard::AccessRules;
use crate::server::shard::accept::{self, AcceptWarnings};

/// Connections that are open at once, at most: health checks and scrapers have one each.
const CONNECTIONS_MAX: usize = 32;

/// The time from the accept to the close, at most.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(5);

/// The limits of a request head, several times what a browser or a scraper sends.
const HEAD: HeadLimits =
    HeadLimits { start_line: StartLine::Request, line_bytes_max: 4 * 1024, head_bytes_max: 8 * 1024, fields_max: 64 };

/// Room for one read of a head.
const READ_ROOM: usize = 4 * 1024;

/// Bytes that are read and discarded after a request before the close, at most: a close over unread bytes would be a
/// reset (RFC 9112 §9.6).
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// The pause before a thread that cannot accept, or has no address yet, tries again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Serves until `control` ends, and then the connections that it has accepted already.
pub async fn serve(opened: Opened, mut control: monoio::net::UnixStream, pages: Rc<Pages>, rules: AccessRules) {
    let mut ended = pin!(async move { drop(control.read(vec![0; 1]).await) });
    let Either::Second(listener) = race(ended.as_mut(), listener(opened)).await else { return };
    let listener = match listener.and_then(accept::listening) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "there are no admin pages"),
    };
    let service = Rc::new(Service { pages, rules, open: RefCell::default(), number: Cell::new(0) });
    let warnings = AcceptWarnings::default();
    while let Either::Second(result) = race(ended.as_mut(), service.accept_ready(&listener)).await {
        if let Err(error) = result {
            warnings.warn(&error);
            pause(RETRY_PAUSE).await;
        }
    }
    // Closing a listener resets the connections in its queue.
    while service.accept_one(&listener).is_ok_and(|accepted| accepted) {}
    accept::shut_down(&listener);
    drop(listener);
    while !service.open.borrow().is_empty() {
        pause(RETRY_PAUSE).await;
    }
}

/// Waits until the gateway that still has the address releases it.
async fn listener(opened: Opened) -> io::Result<TcpListener> {
    let (address, process) = match opened {
        Opened::Listening(listener) => return Ok(listener),
        Opened::Held { address, process } => (address, process),
    };
    loop {
        match address::bind(address) {
            Ok(listener) => {
                tracing::info!(process, %address, "the admin address is free; the admin pages are here from now on");
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => pause(RETRY_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

struct Service {
    pages: Rc<Pages>,
    rules: AccessRules,
    /// The oldest first.
    open: RefCell<VecDeque<Rc<AdminConnection>>>,
    number: Cell<u64>,
}

/// A connection of the admin listener.
struct AdminConnection {
    number: u64,
    stream: Stream,
    /// Set when its request head is complete, and a reply is being made.
    has_asked: Cell<bool>,
}

impl Service {
    /// Waits for connections, and accepts at most [`CONNECTIONS_MAX`] of them.
    async fn accept_ready(self: &Rc<Self>, listener: &monoio::net::TcpListener) -> io::Result<()> {
        listener.readable(false).await?;
        for _ in 0..CONNECTIONS_MAX {
            if !self.accept_one(listener)? {
                return Ok(());
            }
        }
        // Those that were accepted come first.
        next_turn().await;
        Ok(())
    }

    /// Accepts one connection; false when none waits.
    fn accept_one(self: &Rc<Self>, listener: &monoio::net::TcpListener) -> io::Result<bool> {
        let Some(socket) = accept::accept(listener, true)? else { return Ok(false) };
        let stream = Stream::new(TcpStream::from_std(socket.into())?);
        let number = self.number.get();
        self.number.set(number + 1);
        let connection = Rc::new(AdminConnection { number, stream, has_asked: Cell::new(false) });
        self.make_room();
        self.open.borrow_mut().push_back(connection.clone());
        let service = self.clone();
        monoio::spawn(async move {
            // A client that is too slow gets no reply: it would be too slow to read it.
            let _ = Deadline::default().within(EXCHANGE_LIMIT, service.exchange(&connection)).await;
            service.open.borrow_mut().retain(|other| other.number != number);
        });
        Ok(true)
    }

    /// Ends the oldest connection if there are too many, preferably one that has not sent its request yet.
    fn make_room(&self) {
        let mut open = self.open.borrow_mut();
        if open.len() < CONNECTIONS_MAX {
            return;
        }
        let silent = open.iter().position(|connection| !connection.has_asked.get());
        if let Some(connection) = open.remove(silent.unwrap_or(0)) {
            end(&connection.stream);
        }
    }

    async fn exchange(&self, AdminConnection { stream, has_asked, .. }: &AdminConnection) {
        let (reply, is_head) = match read_request(stream).await {
            Ok(Some((input, span))) => {
                has_asked.set(true);
                let head = &input.filled()[span.start..span.end];
                let routed = with_request(head, |head| (route(head, &self.rules), head.method == "HEAD"));
                match routed.map_err(AdminRefusal::from) {
                    Ok((Ok(page), is_head)) => (self.page(page).await, is_head),
                    Ok((Err(refusal), is_head)) => (refusal.into(), is_head),
                    Err(refusal) => (refusal.into(), false),
                }
            }
            Ok(None) => return,
            Err(refusal) => (refusal.into(), false),
        };
        let mut out = Buffer::take();
        reply.write(out.tail(), is_head);
        let progress = Deadline::default();
        if stream.write_all(out, &progress, EXCHANGE_LIMIT).await.0.is_ok() {
            stream.shutdown_write();
            linger(stream).await;
        }
    }

    /// Makes a page. Boxed: the task of a connection would else be as large as the largest page's future, all its life.
    fn page(&self, page: AdminPage) -> std::pin::Pin<Box<dyn Future<Output = AdminReply> + '_>> {
        match page {
            AdminPage::Health => Box::pin(self.pages.health()),
            AdminPage::Readiness => Box::pin(std::future::ready(self.pages.readiness())),
            AdminPage::Metrics => Box::pin(self.pages.metrics()),
            AdminPage::State => Box::pin(self.pages.state()),
        }
    }
}

/// Shuts both directions down, which ends every wait of its task at once.
fn end(stream: &Stream) {
    // SAFETY: the descriptor is open for as long as `stream` is.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
}

/// Reads a request head; `None` if the client has closed before it was complete.
async fn read_request(stream: &Stream) -> Result<Option<(Buffer, HeadSpan)>, AdminRefusal> {
    let mut scanner = HeadScanner::default();
    let mut input = Buffer::take();
    loop {
        if let Some(span) = scanner.scan(input.filled(), &HEAD).map_err(AdminRefusal::from)? {
            return Ok(Some((input, span)));
        }
        input.reserve(READ_ROOM);
        let (result, filled) = stream.read(input).await;
        input = filled;
        if !result.is_ok_and(|count| count > 0) {
            return Ok(None);
        }
    }
}

/// Reads and discards until the client has closed too.
async fn linger(stream: &Stream) {
    let mut discarded = 0;
    let mut input = Buffer::take();
    while discarded < LINGER_BYTES_MAX {
        input.clear();
        input.reserve(READ_ROOM);
        let (result, filled) = stream.read(input).await;
        input = filled;
        match result {
            Ok(count @ 1..) => discarded += count,
            Ok(0) | Err(_) => return,
        }
    }
}
