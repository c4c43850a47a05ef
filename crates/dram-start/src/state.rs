//! The file that says which process runs the release: its number, and when it was started.

use alloc::format;

use crate::bytes::{Bytes, number, words};

/// A process that runs the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its number.
    pub process: i32,
    /// When it was started, as `/proc` counts; 0 if that was not known.
    pub started: u64,
}

impl State {
    /// The file's content.
    #[must_use]
    pub fn text(&self) -> Bytes {
        format!("{} {}\n", self.process, self.started).into_bytes()
    }

    /// Reads the file's content.
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

    /// Whether the process with this number now, by its `/proc/N/stat`, is the one meant.
    #[must_use]
    pub fn is_still(&self, stat: Option<&[u8]>) -> bool {
        match stat.and_then(started) {
            Some(now) => self.started == 0 || self.started == now,
            None => true,
        }
    }
}

/// When a process was started: the 22nd field of `/proc/N/stat`, whose second may hold anything in parentheses.
#[must_use]
pub fn started(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    words(&stat[after..]).get(19).and_then(|field| number(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_written() {
        let state = State { process: 12, started: 345 };
        assert_eq!(State::read(&state.text()), Some(state));
        assert_eq!(State::read(b"12"), None);
        assert_eq!(State::read(b"-1 2"), None);
        assert_eq!(State::read(b"0 2"), None);
    }

    #[test]
    fn another_process_with_the_same_number_is_not_it() {
        let stat = b"12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 345 1 1";
        assert_eq!(started(stat), Some(345));
        let state = State { process: 12, started: 345 };
        assert!(state.is_still(Some(stat)) && state.is_still(None));
        assert!(!State { process: 12, started: 346 }.is_still(Some(stat)));
    }
}
