//! Remote calls to a connected node, and the input and output of the called code.
//!
//! The calls go to `rex`, the server behind `rpc:call`. This program is the group leader of the called process, so it
//! serves Erlang's I/O protocol: output is printed here, and input is at the end of file.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat};
use crate::term::{MalformedTerm, NodeTerm};

/// The id of the only process of this program.
const PROCESS_ID: u32 = 1;

/// A consequence of a received packet.
#[derive(Debug, PartialEq)]
pub enum NodeEvent {
    /// Send this packet.
    Send(ByteString),
    /// Print these bytes.
    Print(ByteString),
    /// The call with this number returned this result.
    Reply(i64, NodeTerm),
}

/// An I/O request that waits for the result of a function that makes its text.
#[derive(Debug)]
struct PendingIoRequest {
    call: i64,
    from: NodeTerm,
    tag: NodeTerm,
    unicode: bool,
    rest: Vec<NodeTerm>,
}

/// The state of this program's side of a connection.
#[derive(Debug)]
pub struct NodeSession {
    own_pid: NodeTerm,
    call_count: i64,
    pending: Vec<PendingIoRequest>,
}

impl NodeSession {
    /// Begins a session as the node `name`.
    #[must_use]
    pub fn new(name: &str, creation: u32) -> Self {
        Self { own_pid: NodeTerm::pid(name, PROCESS_ID, creation), call_count: 0, pending: Vec::new() }
    }

    /// Begins a call of a function. Returns its number, and the packet to send.
    pub fn call(&mut self, module: &str, function: &str, arguments: Vec<NodeTerm>) -> (i64, ByteString) {
        self.call_count += 1;
        let call = vec![
            NodeTerm::atom("call"),
            NodeTerm::atom(module),
            NodeTerm::atom(function),
            NodeTerm::List(arguments),
            self.own_pid.clone(),
        ];
        let from = NodeTerm::Tuple(vec![self.own_pid.clone(), NodeTerm::Integer(self.call_count)]);
        let message = NodeTerm::Tuple(vec![NodeTerm::atom("$gen_call"), from, NodeTerm::Tuple(call)]);
        let control = NodeTerm::Tuple(vec![
            NodeTerm::Integer(6),
            self.own_pid.clone(),
            NodeTerm::atom(""),
            NodeTerm::atom("rex"),
        ]);
        (self.call_count, encode_packet(&control, &message))
    }

    /// Handles a packet. An empty packet is a tick, which is answered with a tick.
    ///
    /// # Errors
    /// Fails if the packet violates the protocol.
    pub fn receive(&mut self, packet: &[u8]) -> Result<Vec<NodeEvent>, MalformedTerm> {
        let Some((kind, rest)) = packet.split_first() else {
            return Ok(vec![NodeEvent::Send(0_u32.to_be_bytes().to_vec())]);
        };
        if *kind != 112 {
            return Err(MalformedTerm);
        }
        let (control, rest) = NodeTerm::read(rest)?;
        let operation = control.tuple().and_then(<[NodeTerm]>::first);
        // A message to the process of this program. Monitors and links need no answer while it lives.
        if !matches!(operation, Some(NodeTerm::Integer(2))) {
            return Ok(Vec::new());
        }
        let (message, _) = NodeTerm::read(rest)?;
        let Some(parts) = message.tuple() else { return Ok(Vec::new()) };
        Ok(match parts {
            [kind, from, tag, request] if kind.is_atom("io_request") => {
                let mut events = Vec::new();
                self.serve_requests(from.clone(), tag.clone(), vec![request.clone()], &mut events);
                events
            }
            [NodeTerm::Integer(call), result] => match self.pending.iter().position(|waiting| waiting.call == *call) {
                Some(at) => {
                    let waiting = self.pending.swap_remove(at);
                    self.print_call_result(waiting, result)
                }
                None => vec![NodeEvent::Reply(*call, result.clone())],
            },
            _ => Vec::new(),
        })
    }

    /// Executes I/O requests in order; the last one's result is the reply.
    fn serve_requests(&mut self, from: NodeTerm, tag: NodeTerm, mut rest: Vec<NodeTerm>, events: &mut Vec<NodeEvent>) {
        let mut answer = NodeTerm::atom("ok");
        while !rest.is_empty() {
            match serve_request(&rest.remove(0)) {
                IoOutcome::Print(text) => {
                    events.push(NodeEvent::Print(text));
                    answer = NodeTerm::atom("ok");
                }
                IoOutcome::Reply(term) => answer = term,
                IoOutcome::Fail(term) => {
                    answer = term;
                    rest.clear();
                }
                IoOutcome::Several(mut list) => {
                    list.append(&mut rest);
                    rest = list;
                }
                IoOutcome::Apply { unicode, module, function, arguments } => {
                    let (call, packet) = self.call(&module, &function, arguments);
                    events.push(NodeEvent::Send(packet));
                    self.pending.push(PendingIoRequest { call, from, tag, unicode, rest });
                    return;
                }
            }
        }
        events.push(NodeEvent::Send(io_reply(&from, tag, answer)));
    }

