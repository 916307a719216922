//! Both directions of a socket in one task.
//!
//! Invariant: readiness is waited for without a buffer, and nothing more is read of a side while the other has not
//! taken what came: a side that reads slowly slows the other down. Either side may end its direction and still receive;
//! one that is lost ends the socket.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::io::buffer::PLAINTEXT_MAX;
use crate::io::{Buffer, Departure, Either, Phase, WriteError, clock, pause, race};
use crate::proxy::attempt::downstream_side::cut_off;
use crate::proxy::attempt::relayed::SwitchingAnswer;
use crate::proxy::downstream::Downstream;
use crate::proxy::exchange::{Exchange, Progress};
use crate::proxy::outcome::Outcome;
use crate::proxy::resources::Resources;
use crate::proxy::websocket::answers::TunnelAnswers;
use crate::proxy::websocket::ending::{CloseCause, Side, TunnelEnd};
use crate::upstream::{Connection, Received, TransportError};

/// The time in which a client may take what the upstream had sent before it was lost, such as a last Close frame.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(50);

/// One socket.
pub struct SocketRelay<'a> {
    resources: &'a Resources,
    progress: &'a Progress,
    downstream: &'a Downstream,
    connection: &'a Connection,
    answers: &'a TunnelAnswers<'a>,
    /// The last time that a byte came.
    moved: Cell<Instant>,
    request_bytes: Cell<u64>,
}

/// The end of one direction: its sender's, or that of the socket.
type DirectionEnd = Result<(), TunnelEnd>;

impl<'a> SocketRelay<'a> {
    pub fn new(
        resources: &'a Resources,
        exchange: &'a Exchange,
        downstream: &'a Downstream,
        connection: &'a Connection,
        answers: &'a TunnelAnswers<'a>,
    ) -> Self {
        let (moved, request_bytes) = (Cell::new(clock::now()), Cell::new(0));
        SocketRelay { resources, progress: &exchange.progress, downstream, connection, answers, moved, request_bytes }
    }

    /// Returns the number of bytes that went to the upstream.
    pub fn request_bytes(&self) -> u64 {
        self.request_bytes.get()
    }

    /// Tells the client of the switch, and relays until the socket ends. `early` came of the client before.
    pub async fn run(&self, early: Buffer, answer: SwitchingAnswer) -> Outcome {
        let mut up = pin!(self.relay_up(early));
        let mut down = pin!(self.relay_down(answer));
        let mut interrupted = pin!(self.interrupted());
        let mut first = None;
        let (mut is_up, mut is_down) = (true, true);
        let end = poll_fn(|context| {
            self.progress.turns.begin();
            if is_down && let Poll::Ready(ended) = down.as_mut().poll(context) {
                is_down = false;
                first.get_or_insert(Side::Upstream);
                if let Err(end) = ended {
                    return Poll::Ready(end);
                }
            }
            if is_up && let Poll::Ready(ended) = up.as_mut().poll(context) {
                is_up = false;
                first.get_or_insert(Side::Client);
                if let Err(end) = ended {
                    return Poll::Ready(end);
                }
            }
            if let (false, false, Some(first)) = (is_up, is_down, first) {
                return Poll::Ready(TunnelEnd::Closed { first });
            }
            interrupted.as_mut().poll(context)
        })
        .await;
        end.outcome(self.answers)
    }

    /// Resolves when the socket is to end whatever its directions do.
    async fn interrupted(&self) -> TunnelEnd {
        let client_lost = async {
            match &self.downstream.departure {
                Some(departure) => departure.failed(&self.downstream.stream).await,
                None => pending().await,
            }
        };
        let watch = Departure::of(self.connection);
        let upstream_lost = async {
            match &watch {
                Ok(departure) => departure.failed(self.connection).await,
                Err(_) => pending().await,
            }
            pause(LAST_WORDS_LIMIT).await;
        };
        let lost = race(client_lost, upstream_lost);
        let over = race(self.idle(), cut_off(&self.resources.lifecycle));
        match race(lost, over).await {
            Either::First(Either::First(())) => TunnelEnd::Lost(Side::Client),
            Either::First(Either::Second(())) => TunnelEnd::Lost(Side::Upstream),
            Either::Second(Either::First(())) => TunnelEnd::Idle,
            Either::Second(Either::Second(())) => TunnelEnd::CutOff,
        }
    }

