//! Removes secrets from what is recorded of variables and instructions.

/// The longest value that is recorded.
const MAX_VALUE_LENGTH: usize = 80;

/// Returns whether a variable's name looks like that of a secret, or of an address that contains one. The list is
/// longer than that of the Dockerfile lint, because a wrong match only hides a value.
pub(crate) fn is_secret(name: &str) -> bool {
    const ANYWHERE: &[&str] = &[
        "apikey",
        "auth",
        "cookie",
        "credential",
        "passphrase",
        "passwd",
        "password",
        "private",
        "proxy",
        "pword",
        "secret",
        "session",
        "signature",
        "token",
    ];
    const WORD: &[&str] = &["cert", "dsn", "jwt", "key", "keys", "otp", "pass", "pat", "pin", "pw", "pwd", "salt"];
    let lower = name.to_lowercase();
    let mut words = lower.split(|letter: char| !letter.is_ascii_alphanumeric());
    ANYWHERE.iter().any(|word| lower.contains(word)) || words.any(|part| WORD.contains(&part))
}

/// Returns `value` if it may be recorded: if it is short, printable, no address with credentials, and contains none of
/// `secrets`.
pub(crate) fn recordable_value(value: &[u8], secrets: &[String]) -> Option<String> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= MAX_VALUE_LENGTH)?;
    let plain = !text.chars().any(char::is_control);
    let has_login = text.contains("://") && text.contains('@');
    let has_secret = secrets.iter().any(|secret| text.contains(secret.as_str()));
    (plain && !has_login && !has_secret).then(|| text.to_owned())
}

/// Returns the instruction's text up to the value of the first variable that looks like a secret, at most `longest`
/// bytes.
pub(crate) fn redact_instruction(text: &str, longest: usize) -> String {
    let mut end = text.len();
    if ["ARG ", "ENV "].iter().any(|keyword| text.starts_with(keyword)) {
        let mut at = 4;
        for word in text[4..].split(' ') {
            let name = word.split('=').next().unwrap_or_default();
            if is_secret(name) && at + name.len() < text.len() {
                end = at + name.len();
                break;
            }
            at += word.len() + 1;
        }
    }
    let cut = end.min(longest);
    let cut = (0..=cut).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    if cut == text.len() { text.to_owned() } else { format!("{}…", &text[..cut]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_secrets_are_recognised() {
        for name in ["TOKEN", "NPM_AUTHTOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "https_proxy", "HEX_API_KEY"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["VERSION", "PATH", "MIX_ENV", "KEYBOARD", "LANG", "MONKEY", "PINNED"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn only_short_plain_values_without_secrets_are_recorded() {
        let secrets = ["hunter2".to_owned()];
        let table: &[(&[u8], Option<&str>)] = &[
            (b"1.2.3", Some("1.2.3")),
            (b"", Some("")),
            (b"/run/hunter2/x", None),
            (b"https://user:word@host/", None),
            (b"https://host/", Some("https://host/")),
            (b"a\nb", None),
            (b"\xff", None),
            (&[b'a'; 81], None),
        ];
        for (value, want) in table {
            assert_eq!(recordable_value(value, &secrets).as_deref(), *want, "{:?}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn values_of_secrets_are_cut_from_instructions() {
        let table = [
            ("ENV A=1 TOKEN=abc B=2", "ENV A=1 TOKEN…"),
            ("ENV TOKEN abc def", "ENV TOKEN…"),
            ("ARG TOKEN", "ARG TOKEN"),
            ("ARG A=1", "ARG A=1"),
            ("RUN echo ärger", "RUN echo ärger"),
            ("RUN echo much too long a text, ärger", "RUN echo much too long a text, …"),
        ];
        for (text, want) in table {
            assert_eq!(redact_instruction(text, 32), want);
        }
    }
}
