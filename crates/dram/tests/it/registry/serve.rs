//! What a registry is that does nothing wrong: the distribution specification 1.1, in memory.

use std::collections::{BTreeMap, BTreeSet};

use dram_image::Digest;
use serde_json::{Value, json};

use super::http::{Reply, Request};

/// What a request is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wish {
    /// `GET /v2/`.
    Version,
    Token,
    Blob {
        name: String,
        digest: String,
    },
    Manifest {
        name: String,
        reference: String,
    },
    /// `POST`: an upload begins.
    Start {
        name: String,
    },
    /// An upload that has begun.
    Upload {
        name: String,
        id: String,
    },
    Tags {
        name: String,
    },
    Referrers {
        name: String,
        digest: String,
    },
    /// Nothing that a registry has.
    Unknown,
}

impl Wish {
    pub(crate) fn of(path: &str) -> Wish {
        if path == "/token" {
            return Wish::Token;
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Wish::Unknown };
        if rest.is_empty() {
            return Wish::Version;
        }
        let (name, what) = match rest.rsplit_once("/blobs/uploads/") {
            Some((name, "")) => return Wish::Start { name: name.to_owned() },
            Some((name, id)) => return Wish::Upload { name: name.to_owned(), id: id.to_owned() },
            None => match rest.rsplit_once('/') {
                Some(parts) => parts,
                None => return Wish::Unknown,
            },
        };
        let what = what.to_owned();
        match name.rsplit_once('/') {
            Some((name, "blobs")) => Wish::Blob { name: name.to_owned(), digest: what },
            Some((name, "manifests")) => Wish::Manifest { name: name.to_owned(), reference: what },
            Some((name, "referrers")) => Wish::Referrers { name: name.to_owned(), digest: what },
            Some((name, "tags")) if what == "list" => Wish::Tags { name: name.to_owned() },
            _ => Wish::Unknown,
        }
    }

    /// The repository that it is about.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Wish::Blob { name, .. }
            | Wish::Manifest { name, .. }
            | Wish::Start { name }
            | Wish::Upload { name, .. }
            | Wish::Tags { name }
            | Wish::Referrers { name, .. } => Some(name),
            Wish::Version | Wish::Token | Wish::Unknown => None,
        }
    }
}

/// What a registry has.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// Which repository has which blob.
    pub(crate) owned: BTreeSet<(String, String)>,
    /// By repository and digest: the media type, and the bytes.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// By repository and tag: the digest.
    pub(crate) tags: BTreeMap<(String, String), String>,
    pub(crate) uploads: BTreeMap<String, Vec<u8>>,
    began: usize,
}

/// An error as the specification has it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    Reply::new(status).body("application/json", body)
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

impl Shelf {
    pub(crate) fn answer(&mut self, wish: &Wish, request: &Request) -> Reply {
        let method = request.method.as_str();
        match (wish, method) {
            (Wish::Version, _) => Reply::new(200).body("application/json", "{}"),
            (Wish::Blob { name, digest }, "GET" | "HEAD") => self.blob(name, digest, request),
            (Wish::Manifest { name, reference }, "GET" | "HEAD") => self.manifest(name, reference),
            (Wish::Manifest { name, reference }, "PUT") => self.put_manifest(name, reference, request),
            (Wish::Start { name }, "POST") => self.start(name, request),
            (Wish::Upload { name, id }, "GET" | "PATCH" | "PUT") => self.upload(name, id, request),
            (Wish::Tags { name }, "GET") => self.list_tags(name, request),
            (Wish::Referrers { name, digest }, "GET") => self.referrers(name, digest),
            _ => error(404, "UNSUPPORTED", "there is no such thing"),
        }
    }

    fn blob(&self, name: &str, digest: &str, request: &Request) -> Reply {
        let owned = self.owned.contains(&(name.to_owned(), digest.to_owned()));
        let Some(bytes) = self.blobs.get(digest).filter(|_| owned) else {
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let reply = Reply::new(200).with("Docker-Content-Digest", digest).with("Accept-Ranges", "bytes");
        let kind = "application/octet-stream";
        let Some(range) = request.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
            return reply.body(kind, bytes.clone());
        };
        let (first, last) = range.split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let last = last.parse().unwrap_or(usize::MAX).min(bytes.len().saturating_sub(1));
        if first >= bytes.len() {
            return error(416, "RANGE_INVALID", "there is nothing")
                .with("Content-Range", format!("bytes */{}", bytes.len()));
        }
        let place = format!("bytes {first}-{last}/{}", bytes.len());
        Reply { status: 206, ..reply }.with("Content-Range", place).body(kind, &bytes[first..=last])
    }

