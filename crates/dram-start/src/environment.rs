//! The environment of a process as a value.

use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat, split_once};

/// Variables in the order in which they were given. If a name occurs twice, the first value counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentVariables(Vec<(ByteString, ByteString)>);

impl EnvironmentVariables {
    /// Parses `NAME=VALUE` strings; a string without `=` is dropped.
    #[must_use]
    pub fn from_strings(strings: &[ByteString]) -> Self {
        let pairs = strings.iter().filter_map(|text| split_once(text, b'='));
        Self(pairs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
    }

    /// The value of `name`, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_bytes(name.as_bytes())
    }

    /// The value of a name that need not be UTF-8.
    #[must_use]
    pub fn get_bytes(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    /// The position of `name` among [`to_strings`](Self::to_strings).
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(key, _)| key == name.as_bytes())
    }

    /// The value of `name` if it is set and not empty, as in `${NAME:-…}` of a shell.
    #[must_use]
    pub fn get_non_empty(&self, name: &str) -> Option<&[u8]> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The value of the first of `names` that is set and not empty.
    #[must_use]
    pub fn first_non_empty(&self, names: &[&str]) -> Option<&[u8]> {
        names.iter().find_map(|name| self.get_non_empty(name))
    }

    /// Returns true if the value of `name` is `true`, `1` or `yes`.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some(b"true" | b"1" | b"yes"))
    }

    /// Sets `name`, replacing its value.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.0.push((name.to_vec(), value.to_vec()));
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(key, _)| key != name);
    }

    /// All variables as `NAME=VALUE`.
    #[must_use]
    pub fn to_strings(&self) -> Vec<ByteString> {
        self.0.iter().map(|(name, value)| concat(&[name, b"=", value])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts_and_empty_is_not_filled() {
        let env =
            EnvironmentVariables::from_strings(&[b"A=1".to_vec(), b"A=2".to_vec(), b"B=".to_vec(), b"junk".to_vec()]);
        assert_eq!(env.get("A"), Some(b"1".as_slice()));
        assert_eq!(env.get_non_empty("B"), None);
        assert_eq!(env.first_non_empty(&["B", "A"]), Some(b"1".as_slice()));
    }
}
