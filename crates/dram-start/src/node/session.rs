//! Remote calls to a connected node, and the input and output of the called code.
//!
//! The calls go to `rex`, the server behind `rpc:call`. This program is the group leader of the called process, so it
//! serves Erlang's I/O protocol: output is printed here, and input is the standard input of this program.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::input::{InputAmount, InputBuffer, TakenInput, input_result};
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

/// A request for input, which is answered when enough has arrived.
#[derive(Debug)]
struct PendingInputRequest {
    from: NodeTerm,
    tag: NodeTerm,
    unicode: bool,
    wish: InputWish,
    rest: Vec<NodeTerm>,
}

/// The input that a request wants.
#[derive(Debug)]
enum InputWish {
    /// An amount of it.
    Amount(InputAmount),
    /// Lines, until a function in the node has enough: its state, and its module, name and arguments.
    Until {
        state: NodeTerm,
        function: NodeTerm,
        /// The number of the call that judges the last line, if it has no result yet.
        call: Option<i64>,
    },
}

/// The state of this program's side of a connection.
#[derive(Debug)]
pub struct NodeSession {
    own_pid: NodeTerm,
    call_count: i64,
    pending: Vec<PendingIoRequest>,
    inputs: Vec<PendingInputRequest>,
    input: InputBuffer,
    /// True if the called code gets input as binaries, false if it gets lists.
    gives_binaries: bool,
}

impl NodeSession {
    /// Begins a session as the node `name`. Called code gets input as binaries, as Elixir does, or as lists, as Erlang
    /// does.
    #[must_use]
    pub fn new(name: &str, creation: u32, gives_binaries: bool) -> Self {
        Self {
            own_pid: NodeTerm::pid(name, PROCESS_ID, creation),
            call_count: 0,
            pending: Vec::new(),
            inputs: Vec::new(),
            input: InputBuffer::default(),
            gives_binaries,
        }
    }

