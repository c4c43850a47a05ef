//! Remote calls to a connected node, and the input and output of the called code.
//!
//! The calls go to `rex`, the server behind `rpc:call`. This program is the group leader of the called process, so it
//! serves Erlang's I/O protocol: output is printed here, and input is at the end of file.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{Bytes, join};
use crate::term::{Malformed, Term};

/// The id of the only process of this program.
const PROCESS: u32 = 1;

/// A consequence of a received packet.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// Send this packet.
    Send(Bytes),
    /// Print these bytes.
    Print(Bytes),
    /// The call with this number returned this result.
    Reply(i64, Term),
}

/// An I/O request that waits for the result of a function that makes its text.
#[derive(Debug)]
struct Waiting {
    call: i64,
    from: Term,
    tag: Term,
    unicode: bool,
    rest: Vec<Term>,
}

/// The state of this program's side of a connection.
#[derive(Debug)]
pub struct Session {
    own: Term,
    calls: i64,
    waiting: Vec<Waiting>,
}

impl Session {
    /// Begins a session as the node `name`.
    #[must_use]
    pub fn new(name: &str, creation: u32) -> Self {
        Self { own: Term::pid(name, PROCESS, creation), calls: 0, waiting: Vec::new() }
    }

    /// Begins a call of a function. Returns its number, and the packet to send.
    pub fn call(&mut self, module: &str, function: &str, arguments: Vec<Term>) -> (i64, Bytes) {
        self.calls += 1;
        let call =
            vec![Term::atom("call"), Term::atom(module), Term::atom(function), Term::List(arguments), self.own.clone()];
        let from = Term::Tuple(vec![self.own.clone(), Term::Int(self.calls)]);
        let message = Term::Tuple(vec![Term::atom("$gen_call"), from, Term::Tuple(call)]);
        let control = Term::Tuple(vec![Term::Int(6), self.own.clone(), Term::atom(""), Term::atom("rex")]);
        (self.calls, packet(&control, &message))
    }

    /// Handles a packet. An empty packet is a tick, which is answered with a tick.
    ///
    /// # Errors
    /// Fails if the packet violates the protocol.
    pub fn receive(&mut self, packet: &[u8]) -> Result<Vec<Event>, Malformed> {
        let Some((kind, rest)) = packet.split_first() else {
            return Ok(vec![Event::Send(0_u32.to_be_bytes().to_vec())]);
        };
        if *kind != 112 {
            return Err(Malformed);
        }
        let (control, rest) = Term::read(rest)?;
        let operation = control.tuple().and_then(<[Term]>::first);
        // A message to the process of this program. Monitors and links need no answer while it lives.
        if !matches!(operation, Some(Term::Int(2))) {
            return Ok(Vec::new());
        }
        let (message, _) = Term::read(rest)?;
        let Some(parts) = message.tuple() else { return Ok(Vec::new()) };
        Ok(match parts {
            [kind, from, tag, request] if kind.is_atom("io_request") => {
                let mut events = Vec::new();
                self.serve(from.clone(), tag.clone(), vec![request.clone()], &mut events);
                events
            }
            [Term::Int(call), result] => match self.waiting.iter().position(|waiting| waiting.call == *call) {
                Some(at) => {
                    let waiting = self.waiting.swap_remove(at);
                    self.printed(waiting, result)
                }
                None => vec![Event::Reply(*call, result.clone())],
            },
            _ => Vec::new(),
        })
    }

    /// Executes I/O requests in order; the last one's result is the reply.
    fn serve(&mut self, from: Term, tag: Term, mut rest: Vec<Term>, events: &mut Vec<Event>) {
        let mut answer = Term::atom("ok");
        while !rest.is_empty() {
            match serve_one(&rest.remove(0)) {
                Served::Print(text) => {
                    events.push(Event::Print(text));
                    answer = Term::atom("ok");
                }
                Served::Answer(term) => answer = term,
                Served::Fail(term) => {
                    answer = term;
                    rest.clear();
                }
                Served::Several(mut list) => {
                    list.append(&mut rest);
                    rest = list;
                }
                Served::Apply { unicode, module, function, arguments } => {
                    let (call, packet) = self.call(&module, &function, arguments);
                    events.push(Event::Send(packet));
                    self.waiting.push(Waiting { call, from, tag, unicode, rest });
                    return;
                }
            }
        }
        events.push(Event::Send(reply(&from, tag, answer)));
    }

