//! Connects to the running node and calls functions there.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use dram_start::byte_string::{ByteString, parse_number, split_once};
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::node::address::{NodeAddress, epmd_port, full_node_name, host_addresses};
use dram_start::node::handshake::{
    EPMD_REPLY_LENGTH, HandshakeRefusal, HandshakeStep, NodeHandshake, NodePort, epmd_port_request, parse_epmd_reply,
};
use dram_start::node::session::{NodeEvent, NodeSession};
use dram_start::release::{StartSettings, flag_value, tls_flags};
use dram_start::start_conf::StartNodeNameKind;
use dram_start::term::NodeTerm;

use crate::errno::StartErrno;
use crate::net::{self, NodeStream, StreamRead};
use crate::state_lock::{self, ReleaseStatus};
use crate::{files, node_bridge, prepare, sys};

/// The timeout of each step of the connection, in milliseconds.
const STEP_TIMEOUT: u64 = 7000;
/// The interval of ticks, in milliseconds. Nodes close a silent connection after four times as long.
const TICK_INTERVAL: u64 = 10_000;
const STANDARD_INPUT: i32 = 0;
/// The size limit of a message.
const MAX_MESSAGE_SIZE: usize = 64 << 20;

/// The node of the running release, as the settings describe it.
pub(crate) struct NodeTarget {
    /// Its full name, if it has one.
    pub(crate) node: Option<ByteString>,
    /// The kind of its name: short or long.
    pub(crate) kind: StartNodeNameKind,
    cookie: Option<ByteString>,
    /// The port it listens on, if it is set and EPMD is not used.
    port: Option<u16>,
    encrypted: bool,
    elixir: bool,
}

/// Computes the name, the cookie and the port of the node from the settings.
pub(crate) fn node_target(release: &StartSettings, env: &EnvironmentVariables) -> Result<NodeTarget, StartError> {
    let arguments = prepare::release_arguments(release, env)?;
    let naming = release.node_naming(&arguments);
    let hosts = files::read(b"/etc/hosts").unwrap_or_default();
    let named = naming.kind != StartNodeNameKind::None;
    Ok(NodeTarget {
        node: named.then(|| full_node_name(&naming.node, naming.kind, &sys::host_name(), &hosts)),
        kind: naming.kind,
        cookie: if named { prepare::find_cookie(release, &arguments, env)? } else { None },
        port: flag_value(&arguments, b"-erl_epmd_port")
            .and_then(parse_number)
            .and_then(|port| u16::try_from(port).ok()),
        encrypted: !tls_flags(&arguments).is_empty(),
        elixir: release.conf.elixir,
    })
}

/// A connection to the running node.
pub(crate) struct NodeConnection {
    stream: NodeStream,
    session: NodeSession,
    name: String,
    /// The time of the last packet that was sent.
    last_sent: u64,
}

/// The error of a connection attempt.
pub(crate) enum NodeConnectError {
    /// The node does not answer; most likely it does not run.
    NoAnswer(StartError),
    /// There is another cause.
    Other(StartError),
}

impl NodeConnectError {
    pub(crate) fn into_error(self) -> StartError {
        match self {
            Self::NoAnswer(fault) | Self::Other(fault) => fault,
        }
    }
}

