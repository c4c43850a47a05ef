//! Cookies that the emulator takes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::byte_string::ByteString;
use crate::error::StartError;

/// The most characters of an atom, which a cookie is.
const MAX_CHARACTERS: usize = 255;

/// The bytes of a cookie that both sides of a handshake make a digest of: one for each character, which UTF-8 has
/// before U+0100. Bytes that are not UTF-8 are characters themselves, as in the emulator.
#[must_use]
pub fn digested_cookie(cookie: &[u8]) -> ByteString {
    let latin1 = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>();
    core::str::from_utf8(cookie).ok().and_then(latin1).unwrap_or_else(|| cookie.to_vec())
}

/// Checks that a cookie can be passed to the emulator, and that nodes can use it. `source` names its place. The cookie
/// is not in the error.
///
/// # Errors
/// Fails if the emulator takes it for a flag, if it is too long, or if it has characters beyond Latin-1.
pub fn check_cookie(cookie: &[u8], source: &str) -> Result<(), StartError> {
    let refuse = |why: String, help: &str| {
        Err(StartError::new(format!("cannot pass the cookie of {source} to the emulator: {why}"), help))
    };
    if let Some(sign) = cookie.first().filter(|first| b"-+".contains(first)) {
        let why = format!("it begins with `{}`, as a flag does", char::from(*sign));
        return refuse(why, "use a secret that begins with a letter or a digit");
    }
    if digested_cookie(cookie).len() > MAX_CHARACTERS {
        return refuse(format!("it is longer than {MAX_CHARACTERS} characters"), "use a shorter secret");
    }
    match core::str::from_utf8(cookie) {
        Ok(text) if text.chars().any(|c| u32::from(c) > 0xff) => {
            refuse("it has a character beyond Latin-1".into(), "use a secret of letters and digits")
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_of_a_cookie_is_one_byte_of_the_digest() {
        assert_eq!(digested_cookie(b"secret"), b"secret");
        assert_eq!(digested_cookie("schlüssel".as_bytes()), b"schl\xfcssel");
        assert_eq!(digested_cookie(b"schl\xfcssel"), b"schl\xfcssel");
    }

    #[test]
    fn cookies_that_cannot_be_passed_are_refused_with_their_place_and_without_being_shown() {
        let long = "secret".repeat(43);
        for (cookie, why) in [
            ("-secret", "it begins with `-`"),
            ("+secret", "it begins with `+`"),
            (long.as_str(), "longer than 255"),
            ("secret\u{20ac}", "beyond Latin-1"),
        ] {
            let fault = check_cookie(cookie.as_bytes(), "RELEASE_COOKIE").unwrap_err();
            assert!(fault.message.contains(why) && fault.message.contains("cookie of RELEASE_COOKIE"), "{fault}");
            assert!(!fault.message.contains("secret") && !fault.help.contains("RELEASE_TMP"), "{fault}");
        }
        for cookie in ["a-secret+", "schlüssel", "ü".repeat(255).as_str()] {
            assert_eq!(check_cookie(cookie.as_bytes(), "RELEASE_COOKIE"), Ok(()));
        }
    }
}
