//! HTTP server for tests on the loopback interface, with one response for each path, and Git repositories.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The response for a path.
pub(crate) enum CannedResponse {
    /// Sends exactly these bytes.
    Raw(Vec<u8>),
    /// Sends these bytes with status 200 and additional header lines.
    File(&'static str, Vec<u8>),
    /// Sends 304 if the request has this ETag, else the file.
    WithEtag(&'static str, Vec<u8>),
    /// Sends this status the given number of times, then a file.
    FailFirst(usize, u16),
    /// Redirects to this address.
    Redirect(String),
    /// Sends a header and then an endless body.
    Endless,
    /// Sends nothing.
    Stall,
    /// Sends a file if the request has this `Authorization`, else 401.
    ForAuthorization(&'static str),
    /// Sends these bytes for any request, as a proxy.
    Any(Vec<u8>),
}

/// A running server; its threads end with the test process.
pub(crate) struct TestServer {
    address: String,
    /// The request line of each request, with its `If-None-Match`.
    log: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    /// Serves `answers`, and the repositories in `repositories` below `/git/`.
    pub(crate) fn new(
        answers: impl IntoIterator<Item = (&'static str, CannedResponse)>,
        repositories: &Path,
    ) -> TestServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let world = Arc::new(ServerState {
            answers: answers.into_iter().collect(),
            repositories: repositories.to_owned(),
            log: log.clone(),
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let world = world.clone();
                thread::spawn(move || world.answer(stream.unwrap()));
            }
        });
        TestServer { address, log }
    }

    pub(crate) fn files(answers: impl IntoIterator<Item = (&'static str, CannedResponse)>) -> TestServer {
        TestServer::new(answers, Path::new("/nonexistent"))
    }

    /// Returns the URL of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns host and port.
    pub(crate) fn host(&self) -> &str {
        &self.address
    }

    /// Returns the requests since the last call.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

struct ServerState {
    answers: BTreeMap<&'static str, CannedResponse>,
    repositories: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
}

/// A parsed HTTP request. Header names are in lower case.
struct HttpRequest {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl ServerState {
    /// Answers one request. Write errors are ignored, because the client may have closed the connection.
    fn answer(&self, mut stream: TcpStream) {
        let Some(request) = read_request(&stream) else { return };
        let header = |name: &str| request.headers.get(name).map_or("", String::as_str).to_owned();
        let known = header("if-none-match");
        let times = {
            let mut log = self.log.lock().unwrap();
            let line = format!("{} {} {known}", request.method, request.path);
            log.push(line.trim().to_owned());
            log.iter().filter(|old| **old == line.trim()).count()
        };
        if request.path.starts_with("/git/") {
            let _ = stream.write_all(&self.git(&request));
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let any = self.answers.get("*");
        let bytes = match self.answers.get(request.path.as_str()).or(any) {
            None => http_response("404 Not Found", "", b""),
            Some(CannedResponse::Raw(bytes)) => bytes.clone(),
            Some(CannedResponse::File(more, bytes)) => http_response("200 OK", more, bytes),
            Some(CannedResponse::WithEtag(tag, _)) if known == *tag => http_response("304 Not Modified", "", b""),
            Some(CannedResponse::WithEtag(tag, bytes)) => http_response("200 OK", &format!("ETag: {tag}\r\n"), bytes),
            Some(CannedResponse::FailFirst(often, status)) if times <= *often => {
                http_response(&format!("{status} Later"), "", b"")
            }
            Some(CannedResponse::FailFirst(_, _)) => http_response("200 OK", "", b"later"),
            Some(CannedResponse::Redirect(place)) => http_response("302 Found", &format!("Location: {place}\r\n"), b""),
            Some(CannedResponse::ForAuthorization(secret)) if header("authorization") == *secret => {
                http_response("200 OK", "", b"secret")
            }
            Some(CannedResponse::ForAuthorization(_)) => http_response("401 Unauthorized", "", b""),
            Some(CannedResponse::Any(bytes)) => http_response("200 OK", "", bytes),
            Some(CannedResponse::Stall) => {
                thread::sleep(Duration::from_secs(20));
                return;
            }
            Some(CannedResponse::Endless) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n");
                while stream.write_all(&[0; 65536]).is_ok() {}
                return;
            }
        };
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
    }

    /// Returns the response of `git http-backend`, which is a CGI program.
    fn git(&self, request: &HttpRequest) -> Vec<u8> {
        let header = |name: &str| request.headers.get(name).map_or("", String::as_str).to_owned();
        let mut command = Command::new("git");
        command.arg("http-backend").env("GIT_PROJECT_ROOT", &self.repositories).env("GIT_HTTP_EXPORT_ALL", "1");
        command.env("REQUEST_METHOD", &request.method).env("QUERY_STRING", &request.query);
        command.env("PATH_INFO", request.path.strip_prefix("/git").unwrap()).env("REMOTE_ADDR", "127.0.0.1");
        command.env("CONTENT_TYPE", header("content-type")).env("CONTENT_LENGTH", request.body.len().to_string());
        command.env("HTTP_CONTENT_ENCODING", header("content-encoding"));
        command.env("GIT_PROTOCOL", header("git-protocol")).env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let body = request.body.clone();
        let writer = thread::spawn(move || stdin.write_all(&body).is_ok());
        let said = child.wait_with_output().unwrap().stdout;
        let _ = writer.join();
        let end = said.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
        let head = String::from_utf8_lossy(&said[..end]).into_owned();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
        let mut out = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
        out.extend_from_slice(&said);
        out
    }
}

fn read_request(stream: &TcpStream) -> Option<HttpRequest> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(HttpRequest { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

/// Returns an HTTP response with additional header lines.
pub(crate) fn http_response(status: &str, more: &str, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let mut out =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n").into_bytes();
    out.extend_from_slice(bytes);
    out
}
