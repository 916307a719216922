//! A hint to the processor that memory is about to be used.

/// Bytes that the processor fetches at once.
const CACHE_LINE_BYTES: usize = 64;

/// Lets the processor fetch the first `bytes` of `value` into its caches meanwhile. Only a hint: nothing is read.
#[inline]
pub fn prefetch<T>(value: &T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..bytes.min(size_of::<T>())).step_by(CACHE_LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::from_ref(value).cast::<i8>().wrapping_add(offset);
        // SAFETY: a prefetch reads nothing that the program could see, and the place is within `value`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, bytes);
}
