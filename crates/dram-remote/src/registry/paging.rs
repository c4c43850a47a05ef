//! Paginated lists: tags, and the referrers of a manifest.

use std::fmt;

use dram_image::document::LARGEST_DOCUMENT;
use dram_image::{Descriptor, Digest, MediaType};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Value, json};
use ureq::http::{HeaderMap, Method};

use super::endpoint::{RegistryEndpoint, RegistryRequest, RegistryResponse, RequestPayload};
use super::response_text::{header, read_bounded, sanitise};
use super::{RegistryError, manifest, pull_scope};
use crate::url::{origin, resolve_location};

/// The page size that is asked for.
const TAGS_PER_PAGE: usize = 1000;
/// The largest number of pages that is read.
const MOST_PAGES: usize = 10_000;
/// The largest page of tags that is read, in bytes; a million tags have 25 MB.
const LONGEST_PAGE: u64 = 256 << 20;
/// The largest number of referrers of one manifest.
const MOST_REFERRERS: usize = 10_000;

/// Calls `each` with every tag of the repository, until it returns false. The tags are streamed, not collected.
pub(super) fn list_tags(endpoint: &RegistryEndpoint, each: &mut dyn FnMut(&str) -> bool) -> Result<(), RegistryError> {
    let repository = &endpoint.place.repository;
    let what = format!("list the tags of {}/{repository}", endpoint.host());
    let mut goes_on = true;
    let path = format!("/v2/{repository}/tags/list?n={TAGS_PER_PAGE}");
    for_each_page(endpoint, &what, path, "application/json", &mut |reply| {
        if reply.status != 200 {
            return Err(endpoint.refusal(&what, reply));
        }
        let body = std::io::BufReader::new(std::io::Read::take(reply.body.into_reader(), LONGEST_PAGE));
        let mut tell = |tag: &str| {
            goes_on = goes_on && each(tag);
        };
        let read = TagListSeed(&mut tell).deserialize(&mut serde_json::Deserializer::from_reader(body));
        read.map_err(|error| {
            invalid_response(&what, format!("the answer is no list of tags: {}", sanitise(&error.to_string())))
        })?;
        Ok(goes_on)
    })
}

/// Requests one page after the other, as long as `take` returns true.
fn for_each_page(
    endpoint: &RegistryEndpoint,
    what: &str,
    first: String,
    accept: &str,
    take: &mut dyn FnMut(RegistryResponse) -> Result<bool, RegistryError>,
) -> Result<(), RegistryError> {
    let scope = pull_scope(&endpoint.place.repository);
    let headers = [("accept", accept.to_owned())];
    let mut path = first;
    for _ in 0..MOST_PAGES {
        let reply = endpoint.send(&RegistryRequest {
            what,
            method: Method::GET,
            path: &path,
            headers: &headers,
            payload: RequestPayload::None,
            scope: &scope,
        })?;
        let (link, at) = (next_link(&reply.headers), reply.url.clone());
        if !take(reply)? {
            return Ok(());
        }
        let Some(link) = link else { return Ok(()) };
        let to = resolve_location(&at, &link);
        if origin(&to) != origin(&endpoint.base_url(what)?) {
            let to = sanitise(&crate::redacted(&to));
            return Err(invalid_response(what, format!("the list goes on at `{to}`, which is another host")));
        }
        if to == at {
            return Err(invalid_response(what, "the list goes on where it began".to_owned()));
        }
        path = to;
    }
    Err(invalid_response(what, format!("the list has more than {MOST_PAGES} pages")))
}

fn invalid_response(what: &str, why: String) -> RegistryError {
    RegistryError::InvalidResponse { what: what.to_owned(), why }
}

/// Returns the link to the next page: RFC 8288, as far as registries use it.
fn next_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all("link").iter().filter_map(|value| value.to_str().ok()).find_map(parse_next_link)
}

fn parse_next_link(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some((_, link)) = rest.split_once('<') {
        let (target, parameters) = link.split_once('>')?;
        let end = parameters_end(parameters);
        let is_next = parameters[..end].split(';').any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && relations.any(|one| one.eq_ignore_ascii_case("next"))
        });
        if is_next && !target.is_empty() {
            return Some(target.to_owned());
        }
        rest = &parameters[end..];
    }
    None
}

/// Returns the end of a link's parameters: the first comma that is not quoted.
fn parameters_end(parameters: &str) -> usize {
    let mut is_quoted = false;
    for (at, byte) in parameters.bytes().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return at,
            _ => {}
        }
    }
    parameters.len()
}