    /// Resolves when nothing has come for too long.
    async fn idle(&self) {
        loop {
            let due = self.moved.get() + self.resources.timeouts.client;
            if due <= Instant::now() {
                return;
            }
            self.downstream.deadline.reached(due).await;
        }
    }

    /// Relays what the client sends, up to the end of its direction.
    async fn relay_up(&self, early: Buffer) -> DirectionEnd {
        for part in early.filled().chunks(PLAINTEXT_MAX) {
            self.send(part).await?;
        }
        drop(early);
        let stream = &self.downstream.stream;
        loop {
            self.progress.turns.take().await;
            stream.readable().await.map_err(|_| TunnelEnd::Lost(Side::Client))?;
            let mut input = Buffer::take();
            match stream.read_now(&mut input) {
                Ok(Some(0)) => break,
                Ok(Some(_)) => self.send(input.filled()).await?,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(TunnelEnd::Lost(Side::Client)),
            }
        }
        self.connection.end_sending(self.resources.timeouts.upstream_write).await;
        Ok(())
    }

    async fn send(&self, bytes: &[u8]) -> DirectionEnd {
        self.moved.set(clock::now());
        self.answers.follow_client(bytes);
        let sent = match self.connection.seal(bytes, 0) {
            Ok(sealed) => self.connection.send(sealed, self.resources.timeouts.upstream_write).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => {
                self.request_bytes.set(self.request_bytes.get() + bytes.len() as u64);
                Ok(())
            }
            Err(TransportError::Stalled) => Err(TunnelEnd::Stalled(Side::Upstream)),
            Err(_) => {
                // The other direction may bring what it had to say, and then its own end.
                pause(LAST_WORDS_LIMIT).await;
                Err(TunnelEnd::Lost(Side::Upstream))
            }
        }
    }

    /// Relays what the upstream sends, up to the end of its direction or until the socket is to end.
    async fn relay_down(&self, answer: SwitchingAnswer) -> DirectionEnd {
        self.write(answer.head).await?;
        let mut out = answer.received;
        loop {
            if !out.is_empty() {
                let border = self.answers.follow_upstream(out.filled());
                let last = self.due().zip(border);
                if let Some((_, border)) = last {
                    out.truncate(border);
                }
                let count = out.len() as u64;
                self.write(std::mem::take(&mut out)).await?;
                self.progress.response_bytes.set(self.progress.response_bytes.get() + count);
                if let Some((cause, _)) = last {
                    return self.close_for(cause).await;
                }
            }
            let due = self.due();
            if let Some(cause) = due
                && (self.answers.is_at_border() || self.answers.is_broken() || self.answers.has_closed())
            {
                return self.close_for(cause).await;
            }
            self.progress.turns.take().await;
            if due.is_some() {
                self.connection.readable().await;
            } else {
                let expiry = self.resources.lifecycle.reached(Phase::Expired);
                if let Either::Second(()) = race(self.connection.readable(), expiry).await {
                    continue;
                }
            }
            match self.connection.read_now(|bytes| out.append(bytes)) {
                Ok(None | Some(Received::Data)) => {}
                Ok(Some(Received::End { is_clean: true })) => break,
                Ok(Some(Received::End { is_clean: false })) | Err(_) => return Err(TunnelEnd::Lost(Side::Upstream)),
            }
        }
        self.downstream.stream.shutdown_write();
        Ok(())
    }

    /// Returns the end that is due at the next border.
    fn due(&self) -> Option<CloseCause> {
        if self.resources.lifecycle.phase() == Phase::Expired {
            return Some(CloseCause::Restart);
        }
        self.answers.limit_reached().map(CloseCause::Limit)
    }

    async fn write(&self, bytes: Buffer) -> DirectionEnd {
        self.moved.set(clock::now());
        match self.downstream.write(bytes, self.resources.timeouts.downstream_write).await {
            Ok(()) => Ok(()),
            Err(WriteError::Stalled) => Err(TunnelEnd::Stalled(Side::Client)),
            Err(WriteError::Io(_)) => Err(TunnelEnd::Lost(Side::Client)),
        }
    }

    /// Tells the client why the socket ends, unless it knows of an end already or would take it for a part of a frame.
    async fn close_for(&self, cause: CloseCause) -> DirectionEnd {
        let may_be_told = !self.answers.is_broken() && !self.answers.has_closed();
        if may_be_told {
            let mut close = Buffer::take_small();
            cause.append_to(&mut close);
            self.write(close).await?;
        }
        Err(cause.end())
    }
}
