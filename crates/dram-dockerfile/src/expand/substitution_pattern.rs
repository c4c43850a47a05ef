//! The patterns of `${x#…}`, `${x%…}` and `${x/…/…}`: `*`, `?` and literal characters.

use super::{ExpandError, MAX_VALUE_SIZE};

/// The maximum of pattern length times value length; matching is linear in each.
const MAX_MATCH_WORK: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubstitutionToken {
    Letter(char),
    AnyChar,
    AnyText,
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct SubstitutionPattern(Vec<SubstitutionToken>);

impl SubstitutionPattern {
    /// Parses a pattern. A backslash makes `*`, `?`, `\`, `}` and `/` literal and is an error before any other
    /// character.
    pub(super) fn parse(text: &str) -> Result<SubstitutionPattern, ExpandError> {
        let mut pieces = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            pieces.push(match letter {
                '*' => SubstitutionToken::AnyText,
                '?' => SubstitutionToken::AnyChar,
                '\\' => match letters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => SubstitutionToken::Letter(escaped),
                    Some(_) | None => return Err(ExpandError::InvalidPattern(text.to_owned())),
                },
                other => SubstitutionToken::Letter(other),
            });
        }
        pieces.dedup_by(|next, last| *next == SubstitutionToken::AnyText && *last == SubstitutionToken::AnyText);
        Ok(SubstitutionPattern(pieces))
    }

    /// Returns `value` without the shortest or longest matching prefix.
    pub(super) fn trim_start(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let letters: Vec<char> = value.chars().collect();
        self.check_cost(letters.len())?;
        let end = self.match_end(letters.iter(), longest).unwrap_or(0);
        Ok(letters[end..].iter().collect())
    }

    /// Returns `value` without the shortest or longest matching suffix.
    pub(super) fn trim_end(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let letters: Vec<char> = value.chars().collect();
        self.check_cost(letters.len())?;
        let mirrored = SubstitutionPattern(self.0.iter().rev().copied().collect());
        let cut = mirrored.match_end(letters.iter().rev(), longest).unwrap_or(0);
        Ok(letters[..letters.len() - cut].iter().collect())
    }

    /// Returns `value` with the first match, or all matches, replaced; each match is the longest at its position.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> Result<String, ExpandError> {
        let letters: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let (mut from, mut last_end) = (0, None);
        while from <= letters.len() {
            self.check_cost(letters.len() + out.len())?;
            let Some((start, end)) = self.find_match(&letters, from) else { break };
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
            if out.len() > MAX_VALUE_SIZE {
                return Err(ExpandError::TooLong);
            }
            if !all {
                break;
            }
        }
        out.extend(letters.get(from..).unwrap_or_default());
        Ok(out)
    }

    fn check_cost(&self, letters: usize) -> Result<(), ExpandError> {
        if self.0.len().saturating_mul(letters) > MAX_MATCH_WORK { Err(ExpandError::TooLong) } else { Ok(()) }
    }

    /// Returns the end of the shortest or longest match at the start.
    fn match_end<'l>(&self, letters: impl Iterator<Item = &'l char>, longest: bool) -> Option<usize> {
        let mut states = vec![false; self.0.len() + 1];
        self.enter_state(&mut states, 0);
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

    fn enter_state(&self, states: &mut [bool], mut at: usize) {
        states[at] = true;
        while self.0.get(at) == Some(&SubstitutionToken::AnyText) {
            at += 1;
            states[at] = true;
        }
    }

    fn advance(&self, states: &[bool], letter: char) -> Vec<bool> {
        let mut after = vec![false; states.len()];
        for (at, piece) in self.0.iter().enumerate().filter(|(at, _)| states[*at]) {
            match piece {
                SubstitutionToken::AnyText => self.enter_state(&mut after, at),
                SubstitutionToken::AnyChar => self.enter_state(&mut after, at + 1),
                SubstitutionToken::Letter(own) if *own == letter => self.enter_state(&mut after, at + 1),
                SubstitutionToken::Letter(_) => {}
            }
        }
        after
    }

    /// Returns the leftmost match from `from` on, as long as possible. Each state stores the earliest start that leads
    /// to it, so that one pass over the characters is enough.
    fn find_match(&self, letters: &[char], from: usize) -> Option<(usize, usize)> {
        let accept = self.0.len();
        let mut starts: Vec<Option<usize>> = vec![None; accept + 1];
        let mut found: Option<(usize, usize)> = None;
        for at in from..=letters.len() {
            if found.is_none() {
                self.enter_with_start(&mut starts, 0, at);
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

    fn enter_with_start(&self, starts: &mut [Option<usize>], mut state: usize, start: usize) {
        loop {
            starts[state] = Some(starts[state].map_or(start, |old| old.min(start)));
            if self.0.get(state) != Some(&SubstitutionToken::AnyText) {
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
                SubstitutionToken::AnyText => self.enter_with_start(&mut after, state, start),
                SubstitutionToken::AnyChar => self.enter_with_start(&mut after, state + 1, start),
                SubstitutionToken::Letter(own) if *own == letter => self.enter_with_start(&mut after, state + 1, start),
                SubstitutionToken::Letter(_) => {}
            }
        }
        after
    }
}
