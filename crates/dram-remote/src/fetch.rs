//! Fetches a file by its URL, with redirects, retries and conditional requests.

use std::fs::File;
use std::io::{Read, Seek as _, Write as _};
use std::thread;

use dram_image::{Digest, Hasher};
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::address::{joined, origin, parted, redacted};
use crate::{Net, RemoteError, date};

/// The number of attempts.
const ATTEMPTS: u32 = 3;
/// The number of redirects that are followed, as in Go.
const MOST_REDIRECTS: u32 = 10;

/// The validators of a response (RFC 9110, 8.8), kept exactly as the server sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// The outcome of a conditional fetch.
#[derive(Debug)]
pub enum Answer {
    /// The file has not changed since the validators were made.
    Unchanged,
    /// The file was fetched.
    New(Fetched),
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The digest of its content.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The time of its last change, in seconds since 1970, if the server gives one.
    pub mtime: Option<i64>,
    /// The validators for the next conditional request.
    pub validators: Validators,
}

/// Fetches `url` into `file`, which is truncated first, unless the server answers that the validators `known` still
/// match. At most `most` bytes are accepted. A transient failure is retried twice.
///
/// # Errors
/// Fails when the file cannot be fetched or written, is too large, or the fetch is cancelled.
pub fn fetch(net: &Net<'_>, url: &str, known: &Validators, file: &mut File, most: u64) -> Result<Answer, RemoteError> {
    let mut pause = net.pause;
    let mut attempt = 1;
    loop {
        match attempted(net, url, known, file, most) {
            Err(error) if error.is_passing() && attempt < ATTEMPTS && !(net.stop)() => {
                thread::sleep(pause);
                pause *= 2;
                attempt += 1;
            }
            done => return done,
        }
    }
}

fn attempted(net: &Net<'_>, url: &str, known: &Validators, file: &mut File, most: u64) -> Result<Answer, RemoteError> {
    let shown = redacted(url);
    let mut at = url.to_owned();
    let mut secret = parted(url).1;
    for _ in 0..=MOST_REDIRECTS {
        if (net.stop)() {
            return Err(RemoteError::Stopped { url: shown });
        }
        let response = ask(net, &at, secret.as_deref(), known)?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        match (response.status(), location) {
            (StatusCode::NOT_MODIFIED, _) if *known != Validators::default() => return Ok(Answer::Unchanged),
            (status, Some(location)) if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) => {
                let to = joined(&at, location);
                if origin(&at).0 == "https" && origin(&to).0 != "https" {
                    return Err(RemoteError::Downgrade { url: shown, to: redacted(&to) });
                }
                // Credentials are not sent to another origin than the one they were written for.
                secret = parted(&to).1.or(secret.filter(|_| origin(&at) == origin(&to)));
                at = to;
            }
            (status, _) if status.is_success() => return save(net, &shown, response, file, most).map(Answer::New),
            (status, _) => return Err(RemoteError::Status { url: shown, status: status.as_u16() }),
        }
    }
    Err(RemoteError::Redirects { url: shown, most: MOST_REDIRECTS })
}

fn ask(net: &Net<'_>, url: &str, secret: Option<&str>, known: &Validators) -> Result<Response<Body>, RemoteError> {
    let (bare, _) = parted(url);
    if !matches!(origin(&bare).0.as_str(), "http" | "https") {
        return Err(RemoteError::Address { url: redacted(url) });
    }
    let mut request = net.agent(&bare)?.get(&bare);
    let proxy_secret = net.proxy_secret(&bare);
    for (name, value) in [
        ("proxy-authorization", proxy_secret.as_deref()),
        ("authorization", secret),
        ("if-none-match", known.etag.as_deref()),
        ("if-modified-since", known.last_modified.as_deref().filter(|_| known.etag.is_none())),
    ] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    request.call().map_err(|error| failed(url, &error))
}

fn failed(url: &str, error: &ureq::Error) -> RemoteError {
    let url = redacted(url);
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => RemoteError::Address { url },
        ureq::Error::Rustls(error) => RemoteError::Trust { url, why: error.to_string() },
        ureq::Error::Timeout(_) => RemoteError::Fetch { url, why: "the server says nothing".to_owned() },
        ureq::Error::HostNotFound => RemoteError::Fetch { url, why: "no such host is known".to_owned() },
        ureq::Error::Io(error) => match rustls_of(error) {
            Some(why) => RemoteError::Trust { url, why },
            None => RemoteError::Fetch { url, why: error.to_string() },
        },
        error => RemoteError::Fetch { url, why: error.to_string() },
    }
}

/// Errors of a certificate arrive wrapped in an I/O error of the connection.
fn rustls_of(error: &std::io::Error) -> Option<String> {
    let text = error.get_ref()?.to_string();
    text.contains("certificate").then_some(text)
}

fn save(
    net: &Net<'_>,
    shown: &str,
    response: Response<Body>,
    file: &mut File,
    most: u64,
) -> Result<Fetched, RemoteError> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let validators = Validators { etag: header("etag"), last_modified: header("last-modified") };
    let large = || RemoteError::Large { url: shown.to_owned(), most };
    if header("content-length").and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > most) {
        return Err(large());
    }
    let write = |source| RemoteError::Write { url: shown.to_owned(), source };
    file.set_len(0).and_then(|()| file.rewind()).map_err(write)?;
    let mut body = response.into_body();
    let mut body = body.as_reader();
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if (net.stop)() {
            return Err(RemoteError::Stopped { url: shown.to_owned() });
        }
        let got = body.read(&mut buffer).map_err(|error| RemoteError::Fetch {
            url: shown.to_owned(),
            why: format!("what comes breaks off: {error}"),
        })?;
        if got == 0 {
            break;
        }
        hasher.update(&buffer[..got]);
        if hasher.length() > most {
            return Err(large());
        }
        file.write_all(&buffer[..got]).map_err(write)?;
    }
    let mtime = validators.last_modified.as_deref().and_then(date::parse);
    let size = hasher.length();
    Ok(Fetched { sha256: hasher.finish(), size, mtime, validators })
}
