//! Retries: their number, and the delay before each.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::thread;
use std::time::Duration;

use ureq::http::HeaderMap;

use crate::http_date;
use crate::transport_failure::TransportFailure;

/// The number of transient failures after which an operation fails. A timeout, which takes long, counts twice.
pub(crate) const MAX_FAILURES: u32 = 5;
/// The longest `Retry-After` that is waited for.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);
/// The same limit in units of the retry delay, normally a second, so that a shorter delay shortens the wait too.
const MAX_RETRY_AFTER_DELAYS: u32 = 120;
/// The interval at which cancellation is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A failure after which an operation may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransientFailure {
    /// The server could not be reached, or the connection broke off.
    Transport(TransportFailure),
    /// The server answered with a transient status.
    Response {
        /// The delay that it asks for.
        retry_after: Option<Duration>,
    },
}

/// Returns whether a status is transient, so that a retry may succeed. This is the only such rule: registries and
/// other servers have the same.
pub(crate) fn is_transient_status(status: u16) -> bool {
    // 501 (not implemented) and 507 (no storage left) are permanent.
    matches!(status, 408 | 429 | 500 | 502..=504 | 509 | 520..=530)
}

/// The retry budget of one operation.
pub(crate) struct RetryBudget<'a> {
    base_delay: Duration,
    failures_left: u32,
    failed: u32,
    is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> RetryBudget<'a> {
    pub(crate) fn new(base_delay: Duration, is_cancelled: &'a (dyn Fn() -> bool + Sync)) -> RetryBudget<'a> {
        RetryBudget { base_delay, failures_left: MAX_FAILURES, failed: 0, is_cancelled }
    }

    /// Returns the same budget for an operation that is given up after fewer failures.
    pub(crate) fn with_failures(self, most: u32) -> RetryBudget<'a> {
        RetryBudget { failures_left: most, ..self }
    }

    /// Waits before a retry, at least for the `Retry-After` of the server. Returns whether a retry is allowed: not when
    /// the budget is used up, the server asks for too long a delay, or the operation is cancelled.
    pub(crate) fn wait_for_retry(&mut self, failure: TransientFailure) -> bool {
        let (cost, asked) = match failure {
            TransientFailure::Transport(TransportFailure::Timeout) => (2, None),
            TransientFailure::Transport(
                TransportFailure::NotTls
                | TransportFailure::ClientCertificate
                | TransportFailure::TlsAlert
                | TransportFailure::Broken,
            ) => (1, None),
            TransientFailure::Response { retry_after } => (1, retry_after),
        };
        self.failures_left = self.failures_left.saturating_sub(cost);
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
    pub(crate) fn renew(&mut self) {
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
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let text = header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (http_date::parse(text)?, http_date::parse(header("date")?)?);
    u64::try_from(then - now).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_bounded_and_too_long_retry_after_is_not_waited_for() {
        let go_on = || false;
        let budget = || RetryBudget::new(Duration::from_micros(10), &go_on);
        let tries = |mut budget: RetryBudget<'_>, failure: TransientFailure| {
            (1..100).take_while(|_| budget.wait_for_retry(failure)).count()
        };
        let asks = |seconds: u64| TransientFailure::Response { retry_after: Some(Duration::from_secs(seconds)) };
        let broken = TransientFailure::Transport(TransportFailure::Broken);
        let table = [
            (broken, 4),
            (TransientFailure::Transport(TransportFailure::Timeout), 2),
            (TransientFailure::Response { retry_after: None }, 4),
            (asks(1), 4),
            (asks(121), 0),
        ];
        for (failure, expected) in table {
            assert_eq!(tries(budget(), failure), expected, "{failure:?}");
        }
        assert_eq!(tries(budget().with_failures(3), broken), 2);
    }

    #[test]
    fn cancelled_operation_neither_waits_nor_retries() {
        let (stopped, day) = (|| true, Duration::from_secs(60 * 60 * 24));
        let failure = TransientFailure::Response { retry_after: Some(MAX_RETRY_AFTER) };
        assert!(!RetryBudget::new(day, &stopped).wait_for_retry(failure));
    }

    #[test]
    fn only_statuses_that_may_pass_are_transient() {
        let transient: Vec<u16> = (100..600).filter(|status| is_transient_status(*status)).collect();
        let expected = [408, 429, 500, 502, 503, 504, 509].into_iter().chain(520..=530);
        assert_eq!(transient, expected.collect::<Vec<_>>());
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
