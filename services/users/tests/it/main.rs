//! What the users service promises, tested through its public doors: HTTP, its events, its command line.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on has failed")]

mod access;
mod deletion;
mod email_verification;
mod health;
mod housekeeping;
mod input;
mod keys;
mod login;
mod openapi;
mod operators;
mod password_reset;
mod process;
mod profile;
mod registration;
mod sessions;
mod support;
mod tokens;
