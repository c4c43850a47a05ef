//! One compiled pattern of an ignore list.
//!
//! `moby/patternmatcher` compiles a pattern to a regular expression, except that `**` before literal characters only is
//! a plain suffix match: `**.log` matches `a.log`, while `**.lo?` would need a slash. Both are reproduced here.

use crate::glob::{self, GlobClass};

/// A compiled pattern, by the method of its lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IgnoreMatcher {
    /// A plain path, found in a table.
    Exact(String),
    /// `**/path`, found in a table.
    Anywhere(String),
    /// `path/**`, found in a table.
    Beneath(String),
    /// Any other pattern.
    Wildcard(WildcardMatcher),
}

/// A pattern with wildcards, matched by simulating an automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WildcardMatcher {
    /// The literal prefix.
    prefix: String,
    /// The literal suffix.
    suffix: String,
    pieces: Vec<WildcardToken>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum WildcardToken {
    Letter(char),
    /// `?`: any character except a slash.
    AnyChar,
    /// `*`: any number of characters except slashes.
    Star,
    /// `[…]`: one character, which may be a slash.
    Class(Box<GlobClass>),
    /// `**/`, or `**` before other tokens: nothing, or any text that ends with a slash.
    AnyDirs,
    /// `**` at the end, or before a plain suffix: any text.
    AnyText,
}

impl IgnoreMatcher {
    /// Compiles a cleaned pattern whose wildcards are known to be well formed.
    pub(super) fn new(pattern: &str) -> IgnoreMatcher {
        let plain = |text: &str| !text.is_empty() && !text.contains(['*', '?', '[', ']', '\\']);
        if plain(pattern) {
            return IgnoreMatcher::Exact(pattern.to_owned());
        }
        if let Some(rest) = pattern.strip_prefix("**/").filter(|rest| plain(rest)) {
            return IgnoreMatcher::Anywhere(rest.to_owned());
        }
        if let Some(rest) = pattern.strip_suffix("/**").filter(|rest| plain(rest)) {
            return IgnoreMatcher::Beneath(rest.to_owned());
        }
        let suffix_only = pattern.strip_prefix("**").is_some_and(plain);
        let mut pieces = tokenize(pattern);
        if let Some(first) = pieces.first_mut().filter(|_| suffix_only) {
            *first = WildcardToken::AnyText;
        }
        IgnoreMatcher::Wildcard(WildcardMatcher::new(pieces))
    }

    /// Returns true when a wildcard pattern matches `path` or one of its parent directories; false for patterns that
    /// are found in a table.
    pub(super) fn matches_path_or_parent(&self, path: &str) -> bool {
        match self {
            IgnoreMatcher::Wildcard(general) => general.matches_path_or_parent(path),
            IgnoreMatcher::Exact(_) | IgnoreMatcher::Anywhere(_) | IgnoreMatcher::Beneath(_) => false,
        }
    }

    /// Returns true when the pattern might match something beneath `dir`; true when uncertain.
    pub(super) fn may_match_beneath(&self, dir: &str) -> bool {
        let under = |path: &str, dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        match self {
            IgnoreMatcher::Exact(path) => under(path, dir),
            IgnoreMatcher::Anywhere(_) => true,
            IgnoreMatcher::Beneath(path) => path == dir || under(path, dir) || under(dir, path),
            IgnoreMatcher::Wildcard(general) => general.may_match_beneath(dir),
        }
    }
}

fn tokenize(pattern: &str) -> Vec<WildcardToken> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut pieces = Vec::with_capacity(letters.len());
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        at += 1;
        pieces.push(match letter {
            '*' if letters.get(at) == Some(&'*') => {
                at += 1;
                at += usize::from(letters.get(at) == Some(&'/'));
                if at == letters.len() { WildcardToken::AnyText } else { WildcardToken::AnyDirs }
            }
            '*' => WildcardToken::Star,
            '?' => WildcardToken::AnyChar,
            '\\' => {
                at += 1;
                WildcardToken::Letter(letters.get(at - 1).copied().unwrap_or('\\'))
            }
            '[' => match glob::parse_class(&letters, at) {
                Ok((class, after)) => {
                    at = after;
                    WildcardToken::Class(Box::new(class))
                }
                Err(_) => WildcardToken::Letter('['),
            },
            other => WildcardToken::Letter(*other),
        });
    }
    pieces
}

impl WildcardMatcher {
    fn new(pieces: Vec<WildcardToken>) -> WildcardMatcher {
        let letter = |piece: &WildcardToken| match piece {
            WildcardToken::Letter(letter) => Some(*letter),
            WildcardToken::AnyChar
            | WildcardToken::Star
            | WildcardToken::Class(_)
            | WildcardToken::AnyDirs
            | WildcardToken::AnyText => None,
        };
        let prefix = pieces.iter().map_while(letter).collect();
        let backwards: Vec<char> = pieces.iter().rev().map_while(letter).collect();
        WildcardMatcher { prefix, suffix: backwards.into_iter().rev().collect(), pieces }
    }

    fn matches_path_or_parent(&self, path: &str) -> bool {
        if !path.starts_with(&self.prefix) || !path.contains(&self.suffix) {
            return false;
        }
        let accept = self.pieces.len();
        let mut states = self.initial_states();
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
        let mut states = self.initial_states();
        for letter in dir.chars().chain(['/']) {
            states = self.advance(&states, letter);
        }
        states.contains(&true)
    }

    fn initial_states(&self) -> Vec<bool> {
        let mut states = vec![false; self.pieces.len() + 1];
        self.enter_state(&mut states, 0);
        states
    }

    /// Enters a state and the states reachable from it without a character.
    fn enter_state(&self, states: &mut [bool], mut at: usize) {
        while !states[at] {
            states[at] = true;
            match self.pieces.get(at) {
                Some(WildcardToken::Star | WildcardToken::AnyDirs | WildcardToken::AnyText) => at += 1,
                Some(WildcardToken::Letter(_) | WildcardToken::AnyChar | WildcardToken::Class(_)) | None => return,
            }
        }
    }

    fn advance(&self, states: &[bool], letter: char) -> Vec<bool> {
        let mut after = vec![false; states.len()];
        // `AnyDirs` loops without entering the next state, so its marks must not stop `enter_state`: they are set last.
        let mut deep = Vec::new();
        for (at, piece) in self.pieces.iter().enumerate().filter(|(at, _)| states[*at]) {
            match piece {
                WildcardToken::Letter(own) if *own == letter => self.enter_state(&mut after, at + 1),
                WildcardToken::AnyChar if letter != '/' => self.enter_state(&mut after, at + 1),
                WildcardToken::Class(class) if class.contains(letter) => self.enter_state(&mut after, at + 1),
                WildcardToken::Star if letter != '/' => self.enter_state(&mut after, at),
                WildcardToken::AnyText => self.enter_state(&mut after, at),
                WildcardToken::AnyDirs => {
                    deep.push(at);
                    if letter == '/' {
                        self.enter_state(&mut after, at + 1);
                    }
                }
                WildcardToken::Letter(_) | WildcardToken::AnyChar | WildcardToken::Class(_) | WildcardToken::Star => {}
            }
        }
        deep.into_iter().for_each(|at| after[at] = true);
        after
    }
}
