//! What the kit promises to the tests that are built on it.

mod acting;
