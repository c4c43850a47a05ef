//! Paginated lists: tags, and the referrers of a manifest.

use std::fmt;

use dram_image::document::LARGEST_DOCUMENT;
use dram_image::{Descriptor, Digest, MediaType};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Value, json};
use ureq::http::{HeaderMap, Method};

use super::endpoint::{Ask, Endpoint, Payload, Reply};
use super::text::{all, clean, header};
use super::{RegistryError, manifest, pull_scope};
use crate::address::{joined, origin};

/// The page size that is asked for.
const AT_ONCE: usize = 1000;
/// The largest number of pages that is read.
const MOST_PAGES: usize = 10_000;
/// The largest page of tags that is read, in bytes; a million tags have 25 MB.
const LONGEST_PAGE: u64 = 256 << 20;
/// The largest number of referrers of one manifest.
const MOST_REFERRERS: usize = 10_000;

/// Calls `each` with every tag of the repository, until it returns false. The tags are streamed, not collected.
pub(super) fn tags(endpoint: &Endpoint, each: &mut dyn FnMut(&str) -> bool) -> Result<(), RegistryError> {
    let repository = &endpoint.place.repository;
    let what = format!("list the tags of {}/{repository}", endpoint.host());
    let mut goes_on = true;
    let path = format!("/v2/{repository}/tags/list?n={AT_ONCE}");
    pages(endpoint, &what, path, "application/json", &mut |reply| {
        if reply.status != 200 {
            return Err(endpoint.refusal(&what, reply));
        }
        let body = std::io::BufReader::new(std::io::Read::take(reply.body.into_reader(), LONGEST_PAGE));
        let mut tell = |tag: &str| {
            goes_on = goes_on && each(tag);
        };
        let read = TagsOf(&mut tell).deserialize(&mut serde_json::Deserializer::from_reader(body));
        read.map_err(|error| wrong(&what, format!("the answer is no list of tags: {}", clean(&error.to_string()))))?;
        Ok(goes_on)
    })
}

/// Requests one page after the other, as long as `take` returns true.
fn pages(
    endpoint: &Endpoint,
    what: &str,
    first: String,
    accept: &str,
    take: &mut dyn FnMut(Reply) -> Result<bool, RegistryError>,
) -> Result<(), RegistryError> {
    let scope = pull_scope(&endpoint.place.repository);
    let headers = [("accept", accept.to_owned())];
    let mut path = first;
    for _ in 0..MOST_PAGES {
        let reply = endpoint.send(&Ask {
            what,
            method: Method::GET,
            path: &path,
            headers: &headers,
            payload: Payload::None,
            scope: &scope,
        })?;
        let (link, at) = (next(&reply.headers), reply.url.clone());
        if !take(reply)? {
            return Ok(());
        }
        let Some(link) = link else { return Ok(()) };
        let to = joined(&at, &link);
        if origin(&to) != origin(&endpoint.base(what)?) {
            let to = clean(&crate::redacted(&to));
            return Err(wrong(what, format!("the list goes on at `{to}`, which is another host")));
        }
        if to == at {
            return Err(wrong(what, "the list goes on where it began".to_owned()));
        }
        path = to;
    }
    Err(wrong(what, format!("the list has more than {MOST_PAGES} pages")))
}

fn wrong(what: &str, why: String) -> RegistryError {
    RegistryError::Wrong { what: what.to_owned(), why }
}

/// Returns the link to the next page: RFC 8288, as far as registries use it.
fn next(headers: &HeaderMap) -> Option<String> {
    headers.get_all("link").iter().filter_map(|value| value.to_str().ok()).find_map(next_in)
}

fn next_in(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some((_, link)) = rest.split_once('<') {
        let (target, parameters) = link.split_once('>')?;
        let end = end_of(parameters);
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
fn end_of(parameters: &str) -> usize {
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
struct TagsOf<'t>(&'t mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for TagsOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TagsOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `tags`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "tags" => map.next_value_seed(Listed(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Deserialises the array of tags, or `null`, which some registries send for an empty list.
struct Listed<'t>(&'t mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for Listed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Listed<'_> {
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
struct List {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Returns the referrers of the manifest `digest`: from the referrers API, or from the referrers tag where the registry
/// has no such API.
pub(super) fn referrers(endpoint: &Endpoint, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
    let repository = &endpoint.place.repository;
    let what = format!("read what refers to {digest} in {}/{repository}", endpoint.host());
    let (mut found, mut is_there) = (Vec::new(), true);
    let path = format!("/v2/{repository}/referrers/{digest}");
    pages(endpoint, &what, path, MediaType::INDEX, &mut |reply| {
        match reply.status {
            200 => {}
            400 | 404..=406 if found.is_empty() => {
                is_there = false;
                return Ok(false);
            }
            _ => return Err(endpoint.refusal(&what, reply)),
        }
        let bytes = all(reply.body, LARGEST_DOCUMENT as u64).map_err(|error| wrong(&what, error.to_string()))?;
        let bytes = bytes.ok_or_else(|| wrong(&what, "the list does not end".to_owned()))?;
        found.extend(listed(&what, &bytes)?);
        match found.len() <= MOST_REFERRERS {
            true => Ok(true),
            false => Err(wrong(&what, format!("there are more than {MOST_REFERRERS}"))),
        }
    })?;
    if is_there {
        return Ok(found);
    }
    match manifest::get(endpoint, &stand_in(digest), None) {
        Ok(index) => listed(&what, &index.bytes),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn listed(what: &str, bytes: &[u8]) -> Result<Vec<Descriptor>, RegistryError> {
    let list = serde_json::from_slice::<List>(bytes);
    list.map(|list| list.manifests).map_err(|error| wrong(what, clean(&error.to_string())))
}

/// Returns the referrers tag (distribution specification 1.1, "Referrers Tag Schema").
fn stand_in(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

/// Adds `document` to the referrers tag of its `subject`, if it has one. Registries without the referrers API need
/// this.
pub(super) fn note(endpoint: &Endpoint, document: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let Ok(own) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    let Some(subject) = text(&own["subject"]["digest"]).and_then(|digest| digest.parse::<Digest>().ok()) else {
        return Ok(());
    };
    let tag = stand_in(&subject);
    let mut index = match manifest::get(endpoint, &tag, None) {
        Ok(known) => serde_json::from_slice(&known.bytes).unwrap_or_else(|_| empty()),
        Err(error) if error.is_not_found() => empty(),
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

fn empty() -> Value {
    json!({ "schemaVersion": 2, "mediaType": MediaType::INDEX, "manifests": [] })
}

/// Returns whether the registry maintains the list of referrers itself.
pub(super) fn keeps_lists(headers: &HeaderMap) -> bool {
    header(headers, "oci-subject").is_some()
}

/// Parses a `Link` header as pagination does; an entry point for fuzzing.
pub fn try_link(text: &str) {
    let _ = next_in(text);
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
            assert_eq!(next_in(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn tags_are_streamed_and_invalid_tags_refused() {
        let read = |text: &str| {
            let mut all = Vec::new();
            let mut tell = |tag: &str| all.push(tag.to_owned());
            let read = TagsOf(&mut tell).deserialize(&mut serde_json::Deserializer::from_str(text));
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
