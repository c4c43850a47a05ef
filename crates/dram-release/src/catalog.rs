//! The catalog of all applications that were found.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::App;

/// The origin of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An application of OTP, below OTP's root directory.
    Otp,
    /// An application of the project, of a dependency, or of Elixir.
    Project,
}

/// An application that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The application specification.
    pub app: App,
    /// The origin of the application.
    pub origin: Origin,
    /// The directory of the application, for messages.
    pub location: String,
    /// The modules that have a `.beam` file; `None` if that was not checked.
    pub beams: Option<BTreeSet<String>>,
}

/// Applications by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    found: BTreeMap<String, Found>,
}

impl Catalog {
    /// Adds an application, and replaces one with the same name.
    pub fn add(&mut self, found: Found) {
        self.found.insert(found.app.name.clone(), found);
    }

    /// Returns the application with this name.
    pub fn get(&self, name: &str) -> Option<&Found> {
        self.found.get(name)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.found.keys().map(String::as_str)
    }
}
