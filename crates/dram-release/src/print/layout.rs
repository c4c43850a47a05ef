//! The two passes of `io_lib_pretty` that break lines.

use super::node::{PrintNode, PrintNodeKind, PrintPair, char_count};

/// The number of columns of a line.
pub(super) const LINE_WIDTH: i64 = 80;

/// Returns true if something of length `long` fits on the rest of the line. Both passes use this rule.
///
/// `closing` is the number of brackets that must fit behind it, `width` the number of characters already on the line,
/// `most` the maximum.
fn fits(long: i64, column: i64, closing: i64, width: i64, most: i64) -> bool {
    long < LINE_WIDTH - column - closing && long + width + closing <= most
}

/// Returns true if an element of a sequence goes on the same line as the previous element.
fn fits_after_previous(long: i64, is_text: bool, column: i64, closing: i64, width: i64, most: i64) -> bool {
    let long = 1 + long;
    is_text
        && if closing == 0 {
            long + 1 < LINE_WIDTH - column && width + long < most
        } else {
            long < LINE_WIDTH - column - closing && width + long + closing <= most
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
pub(super) struct LayoutCheck {
    pub(super) max_width: i64,
    pub(super) inset: i64,
}

impl LayoutCheck {
    pub(super) fn node(&self, node: &PrintNode, column: i64, closing: i64, width: i64) -> Option<()> {
        if fits(node.flat_len, column, closing, width, self.max_width) {
            return Some(());
        }
        match &node.kind {
            PrintNodeKind::List(nodes, tail) => self.sequence(nodes, tail.as_deref(), column + 1, closing, width + 1),
            PrintNodeKind::Tuple(true, nodes) => self.tagged(nodes, column, closing, width + 1),
            PrintNodeKind::Tuple(false, nodes) => self.sequence(nodes, None, column + 1, closing, width + 1),
            PrintNodeKind::Map(pairs) => self.map(pairs, column + 2, closing, width + 2),
            PrintNodeKind::Bytes(_) | PrintNodeKind::Text(_) => Some(()),
        }
    }

    fn tagged(&self, nodes: &[PrintNode], column: i64, closing: i64, width: i64) -> Option<()> {
        let (tag, rest) = nodes.split_first()?;
        let after = column + tag.flat_len + 2;
        if self.inset > 0 && tag.flat_len + 2 > self.inset {
            let column = column + self.inset;
            if self.max_width + column <= LINE_WIDTH || column <= LINE_WIDTH / 2 {
                return self.tail(rest, None, column, after, closing, width + tag.flat_len);
            }
            return None;
        }
        if self.max_width + after < LINE_WIDTH || after < LINE_WIDTH / 2 {
            return self.sequence(rest, None, after, closing, width + tag.flat_len + 1);
        }
        None
    }

    fn element(&self, node: &PrintNode, column: i64, closing: i64, width: i64) -> Option<i64> {
        if fits(node.flat_len, column, closing, width, self.max_width) && node.is_text() {
            return Some(node.flat_len);
        }
        self.node(node, column, closing, width)?;
        Some(LINE_WIDTH)
    }

    fn sequence(
        &self,
        nodes: &[PrintNode],
        tail: Option<&PrintNode>,
        column: i64,
        closing: i64,
        width: i64,
    ) -> Option<()> {
        let Some((first, rest)) = nodes.split_first() else { return Some(()) };
        let is_last = rest.is_empty();
        let long = self.element(first, column, closing_after(is_last, closing), width)?;
        self.tail(rest, tail, column, column + long, closing, width + long)
    }

    fn tail(
        &self,
        nodes: &[PrintNode],
        tail: Option<&PrintNode>,
        start: i64,
        column: i64,
        closing: i64,
        width: i64,
    ) -> Option<()> {
        let (mut column, mut width) = (column, width);
        for (number, node) in nodes.iter().enumerate() {
            let is_last = number + 1 == nodes.len();
            let behind = closing_after(is_last, closing);
            if fits_after_previous(node.flat_len, node.is_text(), column, behind, width, self.max_width) {
                column += 1 + node.flat_len;
                width += 1 + node.flat_len;
            } else {
                let long = self.element(node, start, behind, 0)?;
                column = start + long;
                width = long;
            }
        }
        let Some(tail) = tail else { return Some(()) };
        if tail.is_text() && fits(tail.flat_len + 1, column, closing + 1, width, self.max_width) {
            return Some(());
        }
        self.node(tail, column, closing + 1, 0)
    }

    fn pair(&self, pair: &PrintPair, column: i64, closing: i64, width: i64) -> Option<i64> {
        if fits(pair.flat_len, column, closing, width, self.max_width) {
            return Some(if pair.is_text() { pair.flat_len } else { LINE_WIDTH });
        }
        self.node(&pair.key, column, closing, width)?;
        self.node(&pair.value, column + value_inset(self.inset), closing, 0)?;
        Some(LINE_WIDTH)
    }

    fn map(&self, pairs: &[PrintPair], start: i64, closing: i64, width: i64) -> Option<()> {
        let (mut column, mut width) = (start, width);
        for (number, pair) in pairs.iter().enumerate() {
            let behind = closing_after(number + 1 == pairs.len(), closing);
            if number > 0 && fits_after_previous(pair.flat_len, pair.is_text(), column, behind, width, self.max_width) {
                column += 1 + pair.flat_len;
                width += 1 + pair.flat_len;
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
pub(super) struct LayoutWriter {
    pub(super) out: String,
    pub(super) max_width: i64,
    pub(super) inset: i64,
}

impl LayoutWriter {
    fn new_line(&mut self, indent: i64) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', usize::try_from(indent).unwrap_or(0)));
    }

    pub(super) fn node(&mut self, node: &PrintNode, column: i64, indent: i64, closing: i64, width: i64) {
        if fits(node.flat_len, column, closing, width, self.max_width) {
            node.flat_into(&mut self.out);
            return;
        }
        match &node.kind {
            PrintNodeKind::List(nodes, tail) => {
                self.out.push('[');
                self.sequence(nodes, tail.as_deref(), column + 1, indent + 1, closing, width + 1);
                self.out.push(']');
            }
            PrintNodeKind::Tuple(true, nodes) => {
                self.out.push('{');
                self.tagged(nodes, column, indent, closing, width + 1);
                self.out.push('}');
            }
            PrintNodeKind::Tuple(false, nodes) => {
                self.out.push('{');
                self.sequence(nodes, None, column + 1, indent + 1, closing, width + 1);
                self.out.push('}');
            }
            PrintNodeKind::Map(pairs) => {
                self.out.push_str("#{");
                self.map(pairs, column + 2, indent + 2, closing, width + 1);
                self.out.push('}');
            }
            PrintNodeKind::Bytes(texts) => self.bytes(texts, column + 2, indent + 2, closing, width),
            PrintNodeKind::Text(text) => self.out.push_str(text),
        }
    }

    fn tagged(&mut self, nodes: &[PrintNode], column: i64, indent: i64, closing: i64, width: i64) {
        let Some((tag, rest)) = nodes.split_first() else { return };
        tag.flat_into(&mut self.out);
        let inset = tag.flat_len + 2;
        if self.inset > 0 && inset > self.inset {
            let (start, indent) = (column + self.inset, indent + self.inset);
            self.tail(rest, None, (start, indent), column + inset, closing, width + tag.flat_len);
        } else {
            self.out.push(',');
            self.sequence(rest, None, column + inset, indent + inset, closing, width + tag.flat_len + 1);
        }
    }

    fn element(&mut self, node: &PrintNode, column: i64, indent: i64, closing: i64, width: i64) -> i64 {
        let is_short = fits(node.flat_len, column, closing, width, self.max_width) && node.is_text();
        self.node(node, column, indent, closing, width);
        if is_short { node.flat_len } else { LINE_WIDTH }
    }

    fn sequence(
        &mut self,
        nodes: &[PrintNode],
        tail: Option<&PrintNode>,
        column: i64,
        indent: i64,
        closing: i64,
        width: i64,
    ) {
        let Some((first, rest)) = nodes.split_first() else { return };
        let is_last = rest.is_empty();
        let long = self.element(first, column, indent, closing_after(is_last, closing), width);
        self.tail(rest, tail, (column, indent), column + long, closing, width + long);
    }

    fn tail(
        &mut self,
        nodes: &[PrintNode],
        tail: Option<&PrintNode>,
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
            if fits_after_previous(node.flat_len, node.is_text(), column, behind, width, self.max_width) {
                node.flat_into(&mut self.out);
                column += 1 + node.flat_len;
                width += 1 + node.flat_len;
            } else {
                self.new_line(indent);
                let long = self.element(node, start, indent, behind, 0);
                column = start + long;
                width = long;
            }
        }
        let Some(tail) = tail else { return };
        self.out.push('|');
        if tail.is_text() && fits(tail.flat_len + 1, column, closing + 1, width, self.max_width) {
            tail.flat_into(&mut self.out);
        } else {
            self.new_line(indent);
            self.node(tail, start, indent, closing + 1, 0);
        }
    }

    fn pair(&mut self, pair: &PrintPair, column: i64, indent: i64, closing: i64, width: i64) -> i64 {
        if fits(pair.flat_len, column, closing, width, self.max_width) {
            pair.flat_into(&mut self.out);
            return if pair.is_text() { pair.flat_len } else { LINE_WIDTH };
        }
        let inset = value_inset(self.inset);
        self.node(&pair.key, column, indent, closing, width);
        self.out.push_str(" =>");
        self.new_line(indent + inset);
        self.node(&pair.value, column + inset, indent + inset, closing, 0);
        LINE_WIDTH
    }

    fn map(&mut self, pairs: &[PrintPair], start: i64, indent: i64, closing: i64, width: i64) {
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
            if fits_after_previous(pair.flat_len, pair.is_text(), column, behind, width, self.max_width) {
                pair.flat_into(&mut self.out);
                column += 1 + pair.flat_len;
                width += 1 + pair.flat_len;
            } else {
                self.new_line(indent);
                let long = self.pair(pair, start, indent, behind, 0);
                (column, width) = (start + long, long);
            }
        }
    }

    /// Writes bytes as numbers, with a line break before a number that does not fit.
    fn bytes(&mut self, texts: &[String], column: i64, indent: i64, closing: i64, width: i64) {
        let room = ((LINE_WIDTH - column).min(self.max_width - 4 - width) - closing).max(8);
        let mut left = room;
        self.out.push_str("<<");
        for (number, text) in texts.iter().enumerate() {
            let comma = if number + 1 == texts.len() { "" } else { "," };
            let long = char_count(text) + char_count(comma);
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
