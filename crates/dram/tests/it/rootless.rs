//! The same without root.
