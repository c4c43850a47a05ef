//! One pattern, compiled.
//!
//! `moby/patternmatcher` turns a pattern into a regular expression, except that a `**` before nothing but literal
//! letters is a plain suffix; so `**.log` matches `a.log` where `**.lo?` would want a slash. Both are kept.

use crate::glob::{self, Class};

/// A pattern by how it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A plain path.
    Exact(String),
    /// `**/path`.
    Anywhere(String),
    /// `path/**`.
    Beneath(String),
    /// Anything else.
    General(General),
}

/// A pattern that is matched piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct General {
    /// Literal letters it starts with.
    prefix: String,
    /// Literal letters it ends with.
    suffix: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Letter(char),
    /// `?`: any letter but a slash.
    One,
    /// `*`: any letters but slashes.
    Star,
    /// `[…]`: a letter, which may be a slash.
    Class(Box<Class>),
    /// `**/` or `**` before something: nothing, or anything that ends with a slash.
    Deep,
    /// `**` at the end, or before a plain suffix: anything.
    All,
}

impl Shape {
    /// Compiles a clean pattern whose wildcards are known to be well formed.
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

    /// Whether the pattern matches `path` or a directory above it. Only for what no table finds.
    pub(super) fn matches_or_above(&self, path: &str) -> bool {
        match self {
            Shape::General(general) => general.matches_or_above(path),
            Shape::Exact(_) | Shape::Anywhere(_) | Shape::Beneath(_) => false,
        }
    }

    /// Whether the pattern might match something beneath `dir`; true when in doubt.
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

    /// Enters a state and those that need no letter from it.
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
        // `Deep` stays without entering what follows, so its marks must not stop `enter`: they are set last.
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
