//! The number of heap allocations of a keep-alive exchange in the steady state on its shard, and of its readings of the
//! clock, counted in this process.
//!
//! The gateway runs on threads of the test itself, under an allocator and a clock that count on shards alone. The one test
//! here owns the process: a second would count, and stop, beside it.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flow_uring::config::{Affinity, QuotaSource, Timeouts, Trust, UpstreamConfig};
use support::{CERTIFICATES, Client, InProcess, Upstream, json};

const WARM_UP: usize = 100;
/// The questions for quotas, of which this upstream answers none: one for each credential.
const QUESTIONS: usize = 3;
/// The exchanges of one round.
const EXCHANGES: usize = 200;

const PATIENCE: Duration = Duration::from_secs(600);

const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\n\
                    Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"model\":\"small\"}";

/// The difference that a round may show, in either direction: the end of an exchange is counted with the next round.
const UNEVEN_MAX: usize = 4;

/// A connection that waits for a tenth of a second gives back what it holds, so that a busy machine adds allocations:
/// of so many rounds one must be as is known. One more for each exchange would be one more in every round.
const ROUNDS_MAX: usize = 100;

/// Readings of the clock in an exchange: one in each of its five turns, and two for its times in the log. Up to one more
/// is the shard's own: the sweeper reads it too.
const CLOCK_READINGS_MAX: usize = 8;

/// The variable that says for how many allocations a backtrace is shown.
const SHOW: &str = "FLOW_URING_TEST_SHOW_ALLOCATIONS";

/// The system's allocator, which counts what shards ask of it while [`IS_COUNTING`].
struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static CLOCK_READINGS: AtomicUsize = AtomicUsize::new(0);
/// The number of allocations whose backtrace is still to be shown.
static TO_SHOW: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_SHARD: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Returns whether this thread is a shard, by its name in the kernel; asked once a thread.
fn is_shard() -> bool {
    IS_SHARD
        .try_with(|known| {
            known.get().unwrap_or_else(|| {
                let mut name = [0_u8; 16];
                // SAFETY: PR_GET_NAME writes at most 16 bytes.
                unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
                let is_shard = name.starts_with(b"flow-shard-");
                known.set(Some(is_shard));
                is_shard
            })
        })
        .unwrap_or(false)
}

fn note(size: usize) {
    if !IS_COUNTING.load(Ordering::Relaxed) || !is_shard() {
        return;
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
    if TO_SHOW.load(Ordering::Relaxed) > 0 {
        TO_SHOW.fetch_sub(1, Ordering::Relaxed);
        // The allocations of the backtrace are not the gateway's.
        IS_SHARD.set(Some(false));
        eprintln!("{size} bytes:\n{}", std::backtrace::Backtrace::force_capture());
        IS_SHARD.set(Some(true));
    }
}

// SAFETY: everything is the system allocator's; the count beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Stands before that of the C library, through which the standard library reads the clock.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    if IS_COUNTING.load(Ordering::Relaxed) && is_shard() {
        CLOCK_READINGS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the caller's promises are passed on.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Starts the gateway whose shard is counted. A signal ends it.
fn start_gateway(upstream: &Upstream) -> InProcess {
    let mut target = UpstreamConfig::parse(&upstream.url(), "a test").expect("a URL");
    if upstream.is_tls() {
        target.trust = Trust::Pem(CERTIFICATES.authority_pem.clone());
    }
    InProcess::start(target, &["a", "b", "c"], |config| {
        // Requests without a session cost a look for one.
        config.affinity = Affinity::Session;
        // The upstream connection stays however busy the machine is; a warm one beside it would allocate too.
        config.timeouts = Timeouts { connect: PATIENCE, upstream_idle: PATIENCE, ..Timeouts::default() };
        // Asked for while it warms up, and then looked at by each request.
        config.quota = QuotaSource::Flow;
    })
}

/// The allocations and the readings of the clock in a round of exchanges.
#[derive(Debug, Clone, Copy)]
struct RoundCounts {
    allocations: usize,
    clock_readings: usize,
}

/// Counts each round of exchanges, after a warm-up, over one connection: up to the first that `is_known`.
fn count_rounds(upstream: &Upstream, is_known: impl Fn(RoundCounts) -> bool) -> Vec<RoundCounts> {
    let InProcess { port, running, .. } = start_gateway(upstream);
    let mut client = Client::connect_unrecorded(port);
    let mut exchange = |count| {
        for _ in 0..count {
            assert_eq!(client.ask(POST).status, 200);
        }
    };
    exchange(WARM_UP);
    let shown = std::env::var(SHOW).map_or(0, |count| count.parse().expect("a number"));
    TO_SHOW.store(shown, Ordering::SeqCst);
    let mut counts = Vec::new();
    while counts.len() < ROUNDS_MAX && !counts.last().is_some_and(|count| is_known(*count)) {
        COUNT.store(0, Ordering::SeqCst);
        CLOCK_READINGS.store(0, Ordering::SeqCst);
        IS_COUNTING.store(true, Ordering::SeqCst);
        exchange(EXCHANGES);
        IS_COUNTING.store(false, Ordering::SeqCst);
        counts.push(RoundCounts {
            allocations: COUNT.load(Ordering::SeqCst),
            clock_readings: CLOCK_READINGS.load(Ordering::SeqCst),
        });
    }
    assert_eq!(upstream.connections(), 1 + QUESTIONS, "the upstream connection was not kept");
    // The gateway has handlers for it from its start on, so that it stops this gateway and nothing else.
    // SAFETY: `kill` takes no pointer.
    assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGTERM) }, 0);
    running.join().expect("no panic").expect("a drain");
    counts
}

#[test]
fn a_keep_alive_exchange_allocates_and_reads_the_clock_as_often_as_is_known() {
    for (what, upstream, each) in [
        ("http", Upstream::plain(json(200, "{}")), 0),
        // Both are rustls': the ciphertext of the record that it sends, and the plaintext of the one that it receives.
        ("https", Upstream::tls(json(200, "{}")), 2),
    ] {
        let is_known = |counts: RoundCounts| {
            counts.allocations.abs_diff(each * EXCHANGES) <= UNEVEN_MAX
                && (1..=CLOCK_READINGS_MAX * EXCHANGES).contains(&counts.clock_readings)
        };
        let counts = count_rounds(&upstream, is_known);
        println!("{what}: {counts:?} in {EXCHANGES} exchanges each");
        assert!(counts.into_iter().any(is_known), "{what}: {each} allocations an exchange are known; see {SHOW}");
    }
}
