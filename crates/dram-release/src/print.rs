//! Terms as text: what `io_lib:format/2` makes of `~tw` and of `~tp`, on lines of 80 columns.
//!
//! The rules of line breaking are those of OTP 25's `io_lib_pretty`, for terms of any depth and length: release files
//! are compared with those that Erlang writes, byte by byte.

use crate::bigint;
use crate::consult::scan::{RESERVED, is_inner, starts_atom};
use crate::term::Term;

/// The columns of a line.
const LINE: i64 = 80;

/// `term` on one line, every string a list and every binary its bytes, as `~tw` writes it.
pub fn write(term: &Term) -> String {
    let mut out = String::new();
    write_into(&mut out, term);
    out
}

fn write_into(out: &mut String, term: &Term) {
    match term {
        Term::Int(_) | Term::Big(..) | Term::Float(_) | Term::Atom(_) => out.push_str(&simple(term)),
        Term::Binary(bytes) => out.push_str(&format!("<<{}>>", byte_texts(bytes, 8).join(","))),
        Term::Bits(bytes, bits) => out.push_str(&format!("<<{}>>", byte_texts(bytes, *bits).join(","))),
        Term::List(elements) => {
            out.push('[');
            separated(out, elements, ",");
            out.push(']');
        }
        Term::Improper(elements, tail) => {
            out.push('[');
            separated(out, elements, ",");
            out.push('|');
            write_into(out, tail);
            out.push(']');
        }
        Term::Tuple(elements) => {
            out.push('{');
            separated(out, elements, ",");
            out.push('}');
        }
        Term::Map(pairs) => {
            out.push_str("#{");
            for (number, (key, value)) in pairs.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_into(out, key);
                out.push_str(" => ");
                write_into(out, value);
            }
            out.push('}');
        }
    }
}

fn separated(out: &mut String, elements: &[Term], separator: &str) {
    for (number, element) in elements.iter().enumerate() {
        if number > 0 {
            out.push_str(separator);
        }
        write_into(out, element);
    }
}

/// Each byte as a number; of the last one so many bits.
fn byte_texts(bytes: &[u8], bits: u8) -> Vec<String> {
    let mut texts: Vec<String> = bytes.iter().map(u8::to_string).collect();
    if let (Some(last), Some(byte), 1..8) = (texts.last_mut(), bytes.last(), bits) {
        *last = format!("{}:{bits}", byte >> (8 - bits));
    }
    texts
}

fn simple(term: &Term) -> String {
    match term {
        Term::Int(value) => value.to_string(),
        Term::Big(negative, magnitude) => format!("{}{}", if *negative { "-" } else { "" }, bigint::decimal(magnitude)),
        Term::Float(value) => float(*value),
        Term::Atom(name) => atom(name),
        other => write(other),
    }
}

/// The shortest text that reads back as `value`, with an exponent where that is shorter.
fn float(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0" } else { "0.0" }.to_owned();
    }
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let place = exponent.parse::<i64>().unwrap_or(0) + 1;
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", place_dot(&digits, place, value.abs() >= 9_007_199_254_740_992.0))
}

fn place_dot(digits: &str, place: i64, is_large: bool) -> String {
    let long = i64::try_from(digits.len()).unwrap_or(0);
    let exponent = (place - 1).to_string();
    let with_exponent = || match digits.split_at(1) {
        (first, "") => format!("{first}.0e{exponent}"),
        (first, rest) => format!("{first}.{rest}e{exponent}"),
    };
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    if place == 0 {
        return format!("0.{digits}");
    }
    if (1..long).contains(&place) {
        let (whole, part) = digits.split_at(usize::try_from(place).unwrap_or(0));
        return if is_large { with_exponent() } else { format!("{whole}.{part}") };
    }
    let cost = i64::try_from(exponent.len()).unwrap_or(0) + 1 + if long == 1 { 2 } else { 1 };
    if place < 0 {
        return if 2 - place <= cost { format!("0.{}{digits}", zeros(-place)) } else { with_exponent() };
    }
    if place - long + 2 <= cost && !is_large { format!("{digits}{}.0", zeros(place - long)) } else { with_exponent() }
}

