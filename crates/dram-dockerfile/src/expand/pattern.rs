//! The patterns of `${x#…}`, `${x%…}` and `${x/…/…}`: `*`, `?` and literal characters.

use super::{ExpandError, LONGEST_VALUE};

/// The maximum of pattern length times value length; matching is linear in each.
const MOST_STEPS: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Letter(char),
    One,
    Any,
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Piece>);

impl Pattern {
    /// Parses a pattern. A backslash makes `*`, `?`, `\`, `}` and `/` literal and is an error before any other
    /// character.
    pub(super) fn parse(text: &str) -> Result<Pattern, ExpandError> {
        let mut pieces = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            pieces.push(match letter {
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => match letters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Piece::Letter(escaped),
                    Some(_) | None => return Err(ExpandError::Pattern(text.to_owned())),
                },
                other => Piece::Letter(other),
            });
        }
        pieces.dedup_by(|next, last| *next == Piece::Any && *last == Piece::Any);
        Ok(Pattern(pieces))
    }

    /// Returns `value` without the shortest or longest matching prefix.
    pub(super) fn trim_start(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let letters: Vec<char> = value.chars().collect();
        self.affordable(letters.len())?;
        let end = self.ends(letters.iter(), longest).unwrap_or(0);
        Ok(letters[end..].iter().collect())
    }

    /// Returns `value` without the shortest or longest matching suffix.
    pub(super) fn trim_end(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let letters: Vec<char> = value.chars().collect();
        self.affordable(letters.len())?;
        let mirrored = Pattern(self.0.iter().rev().copied().collect());
        let cut = mirrored.ends(letters.iter().rev(), longest).unwrap_or(0);
        Ok(letters[..letters.len() - cut].iter().collect())
    }

    /// Returns `value` with the first match, or all matches, replaced; each match is the longest at its position.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> Result<String, ExpandError> {
        let letters: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let (mut from, mut last_end) = (0, None);
        while from <= letters.len() {
            self.affordable(letters.len() + out.len())?;
            let Some((start, end)) = self.find(&letters, from) else { break };
            out.extend(&letters[from..start]);
            // An empty match directly behind another match is at the same position.
            if start < end || last_end != Some(start) {
                out.push_str(replacement);
            }
            if start == end {
                out.extend(letters.get(end));
            }
            last_end = Some(end);
            from = if start == end { end + 1 } else { end };
            if out.len() > LONGEST_VALUE {
                return Err(ExpandError::TooLong);
            }
            if !all {
                break;
            }
        }
        out.extend(letters.get(from..).unwrap_or_default());
        Ok(out)
    }

    fn affordable(&self, letters: usize) -> Result<(), ExpandError> {
        if self.0.len().saturating_mul(letters) > MOST_STEPS { Err(ExpandError::TooLong) } else { Ok(()) }
    }

    /// Returns the end of the shortest or longest match at the start.
    fn ends<'l>(&self, letters: impl Iterator<Item = &'l char>, longest: bool) -> Option<usize> {
        let mut states = vec![false; self.0.len() + 1];
        self.enter(&mut states, 0);
        let mut found = states[self.0.len()].then_some(0);
        for (at, letter) in letters.enumerate() {
            if found.is_some() && !longest || !states.contains(&true) {
                break;
            }
            states = self.advance(&states, *letter);
            if states[self.0.len()] {
                found = Some(at + 1);
            }
        }
        found
    }

    fn enter(&self, states: &mut [bool], mut at: usize) {
        states[at] = true;
        while self.0.get(at) == Some(&Piece::Any) {
            at += 1;
            states[at] = true;
        }
    }

    fn advance(&self, states: &[bool], letter: char) -> Vec<bool> {
        let mut after = vec![false; states.len()];
        for (at, piece) in self.0.iter().enumerate().filter(|(at, _)| states[*at]) {
            match piece {
                Piece::Any => self.enter(&mut after, at),
                Piece::One => self.enter(&mut after, at + 1),
                Piece::Letter(own) if *own == letter => self.enter(&mut after, at + 1),
                Piece::Letter(_) => {}
            }
        }
        after
    }

    /// Returns the leftmost match from `from` on, as long as possible. Each state stores the earliest start that leads
    /// to it, so that one pass over the characters is enough.
    fn find(&self, letters: &[char], from: usize) -> Option<(usize, usize)> {
        let accept = self.0.len();
        let mut starts: Vec<Option<usize>> = vec![None; accept + 1];
        let mut found: Option<(usize, usize)> = None;
        for at in from..=letters.len() {
            if found.is_none() {
                self.start(&mut starts, 0, at);
            }
            if let Some(start) = starts[accept]
                && found.is_none_or(|(best, _)| start <= best)
            {
                found = Some((start, at));
            }
            if let Some((best, _)) = found {
                starts.iter_mut().for_each(|start| *start = start.filter(|start| *start <= best));
                if starts.iter().all(Option::is_none) {
                    break;
                }
            }
            let Some(letter) = letters.get(at) else { break };
            starts = self.advance_starts(&starts, *letter);
        }
        found
    }

    fn start(&self, starts: &mut [Option<usize>], mut state: usize, start: usize) {
        loop {
            starts[state] = Some(starts[state].map_or(start, |old| old.min(start)));
            if self.0.get(state) != Some(&Piece::Any) {
                return;
            }
            state += 1;
        }
    }

    fn advance_starts(&self, starts: &[Option<usize>], letter: char) -> Vec<Option<usize>> {
        let mut after = vec![None; starts.len()];
        for (state, piece) in self.0.iter().enumerate() {
            let Some(start) = starts[state] else { continue };
            match piece {
                Piece::Any => self.start(&mut after, state, start),
                Piece::One => self.start(&mut after, state + 1, start),
                Piece::Letter(own) if *own == letter => self.start(&mut after, state + 1, start),
                Piece::Letter(_) => {}
            }
        }
        after
    }
}
