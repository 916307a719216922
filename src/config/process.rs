//! The CPUs and file descriptors that this process may use, the view that others have of its memory, and the sources of its
//! look-ups.
//!
//! The only part of `config` that asks the system. If the system does not tell, there is a default.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// The limit that is assumed for "unlimited": Linux's default of `fs.nr_open`, the maximum for one process.
const DESCRIPTORS_WHEN_UNLIMITED: u64 = 1024 * 1024;

/// The variable that, as `1`, leaves core dumps and debuggers possible.
const ALLOW_CORE_VARIABLE: &str = "FLOW_URING_ALLOW_CORE";

/// Lets the system write no core dump of this process, nor other processes of the same user read its memory and its
/// environment (prctl(2), `PR_SET_DUMPABLE`): both hold secrets. Not by `RLIMIT_CORE`, which does not count where a
/// program takes the dumps (core(5)). Not if `FLOW_URING_ALLOW_CORE` is `1`.
///
/// # Errors
/// That of the system: a filter of system calls may forbid it.
pub fn forbid_core_dumps() -> io::Result<()> {
    if std::env::var_os(ALLOW_CORE_VARIABLE).is_some_and(|value| value == "1") {
        return Ok(());
    }
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Keeps look-ups of hosts to `/etc/hosts` and DNS in a program that has glibc within it, and changes nothing in another.
/// To be called before there are threads.
///
/// `getaddrinfo` loads what else `/etc/nsswitch.conf` names (`mdns4_minimal`, `resolve`) as shared objects, which bring the
/// machine's own C library: two in one process crash (<https://github.com/rust-lang/rust/issues/100711>). The two that are
/// left are within glibc since 2.34.
pub fn keep_names_to_hosts_and_dns() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        use std::ffi::{c_char, c_int};
        unsafe extern "C" {
            /// Declared in nss.h.
            fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
        }
        // SAFETY: both end with a NUL and outlive the call, which copies them; no other thread looks anything up.
        let status = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
        assert_eq!(status, 0, "glibc knows these sources");
    }
}

/// The default number of shards: one for each CPU that this process may use.
///
/// The affinity mask and the cgroup quota are both limits, so the smaller counts.
pub fn default_shards() -> NonZeroUsize {
    let by_mask = core_affinity::get_core_ids().and_then(|cores| NonZeroUsize::new(cores.len()));
    let by_quota = thread::available_parallelism().ok();
    match (by_mask, by_quota) {
        (Some(mask), Some(quota)) => mask.min(quota),
        (Some(count), None) | (None, Some(count)) => count,
        (None, None) => NonZeroUsize::MIN,
    }
}

/// The current soft `RLIMIT_NOFILE`, in descriptors.
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS_WHEN_UNLIMITED)
}

/// Raises the soft `RLIMIT_NOFILE` to the hard one and returns the limit then in force, in descriptors.
///
/// The soft limit is 1024 on most systems for the sake of programs that use `select`; this one does not.
/// A refusal is not an error: the limit in force is returned.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
    descriptors_max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_default_to_no_more_than_the_cpus_of_the_mask_and_of_the_quota() {
        let shards = default_shards().get();
        assert!(shards >= 1);
        assert!(shards <= core_affinity::get_core_ids().map_or(usize::MAX, |cores| cores.len()));
        assert!(shards <= thread::available_parallelism().map_or(usize::MAX, NonZeroUsize::get));
    }

    #[test]
    fn raising_brings_the_soft_limit_to_the_hard_one() {
        let raised = raise_descriptor_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(raised, limit.maximum.unwrap_or(DESCRIPTORS_WHEN_UNLIMITED));
    }
}
