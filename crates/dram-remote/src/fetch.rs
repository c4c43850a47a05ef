//! Fetches a file by its URL, with redirects, retries and conditional requests.

use std::fs::File;
use std::io::{Read, Seek as _, Write as _};

use dram_image::{Digest, DigestHasher};
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::retry::{RetryBudget, retry_after};
use crate::transport_failure::certificate_fault;
use crate::url::{origin, redacted, resolve_location, split_credentials};
use crate::{FetchError, NetworkSettings, http_date};

/// The number of transient failures after which a fetch fails.
const MAX_FAILURES: u32 = 3;
/// The number of redirects that are followed, as in Go.
const MOST_REDIRECTS: u32 = 10;

/// The validators of a response (RFC 9110, 8.8), kept exactly as the server sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpValidators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// The outcome of a conditional fetch.
#[derive(Debug)]
pub enum FetchOutcome {
    /// The file has not changed since the validators were made.
    Unchanged,
    /// The file was fetched.
    Fetched(FetchedUrl),
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedUrl {
    /// The digest of its content.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The time of its last change, in seconds since 1970, if the server gives one.
    pub mtime: Option<i64>,
    /// The validators for the next conditional request.
    pub validators: HttpValidators,
}

/// Fetches `url` into `file`, which is truncated first, unless the server answers that the validators `known` still
/// match. At most `most` bytes are accepted. A transient failure is retried twice.
///
/// # Errors
/// Fails when the file cannot be fetched or written, is too large, or the fetch is cancelled.
pub fn fetch(
    net: &NetworkSettings<'_>,
    url: &str,
    known: &HttpValidators,
    file: &mut File,
    most: u64,
) -> Result<FetchOutcome, FetchError> {
    let mut retries = RetryBudget::new(net.retry_delay, net.is_cancelled).with_failures(MAX_FAILURES);
    loop {
        let done = fetch_once(net, url, known, file, most);
        match done.as_ref().err().and_then(FetchError::transient_failure) {
            Some(failure) if retries.wait_for_retry(failure) => {}
            Some(_) | None => return done,
        }
    }
}

fn fetch_once(
    net: &NetworkSettings<'_>,
    url: &str,
    known: &HttpValidators,
    file: &mut File,
    most: u64,
) -> Result<FetchOutcome, FetchError> {
    let shown = redacted(url);
    let mut at = url.to_owned();
    let mut secret = split_credentials(url).1;
    for _ in 0..=MOST_REDIRECTS {
        if (net.is_cancelled)() {
            return Err(FetchError::Cancelled { url: shown });
        }
        let response = send_request(net, &at, secret.as_deref(), known)?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        match (response.status(), location) {
            (StatusCode::NOT_MODIFIED, _) if *known != HttpValidators::default() => return Ok(FetchOutcome::Unchanged),
            (status, Some(location)) if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) => {
                let to = resolve_location(&at, location);
                if origin(&at).0 == "https" && origin(&to).0 != "https" {
                    return Err(FetchError::InsecureRedirect { url: shown, to: redacted(&to) });
                }
                // Credentials are not sent to another origin than the one they were written for.
                secret = split_credentials(&to).1.or(secret.filter(|_| origin(&at) == origin(&to)));
                at = to;
            }
            (status, _) if status.is_success() => {
                return save_body(net, &shown, response, file, most).map(FetchOutcome::Fetched);
            }
            (status, _) => {
                let retry_after = retry_after(response.headers());
                return Err(FetchError::Status { url: shown, status: status.as_u16(), retry_after });
            }
        }
    }
    Err(FetchError::TooManyRedirects { url: shown, most: MOST_REDIRECTS })
}

fn send_request(
    net: &NetworkSettings<'_>,
    url: &str,
    secret: Option<&str>,
    known: &HttpValidators,
) -> Result<Response<Body>, FetchError> {
    let (bare, _) = split_credentials(url);
    if !matches!(origin(&bare).0.as_str(), "http" | "https") {
        return Err(FetchError::UnsupportedUrl { url: redacted(url) });
    }
    let mut request = net.new_agent(&bare)?.get(&bare);
    let proxy_secret = net.proxy_authorization(&bare);
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
    request.call().map_err(|error| request_error(url, &error))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
fn request_error(url: &str, error: &ureq::Error) -> FetchError {
    let url = redacted(url);
    if let Some((_, why)) = certificate_fault(error) {
        return FetchError::Trust { url, why };
    }
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => FetchError::UnsupportedUrl { url },
        ureq::Error::Rustls(error) => FetchError::Trust { url, why: error.to_string() },
        ureq::Error::Timeout(_) => FetchError::Transport { url, why: "the server does not respond".to_owned() },
        ureq::Error::HostNotFound => FetchError::Transport { url, why: "no such host is known".to_owned() },
        ureq::Error::Io(error) => FetchError::Transport { url, why: error.to_string() },
        error => FetchError::Transport { url, why: error.to_string() },
    }
}

fn save_body(
    net: &NetworkSettings<'_>,
    shown: &str,
    response: Response<Body>,
    file: &mut File,
    most: u64,
) -> Result<FetchedUrl, FetchError> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let validators = HttpValidators { etag: header("etag"), last_modified: header("last-modified") };
    let large = || FetchError::TooLarge { url: shown.to_owned(), most };
    if header("content-length").and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > most) {
        return Err(large());
    }
    let write = |source| FetchError::Write { url: shown.to_owned(), source };
    file.set_len(0).and_then(|()| file.rewind()).map_err(write)?;
    let mut body = response.into_body();
    let mut body = body.as_reader();
    let mut hasher = DigestHasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if (net.is_cancelled)() {
            return Err(FetchError::Cancelled { url: shown.to_owned() });
        }
        let got = body.read(&mut buffer).map_err(|error| FetchError::Transport {
            url: shown.to_owned(),
            why: format!("the response breaks off: {error}"),
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
    let mtime = validators.last_modified.as_deref().and_then(http_date::parse);
    let size = hasher.length();
    Ok(FetchedUrl { sha256: hasher.finish(), size, mtime, validators })
}
