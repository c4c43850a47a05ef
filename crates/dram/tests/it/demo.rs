//! The demo, told by its own script, as root and without.
