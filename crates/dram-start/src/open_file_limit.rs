//! The limit of open files: the emulator allocates a table of that length.

use crate::byte_string::ByteString;
use crate::start_conf::OpenFileLimit;

/// The highest limit that is taken as chosen by a user; a higher one is the default of a container runtime.
const HUGE_LIMIT: u64 = 1 << 20;
/// The value to which a huge limit is lowered: the default number of ports of the emulator.
const LOWERED_LIMIT: u64 = 1 << 16;

/// The soft limit to set; `None` if it stays as it is.
#[must_use]
pub fn new_soft_limit(soft: u64, hard: u64, wish: OpenFileLimit, flags: &[ByteString]) -> Option<u64> {
    let wanted = match wish {
        OpenFileLimit::Keep => return None,
        OpenFileLimit::Value(count) => count.min(hard),
        // `+Q` sets the length of the table.
        OpenFileLimit::LowerIfHuge if soft <= HUGE_LIMIT || flags.iter().any(|flag| flag.starts_with(b"-Q")) => {
            return None;
        }
        OpenFileLimit::LowerIfHuge => LOWERED_LIMIT,
    };
    Some(wanted).filter(|wanted| *wanted != soft)
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn only_a_huge_limit_is_lowered() {
        assert_eq!(new_soft_limit(1024, 4096, OpenFileLimit::LowerIfHuge, &[]), None);
        assert_eq!(new_soft_limit(u64::MAX, u64::MAX, OpenFileLimit::LowerIfHuge, &[]), Some(65_536));
        assert_eq!(new_soft_limit(u64::MAX, u64::MAX, OpenFileLimit::LowerIfHuge, &[b"-Q".to_vec()]), None);
        assert_eq!(new_soft_limit(u64::MAX, u64::MAX, OpenFileLimit::Keep, &[]), None);
        assert_eq!(new_soft_limit(1024, 4096, OpenFileLimit::Value(9000), &[]), Some(4096));
    }
}
