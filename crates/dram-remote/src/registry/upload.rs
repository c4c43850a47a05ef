//! Blob uploads, in one request, or resumed after each interruption at the offset that the registry has.

use std::io::{self, Read};

use dram_image::{Descriptor, Digest};
use ureq::http::{HeaderMap, Method};

use super::endpoint::{RegistryEndpoint, RegistryRequest, RegistryResponse, RequestPayload};
use super::response_text::header;
use super::token::percent_encode;
use super::{RegistryError, push_scope};
use crate::retry::{RetryBudget, TransientFailure, is_transient_status, retry_after};

/// The chunk size for registries that refuse the whole blob as too large. A registry may need larger chunks.
const CHUNK_BYTES: u64 = 32 << 20;

/// A function that opens the bytes of a blob from the beginning.
pub(super) type OpenBlob<'o> = dyn Fn() -> io::Result<Box<dyn Read + 'o>> + 'o;

/// The outcome of an attempt.
enum UploadOutcome {
    /// The registry answers that it has the blob.
    Done,
    /// The registry does not know the upload session any more.
    Lost(RegistryError),
}

pub(super) struct BlobUpload<'a> {
    endpoint: &'a RegistryEndpoint,
    blob: &'a Descriptor,
    what: String,
    scope: String,
    retries: RetryBudget<'a>,
    /// The smallest chunk that the registry takes, if it gives one.
    min_chunk_bytes: u64,
}

impl<'a> BlobUpload<'a> {
    pub(super) fn new(endpoint: &'a RegistryEndpoint, blob: &'a Descriptor) -> BlobUpload<'a> {
        let what = format!("write the blob {} to {}/{}", blob.digest, endpoint.host(), endpoint.place.repository);
        let scope = push_scope(&endpoint.place.repository);
        BlobUpload { endpoint, blob, what, scope, retries: endpoint.new_retries(), min_chunk_bytes: 0 }
    }

    /// Uploads the blob. `begun` is the location of an upload session that was started already. When the registry loses
    /// the session or the blob, the upload is repeated once.
    pub(super) fn run(mut self, begun: Option<String>, open: &OpenBlob<'_>) -> Result<(), RegistryError> {
        let mut begun = begun;
        let mut lost = None;
        for attempt in 0..2 {
            // The upload may have succeeded with only the response lost.
            if attempt > 0 && super::has_blob(self.endpoint, self.blob)? {
                return Ok(());
            }
            let place = match begun.take() {
                Some(place) => place,
                None => self.start_session()?,
            };
            match self.send_bytes(place, open)? {
                UploadOutcome::Done if super::has_blob(self.endpoint, self.blob)? => return Ok(()),
                UploadOutcome::Done => {
                    let why = format!("`{}` says that it has taken it, and has it not", self.endpoint.host());
                    lost = Some(RegistryError::InvalidResponse { what: self.what.clone(), why });
                }
                UploadOutcome::Lost(error) => lost = Some(error),
            }
        }
        Err(lost.expect("every attempt that is no success leaves its reason"))
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        payload: RequestPayload<'_>,
    ) -> Result<RegistryResponse, RegistryError> {
        let ask = RegistryRequest { what: &self.what, method, path, headers, payload, scope: &self.scope };
        match payload {
            // Before a blob is sent again, the upload must ask how much of it arrived; so there are no plain retries.
            RequestPayload::Reader(..) => self.endpoint.send_once(&ask),
            RequestPayload::None | RequestPayload::Bytes(_) => self.endpoint.send(&ask),
        }
    }

    fn start_session(&mut self) -> Result<String, RegistryError> {
        let path = format!("/v2/{}/blobs/uploads/", self.endpoint.place.repository);
        let reply = self.send(Method::POST, &path, &[], RequestPayload::None)?;
        let least = header(&reply.headers, "oci-chunk-min-length").and_then(|text| text.parse().ok());
        self.min_chunk_bytes = least.unwrap_or(self.min_chunk_bytes);
        match reply.status {
            202 => upload_location(self.endpoint, &self.what, &reply),
            _ => Err(self.endpoint.refusal(&self.what, reply)),
        }
    }

    /// Sends the bytes to the upload location `place` and completes the upload.
    fn send_bytes(&mut self, mut place: String, open: &OpenBlob<'_>) -> Result<UploadOutcome, RegistryError> {
        let (size, mut at, mut piece) = (self.blob.size, 0, None::<u64>);
        loop {
            let end = piece.map_or(size, |piece| size.min(at + piece));
            let is_all = at == 0 && end == size;
            let headers = [
                ("content-type", "application/octet-stream".to_owned()),
                ("content-range", format!("{at}-{}", end.saturating_sub(1))),
            ];
            let from = || open_range(open, at, end - at);
            let payload = if end == at { RequestPayload::None } else { RequestPayload::Reader(&from, end - at) };
            let reply = match is_all {
                true => self.send(Method::PUT, &with_digest(&place, &self.blob.digest), &headers[..1], payload),
                false if at == size => {
                    self.send(Method::PUT, &with_digest(&place, &self.blob.digest), &[], RequestPayload::None)
                }
                false => self.send(Method::PATCH, &place, &headers, payload),
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => {
                    let failure = error.transport_failure().map(TransientFailure::Transport);
                    if !failure.is_some_and(|failure| self.retries.wait_for_retry(failure)) {
                        return Err(error);
                    }
                    match self.query_progress(&place)? {
                        Some((next, to)) => (place, at) = (to, next),
                        None => return Ok(UploadOutcome::Lost(error)),
                    }
                    continue;
                }
            };
            match reply.status {
                200..=299 if is_all || at == size => return Ok(UploadOutcome::Done),
                200..=299 => {
                    // The registry's own count of received bytes takes precedence.
                    let has = received_bytes(&reply.headers).filter(|has| (at..end).contains(has));
                    if has.is_some() && !self.retries.wait_for_retry(TransientFailure::Response { retry_after: None }) {
                        let why = format!("`{}` takes nothing more after {at} of {size} bytes", self.endpoint.host());
                        return Err(RegistryError::InvalidResponse { what: self.what.clone(), why });
                    }
                    (place, at) = (upload_location(self.endpoint, &self.what, &reply)?, has.unwrap_or(end));
                }
                404 => return Ok(UploadOutcome::Lost(self.endpoint.refusal(&self.what, reply))),
                413 if piece.is_none() && size > CHUNK_BYTES => {
                    piece = Some(CHUNK_BYTES.max(self.min_chunk_bytes));
                    (place, at) = (self.start_session()?, 0);
                }
                status if status == 416 || is_transient_status(status) => {
                    let failure = TransientFailure::Response { retry_after: retry_after(&reply.headers) };
                    let error = self.endpoint.refusal(&self.what, reply);
                    if !self.retries.wait_for_retry(failure) {
                        return Err(error);
                    }
                    match self.query_progress(&place)? {
                        Some((next, to)) => (place, at) = (to, next),
                        None => return Ok(UploadOutcome::Lost(error)),
                    }
                }
                _ => {
                    let error = self.endpoint.refusal(&self.what, reply);
                    return if error.is_upload_corrupt() { Ok(UploadOutcome::Lost(error)) } else { Err(error) };
                }
            }
        }
    }

    /// Asks how many bytes the registry has. Returns them with the next upload location, or `None` when the registry
    /// does not know the session.
    fn query_progress(&self, place: &str) -> Result<Option<(u64, String)>, RegistryError> {
        let reply = self.send(Method::GET, place, &[], RequestPayload::None)?;
        match reply.status {
            200..=299 => {}
            401 | 403 => return Err(self.endpoint.refusal(&self.what, reply)),
            // The session is gone, or the registry does not support the request, which has the same effect.
            400..=499 => return Ok(None),
            _ => return Err(self.endpoint.refusal(&self.what, reply)),
        }
        let at = received_bytes(&reply.headers).unwrap_or_default().min(self.blob.size);
        let to = match reply.headers.contains_key("location") {
            true => upload_location(self.endpoint, &self.what, &reply)?,
            false => place.to_owned(),
        };
        Ok(Some((at, to)))
    }
}

