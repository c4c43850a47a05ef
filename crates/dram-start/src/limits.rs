//! The limit of open files: the emulator makes a table as long as it.

use crate::bytes::Bytes;
use crate::conf::Nofile;

/// A limit up to here is somebody's choice; above, it is what a container was given for want of one.
const HUGE: u64 = 1 << 20;
/// What a huge limit is lowered to: as many ports as the emulator has by default.
const SANE: u64 = 1 << 16;

/// The soft limit to set, if it is to change.
#[must_use]
pub fn open_files(soft: u64, hard: u64, wish: Nofile, flags: &[Bytes]) -> Option<u64> {
    let wanted = match wish {
        Nofile::Keep => return None,
        Nofile::Is(count) => count.min(hard),
        // With `+Q` the table's length is said.
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
