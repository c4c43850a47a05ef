//! Connects to the running node and calls functions there.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use dram_start::bytes::{Bytes, number, split_once};
use dram_start::conf::Distribution;
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::node::address::{Address, addresses, full_name, mapper_port};
use dram_start::node::handshake::{ANSWER, Handshake, Next, Port, Refused, ask_port, read_port};
use dram_start::node::session::{Event, Session};
use dram_start::release::{Release, value_of};
use dram_start::term::Term;

use crate::errno::Errno;
use crate::net::{self, Got, Stream};
use crate::running::{self, Running};
use crate::{files, prepare, sys};

/// The timeout of each step of the connection, in milliseconds.
const PATIENCE: u64 = 7000;
/// The interval of ticks, in milliseconds. Nodes close a silent connection after four times as long.
const HEARTBEAT: u64 = 10_000;
/// The size limit of a message.
const LARGEST: usize = 64 << 20;

/// The node of the running release, as the settings describe it.
pub(crate) struct Target {
    /// Its full name, if it has one.
    pub(crate) node: Option<Bytes>,
    /// The kind of its name: short or long.
    pub(crate) kind: Distribution,
    cookie: Option<Bytes>,
    /// The port it listens on, if it is set and EPMD is not used.
    port: Option<u16>,
    encrypted: bool,
}

/// Computes the name, the cookie and the port of the node from the settings.
pub(crate) fn target(release: &Release, env: &Environment) -> Result<Target, Fault> {
    let arguments = prepare::known(release, env)?;
    let naming = release.naming(&arguments);
    let hosts = files::read(b"/etc/hosts").unwrap_or_default();
    let named = naming.kind != Distribution::None;
    Ok(Target {
        node: named.then(|| full_name(&naming.node, naming.kind, &sys::host_name(), &hosts)),
        kind: naming.kind,
        cookie: if named { prepare::cookie(release, &arguments, env)? } else { None },
        port: value_of(&arguments, b"-erl_epmd_port").and_then(number).and_then(|port| u16::try_from(port).ok()),
        encrypted: value_of(&arguments, b"-proto_dist").is_some_and(|proto| proto.ends_with(b"_tls")),
    })
}

/// A connection to the running node.
pub(crate) struct Node {
    stream: Stream,
    session: Session,
    name: String,
    /// The time of the last packet that was sent.
    sent: u64,
}

/// The error of a connection attempt.
pub(crate) enum Missed {
    /// The node does not answer; most likely it does not run.
    Silent(Fault),
    /// There is another cause.
    Wrong(Fault),
}

impl Missed {
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Silent(fault) | Self::Wrong(fault) => fault,
        }
    }
}

/// Connects to the node.
pub(crate) fn reach(target: &Target, env: &Environment) -> Result<Node, Missed> {
    let Some(node) = &target.node else {
        let what = "cannot call the running system: it has no node name";
        let help = "start it with RELEASE_DISTRIBUTION=sname or name, and a cookie, to be able to";
        return Err(Missed::Wrong(Fault::new(what, help)));
    };
    let name = shown(node);
    let wrong = |why: &str, help: &str| Missed::Wrong(Fault::new(format!("cannot reach `{name}`: {why}"), help));
    if target.encrypted {
        return Err(wrong("it only speaks TLS, and this program does not", "use `remote_console`"));
    }
    let Some((short, host)) = split_once(node, b'@') else {
        return Err(wrong("the name has no host", "set RELEASE_NODE to NAME@HOST"));
    };
    let hosts = files::read(b"/etc/hosts").unwrap_or_default();
    let places = addresses(host, &sys::host_name(), &hosts);
    if places.is_empty() {
        let help = "write its address into /etc/hosts, or use an address as the host: NAME@10.0.0.1";
        return Err(wrong("the host is not this one, and not in /etc/hosts", help));
    }
    let Some(cookie) = &target.cookie else {
        return Err(wrong("no cookie is set", "set RELEASE_COOKIE to that of the running system"));
    };
    let silent = |why: String| {
        let what = format!("cannot reach `{name}`: {why}");
        Missed::Silent(Fault::new(
            what,
            "start it, or set RELEASE_NODE and RELEASE_COOKIE to those it was started with",
        ))
    };
    let port = match target.port {
        Some(port) => Port { port, highest: 6 },
        None => {
            let mapper = mapper_port(env.get("ERL_EPMD_PORT"));
            match ask(&places, mapper, short) {
                Ok(Some(port)) => port,
                Ok(None) => return Err(silent(format!("the port mapper on port {mapper} does not know it"))),
                Err(errno) => return Err(silent(format!("no port mapper on port {mapper}: {errno}"))),
            }
        }
    };
    let stream = net::connect(&places, port.port, PATIENCE)
        .map_err(|errno| silent(format!("it does not listen on port {}: {errno}", port.port)))?;
    let mut numbers = [0; 12];
    sys::random(&mut numbers).map_err(|errno| wrong(&format!("no random numbers: {errno}"), ""))?;
    let part = |at: usize| u32::from_ne_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
    let own = format!("rpc-{:08x}-{name}", part(0));
    let creation = part(4) | 4;
    let handshake = Handshake::new(&own, creation, part(8), cookie, port.highest);
    match shake(&stream, &handshake) {
        Ok(()) => Ok(Node { stream, session: Session::new(&own, creation), name, sent: sys::clock() }),
        Err(Lost::Refused(Refused::Cookie) | Lost::Ended) => {
            Err(wrong("it does not take our cookie", "set RELEASE_COOKIE to that of the running system"))
        }
        Err(Lost::Refused(Refused::Said(word))) => Err(wrong(&format!("it said `{word}`"), "try again")),
        Err(Lost::Refused(Refused::Malformed)) => {
            Err(wrong("what listens there is not a node", "set RELEASE_NODE to the name of the running system"))
        }
        Err(Lost::Errno(errno)) => Err(silent(format!("{errno}"))),
    }
}

