//! A web server for tests: on loopback, one answer for each path, and Git repositories.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a path answers.
pub(crate) enum Answer {
    /// These bytes, to the letter.
    Raw(Vec<u8>),
    /// These bytes with status 200, and more lines for the header.
    File(&'static str, Vec<u8>),
    /// 304 to whoever knows the tag, else the file.
    Tagged(&'static str, Vec<u8>),
    /// This status and nothing else so often; then a file.
    Later(usize, u16),
    /// It leads elsewhere.
    To(String),
    /// A header, and then bytes for ever.
    Endless,
    /// Nothing at all.
    Silence,
    /// Only for this `Authorization`.
    Secret(&'static str),
    /// A proxy's answer to whatever is asked.
    Any(Vec<u8>),
}

/// It ends with the test.
pub(crate) struct Server {
    address: String,
    /// The first line of each request, with what was said of caching.
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `answers`, and repositories below `/git/` from `repositories`.
    pub(crate) fn new(answers: impl IntoIterator<Item = (&'static str, Answer)>, repositories: &Path) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let world = Arc::new(World {
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
        Server { address, log }
    }

    pub(crate) fn files(answers: impl IntoIterator<Item = (&'static str, Answer)>) -> Server {
        Server::new(answers, Path::new("/nonexistent"))
    }

    /// The address of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        &self.address
    }

    /// What was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

struct World {
    answers: BTreeMap<&'static str, Answer>,
    repositories: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
}

/// A request: method, path, query, headers with small names, body.
struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl World {
    /// Whoever asks may have gone: then there is nobody to tell.
    fn answer(&self, mut stream: TcpStream) {
        let Some(request) = read(&stream) else { return };
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
            None => ok("404 Not Found", "", b""),
            Some(Answer::Raw(bytes)) => bytes.clone(),
            Some(Answer::File(more, bytes)) => ok("200 OK", more, bytes),
            Some(Answer::Tagged(tag, _)) if known == *tag => ok("304 Not Modified", "", b""),
            Some(Answer::Tagged(tag, bytes)) => ok("200 OK", &format!("ETag: {tag}\r\n"), bytes),
            Some(Answer::Later(often, status)) if times <= *often => ok(&format!("{status} Later"), "", b""),
            Some(Answer::Later(_, _)) => ok("200 OK", "", b"later"),
            Some(Answer::To(place)) => ok("302 Found", &format!("Location: {place}\r\n"), b""),
            Some(Answer::Secret(secret)) if header("authorization") == *secret => ok("200 OK", "", b"secret"),
            Some(Answer::Secret(_)) => ok("401 Unauthorized", "", b""),
            Some(Answer::Any(bytes)) => ok("200 OK", "", bytes),
            Some(Answer::Silence) => {
                thread::sleep(Duration::from_secs(20));
                return;
            }
            Some(Answer::Endless) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n");
                while stream.write_all(&[0; 65536]).is_ok() {}
                return;
            }
        };
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
    }

    /// What `git http-backend` says, which speaks CGI.
    fn git(&self, request: &Request) -> Vec<u8> {
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

fn read(stream: &TcpStream) -> Option<Request> {
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
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

/// An answer.
pub(crate) fn ok(status: &str, more: &str, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let mut out =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n").into_bytes();
    out.extend_from_slice(bytes);
    out
}
