//! Splitting into words while a text is expanded.

/// Words found so far, and the one being read.
#[derive(Debug, Default)]
pub(super) struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// A letter that was not quoted: a blank ends the word.
    pub(super) fn letter(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.current.push(letter);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    /// Text that was quoted: part of the word whatever it is.
    pub(super) fn literal(&mut self, text: &str) {
        self.current.push_str(text);
    }

    /// All words. Empty ones do not count, quoted or not.
    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}
