//! The content of the state file: the process that runs the release, and its start time.

use alloc::format;

use crate::byte_string::{ByteString, parse_number, split_words};

/// A process that runs the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartState {
    /// The process id.
    pub pid: i32,
    /// The start time in the unit of `/proc`; 0 if it is unknown.
    pub start_time: u64,
}

impl StartState {
    /// The content of the file.
    #[must_use]
    pub fn to_text(&self) -> ByteString {
        format!("{} {}\n", self.pid, self.start_time).into_bytes()
    }

    /// Parses the content of the file.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match split_words(text).as_slice() {
            [process, started] => {
                let process = i32::try_from(parse_number(process)?).ok().filter(|process| *process > 0)?;
                Some(Self { pid: process, start_time: parse_number(started)? })
            }
            _ => None,
        }
    }

    /// Returns true unless `/proc/N/stat` shows that the process id was reused by another process.
    #[must_use]
    pub fn matches_process(&self, stat: Option<&[u8]>) -> bool {
        match stat.and_then(parse_start_time) {
            Some(now) => self.start_time == 0 || self.start_time == now,
            None => true,
        }
    }
}

/// Parses the start time of a process: the 22nd field of `/proc/N/stat`, whose second field may contain anything in
/// parentheses.
#[must_use]
pub fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    split_words(&stat[after..]).get(19).and_then(|field| parse_number(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_is_parsed_as_written() {
        let state = StartState { pid: 12, start_time: 345 };
        assert_eq!(StartState::parse(&state.to_text()), Some(state));
        assert_eq!(StartState::parse(b"12"), None);
        assert_eq!(StartState::parse(b"-1 2"), None);
        assert_eq!(StartState::parse(b"0 2"), None);
    }

    #[test]
    fn a_reused_process_id_does_not_match() {
        let stat = b"12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 345 1 1";
        assert_eq!(parse_start_time(stat), Some(345));
        let state = StartState { pid: 12, start_time: 345 };
        assert!(state.matches_process(Some(stat)) && state.matches_process(None));
        assert!(!StartState { pid: 12, start_time: 346 }.matches_process(Some(stat)));
    }
}
