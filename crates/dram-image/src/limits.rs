//! How much of a foreign archive is taken: bounds that no honest image meets, each of which can be raised.

use std::fmt;
use std::str::FromStr;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Entries of one archive.
    Entries,
    /// Directories on top of each other in a name.
    Depth,
    /// Bytes of the extended headers of one entry: its long name, its attributes.
    Header,
    /// Bytes that one archive unpacks to.
    Size,
    /// How many times longer an archive may become than it was compressed, once it is longer than [`FREE`].
    Expansion,
}

/// An archive may always unpack to this many bytes, however few it was: what compresses well is often honest, while it
/// is small.
pub const FREE: u64 = 2 << 30;

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 5] = [Limit::Entries, Limit::Depth, Limit::Header, Limit::Size, Limit::Expansion];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Entries => "entries",
            Limit::Depth => "depth",
            Limit::Header => "header",
            Limit::Size => "size",
            Limit::Expansion => "expansion",
        }
    }
}

/// The bounds of what is read of one archive: a layer, a context, what `ADD` unpacks, an image in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`Limit::Entries`]. A whole desktop has a tenth of it.
    pub entries: u64,
    /// See [`Limit::Depth`]. A name of 4095 bytes, the longest that Linux takes, could say 2047.
    pub depth: u64,
    /// See [`Limit::Header`]. Engines write a few hundred bytes.
    pub header: u64,
    /// See [`Limit::Size`].
    pub size: u64,
    /// See [`Limit::Expansion`]. Text comes to 20, and zeros to 1030 in gzip and to ten thousands in zstd.
    pub expansion: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 2_000_000, depth: 256, header: 1 << 20, size: 256 << 30, expansion: 200 }
    }
}

impl Limits {
    /// What is allowed of `limit`.
    pub fn get(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Entries => self.entries,
            Limit::Depth => self.depth,
            Limit::Header => self.header,
            Limit::Size => self.size,
            Limit::Expansion => self.expansion,
        }
    }

    fn set(&mut self, limit: Limit, value: u64) {
        let field = match limit {
            Limit::Entries => &mut self.entries,
            Limit::Depth => &mut self.depth,
            Limit::Header => &mut self.header,
            Limit::Size => &mut self.size,
            Limit::Expansion => &mut self.expansion,
        };
        *field = value;
    }

    /// Changes what `text` says: `NAME=NUMBER`, several with commas between. A number may end in `k`, `m`, `g` or `t`,
    /// for that many times 1024, and `none` is no limit.
    ///
    /// # Errors
    /// Which part says nothing.
    pub fn apply(&mut self, text: &str) -> Result<(), LimitError> {
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || LimitError::Shape(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let limit = Limit::ALL.into_iter().find(|limit| limit.name() == name);
            let limit = limit.ok_or_else(|| LimitError::Name(name.to_owned()))?;
            self.set(limit, number(value).ok_or_else(wrong)?);
        }
        Ok(())
    }

    /// Fails when `found` is more than is allowed of `limit`.
    ///
    /// # Errors
    /// When it is.
    pub fn check(&self, limit: Limit, found: u64) -> Result<(), Exceeded> {
        let allowed = self.get(limit);
        if found <= allowed { Ok(()) } else { Err(Exceeded { limit, allowed }) }
    }

    /// Fails when `packed` bytes may not become `plain` ones.
    ///
    /// # Errors
    /// When they may not.
    pub fn check_expansion(&self, packed: u64, plain: u64) -> Result<(), Exceeded> {
        self.check(Limit::Size, plain)?;
        if plain <= FREE || plain <= packed.saturating_mul(self.expansion) {
            return Ok(());
        }
        Err(Exceeded { limit: Limit::Expansion, allowed: self.expansion })
    }
}

impl FromStr for Limits {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut limits = Limits::default();
        limits.apply(text).map(|()| limits)
    }
}

/// A number with a unit, or `none`.
fn number(text: &str) -> Option<u64> {
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

/// A text that sets no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It is no `NAME=NUMBER`.
    #[error("`{0}` does not say what a limit is")]
    Shape(String),
    /// There is no limit of that name.
    #[error("there is no limit `{0}`")]
    Name(String),
}

/// An archive is more than is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Of what.
    pub limit: Limit,
    /// How much is.
    pub allowed: u64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = self.allowed;
        match self.limit {
            Limit::Entries => write!(f, "it has more than {allowed} entries"),
            Limit::Depth => write!(f, "a name in it is more than {allowed} directories deep"),
            Limit::Header => write!(f, "an extended header in it has more than {allowed} bytes"),
            Limit::Size => write!(f, "it unpacks to more than {allowed} bytes"),
            Limit::Expansion => {
                write!(f, "it unpacks to more than {FREE} bytes and more than {allowed} times its length")
            }
        }
    }
}

impl std::error::Error for Exceeded {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_their_names() {
        for limit in Limit::ALL {
            let limits: Limits = format!("{}=7", limit.name()).parse().unwrap();
            assert_eq!(limits.get(limit), 7);
            assert_eq!(limits.check(limit, 8), Err(Exceeded { limit, allowed: 7 }));
            assert_eq!(limits.check(limit, 7), Ok(()));
        }
        let limits: Limits = "size=2T,,entries=none,depth=3k".parse().unwrap();
        assert_eq!((limits.size, limits.entries, limits.depth), (2 << 40, u64::MAX, 3072));
        assert_eq!(limits.header, Limits::default().header);
        for text in ["size", "size=", "size=-1", "size=1x", "size=1kk", "size=99999999999g", "sizes=1", "=1", "size=+1"]
        {
            assert!(text.parse::<Limits>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_small_may_expand_as_it_likes() {
        let limits = Limits::default();
        assert_eq!(limits.check_expansion(1, FREE), Ok(()));
        assert_eq!(limits.check_expansion(FREE / 50, FREE * 2), Ok(()));
        assert_eq!(limits.check_expansion(FREE, limits.size), Ok(()));
        assert_eq!(limits.check_expansion(1000, FREE + 1).unwrap_err().limit, Limit::Expansion);
        assert_eq!(limits.check_expansion(FREE, limits.size + 1).unwrap_err().limit, Limit::Size);
    }
}
