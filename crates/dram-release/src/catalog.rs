//! The catalog of all applications that were found.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::AppSpec;

/// The origin of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppOrigin {
    /// An application of OTP, below OTP's root directory.
    Otp,
    /// An application of the project, of a dependency, or of Elixir.
    Project,
}

/// An application that was found.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// The application specification.
    pub app: AppSpec,
    /// The origin of the application.
    pub origin: AppOrigin,
    /// The directory of the application, for messages.
    pub location: String,
    /// The modules that have a `.beam` file; `None` if that was not checked.
    pub beams: Option<BTreeSet<String>>,
}

/// Applications by name.
#[derive(Debug, Clone, Default)]
pub struct AppCatalog {
    entries: BTreeMap<String, CatalogEntry>,
}

impl AppCatalog {
    /// Adds an application, and replaces one with the same name.
    pub fn add(&mut self, found: CatalogEntry) {
        self.entries.insert(found.app.name.clone(), found);
    }

    /// Returns the application with this name.
    pub fn get(&self, name: &str) -> Option<&CatalogEntry> {
        self.entries.get(name)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}