    fn manifest(&self, name: &str, reference: &str) -> Reply {
        let key = (name.to_owned(), reference.to_owned());
        let digest = self.tags.get(&key).cloned().unwrap_or(key.1);
        match self.manifests.get(&(key.0, digest.clone())) {
            Some((kind, bytes)) => Reply::new(200).with("Docker-Content-Digest", digest).body(kind, bytes.clone()),
            None => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn put_manifest(&mut self, name: &str, reference: &str, request: &Request) -> Reply {
        let Ok(document) = serde_json::from_slice::<Value>(&request.body) else {
            return error(400, "MANIFEST_INVALID", "it is no JSON");
        };
        let owned = |digest: &str| self.owned.contains(&(name.to_owned(), digest.to_owned()));
        let layers = document["layers"].as_array().into_iter().flatten();
        for part in layers.chain(document.get("config")).filter_map(|part| part["digest"].as_str()) {
            if !owned(part) {
                return error(400, "MANIFEST_BLOB_UNKNOWN", &format!("blob unknown to registry: {part}"));
            }
        }
        for part in document["manifests"].as_array().into_iter().flatten() {
            let part = part["digest"].as_str().unwrap_or_default();
            if !self.manifests.contains_key(&(name.to_owned(), part.to_owned())) {
                return error(404, "MANIFEST_UNKNOWN", &format!("manifest unknown: {part}"));
            }
        }
        let real = digest(&request.body);
        if !reference.contains(':') {
            self.tags.insert((name.to_owned(), reference.to_owned()), real.clone());
        } else if reference != real {
            return error(400, "DIGEST_INVALID", "the content has another digest");
        }
        let kind = request.header("content-type").unwrap_or_default().to_owned();
        self.manifests.insert((name.to_owned(), real.clone()), (kind, request.body.clone()));
        let reply = Reply::new(201).with("Location", format!("/v2/{name}/manifests/{real}"));
        let reply = reply.with("Docker-Content-Digest", real);
        match document["subject"]["digest"].as_str() {
            Some(subject) => reply.with("OCI-Subject", subject),
            None => reply,
        }
    }

    fn start(&mut self, name: &str, request: &Request) -> Reply {
        if let (Some(wanted), Some(from)) = (request.query.get("mount"), request.query.get("from"))
            && self.owned.contains(&(from.clone(), wanted.clone()))
        {
            return self.has(name, wanted);
        }
        self.began += 1;
        let id = format!("upload-{}", self.began);
        self.uploads.insert(id.clone(), Vec::new());
        if request.query.contains_key("digest") {
            return self.upload(name, &id, &Request { method: "PUT".to_owned(), ..request.clone() });
        }
        self.going_on(202, name, &id)
    }

    fn has(&mut self, name: &str, digest: &str) -> Reply {
        self.owned.insert((name.to_owned(), digest.to_owned()));
        Reply::new(201).with("Location", format!("/v2/{name}/blobs/{digest}")).with("Docker-Content-Digest", digest)
    }

    /// How far an upload is.
    pub(crate) fn going_on(&self, status: u16, name: &str, id: &str) -> Reply {
        let last = self.uploads[id].len().saturating_sub(1);
        Reply::new(status)
            .with("Location", format!("/v2/{name}/blobs/uploads/{id}"))
            .with("Range", format!("0-{last}"))
            .with("Docker-Upload-UUID", id)
    }

    fn upload(&mut self, name: &str, id: &str, request: &Request) -> Reply {
        let Some(bytes) = self.uploads.get_mut(id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        if request.method == "GET" {
            return self.going_on(204, name, id);
        }
        let at = request.header("content-range").and_then(|range| range.split('-').next()?.parse::<usize>().ok());
        if at.is_some_and(|at| at != bytes.len()) {
            return self.going_on(416, name, id);
        }
        bytes.extend_from_slice(&request.body);
        if request.method == "PATCH" {
            return self.going_on(202, name, id);
        }
        let (real, wanted) = (digest(bytes), request.query.get("digest").cloned().unwrap_or_default());
        let bytes = self.uploads.remove(id).unwrap_or_default();
        if real != wanted {
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        self.blobs.insert(real.clone(), bytes);
        self.has(name, &real)
    }

    fn list_tags(&self, name: &str, request: &Request) -> Reply {
        let own = self.tags.keys().filter(|(of, _)| of == name).map(|(_, tag)| tag);
        let last = request.query.get("last").map_or("", String::as_str);
        let most = request.query.get("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let mut tags: Vec<&String> = own.filter(|tag| tag.as_str() > last).collect();
        let more = tags.len() > most;
        tags.truncate(most);
        let reply = Reply::new(200).body("application/json", json!({"name": name, "tags": tags}).to_string());
        match tags.last().filter(|_| more) {
            Some(last) => reply.with("Link", format!("</v2/{name}/tags/list?n={most}&last={last}>; rel=\"next\"")),
            None => reply,
        }
    }

    fn referrers(&self, name: &str, subject: &str) -> Reply {
        let own = self.manifests.iter().filter(|((of, _), _)| of == name);
        let documents = own.filter_map(|((_, digest), (kind, bytes))| {
            let document = serde_json::from_slice::<Value>(bytes).ok()?;
            (document["subject"]["digest"] == subject).then(|| {
                let artifact = document["artifactType"].as_str().or(document["config"]["mediaType"].as_str());
                json!({"mediaType": kind, "digest": digest, "size": bytes.len(), "artifactType": artifact})
            })
        });
        let kind = "application/vnd.oci.image.index.v1+json";
        let manifests: Vec<Value> = documents.collect();
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        Reply::new(200).body(kind, index.to_string())
    }
}