/// An atom, in quotes where it needs them.
pub fn atom(name: &str) -> String {
    let is_plain = name.chars().next().is_some_and(starts_atom) && name.chars().all(is_inner);
    if is_plain && !RESERVED.contains(&name) { name.to_owned() } else { quoted(name, '\'') }
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for letter in text.chars() {
        match letter {
            letter if letter == quote => out.extend(['\\', letter]),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{7f}' => out.push_str("\\d"),
            letter if letter < ' ' || ('\u{80}'..'\u{a0}').contains(&letter) => {
                out.push_str(&format!("\\{:03o}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push(quote);
    out
}

/// Whether Erlang takes it for text, where it knows no more than Latin-1.
fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\t' | '\u{b}' | '\u{8}' | '\u{c}' | '\u{1b}' | ' '..='~' | '\u{a0}'..='\u{ff}')
}

/// `term` on as many lines as it takes, with strings and binaries as text where they are, as `~tp` writes it.
pub fn pretty(term: &Term) -> String {
    let node = Node::of(term);
    if matches!(term, Term::Int(_) | Term::Big(..) | Term::Float(_) | Term::Atom(_)) || node.long < LINE - 1 {
        return node.flat();
    }
    let most = node.long;
    // How far the rest of a tuple stands in from its first element, an atom: where the atom ends, if that leaves room.
    let inset =
        [-1, 4].into_iter().find(|inset| Fit { most, inset: *inset }.node(&node, 1, 0, 0).is_some()).unwrap_or(1);
    let mut page = Page { out: String::new(), most, inset };
    page.node(&node, 1, 0, 0, 0);
    page.out
}

/// A term with the length of its one-line form at every level.
struct Node {
    kind: Kind,
    long: i64,
}

enum Kind {
    Text(String),
    Bytes(Vec<String>),
    List(Vec<Node>, Option<Box<Node>>),
    Tuple(bool, Vec<Node>),
    Map(Vec<Pair>),
}

struct Pair {
    key: Node,
    value: Node,
    long: i64,
}

impl Pair {
    fn is_text(&self) -> bool {
        self.key.is_text() && self.value.is_text()
    }

    fn flat(&self) -> String {
        format!("{} => {}", self.key.flat(), self.value.flat())
    }
}

fn count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

impl Node {
    fn text(text: String) -> Node {
        let long = count(&text);
        Node { kind: Kind::Text(text), long }
    }

    fn of(term: &Term) -> Node {
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

    fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text(_))
    }

    fn flat(&self) -> String {
        let all = |nodes: &[Node]| nodes.iter().map(Node::flat).collect::<Vec<_>>().join(",");
        match &self.kind {
            Kind::Text(text) => text.clone(),
            Kind::Bytes(texts) => format!("<<{}>>", texts.join(",")),
            Kind::List(nodes, None) => format!("[{}]", all(nodes)),
            Kind::List(nodes, Some(tail)) => format!("[{}|{}]", all(nodes), tail.flat()),
            Kind::Tuple(_, nodes) => format!("{{{}}}", all(nodes)),
            Kind::Map(pairs) => format!("#{{{}}}", pairs.iter().map(Pair::flat).collect::<Vec<_>>().join(",")),
        }
    }
}

fn commas(elements: usize) -> i64 {
    i64::try_from(elements).unwrap_or(i64::MAX).saturating_sub(1)
}

/// What is true of both passes: when something fits on the rest of a line.
///
/// `closing` is how many brackets must fit behind it, `width` how much stands on the line already, `most` how much
/// may.
fn fits(long: i64, column: i64, closing: i64, width: i64, most: i64) -> bool {
    long < LINE - column - closing && long + width + closing <= most
}

/// Whether an element of a sequence follows the one before on the same line.
fn follows(long: i64, is_text: bool, column: i64, closing: i64, width: i64, most: i64) -> bool {
    let long = 1 + long;
    is_text
        && if closing == 0 {
            long + 1 < LINE - column && width + long < most
        } else {
            long < LINE - column - closing && width + long + closing <= most
        }
}

/// The brackets that must fit behind an element: none unless it is the last.
fn closing_after(is_last: bool, closing: i64) -> i64 {
    if is_last { closing + 1 } else { 0 }
}

fn value_inset(inset: i64) -> i64 {
    if inset > 0 { inset } else { 4 }
}

/// The first pass: whether an inset leaves room everywhere. `None` where it does not.
struct Fit {
    most: i64,
    inset: i64,
}

impl Fit {
    fn node(&self, node: &Node, column: i64, closing: i64, width: i64) -> Option<()> {
        if fits(node.long, column, closing, width, self.most) {
            return Some(());
        }
        match &node.kind {
            Kind::List(nodes, tail) => self.sequence(nodes, tail.as_deref(), column + 1, closing, width + 1),
            Kind::Tuple(true, nodes) => self.tagged(nodes, column, closing, width + 1),
            Kind::Tuple(false, nodes) => self.sequence(nodes, None, column + 1, closing, width + 1),
            Kind::Map(pairs) => self.map(pairs, column + 2, closing, width + 2),
            Kind::Bytes(_) | Kind::Text(_) => Some(()),
        }
    }

    fn tagged(&self, nodes: &[Node], column: i64, closing: i64, width: i64) -> Option<()> {
        let (tag, rest) = nodes.split_first()?;
        let after = column + tag.long + 2;
        if self.inset > 0 && tag.long + 2 > self.inset {
            let column = column + self.inset;
            if self.most + column <= LINE || column <= LINE / 2 {
                return self.tail(rest, None, column, after, closing, width + tag.long);
            }
            return None;
        }
        if self.most + after < LINE || after < LINE / 2 {
            return self.sequence(rest, None, after, closing, width + tag.long + 1);
        }
        None
    }

    fn element(&self, node: &Node, column: i64, closing: i64, width: i64) -> Option<i64> {
        if fits(node.long, column, closing, width, self.most) && node.is_text() {
            return Some(node.long);
        }
        self.node(node, column, closing, width)?;
        Some(LINE)
    }

    fn sequence(&self, nodes: &[Node], tail: Option<&Node>, column: i64, closing: i64, width: i64) -> Option<()> {
        let Some((first, rest)) = nodes.split_first() else { return Some(()) };
        let is_last = rest.is_empty();
        let long = self.element(first, column, closing_after(is_last, closing), width)?;
        self.tail(rest, tail, column, column + long, closing, width + long)
    }

    fn tail(
        &self,
        nodes: &[Node],
        tail: Option<&Node>,
        start: i64,
        column: i64,
        closing: i64,
        width: i64,
    ) -> Option<()> {
        let (mut column, mut width) = (column, width);
        for (number, node) in nodes.iter().enumerate() {
            let is_last = number + 1 == nodes.len();
            let behind = closing_after(is_last, closing);
            if follows(node.long, node.is_text(), column, behind, width, self.most) {
                column += 1 + node.long;
                width += 1 + node.long;
            } else {
                let long = self.element(node, start, behind, 0)?;
                column = start + long;
                width = long;
            }
        }
        let Some(tail) = tail else { return Some(()) };
        if tail.is_text() && fits(tail.long + 1, column, closing + 1, width, self.most) {
            return Some(());
        }
        self.node(tail, column, closing + 1, 0)
    }

    fn pair(&self, pair: &Pair, column: i64, closing: i64, width: i64) -> Option<i64> {
        if fits(pair.long, column, closing, width, self.most) {
            return Some(if pair.is_text() { pair.long } else { LINE });
        }
        self.node(&pair.key, column, closing, width)?;
        self.node(&pair.value, column + value_inset(self.inset), closing, 0)?;
        Some(LINE)
    }

    fn map(&self, pairs: &[Pair], start: i64, closing: i64, width: i64) -> Option<()> {
        let (mut column, mut width) = (start, width);
        for (number, pair) in pairs.iter().enumerate() {
            let behind = closing_after(number + 1 == pairs.len(), closing);
            if number > 0 && follows(pair.long, pair.is_text(), column, behind, width, self.most) {
                column += 1 + pair.long;
                width += 1 + pair.long;
            } else {
                let long = self.pair(pair, start, behind, if number == 0 { width } else { 0 })?;
                column = start + long;
                width = if number == 0 { width + long } else { long };
            }
        }
        Some(())
    }
}

/// The second pass: the text.
struct Page {
    out: String,
    most: i64,
    inset: i64,
}

impl Page {
    fn new_line(&mut self, indent: i64) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', usize::try_from(indent).unwrap_or(0)));
    }

    fn node(&mut self, node: &Node, column: i64, indent: i64, closing: i64, width: i64) {
        if fits(node.long, column, closing, width, self.most) {
            self.out.push_str(&node.flat());
            return;
        }
        match &node.kind {
            Kind::List(nodes, tail) => {
                self.out.push('[');
                self.sequence(nodes, tail.as_deref(), column + 1, indent + 1, closing, width + 1);
                self.out.push(']');
            }
            Kind::Tuple(true, nodes) => {
                self.out.push('{');
                self.tagged(nodes, column, indent, closing, width + 1);
                self.out.push('}');
            }
            Kind::Tuple(false, nodes) => {
                self.out.push('{');
                self.sequence(nodes, None, column + 1, indent + 1, closing, width + 1);
                self.out.push('}');
            }
            Kind::Map(pairs) => {
                self.out.push_str("#{");
                self.map(pairs, column + 2, indent + 2, closing, width + 1);
                self.out.push('}');
            }
            Kind::Bytes(texts) => self.bytes(texts, column + 2, indent + 2, closing, width),
            Kind::Text(text) => self.out.push_str(text),
        }
    }

    fn tagged(&mut self, nodes: &[Node], column: i64, indent: i64, closing: i64, width: i64) {
        let Some((tag, rest)) = nodes.split_first() else { return };
        self.out.push_str(&tag.flat());
        let inset = tag.long + 2;
        if self.inset > 0 && inset > self.inset {
            let (start, indent) = (column + self.inset, indent + self.inset);
            self.tail(rest, None, (start, indent), column + inset, closing, width + tag.long);
        } else {
            self.out.push(',');
            self.sequence(rest, None, column + inset, indent + inset, closing, width + tag.long + 1);
        }
    }

    fn element(&mut self, node: &Node, column: i64, indent: i64, closing: i64, width: i64) -> i64 {
        let is_short = fits(node.long, column, closing, width, self.most) && node.is_text();
        self.node(node, column, indent, closing, width);
        if is_short { node.long } else { LINE }
    }

    fn sequence(&mut self, nodes: &[Node], tail: Option<&Node>, column: i64, indent: i64, closing: i64, width: i64) {
        let Some((first, rest)) = nodes.split_first() else { return };
        let is_last = rest.is_empty();
        let long = self.element(first, column, indent, closing_after(is_last, closing), width);
        self.tail(rest, tail, (column, indent), column + long, closing, width + long);
    }

    fn tail(
        &mut self,
        nodes: &[Node],
        tail: Option<&Node>,
        (start, indent): (i64, i64),
        column: i64,
        closing: i64,
        width: i64,
    ) {
        let (mut column, mut width) = (column, width);
        for (number, node) in nodes.iter().enumerate() {
            let is_last = number + 1 == nodes.len();
            let behind = closing_after(is_last, closing);
            self.out.push(',');
            if follows(node.long, node.is_text(), column, behind, width, self.most) {
                self.out.push_str(&node.flat());
                column += 1 + node.long;
                width += 1 + node.long;
            } else {
                self.new_line(indent);
                let long = self.element(node, start, indent, behind, 0);
                column = start + long;
                width = long;
            }
        }
        let Some(tail) = tail else { return };
        self.out.push('|');
        if tail.is_text() && fits(tail.long + 1, column, closing + 1, width, self.most) {
            self.out.push_str(&tail.flat());
        } else {
            self.new_line(indent);
            self.node(tail, start, indent, closing + 1, 0);
        }
    }

    fn pair(&mut self, pair: &Pair, column: i64, indent: i64, closing: i64, width: i64) -> i64 {
        if fits(pair.long, column, closing, width, self.most) {
            self.out.push_str(&pair.flat());
            return if pair.is_text() { pair.long } else { LINE };
        }
        let inset = value_inset(self.inset);
        self.node(&pair.key, column, indent, closing, width);
        self.out.push_str(" =>");
        self.new_line(indent + inset);
        self.node(&pair.value, column + inset, indent + inset, closing, 0);
        LINE
    }

    fn map(&mut self, pairs: &[Pair], start: i64, indent: i64, closing: i64, width: i64) {
        let (mut column, mut width) = (start, width);
        for (number, pair) in pairs.iter().enumerate() {
            let behind = closing_after(number + 1 == pairs.len(), closing);
            if number == 0 {
                let long = self.pair(pair, start, indent, behind, width);
                // As it is in Erlang: what stands before the first pair is forgotten here.
                (column, width) = (start + long, long);
                continue;
            }
            self.out.push(',');
            if follows(pair.long, pair.is_text(), column, behind, width, self.most) {
                self.out.push_str(&pair.flat());
                column += 1 + pair.long;
                width += 1 + pair.long;
            } else {
                self.new_line(indent);
                let long = self.pair(pair, start, indent, behind, 0);
                (column, width) = (start + long, long);
            }
        }
    }

    /// Bytes as numbers, broken where the next number does not fit.
    fn bytes(&mut self, texts: &[String], column: i64, indent: i64, closing: i64, width: i64) {
        let room = ((LINE - column).min(self.most - 4 - width) - closing).max(8);
        let mut left = room;
        self.out.push_str("<<");
        for (number, text) in texts.iter().enumerate() {
            let comma = if number + 1 == texts.len() { "" } else { "," };
            let long = count(text) + count(comma);
            if long > left {
                self.new_line(indent);
                left = room;
            }
            left -= long;
            self.out.push_str(text);
            self.out.push_str(comma);
        }
        self.out.push_str(">>");
    }
}
