//! A client for Docker engines: `POST /images/load` of the Docker Engine API, which podman's service implements too.
//!
//! HTTP/1.1 is written here by hand, although registries are spoken to with `ureq`. Engines listen on a Unix socket, for
//! which `ureq` needs a transport of its unversioned interface, which may change with any release. And an engine that
//! refuses an image may close the connection before it has read all of it: after a failed write the response is read
//! nevertheless, since it has the reason.

use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use dram_error::{ErrorClass, ErrorReport};
use dram_image::Digest;
use serde::Deserialize;

use crate::engine_tls::EngineTls;
use crate::host_lookup::HostResolver;

/// The largest response body that is read, in bytes.
const MAX_RESPONSE_BYTES: u64 = 32 << 20;
/// The longest header line that is read, in bytes.
const MAX_HEADER_LINE_BYTES: u64 = 16 << 10;
/// The number of images whose layers are inspected.
const MAX_INSPECTED_IMAGES: usize = 200;

/// An error of a request to an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// `DOCKER_HOST` is not the address of an engine that is supported here.
    #[error("`{0}` is no address of an engine that can be reached")]
    Address(String),
    /// The address is one of SSH, which is not spoken here.
    #[error("the engine is at `{0}`, and dram does not speak SSH with engines")]
    Ssh(String),
    /// The selected Docker context does not exist.
    #[error("there is no Docker context `{0}`")]
    UnknownContext(String),
    /// The selected Docker context asks for TLS without verification of the engine.
    #[error("the Docker context `{0}` does not verify the engine's certificate, and dram does not connect unverified")]
    UnverifiedTls(String),
    /// A file of Docker's settings cannot be read.
    #[error("cannot read {}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The error of the system, or what is wrong with the file.
        #[source]
        source: io::Error,
    },
    /// The connection cannot be made.
    #[error("cannot reach the engine at {place}")]
    Unreachable {
        /// The address of the engine.
        place: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or the response is not valid.
    #[error("cannot speak with the engine at {place}")]
    Broken {
        /// The address of the engine.
        place: String,
        /// The error of the connection, or of parsing the response.
        #[source]
        source: io::Error,
    },
    /// The engine answers with an error.
    #[error("the engine at {place} refuses: {why}")]
    Refused {
        /// The address of the engine.
        place: String,
        /// The status of the response; `None` when the error is a message in the body of a response without one.
        status: Option<u16>,
        /// The kind of the refusal.
        kind: EngineRefusalKind,
        /// The status and message of the engine.
        why: String,
    },
}

/// The kind of an engine's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineRefusalKind {
    /// The image has more layers than the engine takes.
    TooManyLayers,
    /// Any other refusal.
    Other,
}

impl EngineRefusalKind {
    /// Returns the kind of a refusal with the message `message`. An engine says more than the status only in words.
    fn of_message(message: &str) -> EngineRefusalKind {
        // This is Docker's whole message; its limit is 125 layers.
        match message.ends_with("max depth exceeded") {
            true => EngineRefusalKind::TooManyLayers,
            false => EngineRefusalKind::Other,
        }
    }
}