    fn print_call_result(&mut self, waiting: PendingIoRequest, result: &NodeTerm) -> Vec<NodeEvent> {
        let mut events = Vec::new();
        let mut text = ByteString::new();
        if append_characters(result, waiting.unicode, &mut text).is_err() {
            events.push(NodeEvent::Send(io_reply(&waiting.from, waiting.tag, error_term("put_chars"))));
            return events;
        }
        events.push(NodeEvent::Print(text));
        self.serve_requests(waiting.from, waiting.tag, waiting.rest, &mut events);
        events
    }
}

fn encode_packet(control: &NodeTerm, message: &NodeTerm) -> ByteString {
    let mut body = vec![112, 131];
    control.write(&mut body);
    body.push(131);
    message.write(&mut body);
    concat(&[&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes(), &body])
}

fn io_reply(to: &NodeTerm, tag: NodeTerm, answer: NodeTerm) -> ByteString {
    let control = NodeTerm::Tuple(vec![NodeTerm::Integer(2), NodeTerm::atom(""), to.clone()]);
    encode_packet(&control, &NodeTerm::Tuple(vec![NodeTerm::atom("io_reply"), tag, answer]))
}

fn error_term(reason: &str) -> NodeTerm {
    NodeTerm::Tuple(vec![NodeTerm::atom("error"), NodeTerm::atom(reason)])
}

enum IoOutcome {
    Print(ByteString),
    Reply(NodeTerm),
    Fail(NodeTerm),
    Several(Vec<NodeTerm>),
    Apply { unicode: bool, module: String, function: String, arguments: Vec<NodeTerm> },
}

#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
fn serve_request(request: &NodeTerm) -> IoOutcome {
    let parts = match request {
        NodeTerm::Tuple(parts) => parts.as_slice(),
        other => core::slice::from_ref(other),
    };
    let name = match parts.first() {
        Some(NodeTerm::Atom(name)) => name.as_str(),
        _ => "",
    };
    match (name, &parts[1.min(parts.len())..]) {
        ("put_chars", [encoding, text]) => put_chars(encoding.is_atom("unicode"), text),
        ("put_chars", [text]) => put_chars(false, text),
        ("put_chars", [encoding, module, function, arguments]) => {
            put_chars_from_call(encoding.is_atom("unicode"), module, function, arguments)
        }
        ("put_chars", [module, function, arguments]) => put_chars_from_call(false, module, function, arguments),
        ("requests", [NodeTerm::List(list)]) => IoOutcome::Several(list.clone()),
        ("get_line" | "get_chars" | "get_until" | "get_password" | "fread", _) => {
            IoOutcome::Reply(NodeTerm::atom("eof"))
        }
        ("getopts", []) => {
            let option = |name: &str, value: &str| NodeTerm::Tuple(vec![NodeTerm::atom(name), NodeTerm::atom(value)]);
            IoOutcome::Reply(NodeTerm::List(vec![option("binary", "true"), option("encoding", "unicode")]))
        }
        ("setopts", _) => IoOutcome::Reply(NodeTerm::atom("ok")),
        ("get_geometry", _) => IoOutcome::Fail(error_term("enotsup")),
        _ => IoOutcome::Fail(error_term("request")),
    }
}