    fn printed(&mut self, waiting: Waiting, result: &Term) -> Vec<Event> {
        let mut events = Vec::new();
        let mut text = Bytes::new();
        if characters(result, waiting.unicode, &mut text).is_err() {
            events.push(Event::Send(reply(&waiting.from, waiting.tag, error("put_chars"))));
            return events;
        }
        events.push(Event::Print(text));
        self.serve(waiting.from, waiting.tag, waiting.rest, &mut events);
        events
    }
}

fn packet(control: &Term, message: &Term) -> Bytes {
    let mut body = vec![112, 131];
    control.write(&mut body);
    body.push(131);
    message.write(&mut body);
    join(&[&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes(), &body])
}

fn reply(to: &Term, tag: Term, answer: Term) -> Bytes {
    let control = Term::Tuple(vec![Term::Int(2), Term::atom(""), to.clone()]);
    packet(&control, &Term::Tuple(vec![Term::atom("io_reply"), tag, answer]))
}

fn error(reason: &str) -> Term {
    Term::Tuple(vec![Term::atom("error"), Term::atom(reason)])
}

enum Served {
    Print(Bytes),
    Answer(Term),
    Fail(Term),
    Several(Vec<Term>),
    Apply { unicode: bool, module: String, function: String, arguments: Vec<Term> },
}

fn serve_one(request: &Term) -> Served {
    let parts = match request {
        Term::Tuple(parts) => parts.as_slice(),
        other => core::slice::from_ref(other),
    };
    let name = match parts.first() {
        Some(Term::Atom(name)) => name.as_str(),
        _ => "",
    };
    match (name, &parts[1.min(parts.len())..]) {
        ("put_chars", [encoding, text]) => print(encoding.is_atom("unicode"), text),
        ("put_chars", [text]) => print(false, text),
        ("put_chars", [encoding, module, function, arguments]) => {
            apply(encoding.is_atom("unicode"), module, function, arguments)
        }
        ("put_chars", [module, function, arguments]) => apply(false, module, function, arguments),
        ("requests", [Term::List(list)]) => Served::Several(list.clone()),
        ("get_line" | "get_chars" | "get_until" | "get_password" | "fread", _) => Served::Answer(Term::atom("eof")),
        ("getopts", []) => {
            let option = |name: &str, value: &str| Term::Tuple(vec![Term::atom(name), Term::atom(value)]);
            Served::Answer(Term::List(vec![option("binary", "true"), option("encoding", "unicode")]))
        }
        ("setopts", _) => Served::Answer(Term::atom("ok")),
        ("get_geometry", _) => Served::Fail(error("enotsup")),
        _ => Served::Fail(error("request")),
    }
}

fn print(unicode: bool, text: &Term) -> Served {
    let mut found = Bytes::new();
    match characters(text, unicode, &mut found) {
        Ok(()) => Served::Print(found),
        Err(Malformed) => Served::Fail(error("put_chars")),
    }
}

fn apply(unicode: bool, module: &Term, function: &Term, arguments: &Term) -> Served {
    let arguments = match arguments {
        Term::List(list) => list.clone(),
        Term::Text(bytes) => bytes.iter().map(|byte| Term::Int(i64::from(*byte))).collect(),
        _ => return Served::Fail(error("put_chars")),
    };
    match (module, function) {
        (Term::Atom(module), Term::Atom(function)) => {
            Served::Apply { unicode, module: module.to_string(), function: function.to_string(), arguments }
        }
        _ => Served::Fail(error("put_chars")),
    }
}

