//! The limit of open files: the emulator allocates a table of that length.

use crate::bytes::Bytes;
use crate::conf::Nofile;

/// The highest limit that is taken as chosen by a user; a higher one is the default of a container runtime.
const HUGE: u64 = 1 << 20;
/// The value to which a huge limit is lowered: the default number of ports of the emulator.
const SANE: u64 = 1 << 16;

/// The soft limit to set; `None` if it stays as it is.
#[must_use]
pub fn open_files(soft: u64, hard: u64, wish: Nofile, flags: &[Bytes]) -> Option<u64> {
    let wanted = match wish {
        Nofile::Keep => return None,
        Nofile::Is(count) => count.min(hard),
        // `+Q` sets the length of the table.
        Nofile::Sane if soft <= HUGE || flags.iter().any(|flag| flag.starts_with(b"-Q")) => return None,
        Nofile::Sane => SANE,
    };
    Some(wanted).filter(|wanted| *wanted != soft)
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn only_a_huge_limit_is_lowered() {
        assert_eq!(open_files(1024, 4096, Nofile::Sane, &[]), None);
        assert_eq!(open_files(u64::MAX, u64::MAX, Nofile::Sane, &[]), Some(65_536));
        assert_eq!(open_files(u64::MAX, u64::MAX, Nofile::Sane, &[b"-Q".to_vec()]), None);
        assert_eq!(open_files(u64::MAX, u64::MAX, Nofile::Keep, &[]), None);
        assert_eq!(open_files(1024, 4096, Nofile::Is(9000), &[]), Some(4096));
    }
}