fn put_chars(unicode: bool, text: &NodeTerm) -> IoOutcome {
    let mut found = ByteString::new();
    match append_characters(text, unicode, &mut found) {
        Ok(()) => IoOutcome::Print(found),
        Err(MalformedTerm) => IoOutcome::Fail(error_term("put_chars")),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
fn put_chars_from_call(unicode: bool, module: &NodeTerm, function: &NodeTerm, arguments: &NodeTerm) -> IoOutcome {
    let arguments = match arguments {
        NodeTerm::List(list) => list.clone(),
        NodeTerm::ByteList(bytes) => bytes.iter().map(|byte| NodeTerm::Integer(i64::from(*byte))).collect(),
        _ => return IoOutcome::Fail(error_term("put_chars")),
    };
    match (module, function) {
        (NodeTerm::Atom(module), NodeTerm::Atom(function)) => {
            IoOutcome::Apply { unicode, module: module.to_string(), function: function.to_string(), arguments }
        }
        _ => IoOutcome::Fail(error_term("put_chars")),
    }
}

/// Appends text in any form of Erlang, as UTF-8.
///
/// # Errors
/// Fails if the term is not text.
pub fn append_characters(text: &NodeTerm, unicode: bool, to: &mut ByteString) -> Result<(), MalformedTerm> {
    let push = |c: char, to: &mut ByteString| to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    match text {
        NodeTerm::Integer(number) => {
            push(u32::try_from(*number).ok().and_then(char::from_u32).ok_or(MalformedTerm)?, to);
        }
        NodeTerm::Binary(bytes) if unicode => to.extend_from_slice(bytes),
        NodeTerm::Binary(bytes) | NodeTerm::ByteList(bytes) => {
            bytes.iter().for_each(|byte| push(char::from(*byte), to));
        }
        NodeTerm::List(items) => items.iter().try_for_each(|item| append_characters(item, unicode, to))?,
        NodeTerm::Improper(items, tail) => {
            items.iter().try_for_each(|item| append_characters(item, unicode, to))?;
            append_characters(tail, unicode, to)?;
        }
        NodeTerm::Atom(_) | NodeTerm::Tuple(_) | NodeTerm::Map(_) | NodeTerm::Opaque(_) => return Err(MalformedTerm),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(term: &NodeTerm) -> ByteString {
        let control = NodeTerm::Tuple(vec![NodeTerm::Integer(2), NodeTerm::atom(""), NodeTerm::pid("a@b", 1, 1)]);
        encode_packet(&control, term)[4..].to_vec()
    }

    fn request(request: NodeTerm) -> ByteString {
        let from = NodeTerm::pid("peer@h", 9, 1);
        message(&NodeTerm::Tuple(vec![NodeTerm::atom("io_request"), from, NodeTerm::Integer(77), request]))
    }

    fn tuple(parts: &[NodeTerm]) -> NodeTerm {
        NodeTerm::Tuple(parts.to_vec())
    }

    #[test]
    fn put_chars_is_printed_and_acknowledged() {
        let mut session = NodeSession::new("a@b", 1);
        let text = NodeTerm::List(vec![
            NodeTerm::Integer(0x20ac),
            NodeTerm::binary("é".as_bytes()),
            NodeTerm::ByteList(b"\xe9".to_vec()),
        ]);
        let put = tuple(&[NodeTerm::atom("put_chars"), NodeTerm::atom("unicode"), text]);
        let events = session.receive(&request(put)).unwrap();
        assert_eq!(events[0], NodeEvent::Print("€éé".as_bytes().to_vec()));
        assert!(matches!(&events[1], NodeEvent::Send(packet) if packet.ends_with(&[97, 77, 119, 2, b'o', b'k'])));
    }

    #[test]
    fn put_chars_with_a_function_calls_it_and_prints_its_result() {
        let mut session = NodeSession::new("a@b", 1);
        let arguments =
            NodeTerm::List(vec![NodeTerm::ByteList(b"~p".to_vec()), NodeTerm::List(vec![NodeTerm::Integer(1)])]);
        let parts = ["put_chars", "unicode", "io_lib", "format"].map(NodeTerm::atom);
        let mut put = parts.to_vec();
        put.push(arguments);
        let events = session.receive(&request(NodeTerm::Tuple(put))).unwrap();
        assert!(matches!(events.as_slice(), [NodeEvent::Send(_)]));
        let events =
            session.receive(&message(&tuple(&[NodeTerm::Integer(1), NodeTerm::ByteList(b"1".to_vec())]))).unwrap();
        assert_eq!(events[0], NodeEvent::Print(b"1".to_vec()));
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn input_requests_return_eof_and_unknown_requests_fail() {
        assert!(
            matches!(serve_request(&tuple(&[NodeTerm::atom("get_line"), NodeTerm::atom("x")])), IoOutcome::Reply(t) if t.is_atom("eof"))
        );
        assert!(matches!(serve_request(&NodeTerm::atom("getopts")), IoOutcome::Reply(NodeTerm::List(_))));
        assert!(matches!(serve_request(&NodeTerm::atom("strange")), IoOutcome::Fail(_)));
        assert!(matches!(serve_request(&NodeTerm::Tuple(vec![])), IoOutcome::Fail(_)));
    }

    #[test]
    fn replies_ticks_and_malformed_packets_are_distinguished() {
        let mut session = NodeSession::new("a@b", 1);
        let (number, _) = session.call("os", "getpid", vec![]);
        let reply = message(&tuple(&[NodeTerm::Integer(number), NodeTerm::ByteList(b"12".to_vec())]));
        assert_eq!(session.receive(&reply).unwrap(), [NodeEvent::Reply(number, NodeTerm::ByteList(b"12".to_vec()))]);
        assert_eq!(session.receive(b"").unwrap(), [NodeEvent::Send(vec![0; 4])]);
        assert_eq!(session.receive(b"x"), Err(MalformedTerm));
    }
}
