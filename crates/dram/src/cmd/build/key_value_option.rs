//! Options with `KEY=VALUE` pairs: `--output` and `--cache-…`, with the keys of BuildKit's exporters.

use std::collections::BTreeMap;

use dram_dockerfile::option_value::parse_go_bool;
use dram_dockerfile::suggest::nearest_name;

use crate::failure::Failure;

/// The name and an example of an option with `KEY=VALUE` pairs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OptionSyntax {
    /// Its name.
    pub(super) option: &'static str,
    /// An example of its use.
    pub(super) example: &'static str,
}

/// The parsed value of such an option.
#[derive(Debug, Default)]
pub(super) struct KeyValueOption {
    syntax: OptionSyntax,
    /// The text that the user wrote.
    text: String,
    values: BTreeMap<String, String>,
}

/// The keys of every output.
const COMMON_KEYS: &[&str] = &["type", "dest", "source-date-epoch", "tar"];
/// The keys of outputs that are files.
const FILE_KEYS: &[&str] = &["attestation-prefix", "platform-split", "mode"];
/// The keys of images.
const IMAGE_KEYS: &[&str] = &[
    "name",
    "push",
    "push-by-digest",
    "registry.insecure",
    "unpack",
    "store",
    "dangling-name-prefix",
    "danging-name-empty-only",
    "name-canonical",
    "oci-mediatypes",
    "oci-artifact",
    "attestation-inline",
    "prefer-nondist-layers",
    "compression",
    "compression-level",
    "force-compression",
    "rewrite-timestamp",
    "context",
];

impl KeyValueOption {
    /// Parses `KEY=VALUE,…`, with fields in double quotes where a value has a comma.
    pub(super) fn parse(taker: OptionSyntax, text: &str) -> Result<KeyValueOption, Failure> {
        let mut keys = KeyValueOption { syntax: taker, text: text.to_owned(), values: BTreeMap::new() };
        for field in split_csv(text).ok_or_else(|| keys.usage_failure("a quote is not closed"))? {
            let Some((key, value)) = field.split_once('=') else {
                let failure = keys.usage_failure(&format!("`{field}` is not KEY=VALUE"));
                return Err(failure.help(taker.example));
            };
            let key = key.trim();
            // The name of an annotation keeps its case.
            let is_own = key.starts_with("annotation");
            keys.values.insert(if is_own { key.to_owned() } else { key.to_lowercase() }, value.to_owned());
        }
        Ok(keys)
    }

    /// The failure for this option with the message `what`.
    pub(super) fn usage_failure(&self, what: &str) -> Failure {
        Failure::usage(format!("`{} {}`: {what}", self.syntax.option, self.text))
    }

    /// Returns true if `key` has a value that is not empty.
    pub(super) fn has_value(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| !value.is_empty())
    }

    /// Removes and returns the value of `key`, if it is not empty.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key).filter(|value| !value.is_empty())
    }

    /// Removes `key` and returns its value as a boolean. As in BuildKit, an empty value is true.
    pub(super) fn take_flag(&mut self, key: &str) -> Result<Option<bool>, Failure> {
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        match parse_go_bool(if value.is_empty() { "true" } else { &value }) {
            Some(flag) => Ok(Some(flag)),
            None => Err(self.usage_failure(&format!("`{key}={value}` is neither true nor false"))),
        }
    }

    /// Removes `key` and returns its value as a number.
    pub(super) fn take_number(&mut self, key: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.usage_failure(&format!("`{key}={value}` is no number")))
    }

    /// Removes and returns all keys that start with `start`.
    pub(super) fn take_prefixed(&mut self, start: &str) -> Vec<(String, String)> {
        let (with, without) = std::mem::take(&mut self.values).into_iter().partition(|(key, _)| key.starts_with(start));
        self.values = without;
        BTreeMap::into_iter(with).collect()
    }

    /// Fails if a key is left that nothing has read.
    pub(super) fn reject_unread(self, kind: &str) -> Result<(), Failure> {
        let Some(key) = self.values.keys().next() else { return Ok(()) };
        let is_image = ["image", "oci", "docker"].contains(&kind);
        let (own, other) = if is_image { (IMAGE_KEYS, FILE_KEYS) } else { (FILE_KEYS, IMAGE_KEYS) };
        if other.contains(&key.as_str()) || own.contains(&key.as_str()) || COMMON_KEYS.contains(&key.as_str()) {
            return Err(self.usage_failure(&format!("`{key}` has no meaning for `type={kind}`")));
        }
        Err(self.unknown_key(key, own.iter().chain(COMMON_KEYS).copied()))
    }

    /// Does the same for an option with the keys `known`.
    pub(super) fn reject_unknown(self, known: &[&str]) -> Result<(), Failure> {
        let Some(key) = self.values.keys().next() else { return Ok(()) };
        Err(self.unknown_key(key, known.iter().copied()))
    }

    fn unknown_key<'k>(&self, key: &str, known: impl Iterator<Item = &'k str>) -> Failure {
        let failure = self.usage_failure(&format!("there is no key `{key}`"));
        match nearest_name(key, known) {
            Some(near) => failure.help(format!("did you mean `{near}`?")),
            None => failure,
        }
    }
}

/// Splits a line of comma-separated values; `None` if a quote is not closed. A field may be in double quotes, in which two
/// quotes stand for one. Quotes within other fields are kept, which `RUN --mount` refuses, as BuildKit's frontend does.
pub(super) fn split_csv(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there is always one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_at_commas_outside_of_quotes() {
        let table: [(&str, &[&str]); 4] = [
            ("type=oci,dest=a", &["type=oci", "dest=a"]),
            (r#"type=image,"name=a,b""#, &["type=image", "name=a,b"]),
            (r#""a=say ""x""",b=c"#, &[r#"a=say "x""#, "b=c"]),
            (r#"a=b"c"#, &[r#"a=b"c"#]),
        ];
        for (text, want) in table {
            assert_eq!(split_csv(text).unwrap(), want, "{text}");
        }
        assert_eq!(split_csv(r#""a=b"#), None);
    }

    #[test]
    fn unread_key_is_an_error() {
        let read = |text: &str| KeyValueOption::parse(OptionSyntax::default(), text);
        let end = |text: &str, kind| read(text).unwrap().reject_unread(kind).unwrap_err();
        assert_eq!(end("desst=a", "local").helps, ["did you mean `dest`?"]);
        assert!(end("compression=gzip", "tar").causes[0].contains("has no meaning for `type=tar`"));
        assert!(read("a=1").unwrap().take_flag("a").unwrap().unwrap());
        assert!(read("a=maybe").unwrap().take_flag("a").is_err());
    }
}
