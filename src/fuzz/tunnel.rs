//! The answer of a proxy that is asked for a tunnel, as it comes.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::sockets::{SocketRuntime, pair, stream, unread_bytes};
use crate::io::deadline::next_turn;
use crate::io::{Either, race};
use crate::upstream::{ProxyFault, Tunnel};

thread_local! {
    static RUNTIME: SocketRuntime = SocketRuntime::start();
}

/// The result of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVerdict {
    Open,
    Closed,
    Malformed(&'static str),
    Refused(u16),
    Failed(u16),
}

/// Asks for a tunnel at a proxy that answers in these parts, each of which is read before the next is sent, and then
/// closes. Returns the result, what the proxy was asked, and how many bytes of its answer were left for the upstream.
pub fn open_tunnel(parts: &[&[u8]]) -> (ProxyVerdict, Vec<u8>, usize) {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (own, mut proxy) = pair();
            let watch = own.try_clone().expect("a descriptor");
            let own = stream(own);
            let answer = async {
                for part in parts {
                    let mut rest = *part;
                    while !rest.is_empty() {
                        rest = &rest[proxy.write(rest).unwrap_or(0)..];
                        while unread_bytes(&watch) > 0 {
                            next_turn().await;
                        }
                    }
                }
                let _ = proxy.shutdown(Shutdown::Write);
                std::future::pending::<()>().await;
            };
            let opened = match race(Box::pin(Tunnel::to("flow.test", 443, None).open(&own)), Box::pin(answer)).await {
                Either::First(opened) => opened,
                Either::Second(()) => unreachable!("it waits for the other"),
            };
            let left = unread_bytes(&watch);
            let mut asked = vec![0; 1024];
            let count = proxy.read(&mut asked).expect("it was asked");
            asked.truncate(count);
            (ProxyVerdict::of(opened), asked, left)
        })
    })
}

impl ProxyVerdict {
    fn of(opened: Result<(), ProxyFault>) -> Self {
        match opened {
            Ok(()) => ProxyVerdict::Open,
            Err(ProxyFault::Closed) => ProxyVerdict::Closed,
            Err(ProxyFault::Malformed(what)) => ProxyVerdict::Malformed(what),
            Err(ProxyFault::Refused { status }) => ProxyVerdict::Refused(status),
            Err(ProxyFault::Failed { status }) => ProxyVerdict::Failed(status),
            Err(fault @ (ProxyFault::Unresolved | ProxyFault::Tcp(_))) => unreachable!("it is connected: {fault}"),
        }
    }
}
