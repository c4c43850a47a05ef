//! A term as a tree of texts with their lengths, which `io_lib_pretty` builds before it breaks lines.

use super::{byte_texts, quoted, write};
use crate::term::Term;

/// Returns true if Erlang prints this character as text in Latin-1 mode.
fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\t' | '\u{b}' | '\u{8}' | '\u{c}' | '\u{1b}' | ' '..='~' | '\u{a0}'..='\u{ff}')
}

/// A term with the length of its one-line text at every level.
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) long: i64,
}

pub(super) enum Kind {
    Text(String),
    Bytes(Vec<String>),
    List(Vec<Node>, Option<Box<Node>>),
    Tuple(bool, Vec<Node>),
    Map(Vec<Pair>),
}

pub(super) struct Pair {
    pub(super) key: Node,
    pub(super) value: Node,
    pub(super) long: i64,
}

impl Pair {
    pub(super) fn is_text(&self) -> bool {
        self.key.is_text() && self.value.is_text()
    }

    pub(super) fn flat_into(&self, out: &mut String) {
        self.key.flat_into(out);
        out.push_str(" => ");
        self.value.flat_into(out);
    }
}

pub(super) fn count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

impl Node {
    fn text(text: String) -> Node {
        let long = count(&text);
        Node { kind: Kind::Text(text), long }
    }

    pub(super) fn of(term: &Term) -> Node {
        match term {
            Term::List(elements) if elements.is_empty() => Node::text("[]".to_owned()),
            Term::Tuple(elements) if elements.is_empty() => Node::text("{}".to_owned()),
            Term::Map(pairs) if pairs.is_empty() => Node::text("#{}".to_owned()),
            Term::List(elements) => match term.as_string().filter(|text| text.chars().all(is_printable)) {
                Some(text) => Node::text(quoted(&text, '"')),
                None => Node::list(elements, None),
            },
            Term::Improper(elements, tail) => Node::list(elements, Some(tail)),
            Term::Tuple(elements) => {
                let is_tagged = elements.len() > 1 && elements[0].as_atom().is_some();
                let nodes: Vec<_> = elements.iter().map(Node::of).collect();
                let long = 2 + commas(nodes.len()) + nodes.iter().map(|node| node.long).sum::<i64>();
                Node { kind: Kind::Tuple(is_tagged, nodes), long }
            }
            Term::Map(pairs) => {
                let pair = |(key, value): &(Term, Term)| {
                    let (key, value) = (Node::of(key), Node::of(value));
                    let long = key.long + 4 + value.long;
                    Pair { key, value, long }
                };
                let pairs: Vec<_> = pairs.iter().map(pair).collect();
                let long = 3 + commas(pairs.len()) + pairs.iter().map(|pair| pair.long).sum::<i64>();
                Node { kind: Kind::Map(pairs), long }
            }
            Term::Binary(bytes) if bytes.is_empty() => Node::text("<<>>".to_owned()),
            Term::Binary(bytes) => Node::binary(bytes),
            Term::Bits(bytes, bits) => Node::bytes(byte_texts(bytes, *bits)),
            other => Node::text(write(other)),
        }
    }

    fn binary(bytes: &[u8]) -> Node {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(is_printable) => {
                let kind = if text.is_ascii() { "" } else { "/utf8" };
                Node::text(format!("<<{}{kind}>>", quoted(text, '"')))
            }
            Err(_) if bytes.iter().all(|&byte| is_printable(char::from(byte))) => {
                let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
                Node::text(format!("<<{}>>", quoted(&text, '"')))
            }
            Ok(_) | Err(_) => Node::bytes(byte_texts(bytes, 8)),
        }
    }

    fn bytes(texts: Vec<String>) -> Node {
        let long = 4 + commas(texts.len()) + texts.iter().map(|text| count(text)).sum::<i64>();
        Node { kind: Kind::Bytes(texts), long }
    }

    fn list(elements: &[Term], tail: Option<&Term>) -> Node {
        let nodes: Vec<_> = elements.iter().map(Node::of).collect();
        let tail = tail.map(|tail| Box::new(Node::of(tail)));
        let more = tail.as_ref().map_or(0, |tail| tail.long + 1);
        let long = 2 + commas(nodes.len()) + nodes.iter().map(|node| node.long).sum::<i64>() + more;
        Node { kind: Kind::List(nodes, tail), long }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text(_))
    }

    /// Returns the text on one line.
    pub(super) fn flat(&self) -> String {
        let mut out = String::with_capacity(usize::try_from(self.long).unwrap_or(0));
        self.flat_into(&mut out);
        out
    }

    pub(super) fn flat_into(&self, out: &mut String) {
        match &self.kind {
            Kind::Text(text) => out.push_str(text),
            Kind::Bytes(texts) => {
                out.push_str("<<");
                all_into(out, texts, |out, text| out.push_str(text));
                out.push_str(">>");
            }
            Kind::List(nodes, tail) => {
                out.push('[');
                all_into(out, nodes, |out, node| node.flat_into(out));
                if let Some(tail) = tail {
                    out.push('|');
                    tail.flat_into(out);
                }
                out.push(']');
            }
            Kind::Tuple(_, nodes) => {
                out.push('{');
                all_into(out, nodes, |out, node| node.flat_into(out));
                out.push('}');
            }
            Kind::Map(pairs) => {
                out.push_str("#{");
                all_into(out, pairs, |out, pair| pair.flat_into(out));
                out.push('}');
            }
        }
    }
}

/// Writes all elements, separated by commas.
fn all_into<T>(out: &mut String, all: &[T], put: impl Fn(&mut String, &T)) {
    for (number, one) in all.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        put(out, one);
    }
}

fn commas(elements: usize) -> i64 {
    i64::try_from(elements).unwrap_or(i64::MAX).saturating_sub(1)
}
