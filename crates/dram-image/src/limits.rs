//! Limits for reading foreign archives. No honest image meets them, and each can be raised.

use std::fmt;
use std::str::FromStr;

/// A quantity that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchiveLimit {
    /// The number of entries of an archive.
    Entries,
    /// The number of nested directories in a name.
    Depth,
    /// The bytes of the extended headers of an entry: its long name and its extended attributes.
    Header,
    /// The unpacked size of an archive in bytes.
    Size,
    /// The ratio of the unpacked to the compressed size, for an archive that unpacks to more than
    /// [`FREE_EXPANSION_BYTES`].
    Expansion,
    /// The bytes of the paths that a layer deletes, and of directories that it has no entry for, with 32 bytes more for
    /// each path. They are kept in memory.
    Paths,
}

/// The unpacked size up to which the ratio is not limited: small archives often compress very well.
pub const FREE_EXPANSION_BYTES: u64 = 2 << 30;

impl ArchiveLimit {
    /// All limits.
    pub const ALL: [ArchiveLimit; 6] = [
        ArchiveLimit::Entries,
        ArchiveLimit::Depth,
        ArchiveLimit::Header,
        ArchiveLimit::Size,
        ArchiveLimit::Expansion,
        ArchiveLimit::Paths,
    ];

    /// Returns the name of the limit on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ArchiveLimit::Entries => "entries",
            ArchiveLimit::Depth => "depth",
            ArchiveLimit::Header => "header",
            ArchiveLimit::Size => "size",
            ArchiveLimit::Expansion => "expansion",
            ArchiveLimit::Paths => "paths",
        }
    }
}

/// The limits for reading an archive: a layer, a build context, an archive that `ADD` unpacks, an image in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// See [`ArchiveLimit::Entries`]. A whole desktop has a tenth of the default.
    pub entries: u64,
    /// See [`ArchiveLimit::Depth`]. A name of 4095 bytes, the longest on Linux, could have 2047.
    pub depth: u64,
    /// See [`ArchiveLimit::Header`]. Container engines write a few hundred bytes.
    pub header: u64,
    /// See [`ArchiveLimit::Size`].
    pub size: u64,
    /// See [`ArchiveLimit::Expansion`]. Text has a ratio of up to 20; zeros of 1030 in gzip, and tens of thousands in
    /// zstd.
    pub expansion: u64,
    /// See [`ArchiveLimit::Paths`]. The default is that of 300,000 deleted files.
    pub paths: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        ArchiveLimits {
            entries: 2_000_000,
            depth: 256,
            header: 1 << 20,
            size: 256 << 30,
            expansion: 200,
            paths: 32 << 20,
        }
    }
}

impl ArchiveLimits {
    /// Returns the value of `limit`.
    pub fn get(&self, limit: ArchiveLimit) -> u64 {
        match limit {
            ArchiveLimit::Entries => self.entries,
            ArchiveLimit::Depth => self.depth,
            ArchiveLimit::Header => self.header,
            ArchiveLimit::Size => self.size,
            ArchiveLimit::Expansion => self.expansion,
            ArchiveLimit::Paths => self.paths,
        }
    }

    fn set(&mut self, limit: ArchiveLimit, value: u64) {
        let field = match limit {
            ArchiveLimit::Entries => &mut self.entries,
            ArchiveLimit::Depth => &mut self.depth,
            ArchiveLimit::Header => &mut self.header,
            ArchiveLimit::Size => &mut self.size,
            ArchiveLimit::Expansion => &mut self.expansion,
            ArchiveLimit::Paths => &mut self.paths,
        };
        *field = value;
    }

    /// Sets the limits in `text`: `NAME=NUMBER`, separated by commas. A number may end in `k`, `m`, `g` or `t`, powers
    /// of 1024; `none` removes the limit.
    ///
    /// # Errors
    /// Returns the first invalid part.
    pub fn apply(&mut self, text: &str) -> Result<(), ArchiveLimitError> {
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || ArchiveLimitError::Malformed(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let limit = ArchiveLimit::ALL.into_iter().find(|limit| limit.name() == name);
            let limit = limit.ok_or_else(|| ArchiveLimitError::UnknownName(name.to_owned()))?;
            self.set(limit, parse_number(value).ok_or_else(wrong)?);
        }
        Ok(())
    }

