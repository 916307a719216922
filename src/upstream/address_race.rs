//! TCP connects to several addresses, raced as RFC 8305 says.
//!
//! Invariant: of the tries that were started, the first that succeeds is kept and all others are closed.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use monoio::net::TcpStream;

use super::addresses::Tries;
use crate::io::{Deadline, Stream};

/// Time given to one address before the next is tried too (RFC 8305 §5 "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

type Try = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)>>>;

/// Connects to the `remaining` addresses one after the other, each [`ATTEMPT_DELAY`] after the one before or at once
/// when all that were started have failed. The winner and those that failed are taken out of `remaining`.
///
/// # Errors
/// The error of the last address, when all have failed.
pub async fn race_addresses(remaining: &mut Vec<SocketAddr>, tries: &Tries<'_>) -> io::Result<(SocketAddr, Stream)> {
    let mut waiting = remaining.clone().into_iter();
    let mut running: Vec<Try> = Vec::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let pace = Deadline::default();
    loop {
        let next_start = waiting.next().map(|address| {
            tries.begin(address);
            running.push(Box::pin(async move { (address, connect(address).await) }));
            Instant::now() + ATTEMPT_DELAY
        });
        if running.is_empty() {
            return Err(last_error);
        }
        while !running.is_empty() {
            let ended = match next_start {
                Some(next_start) => pace.before(next_start, first_of(&mut running)).await,
                None => Ok(first_of(&mut running).await),
            };
            let Ok((address, result)) = ended else { break };
            remaining.retain(|other| *other != address);
            match result {
                Ok(tcp) => {
                    tries.go_on_with(address);
                    return Ok((address, Stream::new(tcp)));
                }
                Err(error) => {
                    tries.fail(address);
                    last_error = error;
                }
            }
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect_addr(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Returns the result of the first try that ends, which is then removed.
async fn first_of<T>(running: &mut Vec<Pin<Box<dyn Future<Output = T>>>>) -> T {
    poll_fn(|context| {
        for place in 0..running.len() {
            if let Poll::Ready(output) = running[place].as_mut().poll(context) {
                drop(running.swap_remove(place));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::super::addresses::Addresses;
    use super::*;
    use crate::io::deadline::on_a_shard;

    /// An address where the kernel accepts, and nothing answers.
    pub fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that is taken, so that nobody else gets it, and where nobody listens.
    pub fn refusing() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    /// Time that nothing takes here, even on a busy machine.
    const ENOUGH: Duration = Duration::from_secs(30);

    /// An address whose queue is full, so that the kernel drops what comes. Open as long as the sockets are.
    fn silent() -> (Vec<Socket>, SocketAddr) {
        const FILLERS: usize = 4;
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for number in 0..FILLERS {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            // The first one blocks until it is queued: then the queue is full for all others.
            filler.set_nonblocking(number > 0).unwrap();
            let _ = filler.connect(&address);
            sockets.push(filler);
        }
        (sockets, address.as_socket().unwrap())
    }

    #[test]
    fn addresses_that_refuse_cost_no_wait_and_are_taken_out() {
        let (_listener, good) = listening();
        let ((_socket, refusing), (_other_socket, other)) = (refusing(), self::refusing());
        on_a_shard(async {
            let due = Instant::now() + ENOUGH;
            // A busy machine may delay one race, but a wait would delay them all.
            loop {
                let addresses = Addresses::default();
                let mut remaining = vec![refusing, good, other];
                let start = Instant::now();
                let (winner, _) = race_addresses(&mut remaining, &addresses.begin()).await.expect("a winner");
                let took = start.elapsed();
                assert_eq!(winner, good);
                assert_eq!(addresses.in_order(&[refusing, good]), [good, refusing]);
                if took < ATTEMPT_DELAY {
                    return assert_eq!(remaining, [other]);
                }
                assert!(Instant::now() < due, "no race of many took less than a wait: {took:?}");
            }
        });
    }

    #[test]
    fn an_address_that_says_nothing_gets_250_ms_and_loses_without_blame() {
        let (_listener, good) = listening();
        let (_sockets, silent) = silent();
        on_a_shard(async {
            let addresses = Addresses::default();
            let mut remaining = vec![silent, good];
            let start = Instant::now();
            let (winner, _) = race_addresses(&mut remaining, &addresses.begin()).await.expect("a winner");
            // The system gives such an address up after minutes.
            let waited = start.elapsed();
            assert!((ATTEMPT_DELAY..ENOUGH).contains(&waited), "{waited:?}");
            assert_eq!((winner, remaining), (good, vec![silent]));
            addresses.distrust_abandoned();
            assert_eq!(addresses.in_order(&[silent, good]), [silent, good], "the winner is under way, nobody else");
        });
    }

    #[test]
    fn all_that_are_under_way_when_it_is_given_up_are_blamed() {
        let (_sockets, silent) = silent();
        let (_other_sockets, other) = self::silent();
        let (_socket, untried) = refusing();
        on_a_shard(async {
            let addresses = Addresses::default();
            let tries = addresses.begin();
            let mut remaining = vec![silent, other, untried];
            let start = Instant::now();
            let mut race = Box::pin(race_addresses(&mut remaining, &tries));
            // Up to the poll that begins with the second one, however late it comes: the third has its turn after that.
            let given_up = poll_fn(|context| {
                let is_seconds_turn = start.elapsed() >= ATTEMPT_DELAY;
                assert!(race.as_mut().poll(context).is_pending(), "nobody answers");
                if is_seconds_turn { Poll::Ready(()) } else { Poll::Pending }
            });
            assert!(Deadline::default().within(ENOUGH, given_up).await.is_ok(), "the second one is never tried");
            drop(race);
            drop(tries);
            addresses.distrust_abandoned();
            assert_eq!(addresses.in_order(&[silent, other, untried]), [untried, other, silent]);
        });
    }

    #[test]
    fn when_all_fail_the_last_one_tells() {
        on_a_shard(async {
            let addresses = Addresses::default();
            let ((_socket, refusing), (_other_socket, other)) = (refusing(), self::refusing());
            let mut remaining = vec![refusing, other];
            let error = race_addresses(&mut remaining, &addresses.begin()).await.err().expect("all refuse");
            assert_eq!((error.kind(), remaining.len()), (io::ErrorKind::ConnectionRefused, 0));
            let error = race_addresses(&mut remaining, &addresses.begin()).await.err().expect("none is left");
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        });
    }
}
