//! Layouts and archives whose documents are made to hurt.
