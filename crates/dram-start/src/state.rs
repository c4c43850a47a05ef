//! The content of the state file: the process that runs the release, and its start time.

use alloc::format;

use crate::bytes::{Bytes, number, words};

/// A process that runs the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The process id.
    pub process: i32,
    /// The start time in the unit of `/proc`; 0 if it is unknown.
    pub started: u64,
}

impl State {
    /// The content of the file.
    #[must_use]
    pub fn text(&self) -> Bytes {
        format!("{} {}\n", self.process, self.started).into_bytes()
    }

    /// Parses the content of the file.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        match words(text).as_slice() {
            [process, started] => {
                let process = i32::try_from(number(process)?).ok().filter(|process| *process > 0)?;
                Some(Self { process, started: number(started)? })
            }
            _ => None,
        }
    }

    /// Returns true unless `/proc/N/stat` shows that the process id was reused by another process.
    #[must_use]
    pub fn is_still(&self, stat: Option<&[u8]>) -> bool {
        match stat.and_then(started) {
            Some(now) => self.started == 0 || self.started == now,
            None => true,
        }
    }
}

/// Parses the start time of a process: the 22nd field of `/proc/N/stat`, whose second field may contain anything in
/// parentheses.
#[must_use]
pub fn started(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    words(&stat[after..]).get(19).and_then(|field| number(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_is_parsed_as_written() {
        let state = State { process: 12, started: 345 };
        assert_eq!(State::read(&state.text()), Some(state));
        assert_eq!(State::read(b"12"), None);
        assert_eq!(State::read(b"-1 2"), None);
        assert_eq!(State::read(b"0 2"), None);
    }

    #[test]
    fn a_reused_process_id_does_not_match() {
        let stat = b"12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 345 1 1";
        assert_eq!(started(stat), Some(345));
        let state = State { process: 12, started: 345 };
        assert!(state.is_still(Some(stat)) && state.is_still(None));
        assert!(!State { process: 12, started: 346 }.is_still(Some(stat)));
    }
}
