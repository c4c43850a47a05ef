//! One compiled pattern of an ignore list.
//!
//! `moby/patternmatcher` compiles a pattern to a regular expression, except that `**` before literal characters only is
//! a plain suffix match: `**.log` matches `a.log`, while `**.lo?` would need a slash. Both are reproduced here.

use crate::glob::{self, Class};

/// A compiled pattern, by the method of its lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A plain path, found in a table.
    Exact(String),
    /// `**/path`, found in a table.
    Anywhere(String),
    /// `path/**`, found in a table.
    Beneath(String),
    /// Any other pattern.
    General(General),
}

/// A pattern with wildcards, matched by simulating an automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct General {
    /// The literal prefix.
    prefix: String,
    /// The literal suffix.
    suffix: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Letter(char),
    /// `?`: any character except a slash.
    One,
    /// `*`: any number of characters except slashes.
    Star,
    /// `[…]`: one character, which may be a slash.
    Class(Box<Class>),
    /// `**/`, or `**` before other tokens: nothing, or any text that ends with a slash.
    Deep,
    /// `**` at the end, or before a plain suffix: any text.
    All,
}

impl Shape {
    /// Compiles a cleaned pattern whose wildcards are known to be well formed.
    pub(super) fn new(pattern: &str) -> Shape {
        let plain = |text: &str| !text.is_empty() && !text.contains(['*', '?', '[', ']', '\\']);
        if plain(pattern) {
            return Shape::Exact(pattern.to_owned());
        }
        if let Some(rest) = pattern.strip_prefix("**/").filter(|rest| plain(rest)) {
            return Shape::Anywhere(rest.to_owned());
        }
        if let Some(rest) = pattern.strip_suffix("/**").filter(|rest| plain(rest)) {
            return Shape::Beneath(rest.to_owned());
        }
        let suffix_only = pattern.strip_prefix("**").is_some_and(plain);
        let mut pieces = pieces(pattern);
        if let Some(first) = pieces.first_mut().filter(|_| suffix_only) {
            *first = Piece::All;
        }
        Shape::General(General::new(pieces))
    }

    /// Returns true when a wildcard pattern matches `path` or one of its parent directories; false for patterns that
    /// are found in a table.
    pub(super) fn matches_or_above(&self, path: &str) -> bool {
        match self {
            Shape::General(general) => general.matches_or_above(path),
            Shape::Exact(_) | Shape::Anywhere(_) | Shape::Beneath(_) => false,
        }
    }

    /// Returns true when the pattern might match something beneath `dir`; true when uncertain.
    pub(super) fn may_match_beneath(&self, dir: &str) -> bool {
        let under = |path: &str, dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        match self {
            Shape::Exact(path) => under(path, dir),
            Shape::Anywhere(_) => true,
            Shape::Beneath(path) => path == dir || under(path, dir) || under(dir, path),
            Shape::General(general) => general.may_match_beneath(dir),
        }
    }
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut pieces = Vec::with_capacity(letters.len());
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        at += 1;
        pieces.push(match letter {
            '*' if letters.get(at) == Some(&'*') => {
                at += 1;
                at += usize::from(letters.get(at) == Some(&'/'));
                if at == letters.len() { Piece::All } else { Piece::Deep }
            }
            '*' => Piece::Star,
            '?' => Piece::One,
            '\\' => {
                at += 1;
                Piece::Letter(letters.get(at - 1).copied().unwrap_or('\\'))
            }
            '[' => match glob::class(&letters, at) {
                Ok((class, after)) => {
                    at = after;
                    Piece::Class(Box::new(class))
                }
                Err(_) => Piece::Letter('['),
            },
            other => Piece::Letter(*other),
        });
    }
    pieces
}

impl General {
    fn new(pieces: Vec<Piece>) -> General {
        let letter = |piece: &Piece| match piece {
            Piece::Letter(letter) => Some(*letter),
            Piece::One | Piece::Star | Piece::Class(_) | Piece::Deep | Piece::All => None,
        };
        let prefix = pieces.iter().map_while(letter).collect();
        let backwards: Vec<char> = pieces.iter().rev().map_while(letter).collect();
        General { prefix, suffix: backwards.into_iter().rev().collect(), pieces }
    }

    fn matches_or_above(&self, path: &str) -> bool {
        if !path.starts_with(&self.prefix) || !path.contains(&self.suffix) {
            return false;
        }
        let accept = self.pieces.len();
        let mut states = self.begin();
        for letter in path.chars() {
            if letter == '/' && states[accept] {
                return true;
            }
            if !states.contains(&true) {
                return false;
            }
            states = self.advance(&states, letter);
        }
        states[accept]
    }

    fn may_match_beneath(&self, dir: &str) -> bool {
        let common = dir.bytes().chain([b'/']).zip(self.prefix.bytes());
        if common.into_iter().any(|(own, wanted)| own != wanted) {
            return false;
        }
        let mut states = self.begin();
        for letter in dir.chars().chain(['/']) {
            states = self.advance(&states, letter);
        }
        states.contains(&true)
    }

    fn begin(&self) -> Vec<bool> {
        let mut states = vec![false; self.pieces.len() + 1];
        self.enter(&mut states, 0);
        states
    }

    /// Enters a state and the states reachable from it without a character.
    fn enter(&self, states: &mut [bool], mut at: usize) {
        while !states[at] {
            states[at] = true;
            match self.pieces.get(at) {
                Some(Piece::Star | Piece::Deep | Piece::All) => at += 1,
                Some(Piece::Letter(_) | Piece::One | Piece::Class(_)) | None => return,
            }
        }
    }

    fn advance(&self, states: &[bool], letter: char) -> Vec<bool> {
        let mut after = vec![false; states.len()];
        // `Deep` loops without entering the next state, so its marks must not stop `enter_state`: they are set last.
        let mut deep = Vec::new();
        for (at, piece) in self.pieces.iter().enumerate().filter(|(at, _)| states[*at]) {
            match piece {
                Piece::Letter(own) if *own == letter => self.enter(&mut after, at + 1),
                Piece::One if letter != '/' => self.enter(&mut after, at + 1),
                Piece::Class(class) if class.has(letter) => self.enter(&mut after, at + 1),
                Piece::Star if letter != '/' => self.enter(&mut after, at),
                Piece::All => self.enter(&mut after, at),
                Piece::Deep => {
                    deep.push(at);
                    if letter == '/' {
                        self.enter(&mut after, at + 1);
                    }
                }
                Piece::Letter(_) | Piece::One | Piece::Class(_) | Piece::Star => {}
            }
        }
        deep.into_iter().for_each(|at| after[at] = true);
        after
    }
}
