//! The metrics of the process, under the names that Prometheus' client libraries have for them.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::exposition::{Exposition, plain};
use crate::config::descriptors_max;

/// Writes them; `started` is the time since the beginning of 1970. What the kernel does not tell is left out.
pub fn write(page: &mut Exposition, started: Duration) {
    page.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since the beginning of 1970.",
        plain(started.as_secs_f64()),
    );
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    page.counter(
        "process_cpu_seconds_total",
        "Time that all threads of the process have spent on CPUs.",
        plain(spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9),
    );
    page.gauge(
        "process_resident_memory_bytes",
        "Memory of the process that is in RAM.",
        resident_bytes().into_iter().flat_map(|bytes| plain(bytes as f64)),
    );
    page.gauge(
        "process_open_fds",
        "File descriptors that the process has open.",
        open_descriptors().into_iter().flat_map(|count| plain(count as f64)),
    );
    page.gauge("process_max_fds", "File descriptors that the process may have open.", plain(descriptors_max() as f64));
}

/// Reads `VmRSS` (proc(5)), which is in KiB.
#[expect(clippy::disallowed_methods, reason = "runs on the admin thread, and proc is no disk")]
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[expect(clippy::disallowed_methods, reason = "runs on the admin thread, and proc is no disk")]
fn open_descriptors() -> Option<usize> {
    // One of them is open for the listing itself.
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1))
}
