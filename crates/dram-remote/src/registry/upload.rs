//! Blob uploads, in one request, or resumed after each interruption at the offset that the registry has.

use std::io::{self, Read};

use dram_image::{Descriptor, Digest};
use ureq::http::{HeaderMap, Method};

use super::endpoint::{Ask, Endpoint, Payload, Reply, passes};
use super::text::header;
use super::token::encoded;
use super::wait::{Patience, retry_after};
use super::{RegistryError, push_scope};

/// The chunk size for registries that refuse the whole blob as too large. A registry may need larger chunks.
const PIECE: u64 = 32 << 20;

/// A function that opens the bytes of a blob from the beginning.
pub(super) type Open<'o> = dyn Fn() -> io::Result<Box<dyn Read + 'o>> + 'o;

/// The outcome of an attempt.
enum End {
    /// The registry answers that it has the blob.
    Done,
    /// The registry does not know the upload session any more.
    Lost(RegistryError),
}

pub(super) struct Upload<'a> {
    endpoint: &'a Endpoint,
    blob: &'a Descriptor,
    what: String,
    scope: String,
    patience: Patience<'a>,
    /// The smallest chunk that the registry takes, if it gives one.
    least: u64,
}

impl<'a> Upload<'a> {
    pub(super) fn new(endpoint: &'a Endpoint, blob: &'a Descriptor) -> Upload<'a> {
        let what = format!("write the blob {} to {}/{}", blob.digest, endpoint.host(), endpoint.place.repository);
        let scope = push_scope(&endpoint.place.repository);
        Upload { endpoint, blob, what, scope, patience: endpoint.patience(), least: 0 }
    }

    /// Uploads the blob. `begun` is the location of an upload session that was started already. When the registry loses
    /// the session or the blob, the upload is repeated once.
    pub(super) fn run(mut self, begun: Option<String>, open: &Open<'_>) -> Result<(), RegistryError> {
        let mut begun = begun;
        let mut lost = None;
        for attempt in 0..2 {
            // The upload may have succeeded with only the response lost.
            if attempt > 0 && super::has_blob(self.endpoint, self.blob)? {
                return Ok(());
            }
            let place = match begun.take() {
                Some(place) => place,
                None => self.begin()?,
            };
            match self.bytes(place, open)? {
                End::Done if super::has_blob(self.endpoint, self.blob)? => return Ok(()),
                End::Done => {
                    let why = format!("`{}` says that it has taken it, and has it not", self.endpoint.host());
                    lost = Some(RegistryError::Wrong { what: self.what.clone(), why });
                }
                End::Lost(error) => lost = Some(error),
            }
        }
        Err(lost.expect("every attempt that is no success leaves its reason"))
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> Result<Reply, RegistryError> {
        let ask = Ask { what: &self.what, method, path, headers, payload, scope: &self.scope };
        match payload {
            // Before a blob is sent again, the upload must ask how much of it arrived; so there are no plain retries.
            Payload::Reader(..) => self.endpoint.once(&ask),
            Payload::None | Payload::Bytes(_) => self.endpoint.send(&ask),
        }
    }

    fn begin(&mut self) -> Result<String, RegistryError> {
        let path = format!("/v2/{}/blobs/uploads/", self.endpoint.place.repository);
        let reply = self.ask(Method::POST, &path, &[], Payload::None)?;
        let least = header(&reply.headers, "oci-chunk-min-length").and_then(|text| text.parse().ok());
        self.least = least.unwrap_or(self.least);
        match reply.status {
            202 => place_of(self.endpoint, &self.what, &reply),
            _ => Err(self.endpoint.refusal(&self.what, reply)),
        }
    }

    /// Sends the bytes to the upload location `place` and completes the upload.
    fn bytes(&mut self, mut place: String, open: &Open<'_>) -> Result<End, RegistryError> {
        let (size, mut at, mut piece) = (self.blob.size, 0, None::<u64>);
        loop {
            let end = piece.map_or(size, |piece| size.min(at + piece));
            let is_all = at == 0 && end == size;
            let headers = [
                ("content-type", "application/octet-stream".to_owned()),
                ("content-range", format!("{at}-{}", end.saturating_sub(1))),
            ];
            let from = || skipped(open, at, end - at);
            let payload = if end == at { Payload::None } else { Payload::Reader(&from, end - at) };
            let reply = match is_all {
                true => self.ask(Method::PUT, &with_digest(&place, &self.blob.digest), &headers[..1], payload),
                false if at == size => {
                    self.ask(Method::PUT, &with_digest(&place, &self.blob.digest), &[], Payload::None)
                }
                false => self.ask(Method::PATCH, &place, &headers, payload),
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(RegistryError::Unreachable { what, why, was_silent }) => {
                    if !self.patience.again(was_silent, None) {
                        return Err(RegistryError::Unreachable { what, why, was_silent });
                    }
                    match self.progress(&place)? {
                        Some((next, to)) => (place, at) = (to, next),
                        None => return Ok(End::Lost(RegistryError::Unreachable { what, why, was_silent })),
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            match reply.status {
                200..=299 if is_all || at == size => return Ok(End::Done),
                200..=299 => {
                    // The registry's own count of received bytes takes precedence.
                    let has = taken(&reply.headers).filter(|has| (at..end).contains(has));
                    if has.is_some() && !self.patience.again(false, None) {
                        let why = format!("`{}` takes nothing more after {at} of {size} bytes", self.endpoint.host());
                        return Err(RegistryError::Wrong { what: self.what.clone(), why });
                    }
                    (place, at) = (place_of(self.endpoint, &self.what, &reply)?, has.unwrap_or(end));
                }
                404 => return Ok(End::Lost(self.endpoint.refusal(&self.what, reply))),
                413 if piece.is_none() && size > PIECE => {
                    piece = Some(PIECE.max(self.least));
                    (place, at) = (self.begin()?, 0);
                }
                status if status == 416 || passes(status) => {
                    let asked = retry_after(&reply.headers);
                    let error = self.endpoint.refusal(&self.what, reply);
                    if !self.patience.again(false, asked) {
                        return Err(error);
                    }
                    match self.progress(&place)? {
                        Some((next, to)) => (place, at) = (to, next),
                        None => return Ok(End::Lost(error)),
                    }
                }
                _ => {
                    let error = self.endpoint.refusal(&self.what, reply);
                    return if error.lost_bytes() { Ok(End::Lost(error)) } else { Err(error) };
                }
            }
        }
    }

    /// Asks how many bytes the registry has. Returns them with the next upload location, or `None` when the registry
    /// does not know the session.
    fn progress(&self, place: &str) -> Result<Option<(u64, String)>, RegistryError> {
        let reply = self.ask(Method::GET, place, &[], Payload::None)?;
        match reply.status {
            200..=299 => {}
            401 | 403 => return Err(self.endpoint.refusal(&self.what, reply)),
            // The session is gone, or the registry does not support the request, which has the same effect.
            400..=499 => return Ok(None),
            _ => return Err(self.endpoint.refusal(&self.what, reply)),
        }
        let at = taken(&reply.headers).unwrap_or_default().min(self.blob.size);
        let to = match reply.headers.contains_key("location") {
            true => place_of(self.endpoint, &self.what, &reply)?,
            false => place.to_owned(),
        };
        Ok(Some((at, to)))
    }
}

/// Returns the upload location of a response.
pub(super) fn place_of(endpoint: &Endpoint, what: &str, reply: &Reply) -> Result<String, RegistryError> {
    match header(&reply.headers, "location") {
        Some(location) if !location.is_empty() => endpoint.next(what, &reply.url, location),
        Some(_) | None => {
            let why = format!("`{}` does not say where to", endpoint.host());
            Err(RegistryError::Wrong { what: what.to_owned(), why })
        }
    }
}

/// Returns how many bytes the registry has received.
fn taken(headers: &HeaderMap) -> Option<u64> {
    let range = header(headers, "range")?;
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    let last = last.trim().parse::<u64>().ok().filter(|_| first.trim() == "0")?;
    // Registries send `0-0` for an empty upload.
    Some(if last == 0 { 0 } else { last.saturating_add(1) })
}

fn with_digest(place: &str, digest: &Digest) -> String {
    let mark = if place.contains('?') { '&' } else { '?' };
    format!("{place}{mark}digest={}", encoded(&digest.to_string()))
}

/// Opens the bytes from offset `at`, limited to `length`.
fn skipped<'o>(open: &Open<'o>, at: u64, length: u64) -> io::Result<Box<dyn Read + 'o>> {
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
            assert_eq!(taken(&headers), expected, "{text}");
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
