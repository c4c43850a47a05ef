//! A correct registry in memory, after the OCI distribution specification 1.1.

use std::collections::{BTreeMap, BTreeSet};

use dram_image::Digest;
use serde_json::{Value, json};

use super::http::{Request, Response};

/// The endpoint and its parameters in the path of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Route {
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
    /// `POST` that starts an upload.
    StartUpload {
        name: String,
    },
    /// A started upload.
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
    /// No endpoint of a registry.
    Unknown,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Route {
        if path == "/token" {
            return Route::Token;
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Route::Unknown };
        if rest.is_empty() {
            return Route::Version;
        }
        let (name, what) = match rest.rsplit_once("/blobs/uploads/") {
            Some((name, "")) => return Route::StartUpload { name: name.to_owned() },
            Some((name, id)) => return Route::Upload { name: name.to_owned(), id: id.to_owned() },
            None => match rest.rsplit_once('/') {
                Some(parts) => parts,
                None => return Route::Unknown,
            },
        };
        let what = what.to_owned();
        match name.rsplit_once('/') {
            Some((name, "blobs")) => Route::Blob { name: name.to_owned(), digest: what },
            Some((name, "manifests")) => Route::Manifest { name: name.to_owned(), reference: what },
            Some((name, "referrers")) => Route::Referrers { name: name.to_owned(), digest: what },
            Some((name, "tags")) if what == "list" => Route::Tags { name: name.to_owned() },
            _ => Route::Unknown,
        }
    }

    /// Returns the name of the repository.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Route::Blob { name, .. }
            | Route::Manifest { name, .. }
            | Route::StartUpload { name }
            | Route::Upload { name, .. }
            | Route::Tags { name }
            | Route::Referrers { name, .. } => Some(name),
            Route::Version | Route::Token | Route::Unknown => None,
        }
    }
}

/// The content of a registry.
#[derive(Debug, Default)]
pub(crate) struct RegistryModel {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// Pairs of repository and digest.
    pub(crate) owned: BTreeSet<(String, String)>,
    /// Media type and bytes, by repository and digest.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// Digest, by repository and tag.
    pub(crate) tags: BTreeMap<(String, String), String>,
    pub(crate) uploads: BTreeMap<String, Vec<u8>>,
    began: usize,
}

/// Returns an error response of the specification.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    Response::new(status).body("application/json", body)
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

impl RegistryModel {
    pub(crate) fn answer(&mut self, route: &Route, request: &Request) -> Response {
        let method = request.method.as_str();
        match (route, method) {
            (Route::Version, _) => Response::new(200).body("application/json", "{}"),
            (Route::Blob { name, digest }, "GET" | "HEAD") => self.blob(name, digest, request),
            (Route::Manifest { name, reference }, "GET" | "HEAD") => self.manifest(name, reference),
            (Route::Manifest { name, reference }, "PUT") => self.put_manifest(name, reference, request),
            (Route::StartUpload { name }, "POST") => self.start(name, request),
            (Route::Upload { name, id }, "GET" | "PATCH" | "PUT") => self.upload(name, id, request),
            (Route::Tags { name }, "GET") => self.list_tags(name, request),
            (Route::Referrers { name, digest }, "GET") => self.referrers(name, digest),
            _ => error(404, "UNSUPPORTED", "there is no such thing"),
        }
    }

    fn blob(&self, name: &str, digest: &str, request: &Request) -> Response {
        let owned = self.owned.contains(&(name.to_owned(), digest.to_owned()));
        let Some(bytes) = self.blobs.get(digest).filter(|_| owned) else {
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let response = Response::new(200).with("Docker-Content-Digest", digest).with("Accept-Ranges", "bytes");
        let kind = "application/octet-stream";
        let Some(range) = request.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
            return response.body(kind, bytes.clone());
        };
        let (first, last) = range.split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let last = last.parse().unwrap_or(usize::MAX).min(bytes.len().saturating_sub(1));
        if first >= bytes.len() {
            return error(416, "RANGE_INVALID", "there is nothing")
                .with("Content-Range", format!("bytes */{}", bytes.len()));
        }
        let place = format!("bytes {first}-{last}/{}", bytes.len());
        Response { status: 206, ..response }.with("Content-Range", place).body(kind, &bytes[first..=last])
    }