impl ErrorReport for EngineError {
    fn class(&self) -> ErrorClass {
        match self {
            EngineError::Refused { .. } => ErrorClass::Refused,
            EngineError::Address(_)
            | EngineError::Ssh(_)
            | EngineError::UnknownContext(_)
            | EngineError::UnverifiedTls(_)
            | EngineError::Settings { .. }
            | EngineError::Unreachable { .. }
            | EngineError::Broken { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        let help = match self {
            EngineError::Address(_) => Some("as `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`"),
            EngineError::Ssh(address) => {
                let host = address.strip_prefix("ssh://").unwrap_or(address);
                let host = host.split('/').next().unwrap_or_default();
                return vec![format!(
                    "have ssh bring its socket here: `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock {host}`, and set \
                     DOCKER_HOST=unix:///tmp/docker.sock"
                )];
            }
            EngineError::UnknownContext(_) => {
                Some("`docker context ls` lists them; DOCKER_HOST or DOCKER_CONTEXT selects another engine")
            }
            EngineError::UnverifiedTls(_) => {
                Some("give it the engine's CA: `docker context update --docker host=…,ca=FILE`")
            }
            EngineError::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("its socket is for root and for a group, often `docker`: run dram as one of them")
            }
            EngineError::Unreachable { .. } => Some("start the engine, or let DOCKER_HOST say where it listens"),
            EngineError::Refused { kind: EngineRefusalKind::TooManyLayers, .. } => Some(
                "Docker takes up to 125 layers: make one of them with `dram squash IMAGE NAME`, or write fewer steps",
            ),
            EngineError::Settings { .. }
            | EngineError::Broken { .. }
            | EngineError::Refused { kind: EngineRefusalKind::Other, .. } => None,
        };
        help.map(str::to_owned).into_iter().collect()
    }
}

/// A Docker engine, or podman's service.
#[derive(Debug, Clone)]
pub struct Engine {
    address: EngineAddress,
    /// The files of TLS, if it is spoken over a network.
    tls: Option<EngineTls>,
    /// The read timeout of requests other than loading, which has none.
    stall_timeout: Duration,
}

#[derive(Debug, Clone)]
enum EngineAddress {
    Unix(PathBuf),
    Tcp(String),
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineAddress::Unix(path) => path.display().fmt(out),
            EngineAddress::Tcp(host) => host.fmt(out),
        }
    }
}

trait EngineStream: Read + Write + Send {}
impl<S: Read + Write + Send> EngineStream for S {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedImage {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedImage {
    #[serde(rename = "RootFS")]
    root_fs: InspectedRootFs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedRootFs {
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineInfo {
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
    /// Only Docker's engine has this field.
    #[serde(default)]
    docker_root_dir: Option<String>,
}

#[derive(Deserialize)]
struct EngineMessage {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    cause: Option<String>,
}

impl Engine {
    /// Returns the engine at `address`, in the form of `DOCKER_HOST`, or at the default socket without an address.
    /// With `tls`, an engine that is reached over a network is authenticated.
    ///
    /// # Errors
    /// Fails when the address is not of a supported kind.
    pub fn from_address(address: Option<&str>, tls: Option<EngineTls>, stall: Duration) -> Result<Engine, EngineError> {
        let place = match address.filter(|address| !address.is_empty()) {
            None | Some("unix://") => EngineAddress::Unix(PathBuf::from("/var/run/docker.sock")),
            Some(text) => match text.split_once("://") {
                Some(("unix", path)) => EngineAddress::Unix(PathBuf::from(path)),
                Some(("tcp" | "http", host)) => {
                    let port = if tls.is_some() { 2376 } else { 2375 };
                    EngineAddress::Tcp(with_port(host, port).ok_or_else(|| EngineError::Address(text.to_owned()))?)
                }
                Some(("ssh", _)) => return Err(EngineError::Ssh(text.to_owned())),
                Some(_) | None => return Err(EngineError::Address(text.to_owned())),
            },
        };
        Ok(Engine { address: place, tls, stall_timeout: stall })
    }

    fn connection_error(&self) -> impl Fn(io::Error) -> EngineError + '_ {
        |source| EngineError::Broken { place: self.address.to_string(), source }
    }

    fn connect(&self, stall: Option<Duration>) -> Result<Box<dyn EngineStream>, EngineError> {
        let connected: io::Result<Box<dyn EngineStream>> = match &self.address {
            EngineAddress::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(stall)?;
                Ok(Box::new(stream) as Box<dyn EngineStream>)
            }),
            EngineAddress::Tcp(host) => HostResolver::default().connect(host, self.stall_timeout).and_then(|stream| {
                stream.set_read_timeout(stall)?;
                Ok(match &self.tls {
                    Some(tls) => Box::new(tls.start(host, stream)?) as Box<dyn EngineStream>,
                    None => Box::new(stream) as Box<dyn EngineStream>,
                })
            }),
        };
        connected.map_err(|source| EngineError::Unreachable { place: self.address.to_string(), source })
    }

    fn get(&self, path: &str) -> Result<Vec<u8>, EngineError> {
        let mut stream = self.connect(Some(self.stall_timeout))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).map_err(self.connection_error())?;
        let (status, body) = read_response(stream).map_err(self.connection_error())?;
        if status == 200 { Ok(body) } else { Err(self.refusal(status, &body)) }
    }