    /// Checks that `found` is within `limit`.
    ///
    /// # Errors
    /// Fails when it is more.
    pub fn check(&self, limit: ArchiveLimit, found: u64) -> Result<(), LimitExceeded> {
        let allowed = self.get(limit);
        if found <= allowed { Ok(()) } else { Err(LimitExceeded { limit, allowed }) }
    }

    /// Checks that `packed` bytes may expand to `plain` bytes.
    ///
    /// # Errors
    /// Fails when the unpacked size or the ratio exceeds its limit.
    pub fn check_expansion(&self, packed: u64, plain: u64) -> Result<(), LimitExceeded> {
        self.check(ArchiveLimit::Size, plain)?;
        if plain <= FREE_EXPANSION_BYTES || plain <= packed.saturating_mul(self.expansion) {
            return Ok(());
        }
        Err(LimitExceeded { limit: ArchiveLimit::Expansion, allowed: self.expansion })
    }
}

impl FromStr for ArchiveLimits {
    type Err = ArchiveLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut limits = ArchiveLimits::default();
        limits.apply(text).map(|()| limits)
    }
}

/// Parses a number with a unit, or `none`.
fn parse_number(text: &str) -> Option<u64> {
    if text == "none" {
        return Some(u64::MAX);
    }
    let digits = text.trim_end_matches(['k', 'm', 'g', 't', 'K', 'M', 'G', 'T']);
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The error for a text that sets no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveLimitError {
    /// The text is not `NAME=NUMBER`.
    #[error("`{0}` does not say what a limit is")]
    Malformed(String),
    /// There is no limit of that name.
    #[error("there is no limit `{0}`")]
    UnknownName(String),
}

/// The error for an archive that exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The limit.
    pub limit: ArchiveLimit,
    /// The value of the limit.
    pub allowed: u64,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = self.allowed;
        match self.limit {
            ArchiveLimit::Entries => write!(f, "it has more than {allowed} entries"),
            ArchiveLimit::Depth => write!(f, "a name in it is more than {allowed} directories deep"),
            ArchiveLimit::Paths => {
                write!(f, "the paths that it deletes, or has no entry for, have more than {allowed} bytes")
            }
            ArchiveLimit::Header => write!(f, "an extended header in it has more than {allowed} bytes"),
            ArchiveLimit::Size => write!(f, "it unpacks to more than {allowed} bytes"),
            ArchiveLimit::Expansion => {
                write!(
                    f,
                    "it unpacks to more than {FREE_EXPANSION_BYTES} bytes and more than {allowed} times its length"
                )
            }
        }
    }
}

impl std::error::Error for LimitExceeded {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_their_names() {
        for limit in ArchiveLimit::ALL {
            let limits: ArchiveLimits = format!("{}=7", limit.name()).parse().unwrap();
            assert_eq!(limits.get(limit), 7);
            assert_eq!(limits.check(limit, 8), Err(LimitExceeded { limit, allowed: 7 }));
            assert_eq!(limits.check(limit, 7), Ok(()));
        }
        let limits: ArchiveLimits = "size=2T,,entries=none,depth=3k".parse().unwrap();
        assert_eq!((limits.size, limits.entries, limits.depth), (2 << 40, u64::MAX, 3072));
        assert_eq!(limits.header, ArchiveLimits::default().header);
        for text in ["size", "size=", "size=-1", "size=1x", "size=1kk", "size=99999999999g", "sizes=1", "=1", "size=+1"]
        {
            assert!(text.parse::<ArchiveLimits>().is_err(), "{text}");
        }
    }

    #[test]
    fn expansion_is_limited_only_above_the_free_size() {
        let limits = ArchiveLimits::default();
        assert_eq!(limits.check_expansion(1, FREE_EXPANSION_BYTES), Ok(()));
        assert_eq!(limits.check_expansion(FREE_EXPANSION_BYTES / 50, FREE_EXPANSION_BYTES * 2), Ok(()));
        assert_eq!(limits.check_expansion(FREE_EXPANSION_BYTES, limits.size), Ok(()));
        assert_eq!(limits.check_expansion(1000, FREE_EXPANSION_BYTES + 1).unwrap_err().limit, ArchiveLimit::Expansion);
        assert_eq!(
            limits.check_expansion(FREE_EXPANSION_BYTES, limits.size + 1).unwrap_err().limit,
            ArchiveLimit::Size
        );
    }
}
