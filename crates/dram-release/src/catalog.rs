//! All applications that were found, by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::App;

/// Whose an application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Erlang's own: it lies below the root of OTP.
    Otp,
    /// The project's, a dependency's, or Elixir's.
    Project,
}

/// An application that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// What its specification says.
    pub app: App,
    /// Whose it is.
    pub origin: Origin,
    /// Where it was found, for messages.
    pub location: String,
    /// The modules that are compiled, where somebody looked.
    pub beams: Option<BTreeSet<String>>,
}

/// Applications by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    found: BTreeMap<String, Found>,
}

impl Catalog {
    /// Adds an application; one of the same name goes.
    pub fn add(&mut self, found: Found) {
        self.found.insert(found.app.name.clone(), found);
    }

    /// The application of that name.
    pub fn get(&self, name: &str) -> Option<&Found> {
        self.found.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.found.keys().map(String::as_str)
    }
}
