//! The service through its doors: events in from a real broker, a provider with a book in a real database, the API in between.
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

mod api;
mod cancellation;
mod charging;
mod document;
mod failures;
mod faulty;
mod processes;
mod refunds;
mod shop;
mod storm;