fn ask(places: &[Address], mapper: u16, name: &[u8]) -> Result<Option<Port>, Errno> {
    let stream = net::connect(places, mapper, PATIENCE)?;
    stream.write(&ask_port(name), PATIENCE)?;
    // A reply without a node is two bytes and the end of the connection.
    match stream.read(ANSWER, PATIENCE)? {
        Got::Bytes(answer) => Ok(read_port(&answer)),
        Got::End => Ok(None),
    }
}

enum Lost {
    Errno(Errno),
    Refused(Refused),
    Ended,
}

fn shake(stream: &Stream, handshake: &Handshake) -> Result<(), Lost> {
    let send = |message: &[u8]| {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write(&[&length, message].concat(), PATIENCE).map_err(Lost::Errno)
    };
    let read = |count: usize| match stream.read(count, PATIENCE) {
        Ok(Got::Bytes(bytes)) => Ok(bytes),
        Ok(Got::End) | Err(Errno(104)) => Err(Lost::Ended),
        Err(errno) => Err(Lost::Errno(errno)),
    };
    send(&handshake.hello())?;
    loop {
        let length = read(2)?;
        let message = read(usize::from(u16::from_be_bytes([length[0], length[1]])))?;
        match handshake.answer(&message).map_err(Lost::Refused)? {
            Next::Send(answer) => send(&answer)?,
            Next::Read => {}
            Next::Done => return Ok(()),
        }
    }
}

impl Node {
    fn lost(&self, why: &str) -> Fault {
        Fault::new(format!("lost `{}` during the call: {why}", self.name), "see its log")
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), Fault> {
        self.sent = sys::clock();
        self.stream.write(packet, PATIENCE).map_err(|errno| self.lost(&format!("{errno}")))
    }

