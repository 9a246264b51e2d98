//! The service through its doors: events in from a real broker, mails out to a real mail server, the API in between.
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

mod access;
mod api;
mod delivery;
mod failures;
mod operations;
mod orders;
mod privacy;
mod processes;
mod shop;
mod tls;
mod traces;
