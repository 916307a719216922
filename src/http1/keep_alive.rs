//! For how long an upstream keeps an idle connection: the `timeout` parameter of `Keep-Alive` (RFC 2068 §19.7.1.1).

use std::time::Duration;

use super::fields::{list_members, trim_whitespace};

/// Time by which a connection is given up before the upstream closes it: a request must not cross its close.
const MARGIN_SECONDS: u64 = 1;

/// The longest rest that is taken from an upstream. Routers on the way, which say nothing, forget connections sooner.
const REST_SECONDS_MAX: u64 = 600;

/// The `Keep-Alive` fields of a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepAliveFields {
    /// The shortest that was stated.
    timeout_seconds: Option<u64>,
}

impl KeepAliveFields {
    /// Adds the parameters of one field. All but `timeout` are ignored, and so is a timeout that is no number.
    pub fn add(&mut self, value: &[u8]) {
        let stated = list_members(value).filter_map(timeout_seconds).min();
        self.timeout_seconds = self.timeout_seconds.into_iter().chain(stated).min();
    }

    /// Returns the longest rest of the connection; zero: it must not be used again.
    pub fn rest_limit(&self) -> Option<Duration> {
        let seconds = self.timeout_seconds?.saturating_sub(MARGIN_SECONDS);
        Some(Duration::from_secs(seconds.min(REST_SECONDS_MAX)))
    }
}

fn timeout_seconds(parameter: &[u8]) -> Option<u64> {
    let equals = memchr::memchr(b'=', parameter)?;
    let (name, value) = (trim_whitespace(&parameter[..equals]), trim_whitespace(&parameter[equals + 1..]));
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if !is_number || !name.eq_ignore_ascii_case(b"timeout") {
        return None;
    }
    // Too many digits for the type are a long time all the same.
    let digits = value.iter().map(|digit| u64::from(digit - b'0'));
    Some(digits.fold(0, |seconds: u64, digit| seconds.saturating_mul(10).saturating_add(digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_the_rest_and_a_second_and_what_cannot_be_read_is_no_timeout() {
        for (values, seconds) in [
            (&["timeout=5"][..], Some(4)),
            (&["timeout=5, max=100"], Some(4)),
            (&["max=100,TimeOut = 60 "], Some(59)),
            (&["timeout=2"], Some(1)),
            (&["timeout=1"], Some(0)),
            (&["timeout=0"], Some(0)),
            (&["timeout=601"], Some(600)),
            (&["timeout=602"], Some(600)),
            (&["timeout=99999999999999999999999"], Some(600)),
            (&["timeout=30, timeout=20", "timeout=25"], Some(19)),
            (&["timeout=soon", "timeout=25"], Some(24)),
            (&[], None),
            (&[""], None),
            (&["timeout"], None),
            (&["timeout="], None),
            (&["timeout=-5"], None),
            (&["timeout=+5"], None),
            (&["timeout=5.5"], None),
            (&["timeout=5s"], None),
            (&["timeout=\"5\""], None),
            (&["timeouts=5"], None),
            (&["max=5"], None),
            (&["timeout=\u{665}"], None),
        ] {
            let mut fields = KeepAliveFields::default();
            values.iter().for_each(|value| fields.add(value.as_bytes()));
            assert_eq!(fields.rest_limit(), seconds.map(Duration::from_secs), "{values:?}");
        }
    }
}