    /// Waits for the next packet. Returns `Some(None)` after the timeout, and `None` at the end of the connection.
    fn packet(&mut self, milliseconds: u64) -> Result<Option<Option<Bytes>>, Fault> {
        match self.stream.readable(milliseconds) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(None)),
            Err(errno) => return Err(self.lost(&format!("{errno}"))),
        }
        let read = |count: usize| match self.stream.read(count, PATIENCE) {
            Ok(Got::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(Got::End) | Err(Errno(104)) => Ok(None),
            Err(errno) => Err(self.lost(&format!("{errno}"))),
        };
        let Some(length) = read(4)? else { return Ok(None) };
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > LARGEST {
            return Err(self.lost(&format!("it sent a message of {length} bytes, {LARGEST} are the most")));
        }
        Ok(read(length)?.map(Some))
    }

    /// Calls a function in the node and waits for its result, without a timeout.
    pub(crate) fn call(&mut self, module: &str, function: &str, arguments: Vec<Term>) -> Result<Term, Fault> {
        let (wanted, packet) = self.session.call(module, function, arguments);
        self.send(&packet)?;
        loop {
            if sys::clock() >= self.sent + HEARTBEAT {
                self.send(&[0; 4])?;
            }
            let Some(packet) = self.packet(HEARTBEAT / 4)? else { return Err(self.lost("it ended the connection")) };
            let Some(packet) = packet else { continue };
            let events = self.session.receive(&packet).map_err(|_| self.lost("its words are not of the protocol"))?;
            for event in events {
                match event {
                    Event::Send(packet) => self.send(&packet)?,
                    Event::Print(text) => {
                        let _ = sys::write_all(1, &text);
                    }
                    Event::Reply(call, result) if call == wanted => return Ok(result),
                    Event::Reply(..) => {}
                }
            }
        }
    }

    /// Waits until the node ends the connection. Returns false after the timeout.
    pub(crate) fn wait_for_end(&mut self, milliseconds: u64) -> bool {
        let until = sys::clock() + milliseconds;
        while sys::clock() < until {
            match self.packet(100) {
                Ok(None) | Err(_) => return true,
                Ok(Some(Some(packet))) if packet.is_empty() => {
                    let _ = self.send(&[0; 4]);
                }
                Ok(Some(_)) => {}
            }
        }
        false
    }

    /// Evaluates Erlang expressions in the node, with variables.
    pub(crate) fn evaluate(&mut self, text: &[u8], variables: Vec<(&str, Term)>) -> Result<Term, Fault> {
        let text = String::from_utf8_lossy(text);
        let mut text: Vec<Term> = text.trim_end().chars().map(|c| Term::Int(i64::from(u32::from(c)))).collect();
        if text.last() != Some(&Term::Int(i64::from(b'.'))) {
            text.push(Term::Int(i64::from(b'.')));
        }
        let scanned = self.call("erl_scan", "string", vec![Term::List(text)])?;
        let tokens = match scanned.tuple() {
            Some([ok, tokens, _]) if ok.is_atom("ok") => tokens.clone(),
            Some([_, info, _]) => return Err(self.not_code(info)?),
            _ => return Err(self.failed(&scanned)?),
        };
        let parsed = self.call("erl_parse", "parse_exprs", vec![tokens])?;
        let expressions = match parsed.tuple() {
            Some([ok, expressions]) if ok.is_atom("ok") => expressions.clone(),
            Some([error, info]) if error.is_atom("error") => return Err(self.not_code(info)?),
            _ => return Err(self.failed(&parsed)?),
        };
        let bindings = variables.into_iter().map(|(name, value)| Term::Tuple(vec![Term::atom(name), value]));
        let result = self.call("erl_eval", "exprs", vec![expressions, Term::List(bindings.collect())])?;
        match result.tuple() {
            Some([value, result, _]) if value.is_atom("value") => Ok(result.clone()),
            _ => Err(self.failed(&result)?),
        }
    }

    fn not_code(&mut self, info: &Term) -> Result<Fault, Fault> {
        let Some([_, Term::Atom(module), description]) = info.tuple() else { return self.failed(info) };
        let text = self.call(module, "format_error", vec![description.clone()])?;
        let mut found = Bytes::new();
        let _ = dram_start::node::session::characters(&text, true, &mut found);
        Ok(Fault::new(format!("cannot read the expression: {}", shown(&found)), "end each expression with `,` or `.`"))
    }

    /// The error of a failed call, formatted by the node.
    pub(crate) fn failed(&mut self, result: &Term) -> Result<Fault, Fault> {
        let reason = match result.tuple() {
            Some([badrpc, reason]) if badrpc.is_atom("badrpc") => reason.clone(),
            _ => result.clone(),
        };
        Ok(Fault::new(format!("the call failed: {}", shown(&self.pretty(&reason)?)), ""))
    }

    /// Formats a term in Erlang's notation.
    pub(crate) fn pretty(&mut self, term: &Term) -> Result<Bytes, Fault> {
        let arguments = vec![Term::Text(b"~tp".to_vec()), Term::List(vec![term.clone()])];
        let text = self.call("io_lib", "format", arguments)?;
        let mut found = Bytes::new();
        if dram_start::node::session::characters(&text, true, &mut found).is_err() {
            found = dram_start::term::brief(term).into_bytes();
        }
        Ok(found)
    }
}

/// Returns true if the release answers.
pub(crate) fn ping(release: &Release, env: &Environment) -> Result<bool, Fault> {
    let target = target(release, env)?;
    if target.node.is_none() {
        return Ok(matches!(running::look(release), Running::Yes(_)));
    }
    match reach(&target, env) {
        Ok(_) => Ok(true),
        Err(Missed::Silent(_)) => Ok(false),
        Err(Missed::Wrong(fault)) => Err(fault),
    }
}
