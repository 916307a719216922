//! The running gateway's side of a take-over: it lends its listening sockets to a successor.
//!
//! A thread of its own talks to successors, one after the other. Invariant: until a successor has sent that it is
//! ready, nothing that it does or sends changes this gateway.

use std::fs::Metadata;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::conversation::Conversation;
use super::conversation_error::ConversationError;
use super::lending::Lending;
use super::rendezvous::{self, RendezvousError};
use super::successor::Successor;
use crate::credentials::Owners;
use crate::server::shard::listener;
use crate::server::supervisor::event::SupervisorEvent;

/// The pause before a thread that cannot accept tries again: it lacks descriptors, and that lasts.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The Unix socket that successors connect to. When it is dropped, it is closed and its file removed.
pub struct HandOver {
    listener: UnixListener,
    path: PathBuf,
    /// Tells the file from one by which another gateway replaces it.
    identity: (u64, u64),
    lending: Arc<Lending>,
    is_of_successor: bool,
}

impl HandOver {
    /// Offers `sockets` to successors; when one serves on them, [`SupervisorEvent::Successor`] is sent.
    ///
    /// # Errors
    /// The Unix socket cannot be set up.
    pub fn offer(
        path: &Path,
        sockets: Vec<TcpListener>,
        owners: Arc<Owners>,
        events: Sender<SupervisorEvent>,
    ) -> Result<Self, RendezvousError> {
        let listener = rendezvous::listen(path)?;
        let failed = |error| RendezvousError::Io { path: path.to_owned(), error };
        let identity = std::fs::symlink_metadata(path).map(|metadata| identity_of(&metadata)).map_err(failed)?;
        let hand_over =
            HandOver { listener, path: path.to_owned(), identity, lending: Arc::default(), is_of_successor: false };
        let listener = hand_over.listener.try_clone().map_err(failed)?;
        let lender = Lender { sockets, owners, events, lending: hand_over.lending.clone() };
        let body = move || lender.serve_successors(&listener);
        thread::Builder::new().name("flow-hand-over".into()).spawn(body).map_err(failed)?;
        Ok(hand_over)
    }

    /// Stops the lending. Returns false if a successor has the sockets already, and may be about to serve.
    pub fn withdraw(&self) -> bool {
        self.lending.withdraw()
    }

    /// Leaves the file to the successor, which replaces it by its own.
    pub fn leave(mut self) {
        self.is_of_successor = true;
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        // Ends the thread's wait, and refuses further connections.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let is_ours =
            || std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity_of(&metadata) == self.identity);
        if !self.is_of_successor && is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The thread that talks to successors.
struct Lender {
    sockets: Vec<TcpListener>,
    owners: Arc<Owners>,
    events: Sender<SupervisorEvent>,
    lending: Arc<Lending>,
}

impl Lender {
    /// Serves successors one after the other, until one has taken over or the socket is shut down.
    #[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
    fn serve_successors(&self, listener: &UnixListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let has_taken_over = self.serve(stream);
                    self.lending.end();
                    if has_taken_over {
                        return;
                    }
                }
                // The result of an accept on a socket that is shut down (unix(7)).
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot talk to a gateway that wants to take over");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Talks to one successor. Returns whether it has taken over.
    fn serve(&self, stream: UnixStream) -> bool {
        let mut conversation = match Conversation::over(stream) {
            Ok(conversation) => conversation,
            Err(error) => {
                tracing::warn!(%error, "a take-over was refused");
                return false;
            }
        };
        let process = conversation.process;
        let lent = self.lend(&mut conversation);
        if let Err(error) = &lent {
            tracing::warn!(%error, process, "a take-over came to nothing; this gateway goes on");
            // A failure means that the successor has gone.
            let _ = conversation.send_refusal();
            listener::restore_queues(&self.sockets);
        }
        lent.is_ok()
    }

    /// Lends the sockets. Returns when the successor has them and this gateway accepts no more, or has ended.
    fn lend(&self, conversation: &mut Conversation) -> Result<(), ConversationError> {
        let process = conversation.process;
        conversation.receive_hello()?;
        if !self.lending.begin() {
            return Err(ConversationError::Refused);
        }
        conversation.send_sockets(&self.sockets)?;
        let sockets = self.sockets.len();
        tracing::info!(process, sockets, "another gateway has the listening sockets too and is starting");
        conversation.receive_ready()?;
        let (successor, grant) = Successor::new(process);
        // Without a main thread the event is dropped, which the grant reports below.
        let _ = self.events.send(SupervisorEvent::Successor(successor));
        match grant.wait() {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return Err(ConversationError::Refused),
            // The main thread has ended: a stop signal came after the sockets were lent, they were left to the
            // successor, and no exchange was open. A refusal would end the successor too, and then no gateway serves.
            // From the end of the stream it sees that this process is gone, and checks that the sockets still listen.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        // Before the shards get their orders: a successor that has exited since it was ready takes nothing over.
        conversation.send_farewell()?;
        // Before the grant is finished: then this process may end at any time.
        let records = self.owners.records(Instant::now());
        if !records.is_empty()
            && let Err(error) = conversation.send_owners(&records)
        {
            tracing::debug!(%error, process, "the successor does not know the owners of all stored objects");
        }
        grant.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_successor_that_is_ready_when_the_main_thread_has_ended_is_not_refused() {
        let (events, main_thread) = channel();
        drop(main_thread);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let lender = Lender { sockets: vec![listener], owners: Arc::default(), events, lending: Arc::default() };
        let (running, successor) = UnixStream::pair().expect("two sockets");
        let successor = thread::spawn(move || {
            let mut conversation = Conversation::over(successor)?;
            conversation.send_hello()?;
            let sockets = conversation.receive_sockets()?;
            conversation.send_ready()?;
            Ok::<_, ConversationError>((sockets.len(), conversation.receive_farewell()))
        });
        assert!(lender.serve(running), "the thread has no more to do");
        let received = successor.join().expect("no panic");
        assert!(matches!(received, Ok((1, Err(ConversationError::Closed)))), "{received:?}");
    }
}
