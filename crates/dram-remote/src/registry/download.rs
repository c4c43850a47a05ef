//! Blob downloads, which resume with a range request after each interruption.

use std::io::{self, Read};
use std::time::Duration;

use dram_image::Descriptor;
use ureq::BodyReader;
use ureq::http::Method;

use super::endpoint::{RegistryEndpoint, RegistryRequest, RegistryResponse, RequestPayload};
use super::response_text::{header, media_type};
use super::{RegistryError, pull_scope};
use crate::retry::{RetryBudget, TransientFailure};
use crate::transport_failure::TransportFailure;

/// A rate below this, in bytes per second, counts as a stall.
const MIN_BYTES_PER_SECOND: f64 = 1024.0;
/// The number of bytes after which the retry budget is renewed.
const RENEW_AFTER_BYTES: u64 = 4 << 20;

/// Reads a blob. The bytes are *not* verified against the digest. Up to one byte more than the descriptor's size is
/// passed on, so that the caller's verification notices a blob that is too long.
pub(super) struct BlobReader<'a> {
    endpoint: &'a RegistryEndpoint,
    /// The endpoints that are tried when this one fails.
    fallbacks: &'a [RegistryEndpoint],
    blob: Descriptor,
    what: String,
    offset: u64,
    body: Option<BodyReader<'static>>,
    retries: RetryBudget<'a>,
    /// The offset at which the retry budget was last renewed.
    renewed_at: u64,
    /// The time spent waiting for bytes in the current window, and the bytes that arrived in it.
    rate_window: (Duration, u64),
    /// The endpoint does not support range requests: the whole blob is requested, and the known part skipped.
    no_ranges: bool,
}

