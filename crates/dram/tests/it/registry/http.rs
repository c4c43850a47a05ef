//! A minimal HTTP server side, with every way to deliver a response badly.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

/// An HTTP request with its decoded body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Names are in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Reads the next request of a connection; `None` at its end.
    pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let headers = headers(reader)?;
        if headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let chunked = headers.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = if chunked { chunks(reader)? } else { exactly(reader, length)? };
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = query.split('&').filter(|pair| !pair.is_empty());
        let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let in_query = |text: &str| decoded(&text.replace('+', "%20"));
        let query = query.map(|(name, value)| (in_query(name), in_query(value))).collect();
        Ok(Some(Request { method, path: decoded(path), query, headers, body }))
    }
}

fn headers(reader: &mut BufReader<TcpStream>) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { return Ok(found) };
        found.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn exactly(reader: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn chunks(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        body.extend(exactly(reader, length)?);
        reader.read_line(&mut String::new())?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex: Vec<u8> = if byte == b'%' { rest.by_ref().take(2).collect() } else { Vec::new() };
        let code = std::str::from_utf8(&hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.unwrap_or(byte));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An HTTP response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) delivery: Delivery,
}

/// The way a response is delivered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delivery {
    Whole,
    /// Half of the promised body, then the connection is closed.
    Half,
    /// Chunked, with this many additional bytes.
    More(usize),
    /// This many bytes of the body per second.
    Slow(usize),
    /// Half of the body, then nothing for this time.
    Stall(Duration),
    /// One byte of the header per second.
    SlowHeader,
    /// The connection is closed without a response.
    Close,
    /// Bytes that are not HTTP.
    Garbage,
}

impl Response {
    pub(crate) fn new(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: Vec::new(), delivery: Delivery::Whole }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, kind: &str, bytes: impl Into<Vec<u8>>) -> Response {
        self.body = bytes.into();
        self.with("Content-Type", kind)
    }

    pub(crate) fn delivery(mut self, delivery: Delivery) -> Response {
        self.delivery = delivery;
        self
    }

    /// Writes the response; returns true if the connection can be kept alive.
    pub(crate) fn send(&self, out: &mut TcpStream, head_only: bool) -> io::Result<bool> {
        let mut header = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        self.headers.iter().for_each(|(name, value)| header += &format!("{name}: {value}\r\n"));
        match self.delivery {
            Delivery::More(_) => header += "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            Delivery::Whole if matches!(self.status, 204 | 304) => header += "\r\n",
            Delivery::Whole => header += &format!("Content-Length: {}\r\n\r\n", self.body.len()),
            Delivery::Half
            | Delivery::Slow(_)
            | Delivery::Stall(_)
            | Delivery::SlowHeader
            | Delivery::Close
            | Delivery::Garbage => {
                header += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len());
            }
        }
        let (header, half) = (header.as_bytes(), self.body.len() / 2);
        let body: &[u8] = if head_only { &[] } else { &self.body };
        match &self.delivery {
            Delivery::Whole => {
                out.write_all(header)?;
                out.write_all(body)?;
                return Ok(true);
            }
            Delivery::Half => out.write_all(&[header, &body[..half.min(body.len())]].concat())?,
            Delivery::More(more) => {
                out.write_all(header)?;
                let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
                out.write_all(&chunk(body))?;
                // The client closes the connection when it stops reading.
                let piece = chunk(&vec![b'x'; 1 << 16]);
                (0..more.div_ceil(1 << 16)).try_for_each(|_| out.write_all(&piece))?;
                out.write_all(&chunk(b""))?;
            }
            Delivery::Slow(rate) => {
                out.write_all(header)?;
                trickle(out, body, *rate)?;
            }
            Delivery::Stall(time) => {
                out.write_all(&[header, &body[..half.min(body.len())]].concat())?;
                thread::sleep(*time);
            }
            Delivery::SlowHeader => trickle(out, header, 1)?,
            Delivery::Close => {}
            Delivery::Garbage => out.write_all(&[0xfe; 4096])?,
        }
        // Closing a socket with unread input resets the connection and loses the response, so only the write side is
        // shut down.
        out.shutdown(Shutdown::Write)?;
        Ok(false)
    }
}

fn trickle(out: &mut TcpStream, bytes: &[u8], rate: usize) -> io::Result<()> {
    for part in bytes.chunks(rate.div_ceil(10).max(1)) {
        out.write_all(part)?;
        thread::sleep(Duration::from_millis(if rate < 10 { 1000 / rate as u64 } else { 100 }));
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200..300 => "Fine",
        300..400 => "Elsewhere",
        400..500 => "Your Fault",
        _ => "Our Fault",
    }
}
