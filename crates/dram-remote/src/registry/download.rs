//! Blob downloads, which resume with a range request after each interruption.

use std::io::{self, Read};
use std::time::Duration;

use dram_image::Descriptor;
use ureq::BodyReader;
use ureq::http::Method;

use super::endpoint::{Ask, Endpoint, Payload, Reply, passes};
use super::text::{header, media_type};
use super::wait::Patience;
use super::{RegistryError, pull_scope};

/// A rate below this, in bytes per second, counts as a stall.
const SLOWEST: f64 = 1024.0;
/// The number of bytes after which the retry budget is renewed.
const ENOUGH: u64 = 4 << 20;

/// Reads a blob. The bytes are *not* verified against the digest. Up to one byte more than the descriptor's size is
/// passed on, so that the caller's verification notices a blob that is too long.
pub(super) struct BlobReader<'a> {
    endpoint: &'a Endpoint,
    /// The endpoints that are tried when this one fails.
    others: &'a [Endpoint],
    blob: Descriptor,
    what: String,
    at: u64,
    body: Option<BodyReader<'static>>,
    patience: Patience<'a>,
    /// The offset at which the retry budget was last renewed.
    counted: u64,
    /// The time spent waiting for bytes in the current window, and the bytes that arrived in it.
    waited: (Duration, u64),
    /// The endpoint does not support range requests: the whole blob is requested, and the known part skipped.
    takes_all: bool,
}

impl<'a> BlobReader<'a> {
    /// Requests the blob from the first endpoint that has it.
    pub(super) fn new(endpoints: &'a [Endpoint], blob: &Descriptor) -> Result<BlobReader<'a>, RegistryError> {
        let (endpoint, others) = endpoints.split_first().expect("every name has a registry");
        let mut reader = BlobReader {
            endpoint,
            others,
            blob: blob.clone(),
            what: attempt(endpoint, blob),
            at: 0,
            body: None,
            patience: endpoint.patience(),
            counted: 0,
            waited: (Duration::ZERO, 0),
            takes_all: false,
        };
        match reader.ask(false) {
            Ok(body) => reader.body = Some(body),
            Err(error) => reader.turn(error)?,
        }
        Ok(reader)
    }

    /// Requests the rest from the next endpoint, after this one failed.
    fn turn(&mut self, failed: RegistryError) -> Result<(), RegistryError> {
        let mut failed = failed;
        while let Some((next, others)) = self.others.split_first().filter(|_| !failed.is_stop()) {
            self.endpoint.give_up(&failed);
            (self.endpoint, self.others) = (next, others);
            self.what = attempt(next, &self.blob);
            (self.patience, self.counted, self.takes_all) = (next.patience(), self.at, false);
            match self.ask(false) {
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
    fn ask(&mut self, once: bool) -> Result<BodyReader<'static>, RegistryError> {
        loop {
            let part = self.at > 0 && !self.takes_all;
            let range = part.then(|| ("range", format!("bytes={}-", self.at)));
            let path = format!("/v2/{}/blobs/{}", self.endpoint.place.repository, self.blob.digest);
            let ask = Ask {
                what: &self.what,
                method: Method::GET,
                path: &path,
                headers: range.as_slice(),
                payload: Payload::None,
                scope: &pull_scope(&self.endpoint.place.repository),
            };
            let reply = if once { self.endpoint.once(&ask)? } else { self.endpoint.send(&ask)? };
            match reply.status {
                416 if !self.takes_all => self.takes_all = true,
                200 => return self.whole(reply),
                206 if part => return self.part(reply),
                _ => return Err(self.endpoint.refusal(&self.what, reply)),
            }
        }
    }

    fn whole(&self, reply: Reply) -> Result<BodyReader<'static>, RegistryError> {
        if let Some(kind) = media_type(&reply.headers).filter(|kind| kind == "text/html") {
            return Err(self.wrong(format!("the answer is a page for people, in {kind}")));
        }
        let mut body = reply.body.into_reader();
        let passed = io::copy(&mut (&mut body).take(self.at), &mut io::sink());
        match passed {
            Ok(passed) if passed == self.at => Ok(body),
            Ok(passed) => Err(self.broken(&format!("it has ended after {passed} bytes"))),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    fn part(&self, reply: Reply) -> Result<BodyReader<'static>, RegistryError> {
        let range = header(&reply.headers, "content-range").unwrap_or_default();
        let begins = range.strip_prefix("bytes ").and_then(|range| range.split_once('-')?.0.trim().parse::<u64>().ok());
        if begins != Some(self.at) {
            return Err(self.wrong(format!("the answer is another part than the one from byte {}", self.at)));
        }
        Ok(reply.body.into_reader())
    }

    fn wrong(&self, why: String) -> RegistryError {
        RegistryError::Wrong { what: self.what.clone(), why }
    }

    fn broken(&self, why: &str) -> RegistryError {
        let why = format!("`{}` broke off after {} of {} bytes: {why}", self.endpoint.host(), self.at, self.blob.size);
        RegistryError::Unreachable { what: self.what.clone(), why, was_silent: false }
    }

    /// Returns whether the rate of the last window was below the minimum. Only the time spent waiting for bytes counts.
    fn crawls(&mut self, time: Duration, got: u64, stall: Duration) -> bool {
        let (waited, came) = (self.waited.0 + time, self.waited.1 + got);
        let is_over = waited >= stall && !stall.is_zero();
        self.waited = if is_over { (Duration::ZERO, 0) } else { (waited, came) };
        is_over && self.at < self.blob.size && (came as f64) < waited.as_secs_f64() * SLOWEST
    }

    /// Requests the rest after a delay, as long as retries are left.
    fn resume(&mut self, error: Option<&io::Error>) -> Result<(), RegistryError> {
        let was_silent =
            error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut || error.to_string().contains("timeout"));
        let why = match error {
            Some(error) => error.to_string(),
            None => "the connection was closed".to_owned(),
        };
        let mut failed = self.broken(&why);
        if self.at - self.counted >= ENOUGH {
            self.counted = self.at;
            self.patience.renew();
        }
        let mut was_silent = was_silent;
        while self.patience.again(was_silent, None) {
            match self.ask(true) {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(RegistryError::Status { what, status, codes, message }) if passes(status) => {
                    failed = RegistryError::Status { what, status, codes, message };
                }
                Err(RegistryError::Unreachable { what, why, was_silent: silent }) => {
                    was_silent = silent;
                    failed = RegistryError::Unreachable { what, why, was_silent };
                }
                Err(error) => return self.turn(error),
            }
        }
        self.turn(failed)
    }
}

fn attempt(endpoint: &Endpoint, blob: &Descriptor) -> String {
    format!("read the blob {} of {}/{}", blob.digest, endpoint.host(), endpoint.place.repository)
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.blob.size.saturating_sub(self.at);
            let most = usize::try_from(left.max(1)).map_or(buffer.len(), |left| left.min(buffer.len()));
            let (before, stall) = self.endpoint.time();
            let read = match &mut self.body {
                Some(body) => body.read(&mut buffer[..most]),
                None => Ok(0),
            };
            match read {
                Ok(got) if got > 0 || buffer.is_empty() => {
                    self.at += got as u64;
                    if self.crawls(self.endpoint.time().0.saturating_sub(before), got as u64, stall) {
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
        f.debug_struct("BlobReader").field("what", &self.what).field("at", &self.at).finish_non_exhaustive()
    }
}
