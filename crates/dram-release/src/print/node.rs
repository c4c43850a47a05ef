//! A term as a tree of texts with their lengths, which `io_lib_pretty` builds before it breaks lines.

use super::{byte_texts, quoted, write};
use crate::term::Term;

/// Returns true if Erlang prints this character as text in Latin-1 mode.
fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\t' | '\u{b}' | '\u{8}' | '\u{c}' | '\u{1b}' | ' '..='~' | '\u{a0}'..='\u{ff}')
}

/// A term with the length of its one-line text at every level.
pub(super) struct PrintNode {
    pub(super) kind: PrintNodeKind,
    pub(super) flat_len: i64,
}

pub(super) enum PrintNodeKind {
    Text(String),
    Bytes(Vec<String>),
    List(Vec<PrintNode>, Option<Box<PrintNode>>),
    Tuple(bool, Vec<PrintNode>),
    Map(Vec<PrintPair>),
}

pub(super) struct PrintPair {
    pub(super) key: PrintNode,
    pub(super) value: PrintNode,
    pub(super) flat_len: i64,
}

impl PrintPair {
    pub(super) fn is_text(&self) -> bool {
        self.key.is_text() && self.value.is_text()
    }

    pub(super) fn flat_into(&self, out: &mut String) {
        self.key.flat_into(out);
        out.push_str(" => ");
        self.value.flat_into(out);
    }
}

pub(super) fn char_count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

impl PrintNode {
    fn text(text: String) -> PrintNode {
        let flat_len = char_count(&text);
        PrintNode { kind: PrintNodeKind::Text(text), flat_len }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub(super) fn from_term(term: &Term) -> PrintNode {
        match term {
            Term::List(elements) if elements.is_empty() => PrintNode::text("[]".to_owned()),
            Term::Tuple(elements) if elements.is_empty() => PrintNode::text("{}".to_owned()),
            Term::Map(pairs) if pairs.is_empty() => PrintNode::text("#{}".to_owned()),
            Term::List(elements) => match term.as_string().filter(|text| text.chars().all(is_printable)) {
                Some(text) => PrintNode::text(quoted(&text, '"')),
                None => PrintNode::list(elements, None),
            },
            Term::Improper(elements, tail) => PrintNode::list(elements, Some(tail)),
            Term::Tuple(elements) => {
                let is_tagged = elements.len() > 1 && elements[0].as_atom().is_some();
                let nodes: Vec<_> = elements.iter().map(PrintNode::from_term).collect();
                let long = 2 + comma_count(nodes.len()) + nodes.iter().map(|node| node.flat_len).sum::<i64>();
                PrintNode { kind: PrintNodeKind::Tuple(is_tagged, nodes), flat_len: long }
            }
            Term::Map(pairs) => {
                let pair = |(key, value): &(Term, Term)| {
                    let (key, value) = (PrintNode::from_term(key), PrintNode::from_term(value));
                    let long = key.flat_len + 4 + value.flat_len;
                    PrintPair { key, value, flat_len: long }
                };
                let pairs: Vec<_> = pairs.iter().map(pair).collect();
                let long = 3 + comma_count(pairs.len()) + pairs.iter().map(|pair| pair.flat_len).sum::<i64>();
                PrintNode { kind: PrintNodeKind::Map(pairs), flat_len: long }
            }
            Term::Binary(bytes) if bytes.is_empty() => PrintNode::text("<<>>".to_owned()),
            Term::Binary(bytes) => PrintNode::binary(bytes),
            Term::Bits(bytes, bits) => PrintNode::bytes(byte_texts(bytes, *bits)),
            other => PrintNode::text(write(other)),
        }
    }

    fn binary(bytes: &[u8]) -> PrintNode {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(is_printable) => {
                let kind = if text.is_ascii() { "" } else { "/utf8" };
                PrintNode::text(format!("<<{}{kind}>>", quoted(text, '"')))
            }
            Err(_) if bytes.iter().all(|&byte| is_printable(char::from(byte))) => {
                let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
                PrintNode::text(format!("<<{}>>", quoted(&text, '"')))
            }
            Ok(_) | Err(_) => PrintNode::bytes(byte_texts(bytes, 8)),
        }
    }

    fn bytes(texts: Vec<String>) -> PrintNode {
        let flat_len = 4 + comma_count(texts.len()) + texts.iter().map(|text| char_count(text)).sum::<i64>();
        PrintNode { kind: PrintNodeKind::Bytes(texts), flat_len }
    }

    fn list(elements: &[Term], tail: Option<&Term>) -> PrintNode {
        let nodes: Vec<_> = elements.iter().map(PrintNode::from_term).collect();
        let tail = tail.map(|tail| Box::new(PrintNode::from_term(tail)));
        let more = tail.as_ref().map_or(0, |tail| tail.flat_len + 1);
        let flat_len = 2 + comma_count(nodes.len()) + nodes.iter().map(|node| node.flat_len).sum::<i64>() + more;
        PrintNode { kind: PrintNodeKind::List(nodes, tail), flat_len }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, PrintNodeKind::Text(_))
    }

    /// Returns the text on one line.
    pub(super) fn flat(&self) -> String {
        let mut out = String::with_capacity(usize::try_from(self.flat_len).unwrap_or(0));
        self.flat_into(&mut out);
        out
    }

    pub(super) fn flat_into(&self, out: &mut String) {
        match &self.kind {
            PrintNodeKind::Text(text) => out.push_str(text),
            PrintNodeKind::Bytes(texts) => {
                out.push_str("<<");
                write_separated(out, texts, |out, text| out.push_str(text));
                out.push_str(">>");
            }
            PrintNodeKind::List(nodes, tail) => {
                out.push('[');
                write_separated(out, nodes, |out, node| node.flat_into(out));
                if let Some(tail) = tail {
                    out.push('|');
                    tail.flat_into(out);
                }
                out.push(']');
            }
            PrintNodeKind::Tuple(_, nodes) => {
                out.push('{');
                write_separated(out, nodes, |out, node| node.flat_into(out));
                out.push('}');
            }
            PrintNodeKind::Map(pairs) => {
                out.push_str("#{");
                write_separated(out, pairs, |out, pair| pair.flat_into(out));
                out.push('}');
            }
        }
    }
}

/// Writes all elements, separated by commas.
fn write_separated<T>(out: &mut String, all: &[T], put: impl Fn(&mut String, &T)) {
    for (number, one) in all.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        put(out, one);
    }
}

fn comma_count(elements: usize) -> i64 {
    i64::try_from(elements).unwrap_or(i64::MAX).saturating_sub(1)
}
