//! For how long an upstream asks to be left alone: `Retry-After` (RFC 9110 §10.2.3) and `retry-after-ms`, which the
//! servers of the OpenAI API send beside it.

use std::time::{Duration, SystemTime};

use super::head::ResponseHead;

/// Returns the time that an answer asks for; `None` where it says nothing that can be read. A date is measured against
/// the answer's own `Date` (RFC 9110 §6.6.1), or `now` where it has none; one that has passed is no time at all.
pub fn retry_after(head: &ResponseHead<'_>, now: SystemTime) -> Option<Duration> {
    let field = |name: &str| {
        let field = head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok().map(str::trim_ascii)
    };
    let milliseconds = || number(field("retry-after-ms")?).map(|value| value / 1000.0);
    let seconds = || number(field("retry-after")?);
    let date = || {
        let time = |name| httpdate::parse_http_date(field(name)?).ok();
        let until = time("retry-after")?;
        // By the clock that the date is of, which may be minutes off ours.
        Some(until.duration_since(time("date").unwrap_or(now)).unwrap_or_default())
    };
    let seconds = milliseconds().or_else(seconds);
    seconds.map_or_else(date, |seconds| Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
}

/// A plain decimal number. SDKs accept fractions, so upstreams send them.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_response;

    fn asked(fields: &str) -> Option<Duration> {
        let head = format!("HTTP/1.1 429 Too Many Requests\r\n{fields}\r\n");
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        with_response(head.as_bytes(), |head| retry_after(head, now)).expect("a valid head")
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_read() {
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        for (fields, expected) in [
            ("", None),
            ("Retry-After: 2\r\n", seconds(2.0)),
            ("retry-after:  0 \r\n", seconds(0.0)),
            ("Retry-After: 1.5\r\n", seconds(1.5)),
            ("Retry-After: 20\r\nRetry-After-Ms: 1500\r\n", seconds(1.5)),
            ("Retry-After: 20\r\nRetry-After-Ms: soon\r\n", seconds(20.0)),
            ("Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n", seconds(60.0)),
            ("Retry-After: Sun, 06 Nov 1994 08:49:07 GMT\r\n", seconds(0.0)),
            ("Retry-After: Sunday, 06-Nov-94 08:49:47 GMT\r\n", seconds(10.0)),
            ("Date: Sun, 06 Nov 1994 08:59:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:59:42 GMT\r\n", seconds(5.0)),
            ("Date: Sun, 06 Nov 1994 08:59:37 GMT\r\nRetry-After: 7\r\n", seconds(7.0)),
            ("Date: soon\r\nRetry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\n", seconds(10.0)),
            ("Retry-After: -1\r\n", None),
            ("Retry-After: +1\r\n", None),
            ("Retry-After: inf\r\n", None),
            ("Retry-After: 1e9\r\n", None),
            ("Retry-After: 99999999999999999999999999\r\n", Some(Duration::MAX)),
            ("Retry-After: tomorrow\r\n", None),
            ("Retry-After: \r\n", None),
        ] {
            assert_eq!(asked(fields), expected, "{fields}");
        }
    }
}
