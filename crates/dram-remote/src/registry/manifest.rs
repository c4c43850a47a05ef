//! Requests for manifests and indexes, with verification of digest and media type.

use dram_image::document::LARGEST_DOCUMENT;
use dram_image::{Descriptor, Digest, MediaType};
use serde::Deserialize;
use serde::de::IgnoredAny;
use ureq::http::Method;

use super::endpoint::{RegistryEndpoint, RegistryRequest, RegistryResponse, RequestPayload};
use super::response_text::{header, media_type, read_bounded, sanitise};
use super::{FetchedManifest, RegistryError, paging, pull_scope, push_scope};
use crate::retry::TransientFailure;
use crate::transport_failure::TransportFailure;

/// The media types that are supported.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";

/// The fields that tell a manifest from an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestShape {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
}

/// Requests the manifest or index `reference`, a tag or a digest.
pub(super) fn get(
    endpoint: &RegistryEndpoint,
    reference: &str,
    expected: Option<Digest>,
) -> Result<FetchedManifest, RegistryError> {
    let repository = &endpoint.place.repository;
    let mark = if reference.contains(':') { '@' } else { ':' };
    let what = format!("read the manifest of {}/{repository}{mark}{reference}", endpoint.host());
    let path = format!("/v2/{repository}/manifests/{reference}");
    let accept = [("accept", ACCEPT.to_owned())];
    let scope = pull_scope(repository);
    let ask = RegistryRequest {
        what: &what,
        method: Method::GET,
        path: &path,
        headers: &accept,
        payload: RequestPayload::None,
        scope: &scope,
    };
    let mut patience = endpoint.new_retries();
    loop {
        let reply = endpoint.send(&ask)?;
        if reply.status != 200 {
            return Err(endpoint.refusal(&what, reply));
        }
        match read(&what, reply, expected) {
            // The connection broke off within the body.
            Err(error) => match error.transport_failure().map(TransientFailure::Transport) {
                Some(failure) if patience.wait_for_retry(failure) => {}
                Some(_) | None => return Err(error),
            },
            done => return done,
        }
    }
}

fn read(what: &str, reply: RegistryResponse, expected: Option<Digest>) -> Result<FetchedManifest, RegistryError> {
    let wrong = |why: String| RegistryError::InvalidResponse { what: what.to_owned(), why };
    let header_digest = header(&reply.headers, "docker-content-digest").map(str::to_owned);
    let kind = media_type(&reply.headers);
    let bytes = read_bounded(reply.body, LARGEST_DOCUMENT as u64).map_err(|error| RegistryError::Unreachable {
        what: what.to_owned(),
        why: format!("it breaks off: {error}"),
        failure: TransportFailure::Broken,
    })?;
    let bytes = bytes.ok_or_else(|| wrong(format!("it is larger than {LARGEST_DOCUMENT} bytes")))?;
    let digest = Digest::of(&bytes);
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(wrong(format!("its content is {digest}, and not {expected}")));
    }
    if let Some(header_digest) = header_digest
        .filter(|header_digest| header_digest.starts_with("sha256:") && *header_digest != digest.to_string())
    {
        return Err(wrong(format!("its content is {digest}, and its header says {}", sanitise(&header_digest))));
    }
    let media_type = media_type_of(&bytes, kind).map_err(wrong)?;
    Ok(FetchedManifest { descriptor: Descriptor::new(&media_type, digest, bytes.len() as u64), bytes })
}

/// Returns the media type of the document. Its own field, the header and its form must agree.
fn media_type_of(bytes: &[u8], header: Option<String>) -> Result<String, String> {
    let header = header.filter(|kind| MediaType::is_manifest(kind) || MediaType::is_index(kind));
    let shape: ManifestShape =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON document: {error}"))?;
    let is_index = shape.manifests.is_some();
    if is_index && (shape.layers.is_some() || shape.config.is_some()) {
        return Err("it is a manifest and an index at once".to_owned());
    }
    if !is_index && shape.config.is_none() {
        return Err("it is neither a manifest nor an index".to_owned());
    }
    let own = shape.media_type.filter(|kind| !kind.is_empty());
    if let (Some(own), Some(header)) = (&own, &header)
        && own != header
    {
        return Err(format!("it says that it is `{}`, and its header says `{header}`", sanitise(own)));
    }
    let form = if is_index { MediaType::INDEX } else { MediaType::MANIFEST };
    let kind = own.or(header).unwrap_or_else(|| form.to_owned());
    match MediaType::is_index(&kind) == is_index && (is_index || MediaType::is_manifest(&kind)) {
        true => Ok(kind),
        false => Err(format!("it is called `{}`, and has the form of `{form}`", sanitise(&kind))),
    }
}

/// Puts a manifest or index under `reference`, a tag or a digest.
pub(super) fn put(
    endpoint: &RegistryEndpoint,
    reference: &str,
    document: &Descriptor,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let repository = &endpoint.place.repository;
    let mark = if reference.contains(':') { '@' } else { ':' };
    let what = format!("write the manifest of {}/{repository}{mark}{reference}", endpoint.host());
    let path = format!("/v2/{repository}/manifests/{reference}");
    let headers = [("content-type", document.media_type.clone())];
    let scope = push_scope(repository);
    let payload = RequestPayload::Bytes(bytes);
    let reply = endpoint.send(&RegistryRequest {
        what: &what,
        method: Method::PUT,
        path: &path,
        headers: &headers,
        payload,
        scope: &scope,
    })?;
    if !matches!(reply.status, 200..=202) {
        return Err(endpoint.refusal(&what, reply));
    }
    match header(&reply.headers, "docker-content-digest") {
        Some(header_digest) if header_digest.starts_with("sha256:") && header_digest != document.digest.to_string() => {
            let why = format!("`{}` has stored another one, {}", endpoint.host(), sanitise(header_digest));
            return Err(RegistryError::InvalidResponse { what, why });
        }
        Some(_) | None => {}
    }
    match paging::has_referrers_api(&reply.headers) {
        true => Ok(()),
        false => paging::add_referrer(endpoint, document, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_must_match_header_and_form() {
        let own = |kind: &str, rest: &str| format!("{{\"mediaType\":\"{kind}\",{rest}}}");
        let (index, manifest) = ("\"manifests\":[]", "\"config\":{},\"layers\":[]");
        let table = [
            (own(MediaType::MANIFEST, manifest), None, Some(MediaType::MANIFEST)),
            (own(MediaType::MANIFEST, manifest), Some(MediaType::INDEX), None),
            (own(MediaType::INDEX, manifest), None, None),
            (own(MediaType::INDEX, manifest), Some(MediaType::INDEX), None),
            (format!("{{{manifest}}}"), None, Some(MediaType::MANIFEST)),
            (format!("{{{manifest}}}"), Some(MediaType::INDEX), None),
            (format!("{{{manifest}}}"), Some("application/json"), Some(MediaType::MANIFEST)),
            (format!("{{{index}}}"), None, Some(MediaType::INDEX)),
            (format!("{{{index},{manifest}}}"), None, None),
            ("{}".to_owned(), Some(MediaType::MANIFEST), None),
            ("[".repeat(200_000), None, None),
        ];
        for (text, header, expected) in table {
            let kind = media_type_of(text.as_bytes(), header.map(str::to_owned)).ok();
            assert_eq!(kind.as_deref(), expected, "{text:.80} {header:?}");
        }
    }
}