/// Connects to the node.
pub(crate) fn connect_to_node(
    release: &StartSettings,
    target: &NodeTarget,
    env: &EnvironmentVariables,
) -> Result<NodeConnection, NodeConnectError> {
    let Some(node) = &target.node else {
        let what = "cannot call the running system: it has no node name";
        let help = "set RELEASE_NODE to a name, or RELEASE_DISTRIBUTION to sname, for the start and for this command; or make \
                    the release with `distribution` in dram.toml";
        return Err(NodeConnectError::Other(StartError::new(what, help)));
    };
    let name = printable(node);
    let wrong =
        |why: &str, help: &str| NodeConnectError::Other(StartError::new(format!("cannot reach `{name}`: {why}"), help));
    let Some((short, host)) = split_once(node, b'@') else {
        return Err(wrong("the name has no host", "set RELEASE_NODE to NAME@HOST"));
    };
    let hosts = files::read(b"/etc/hosts").unwrap_or_default();
    let places = host_addresses(host, &sys::host_name(), &hosts);
    if places.is_empty() {
        let help = "write its address into /etc/hosts, or use an address as the host: NAME@10.0.0.1";
        return Err(wrong("the host is not this one, and not in /etc/hosts", help));
    }
    let Some(cookie) = &target.cookie else {
        return Err(wrong("no cookie is set", "set RELEASE_COOKIE to that of the running system"));
    };
    let silent = |why: String| {
        let what = format!("cannot reach `{name}`: {why}");
        NodeConnectError::NoAnswer(StartError::new(
            what,
            "start it, or set RELEASE_NODE and RELEASE_COOKIE to those it was started with",
        ))
    };
    let port = match target.port {
        Some(port) => NodePort { port, highest: 6 },
        None => {
            let mapper = epmd_port(env.get("ERL_EPMD_PORT"));
            match query_epmd(&places, mapper, short) {
                Ok(Some(port)) => port,
                Ok(None) => return Err(silent(format!("the port mapper on port {mapper} does not know it"))),
                Err(errno) => return Err(silent(format!("no port mapper on port {mapper}: {errno}"))),
            }
        }
    };
    let mut numbers = [0; 12];
    sys::random(&mut numbers).map_err(|errno| wrong(&format!("no random numbers: {errno}"), ""))?;
    let part = |at: usize| u32::from_ne_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
    let own = format!("rpc-{:08x}-{name}", part(0));
    let creation = part(4) | 4;
    let connection = |stream: NodeStream| NodeConnection {
        stream,
        session: NodeSession::new(&own, creation, target.elixir),
        name: name.clone(),
        last_sent: sys::monotonic_milliseconds(),
    };
    if target.encrypted {
        let stream = node_bridge::connect_through_emulator(release, target, node, env);
        return stream.map(connection).map_err(NodeConnectError::Other);
    }
    let stream = net::connect_to_any(&places, port.port, STEP_TIMEOUT)
        .map_err(|errno| silent(format!("it does not listen on port {}: {errno}", port.port)))?;
    let handshake = NodeHandshake::new(&own, creation, part(8), cookie, port.highest);
    match run_handshake(&stream, &handshake) {
        Ok(()) => Ok(connection(stream)),
        Err(NodeHandshakeError::Refused(HandshakeRefusal::WrongCookie) | NodeHandshakeError::Closed) => {
            Err(wrong("it does not take our cookie", "set RELEASE_COOKIE to that of the running system"))
        }
        Err(NodeHandshakeError::Refused(HandshakeRefusal::Status(word))) => {
            Err(wrong(&format!("it said `{word}`"), "try again"))
        }
        Err(NodeHandshakeError::Refused(HandshakeRefusal::Malformed)) => {
            Err(wrong("what listens there is not a node", "set RELEASE_NODE to the name of the running system"))
        }
        Err(NodeHandshakeError::Errno(errno)) => Err(silent(format!("{errno}"))),
    }
}

fn query_epmd(places: &[NodeAddress], mapper: u16, name: &[u8]) -> Result<Option<NodePort>, StartErrno> {
    let stream = net::connect_to_any(places, mapper, STEP_TIMEOUT)?;
    stream.write(&epmd_port_request(name), STEP_TIMEOUT)?;
    // A reply without a node is two bytes and the end of the connection.
    match stream.read(EPMD_REPLY_LENGTH, STEP_TIMEOUT)? {
        StreamRead::Bytes(answer) => Ok(parse_epmd_reply(&answer)),
        StreamRead::End => Ok(None),
    }
}

enum NodeHandshakeError {
    Errno(StartErrno),
    Refused(HandshakeRefusal),
    Closed,
}

