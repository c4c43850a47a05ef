//! The two passes of `io_lib_pretty` that break lines.

use super::node::{Kind, Node, Pair, count};

/// The number of columns of a line.
pub(super) const LINE: i64 = 80;

/// Returns true if something of length `long` fits on the rest of the line. Both passes use this rule.
///
/// `closing` is the number of brackets that must fit behind it, `width` the number of characters already on the line,
/// `most` the maximum.
fn fits(long: i64, column: i64, closing: i64, width: i64, most: i64) -> bool {
    long < LINE - column - closing && long + width + closing <= most
}

/// Returns true if an element of a sequence goes on the same line as the previous element.
fn follows(long: i64, is_text: bool, column: i64, closing: i64, width: i64, most: i64) -> bool {
    let long = 1 + long;
    is_text
        && if closing == 0 {
            long + 1 < LINE - column && width + long < most
        } else {
            long < LINE - column - closing && width + long + closing <= most
        }
}

/// Returns the number of closing brackets that must fit behind an element: none unless it is the last.
fn closing_after(is_last: bool, closing: i64) -> i64 {
    if is_last { closing + 1 } else { 0 }
}

fn value_inset(inset: i64) -> i64 {
    if inset > 0 { inset } else { 4 }
}

/// The first pass: checks whether an indentation leaves enough room everywhere. Returns `None` if it does not.
pub(super) struct Fit {
    pub(super) most: i64,
    pub(super) inset: i64,
}

impl Fit {
    pub(super) fn node(&self, node: &Node, column: i64, closing: i64, width: i64) -> Option<()> {
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

/// The second pass: writes the text.
pub(super) struct Page {
    pub(super) out: String,
    pub(super) most: i64,
    pub(super) inset: i64,
}

impl Page {
    fn new_line(&mut self, indent: i64) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', usize::try_from(indent).unwrap_or(0)));
    }

    pub(super) fn node(&mut self, node: &Node, column: i64, indent: i64, closing: i64, width: i64) {
        if fits(node.long, column, closing, width, self.most) {
            node.flat_into(&mut self.out);
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
        tag.flat_into(&mut self.out);
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
                node.flat_into(&mut self.out);
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
            tail.flat_into(&mut self.out);
        } else {
            self.new_line(indent);
            self.node(tail, start, indent, closing + 1, 0);
        }
    }

    fn pair(&mut self, pair: &Pair, column: i64, indent: i64, closing: i64, width: i64) -> i64 {
        if fits(pair.long, column, closing, width, self.most) {
            pair.flat_into(&mut self.out);
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
                // As in `io_lib_pretty`: the text before the first pair is not counted here.
                (column, width) = (start + long, long);
                continue;
            }
            self.out.push(',');
            if follows(pair.long, pair.is_text(), column, behind, width, self.most) {
                pair.flat_into(&mut self.out);
                column += 1 + pair.long;
                width += 1 + pair.long;
            } else {
                self.new_line(indent);
                let long = self.pair(pair, start, indent, behind, 0);
                (column, width) = (start + long, long);
            }
        }
    }

    /// Writes bytes as numbers, with a line break before a number that does not fit.
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
