//! Splits text into words during expansion.

/// The complete words, and the one being read.
#[derive(Debug, Default)]
pub(super) struct WordSplitter {
    done: Vec<String>,
    current: String,
}

impl WordSplitter {
    /// Adds an unquoted character: a blank ends the word.
    pub(super) fn push_unquoted(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.current.push(letter);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    /// Adds quoted text, which never ends the word.
    pub(super) fn push_quoted(&mut self, text: &str) {
        self.current.push_str(text);
    }

    /// Returns all words, without empty ones, quoted or not.
    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}