fn run_handshake(stream: &NodeStream, handshake: &NodeHandshake) -> Result<(), NodeHandshakeError> {
    let send = |message: &[u8]| {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write(&[&length, message].concat(), STEP_TIMEOUT).map_err(NodeHandshakeError::Errno)
    };
    let read = |count: usize| match stream.read(count, STEP_TIMEOUT) {
        Ok(StreamRead::Bytes(bytes)) => Ok(bytes),
        Ok(StreamRead::End) | Err(StartErrno(104)) => Err(NodeHandshakeError::Closed),
        Err(errno) => Err(NodeHandshakeError::Errno(errno)),
    };
    send(&handshake.name_message())?;
    loop {
        let length = read(2)?;
        let message = read(usize::from(u16::from_be_bytes([length[0], length[1]])))?;
        match handshake.handle_message(&message).map_err(NodeHandshakeError::Refused)? {
            HandshakeStep::Send(answer) => send(&answer)?,
            HandshakeStep::Read => {}
            HandshakeStep::Done => return Ok(()),
        }
    }
}

impl NodeConnection {
    fn connection_lost_error(&self, why: &str) -> StartError {
        StartError::new(format!("lost `{}` during the call: {why}", self.name), "see its log")
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), StartError> {
        self.last_sent = sys::monotonic_milliseconds();
        self.stream.write(packet, STEP_TIMEOUT).map_err(|errno| self.connection_lost_error(&format!("{errno}")))
    }