    /// Returns true if called code waits for input.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.inputs.first().is_some_and(|first| !matches!(first.wish, InputWish::Until { call: Some(_), .. }))
    }

    /// Handles input that has arrived. No bytes mean the end of the input.
    pub fn receive_input(&mut self, bytes: &[u8]) -> Vec<NodeEvent> {
        self.input.append(bytes);
        let mut events = Vec::new();
        self.answer_inputs(&mut events);
        events
    }

    /// Answers the requests for input in order, as far as there is enough of it.
    fn answer_inputs(&mut self, events: &mut Vec<NodeEvent>) {
        while self.wants_input() {
            let amount = match &self.inputs[0].wish {
                InputWish::Amount(amount) => amount.clone(),
                InputWish::Until { .. } => InputAmount::Line,
            };
            let Some(taken) = self.input.take(&amount) else { return };
            match &self.inputs[0].wish {
                InputWish::Amount(_) => {
                    let request = self.inputs.remove(0);
                    let result = input_result(&taken, request.unicode, self.gives_binaries);
                    self.finish_request(request.from, request.tag, result, request.rest, events);
                }
                InputWish::Until { state, function, .. } => {
                    let line = match &taken {
                        TakenInput::Text(_) => input_result(&taken, true, false),
                        TakenInput::Malformed | TakenInput::End => NodeTerm::atom("eof"),
                    };
                    let arguments = vec![state.clone(), line, NodeTerm::atom("unicode"), function.clone()];
                    let (number, packet) = self.call("io_lib", "get_until", arguments);
                    if let InputWish::Until { call, .. } = &mut self.inputs[0].wish {
                        *call = Some(number);
                    }
                    events.push(NodeEvent::Send(packet));
                }
            }
        }
    }

    /// Handles the judgement of `io_lib:get_until` on a line: `{stop, Result, Rest}`, or the state for the next line.
    fn continue_input(&mut self, judged: &NodeTerm, events: &mut Vec<NodeEvent>) {
        if let Some([stop, result, left]) = judged.tuple()
            && stop.is_atom("stop")
        {
            let mut text = ByteString::new();
            if append_characters(left, true, &mut text).is_ok() {
                self.input.put_back(&String::from_utf8_lossy(&text));
            }
            let request = self.inputs.remove(0);
            self.finish_request(request.from, request.tag, result.clone(), request.rest, events);
        } else if let InputWish::Until { state, call, .. } = &mut self.inputs[0].wish {
            (*state, *call) = (judged.clone(), None);
        }
        self.answer_inputs(events);
    }

    /// Continues with the `rest` of the requests, or replies with the result of the last one.
    fn finish_request(
        &mut self,
        from: NodeTerm,
        tag: NodeTerm,
        result: NodeTerm,
        rest: Vec<NodeTerm>,
        events: &mut Vec<NodeEvent>,
    ) {
        match rest.is_empty() {
            true => events.push(NodeEvent::Send(io_reply(&from, tag, result))),
            false => self.serve_requests(from, tag, rest, events),
        }
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
            [NodeTerm::Integer(number), judged] if self.judges_input(*number) => {
                let mut events = Vec::new();
                self.continue_input(judged, &mut events);
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

    /// Returns true if this call judges a line of input.
    fn judges_input(&self, number: i64) -> bool {
        matches!(self.inputs.first(), Some(PendingInputRequest { wish: InputWish::Until { call, .. }, .. })
            if *call == Some(number))
    }

    /// Executes I/O requests in order; the last one's result is the reply.
    fn serve_requests(&mut self, from: NodeTerm, tag: NodeTerm, mut rest: Vec<NodeTerm>, events: &mut Vec<NodeEvent>) {
        let mut answer = NodeTerm::atom("ok");
        while !rest.is_empty() {
            match serve_request(&rest.remove(0)) {
                IoOutcome::Input { prompt, unicode, wish } => {
                    if !prompt.is_empty() {
                        events.push(NodeEvent::Print(self.encode_output(prompt)));
                    }
                    self.inputs.push(PendingInputRequest { from, tag, unicode, wish, rest });
                    if self.inputs.len() == 1 {
                        self.answer_inputs(events);
                    }
                    return;
                }
                IoOutcome::GetOptions => {
                    let option =
                        |name: &str, value: &str| NodeTerm::Tuple(vec![NodeTerm::atom(name), NodeTerm::atom(value)]);
                    let binary = if self.gives_binaries { "true" } else { "false" };
                    let encoding = if self.input.is_latin1 { "latin1" } else { "unicode" };
                    answer = NodeTerm::List(vec![option("binary", binary), option("encoding", encoding)]);
                }
                IoOutcome::SetOptions(options) => {
                    self.set_options(&options);
                    answer = NodeTerm::atom("ok");
                }
                IoOutcome::Print(text) => {
                    events.push(NodeEvent::Print(self.encode_output(text)));
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

    fn set_options(&mut self, options: &NodeTerm) {
        let NodeTerm::List(options) = options else { return };
        for option in options {
            match option.tuple() {
                Some([name, value]) if name.is_atom("binary") => self.gives_binaries = value.is_atom("true"),
                Some([name, value]) if name.is_atom("encoding") => self.input.is_latin1 = value.is_atom("latin1"),
                Some(_) => {}
                None if option.is_atom("binary") => self.gives_binaries = true,
                None if option.is_atom("list") => self.gives_binaries = false,
                None => {}
            }
        }
    }

    /// The bytes of text, which is UTF-8, for the standard output.
    fn encode_output(&self, text: ByteString) -> ByteString {
        let latin1 = || -> Option<ByteString> {
            core::str::from_utf8(&text).ok()?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
        };
        match self.input.is_latin1 {
            true => latin1().unwrap_or(text),
            false => text,
        }
    }

    fn print_call_result(&mut self, waiting: PendingIoRequest, result: &NodeTerm) -> Vec<NodeEvent> {
        let mut events = Vec::new();
        let mut text = ByteString::new();
        if append_characters(result, waiting.unicode, &mut text).is_err() {
            events.push(NodeEvent::Send(io_reply(&waiting.from, waiting.tag, error_term("put_chars"))));
            return events;
        }
        events.push(NodeEvent::Print(self.encode_output(text)));
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
    Input { prompt: ByteString, unicode: bool, wish: InputWish },
    GetOptions,
    SetOptions(NodeTerm),
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
        ("get_line", [encoding, prompt]) => ask(encoding, prompt, InputWish::Amount(InputAmount::Line)),
        ("get_line", [prompt]) => ask(&NodeTerm::atom("latin1"), prompt, InputWish::Amount(InputAmount::Line)),
        ("get_chars", [encoding, prompt, NodeTerm::Integer(count)]) => {
            ask(encoding, prompt, InputWish::Amount(InputAmount::Characters(usize::try_from(*count).unwrap_or(0))))
        }
        ("get_chars", [prompt, NodeTerm::Integer(count)]) => ask(
            &NodeTerm::atom("latin1"),
            prompt,
            InputWish::Amount(InputAmount::Characters(usize::try_from(*count).unwrap_or(0))),
        ),
        ("get_until", [encoding, prompt, module, function, arguments]) => {
            ask(encoding, prompt, lines_until(module, function, arguments))
        }
        ("get_until", [prompt, module, function, arguments]) => {
            ask(&NodeTerm::atom("latin1"), prompt, lines_until(module, function, arguments))
        }
        ("get_password" | "fread", _) => IoOutcome::Reply(NodeTerm::atom("eof")),
        ("getopts", []) => IoOutcome::GetOptions,
        ("setopts", [options]) => IoOutcome::SetOptions(options.clone()),
        ("get_geometry", _) => IoOutcome::Fail(error_term("enotsup")),
        _ => IoOutcome::Fail(error_term("request")),
    }
}

fn lines_until(module: &NodeTerm, function: &NodeTerm, arguments: &NodeTerm) -> InputWish {
    let function = NodeTerm::Tuple(vec![module.clone(), function.clone(), arguments.clone()]);
    InputWish::Until { state: NodeTerm::atom("start"), function, call: None }
}

/// A request for input, with the text of its prompt: an atom or characters. Other prompts are not printed.
fn ask(encoding: &NodeTerm, prompt: &NodeTerm, wish: InputWish) -> IoOutcome {
    let mut text = ByteString::new();
    if let NodeTerm::Atom(name) = prompt {
        text.extend_from_slice(name.as_bytes());
    } else if append_characters(prompt, true, &mut text).is_err() {
        text.clear();
    }
    IoOutcome::Input { prompt: text, unicode: encoding.is_atom("unicode"), wish }
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
        let mut session = NodeSession::new("a@b", 1, true);
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
        let mut session = NodeSession::new("a@b", 1, true);
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

    /// The messages that a session sends to the node.
    fn sent(events: &[NodeEvent]) -> Vec<NodeTerm> {
        let packets = events.iter().filter_map(|event| match event {
            NodeEvent::Send(packet) => Some(packet),
            NodeEvent::Print(_) | NodeEvent::Reply(..) => None,
        });
        packets
            .map(|packet| {
                let (_, message) = NodeTerm::read(&packet[5..]).unwrap();
                NodeTerm::read(message).unwrap().0
            })
            .collect()
    }

    fn reply(result: NodeTerm) -> NodeTerm {
        tuple(&[NodeTerm::atom("io_reply"), NodeTerm::Integer(77), result])
    }

    #[test]
    fn input_requests_are_answered_in_order_when_enough_has_arrived() {
        let mut session = NodeSession::new("a@b", 1, true);
        let unicode = NodeTerm::atom("unicode");
        let line = tuple(&[NodeTerm::atom("get_line"), unicode.clone(), NodeTerm::binary(b"? ")]);
        assert_eq!(session.receive(&request(line)).unwrap(), [NodeEvent::Print(b"? ".to_vec())]);
        assert!(session.wants_input());
        let two = tuple(&[NodeTerm::atom("get_chars"), unicode, NodeTerm::atom(""), NodeTerm::Integer(2)]);
        assert_eq!(session.receive(&request(two)).unwrap(), []);
        let events = session.receive_input(b"one\n\xc3\xa9");
        assert_eq!(sent(&events), [reply(NodeTerm::binary(b"one\n"))]);
        assert_eq!(sent(&session.receive_input(b"")), [reply(NodeTerm::binary("é".as_bytes()))]);
        assert!(!session.wants_input());
        let again = tuple(&[NodeTerm::atom("get_line"), NodeTerm::atom("")]);
        assert_eq!(sent(&session.receive(&request(again)).unwrap()), [reply(NodeTerm::atom("eof"))]);
    }

    #[test]
    fn a_function_of_the_node_judges_lines_until_it_has_enough() {
        let mut session = NodeSession::new("a@b", 1, false);
        let parts = [NodeTerm::atom("get_until"), NodeTerm::atom("unicode"), NodeTerm::atom("")];
        let until = [parts.as_slice(), &[NodeTerm::atom("m"), NodeTerm::atom("f"), NodeTerm::List(vec![])]].concat();
        assert_eq!(session.receive(&request(NodeTerm::Tuple(until))).unwrap(), []);
        let judged = sent(&session.receive_input(b"1\n2 3\n"));
        assert!(judged.len() == 1 && !session.wants_input());
        // The function wants another line, and leaves a part of it.
        let more = message(&tuple(&[NodeTerm::Integer(1), NodeTerm::atom("more")]));
        assert_eq!(session.receive(&more).unwrap().len(), 1);
        let rest = NodeTerm::ByteList(b" 3\n".to_vec());
        let stop = tuple(&[NodeTerm::atom("stop"), NodeTerm::atom("done"), rest]);
        let events = session.receive(&message(&tuple(&[NodeTerm::Integer(2), stop]))).unwrap();
        assert_eq!(sent(&events), [reply(NodeTerm::atom("done"))]);
        let line = tuple(&[NodeTerm::atom("get_line"), NodeTerm::atom("latin1"), NodeTerm::atom("")]);
        let characters = b" 3\n".iter().map(|byte| NodeTerm::Integer(i64::from(*byte))).collect();
        assert_eq!(sent(&session.receive(&request(line)).unwrap()), [reply(NodeTerm::List(characters))]);
    }

    #[test]
    fn options_are_kept_and_unknown_requests_fail() {
        let mut session = NodeSession::new("a@b", 1, true);
        let option = |name: &str, value: &str| tuple(&[NodeTerm::atom(name), NodeTerm::atom(value)]);
        let options = NodeTerm::List(vec![option("encoding", "latin1"), NodeTerm::atom("list")]);
        let set = tuple(&[NodeTerm::atom("setopts"), options]);
        assert_eq!(sent(&session.receive(&request(set)).unwrap()), [reply(NodeTerm::atom("ok"))]);
        let get = tuple(&[NodeTerm::atom("getopts")]);
        let kept = NodeTerm::List(vec![option("binary", "false"), option("encoding", "latin1")]);
        assert_eq!(sent(&session.receive(&request(get)).unwrap()), [reply(kept)]);
        let put = tuple(&[NodeTerm::atom("put_chars"), NodeTerm::atom("latin1"), NodeTerm::binary(b"\xff")]);
        assert_eq!(session.receive(&request(put)).unwrap()[0], NodeEvent::Print(b"\xff".to_vec()));
        assert!(matches!(serve_request(&NodeTerm::atom("strange")), IoOutcome::Fail(_)));
        assert!(matches!(serve_request(&NodeTerm::Tuple(vec![])), IoOutcome::Fail(_)));
    }

    #[test]
    fn replies_ticks_and_malformed_packets_are_distinguished() {
        let mut session = NodeSession::new("a@b", 1, true);
        let (number, _) = session.call("os", "getpid", vec![]);
        let reply = message(&tuple(&[NodeTerm::Integer(number), NodeTerm::ByteList(b"12".to_vec())]));
        assert_eq!(session.receive(&reply).unwrap(), [NodeEvent::Reply(number, NodeTerm::ByteList(b"12".to_vec()))]);
        assert_eq!(session.receive(b"").unwrap(), [NodeEvent::Send(vec![0; 4])]);
        assert_eq!(session.receive(b"x"), Err(MalformedTerm));
    }
}