/// Appends text in any form of Erlang, as UTF-8.
///
/// # Errors
/// Fails if the term is not text.
pub fn characters(text: &Term, unicode: bool, to: &mut Bytes) -> Result<(), Malformed> {
    let push = |c: char, to: &mut Bytes| to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    match text {
        Term::Int(number) => {
            push(u32::try_from(*number).ok().and_then(char::from_u32).ok_or(Malformed)?, to);
        }
        Term::Binary(bytes) if unicode => to.extend_from_slice(bytes),
        Term::Binary(bytes) | Term::Text(bytes) => bytes.iter().for_each(|byte| push(char::from(*byte), to)),
        Term::List(items) => items.iter().try_for_each(|item| characters(item, unicode, to))?,
        Term::Improper(items, tail) => {
            items.iter().try_for_each(|item| characters(item, unicode, to))?;
            characters(tail, unicode, to)?;
        }
        Term::Atom(_) | Term::Tuple(_) | Term::Map(_) | Term::Opaque(_) => return Err(Malformed),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(term: &Term) -> Bytes {
        let control = Term::Tuple(vec![Term::Int(2), Term::atom(""), Term::pid("a@b", 1, 1)]);
        packet(&control, term)[4..].to_vec()
    }

    fn request(request: Term) -> Bytes {
        let from = Term::pid("peer@h", 9, 1);
        message(&Term::Tuple(vec![Term::atom("io_request"), from, Term::Int(77), request]))
    }

    fn tuple(parts: &[Term]) -> Term {
        Term::Tuple(parts.to_vec())
    }

    #[test]
    fn put_chars_is_printed_and_acknowledged() {
        let mut session = Session::new("a@b", 1);
        let text = Term::List(vec![Term::Int(0x20ac), Term::binary("é".as_bytes()), Term::Text(b"\xe9".to_vec())]);
        let put = tuple(&[Term::atom("put_chars"), Term::atom("unicode"), text]);
        let events = session.receive(&request(put)).unwrap();
        assert_eq!(events[0], Event::Print("€éé".as_bytes().to_vec()));
        assert!(matches!(&events[1], Event::Send(packet) if packet.ends_with(&[97, 77, 119, 2, b'o', b'k'])));
    }

    #[test]
    fn put_chars_with_a_function_calls_it_and_prints_its_result() {
        let mut session = Session::new("a@b", 1);
        let arguments = Term::List(vec![Term::Text(b"~p".to_vec()), Term::List(vec![Term::Int(1)])]);
        let parts = ["put_chars", "unicode", "io_lib", "format"].map(Term::atom);
        let mut put = parts.to_vec();
        put.push(arguments);
        let events = session.receive(&request(Term::Tuple(put))).unwrap();
        assert!(matches!(events.as_slice(), [Event::Send(_)]));
        let events = session.receive(&message(&tuple(&[Term::Int(1), Term::Text(b"1".to_vec())]))).unwrap();
        assert_eq!(events[0], Event::Print(b"1".to_vec()));
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn input_requests_return_eof_and_unknown_requests_fail() {
        assert!(
            matches!(serve_one(&tuple(&[Term::atom("get_line"), Term::atom("x")])), Served::Answer(t) if t.is_atom("eof"))
        );
        assert!(matches!(serve_one(&Term::atom("getopts")), Served::Answer(Term::List(_))));
        assert!(matches!(serve_one(&Term::atom("strange")), Served::Fail(_)));
        assert!(matches!(serve_one(&Term::Tuple(vec![])), Served::Fail(_)));
    }

    #[test]
    fn replies_ticks_and_malformed_packets_are_distinguished() {
        let mut session = Session::new("a@b", 1);
        let (number, _) = session.call("os", "getpid", vec![]);
        let reply = message(&tuple(&[Term::Int(number), Term::Text(b"12".to_vec())]));
        assert_eq!(session.receive(&reply).unwrap(), [Event::Reply(number, Term::Text(b"12".to_vec()))]);
        assert_eq!(session.receive(b"").unwrap(), [Event::Send(vec![0; 4])]);
        assert_eq!(session.receive(b"x"), Err(Malformed));
    }
}
