//! The admin listener: health, readiness and metrics, the live page and its API, on an address and a thread of their
//! own.
//!
//! The main thread opens the address (`address`, `holder`) and sets the `stage` of the process; the admin thread
//! accepts (`service`), decides what each request gets (`exchange`, by its `route` under the guards of `proxy::guard`,
//! and by its right to ask: `access`), asks the shards (`liveness_probe`) and writes what they counted (`pages`,
//! `metrics`, `api`), or a file of the live `page`. Invariant: no shard waits for it, nothing here waits without a
//! limit, and no page holds a secret: of a credential it knows the name.

mod access;
mod address;
mod api;
mod exchange;
mod gateway_state;
mod holder;
mod liveness_probe;
mod metrics;
mod page;
mod pages;
mod refusal;
mod reply;
mod route;
mod service;
pub mod stage;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;

use self::access::AdminAccess;
use self::exchange::Desk;
use self::gateway_state::GatewayState;
use self::pages::Pages;
use self::stage::{Audience, Stage, StageCell};
use crate::config::IoDriver;
use crate::io::{Timer, deadline};
use crate::proxy::guard::AccessRules;
use crate::proxy::guard::host::Hosts;
use crate::server::shard::driver::{Driver, Runtime};
use crate::server::shard::shared::Shared;

pub use access::token::{AdminToken, AdminTokenError};
pub use address::{Opened, open};
pub use liveness_probe::LivenessProbe;

/// The main thread's handle to the admin thread. When it is dropped, the address is released at once, and the thread
/// ends when it has answered the connections that it has accepted.
pub struct Admin {
    stage: Arc<StageCell>,
    /// Its end tells the thread to end.
    _control: UnixStream,
    /// The address of the pages, once it is bound.
    pub address: SocketAddr,
    /// The process that still has the address.
    pub held_by: Option<i32>,
    pub audience: Audience,
}

impl Admin {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread, its sockets or its timer cannot be set up.
    pub fn start(
        opened: Opened,
        shared: Arc<Shared>,
        listen: SocketAddr,
        driver: Driver,
        liveness_probe: LivenessProbe,
    ) -> io::Result<Self> {
        let (control, thread_control) = UnixStream::pair()?;
        thread_control.set_nonblocking(true)?;
        let stage = Arc::new(StageCell::default());
        let (address, held_by) = (opened.address()?, opened.held_by());
        let hosts = Hosts::of_listener(address, Vec::new(), &shared.config.access.allow_hosts);
        let hosts = hosts.map(|hosts| if address.ip().is_unspecified() { hosts.with_addresses() } else { hosts });
        let rules = AccessRules { allow_origins: Vec::new(), hosts };
        let audience = Audience::of(stage.clone());
        let parts = AdminParts { rules, address, token: shared.admin_token.clone(), audience: audience.clone() };
        let gateway =
            GatewayState { shared, listen, driver, liveness_probe, stage: stage.clone(), started: SystemTime::now() };
        let (started, reports) = sync_channel(1);
        let body = move || run(opened, thread_control, gateway, parts, &started);
        thread::Builder::new().name("flow-admin".into()).spawn(body)?;
        let ended = || Err(io::Error::other("the admin thread ended at its start"));
        reports.iter().next().unwrap_or_else(ended)?;
        Ok(Admin { stage, _control: control, address, held_by, audience })
    }

    /// Changes what `/readyz` reports.
    pub fn note(&self, stage: Stage) {
        self.stage.set(stage);
    }
}

/// The rules of access, on their way to the thread.
struct AdminParts {
    rules: AccessRules,
    address: SocketAddr,
    token: Arc<ArcSwapOption<AdminToken>>,
    audience: Audience,
}

/// Runs the thread, which reports over `started` when it can answer, or why it cannot.
fn run(
    opened: Opened,
    control: UnixStream,
    gateway: GatewayState,
    parts: AdminParts,
    started: &SyncSender<io::Result<()>>,
) {
    let (mut runtime, _) = match Runtime::build(IoDriver::Epoll) {
        Ok(built) => built,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let prepared = Timer::open().and_then(|timer| Ok((timer, monoio::net::UnixStream::from_std(control)?)));
        let (timer, control) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return drop(started.send(Err(error))),
        };
        monoio::spawn(deadline::sweep(timer));
        let _ = started.send(Ok(()));
        let pages = Rc::new(Pages::new(gateway));
        let sampled = pages.clone();
        monoio::spawn(async move { sampled.keep_history().await });
        let access = AdminAccess::new(parts.address, parts.token);
        service::serve(opened, control, Desk::new(pages, parts.rules, access, parts.audience)).await;
    });
}
