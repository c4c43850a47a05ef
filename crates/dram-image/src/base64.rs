//! Base64 (RFC 4648, section 4), as in descriptors, credentials and cache records.

use ::base64::Engine as _;
use ::base64::alphabet::STANDARD;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

// Most decoders ignore unused bits of the last letter, so these are accepted.
const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
const EXACT: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
const LOOSE: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, CONFIG.with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Encodes `bytes` with padding.
pub fn encode(bytes: &[u8]) -> String {
    EXACT.encode(bytes)
}

/// Decodes `text`, or returns `None` when it is not base64, or lacks padding.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    EXACT.decode(text).ok()
}

/// Decodes `text` with or without padding, or returns `None` when it is not base64.
pub fn decode_loose(text: &str) -> Option<Vec<u8>> {
    LOOSE.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_vectors_round_trip() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
            let bare = text.trim_end_matches('=');
            assert_eq!(decode_loose(text).as_deref(), Some(bytes.as_bytes()));
            assert_eq!(decode_loose(bare).as_deref(), Some(bytes.as_bytes()));
            assert_eq!(decode(bare).is_some(), bare == text, "{bare}");
        }
        assert_eq!(encode(&[0xff, 0xfe, 0xfd]), "//79");
        for text in ["a", "abcde", "a b=", "=a", "-_", "Zg==Zg=="] {
            assert_eq!((decode(text), decode_loose(text)), (None, None), "{text}");
        }
    }
}
