//! README.md does what it says.