/// Deserialises `{"tags": […]}` and calls the function with each tag.
struct TagListSeed<'t>(&'t mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for TagListSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TagListSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `tags`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "tags" => map.next_value_seed(TagArraySeed(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Deserialises the array of tags, or `null`, which some registries send for an empty list.
struct TagArraySeed<'t>(&'t mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for TagArraySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for TagArraySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(tag) = list.next_element::<String>()? {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if tag.is_empty() || tag.len() > 128 || !tag.chars().all(good) {
                return Err(A::Error::custom("one of them is no tag"));
            }
            (self.0)(&tag);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct ReferrersList {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Returns the referrers of the manifest `digest`: from the referrers API, or from the referrers tag where the registry
/// has no such API.
pub(super) fn list_referrers(endpoint: &RegistryEndpoint, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
    let repository = &endpoint.place.repository;
    let what = format!("read what refers to {digest} in {}/{repository}", endpoint.host());
    let (mut found, mut is_there) = (Vec::new(), true);
    let path = format!("/v2/{repository}/referrers/{digest}");
    for_each_page(endpoint, &what, path, MediaType::INDEX, &mut |reply| {
        match reply.status {
            200 => {}
            400 | 404..=406 if found.is_empty() => {
                is_there = false;
                return Ok(false);
            }
            _ => return Err(endpoint.refusal(&what, reply)),
        }
        let bytes = read_bounded(reply.body, LARGEST_DOCUMENT as u64)
            .map_err(|error| invalid_response(&what, error.to_string()))?;
        let bytes = bytes.ok_or_else(|| invalid_response(&what, "the list does not end".to_owned()))?;
        found.extend(parse_referrers(&what, &bytes)?);
        match found.len() <= MOST_REFERRERS {
            true => Ok(true),
            false => Err(invalid_response(&what, format!("there are more than {MOST_REFERRERS}"))),
        }
    })?;
    if is_there {
        return Ok(found);
    }
    match manifest::get(endpoint, &referrers_tag(digest), None) {
        Ok(index) => parse_referrers(&what, &index.bytes),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse_referrers(what: &str, bytes: &[u8]) -> Result<Vec<Descriptor>, RegistryError> {
    let list = serde_json::from_slice::<ReferrersList>(bytes);
    list.map(|list| list.manifests).map_err(|error| invalid_response(what, sanitise(&error.to_string())))
}

/// Returns the referrers tag (distribution specification 1.1, "Referrers Tag Schema").
fn referrers_tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

/// Adds `document` to the referrers tag of its `subject`, if it has one. Registries without the referrers API need
/// this.
pub(super) fn add_referrer(
    endpoint: &RegistryEndpoint,
    document: &Descriptor,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let Ok(own) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    let Some(subject) = text(&own["subject"]["digest"]).and_then(|digest| digest.parse::<Digest>().ok()) else {
        return Ok(());
    };
    let tag = referrers_tag(&subject);
    let mut index = match manifest::get(endpoint, &tag, None) {
        Ok(known) => serde_json::from_slice(&known.bytes).unwrap_or_else(|_| empty_index()),
        Err(error) if error.is_not_found() => empty_index(),
        Err(error) => return Err(error),
    };
    let digest = document.digest.to_string();
    let mut entry = json!({ "mediaType": document.media_type, "digest": digest, "size": document.size });
    let artifact = text(&own["artifactType"]).or_else(|| text(&own["config"]["mediaType"]));
    artifact.into_iter().for_each(|kind| entry["artifactType"] = json!(kind));
    own.get("annotations").into_iter().for_each(|notes| entry["annotations"] = notes.clone());
    let Some(list) = index["manifests"].as_array_mut() else { return Ok(()) };
    if list.len() >= MOST_REFERRERS || list.iter().any(|one| one["digest"] == digest) {
        return Ok(());
    }
    list.push(entry);
    let bytes = index.to_string().into_bytes();
    let index = Descriptor::new(MediaType::INDEX, Digest::of(&bytes), bytes.len() as u64);
    manifest::put(endpoint, &tag, &index, &bytes)
}

fn empty_index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": MediaType::INDEX, "manifests": [] })
}

/// Returns whether the registry maintains the list of referrers itself.
pub(super) fn has_referrers_api(headers: &HeaderMap) -> bool {
    header(headers, "oci-subject").is_some()
}

/// Parses a `Link` header as pagination does; an entry point for fuzzing.
pub fn try_link(text: &str) {
    let _ = parse_next_link(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_link_is_found_in_link_headers() {
        let table = [
            ("</v2/x/tags/list?n=1&last=a>; rel=\"next\"", Some("/v2/x/tags/list?n=1&last=a")),
            ("</a>;rel=next", Some("/a")),
            ("</a>; REL=\"prev Next\"", Some("/a")),
            ("</a>; rel=prev, </b,c>; title=\"x, y\"; rel=\"next\"", Some("/b,c")),
            ("</a>; title=\"rel=next", None),
            ("</a>", None),
            ("<>; rel=next", None),
            ("</a; rel=next", None),
            ("", None),
            (">>><<<;;,,\"", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_next_link(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn tags_are_streamed_and_invalid_tags_refused() {
        let read = |text: &str| {
            let mut all = Vec::new();
            let mut tell = |tag: &str| all.push(tag.to_owned());
            let read = TagListSeed(&mut tell).deserialize(&mut serde_json::Deserializer::from_str(text));
            read.ok().map(|()| all)
        };
        let list = |tags: &[&str]| Some(tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
        let table = [
            (r#"{"name":"x","tags":["a","b.c-d"]}"#, list(&["a", "b.c-d"])),
            (r#"{"tags":null}"#, list(&[])),
            ("{}", list(&[])),
            (r#"{"tags":["a b"]}"#, None),
            (r#"{"tags":[1]}"#, None),
            ("[]", None),
            (r#"{"tags":["a""#, None),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
