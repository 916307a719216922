//! The I/O driver of a shard: io_uring with the best flags that the kernel takes, else epoll.
//!
//! monoio's own choice probes with default flags only, so the sets of flags are tried here, the best first. A runtime
//! has to be built on the thread that runs it: a ring that was made on another never makes progress.

use std::fmt;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::config::IoDriver;

/// The driver that a shard runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, with a description of its flags.
    Uring(&'static str),
    /// epoll, as configured.
    Epoll,
    /// epoll, because io_uring was refused.
    EpollFallback(RingRefusal),
}

impl Driver {
    /// Returns the worse of two shards' drivers, which is the one to report: the limit on locked memory can refuse a
    /// ring to one shard and not to the other.
    pub fn or_worse(self, other: Driver) -> Driver {
        if matches!(self, Driver::EpollFallback(_)) { self } else { other }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Driver::Uring(flags) => write!(formatter, "io_uring ({flags})"),
            Driver::Epoll => formatter.write_str("epoll"),
            Driver::EpollFallback(why) => write!(formatter, "epoll (io_uring was refused: {why})"),
        }
    }
}

/// The reason why there is no ring, with its usual cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingRefusal {
    error: String,
    cause: &'static str,
}

impl From<&io::Error> for RingRefusal {
    fn from(error: &io::Error) -> Self {
        let cause = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                ", as by a container's seccomp profile (deploy/seccomp.json is one that allows it) or the sysctl \
                 kernel.io_uring_disabled"
            }
            Some(libc::ENOSYS) => {
                ", as by a kernel without it or a container's seccomp profile (deploy/seccomp.json is one that allows it)"
            }
            // A ring counts as locked memory of its user before Linux 5.12, and again since 6.14.
            Some(libc::ENOMEM) => ", as where memory is short or the limit on locked memory is low (ulimit -l)",
            _ => "",
        };
        RingRefusal { error: error.to_string(), cause }
    }
}

impl fmt::Display for RingRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.error, self.cause)
    }
}

/// A runtime on one of the two drivers.
pub enum Runtime {
    Uring(monoio::Runtime<IoUringDriver>),
    Epoll(monoio::Runtime<LegacyDriver>),
}

impl Runtime {
    /// Builds the best runtime that `wanted` allows, on this thread.
    ///
    /// # Errors
    /// io_uring is configured and was refused, or epoll cannot be set up.
    pub fn build(wanted: IoDriver) -> io::Result<(Runtime, Driver)> {
        match wanted {
            IoDriver::Uring => uring(),
            IoDriver::Epoll => epoll().map(|runtime| (runtime, Driver::Epoll)),
            IoDriver::Auto => uring().or_else(|error| Ok((epoll()?, Driver::EpollFallback(RingRefusal::from(&error))))),
        }
    }

    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Runtime::Uring(runtime) => runtime.block_on(future),
            Runtime::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

fn uring() -> io::Result<(Runtime, Driver)> {
    type Flags = fn(&mut io_uring::Builder);
    const LADDER: [(&str, Flags); 3] = [
        // Linux 6.1: completions are handled when the shard asks for them, not by interrupting it.
        ("single issuer, deferred task work", |ring| {
            ring.setup_single_issuer().setup_defer_taskrun();
        }),
        // Linux 5.19: no inter-processor interrupt for a completion.
        ("cooperative task work", |ring| {
            ring.setup_coop_taskrun();
        }),
        ("default flags", |_| {}),
    ];
    let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
    for (name, set_flags) in LADDER {
        let mut ring = io_uring::IoUring::builder();
        set_flags(&mut ring);
        match RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).build() {
            Ok(runtime) => return Ok((Runtime::Uring(runtime), Driver::Uring(name))),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn epoll() -> io::Result<Runtime> {
    Ok(Runtime::Epoll(RuntimeBuilder::<LegacyDriver>::new().build()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(errno: i32) -> RingRefusal {
        RingRefusal::from(&io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn of_several_shards_the_one_that_fell_back_is_reported() {
        let ring = Driver::Uring("default flags");
        let fallback = Driver::EpollFallback(refusal(libc::ENOMEM));
        assert_eq!(ring.clone().or_worse(fallback.clone()), fallback);
        assert_eq!(fallback.clone().or_worse(ring.clone()), fallback);
        assert_eq!(ring.clone().or_worse(ring.clone()), ring);
    }

    #[test]
    fn a_refusal_names_its_usual_cause() {
        for (errno, said) in [
            (libc::EPERM, ["not permitted", "seccomp profile (deploy/seccomp.json", "kernel.io_uring_disabled"]),
            (libc::ENOSYS, ["not implemented", "seccomp profile (deploy/seccomp.json", "a kernel without it"]),
            (libc::ENOMEM, ["Cannot allocate memory", "limit on locked memory", "ulimit -l"]),
            (libc::EMFILE, ["Too many open files", "", ""]),
        ] {
            let refusal = refusal(errno).to_string();
            assert!(said.iter().all(|part| refusal.contains(part)), "{refusal}");
        }
    }
}
