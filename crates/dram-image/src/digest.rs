//! Content digests, by which blobs, layers and documents are identified.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The SHA-256 of some bytes, written `sha256:` and 64 lower-case hexadecimal digits.
///
/// The OCI image specification allows other algorithms; no registry or builder in use writes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// The error for a text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct DigestError {
    text: String,
}

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// Returns the 64 hexadecimal digits, which are safe as a file name.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a String takes any text");
            hex
        })
    }

    /// Parses the hexadecimal digits `hex`, the inverse of [`Digest::hex`].
    ///
    /// # Errors
    /// Fails when `hex` is not 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let bad = || DigestError { text: hex.chars().take(80).collect() };
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = (hex_digit_value(pair[0]).ok_or_else(bad)? << 4) | hex_digit_value(pair[1]).ok_or_else(bad)?;
        }
        Ok(Digest(bytes))
    }
}

fn hex_digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let whole = || DigestError { text: text.chars().take(80).collect() };
        Digest::from_hex(text.strip_prefix("sha256:").ok_or_else(whole)?).map_err(|_| whole())
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes a digest incrementally; a [`std::io::Write`] that stores nothing.
#[derive(Debug, Clone, Default)]
pub struct DigestHasher {
    state: sha2::Sha256,
    length: u64,
}

impl DigestHasher {
    /// Returns a hasher of the empty input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes to the input.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Returns the length of the input in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the digest of the whole input.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl io::Write for DigestHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that hashes the bytes it passes on.
#[derive(Debug)]
pub struct HashingWriter<W> {
    out: W,
    hasher: DigestHasher,
}

impl<W: io::Write> HashingWriter<W> {
    /// Returns a writer that passes its bytes on to `out`.
    pub fn new(out: W) -> Self {
        HashingWriter { out, hasher: DigestHasher::new() }
    }

    /// Returns the hasher of the bytes written so far, which also counts them.
    pub fn finish(self) -> DigestHasher {
        self.hasher
    }
}

impl<W: io::Write> io::Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_parses_from_its_text() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn malformed_digests_are_refused() {
        let upper = Digest::of(b"").to_string().to_uppercase();
        for text in ["", "sha256:", "sha256:00", "sha256:../../../canary", upper.as_str(), "sha512:00", "é"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
