//! The standard input of called code: requests of Erlang's I/O protocol are answered from it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::byte_string::ByteString;
use crate::term::NodeTerm;

/// The amount of input that a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputAmount {
    /// One line, with its end as a line feed.
    Line,
    /// A number of characters.
    Characters(usize),
}

/// The input that has arrived and that no request has taken yet.
#[derive(Debug, Default)]
pub struct InputBuffer {
    bytes: ByteString,
    is_at_end: bool,
    /// True if each byte is a character; otherwise the input is UTF-8.
    pub is_latin1: bool,
}

/// The input for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenInput {
    /// These characters.
    Text(String),
    /// Bytes that are not UTF-8.
    Malformed,
    /// The end of the input.
    End,
}

impl InputBuffer {
    /// Appends bytes that have arrived. None mean that the input has ended.
    pub fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.is_at_end |= bytes.is_empty();
    }

    /// Puts characters back, before those that are here.
    pub fn put_back(&mut self, text: &str) {
        let mut bytes = match self.is_latin1 {
            true => text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect(),
            false => text.as_bytes().to_vec(),
        };
        bytes.append(&mut self.bytes);
        self.bytes = bytes;
    }

    /// Takes input; `None` if more must arrive before. At the end of the input it may be less.
    pub fn take(&mut self, amount: &InputAmount) -> Option<TakenInput> {
        let length = match amount {
            InputAmount::Line => self.bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1),
            InputAmount::Characters(count) => self.length_of_characters(*count),
        };
        let length = match length {
            Some(length) => length,
            None if !self.is_at_end => return None,
            None if self.bytes.is_empty() => return Some(TakenInput::End),
            None => self.bytes.len(),
        };
        let mut taken: ByteString = self.bytes.drain(..length).collect();
        if *amount == InputAmount::Line && taken.ends_with(b"\r\n") {
            taken.remove(taken.len() - 2);
        }
        if self.is_latin1 {
            return Some(TakenInput::Text(taken.into_iter().map(char::from).collect()));
        }
        Some(match String::from_utf8(taken) {
            Ok(text) => TakenInput::Text(text),
            Err(_) => TakenInput::Malformed,
        })
    }

    /// The number of bytes of the first `count` characters, if all of them are here.
    fn length_of_characters(&self, count: usize) -> Option<usize> {
        if self.is_latin1 {
            return (self.bytes.len() >= count).then_some(count);
        }
        let is_first = |byte: &u8| *byte & 0xc0 != 0x80;
        let mut starts = self.bytes.iter().enumerate().filter(|(_, byte)| is_first(byte)).map(|(at, _)| at);
        match starts.nth(count) {
            Some(at) => Some(at),
            // The last character is complete if its first byte says so.
            None => {
                let present = self.bytes.iter().filter(|byte| is_first(byte)).count();
                (present == count && core::str::from_utf8(&self.bytes).is_ok()).then_some(self.bytes.len())
            }
        }
    }
}

/// The result of an input request: `unicode` is the encoding that it wants, and `binary` says whether it wants binaries
/// or lists.
#[must_use]
pub fn input_result(taken: &TakenInput, unicode: bool, binary: bool) -> NodeTerm {
    let atom = NodeTerm::atom;
    let no_translation = |from: &str, to: &str| {
        NodeTerm::Tuple(alloc::vec![
            atom("error"),
            NodeTerm::Tuple(alloc::vec![atom("no_translation"), atom(from), atom(to)])
        ])
    };
    match taken {
        TakenInput::End => atom("eof"),
        TakenInput::Malformed => no_translation("unicode", "unicode"),
        TakenInput::Text(text) if !binary => {
            NodeTerm::List(text.chars().map(|c| NodeTerm::Integer(i64::from(u32::from(c)))).collect())
        }
        TakenInput::Text(text) if unicode => NodeTerm::binary(text.as_bytes()),
        TakenInput::Text(text) => {
            let latin1: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            latin1.map_or_else(|| no_translation("unicode", "latin1"), NodeTerm::Binary)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<TakenInput> {
        Some(TakenInput::Text(text.into()))
    }

    #[test]
    fn lines_are_taken_when_they_are_complete_and_at_the_end_what_is_left() {
        let mut input = InputBuffer::default();
        assert_eq!(input.take(&InputAmount::Line), None);
        input.append(b"one\r\ntw");
        assert_eq!(input.take(&InputAmount::Line), text("one\n"));
        assert_eq!(input.take(&InputAmount::Line), None);
        input.append(b"o");
        input.append(b"");
        assert_eq!(input.take(&InputAmount::Line), text("two"));
        assert_eq!(input.take(&InputAmount::Line), Some(TakenInput::End));
        input.put_back("x\n");
        assert_eq!(input.take(&InputAmount::Line), text("x\n"));
    }

    #[test]
    fn characters_are_not_cut_and_bytes_are_characters_in_latin_1() {
        let mut input = InputBuffer::default();
        input.append(b"a\xe2\x82");
        assert_eq!(input.take(&InputAmount::Characters(2)), None);
        input.append(b"\xacb");
        assert_eq!(input.take(&InputAmount::Characters(2)), text("a\u{20ac}"));
        assert_eq!(input.take(&InputAmount::Characters(1)), text("b"));
        input.append(b"\xff\n");
        assert_eq!(input.take(&InputAmount::Line), Some(TakenInput::Malformed));
        input.is_latin1 = true;
        input.append(b"\xe9\xff");
        assert_eq!(input.take(&InputAmount::Characters(2)), text("\u{e9}\u{ff}"));
        input.append(b"");
        assert_eq!(input.take(&InputAmount::Characters(2)), Some(TakenInput::End));
    }

    #[test]
    fn results_are_binaries_or_lists_in_the_encoding_of_the_request() {
        let taken = TakenInput::Text("é".into());
        assert_eq!(input_result(&taken, true, true), NodeTerm::binary("é".as_bytes()));
        assert_eq!(input_result(&taken, false, true), NodeTerm::binary(b"\xe9"));
        assert_eq!(input_result(&taken, false, false), NodeTerm::List(alloc::vec![NodeTerm::Integer(0xe9)]));
        let wide = input_result(&TakenInput::Text("\u{20ac}".into()), false, true);
        assert!(wide.tuple().is_some_and(|parts| parts[0].is_atom("error")));
        assert!(input_result(&TakenInput::End, true, true).is_atom("eof"));
    }
}