    /// Waits for the next packet. Returns `Some(None)` after the timeout, and `None` at the end of the connection.
    fn next_packet(&mut self, milliseconds: u64) -> Result<Option<Option<ByteString>>, StartError> {
        match self.stream.readable(milliseconds) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(None)),
            Err(errno) => return Err(self.connection_lost_error(&format!("{errno}"))),
        }
        let read = |count: usize| match self.stream.read(count, STEP_TIMEOUT) {
            Ok(StreamRead::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(StreamRead::End) | Err(StartErrno(104)) => Ok(None),
            Err(errno) => Err(self.connection_lost_error(&format!("{errno}"))),
        };
        let Some(length) = read(4)? else { return Ok(None) };
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_MESSAGE_SIZE {
            return Err(self.connection_lost_error(&format!(
                "it sent a message of {length} bytes, {MAX_MESSAGE_SIZE} are the most"
            )));
        }
        Ok(read(length)?.map(Some))
    }

    /// Calls a function in the node and waits for its result, without a timeout.
    pub(crate) fn call(
        &mut self,
        module: &str,
        function: &str,
        arguments: Vec<NodeTerm>,
    ) -> Result<NodeTerm, StartError> {
        let (wanted, packet) = self.session.call(module, function, arguments);
        self.send(&packet)?;
        loop {
            if sys::monotonic_milliseconds() >= self.last_sent + TICK_INTERVAL {
                self.send(&[0; 4])?;
            }
            for event in self.next_events()? {
                match event {
                    NodeEvent::Send(packet) => self.send(&packet)?,
                    NodeEvent::Print(text) => {
                        let _ = sys::write_all(1, &text);
                    }
                    NodeEvent::Reply(call, result) if call == wanted => return Ok(result),
                    NodeEvent::Reply(..) => {}
                }
            }
        }
    }

    /// Waits for a packet, and for standard input if called code wants some.
    fn next_events(&mut self) -> Result<Vec<NodeEvent>, StartError> {
        if self.session.wants_input() {
            let (has_packet, has_input) = self
                .stream
                .readable_beside(STANDARD_INPUT, TICK_INTERVAL / 4)
                .map_err(|errno| self.connection_lost_error(&format!("{errno}")))?;
            if has_input {
                let mut buffer = vec![0; 64 << 10];
                return Ok(match sys::read(STANDARD_INPUT, &mut buffer) {
                    Ok(count) => self.session.receive_input(&buffer[..count]),
                    Err(StartErrno::AGAIN) => Vec::new(),
                    // Without a standard input it has ended.
                    Err(_) => self.session.receive_input(b""),
                });
            }
            if !has_packet {
                return Ok(Vec::new());
            }
        }
        let Some(packet) = self.next_packet(TICK_INTERVAL / 4)? else {
            return Err(self.connection_lost_error("it ended the connection"));
        };
        let Some(packet) = packet else { return Ok(Vec::new()) };
        self.session.receive(&packet).map_err(|_| self.connection_lost_error("its words are not of the protocol"))
    }

    /// Waits until the node ends the connection. Returns false after the timeout.
    pub(crate) fn wait_for_end(&mut self, milliseconds: u64) -> bool {
        let until = sys::monotonic_milliseconds() + milliseconds;
        while sys::monotonic_milliseconds() < until {
            match self.next_packet(100) {
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
    pub(crate) fn evaluate(&mut self, text: &[u8], variables: Vec<(&str, NodeTerm)>) -> Result<NodeTerm, StartError> {
        let text = String::from_utf8_lossy(text);
        let mut text: Vec<NodeTerm> =
            text.trim_end().chars().map(|c| NodeTerm::Integer(i64::from(u32::from(c)))).collect();
        if text.last() != Some(&NodeTerm::Integer(i64::from(b'.'))) {
            text.push(NodeTerm::Integer(i64::from(b'.')));
        }
        let scanned = self.call("erl_scan", "string", vec![NodeTerm::List(text)])?;
        let tokens = match scanned.tuple() {
            Some([ok, tokens, _]) if ok.is_atom("ok") => tokens.clone(),
            Some([_, info, _]) => return Err(self.parse_error(info)?),
            _ => return Err(self.call_error(&scanned)?),
        };
        let parsed = self.call("erl_parse", "parse_exprs", vec![tokens])?;
        let expressions = match parsed.tuple() {
            Some([ok, expressions]) if ok.is_atom("ok") => expressions.clone(),
            Some([error, info]) if error.is_atom("error") => return Err(self.parse_error(info)?),
            _ => return Err(self.call_error(&parsed)?),
        };
        let bindings = variables.into_iter().map(|(name, value)| NodeTerm::Tuple(vec![NodeTerm::atom(name), value]));
        let result = self.call("erl_eval", "exprs", vec![expressions, NodeTerm::List(bindings.collect())])?;
        match result.tuple() {
            Some([value, result, _]) if value.is_atom("value") => Ok(result.clone()),
            _ => Err(self.call_error(&result)?),
        }
    }

    fn parse_error(&mut self, info: &NodeTerm) -> Result<StartError, StartError> {
        let Some([_, NodeTerm::Atom(module), description]) = info.tuple() else { return self.call_error(info) };
        let text = self.call(module, "format_error", vec![description.clone()])?;
        let mut found = ByteString::new();
        let _ = dram_start::node::session::append_characters(&text, true, &mut found);
        Ok(StartError::new(
            format!("cannot read the expression: {}", printable(&found)),
            "end each expression with `,` or `.`",
        ))
    }

    /// The error of a failed call, formatted by the node.
    pub(crate) fn call_error(&mut self, result: &NodeTerm) -> Result<StartError, StartError> {
        let reason = match result.tuple() {
            Some([badrpc, reason]) if badrpc.is_atom("badrpc") => reason.clone(),
            _ => result.clone(),
        };
        Ok(StartError::new(format!("the call failed: {}", printable(&self.format_term(&reason)?)), ""))
    }

    /// Formats a term in Erlang's notation.
    pub(crate) fn format_term(&mut self, term: &NodeTerm) -> Result<ByteString, StartError> {
        let arguments = vec![NodeTerm::ByteList(b"~tp".to_vec()), NodeTerm::List(vec![term.clone()])];
        let text = self.call("io_lib", "format", arguments)?;
        let mut found = ByteString::new();
        if dram_start::node::session::append_characters(&text, true, &mut found).is_err() {
            found = dram_start::term::short_text(term).into_bytes();
        }
        Ok(found)
    }
}

/// Returns true if the release answers.
pub(crate) fn answers_ping(release: &StartSettings, env: &EnvironmentVariables) -> Result<bool, StartError> {
    let target = node_target(release, env)?;
    if target.node.is_none() {
        return Ok(matches!(state_lock::release_status(release), ReleaseStatus::Running(_)));
    }
    match connect_to_node(release, &target, env) {
        Ok(_) => Ok(true),
        Err(NodeConnectError::NoAnswer(_)) => Ok(false),
        Err(NodeConnectError::Other(fault)) => Err(fault),
    }
}
