//! Retries: their number, and the delay before each.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::thread;
use std::time::Duration;

use ureq::http::HeaderMap;

use super::response_text::header;
use crate::http_date;

/// The number of transient failures after which an operation fails. A timeout, which takes long, counts twice.
pub(super) const MAX_FAILURES: u32 = 5;
/// The longest `Retry-After` that is waited for.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);
/// The same limit in units of the retry delay, normally a second, so that a shorter delay shortens the wait too.
const MAX_RETRY_AFTER_DELAYS: u32 = 120;
/// The interval at which cancellation is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The retry budget of one operation.
pub(super) struct RetryBudget<'a> {
    base_delay: Duration,
    failures_left: u32,
    failed: u32,
    is_cancelled: &'a (dyn Fn() -> bool + Send + Sync),
}

impl<'a> RetryBudget<'a> {
    pub(super) fn new(base_delay: Duration, is_cancelled: &'a (dyn Fn() -> bool + Send + Sync)) -> RetryBudget<'a> {
        RetryBudget { base_delay, failures_left: MAX_FAILURES, failed: 0, is_cancelled }
    }

    /// Waits before a retry, at least for the `Retry-After` of the server. Returns whether a retry is allowed.
    pub(super) fn wait_for_retry(&mut self, was_silent: bool, asked: Option<Duration>) -> bool {
        self.failures_left = self.failures_left.saturating_sub(if was_silent { 2 } else { 1 });
        if self.failures_left == 0 || asked.is_some_and(|asked| asked > MAX_RETRY_AFTER) {
            return false;
        }
        let own = self.base_delay.saturating_mul(1 << self.failed.min(4));
        self.failed += 1;
        self.sleep(
            asked.unwrap_or_default().min(self.base_delay.saturating_mul(MAX_RETRY_AFTER_DELAYS)).max(jitter(own)),
        );
        !(self.is_cancelled)()
    }

    /// Resets the budget after progress was made.
    pub(super) fn renew(&mut self) {
        (self.failures_left, self.failed) = (MAX_FAILURES, 0);
    }

    fn sleep(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() && !(self.is_cancelled)() {
            let now = left.min(POLL_INTERVAL);
            thread::sleep(now);
            left -= now;
        }
    }
}

/// Returns between three and five quarters of `time`, so that clients that failed together do not retry together.
fn jitter(time: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 512;
    time * 3 / 4 + time * u32::try_from(chance).unwrap_or_default() / 1024
}

/// Returns the `Retry-After` of a response: RFC 9110, 10.2.3. A date is relative to the server's own `Date`.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = header(headers, "retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (http_date::parse(text)?, http_date::parse(header(headers, "date")?)?);
    u64::try_from(then - now).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_bounded_and_too_long_retry_after_is_not_waited_for() {
        let go_on = || false;
        let tries = |silent: bool, asked: Option<u64>| {
            let mut patience = RetryBudget::new(Duration::from_micros(10), &go_on);
            (1..100).take_while(|_| patience.wait_for_retry(silent, asked.map(Duration::from_secs))).count()
        };
        assert_eq!(
            (tries(false, None), tries(true, None), tries(false, Some(1)), tries(false, Some(121))),
            (4, 2, 4, 0)
        );
        let stopped = || true;
        assert!(!RetryBudget::new(Duration::from_secs(60), &stopped).wait_for_retry(false, None));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        let retry_seconds = |retry: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", retry.parse().unwrap());
            date.into_iter().for_each(|date| drop(headers.insert("date", date.parse().unwrap())));
            retry_after(&headers).map(|time| time.as_secs())
        };
        let (now, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:47 GMT");
        assert_eq!(retry_seconds("3", None), Some(3));
        assert_eq!(retry_seconds(later, Some(now)), Some(10));
        assert_eq!(retry_seconds(now, Some(later)), None);
        assert_eq!(retry_seconds(now, None), None);
        assert_eq!(retry_seconds("soon", Some(now)), None);
        assert_eq!(retry_seconds("-1", None), None);
    }
}