    fn manifest(&self, name: &str, reference: &str) -> Response {
        let key = (name.to_owned(), reference.to_owned());
        let digest = self.tags.get(&key).cloned().unwrap_or(key.1);
        match self.manifests.get(&(key.0, digest.clone())) {
            Some((kind, bytes)) => Response::new(200).with("Docker-Content-Digest", digest).body(kind, bytes.clone()),
            None => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn put_manifest(&mut self, name: &str, reference: &str, request: &Request) -> Response {
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
        let response = Response::new(201).with("Location", format!("/v2/{name}/manifests/{real}"));
        let response = response.with("Docker-Content-Digest", real);
        match document["subject"]["digest"].as_str() {
            Some(subject) => response.with("OCI-Subject", subject),
            None => response,
        }
    }

    fn start(&mut self, name: &str, request: &Request) -> Response {
        if let (Some(wanted), Some(from)) = (request.query.get("mount"), request.query.get("from"))
            && self.owned.contains(&(from.clone(), wanted.clone()))
        {
            return self.blob_created(name, wanted);
        }
        self.began += 1;
        let id = format!("upload-{}", self.began);
        self.uploads.insert(id.clone(), Vec::new());
        if request.query.contains_key("digest") {
            return self.upload(name, &id, &Request { method: "PUT".to_owned(), ..request.clone() });
        }
        self.upload_status(202, name, &id)
    }

    fn blob_created(&mut self, name: &str, digest: &str) -> Response {
        self.owned.insert((name.to_owned(), digest.to_owned()));
        Response::new(201).with("Location", format!("/v2/{name}/blobs/{digest}")).with("Docker-Content-Digest", digest)
    }

    /// Returns the status of an upload.
    pub(crate) fn upload_status(&self, status: u16, name: &str, id: &str) -> Response {
        let last = self.uploads[id].len().saturating_sub(1);
        Response::new(status)
            .with("Location", format!("/v2/{name}/blobs/uploads/{id}"))
            .with("Range", format!("0-{last}"))
            .with("Docker-Upload-UUID", id)
    }

    fn upload(&mut self, name: &str, id: &str, request: &Request) -> Response {
        let Some(bytes) = self.uploads.get_mut(id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        if request.method == "GET" {
            return self.upload_status(204, name, id);
        }
        let at = request.header("content-range").and_then(|range| range.split('-').next()?.parse::<usize>().ok());
        if at.is_some_and(|at| at != bytes.len()) {
            return self.upload_status(416, name, id);
        }
        bytes.extend_from_slice(&request.body);
        if request.method == "PATCH" {
            return self.upload_status(202, name, id);
        }
        let (real, wanted) = (digest(bytes), request.query.get("digest").cloned().unwrap_or_default());
        let bytes = self.uploads.remove(id).unwrap_or_default();
        if real != wanted {
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        self.blobs.insert(real.clone(), bytes);
        self.blob_created(name, &real)
    }

    fn list_tags(&self, name: &str, request: &Request) -> Response {
        let own = self.tags.keys().filter(|(of, _)| of == name).map(|(_, tag)| tag);
        let last = request.query.get("last").map_or("", String::as_str);
        let most = request.query.get("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let mut tags: Vec<&String> = own.filter(|tag| tag.as_str() > last).collect();
        let more = tags.len() > most;
        tags.truncate(most);
        let response = Response::new(200).body("application/json", json!({"name": name, "tags": tags}).to_string());
        match tags.last().filter(|_| more) {
            Some(last) => response.with("Link", format!("</v2/{name}/tags/list?n={most}&last={last}>; rel=\"next\"")),
            None => response,
        }
    }

    fn referrers(&self, name: &str, subject: &str) -> Response {
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
        Response::new(200).body(kind, index.to_string())
    }
}