    fn info(&self) -> Result<Option<EngineInfo>, EngineError> {
        match self.get_json("/info") {
            // Proxies in front of an engine's socket may permit only some requests.
            Err(EngineError::Refused { status: Some(403 | 404), .. }) => Ok(None),
            info => info.map(Some),
        }
    }

    fn get_json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let bytes = self.get(path)?;
        serde_json::from_slice(&bytes).map_err(|error| self.connection_error()(io::Error::other(error)))
    }

    fn refusal(&self, status: u16, body: &[u8]) -> EngineError {
        let message = serde_json::from_slice::<EngineMessage>(body).ok();
        let message = message.and_then(|message| message.message.or(message.error).or(message.cause));
        let why = message.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned());
        let why = format!("{status} {why}").trim().to_owned();
        self.refused(Some(status), why)
    }

    fn refused(&self, status: Option<u16>, why: String) -> EngineError {
        EngineError::Refused { place: self.address.to_string(), status, kind: EngineRefusalKind::of_message(&why), why }
    }

    /// Returns how many layers of an image, given by their diff IDs, lowest first, the engine has and does not need
    /// again. Returns zero for an engine that needs every layer in the archive: podman, and Docker with the containerd
    /// image store.
    ///
    /// # Errors
    /// Fails when no engine can be reached, or its response to `/info` is not valid.
    pub fn count_known_layers(&self, diff_ids: &[Digest]) -> Result<usize, EngineError> {
        let Some(info) = self.info()? else { return Ok(0) };
        let mut status = info.driver_status.into_iter().flatten();
        if info.docker_root_dir.is_none() || status.any(|pair| pair.first().is_some_and(|key| key == "driver-type")) {
            return Ok(0);
        }
        let Ok(all) = self.get_json::<Vec<ListedImage>>("/images/json") else { return Ok(0) };
        let mut shared_layers = 0;
        for image in all.iter().take(MAX_INSPECTED_IMAGES).filter(|image| is_image_id(&image.id)) {
            let Ok(inspected) = self.get_json::<InspectedImage>(&format!("/images/{}/json", image.id)) else {
                continue;
            };
            let same = inspected.root_fs.layers.iter().zip(diff_ids);
            shared_layers = shared_layers.max(same.take_while(|(has, wanted)| **has == wanted.to_string()).count());
        }
        Ok(shared_layers)
    }

    /// Loads an archive of images, which `write` writes, into the engine.
    ///
    /// # Errors
    /// Fails when the engine cannot be reached or refuses the archive. An error of `write` takes precedence.
    pub fn load<E: From<EngineError>>(
        &self,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut stream = self.connect(None)?;
        let head = "POST /images/load?quiet=1 HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\
                    Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).map_err(self.connection_error())?;
        let mut out = BufWriter::with_capacity(256 << 10, ChunkedWriter { stream, closed: false });
        let written = write(&mut out).and_then(|()| out.flush().map_err(|error| self.connection_error()(error).into()));
        // The buffered rest of an incomplete archive must not reach the engine.
        let ChunkedWriter { mut stream, closed } = out.into_parts().0;
        match written {
            Ok(()) => stream.write_all(b"0\r\n\r\n").and_then(|()| stream.flush()).map_err(self.connection_error())?,
            // The engine may have closed the connection with a response that gives the reason.
            Err(error) if closed => {
                return Err(match read_response(stream) {
                    Ok((status, body)) if status != 200 => self.refusal(status, &body).into(),
                    Ok(_) | Err(_) => error,
                });
            }
            Err(error) => return Err(error),
        }
        let (status, body) = read_response(stream).map_err(self.connection_error())?;
        if status != 200 {
            return Err(self.refusal(status, &body).into());
        }
        // The status may be 200 and a later message an error: every line of the body is a message.
        let lines =
            body.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<EngineMessage>(line).ok());
        match lines.filter_map(|message| message.error).next() {
            Some(why) => Err(self.refused(None, why).into()),
            None => Ok(()),
        }
    }
}

fn is_image_id(text: &str) -> bool {
    text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b':')
}

