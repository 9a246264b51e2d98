//! The service through its doors: lines from a real broker, the API, and a real database behind both.
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

mod access;
mod dropping;
mod keeping;
mod openapi;
mod reading;
mod stand;
mod storing;
mod summing;