impl<'a> BlobReader<'a> {
    /// Requests the blob from the first endpoint that has it.
    pub(super) fn new(endpoints: &'a [RegistryEndpoint], blob: &Descriptor) -> Result<BlobReader<'a>, RegistryError> {
        let (endpoint, others) = endpoints.split_first().expect("every name has a registry");
        let mut reader = BlobReader {
            endpoint,
            fallbacks: others,
            blob: blob.clone(),
            what: action_text(endpoint, blob),
            offset: 0,
            body: None,
            retries: endpoint.new_retries(),
            renewed_at: 0,
            rate_window: (Duration::ZERO, 0),
            no_ranges: false,
        };
        match reader.request_rest(false) {
            Ok(body) => reader.body = Some(body),
            Err(error) => reader.fail_over(error)?,
        }
        Ok(reader)
    }

    /// Requests the rest from the next endpoint, after this one failed.
    fn fail_over(&mut self, failed: RegistryError) -> Result<(), RegistryError> {
        let mut failed = failed;
        while let Some((next, others)) = self.fallbacks.split_first().filter(|_| !failed.is_cancelled()) {
            self.endpoint.report_mirror_failure(&failed);
            (self.endpoint, self.fallbacks) = (next, others);
            self.what = action_text(next, &self.blob);
            (self.retries, self.renewed_at, self.no_ranges) = (next.new_retries(), self.offset, false);
            match self.request_rest(false) {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Requests the rest of the blob. With `once` there are no retries, as the caller counts them.
    fn request_rest(&mut self, once: bool) -> Result<BodyReader<'static>, RegistryError> {
        loop {
            let part = self.offset > 0 && !self.no_ranges;
            let range = part.then(|| ("range", format!("bytes={}-", self.offset)));
            let path = format!("/v2/{}/blobs/{}", self.endpoint.place.repository, self.blob.digest);
            let ask = RegistryRequest {
                what: &self.what,
                method: Method::GET,
                path: &path,
                headers: range.as_slice(),
                payload: RequestPayload::None,
                scope: &pull_scope(&self.endpoint.place.repository),
            };
            let reply = if once { self.endpoint.send_once(&ask)? } else { self.endpoint.send(&ask)? };
            match reply.status {
                416 if !self.no_ranges => self.no_ranges = true,
                200 => return self.accept_full(reply),
                206 if part => return self.accept_range(reply),
                _ => return Err(self.endpoint.refusal(&self.what, reply)),
            }
        }
    }

    fn accept_full(&self, reply: RegistryResponse) -> Result<BodyReader<'static>, RegistryError> {
        if let Some(kind) = media_type(&reply.headers).filter(|kind| kind == "text/html") {
            return Err(self.invalid_response(format!("the answer is a page for people, in {kind}")));
        }
        let mut body = reply.body.into_reader();
        let passed = io::copy(&mut (&mut body).take(self.offset), &mut io::sink());
        match passed {
            Ok(passed) if passed == self.offset => Ok(body),
            Ok(passed) => Err(self.interruption_error(&format!("it has ended after {passed} bytes"))),
            Err(error) => Err(self.interruption_error(&error.to_string())),
        }
    }

    fn accept_range(&self, reply: RegistryResponse) -> Result<BodyReader<'static>, RegistryError> {
        let range = header(&reply.headers, "content-range").unwrap_or_default();
        let begins = range.strip_prefix("bytes ").and_then(|range| range.split_once('-')?.0.trim().parse::<u64>().ok());
        if begins != Some(self.offset) {
            return Err(
                self.invalid_response(format!("the answer is another part than the one from byte {}", self.offset))
            );
        }
        Ok(reply.body.into_reader())
    }

    fn invalid_response(&self, why: String) -> RegistryError {
        RegistryError::InvalidResponse { what: self.what.clone(), why }
    }

    fn interruption_error(&self, why: &str) -> RegistryError {
        let why =
            format!("`{}` broke off after {} of {} bytes: {why}", self.endpoint.host(), self.offset, self.blob.size);
        RegistryError::Unreachable { what: self.what.clone(), why, failure: TransportFailure::Broken }
    }

    /// Returns whether the rate of the last window was below the minimum. Only the time spent waiting for bytes counts.
    fn is_too_slow(&mut self, time: Duration, got: u64, stall: Duration) -> bool {
        let (waited, came) = (self.rate_window.0 + time, self.rate_window.1 + got);
        let is_over = waited >= stall && !stall.is_zero();
        self.rate_window = if is_over { (Duration::ZERO, 0) } else { (waited, came) };
        is_over && self.offset < self.blob.size && (came as f64) < waited.as_secs_f64() * MIN_BYTES_PER_SECOND
    }

    /// Requests the rest after a delay, as long as retries are left.
    fn resume(&mut self, error: Option<&io::Error>) -> Result<(), RegistryError> {
        let failure = error.map_or(TransportFailure::Broken, TransportFailure::of_body);
        let why = match error {
            Some(error) => error.to_string(),
            None => "the connection was closed".to_owned(),
        };
        let mut failed = self.interruption_error(&why);
        if self.offset - self.renewed_at >= RENEW_AFTER_BYTES {
            self.renewed_at = self.offset;
            self.retries.renew();
        }
        let mut last = TransientFailure::Transport(failure);
        while self.retries.wait_for_retry(last) {
            match self.request_rest(true) {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) => match error.transient_failure() {
                    Some(failure) => (last, failed) = (failure, error),
                    None => return self.fail_over(error),
                },
            }
        }
        self.fail_over(failed)
    }
}

fn action_text(endpoint: &RegistryEndpoint, blob: &Descriptor) -> String {
    format!("read the blob {} of {}/{}", blob.digest, endpoint.host(), endpoint.place.repository)
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.blob.size.saturating_sub(self.offset);
            let limit = usize::try_from(left.max(1)).map_or(buffer.len(), |left| left.min(buffer.len()));
            let (before, stall) = self.endpoint.now_and_stall();
            let read = match &mut self.body {
                Some(body) => body.read(&mut buffer[..limit]),
                None => Ok(0),
            };
            match read {
                Ok(got) if got > 0 || buffer.is_empty() => {
                    self.offset += got as u64;
                    if self.is_too_slow(self.endpoint.now_and_stall().0.saturating_sub(before), got as u64, stall) {
                        self.body = None;
                        let slow = io::Error::new(io::ErrorKind::TimedOut, "it sends next to nothing");
                        self.resume(Some(&slow)).map_err(io::Error::other)?;
                    }
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The blob is complete.
                Ok(_) | Err(_) if left == 0 => return Ok(0),
                Ok(_) => self.resume(None).map_err(io::Error::other)?,
                Err(error) => {
                    self.body = None;
                    self.resume(Some(&error)).map_err(io::Error::other)?;
                }
            }
        }
    }
}

impl std::fmt::Debug for BlobReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("what", &self.what).field("offset", &self.offset).finish_non_exhaustive()
    }
}