/// Returns the upload location of a response.
pub(super) fn upload_location(
    endpoint: &RegistryEndpoint,
    what: &str,
    reply: &RegistryResponse,
) -> Result<String, RegistryError> {
    match header(&reply.headers, "location") {
        Some(location) if !location.is_empty() => endpoint.resolve_redirect(what, &reply.url, location),
        Some(_) | None => {
            let why = format!("`{}` does not say where to", endpoint.host());
            Err(RegistryError::InvalidResponse { what: what.to_owned(), why })
        }
    }
}

/// Returns how many bytes the registry has received.
fn received_bytes(headers: &HeaderMap) -> Option<u64> {
    let range = header(headers, "range")?;
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    let last = last.trim().parse::<u64>().ok().filter(|_| first.trim() == "0")?;
    // Registries send `0-0` for an empty upload.
    Some(if last == 0 { 0 } else { last.saturating_add(1) })
}

fn with_digest(place: &str, digest: &Digest) -> String {
    let mark = if place.contains('?') { '&' } else { '?' };
    format!("{place}{mark}digest={}", percent_encode(&digest.to_string()))
}

/// Opens the bytes from offset `at`, limited to `length`.
fn open_range<'o>(open: &OpenBlob<'o>, at: u64, length: u64) -> io::Result<Box<dyn Read + 'o>> {
    let mut reader = open()?;
    io::copy(&mut (&mut reader).take(at), &mut io::sink())?;
    Ok(Box::new(reader.take(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_header_gives_the_bytes_received() {
        let table = [
            ("0-0", Some(0)),
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            (" 0 - 9 ", Some(10)),
            ("1-9", None),
            ("0-", None),
            ("9", None),
            ("", None),
            ("0-99999999999999999999", None),
            ("0-18446744073709551615", Some(u64::MAX)),
        ];
        for (text, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert("range", text.parse().unwrap());
            assert_eq!(received_bytes(&headers), expected, "{text}");
        }
    }

    #[test]
    fn digest_is_added_to_the_query_of_the_upload_location() {
        let digest = Digest::of(b"");
        let end = format!("digest=sha256%3A{}", digest.hex());
        assert_eq!(with_digest("http://h/u/1?state=a%20b", &digest), format!("http://h/u/1?state=a%20b&{end}"));
        assert_eq!(with_digest("http://h/u/1", &digest), format!("http://h/u/1?{end}"));
    }
}
