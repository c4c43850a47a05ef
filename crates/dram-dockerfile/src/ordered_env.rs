//! An ordered map of environment variables.

use std::collections::HashMap;

/// Variables in insertion order, with lookup by name in constant time.
#[derive(Debug, Clone, Default)]
pub(crate) struct OrderedEnv {
    slots: Vec<Option<(String, String)>>,
    index: HashMap<String, usize>,
    bytes: usize,
}

impl OrderedEnv {
    /// Reads `NAME=value` pairs; the last value of a repeated name wins.
    pub(crate) fn from_pairs<'p>(pairs: impl IntoIterator<Item = &'p String>) -> OrderedEnv {
        let mut env = OrderedEnv::default();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            env.set(name, value);
        }
        env
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let slot = self.slots.get(*self.index.get(name)?)?;
        slot.as_ref().map(|(_, value)| value.as_str())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Sets a variable; one that was set before keeps its position.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let Some(at) = self.index.get(name)
            && let Some(Some((_, old))) = self.slots.get_mut(*at)
        {
            self.bytes = self.bytes - old.len() + value.len();
            value.clone_into(old);
            return;
        }
        self.bytes += name.len() + value.len();
        self.index.insert(name.to_owned(), self.slots.len());
        self.slots.push(Some((name.to_owned(), value.to_owned())));
    }

    /// Sets a variable and moves it to the end.
    pub(crate) fn set_last(&mut self, name: &str, value: &str) {
        if let Some(at) = self.index.remove(name)
            && let Some((name, old)) = self.slots.get_mut(at).and_then(Option::take)
        {
            self.bytes -= name.len() + old.len();
        }
        self.set(name, value);
        if self.slots.len() > 2 * self.index.len() + 16 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        self.slots.retain(Option::is_some);
        let names = self.slots.iter().flatten().enumerate();
        self.index = names.map(|(at, (name, _))| (name.clone(), at)).collect();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.slots.iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// Returns the approximate memory size of a copy, in bytes.
    pub(crate) fn approximate_size(&self) -> usize {
        self.bytes + 64 * self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_keeps_the_position_and_set_last_moves_to_the_end() {
        let mut env = OrderedEnv::from_pairs(&["A=1".to_owned(), "B=2".to_owned(), "A=3".to_owned(), "C".to_owned()]);
        env.set("B", "4");
        env.set_last("A", "5");
        let all: Vec<_> = env.iter().collect();
        assert_eq!(all, [("B", "4"), ("C", ""), ("A", "5")]);
        assert_eq!((env.get("A"), env.get("D"), env.contains("C")), (Some("5"), None, true));
    }

    #[test]
    fn setting_a_variable_repeatedly_uses_bounded_memory() {
        let mut env = OrderedEnv::default();
        for round in 0..10_000 {
            env.set_last("A", &round.to_string());
            env.set_last("B", "");
        }
        assert!(env.slots.len() < 32);
        assert_eq!(env.get("A"), Some("9999"));
        assert_eq!(env.bytes, 2 + 4);
    }
}
