//! The checker's own proof: it accepts whatever a correct shop can leave behind, and finds every single thing that is changed in it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accepting;
mod catching;
mod folders;
mod shop;
mod tales;