/// Returns `host` with its port, or `None` when it holds more than host and port.
fn with_port(host: &str, port: u16) -> Option<String> {
    let host = host.trim_end_matches('/');
    match host {
        "" => Some(format!("127.0.0.1:{port}")),
        _ if host.contains(['@', '/', '?', '#']) => None,
        _ if host.ends_with(']') || !host.contains(':') => Some(format!("{host}:{port}")),
        _ => Some(host.to_owned()),
    }
}

/// Writes each buffer as one chunk of HTTP's chunked encoding.
struct ChunkedWriter {
    stream: Box<dyn EngineStream>,
    /// True after a write failed, as the engine takes no more.
    closed: bool,
}

impl ChunkedWriter {
    fn write_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        self.stream.write_all(bytes)?;
        self.stream.write_all(b"\r\n")
    }
}

impl Write for ChunkedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let written = self.write_chunk(bytes);
        self.closed |= written.is_err();
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Reads the status and the body of a response, both bounded.
fn read_response(stream: impl Read) -> io::Result<(u16, Vec<u8>)> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut reader = BufReader::new(stream);
    loop {
        let first = read_line(&mut reader)?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok());
        let status = status.filter(|_| first.starts_with("HTTP/1.")).ok_or_else(|| wrong("it does not speak HTTP"))?;
        let (mut length, mut chunked) = (None, false);
        for _ in 0..200 {
            let text = read_line(&mut reader)?;
            let Some((name, value)) = text.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse::<u64>().ok(),
                "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        if (100..200).contains(&status) {
            continue;
        }
        let mut body = Vec::new();
        match (chunked, length) {
            (true, _) => read_chunked_body(&mut reader, &mut body)?,
            (false, Some(length)) => drop(reader.take(length.min(MAX_RESPONSE_BYTES)).read_to_end(&mut body)?),
            (false, None) => drop(reader.take(MAX_RESPONSE_BYTES).read_to_end(&mut body)?),
        }
        return Ok((status, body));
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(MAX_HEADER_LINE_BYTES).read_until(b'\n', &mut bytes)?;
    if !bytes.ends_with(b"\n") {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of a line"));
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
}

fn read_chunked_body(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = read_line(reader)?;
        let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk has no length"))?;
        if size == 0 {
            return Ok(());
        }
        if size + body.len() as u64 > MAX_RESPONSE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer does not end"));
        }
        if reader.take(size).read_to_end(body)? as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_line(reader)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_with_length_chunks_or_interim_status() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", Some((200, "abc"))),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\n\r\nwhy", Some((500, "why"))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
                Some((200, "abc")),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nab", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", None),
            ("HTTP/1.1 200", None),
            ("SSH-2.0\r\n\r\n", None),
            ("", None),
        ] {
            let found = read_response(text.as_bytes()).ok();
            let found = found.as_ref().map(|(status, body)| (*status, std::str::from_utf8(body).unwrap()));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn engine_addresses_are_parsed_and_tls_has_another_port() {
        let stall = Duration::from_secs(1);
        for (address, place) in [
            (None, Some("/var/run/docker.sock")),
            (Some(""), Some("/var/run/docker.sock")),
            (Some("unix:///run/user/1/podman.sock"), Some("/run/user/1/podman.sock")),
            (Some("unix://"), Some("/var/run/docker.sock")),
            (Some("tcp://127.0.0.1:2376/"), Some("127.0.0.1:2376")),
            (Some("tcp://host"), Some("host:2375")),
            (Some("tcp://[::1]"), Some("[::1]:2375")),
            (Some("tcp://[::1]:5"), Some("[::1]:5")),
            (Some("tcp://"), Some("127.0.0.1:2375")),
            (Some("tcp://host:1/path"), None),
            (Some("tcp://user@host:1"), None),
            (Some("unix:/run/docker.sock"), None),
            (Some("ssh://host"), None),
            (Some("host"), None),
        ] {
            let engine = Engine::from_address(address, None, stall).ok().map(|engine| engine.address.to_string());
            assert_eq!(engine.as_deref(), place, "{address:?}");
            let tls = Some(EngineTls::in_dir(std::path::Path::new("/nowhere")));
            let with_tls = Engine::from_address(address, tls, stall).ok().map(|engine| engine.address.to_string());
            assert_eq!(with_tls, place.map(|place| place.replace(":2375", ":2376")), "{address:?}");
        }
    }
}
